import { describe, expect, it } from 'vitest'
import type { OperationContext } from '../../../src/core/context.js'
import { ChallengeError } from '../../../src/errors.js'
import type { Dns01Challenge } from '../../../src/solvers/challenge-solver.js'
import { dnsPropagation, type DnsPropagationOptions } from '../../../src/solvers/dns-propagation.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { recordingLogger } from '../../../src/testing/recording-logger.js'
import { cname, fakeDns, resolverAddress, systemError, txt, type Behaviour, type FakeReply } from './dns-world.js'

const name = '_acme-challenge.example.com'
const value = 'gfj9Xq-Rs7_mock-digest-of-a-key-authorization'
const challenge: Dns01Challenge = {
  type: 'dns-01',
  identifier: { type: 'dns', value: 'example.com' },
  wildcard: false,
  token: 'token',
  keyAuthorization: 'token.thumbprint',
  recordName: name,
  recordValue: value,
}
const [one, two, three] = ['192.0.2.1', '192.0.2.2', '2001:db8::3'] as const

/** Three name servers that know nothing yet. */
function scene(options: DnsPropagationOptions = {}) {
  const dns = fakeDns()
  dns.addZone('example.com', { 'ns1.example.com': [one], 'ns2.example.com': [two], 'ns3.example.com': [three] })
  const propagation = dnsPropagation({ servers: [resolverAddress], transport: dns.transport, ...options })
  const clock = fakeClock({ autoAdvance: true })
  return { dns, propagation, clock, context: operationContext({ clock }) }
}

/** Time passes while `work` is under way: lost queries end by their deadlines, not by themselves. */
async function whileTimePasses<T>(clock: ReturnType<typeof fakeClock>, work: Promise<T>): Promise<T> {
  let over = false
  const settled = work.finally(() => (over = true))
  settled.catch(() => undefined)
  while (!over) await clock.advance(500)
  return settled
}

const outcomesOf = (report: { servers: readonly { address: string | undefined; outcome: string }[] }) =>
  Object.fromEntries(report.servers.map(({ address, outcome }): [string, string] => [String(address), outcome]))

