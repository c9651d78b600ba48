import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { Clock } from '../../../src/core/clock.js'
import { StoreError } from '../../../src/errors.js'
import { ledgerKey } from '../../../src/scheduler/deploy-certificate.js'
import { lastSignOfLife, ledgerPruning } from '../../../src/scheduler/prune-ledgers.js'
import { deploymentRecord, type DeploymentRecord, type TargetRecord } from '../../../src/scheduler/records.js'
import { RenewalScheduler } from '../../../src/scheduler/renewal-scheduler.js'
import { storeKey, type CertStore, type StoreKey } from '../../../src/stores/cert-store.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { fakeClock, type FakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { recordingLogger, type RecordingLogger } from '../../../src/testing/recording-logger.js'
import { seededRandom } from '../../../src/testing/seeded-random.js'
import { recordingDeployer, type RecordingDeployer } from '../../support/recording-deployer.js'
import { scriptedIssuer, type ScriptedIssuer } from '../../support/scripted-issuer.js'

const hour = 3_600_000
const day = 24 * hour
/** Long enough for a certificate of 90 days to be due. */
const term = 61 * day

let clock: FakeClock
let start: number
let store: CertStore
let issuer: ScriptedIssuer
let logger: RecordingLogger

beforeEach(async () => {
  clock = fakeClock()
  start = clock.now()
  store = memoryStore({ clock })
  // Backdated, so that a clock that is behind finds it valid.
  issuer = await scriptedIssuer({ clock, backdateMs: 2 * day })
  logger = recordingLogger()
})

interface Node {
  readonly scheduler: RenewalScheduler
  readonly deployer: RecordingDeployer
}

interface NodeParts {
  readonly aheadMs?: number
  readonly through?: CertStore
  readonly deployers?: readonly RecordingDeployer[]
}

function node(name: string, { aheadMs = 0, through = store, deployers }: NodeParts = {}): Node {
  const deployer = recordingDeployer()
  const own: Clock = { now: () => clock.now() + aheadMs, sleep: (ms, options) => clock.sleep(ms, options) }
  const scheduler = new RenewalScheduler({
    store: through,
    certificates: [
      { name: 'www', identifiers: ['www.example.com'], issuers: [issuer], deployers: deployers ?? [deployer] },
    ],
    clock: own,
    random: seededRandom(1),
    logger,
    node: name,
  })
  return { scheduler, deployer }
}

/** The node issues now, and once more when that is due: then there is an earlier certificate that others have had time to notice. */
async function renewed({ scheduler }: Node): Promise<void> {
  await scheduler.reconcile()
  await clock.advance(term)
  const { outcomes } = await scheduler.reconcile()
  expect(outcomes).toMatchObject([{ status: 'renewed' }])
}

const target = (at: number, failedAt?: number): TargetRecord => ({
  fingerprintSha256: 'aa',
  at,
  failure:
    failedAt === undefined
      ? undefined
      : { fingerprintSha256: 'bb', code: 'ERR', message: '', count: 1, at: failedAt, notBefore: failedAt },
})
const ledgerOf = (entry: TargetRecord): DeploymentRecord => ({
  targets: new Map([['recording', entry]]),
  endpoints: new Map(),
})

/** What a node leaves behind that was there long before. */
async function leaveLedger(holder: string, certificate = 'www', at = start - 40 * day): Promise<StoreKey> {
  const key = ledgerKey(certificate, holder)
  await store.put(key, deploymentRecord.encode(ledgerOf(target(at))), operationContext({ clock }))
  return key
}

async function keysOf(prefix: string): Promise<string[]> {
  const keys: string[] = []
  for await (const key of store.list(prefix, operationContext({ clock }))) keys.push(key)
  return keys.sort()
}
const ledgers = async (): Promise<string[]> =>
  (await keysOf('deployments/')).map((key) => key.slice('deployments/'.length))
const warnings = (): unknown[] => logger.entries.filter(({ message }) => message.startsWith('cannot look through'))

