import { describe, expect, it } from 'vitest'
import { CertError, type ChallengeError } from '../../../../src/errors.js'
import type { Dns01Challenge } from '../../../../src/solvers/challenge-solver.js'
import { route53Solver, type Route53SolverOptions } from '../../../../src/solvers/route53/index.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { assertNoSecrets, recordingLogger } from '../../../../src/testing/recording-logger.js'
import { seededRandom } from '../../../../src/testing/seeded-random.js'
import { awsError, fakeRoute53, type FakeCall, type FakeZone } from '../../../support/fake-route53.js'
import { dnsChallenge } from '../challenges.js'

const seed = 20261125
const record = '_acme-challenge.example.com'

function createWorld(zones?: readonly FakeZone[]) {
  const route53 = fakeRoute53(zones)
  const clock = fakeClock({ autoAdvance: true })
  const logger = recordingLogger()
  return {
    route53,
    clock,
    logger,
    context: (signal?: AbortSignal) => operationContext({ clock, logger, ...(signal === undefined ? {} : { signal }) }),
    solver: (options: Route53SolverOptions = {}) =>
      route53Solver({
        client: route53.client,
        followCname: false,
        propagation: false,
        random: seededRandom(seed),
        ...options,
      }),
  }
}
type World = ReturnType<typeof createWorld>

const manyNames = (count: number): Dns01Challenge[] =>
  Array.from({ length: count }, (_, index) =>
    dnsChallenge(`host${String(index)}.example.com`, `value-${String(index)}`),
  )

async function failure(work: Promise<unknown>): Promise<ChallengeError> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!CertError.isInstance(error)) throw new Error('should have failed with a CertError', { cause: error })
  return error as ChallengeError
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const changesRecords = ({ action }: FakeCall): boolean => action === 'ChangeResourceRecordSets'