async function failure(work: Promise<unknown>): Promise<ChallengeError> {
  const error: unknown = await work.then(
    () => new Error('did not fail'),
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(ChallengeError)
  return error as ChallengeError
}

describe('look', () => {
  it('asks each authoritative server, without recursion, and never a resolver for the record', async () => {
    const { dns, propagation, context } = scene({ nameserverPort: 5353 })
    dns.set(name, txt(name, value))
    const report = await propagation.look({ name, value }, context)
    expect(report).toMatchObject({ visible: true, recordName: name, zone: 'example.com', problem: undefined })
    expect(report.servers.map(({ nameserver, address, outcome }) => [nameserver, address, outcome])).toEqual([
      ['ns1.example.com', one, 'visible'],
      ['ns2.example.com', two, 'visible'],
      ['ns3.example.com', three, 'visible'],
    ])
    const asked = dns.asked({ type: 'TXT' })
    expect(asked.map(({ server }) => server)).toEqual([one, two, three])
    expect(asked.every(({ recursionDesired, port }) => !recursionDesired && port === 5353)).toBe(true)
    expect(dns.asked({ server: resolverAddress }).every(({ recursionDesired }) => recursionDesired)).toBe(true)
  })

  const other: FakeReply = { answers: txt(name, 'other') }
  const cases: readonly (readonly [string, Behaviour, string, boolean])[] = [
    ['has the value', () => ({ answers: txt(name, value) }), 'visible', true],
    ['has it among others', () => ({ answers: txt(name, 'one', value, 'two') }), 'visible', true],
    ['has it in several strings', () => ({ answers: txt(name, [value.slice(0, 9), value.slice(9)]) }), 'visible', true],
    ['spells the name in mixed case', () => ({ answers: txt('_ACME-Challenge.eXample.com', value) }), 'visible', true],
    ['spreads it over two records', () => ({ answers: txt(name, value.slice(0, 9), value.slice(9)) }), 'absent', false],
    ['has other values', () => other, 'absent', false],
    ['has the value at another name', () => ({ answers: txt('x.example.com', value) }), 'absent', false],
    [
      'has it in class CH',
      () => ({ answers: txt(name, value).map((r) => ({ ...r, class: 'CH' }) as never) }),
      'absent',
      false,
    ],
    ['has no record', () => ({}), 'absent', false],
    ['does not know the name', () => ({ rcode: 3 }), 'absent', false],
    ['cannot answer', () => ({ rcode: 2 }), 'failed', false],
    ['is not implemented', () => ({ rcode: 9 }), 'failed', false],
    ['answers with garbage', () => ({ raw: new Uint8Array(40) }), 'failed', false],
    ['refuses', () => ({ rcode: 5 }), 'refused', true],
    ['is no authority', () => ({ authoritative: false, answers: txt(name, value) }), 'lame', true],
    ['denies without authority', () => ({ authoritative: false, rcode: 3 }), 'lame', true],
    [
      'refers elsewhere',
      () => ({ authoritative: false, authorities: [{ type: 'NS', name: 'com', data: 'a.gtld-servers.net' }] }),
      'lame',
      true,
    ],
    ['is silent', () => 'silent', 'unreachable', true],
    ['is not there', () => systemError('ECONNREFUSED'), 'unreachable', true],
    ['has no route', () => systemError('ENETUNREACH'), 'unreachable', true],
    ['is beyond a broken interface', () => systemError('EPERM'), 'unreachable', true],
    ['points to nowhere', () => ({ answers: cname(name, '.') }), 'failed', false],
    ['points to something odd', () => ({ answers: cname(name, 'a b.example.net') }), 'failed', false],
  ]

  it.each(cases)('one server %s, the others have the value', async (_, behaviour, outcome, visible) => {
    const { dns, propagation, clock, context } = scene()
    dns.set(name, txt(name, value))
    dns.behave(two, behaviour)
    const report = await whileTimePasses(clock, propagation.look({ name, value }, context))
    expect(outcomesOf(report)).toEqual({ [one]: 'visible', [two]: outcome, [three]: 'visible' })
    expect(report.visible).toBe(visible)
    expect(report.servers[1]?.detail).not.toBe('')
    expect(JSON.stringify(report)).not.toContain('other"')
  })

  it.each(cases.filter(([, , outcome]) => outcome !== 'visible'))(
    'every server %s: not visible',
    async (_, behaviour) => {
      const { dns, propagation, clock, context } = scene()
      for (const address of [one, two, three]) dns.behave(address, behaviour)
      expect(await whileTimePasses(clock, propagation.look({ name, value }, context))).toMatchObject({ visible: false })
    },
  )

  it('takes names in any case, with a final dot, and nothing that is no name', async () => {
    const { dns, propagation, context } = scene()
    dns.set(name, txt(name, value))
    expect(await propagation.look({ name: '_Acme-Challenge.EXAMPLE.com.', value }, context)).toMatchObject({
      visible: true,
      recordName: name,
    })
    for (const wrong of ['', '.', 'a..b', 'bücher.example', 'a b', `${'a'.repeat(64)}.com`, 'a.'.repeat(128), 7]) {
      await expect(propagation.look({ name: wrong as string, value }, context)).rejects.toThrow(TypeError)
    }
  })
})

describe('the responsible servers', () => {
  it('are found label by label where the resolver names no zone', async () => {
    const { dns, propagation, context } = scene()
    dns.set(name, txt(name, value))
    dns.behave(resolverAddress, (query) => {
      const reply = dns.resolve(query) as FakeReply
      return query.type === 'SOA' ? { ...reply, authorities: [] } : reply
    })
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: true, zone: 'example.com' })
    expect(dns.asked({ type: 'SOA' }).map((query) => query.name)).toEqual([name, 'example.com'])
  })

  it('are those of the deepest zone', async () => {
    const { dns, propagation, context } = scene()
    dns.addZone(name, { 'ns.acme.net': ['192.0.2.9'] })
    dns.set(name, txt(name, value))
    const report = await propagation.look({ name, value }, context)
    expect(report).toMatchObject({ visible: true, zone: name })
    expect(outcomesOf(report)).toEqual({ '192.0.2.9': 'visible' })
  })

  it('are those of the name itself, not those of the place a CNAME leads to', async () => {
    const { dns, propagation, context } = scene()
    const below = '_acme-challenge.sub.example.com'
    dns.addZone('sub.example.com', { 'ns.sub.example.com': ['192.0.2.9'] })
    dns.set(below, cname(below, name))
    dns.set(name, txt(name, value))
    expect(await propagation.look({ name: below, value }, context)).toMatchObject({ visible: true, recordName: name })
    expect(dns.asked({ server: '192.0.2.9' }).map((query) => query.name)).toEqual([below])
    expect(dns.asked({ server: one }).map((query) => query.name)).toEqual([name])
  })

  it('are not those that an answer names for another zone', async () => {
    const { dns, propagation, context } = scene()
    dns.set(name, txt(name, value))
    dns.behave(resolverAddress, (query) => {
      const reply = dns.resolve(query) as FakeReply
      const foreign = { type: 'NS', name: 'example.org', data: 'ns1.example.org' } as const
      return query.type === 'NS' ? { ...reply, answers: [foreign, ...(reply.answers ?? [])] } : reply
    })
    const { servers } = await propagation.look({ name, value }, context)
    expect(servers.map(({ nameserver }) => nameserver)).toEqual([
      'ns1.example.com',
      'ns2.example.com',
      'ns3.example.com',
    ])
  })

  it('a zone of somebody else, or the root, is not believed', async () => {
    const { dns, propagation, context } = scene()
    dns.behave(resolverAddress, () => ({
      answers: [],
      authorities: ['example.org', '.', 'ample.com'].map((zone) => ({
        type: 'SOA',
        name: zone,
        data: { mname: 'a', rname: 'b' },
      })),
    }))
    const report = await propagation.look({ name, value }, context)
    expect(report).toMatchObject({ visible: false, zone: undefined, servers: [] })
    expect(report.problem).toContain('no zone for _acme-challenge.example.com')
  })

  it('are at most 13 with 4 addresses each, 32 in all, of both families, each address once', async () => {
    const { dns, propagation, context } = scene()
    const nameservers = Array.from({ length: 20 }, (_, server): [string, string[]] => [
      `ns${server + 10}.example.com`,
      Array.from({ length: 6 }, (_, index) => [`10.0.${server}.${index}`, `fd00::${server + 1}:${index + 1}`]).flat(),
    ])
    dns.addZone('example.com', Object.fromEntries(nameservers))
    const { servers } = await propagation.look({ name, value }, context)
    expect(servers).toHaveLength(32)
    expect(new Set(servers.map(({ nameserver }) => nameserver)).size).toBe(8)
    expect(servers.slice(0, 4).map(({ address }) => address)).toEqual([
      '10.0.0.0',
      'fd00::1:1',
      '10.0.0.1',
      'fd00::1:2',
    ])
    dns.addZone('example.net', { 'a.example.net': [one], 'b.example.net': [one] })
    expect((await propagation.look({ name: 'example.net', value }, context)).servers).toHaveLength(1)
  })

  it('a name server without address is passed over', async () => {
    const { dns, propagation, context } = scene()
    dns.addZone('example.com', { 'ns1.example.com': [one], 'ns2.example.com': [] })
    dns.set(name, txt(name, value))
    const report = await propagation.look({ name, value }, context)
    expect(report.visible).toBe(true)
    expect(report.servers[1]).toMatchObject({ address: undefined, outcome: 'unresolved', detail: 'it has no address' })
  })

  it('an address behind CNAME records is found, one behind a loop of them is not', async () => {
    const { dns, propagation, context } = scene()
    dns.addZone('example.com', { 'ns1.example.com': [], 'ns2.example.com': [] })
    dns.set(name, txt(name, value))
    dns.behave(resolverAddress, (query) => {
      if (query.name === 'ns1.example.com' && query.type === 'A') {
        return {
          answers: [...cname(query.name, 'a.net'), ...cname('a.net', 'b.net'), { type: 'A', name: 'b.net', data: one }],
        }
      }
      if (query.name === 'ns2.example.com')
        return { answers: [...cname(query.name, 'a.net'), ...cname('a.net', query.name)] }
      return dns.resolve(query)
    })
    dns.behave(one, () => ({ answers: txt(name, value) }))
    expect(outcomesOf(await propagation.look({ name, value }, context))).toEqual({
      [one]: 'visible',
      undefined: 'unresolved',
    })
  })

  it('a zone without name servers is a problem, and so are resolvers that do not answer', async () => {
    const { dns, propagation, clock, context } = scene()
    dns.addZone('example.com', {})
    expect((await propagation.look({ name, value }, context)).problem).toContain(
      'no name server of the zone example.com',
    )
    dns.behave(resolverAddress, () => ({ rcode: 2 }))
    expect((await propagation.look({ name: 'example.org', value }, context)).problem).toContain('SERVFAIL')
    dns.behave(resolverAddress, () => 'silent')
    const report = await whileTimePasses(clock, propagation.look({ name: 'example.net', value }, context))
    expect(report).toMatchObject({ visible: false, servers: [] })
    expect(report.problem).toContain('no answer to 3 tries')
  })

  it('the next resolver is asked when one fails, and the one that answered comes first from then on', async () => {
    const { dns, propagation, clock, context } = scene({ servers: ['192.0.2.52', '192.0.2.51:5300', resolverAddress] })
    dns.set(name, txt(name, value))
    dns.behave('192.0.2.52', () => 'silent')
    dns.behave('192.0.2.51', () => ({ rcode: 5 }))
    expect(await whileTimePasses(clock, propagation.look({ name, value }, context))).toMatchObject({ visible: true })
    expect(dns.asked({ server: '192.0.2.52' })).toHaveLength(3)
    expect(dns.asked({ server: '192.0.2.51' })).toMatchObject([{ port: 5300 }])
  })

  it('a resolver that is slow for ever does not hold a look for ever', async () => {
    const { dns, propagation, clock, context } = scene({ queryTimeoutMs: 29_000 })
    dns.behave(resolverAddress, ({ protocol }) => (protocol === 'tcp' ? {} : 'silent'))
    const report = await whileTimePasses(clock, propagation.look({ name, value }, context))
    expect(report.problem).toContain('within 30000 ms')
    expect(dns.running()).toBe(0)
  })

  it('100 names of one zone at once cost one walk, and at most 50 questions at a time', async () => {
    const { dns, propagation, context } = scene()
    const names = Array.from({ length: 100 }, (_, index) => `_acme-challenge.host${index}.example.com`)
    for (const each of names) dns.set(each, txt(each, value))
    const reports = await Promise.all(names.map((each) => propagation.look({ name: each, value }, context)))
    expect(reports.every(({ visible }) => visible)).toBe(true)
    expect(dns.asked({ type: 'SOA' })).toHaveLength(100)
    expect(dns.asked({ type: 'NS' })).toHaveLength(1)
    expect(dns.asked({ type: 'A' })).toHaveLength(3)
    expect(dns.asked({ type: 'TXT' })).toHaveLength(300)
    expect(dns.mostRunning()).toBe(50)
  })

  it('are remembered for 30 seconds, and failures are not', async () => {
    const { dns, propagation, clock, context } = scene()
    dns.behave(resolverAddress, () => ({ rcode: 2 }))
    await propagation.look({ name, value }, context)
    dns.behave(resolverAddress, dns.resolve)
    await propagation.look({ name, value }, context)
    await clock.advance(29_999)
    await propagation.look({ name, value }, context)
    expect(dns.asked({ type: 'NS' })).toHaveLength(1)
    await clock.advance(1)
    await propagation.look({ name, value }, context)
    expect(dns.asked({ type: 'NS' })).toHaveLength(2)
    await clock.setTime(0)
    await propagation.look({ name, value }, context)
    expect(dns.asked({ type: 'NS' })).toHaveLength(3)
  })

  it('one caller that leaves does not spoil the walk of the others', async () => {
    const { dns, propagation, context } = scene()
    dns.set(name, txt(name, value))
    const leaving = new AbortController()
    const left = propagation.look({ name, value }, { ...context, signal: leaving.signal })
    const stays = propagation.look({ name, value }, context)
    leaving.abort(new Error('enough'))
    await expect(left).rejects.toThrow('enough')
    expect(await stays).toMatchObject({ visible: true })
  })
})