const unavailable = (code: 'ERR_STORE_UNAVAILABLE' | 'ERR_STORE_CORRUPT' = 'ERR_STORE_UNAVAILABLE'): StoreError =>
  new StoreError({ code, message: 'the store is away', store: 'memory' })

/** A store that counts what is done to the ledgers of others, and calls back before. */
function observed(before: (what: string) => void | Promise<void> = () => undefined) {
  const counts = { lists: 0, reads: 0, underWay: 0, mostUnderWay: 0 }
  const through: CertStore = {
    ...store,
    async get(key, context) {
      if (!key.startsWith('deployments/www/gone')) return store.get(key, context)
      counts.reads += 1
      counts.underWay += 1
      counts.mostUnderWay = Math.max(counts.mostUnderWay, counts.underWay)
      try {
        await before(`get ${key}`)
        return await store.get(key, context)
      } finally {
        counts.underWay -= 1
      }
    },
    async delete(key, context, options) {
      await before(`delete ${key}`)
      return store.delete(key, context, options)
    },
    async *list(prefix, context) {
      counts.lists += 1
      expect(prefix).toBe('deployments/www/')
      for await (const key of store.list(prefix, context)) {
        await before(`list ${key}`)
        yield key
      }
    },
  }
  return { through, counts }
}

describe('since when a node that lives has given a sign', () => {
  const life = { notBefore: 0, notAfter: 90 * day }
  const since = (recentIssuances: readonly number[], now: number, validity = life): number | undefined =>
    ledgerPruning(validity, { recentIssuances }, now)?.aliveSince

  it('is a month before the newest issuance that it has had two days to notice', () => {
    expect(since([100 * day, 160 * day, 220 * day], 220 * day)).toBe(130 * day)
    expect(since([100 * day, 160 * day, 162 * day], 162 * day)).toBe(130 * day)
    expect(since([100 * day, 160 * day, 162 * day], 162 * day - 1)).toBe(70 * day)
  })

  it('is not known before there is such an issuance', () => {
    expect(since([], 100 * day)).toBeUndefined()
    expect(since([100 * day], 100 * day)).toBeUndefined()
    // By a clock that was wrong.
    expect(since([500 * day], 100 * day)).toBeUndefined()
    expect(since([Number.NaN], 100 * day)).toBeUndefined()
  })

  it('asks for no more time than a certificate lives', () => {
    const short = { notBefore: 0, notAfter: day }
    const every12Hours = [100 * day, 100.5 * day, 101 * day, 101.5 * day]
    expect(since(every12Hours, 101.5 * day, short)).toBe(70.5 * day)
    expect(since(every12Hours, 101.5 * day)).toBeUndefined()
  })

  it('is compared to the newest of all deployments, endpoints and failures', () => {
    expect(lastSignOfLife(ledgerOf(target(1)))).toBe(1)
    expect(lastSignOfLife(ledgerOf(target(1, 2)))).toBe(2)
    expect(lastSignOfLife(ledgerOf(target(3, 2)))).toBe(3)
    const served = { ...ledgerOf(target(1)), endpoints: new Map([['www.example.com:443', target(4)]]) }
    expect(lastSignOfLife(served)).toBe(4)
    expect(lastSignOfLife({ targets: new Map(), endpoints: new Map() })).toBe(-Infinity)
  })
})