describe('route53Solver', () => {
  it('puts a hundred names, apex and wildcard among them, up in one change and takes them down in one', async () => {
    const world = createWorld()
    world.route53.pending = 3
    const solver = world.solver()
    const all = [...manyNames(99), dnsChallenge('example.com', 'apex'), dnsChallenge('*.example.com', 'wildcard')]
    await Promise.all(all.map((each) => solver.present(each, world.context())))
    expect(world.route53.values(record)).toEqual(['apex', 'wildcard'])
    expect(world.route53.batches).toHaveLength(1)
    await Promise.all(all.map((each) => solver.waitUntilReady(each, world.context())))
    await Promise.all(all.map((each) => solver.cleanUp(each, world.context())))
    expect(world.route53.batches).toHaveLength(2)
    expect(world.route53.recordSets('Z1')).toEqual([])
    expect(world.route53.calls.map(({ action }) => action)).toEqual([
      ...['ListHostedZones', 'ListResourceRecordSets', 'ChangeResourceRecordSets'],
      ...['GetChange', 'GetChange', 'GetChange', 'GetChange'],
      ...['ListResourceRecordSets', 'ChangeResourceRecordSets'],
    ])
  })

  it('has one change of a zone in flight, while those of other zones go on', async () => {
    const zones = ['a', 'b', 'c'].map((name) => ({ id: `Z${name.toUpperCase()}`, name: `${name}.example` }))
    const world = createWorld(zones)
    const inFlight = new Map<string, number>()
    let mostTogether = 0
    world.route53.before = async (call) => {
      if (!changesRecords(call)) return
      const zone = String(call.input['HostedZoneId'])
      inFlight.set(zone, (inFlight.get(zone) ?? 0) + 1)
      expect(inFlight.get(zone)).toBe(1)
      mostTogether = Math.max(
        mostTogether,
        [...inFlight.values()].reduce((sum, one) => sum + one, 0),
      )
      for (let turn = 0; turn < 20; turn += 1) await nextTurn()
      inFlight.set(zone, 0)
    }
    const solver = world.solver()
    const some = zones.flatMap(({ name }) => [dnsChallenge(name, 'x'), dnsChallenge(`www.${name}`, 'y')])
    const first = some.map((each) => solver.present(each, world.context()))
    for (let turn = 0; turn < 8; turn += 1) await nextTurn()
    const second = zones.map(({ name }) => solver.present(dnsChallenge(`late.${name}`, 'z'), world.context()))
    await Promise.all([...first, ...second])
    expect(mostTogether).toBeGreaterThan(1)
    expect(world.route53.values('_acme-challenge.late.b.example')).toEqual(['z'])
  })

  it('keeps the values of others and their TTL', async () => {
    const world = createWorld()
    world.route53.plantTxt('Z1', record, ['foreign'], 1234)
    const solver = world.solver({ ttlMs: 5000 })
    const [one, other] = [dnsChallenge('example.com', 'mine'), dnsChallenge('www.example.com', 'own')]
    await Promise.all([solver.present(one, world.context()), solver.present(other, world.context())])
    expect(world.route53.values(record)).toEqual(['foreign', 'mine'])
    expect(world.route53.recordSets('Z1').map(({ TTL }) => TTL)).toEqual([1234, 5])
    await Promise.all([solver.cleanUp(one, world.context()), solver.cleanUp(other, world.context())])
    expect(world.route53.recordSets('Z1')).toMatchObject([{ TTL: 1234, ResourceRecords: [{ Value: '"foreign"' }] }])
  })

  it('sends more than a request may hold in several', async () => {
    const world = createWorld()
    const solver = world.solver()
    const many = manyNames(1200)
    await Promise.all(many.map((each) => solver.present(each, world.context())))
    expect(world.route53.batches.map((batch) => batch.length)).toEqual([1000, 200])
    await Promise.all(many.map((each) => solver.cleanUp(each, world.context())))
    expect(world.route53.recordSets('Z1')).toEqual([])
  })

  it('writes again what another run has left, so that there is a change to wait for', async () => {
    const world = createWorld()
    const challenge = dnsChallenge('example.com', 'mine')
    await world.solver().present(challenge, world.context())
    const successor = world.solver()
    await successor.present(challenge, world.context())
    expect(world.route53.values(record)).toEqual(['mine'])
    await successor.waitUntilReady(challenge, world.context())
    expect(world.route53.count('GetChange')).toBe(1)
    await successor.present(challenge, world.context())
    expect(world.route53.batches).toHaveLength(2)
  })

  it('writes to the zone it is told to, without a list of zones', async () => {
    const world = createWorld([
      { id: 'Z1', name: 'example.com' },
      { id: 'Z2', name: 'example.com' },
    ])
    const challenge = dnsChallenge('example.com', 'mine')
    const solver = world.solver({ hostedZoneId: '/hostedzone/Z2' })
    await solver.present(challenge, world.context())
    expect(world.route53.recordSets('Z2')).toHaveLength(1)
    expect(world.route53.count('ListHostedZones')).toBe(0)
    expect((await failure(world.solver().present(challenge, world.context()))).message).toMatch(
      /Z1, Z2.*"hostedZoneId"/,
    )
  })

  it('finds its zone on the last page', async () => {
    const zones = Array.from({ length: 250 }, (_, index) => ({
      id: `Z${String(index)}`,
      name: `n${String(index)}.example`,
    }))
    const world = createWorld(zones)
    await world.solver().present(dnsChallenge('www.n249.example', 'mine'), world.context())
    expect(world.route53.recordSets('Z249')).toHaveLength(1)
    expect(world.route53.count('ListHostedZones')).toBe(3)
  })

  it('names the zones it has looked for', async () => {
    const world = createWorld([{ id: 'Z1', name: 'example.com', private: true }])
    const error = await failure(world.solver().present(dnsChallenge('www.example.com'), world.context()))
    expect(error).toMatchObject({ code: 'ERR_CHALLENGE_FAILED', phase: 'present', solver: 'dns-01/route53' })
    expect(error.message).toContain('_acme-challenge.www.example.com, www.example.com, example.com')
  })

  it('explains a name that is too long, before it asks anybody', async () => {
    const world = createWorld()
    const name = `${`${'a'.repeat(49)}.`.repeat(4)}${'b'.repeat(38)}.example.com`
    const error = await failure(world.solver().present(dnsChallenge(name), world.context()))
    expect(error.message).toContain('253')
    expect(world.route53.calls).toEqual([])
  })

  it('cleans up without fuss when the zone is gone', async () => {
    const world = createWorld()
    const solver = world.solver()
    await solver.present(dnsChallenge('example.com'), world.context())
    world.route53.zones.length = 0
    await solver.cleanUp(dnsChallenge('example.com'), world.context())
    expect((await failure(solver.present(dnsChallenge('example.com'), world.context()))).message).toContain(
      'looked for',
    )
  })

  it.each([
    ['there is no zone for it', 'elsewhere.example'],
    ['no record can have its name', `${`${'a'.repeat(49)}.`.repeat(4)}${'b'.repeat(38)}.example.com`],
  ])('has nothing to clean up where nothing can have been written: %s', async (_, name) => {
    const world = createWorld()
    const solver = world.solver()
    const challenge = dnsChallenge(name)
    await failure(solver.present(challenge, world.context()))
    await solver.cleanUp(challenge, world.context())
    // After a crash.
    await world.solver().cleanUp(challenge, world.context())
    expect(world.route53.count('ListResourceRecordSets')).toBe(0)
  })

  it('does not guess in which of two zones there is something to clean up', async () => {
    const world = createWorld()
    await world.solver({ hostedZoneId: 'Z1' }).present(dnsChallenge('example.com', 'mine'), world.context())
    world.route53.zones.push({ id: 'Z2', name: 'example.com' })
    const challenge = dnsChallenge('example.com', 'mine')
    expect((await failure(world.solver().cleanUp(challenge, world.context()))).message).toContain('Z1, Z2')
  })

  it('lists the zones anew when the one it knew is gone', async () => {
    const world = createWorld()
    const solver = world.solver()
    await solver.present(dnsChallenge('example.com'), world.context())
    world.route53.zones.splice(0, 1, { id: 'Z2', name: 'example.com' })
    const other = dnsChallenge('www.example.com')
    expect((await failure(solver.present(other, world.context()))).message).toContain('hosted zone Z1 does not exist')
    await solver.present(other, world.context())
    expect(world.route53.recordSets('Z2')).toHaveLength(1)
  })

  it('does not let what stands in the way of one name fail the others', async () => {
    const world = createWorld()
    const names = ['multi', 'cname', 'outside', 'fine']
    const [multi, cname, , fine] = names.map((name) => `_acme-challenge.${name}.example.com`)
    const ResourceRecords = [{ Value: '"x"' }]
    const set = { Name: `${multi!}.`, Type: 'TXT', TTL: 10, ResourceRecords }
    world.route53.plant('Z1', { ...set, SetIdentifier: '"x"', MultiValueAnswer: true })
    world.route53.plant('Z1', { ...set, Name: `${cname!}.`, Type: 'CNAME', ResourceRecords: [{ Value: 'x.example' }] })
    const solver = world.solver({ hostedZoneId: 'Z1' })
    const challenges = names.map((name) =>
      dnsChallenge(name === 'outside' ? 'outside.example.net' : `${name}.example.com`, `value-${name}`),
    )
    const results = await Promise.allSettled(challenges.map((each) => solver.present(each, world.context())))
    const messages = results.map((result) => (result.status === 'rejected' ? (result.reason as Error).message : 'done'))
    expect(messages).toEqual([
      expect.stringMatching(/MultiValueAnswer.*cert-manager/),
      expect.stringMatching(/CNAME.*"followCname"/),
      expect.stringMatching(/refused route53:ChangeResourceRecordSets on hosted zone Z1.*not permitted in zone/),
      'done',
    ])
    expect(world.route53.values(fine!)).toEqual(['value-fine'])
    await Promise.all(challenges.map((each) => solver.cleanUp(each, world.context())))
    expect(world.route53.recordSets('Z1')).toHaveLength(2)
  })
})