describe('CNAME records', () => {
  const end = 'example-com.acme.net'
  function delegated() {
    const parts = scene()
    parts.dns.addZone('acme.net', { 'ns1.acme.net': ['192.0.2.8'], 'ns2.acme.net': ['192.0.2.9'] })
    parts.dns.set(name, cname(name, end))
    return parts
  }

  it('are followed into their own zone', async () => {
    const { dns, propagation, context } = delegated()
    dns.set(end, txt(end, value), '192.0.2.8')
    const half = await propagation.look({ name, value }, context)
    expect(half).toMatchObject({ visible: false, recordName: end, zone: 'acme.net' })
    expect(outcomesOf(half)).toEqual({ '192.0.2.8': 'visible', '192.0.2.9': 'absent' })
    dns.set(end, txt(end, value))
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: true, recordName: end })
    expect(await propagation.resolveTarget(name, context)).toBe(end)
  })

  it('a server that does not have the CNAME yet counts, and one of no use does not', async () => {
    const { dns, propagation, context } = delegated()
    dns.set(end, txt(end, value))
    dns.behave(two, () => ({ rcode: 3 }))
    const report = await propagation.look({ name, value }, context)
    expect(outcomesOf(report)).toEqual({ [two]: 'absent', '192.0.2.8': 'visible', '192.0.2.9': 'visible' })
    expect(report.visible).toBe(false)
    dns.behave(two, () => ({ rcode: 5 }))
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: true })
  })

  it('servers that point to different places must all lead to the value', async () => {
    const { dns, propagation, context } = delegated()
    dns.set(end, txt(end, value))
    dns.set(name, cname(name, 'old.acme.net'), three)
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: false })
    dns.set('old.acme.net', txt('old.acme.net', value))
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: true })
  })

  it('the record behind them in the same answer does not count: its own servers do', async () => {
    const { dns, propagation, context } = delegated()
    for (const server of [one, two, three]) {
      dns.behave(server, () => ({ answers: [...cname(name, end), ...txt(end, value)] }))
    }
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: false })
  })

  it('loops end, and say so', async () => {
    const { dns, propagation, context } = delegated()
    dns.set(end, cname(end, name))
    const loop = `a CNAME loop: ${name} -> ${end} -> ${name}`
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: false, problem: loop })
    const error = await failure(propagation.resolveTarget(name, context))
    expect(error).toMatchObject({ code: 'ERR_CHALLENGE_FAILED', retryable: true, identifier: challenge.identifier })
    expect(error.message).toContain(loop)
    dns.set(name, cname(name, name))
    expect((await propagation.look({ name, value }, context)).problem).toContain(`${name} -> ${name}`)
  })

  it('chains have at most eight links', async () => {
    const { dns, propagation, context } = delegated()
    const link = (index: number): string => `link${index}.acme.net`
    const chain = (links: number): void => {
      dns.set(name, cname(name, link(1)))
      for (let index = 1; index < links; index += 1) dns.set(link(index), cname(link(index), link(index + 1)))
      dns.set(link(links), txt(link(links), value))
    }
    chain(8)
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: true, recordName: link(8) })
    expect(await propagation.resolveTarget(name, context)).toBe(link(8))
    chain(9)
    expect((await propagation.look({ name, value }, context)).problem).toContain('more than 8 CNAME records')
    expect((await failure(propagation.resolveTarget(name, context))).message).toContain('more than 8 CNAME records')
  })

  it('servers that all disagree do not multiply the work', async () => {
    const { dns, propagation, context } = scene()
    let count = 0
    for (const server of [one, two, three]) {
      dns.behave(server, (query) => ({ answers: cname(query.name, `n${(count += 1)}.example.com`) }))
    }
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: false })
    expect(dns.asked({ type: 'TXT' }).length).toBeLessThanOrEqual(27)
  })

  it('a target without a zone is a problem of the look, and an error of resolveTarget', async () => {
    const { dns, propagation, context } = scene()
    dns.set(name, cname(name, 'gone.invalid'))
    expect((await propagation.look({ name, value }, context)).problem).toContain('no zone for gone.invalid')
    const { message } = await failure(propagation.resolveTarget(name, context))
    expect(message).toContain('no zone for gone.invalid')
    expect(message).toContain('correct the CNAME records')
    // Nobody is sent to look for a CNAME where there is none.
    const error = await failure(propagation.resolveTarget('_acme-challenge.gone.invalid', context))
    expect(error.message).toContain('no zone for _acme-challenge.gone.invalid')
    expect(error.message).not.toContain('CNAME')
  })
})