describe('the ledger of a node that is gone', () => {
  it('is removed by the first renewal that its node has missed by a month', async () => {
    const [one, other] = [node('one'), node('other')]
    await one.scheduler.reconcile()
    await other.scheduler.reconcile()
    await clock.advance(term)
    await one.scheduler.reconcile()
    await clock.advance(term)
    await one.scheduler.reconcile()
    expect(await ledgers()).toEqual(['www/one'])
    expect(warnings()).toEqual([])
    expect(logger.text()).toContain('ledgers of nodes that are gone removed')
  })

  it('is no loss to a node that comes back, in a new process and in one that stood still', async () => {
    const [one, other] = [node('one'), node('other')]
    await one.scheduler.reconcile()
    await other.scheduler.reconcile()
    for (let count = 0; count < 2; count += 1) {
      await clock.advance(term)
      await one.scheduler.reconcile()
    }
    expect(await ledgers()).toEqual(['www/one'])
    await other.scheduler.reconcile()
    expect(other.deployer.current?.fingerprintSha256).toBe(one.deployer.current?.fingerprintSha256)
    expect(await ledgers()).toEqual(['www/one', 'www/other'])

    await store.delete(ledgerKey('www', 'other'), operationContext({ clock }))
    const restarted = node('other')
    await restarted.scheduler.reconcile()
    expect(restarted.deployer.current?.fingerprintSha256).toBe(one.deployer.current?.fingerprintSha256)
    expect(await ledgers()).toEqual(['www/one', 'www/other'])
  })

  it('is written again by a node that was taken for gone and knows its target to be current', async () => {
    const { scheduler, deployer } = node('one')
    await scheduler.reconcile()
    await store.delete(ledgerKey('www', 'one'), operationContext({ clock }))
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([{ status: 'unchanged', deployments: [{ status: 'unchanged' }] }])
    expect(deployer.history).toHaveLength(1)
    expect(await ledgers()).toEqual(['www/one'])
    expect(await scheduler.status()).toMatchObject([{ health: 'ok' }])
  })

  it('goes with a thousand others in one pass, which reads one after the other; what is left goes in the next', async () => {
    for (let count = 0; count < 1_500; count += 1) await leaveLedger(`gone-${String(count)}`)
    const { through, counts } = observed()
    const one = node('one', { through })
    await renewed(one)
    expect(counts).toMatchObject({ lists: 1, reads: 1_000, mostUnderWay: 1 })
    expect(await ledgers()).toHaveLength(501)
    await one.scheduler.reconcile()
    expect(await ledgers()).toEqual(['www/one'])
    await one.scheduler.reconcile()
    expect(counts).toMatchObject({ lists: 1, reads: 1_500, mostUnderWay: 1 })
    expect(warnings()).toEqual([])
  })

  it('is looked for after a renewal only, and not after the first issuance', async () => {
    const { through, counts } = observed()
    const one = node('one', { through })
    await one.scheduler.reconcile()
    for (let count = 0; count < 10; count += 1) await one.scheduler.reconcile()
    expect(counts.lists).toBe(0)
    await clock.advance(term)
    const watcher = observed()
    for (let count = 0; count < 3; count += 1) {
      await one.scheduler.reconcile()
      await node('other', { through: watcher.through }).scheduler.reconcile()
    }
    expect(counts.lists).toBe(1)
    expect(watcher.counts.lists).toBe(0)
  })
})