describe('a policy without one of the names', () => {
  it('does not fail the others, on the way up and down', async () => {
    const world = createWorld()
    world.route53.before = ({ action, input }) => {
      // AWS decides about the whole batch.
      if (action !== 'ChangeResourceRecordSets' || !JSON.stringify(input).includes('host2.')) return
      throw awsError('AccessDenied', 'not authorized', { status: 403 })
    }
    const solver = world.solver({ hostedZoneId: 'Z1' })
    const [denied, ...allowed] = [...manyNames(5)].sort((one) => (one.recordName.includes('host2') ? -1 : 1))
    const refused = failure(solver.present(denied!, world.context()))
    await Promise.all(allowed.map((each) => solver.present(each, world.context())))
    expect((await refused).message).toContain('requiredPermissions()')
    expect(world.route53.recordSets('Z1')).toHaveLength(4)
    world.route53.plantTxt('Z1', denied!.recordName, [denied!.recordValue])
    const left = failure(solver.cleanUp(denied!, world.context()))
    await Promise.all(allowed.map((each) => solver.cleanUp(each, world.context())))
    expect((await left).phase).toBe('clean-up')
    expect(world.route53.recordSets('Z1')).toHaveLength(1)
  })
})

describe('something in the way of a name', () => {
  it('does not keep what was left there from being given up', async () => {
    const world = createWorld()
    const ResourceRecords = [{ Value: '"theirs"' }]
    const set = { Name: `${record}.`, Type: 'TXT', TTL: 10, ResourceRecords }
    world.route53.plant('Z1', { ...set, SetIdentifier: '"theirs"', MultiValueAnswer: true })
    const solver = world.solver({ hostedZoneId: 'Z1' })
    const refused = failure(solver.present(dnsChallenge('example.com', 'new'), world.context()))
    await solver.cleanUp(dnsChallenge('*.example.com', 'old'), world.context())
    expect((await refused).message).toContain('MultiValueAnswer')
    expect(world.route53.batches).toEqual([])
  })
})