describe('resolveTarget', () => {
  it('is the name itself where there is no CNAME, known or not', async () => {
    const { dns, propagation, context } = scene()
    expect(await propagation.resolveTarget('_ACME-challenge.example.com.', context)).toBe(name)
    dns.set(name, txt(name, value))
    expect(await propagation.resolveTarget(name, context)).toBe(name)
  })

  it('believes the servers of the zone rather than the resolver, as long as one can be reached', async () => {
    const { dns, propagation, clock, context } = scene()
    dns.addZone('acme.net', { 'ns1.acme.net': ['192.0.2.8'] })
    dns.set(name, cname(name, 'new.acme.net'), one)
    dns.behave(two, () => 'silent')
    dns.behave(three, () => systemError('ENETUNREACH'))
    expect(await whileTimePasses(clock, propagation.resolveTarget(name, context))).toBe('new.acme.net')
    dns.set(name, cname(name, 'old.acme.net'))
    dns.behave(one, () => 'silent')
    dns.behave('192.0.2.8', () => 'silent')
    expect(await whileTimePasses(clock, propagation.resolveTarget(name, context))).toBe('old.acme.net')
  })
})

describe('waitUntilVisible', () => {
  it('asks only the servers that lack the value, until none does', async () => {
    const { dns, propagation, clock, context } = scene()
    dns.set(name, txt(name, value), one)
    let looks = 0
    dns.behave(two, () => ((looks += 1) < 4 ? { rcode: 3 } : { answers: txt(name, value) }))
    dns.behave(three, () => systemError('ENETUNREACH'))
    const start = clock.now()
    const report = await propagation.waitUntilVisible(challenge, context)
    expect(report.visible).toBe(true)
    expect(outcomesOf(report)).toEqual({ [one]: 'visible', [two]: 'visible', [three]: 'unreachable' })
    expect(clock.now() - start).toBe(6_000)
    expect(dns.asked({ server: one })).toHaveLength(1)
    expect(dns.asked({ server: two })).toHaveLength(4)
    expect(dns.asked({ server: three })).toHaveLength(1)
    expect(dns.asked({ server: resolverAddress })).toHaveLength(8)
  })

  it('says server by server what was seen when the time is over', async () => {
    const { dns, propagation, clock, context } = scene({ timeoutMs: 60_000, pollMs: 10_000 })
    dns.set(name, txt(name, 'a-foreign-value', 'another'), one)
    dns.set(name, txt(name, value), two)
    dns.behave(three, () => ({ authoritative: false }))
    const start = clock.now()
    const error = await failure(propagation.waitUntilVisible(challenge, context))
    expect(clock.now() - start).toBe(60_000)
    expect(error).toMatchObject({
      code: 'ERR_CHALLENGE_PROPAGATION_TIMEOUT',
      retryable: true,
      phase: 'wait',
      identifier: challenge.identifier,
    })
    expect(error.message).toContain(
      `${name} is not visible at every authoritative name server of the zone example.com after 60000 ms: ` +
        `ns1.example.com (${one}): absent, only other TXT values (2); ` +
        `ns3.example.com (${three}): lame, it answers, but not as an authority for this zone (lame delegation); ` +
        `ns2.example.com (${two}): visible, it has the value. Check`,
    )
    expect(error.message).not.toContain('foreign')
    expect(error.message).not.toContain('thumbprint')
    expect(dns.asked({ server: two })).toHaveLength(1)
    // Asked again whenever the delegation is read again: that may be what is repaired.
    expect(dns.asked({ server: three })).toHaveLength(3)
    expect(dns.asked({ type: 'NS' })).toHaveLength(3)
  })

  it('keeps the message short, whatever there is to say', async () => {
    const { dns, propagation, context } = scene({ timeoutMs: 1_000 })
    const nameservers = Array.from({ length: 13 }, (_, index): [string, string[]] => [
      `ns${index}.${'long-'.repeat(12)}.example.com`,
      [`10.0.0.${index}`],
    ])
    dns.addZone('example.com', Object.fromEntries(nameservers))
    const { message } = await failure(propagation.waitUntilVisible(challenge, context))
    expect(message.length).toBeLessThan(2_000)
    expect(message).toMatch(/; and \d+ more\. Check/)
  })

  it('a server that lacked the value and is silent now still lacks it', async () => {
    const { dns, propagation, clock, context } = scene({ timeoutMs: 60_000 })
    dns.set(name, txt(name, value))
    let looks = 0
    dns.behave(two, () => ((looks += 1) === 1 ? { rcode: 3 } : 'silent'))
    const error = await failure(whileTimePasses(clock, propagation.waitUntilVisible(challenge, context)))
    expect(error.message).toContain(
      `ns2.example.com (${two}): absent, no such name (NXDOMAIN), and now no answer to 3 tries of 2000 ms;`,
    )
  })

  it('nobody answering at first, resolvers included, is no reason to give up, nor to wait for long', async () => {
    const { dns, propagation, clock, context } = scene()
    const start = clock.now()
    dns.set(name, txt(name, value))
    const failing = new Map<string, number>()
    for (const [server, then] of [
      [resolverAddress, dns.resolve],
      [one, dns.answerAsAuthority],
      [two, dns.answerAsAuthority],
      [three, dns.answerAsAuthority],
    ] as const) {
      dns.behave(server, (query) => {
        failing.set(server, (failing.get(server) ?? 0) + 1)
        return (failing.get(server) ?? 0) < 4 ? systemError('ENETUNREACH') : then(query)
      })
    }
    expect(await propagation.waitUntilVisible(challenge, context)).toMatchObject({ visible: true })
    expect([...failing.values()].every((count) => count >= 4)).toBe(true)
    // Three looks without a resolver, three without servers.
    expect(clock.now() - start).toBe(12_000)
  })

  it('servers that are silent for one name are not waited for with each of a hundred', async () => {
    const { dns, propagation, clock, context } = scene()
    const start = clock.now()
    const names = Array.from({ length: 100 }, (_, index) => `_acme-challenge.host${index}.example.com`)
    for (const server of [one, two, three]) dns.behave(server, () => 'silent')
    await whileTimePasses(clock, Promise.all(names.map((each) => propagation.look({ name: each, value }, context))))
    // Three tries of those who were there first, and of those who got their places; each on their own it would be 36 seconds.
    expect(clock.now() - start).toBeLessThan(15_000)
    for (const server of [one, two, three]) dns.behave(server, dns.answerAsAuthority)
    dns.set(name, txt(name, value))
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: false })
    await clock.advance(10_000)
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: true })
  })

  it('silence that lies ahead, as the clock was set back, is forgotten', async () => {
    const { dns, propagation, clock, context } = scene()
    dns.set(name, txt(name, value))
    for (const server of [one, two, three]) dns.behave(server, () => 'silent')
    await whileTimePasses(clock, propagation.look({ name, value }, context))
    for (const server of [one, two, three]) dns.behave(server, dns.answerAsAuthority)
    await clock.setTime(0)
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: true })
  })

  it('questions to silent servers do not hold up those to resolvers', async () => {
    const { dns, propagation, clock, context } = scene()
    const silent = Array.from({ length: 100 }, (_, index) => `blocked${index}.example`)
    for (const [index, zone] of silent.entries()) {
      const addresses = Array.from({ length: 4 }, (__, host) => `198.51.${index}.${host + 1}`)
      dns.addZone(zone, { [`ns.${zone}`]: addresses })
      for (const address of addresses) dns.behave(address, () => 'silent')
    }
    const looks = silent.map((zone) => propagation.look({ name: `_acme-challenge.${zone}`, value }, context))
    while (dns.asked({ type: 'TXT' }).length < 50) await clock.advance(1)
    const target = propagation.resolveTarget(name, context)
    target.catch(() => undefined)
    await whileTimePasses(clock, Promise.all(looks))
    expect(await target).toBe(name)
  })

  it('notices that the zone has moved to other servers', async () => {
    const { dns, propagation, clock, context } = scene()
    const start = clock.now()
    dns.behave(resolverAddress, (query) => {
      if (clock.now() - start > 20_000) dns.addZone('example.com', { 'ns9.example.com': ['192.0.2.9'] })
      return dns.resolve(query)
    })
    dns.set(name, txt(name, value), '192.0.2.9')
    expect(outcomesOf(await propagation.waitUntilVisible(challenge, context))).toEqual({ '192.0.2.9': 'visible' })
    expect(clock.now() - start).toBeLessThanOrEqual(32_000)
  })

  it('ends by its budget also in the middle of a look', async () => {
    const { dns, propagation, clock, context } = scene({ timeoutMs: 3_000 })
    dns.behave(resolverAddress, () => 'silent')
    const error = await failure(whileTimePasses(clock, propagation.waitUntilVisible(challenge, context)))
    expect(error.message).toContain('no look has come to its end')
    expect(error.code).toBe('ERR_CHALLENGE_PROPAGATION_TIMEOUT')
    await clock.advance(0)
    expect(dns.running()).toBe(0)
    expect(clock.sleeping).toBe(0)
  })

  it('logs what it sees, and no secret', async () => {
    const { dns, propagation, clock } = scene()
    dns.set(name, txt(name, value))
    const logger = recordingLogger()
    await propagation.waitUntilVisible(challenge, operationContext({ clock, logger }))
    expect(logger.entries).toMatchObject([{ level: 'debug', message: 'looked for a TXT record' }])
    expect(JSON.stringify(logger.entries)).not.toContain('thumbprint')
  })
})