describe('a ledger is kept', () => {
  it.each([
    ['90 days', 90 * day, 6 * hour, 400],
    ['6 days', 6 * day, 6 * hour, 100],
    ['a day, by clocks that are right', day, 3 * hour, 50],
  ])('of every node that lives, with certificates of %s', { timeout: 120_000 }, async (_, lifetimeMs, stepMs, days) => {
    issuer.lifetimeMs = lifetimeMs + 2 * day
    const skewMs = lifetimeMs > day ? day : 0
    if (skewMs === 0) issuer = await scriptedIssuer({ clock, lifetimeMs, backdateMs: hour })
    const gone = node('gone')
    await gone.scheduler.reconcile()
    const living = [node('ahead', { aheadMs: skewMs }), node('right'), node('behind', { aheadMs: -skewMs })]
    // Notices what is new at its next pass of the day, and not at once.
    const late = node('late')
    for (let at = 0, step = 0; at < days * day; at += stepMs, step += 1) {
      for (const { scheduler } of living) await scheduler.reconcile()
      if (at % day === 0) await late.scheduler.reconcile()
      if (step === 100)
        for (let count = 0; count < 6; count += 1) await living[1]?.scheduler.renew('www', { force: true })
      await clock.advance(stepMs)
      expect(await ledgers(), `day ${String(at / day)}`).toEqual(
        expect.arrayContaining(['www/ahead', 'www/right', 'www/behind', 'www/late']),
      )
    }
    expect(issuer.requests.length).toBeGreaterThan(days / (lifetimeMs / day))
    expect(await ledgers()).not.toContain('www/gone')
    expect(warnings()).toEqual([])
  })

  it('of nodes that have had no time to notice renewals in quick succession', async () => {
    const [one, other] = [node('one'), node('other')]
    await one.scheduler.reconcile()
    await other.scheduler.reconcile()
    await clock.advance(term)
    for (let count = 0; count < 4; count += 1) {
      await one.scheduler.renew('www', { force: true })
      await clock.advance(hour)
    }
    expect(issuer.requests).toHaveLength(5)
    expect(await ledgers()).toEqual(['www/one', 'www/other'])
  })

  it('of nodes that were all off for a year', async () => {
    const [one, other] = [node('one'), node('other')]
    await one.scheduler.reconcile()
    await other.scheduler.reconcile()
    await clock.advance(400 * day)
    await one.scheduler.reconcile()
    expect(issuer.requests).toHaveLength(2)
    expect(await ledgers()).toEqual(['www/one', 'www/other'])
  })

  it('when certificates live for much shorter from now on', async () => {
    issuer.lifetimeMs = 400 * day
    const [one, other] = [node('one'), node('other')]
    await one.scheduler.reconcile()
    await other.scheduler.reconcile()
    await clock.advance(300 * day)
    issuer.lifetimeMs = 8 * day
    await one.scheduler.reconcile()
    expect(issuer.requests).toHaveLength(2)
    expect(await ledgers()).toEqual(['www/one', 'www/other'])
  })

  it('when it is our own, the one of the cluster, or of another certificate', async () => {
    const kept = ['www/*', 'www/one', 'www%2Fone/gone', 'www2/gone', 'ww/gone', 'www.example.com/gone']
    for (const each of kept) {
      const [certificate = '', holder = ''] = each.split('/').map(decodeURIComponent)
      await leaveLedger(holder, certificate)
    }
    await leaveLedger('gone')
    await leaveLedger('*gone')
    await leaveLedger('one/gone')
    await renewed(node('one', { deployers: [] }))
    expect(await ledgers()).toEqual([...kept].sort())
  })

  it('when it cannot be read', async () => {
    const put = (holder: string, text: string): Promise<unknown> =>
      store.put(ledgerKey('www', holder), Buffer.from(text), operationContext({ clock }))
    await leaveLedger('gone-1')
    await put('torn', '{"schema":1,')
    await put('newer', '{"schema":99,"kind":"deployments"}')
    await put('other-kind', '{"schema":1,"kind":"renewal","targets":{},"endpoints":{}}')
    await leaveLedger('gone-2')
    await leaveLedger('gone-damaged')
    const { through } = observed((what) => {
      if (what === 'get deployments/www/gone-damaged') throw unavailable('ERR_STORE_CORRUPT')
    })
    await renewed(node('one', { through }))
    expect(await ledgers()).toEqual(['www/gone-damaged', 'www/newer', 'www/one', 'www/other-kind', 'www/torn'])
    expect(await keysOf('quarantine/')).toEqual([])
    expect(warnings()).toEqual([])
  })

  it('when its node writes meanwhile', async () => {
    for (const holder of ['gone-1', 'gone-2', 'gone-3']) await leaveLedger(holder)
    const { through } = observed(async (what) => {
      if (what === 'delete deployments/www/gone-2') await leaveLedger('gone-2', 'www', clock.now())
    })
    await renewed(node('one', { through }))
    expect(await ledgers()).toEqual(['www/gone-2', 'www/one'])
    expect(warnings()).toEqual([])
  })

  it('by nobody when another one has removed it meanwhile', async () => {
    for (const holder of ['gone-1', 'gone-2', 'gone-3']) await leaveLedger(holder)
    const { through } = observed(async (what) => {
      const [operation, key] = what.split(' ') as [string, StoreKey]
      if (operation !== 'list') await store.delete(key, operationContext({ clock }))
    })
    await renewed(node('one', { through }))
    expect(await ledgers()).toEqual(['www/one'])
    expect(warnings()).toEqual([])
  })
})

