/**
 * The propagation check against NSD and Unbound: real zones, real delegations, on loopback addresses of one port.
 */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { ChallengeError, systemClock } from 'evercert'
import { dnsPropagation, type DnsPropagation, type PropagationReport } from 'evercert/solvers/dns-propagation'
import { operationContext } from 'evercert/testing'
import { startNsd, type Nsd } from '../support/nsd.js'
import { withFreePorts } from '../support/ports.js'
import { describeWith } from '../support/servers.js'
import { startUnbound, type Unbound } from '../support/unbound.js'

const value = 'KFgJ3B0sT0q2X9p0mQWc7b1yq2mG8rYfLx4cXwTn5dA'
/** Name servers by address. */
const [first, second, third, elsewhere] = ['127.0.0.2', '127.0.0.3', '::1', '127.0.0.4'] as const
const [recursive, dead, mute] = ['127.0.0.5', '127.0.0.6', '127.0.0.7'] as const

/** NS records and their addresses. */
function nameservers(zone: string, addresses: readonly string[]): readonly string[] {
  return addresses.flatMap((address, index) => [
    `@ NS ns${index + 1}.${zone}.`,
    `ns${index + 1} ${address.includes(':') ? 'AAAA' : 'A'} ${address}`,
  ])
}

const zones: Readonly<Record<string, readonly string[]>> = {
  'healthy.test': [first, second, third],
  'lagging.test': [first, second, third],
  'lame.test': [first, recursive],
  'refusing.test': [first, elsewhere],
  'dead.test': [first, dead],
  'mute.test': [first, mute],
  'gone.test': [dead, mute],
  'big.test': [first, third],
  'alias.test': [first, second],
  'many.test': [first, second, third],
}
const empty = Object.fromEntries(Object.entries(zones).map(([zone, servers]) => [zone, nameservers(zone, servers)]))
const challengeName = (zone: string): string => `_acme-challenge.${zone}`
const records = (zone: string, ...more: readonly string[]): readonly string[] => [...(empty[zone] ?? []), ...more]
const outcomes = ({ servers }: PropagationReport) =>
  Object.fromEntries(servers.map(({ address, outcome }): [string, string] => [String(address), outcome]))