describe('two processes', () => {
  it('on the same names lose no value of each other', async () => {
    const world = createWorld()
    world.route53.plantTxt('Z1', record, ['foreign'])
    // Slow enough for all of them to have read before the first one writes.
    world.route53.before = async (call) => {
      for (let turn = 0; changesRecords(call) && turn < 100; turn += 1) await nextTurn()
    }
    const solvers = ['a', 'b', 'c'].map((name) => ({
      name,
      solver: world.solver({ random: seededRandom(seed + name.charCodeAt(0)) }),
    }))
    const work = solvers.flatMap(({ name, solver }) =>
      [0, 1, 2].map((index) => ({ solver, challenge: dnsChallenge('example.com', `${name}-${String(index)}`) })),
    )
    await Promise.all(work.map(({ solver, challenge }) => solver.present(challenge, world.context())))
    expect(world.route53.values(record).sort()).toEqual(
      ['foreign', ...work.map(({ challenge }) => challenge.recordValue)].sort(),
    )
    const lost = world.route53.count('ChangeResourceRecordSets') - world.route53.batches.length
    expect(lost, 'nobody was ever in the way').toBeGreaterThan(0)
    await Promise.all(work.map(({ solver, challenge }) => solver.cleanUp(challenge, world.context())))
    expect(world.route53.values(record)).toEqual(['foreign'])
  })

  it.each([1, 2, 5, 9])('get on when the record set moves %i times between read and write', async (times) => {
    const world = createWorld()
    let moves = 0
    world.route53.before = (call) => {
      if (!changesRecords(call) || moves === times) return
      moves += 1
      world.route53.recordSets('Z1').forEach((_, index, sets) => (sets as unknown[]).splice(index))
      world.route53.plantTxt('Z1', record, [`foreign-${String(moves)}`])
    }
    await world.solver().present(dnsChallenge('example.com', 'mine'), world.context())
    expect(moves).toBe(times)
    expect(world.route53.values(record)).toEqual([`foreign-${String(times)}`, 'mine'])
  })

  it('give up when it never stops', async () => {
    const world = createWorld()
    let moves = 0
    world.route53.before = (call) => {
      if (!changesRecords(call)) return
      moves += 1
      ;(world.route53.recordSets('Z1') as unknown[]).length = 0
      world.route53.plantTxt('Z1', record, [`foreign-${String(moves)}`])
    }
    const error = await failure(world.solver().present(dnsChallenge('example.com', 'mine'), world.context()))
    expect(error).toMatchObject({ code: 'ERR_CHALLENGE_FAILED', retryable: true, cause: { kind: 'moved' } })
    expect(error.message).toContain('other processes kept changing the record set')
    expect(moves).toBe(10)
  })
})

/** A life of challenges: up, wait, down. */
async function cycle(world: World, solver = world.solver()): Promise<void> {
  const challenges = [dnsChallenge('example.com', 'apex'), dnsChallenge('*.example.com', 'wildcard'), ...manyNames(3)]
  await Promise.all(challenges.map((each) => solver.present(each, world.context())))
  expect(world.route53.values(record).sort()).toEqual(['apex', 'foreign', 'wildcard'])
  await Promise.all(challenges.map((each) => solver.waitUntilReady(each, world.context())))
  await Promise.all(challenges.map((each) => solver.cleanUp(each, world.context())))
  expect(world.route53.recordSets('Z1')).toHaveLength(1)
  expect(world.route53.values(record)).toEqual(['foreign'])
}

function plantedWorld(): World {
  const world = createWorld()
  world.route53.plantTxt('Z1', record, ['foreign'])
  return world
}