describe('an abort', () => {
  const calls = {
    look: (propagation, context) => propagation.look({ name, value }, context),
    waitUntilVisible: (propagation, context) => propagation.waitUntilVisible(challenge, context),
    resolveTarget: (propagation, context) => propagation.resolveTarget(name, context),
  } satisfies Record<
    string,
    (propagation: ReturnType<typeof dnsPropagation>, context: OperationContext) => Promise<unknown>
  >

  it.each(Object.entries(calls))('passes through %s at once, at every question', async (_, call) => {
    let abortedAt = 0
    for (; ; abortedAt += 1) {
      const { dns, propagation, clock } = scene()
      const controller = new AbortController()
      const reason = new Error('stop')
      let questions = 0
      const interrupt =
        (then: Behaviour): Behaviour =>
        (query) => {
          if (questions++ !== abortedAt) return then(query)
          controller.abort(reason)
          return 'silent'
        }
      dns.behave(resolverAddress, interrupt(dns.resolve))
      for (const server of [one, two, three]) dns.behave(server, interrupt(dns.answerAsAuthority))
      dns.set(name, txt(name, value))
      const outcome: unknown = await call(propagation, operationContext({ clock, signal: controller.signal })).then(
        () => 'done',
        (error: unknown) => error,
      )
      await clock.advance(0)
      expect(dns.running()).toBe(0)
      expect(clock.sleeping).toBe(0)
      if (!controller.signal.aborted) {
        expect(outcome).toBe('done')
        break
      }
      expect(outcome).toBe(reason)
    }
    // The resolver is asked eight times, the servers once each.
    expect(abortedAt).toBe(11)
  })

  it('before the start leaves everything undone', async () => {
    const { dns, propagation, clock } = scene()
    const signal = AbortSignal.abort(new Error('stop'))
    for (const call of Object.values(calls)) {
      await expect(call(propagation, operationContext({ clock, signal }))).rejects.toThrow('stop')
    }
    expect(dns.queries).toEqual([])
  })
})