describeWith(['nsd', 'unbound'], 'dnsPropagation', () => {
  let servers: { readonly all: readonly Nsd[]; readonly acme: Nsd; readonly resolver: Unbound; readonly port: number }
  let silent: Socket
  let propagation: DnsPropagation
  const context = operationContext({ clock: systemClock })

  beforeAll(async () => {
    servers = await withFreePorts(1, async (port) => {
      const started: { stop(): Promise<void> }[] = []
      const keep = async <T extends { stop(): Promise<void> }>(server: Promise<T>): Promise<T> => {
        const running = await server
        started.push(running)
        return running
      }
      try {
        const all = [
          await keep(startNsd({ address: first, port, zones: empty })),
          await keep(startNsd({ address: second, port, zones: empty })),
          await keep(startNsd({ address: third, port, zones: empty })),
        ]
        const acme = await keep(
          startNsd({ address: elsewhere, port, zones: { 'acme.test': nameservers('acme.test', [elsewhere]) } }),
        )
        const resolver = await keep(
          startUnbound({
            address: recursive,
            port,
            zones: {
              ...Object.fromEntries(Object.keys(zones).map((zone) => [zone, { address: first, port }])),
              'acme.test': { address: elsewhere, port },
            },
          }),
        )
        return { all, acme, resolver, port }
      } catch (error) {
        for (const server of started) await server.stop()
        throw error
      }
    })
    silent = createSocket('udp4')
    silent.bind(servers.port, mute)
    await once(silent, 'listening')
  })
  afterAll(async () => {
    silent?.close()
    for (const server of [...(servers?.all ?? []), servers?.acme, servers?.resolver]) await server?.stop()
  })
  beforeEach(() => {
    propagation = dnsPropagation({
      servers: [`${recursive}:${servers.port}`],
      nameserverPort: servers.port,
      queryTimeoutMs: 1_000,
      pollMs: 100,
      timeoutMs: 60_000,
    })
  })
  const serve = async (zone: string, more: readonly string[], at: readonly Nsd[] = servers.all): Promise<void> => {
    for (const server of at) await server.setZone(zone, records(zone, ...more))
  }
  const challenge = (zone: string) => ({
    type: 'dns-01' as const,
    identifier: { type: 'dns' as const, value: zone },
    wildcard: false,
    token: 'token',
    keyAuthorization: 'token.thumbprint',
    recordName: challengeName(zone),
    recordValue: value,
  })
  const look = (zone: string) => propagation.look({ name: challengeName(zone), value }, context)

  it('finds the zone, its servers and their addresses of both families', async () => {
    expect(await look('healthy.test')).toMatchObject({ visible: false, zone: 'healthy.test', problem: undefined })
    await serve('healthy.test', [
      `_acme-challenge TXT "other"`,
      `_acme-challenge TXT "${value.slice(0, 20)}" "${value.slice(20)}"`,
    ])
    const report = await look('healthy.test')
    expect(outcomes(report)).toEqual({ [first]: 'visible', [second]: 'visible', [third]: 'visible' })
    expect(report.visible).toBe(true)
  })

  it('waits for a server that lags behind', async () => {
    await serve('lagging.test', [`_acme-challenge TXT "${value}"`], servers.all.slice(0, 2))
    let done = false
    const waiting = propagation.waitUntilVisible(challenge('lagging.test'), context).finally(() => (done = true))
    const before = await look('lagging.test')
    expect(outcomes(before)).toEqual({ [first]: 'visible', [second]: 'visible', [third]: 'absent' })
    expect(done).toBe(false)
    await serve('lagging.test', [`_acme-challenge TXT "${value}"`], servers.all.slice(2))
    expect(outcomes(await waiting)).toEqual({ [first]: 'visible', [second]: 'visible', [third]: 'visible' })
  })

  it.each([
    ['lame.test', recursive, 'lame'],
    ['refusing.test', elsewhere, 'refused'],
    ['dead.test', dead, 'unreachable'],
    ['mute.test', mute, 'unreachable'],
  ])('%s: passes over %s, which is %s', async (zone, address, outcome) => {
    const absent = await look(zone)
    expect(absent.visible).toBe(false)
    expect(outcomes(absent)).toEqual({ [first]: 'absent', [address]: outcome })
    await serve(zone, [`_acme-challenge TXT "${value}"`])
    const report = await propagation.waitUntilVisible(challenge(zone), context)
    expect(outcomes(report)).toEqual({ [first]: 'visible', [address]: outcome })
  })

  it('says what was seen when no server of a zone can be reached', async () => {
    const short = dnsPropagation({
      servers: [`${recursive}:${servers.port}`],
      nameserverPort: servers.port,
      queryTimeoutMs: 200,
      pollMs: 100,
      timeoutMs: 3_000,
    })
    const error: unknown = await short
      .waitUntilVisible(challenge('gone.test'), context)
      .catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(ChallengeError)
    expect(error).toMatchObject({ code: 'ERR_CHALLENGE_PROPAGATION_TIMEOUT' })
    expect((error as Error).message).toContain(
      `ns1.gone.test (${dead}): unreachable, nothing listens there (ECONNREFUSED)`,
    )
    expect((error as Error).message).toContain(`ns2.gone.test (${mute}): unreachable, no answer to 3 tries of 200 ms`)
  })

  it('reads answers that fit only into TCP', async () => {
    const others = Array.from({ length: 300 }, (_, index) => `_acme-challenge TXT "${`${index}-`.padEnd(43, 'x')}"`)
    await serve('big.test', [...others, `_acme-challenge TXT "${value}"`])
    const report = await look('big.test')
    expect(outcomes(report)).toEqual({ [first]: 'visible', [third]: 'visible' })
    const missing = await propagation.look({ name: challengeName('big.test'), value: 'another' }, context)
    expect(missing.servers[0]?.detail).toBe('only other TXT values (301)')
  })

  it('follows a CNAME into its own zone, and names the place to write to', async () => {
    await serve('alias.test', ['_acme-challenge CNAME alias.acme.test.', '*.wild CNAME wild.acme.test.'])
    expect(await propagation.resolveTarget(challengeName('alias.test'), context)).toBe('alias.acme.test')
    expect(await propagation.resolveTarget('_acme-challenge.wild.alias.test', context)).toBe('wild.acme.test')
    expect(await look('alias.test')).toMatchObject({ visible: false, recordName: 'alias.acme.test', zone: 'acme.test' })
    const acme = nameservers('acme.test', [elsewhere])
    await servers.acme.setZone('acme.test', [...acme, `alias TXT "${value}"`])
    expect(await look('alias.test')).toMatchObject({ visible: true, recordName: 'alias.acme.test' })
    await servers.acme.setZone('acme.test', [...acme, 'alias CNAME _acme-challenge.alias.test.'])
    expect((await look('alias.test')).problem).toContain('a CNAME loop')
    await expect(propagation.resolveTarget(challengeName('alias.test'), context)).rejects.toThrow('a CNAME loop')
  })

  it('an absence that the resolver remembers does not matter', async () => {
    const { zone, visible } = await propagation.look({ name: 'later.healthy.test', value }, context)
    expect({ zone, visible }).toEqual({ zone: 'healthy.test', visible: false })
    await serve('healthy.test', [`later TXT "${value}"`])
    expect(await propagation.look({ name: 'later.healthy.test', value }, context)).toMatchObject({ visible: true })
  })

  it('100 names of one zone at once', async () => {
    const names = Array.from({ length: 100 }, (_, index) => `_acme-challenge.host${index}`)
    await serve(
      'many.test',
      names.map((name) => `${name} TXT "${value}"`),
    )
    const reports = await Promise.all(
      names.map((name) => propagation.look({ name: `${name}.many.test`, value }, context)),
    )
    expect(reports.flatMap(({ servers: seen }) => seen)).toHaveLength(300)
    expect(reports.every(({ visible }) => visible)).toBe(true)
  })
})