describe('whatever fails, at whichever call', () => {
  const errors: [string, () => Error][] = [
    ['throttling', () => awsError('Throttling', 'Rate exceeded')],
    ['a change that is not through', () => awsError('PriorRequestNotComplete')],
    ['an outage', () => awsError('ServiceUnavailable', 'oops', { status: 503 })],
    ['a broken connection', () => Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', $metadata: {} })],
    ['credentials that expire', () => awsError('ExpiredToken', 'expired', { status: 403 })],
  ]
  for (const moment of ['before', 'after'] as const) {
    it.each(errors)(`%s ${moment} the call was made, once, costs time and nothing else`, async (_, error) => {
      let fired = true
      for (let at = 0; fired; at += 1) {
        fired = false
        const world = plantedWorld()
        world.route53[moment] = (__, index) => {
          if (index !== at) return
          fired = true
          throw error()
        }
        await cycle(world)
        if (at === 0) expect(fired).toBe(true)
        if (!fired) expect(at).toBeGreaterThanOrEqual(6)
      }
    })
  }

  it.each(errors)('%s twice in a row costs no more', async (_, error) => {
    let fired = 3
    for (let at = 0; fired > 0; at += 1) {
      fired = 0
      const world = plantedWorld()
      world.route53.before = (__, index) => {
        if (index < at || index > at + 1) return
        fired += 1
        throw error()
      }
      await cycle(world)
      if (at === 0) expect(fired).toBe(2)
    }
  })

  it('a crash at any call leaves nothing that the next process does not remove, and nothing of others is harmed', async () => {
    let crashed = true
    for (let at = 0; crashed; at += 1) {
      for (const moment of ['before', 'after'] as const) {
        crashed = false
        const world = plantedWorld()
        const challenges = [
          dnsChallenge('example.com', 'apex'),
          dnsChallenge('*.example.com', 'wildcard'),
          ...manyNames(3),
        ]
        const dead = new AbortController()
        const reason = new Error('killed')
        const solver = world.solver({
          client: {
            async send(command, options) {
              const index = world.route53.calls.length
              if (index === at && moment === 'before') crashed = true
              if (crashed) await new Promise(() => undefined)
              const reply = await world.route53.client.send(command, options)
              if (index === at) crashed = true
              if (crashed) await new Promise(() => undefined)
              return reply
            },
          },
        })
        const life = (async () => {
          await Promise.all(challenges.map((each) => solver.present(each, world.context(dead.signal))))
          await Promise.all(challenges.map((each) => solver.waitUntilReady(each, world.context(dead.signal))))
          await Promise.all(challenges.map((each) => solver.cleanUp(each, world.context(dead.signal))))
        })().catch(() => undefined)
        const over = life.then(() => true)
        const until = async (): Promise<boolean> => {
          for (let turn = 0; turn < 300 && !crashed; turn += 1) await nextTurn()
          return false
        }
        while (!crashed && !(await Promise.race([over, until()])));
        dead.abort(reason)
        const successor = world.solver()
        await Promise.all(challenges.map((each) => successor.cleanUp(each, world.context())))
        expect(world.route53.values(record)).toEqual(['foreign'])
        expect(world.route53.recordSets('Z1')).toHaveLength(1)
      }
      if (at === 0) expect(crashed).toBe(true)
    }
  })
})

describe('what does not get better', () => {
  it.each<[string, Error, RegExp]>([
    ['throttling', awsError('Throttling'), /throttles route53:ChangeResourceRecordSets.*"requestsPerSecond"/],
    ['a busy zone', awsError('PriorRequestNotComplete'), /hosted zone Z1 was busy/],
    [
      'an outage',
      awsError('InternalFailure', 'oops', { status: 500 }),
      /did not answer route53:ChangeResourceRecordSets/,
    ],
  ])('%s is given up in time', async (_, error, message) => {
    const world = createWorld()
    world.route53.before = (call) => {
      if (changesRecords(call)) throw error
    }
    const start = world.clock.now()
    const seen = await failure(
      world.solver({ timeoutMs: 60_000 }).present(dnsChallenge('example.com'), world.context()),
    )
    expect(seen.message).toMatch(message)
    expect(seen).toMatchObject({ code: 'ERR_CHALLENGE_FAILED', retryable: true, solver: 'dns-01/route53' })
    expect(world.clock.now() - start).toBeGreaterThan(40_000)
    expect(world.clock.now() - start).toBeLessThan(61_000)
    expect(world.route53.count('ChangeResourceRecordSets')).toBeLessThan(15)
  })

  it('a request without an answer is given up, and tried again', async () => {
    const world = createWorld()
    world.route53.before = (call, index) =>
      changesRecords(call) && index < 4 ? new Promise(() => undefined) : undefined
    const work = world.solver().present(dnsChallenge('example.com', 'mine'), world.context())
    while (world.route53.count('ChangeResourceRecordSets') === 0) await nextTurn()
    for (let step = 0; step < 4; step += 1) await world.clock.advance(10_000)
    await work
    expect(world.route53.values(record)).toEqual(['mine'])
  })

  it('expired credentials are tried three times, and named', async () => {
    const world = createWorld()
    world.route53.before = (call) => {
      if (changesRecords(call)) throw awsError('ExpiredToken', 'The security token is expired', { status: 403 })
    }
    const error = await failure(world.solver().present(dnsChallenge('example.com'), world.context()))
    expect(error.message).toContain('the AWS credentials have expired (ExpiredToken)')
    expect(world.route53.count('ChangeResourceRecordSets')).toBe(3)
  })

  it.each([
    ['ListHostedZones', 'route53:ListHostedZones;'],
    ['ListResourceRecordSets', 'route53:ListResourceRecordSets on hosted zone Z1'],
    ['ChangeResourceRecordSets', 'route53:ChangeResourceRecordSets on hosted zone Z1'],
    ['GetChange', 'route53:GetChange;'],
  ])('a missing right to %s is named, and not asked for twice', async (action, text) => {
    const world = createWorld()
    world.route53.before = (call) => {
      if (call.action === action) throw awsError('AccessDenied', 'User: arn:aws:iam::1:user/x is not authorized')
    }
    const solver = world.solver()
    const challenge = dnsChallenge('example.com')
    const error = await failure(
      solver.present(challenge, world.context()).then(() => solver.waitUntilReady(challenge, world.context())),
    )
    expect(error.message).toContain(text)
    expect(error.message).toContain('requiredPermissions()')
    expect(world.route53.count(action)).toBe(1)
  })

  it('is the same error each time, with another request id', async () => {
    const world = createWorld()
    world.route53.before = (call) => {
      if (changesRecords(call)) throw awsError('InvalidInput', `bad. Request ID: ${crypto.randomUUID()}`)
    }
    const solver = world.solver()
    const fail = () => failure(solver.present(dnsChallenge('example.com'), world.context()))
    const [one, other] = [await fail(), await fail()]
    expect(one.message).toBe(other.message)
    const ids = [one, other].map(({ cause }) => (cause as { requestId: string }).requestId)
    expect(new Set(ids).size).toBe(2)
  })

  it('shows no key authorization and no request', async () => {
    const world = createWorld()
    const secret = 'AKIAEXAMPLE/secret'
    const challenge = dnsChallenge('example.com')
    world.route53.before = (call) => {
      if (changesRecords(call)) throw Object.assign(awsError('InvalidInput'), { $request: { authorization: secret } })
    }
    const error = await failure(world.solver().present(challenge, world.context()))
    assertNoSecrets(error, [secret, challenge.keyAuthorization])
    assertNoSecrets(world.logger.entries, [secret, challenge.keyAuthorization])
  })
})

describe('rate limits', () => {
  it('keep to the requests per second, and hold back after a throttle', async () => {
    const world = createWorld()
    const times: number[] = []
    world.route53.before = (_, index) => {
      times.push(world.clock.now())
      if (index === 20) throw awsError('Throttling')
    }
    const solver = world.solver({ requestsPerSecond: 4 })
    for (const each of manyNames(20)) await solver.present(each, world.context())
    for (const [index, time] of times.entries()) {
      const later = times[index + 5]
      if (later !== undefined) expect(later - time).toBeGreaterThanOrEqual(245)
    }
    const total = times.at(-1)! - times[0]!
    expect(total).toBeGreaterThanOrEqual(((times.length - 5) / 4) * 1000 - 250)
    expect(times[21]! - times[20]!).toBeGreaterThanOrEqual(500)
  })

  it('keep to the changes per second', async () => {
    const world = createWorld()
    const solver = world.solver({ changesPerSecond: 10 })
    const start = world.clock.now()
    await Promise.all(manyNames(100).map((each) => solver.present(each, world.context())))
    await Promise.all(manyNames(10).map((each) => solver.cleanUp(each, world.context())))
    expect(world.clock.now() - start).toBeGreaterThanOrEqual(9_000)
  })
})

describe('an abort', () => {
  const reason = new Error('stopped')

  it('of one caller does not touch the others of the batch', async () => {
    let fired = true
    for (let at = 0; fired; at += 1) {
      fired = false
      const world = createWorld()
      const solver = world.solver()
      const controller = new AbortController()
      world.route53.before = async (_, index) => {
        if (index !== at || world.route53.batches.length > 0) return
        fired = true
        controller.abort(reason)
        // Time for whoever would be cut off.
        for (let turn = 0; turn < 10; turn += 1) await nextTurn()
      }
      const leaving = solver.present(dnsChallenge('a.example.com', 'gone'), world.context(controller.signal))
      const staying = solver.present(dnsChallenge('b.example.com', 'kept'), world.context())
      const left = leaving.catch((error: unknown) => error)
      expect(await left).toBe(fired ? reason : undefined)
      await staying
      if (at < 3) expect(fired).toBe(true)
      expect(world.route53.values('_acme-challenge.b.example.com')).toEqual(['kept'])
      await solver.cleanUp(dnsChallenge('a.example.com', 'gone'), world.context())
      await solver.cleanUp(dnsChallenge('b.example.com', 'kept'), world.context())
      expect(world.route53.recordSets('Z1')).toEqual([])
    }
  })

  it('lets the caller go at once, does not cut the change off, and has the clean-up wait for it', async () => {
    const world = createWorld()
    const solver = world.solver()
    const controller = new AbortController()
    let open: () => void = () => undefined
    const gate = new Promise<void>((resolve) => (open = resolve))
    world.route53.before = async (call) => {
      if (changesRecords(call) && world.route53.batches.length === 0) await gate
    }
    const challenge = dnsChallenge('example.com', 'mine')
    const work = solver.present(challenge, world.context(controller.signal))
    while (world.route53.count('ChangeResourceRecordSets') === 0) await nextTurn()
    controller.abort(reason)
    await expect(work).rejects.toBe(reason)
    const [, , change] = world.route53.calls
    expect(change?.signal?.aborted).toBe(false)
    const cleaned = solver.cleanUp(challenge, world.context())
    for (let turn = 0; turn < 20; turn += 1) await nextTurn()
    expect(world.route53.count('ListResourceRecordSets')).toBe(1)
    open()
    await cleaned
    expect(world.route53.batches).toEqual([[`CREATE ${record}`], [`DELETE ${record}`]])
  })

  it('before anything was sent sends nothing', async () => {
    const world = createWorld()
    const solver = world.solver({ hostedZoneId: 'Z1' })
    const controller = new AbortController()
    const work = solver.present(dnsChallenge('example.com'), world.context(controller.signal))
    controller.abort(reason)
    await expect(work).rejects.toBe(reason)
    for (let turn = 0; turn < 20; turn += 1) await nextTurn()
    expect(world.route53.calls).toEqual([])
  })

  it('of everybody ends the repetitions', async () => {
    const world = createWorld()
    const controller = new AbortController()
    world.route53.before = (call) => {
      if (!changesRecords(call)) return
      if (world.route53.count('ChangeResourceRecordSets') === 3) controller.abort(reason)
      throw awsError('PriorRequestNotComplete')
    }
    const solver = world.solver()
    const work = manyNames(5).map((each) => solver.present(each, world.context(controller.signal)))
    for (const each of work) await expect(each).rejects.toBe(reason)
    for (let turn = 0; turn < 50; turn += 1) await nextTurn()
    expect(world.route53.count('ChangeResourceRecordSets')).toBe(3)
  })

  it('at any call, followed by a clean-up, leaves nothing', async () => {
    let fired = true
    for (let at = 0; fired; at += 1) {
      fired = false
      const world = plantedWorld()
      const controller = new AbortController()
      world.route53.before = (_, index) => {
        if (index !== at || controller.signal.aborted) return
        fired = true
        controller.abort(reason)
      }
      const solver = world.solver()
      const challenges = [
        dnsChallenge('example.com', 'apex'),
        dnsChallenge('*.example.com', 'wildcard'),
        ...manyNames(3),
      ]
      const results = await Promise.allSettled(
        challenges.map((each) => solver.present(each, world.context(controller.signal))),
      )
      if (fired)
        expect(results.map((result) => result.status === 'rejected' && result.reason === reason)).not.toContain(false)
      world.route53.before = () => undefined
      await Promise.all(challenges.map((each) => solver.cleanUp(each, world.context())))
      expect(world.route53.recordSets('Z1')).toHaveLength(1)
      expect(world.route53.values(record)).toEqual(['foreign'])
      if (at === 0) expect(fired).toBe(true)
    }
  })
})

describe('waitUntilReady', () => {
  it('shares one wait, and gives it up when it takes too long', async () => {
    const world = createWorld()
    world.route53.pending = 1_000_000
    const solver = world.solver({ syncTimeoutMs: 100_000 })
    const challenges = manyNames(50)
    await Promise.all(challenges.map((each) => solver.present(each, world.context())))
    const start = world.clock.now()
    const errors = await Promise.all(challenges.map((each) => failure(solver.waitUntilReady(each, world.context()))))
    expect(new Set(errors.map(({ code }) => code))).toEqual(new Set(['ERR_CHALLENGE_PROPAGATION_TIMEOUT']))
    expect(errors[0]?.message).toContain('"syncTimeoutMs"')
    expect(errors[0]).toMatchObject({ retryable: true, phase: 'wait' })
    expect(world.clock.now() - start).toBeLessThanOrEqual(100_000)
    expect(world.route53.count('GetChange')).toBeLessThan(20)
  })

  it('takes a change that Route 53 has forgotten for done', async () => {
    const world = createWorld()
    const solver = world.solver()
    await solver.present(dnsChallenge('example.com'), world.context())
    world.route53.before = (call) => {
      if (call.action === 'GetChange') throw awsError('NoSuchChange', 'gone', { status: 404 })
    }
    await solver.waitUntilReady(dnsChallenge('example.com'), world.context())
  })

  it.each([
    [true, 'goes on, with a warning, when DNS does not show what Route 53 has'],
    [false, 'fails when neither Route 53 nor DNS has it'],
  ])('in sync: %s: %s', async (inSync) => {
    const world = createWorld()
    world.route53.pending = inSync ? 0 : 1_000_000
    const deaf = { udp: () => Promise.reject(new Error('no route')), tcp: () => Promise.reject(new Error('no route')) }
    const propagation = { servers: ['192.0.2.1'], timeoutMs: 10_000, transport: deaf }
    const solver = world.solver({ propagation, syncTimeoutMs: 30_000 })
    const challenge = dnsChallenge('example.com')
    await solver.present(challenge, world.context())
    const waiting = solver.waitUntilReady(challenge, world.context())
    if (inSync) {
      await waiting
      expect(world.logger.entries.filter(({ level }) => level === 'warn')).toMatchObject([
        { fields: { recordName: record, error: { code: 'ERR_CHALLENGE_PROPAGATION_TIMEOUT' } } },
      ])
    } else {
      expect(await failure(waiting)).toMatchObject({ code: 'ERR_CHALLENGE_PROPAGATION_TIMEOUT' })
    }
  })

  it('ends at once when aborted, and the others wait on', async () => {
    const world = createWorld()
    world.route53.pending = 5
    const solver = world.solver()
    const [one, other] = manyNames(2) as [Dns01Challenge, Dns01Challenge]
    await Promise.all([one, other].map((each) => solver.present(each, world.context())))
    const controller = new AbortController()
    const reason = new Error('stopped')
    const leaving = solver.waitUntilReady(one, world.context(controller.signal))
    const staying = solver.waitUntilReady(other, world.context())
    controller.abort(reason)
    await expect(leaving).rejects.toBe(reason)
    await staying
    expect(world.route53.count('GetChange')).toBe(6)
  })
})

describe('options of route53Solver', () => {
  it.each<[string, object]>([
    ['unknown option "zoneId"', { zoneId: 'Z1' }],
    ['"client.send"', { client: {} }],
    ['"hostedZoneId"', { hostedZoneId: 'z1' }],
    ['"hostedZoneId"', { hostedZoneId: '../Z1' }],
    ['"hostedZoneId"', { hostedZoneId: '' }],
    ['"followCname"', { followCname: 'yes' }],
    ['"ttlMs"', { ttlMs: 1500 }],
    ['"ttlMs"', { ttlMs: -1000 }],
    ['"syncTimeoutMs"', { syncTimeoutMs: 0 }],
    ['"requestTimeoutMs"', { requestTimeoutMs: Number.NaN }],
    ['"timeoutMs"', { timeoutMs: '5' }],
    ['"requestsPerSecond"', { requestsPerSecond: 0 }],
    ['"changesPerSecond"', { changesPerSecond: Infinity }],
    ['"zones"', { zones: [] }],
    ['"name"', { name: '' }],
    ['"random"', { random: 4 }],
    ['dnsPropagation: unknown option "server"', { propagation: { server: '1.1.1.1' } }],
  ])('%s is refused', (message, options) => {
    expect(() => route53Solver(options)).toThrow(TypeError)
    expect(() => route53Solver(options)).toThrow(message)
  })

  it('need not be there', () => {
    const solver = route53Solver()
    expect(solver).toMatchObject({ name: 'dns-01/route53', type: 'dns-01', concurrency: 1000 })
    expect(solver.supports?.({ type: 'ip', value: '192.0.2.1' })).toBe(false)
    expect('zones' in solver).toBe(false)
    expect(route53Solver({ name: 'dns-01/other', zones: ['Example.com'] })).toMatchObject({ zones: ['example.com'] })
  })
})