describe('options', () => {
  it.each([
    [{ servers: [] }, 'servers'],
    [{ servers: ['dns.google'] }, 'servers'],
    [{ servers: ['1.1.1.1:0'] }, 'servers'],
    [{ servers: ['1.1.1.1:65536'] }, 'servers'],
    [{ servers: ['[1.1.1.1]:53'] }, 'servers'],
    [{ servers: ['2606:4700::1111]:53'] }, 'servers'],
    [{ servers: '1.1.1.1' }, 'servers'],
    [{ servers: Array.from({ length: 9 }, () => '1.1.1.1') }, 'servers'],
    [{ nameserverPort: 0 }, 'nameserverPort'],
    [{ queryTimeoutMs: 0 }, 'queryTimeoutMs'],
    [{ pollMs: -1 }, 'pollMs'],
    [{ timeoutMs: Number.NaN }, 'timeoutMs'],
    [{ transport: {} }, 'transport.udp'],
    [{ timeout: 1 }, 'timeout'],
  ])('%j is refused', (options, named) => {
    expect(() => dnsPropagation(options as never)).toThrow(TypeError)
    expect(() => dnsPropagation(options as never)).toThrow(`"${named}"`)
  })

  it('servers are taken in all their spellings, and copied', async () => {
    const servers = ['2001:db8::53', '[2001:db8::54]', '[2001:db8::55]:5353', '192.0.2.54:5353', resolverAddress]
    const { dns, propagation, context } = scene({ servers })
    for (const server of ['2001:db8::53', '2001:db8::54', '2001:db8::55', '192.0.2.54']) {
      dns.behave(server, () => ({ rcode: 2 }))
    }
    servers.length = 0
    dns.set(name, txt(name, value))
    expect(await propagation.look({ name, value }, context)).toMatchObject({ visible: true })
    expect(dns.queries.slice(0, 5).map(({ server, port }) => `${server} ${port}`)).toEqual([
      '2001:db8::53 53',
      '2001:db8::54 53',
      '2001:db8::55 5353',
      '192.0.2.54 5353',
      `${resolverAddress} 53`,
    ])
  })

  it('none are needed', () => {
    expect(() => dnsPropagation()).not.toThrow()
  })
})