describe('a store that fails while ledgers are looked through', () => {
  it('fails no pass and delays no deployment, at every operation', async () => {
    let fired = 0
    for (let nth = 1; ; nth += 1) {
      store = memoryStore({ clock })
      logger = recordingLogger()
      start = clock.now()
      for (let count = 0; count < 4; count += 1) await leaveLedger(`gone-${String(count)}`)
      let operations = 0
      let failed: string | undefined
      const { through } = observed((what) => {
        operations += 1
        if (operations !== nth) return
        failed = what
        throw unavailable()
      })
      const one = node('one', { through })
      await renewed(one)
      expect(one.deployer.history, `operation ${String(nth)}`).toHaveLength(2)
      if (failed === undefined) break
      fired += 1
      expect(warnings(), failed).toHaveLength(1)
      // One that failed has its next chance after the next certificate, the others in the next pass.
      const { outcomes } = await one.scheduler.reconcile()
      expect(outcomes).toMatchObject([{ status: 'unchanged' }])
      const left = (await ledgers()).filter((key) => key !== 'www/one')
      expect(left, failed).toHaveLength(failed.startsWith('list') ? 4 : 1)
      await clock.advance(term)
      await one.scheduler.reconcile()
      expect(await ledgers(), failed).toEqual(['www/one'])
      expect(warnings(), failed).toHaveLength(1)
    }
    // Five keys listed, four ledgers read and deleted.
    expect(fired).toBe(13)
  })

  it.each(['list', 'get', 'delete'])(
    'and hangs at a %s is given up, after everything was deployed',
    async (operation) => {
      for (let count = 0; count < 3; count += 1) await leaveLedger(`gone-${String(count)}`)
      let hanging = 0
      const { through } = observed((what) => {
        if (!what.startsWith(operation) || hanging > 0) return undefined
        hanging += 1
        return new Promise(() => undefined)
      })
      const one = node('one', { through })
      await one.scheduler.reconcile()
      await clock.advance(term)
      const pass = one.scheduler.reconcile()
      await vi.waitFor(() => expect(hanging).toBe(1), { timeout: 50_000 })
      expect(one.deployer.history).toHaveLength(2)
      await clock.advance(30_000)
      const { outcomes } = await pass
      expect(outcomes).toMatchObject([{ status: 'renewed', deployments: [{ status: 'deployed' }] }])
      expect(warnings()).toHaveLength(1)
    },
  )

  it('lets go at once when the scheduler stops, and is looked through afterwards', async () => {
    for (let count = 0; count < 3; count += 1) await leaveLedger(`gone-${String(count)}`)
    let hanging = 0
    const { through } = observed((what) => {
      if (!what.startsWith('get') || hanging > 0) return undefined
      hanging += 1
      return new Promise(() => undefined)
    })
    const one = node('one', { through })
    await one.scheduler.reconcile()
    await clock.advance(term)
    const abort = new AbortController()
    const pass = one.scheduler.reconcile({ signal: abort.signal })
    await vi.waitFor(() => expect(hanging).toBe(1), { timeout: 50_000 })
    const reason = new Error('stopped')
    abort.abort(reason)
    await expect(pass).rejects.toBe(reason)
    await one.scheduler.reconcile()
    expect(await ledgers()).toEqual(['www/one'])
    expect(warnings()).toEqual([])
  })
})

it('keys of ledgers begin with what is listed', () => {
  expect(ledgerKey('www', '')).toBe(`${storeKey('deployments', 'www')}/`)
})
