import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Clock } from '../../../src/core/clock.js'
import { generatePrivateKey } from '../../../src/core/private-key.js'
import { CertError, DeployError, RateLimitedError, StoreError, type CertErrorCode } from '../../../src/errors.js'
import type { Deployer } from '../../../src/deployers/deployer.js'
import type { ManagedCertificate } from '../../../src/scheduler/managed-certificate.js'
import type { RenewalEventMap } from '../../../src/scheduler/events.js'
import {
  RenewalScheduler,
  type ReconcileOptions,
  type ReconcileReport,
  type RenewalSchedulerOptions,
} from '../../../src/scheduler/renewal-scheduler.js'
import {
  storeKey,
  type CertStore,
  type FoundValue,
  type StoreKey,
  type StoreLock,
} from '../../../src/stores/cert-store.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { fakeClock, type FakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { assertNoSecrets, recordingLogger, type RecordingLogger } from '../../../src/testing/recording-logger.js'
import { seededRandom } from '../../../src/testing/seeded-random.js'
import { recordingDeployer, type RecordingDeployer } from '../../support/recording-deployer.js'
import { scriptedIssuer, type ScriptedIssuer } from '../../support/scripted-issuer.js'

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

let clock: FakeClock
let store: CertStore
let issuer: ScriptedIssuer
let deployer: RecordingDeployer
let logger: RecordingLogger
let events: { name: keyof RenewalEventMap; event: Record<string, unknown> }[]

beforeEach(async () => {
  clock = fakeClock()
  store = memoryStore({ clock })
  issuer = await scriptedIssuer({ clock })
  deployer = recordingDeployer()
  logger = recordingLogger()
  events = []
})

afterEach(() => {
  assertNoSecrets(logger.entries)
  assertNoSecrets(events)
})

const eventNames: readonly (keyof RenewalEventMap)[] = [
  'certificate-issued',
  'certificate-stored',
  'certificate-deployed',
  'certificate-served',
  'renewal-planned',
  'issuance-failed',
  'deployment-failed',
  'verification-failed',
  'expiry-imminent',
  'record-quarantined',
  'pass-failed',
]

function certificate(change: Partial<ManagedCertificate> = {}): ManagedCertificate {
  return { name: 'www', identifiers: ['www.example.com'], issuers: [issuer], deployers: [deployer], ...change }
}

function schedulerFor(
  certificates: readonly ManagedCertificate[] = [certificate()],
  options: Partial<RenewalSchedulerOptions> = {},
): RenewalScheduler {
  const scheduler = new RenewalScheduler({
    store,
    certificates,
    clock,
    random: seededRandom(1),
    logger,
    node: 'test',
    ...options,
  })
  for (const name of eventNames) scheduler.on(name, (event: Record<string, unknown>) => events.push({ name, event }))
  return scheduler
}

const names = (): string[] => events.map(({ name }) => name)
const eventsOf = (name: keyof RenewalEventMap): Record<string, unknown>[] =>
  events.filter((entry) => entry.name === name).map(({ event }) => event)

describe('one pass', () => {
  it('issues, stores and deploys, in this order, and says so', async () => {
    const { outcomes } = await schedulerFor().reconcile()
    expect(names()).toEqual(['certificate-issued', 'certificate-stored', 'renewal-planned', 'certificate-deployed'])
    expect(outcomes).toMatchObject([
      {
        certificate: 'www',
        status: 'renewed',
        reason: 'absent',
        deployments: [{ deployer: 'recording', status: 'deployed' }],
      },
    ])
    expect(deployer.current?.identifiers).toEqual([{ type: 'dns', value: 'www.example.com' }])
    expect(deployer.current?.placeholder).toBe(false)
  })

  it('does nothing when nothing is due, in the same process and after a restart', async () => {
    const first = schedulerFor()
    await first.reconcile()
    const again = await first.reconcile()
    expect(again.outcomes).toMatchObject([{ status: 'unchanged', deployments: [{ status: 'unchanged' }] }])
    expect(deployer.calls).toBe(1)
    const restarted = await schedulerFor().reconcile()
    expect(restarted.outcomes).toMatchObject([{ status: 'unchanged' }])
    expect(issuer.requests).toHaveLength(1)
    // A new process cannot know what the target serves: it asks the deployer once.
    expect(deployer.calls).toBe(2)
  })

  it('brings a stored certificate back to a target that lost it, without an order', async () => {
    await schedulerFor().reconcile()
    deployer.wipe()
    const { outcomes } = await schedulerFor().reconcile()
    expect(outcomes).toMatchObject([{ status: 'redeployed' }])
    expect(issuer.requests).toHaveLength(1)
  })

  it('looks in every pass, once a day at least, at a target that depends on more than the certificate', async () => {
    const usual = recordingDeployer('usual')
    const trusting: RecordingDeployer = Object.assign(recordingDeployer('trusting'), { everyPass: true })
    await using scheduler = schedulerFor([certificate({ deployers: [usual, trusting] })])
    scheduler.start()
    await vi.waitFor(() => expect([usual.calls, trusting.calls]).toEqual([1, 1]), { timeout: 50_000 })
    // The roots have changed, say.
    trusting.wipe()
    await clock.advance(day)
    await vi.waitFor(() => expect(trusting.history).toHaveLength(2), { timeout: 50_000 })
    expect(usual.calls).toBe(1)
    expect(issuer.requests).toHaveLength(1)
    expect(eventsOf('certificate-deployed').map((event) => event['deployer'])).toEqual([
      'usual',
      'trusting',
      'trusting',
    ])
  })

  it('renews when the drawn instant comes, names what it replaces, and makes a new key', async () => {
    const scheduler = schedulerFor()
    const { nextRunAt } = await scheduler.reconcile()
    const [planned] = eventsOf('renewal-planned')
    const due = planned?.['at'] as Date
    expect(due.getTime() - clock.now()).toBeGreaterThan(57 * day)
    expect(due.getTime() - clock.now()).toBeLessThan(60 * day)
    // This CA offers no window now; it is asked again within the day.
    expect(nextRunAt.getTime()).toBeLessThan(clock.now() + day)
    await clock.setTime(due.getTime() - 1)
    await scheduler.reconcile()
    expect(issuer.requests).toHaveLength(1)
    await clock.setTime(due)
    await scheduler.reconcile()
    expect(issuer.requests).toHaveLength(2)
    expect(issuer.requests[1]?.replaces?.value).toMatch(/^[\w-]+\.[\w-]+$/)
    const [one, other] = deployer.history
    expect(one?.privateKey.exportPem()).not.toBe(other?.privateKey.exportPem())
  })

  it('keeps the key when told to, and still gets a new certificate', async () => {
    const scheduler = schedulerFor([certificate({ reuseKey: true })])
    await scheduler.reconcile()
    await scheduler.renew('www', { force: true })
    const [one, other] = deployer.history
    expect(one?.privateKey.exportPem()).toBe(other?.privateKey.exportPem())
    expect(one?.fingerprintSha256).not.toBe(other?.fingerprintSha256)
    expect(issuer.requests[0]?.idempotencyKey).not.toBe(issuer.requests[1]?.idempotencyKey)
  })

  it('follows the window of the CA when it moves', async () => {
    const start = clock.now()
    let window = { windowStart: new Date(start + 50 * day), windowEnd: new Date(start + 51 * day) }
    issuer.window = () => ({ ...window, retryAt: new Date(clock.now() + 6 * hour) })
    const scheduler = schedulerFor()
    await scheduler.reconcile()
    await clock.advance(10 * day)
    window = { windowStart: new Date(start + 9 * day), windowEnd: new Date(start + 9.5 * day) }
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([{ status: 'renewed', reason: 'renewal-info' }])
  })

  it.each([
    ['names', { identifiers: ['www.example.com', 'example.com'] }, 'identifiers-changed'],
    ['key type', { key: 'ecdsa-p384' }, 'key-changed'],
    ['profile', { profile: 'shortlived' }, 'profile-changed'],
  ] satisfies [string, Partial<ManagedCertificate>, string][])(
    'renews when other %s are wanted',
    async (_, change, reason) => {
      await schedulerFor().reconcile()
      const { outcomes } = await schedulerFor([certificate(change)]).reconcile()
      expect(outcomes).toMatchObject([{ status: 'renewed', reason }])
      const settled = await schedulerFor([certificate(change)]).reconcile()
      expect(settled.outcomes).toMatchObject([{ status: 'unchanged' }])
    },
  )

  it('does not order anew for the same names in another order and case', async () => {
    await schedulerFor([certificate({ identifiers: ['b.example', 'a.example'] })]).reconcile()
    await schedulerFor([certificate({ identifiers: ['A.example', 'b.example.', 'a.example'] })]).reconcile()
    expect(issuer.requests).toHaveLength(1)
  })
})

describe('failures of an issuer', () => {
  it('are remembered over restarts: a process in a crash loop sends not one request more', async () => {
    issuer.onIssue = () => {
      throw new CertError({ code: 'ERR_ACME_PROBLEM', message: 'no', retryable: true })
    }
    const start = clock.now()
    for (let restart = 0; restart < 300; restart += 1) {
      await schedulerFor().reconcile()
      await clock.advance(20_000)
    }
    // 100 minutes hold the attempts at 0, 1 and 11 minutes.
    expect(clock.now() - start).toBe(100 * minute)
    expect(issuer.requests).toHaveLength(3)
    expect(new Set(issuer.requests.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1)
  })

  it('of an earlier process are named in the log, once, while they are waited out', async () => {
    issuer.onIssue = () => {
      throw new CertError({ code: 'ERR_ACME_PROBLEM', message: 'contact is invalid', retryable: false })
    }
    const waits = () => logger.entries.filter(({ message }) => message === 'issuance waits')
    const first = schedulerFor()
    const { outcomes } = await first.reconcile()
    await clock.advance(minute)
    await first.reconcile()
    expect(waits()).toEqual([])
    const restarted = schedulerFor()
    await restarted.reconcile()
    await clock.advance(minute)
    await restarted.reconcile()
    expect(waits()).toMatchObject([
      {
        level: 'warn',
        fields: {
          certificate: 'www',
          reason: 'absent',
          because: 'backoff',
          nextAttemptAt: outcomes[0]?.nextRunAt,
          failures: [{ issuer: issuer.id, code: 'ERR_ACME_PROBLEM', message: 'contact is invalid' }],
        },
      },
    ])
    expect(issuer.requests).toHaveLength(1)
  })

  it('that wait for a person are not waited for with other settings, and with the same ones they are', async () => {
    const refuse = (code: 'ERR_ACME_PROBLEM' | 'ERR_ACME_AUTHORIZATION_FAILED') => () => {
      throw new CertError({ code, message: 'refused', retryable: code !== 'ERR_ACME_PROBLEM' })
    }
    const withSettings = (settingsDigest: string, more: Partial<ManagedCertificate> = {}) =>
      schedulerFor([certificate({ issuers: [{ ...issuer, settingsDigest }], ...more })])
    issuer.onIssue = refuse('ERR_ACME_PROBLEM')
    await withSettings('one').reconcile()
    await withSettings('one').reconcile()
    expect(issuer.requests).toHaveLength(1)
    await withSettings('two').reconcile()
    expect(issuer.requests).toHaveLength(2)
    await withSettings('two', { profile: 'shortlived' }).reconcile()
    expect(issuer.requests).toHaveLength(3)
    issuer.onIssue = refuse('ERR_ACME_AUTHORIZATION_FAILED')
    await withSettings('three').reconcile()
    await withSettings('four').reconcile()
    expect(issuer.requests, 'what costs quota is waited for all the same').toHaveLength(4)
  })

  it('obey Retry-After to the millisecond', async () => {
    const retryAt = new Date(clock.now() + 34 * hour)
    issuer.onIssue = () => {
      throw new RateLimitedError({ message: 'too many', retryAt })
    }
    const scheduler = schedulerFor()
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([{ status: 'failed', reason: 'absent', nextRunAt: retryAt }])
    await clock.setTime(retryAt.getTime() - 1)
    await scheduler.reconcile()
    await scheduler.renew('www', { force: true })
    expect(issuer.requests).toHaveLength(1)
    await clock.setTime(retryAt)
    await scheduler.reconcile()
    expect(issuer.requests).toHaveLength(2)
  })

  it('lead to the next issuer in the same pass, and back to the first at the next renewal', async () => {
    const second = await scriptedIssuer({ clock, id: 'second' })
    issuer.onIssue = () => {
      throw new CertError({ code: 'ERR_HTTP_NETWORK', message: 'away', retryable: true })
    }
    const scheduler = schedulerFor([certificate({ issuers: [issuer, second] })])
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([{ status: 'renewed' }])
    expect(eventsOf('certificate-issued')).toMatchObject([{ issuer: 'second' }])
    issuer.onIssue = () => undefined
    await clock.advance(hour)
    await scheduler.reconcile()
    // The first CA is back, but there is no need: no flip-flop.
    expect(issuer.requests).toHaveLength(1)
    await clock.advance(60 * day)
    await scheduler.reconcile()
    expect(eventsOf('certificate-issued').at(-1)).toMatchObject({ issuer: 'scripted' })
    // The first CA does not know the certificate of the second.
    expect(issuer.requests.at(-1)?.replaces).toBeUndefined()
  })

  it('report every issuer when all of them fail', async () => {
    const second = await scriptedIssuer({ clock, id: 'second' })
    for (const one of [issuer, second]) {
      one.onIssue = () => {
        throw new CertError({ code: 'ERR_HTTP_NETWORK', message: `${one.id} is away`, retryable: true })
      }
    }
    const { outcomes } = await schedulerFor([certificate({ issuers: [issuer, second] })]).reconcile()
    expect(outcomes).toMatchObject([
      {
        status: 'failed',
        error: { code: 'ERR_ISSUERS_FAILED', message: expect.stringContaining('second is away') as string },
      },
    ])
    expect(eventsOf('issuance-failed')).toHaveLength(2)
  })

  it.each<[string, (pem: string) => string, CertErrorCode]>([
    ['an HTML page', () => '<html><body>502 Bad Gateway</body></html>', 'ERR_CERT_INVALID'],
    ['nothing', () => '', 'ERR_CERT_INVALID'],
    ['a truncated chain', (pem) => pem.slice(0, pem.indexOf('-----END') + 25), 'ERR_CERT_CHAIN'],
    ['half a certificate', (pem) => pem.slice(0, 200), 'ERR_CERT_INVALID'],
  ])('refuse %s with status 200, and the old certificate keeps serving', async (_, tamper, code) => {
    const scheduler = schedulerFor()
    await scheduler.reconcile()
    const before = deployer.current
    issuer.tamper = tamper
    const outcome = await scheduler.renew('www', { force: true })
    expect(outcome).toMatchObject({ status: 'failed', error: { code } })
    expect(deployer.current).toBe(before)
    expect(deployer.history).toHaveLength(1)
    expect(await scheduler.status()).toMatchObject([
      { health: 'degraded', fingerprintSha256: before?.fingerprintSha256 },
    ])
  })

  it('refuse a certificate with other names, another key, or from the past', async () => {
    const other = await scriptedIssuer({ clock, id: 'other' })
    const strange = new Map<string, (request: Parameters<ScriptedIssuer['issue']>[0]) => Promise<string>>([
      [
        'ERR_CERT_NAME_MISMATCH',
        (request) => wrong(request, { identifiers: [{ type: 'dns', value: 'evil.example' }] }),
      ],
      ['ERR_CERT_KEY_MISMATCH', () => Promise.resolve(other.rootPem)],
      [
        'ERR_CERT_EXPIRED',
        (request) => {
          other.lifetimeMs = minute
          return wrong(request, {})
        },
      ],
    ])
    const wrong = async (
      request: Parameters<ScriptedIssuer['issue']>[0],
      change: Partial<Parameters<ScriptedIssuer['issue']>[0]>,
    ): Promise<string> => {
      const context = { ...operationContext({ clock }), store, random: seededRandom(1) }
      return (await other.issue({ ...request, ...change, idempotencyKey: `${request.idempotencyKey}!` }, context))
        .chainPem
    }
    for (const [code, tamper] of strange) {
      store = memoryStore({ clock })
      issuer.tamper = (_, request) => tamper(request)
      const { outcomes } = await schedulerFor().reconcile()
      expect(outcomes).toMatchObject([{ status: 'failed', error: { code } }])
    }
    expect(deployer.history).toHaveLength(0)
  })

  it('do not take the same wrong certificate from the same order for ever', async () => {
    issuer.tamper = () => '<html>'
    const scheduler = schedulerFor()
    for (let attempt = 0; attempt < 3; attempt += 1) await scheduler.renew('www', { force: true })
    const keys = issuer.requests.map(({ idempotencyKey }) => idempotencyKey)
    expect(keys[0]).toBe(keys[1])
    expect(keys[2]).not.toBe(keys[1])
  })

  it('end when the issuer hangs', async () => {
    issuer.onIssue = () => new Promise(() => undefined)
    const scheduler = schedulerFor([certificate()], { issuanceTimeoutMs: hour })
    const pass = scheduler.reconcile()
    await vi.waitUntil(() => issuer.requests.length === 1, { timeout: 50_000 })
    await clock.advance(hour)
    // It may still clean up; then it is left alone.
    await vi.waitUntil(() => clock.sleeping > 0, { timeout: 50_000 })
    await clock.advance(minute)
    expect((await pass).outcomes).toMatchObject([{ status: 'failed', error: { code: 'ERR_PLUGIN_FAILED' } }])
  })
})

describe('failures of a deployer', () => {
  it('are retried by themselves and never lead to a new order', async () => {
    let broken = true
    deployer.onDeploy = () => {
      if (broken) throw new DeployError({ code: 'ERR_DEPLOY_UNAVAILABLE', message: 'no route', deployer: 'recording' })
    }
    const scheduler = schedulerFor()
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([{ status: 'failed', deployments: [{ status: 'failed' }] }])
    expect(names()).toContain('certificate-stored')
    for (let tries = 0; tries < 50; tries += 1) {
      await clock.advance(hour)
      await scheduler.reconcile()
    }
    broken = false
    await clock.advance(2 * hour)
    await scheduler.reconcile()
    expect(deployer.history).toHaveLength(1)
    expect(issuer.requests).toHaveLength(1)
    expect(await scheduler.status()).toMatchObject([{ health: 'ok', deployments: [{ state: 'current' }] }])
  })

  it('stop no other deployer, and a target that comes back gets only the newest certificate', async () => {
    const other = recordingDeployer('other')
    deployer.onDeploy = () => {
      throw new Error('socket hang up')
    }
    const scheduler = schedulerFor([certificate({ deployers: [deployer, other] })])
    await scheduler.reconcile()
    expect(other.history).toHaveLength(1)
    expect(eventsOf('deployment-failed')).toMatchObject([{ error: { code: 'ERR_PLUGIN_FAILED' }, attempt: 1 }])
    await scheduler.renew('www', { force: true })
    deployer.onDeploy = () => undefined
    await clock.advance(2 * hour)
    await scheduler.reconcile()
    expect(deployer.history.map(({ fingerprintSha256 }) => fingerprintSha256)).toEqual([
      other.current?.fingerprintSha256,
    ])
  })

  it('wait between attempts also over restarts', async () => {
    deployer.onDeploy = () => {
      throw new Error('no')
    }
    for (let restart = 0; restart < 30; restart += 1) {
      await schedulerFor().reconcile()
      await clock.advance(1000)
    }
    expect(deployer.calls).toBe(2)
  })
})

describe('a process that was paused between storing and deploying', () => {
  it('does not deploy its old certificate over the newer one of another process', async () => {
    const awake = schedulerFor()
    let paused = false
    const sleepy: CertStore = {
      ...store,
      // The last look before a deployment: here it sleeps, and the other process renews and deploys.
      async get(key, context) {
        if (key === storeKey('deployments', 'www', 'test') && !paused && eventsOf('certificate-stored').length === 1) {
          paused = true
          await awake.renew('www', { force: true })
        }
        return store.get(key, context)
      },
    }
    await schedulerFor([certificate()], { store: sleepy }).reconcile()
    expect(paused).toBe(true)
    expect(issuer.requests).toHaveLength(2)
    expect(deployer.history).toHaveLength(1)
    expect(deployer.current?.certificatePem).toBe(firstCertificate([...issuer.issued.values()].at(-1)))
  })
})

function firstCertificate(pem: string | undefined): string | undefined {
  return pem?.slice(0, pem.indexOf('-----END CERTIFICATE-----') + 26)
}

describe('a clock that was wrong', () => {
  it('does not keep failures from the future: neither of issuers, nor of targets', async () => {
    await schedulerFor().reconcile()
    await clock.setTime(clock.now() + 400 * day)
    issuer.onIssue = () => {
      throw new RateLimitedError({ message: 'later', retryAt: new Date(clock.now() + 7 * day) })
    }
    const other = recordingDeployer('other')
    other.onDeploy = () => {
      throw new Error('away')
    }
    const wrong = schedulerFor([certificate({ deployers: [deployer, other] })])
    await wrong.reconcile()
    expect(eventsOf('issuance-failed')).toHaveLength(1)
    expect(eventsOf('deployment-failed')).toHaveLength(1)

    await clock.setTime(clock.now() - 340 * day)
    issuer.onIssue = () => undefined
    other.onDeploy = () => undefined
    const { outcomes } = await schedulerFor([certificate({ deployers: [deployer, other] })]).reconcile()
    expect(outcomes).toMatchObject([{ status: 'renewed' }])
    expect(other.history).toHaveLength(1)
  })

  it('is noticed within a minute by the running scheduler when it steps back', async () => {
    clock = fakeClock({ now: Date.UTC(2027, 5, 1) })
    store = memoryStore({ clock })
    issuer = await scriptedIssuer({ clock })
    issuer.onIssue = () => {
      throw new Error('away')
    }
    const scheduler = schedulerFor()
    scheduler.start()
    await vi.waitUntil(() => eventsOf('issuance-failed').length === 1 && clock.sleeping > 0, { timeout: 50_000 })
    await clock.setTime(clock.now() - 300 * day)
    issuer = await scriptedIssuer({ clock })
    await clock.advance(minute)
    await vi.waitUntil(() => eventsOf('issuance-failed').length === 2, { timeout: 50_000 })
    await scheduler.stop()
  })
})

describe('what plug-ins get wrong', () => {
  it('an instant that is none does not make the scheduler forget, or order without end', async () => {
    const invalid = new Date('garbage')
    issuer.onIssue = () => {
      throw new RateLimitedError({ message: 'later', retryAt: invalid })
    }
    deployer.onDeploy = () => {
      throw new DeployError({ code: 'ERR_DEPLOY_UNAVAILABLE', message: 'x', deployer: 'd', retryAt: invalid })
    }
    const { outcomes } = await schedulerFor().reconcile()
    expect(outcomes[0]?.nextRunAt.getTime()).toBeGreaterThan(clock.now())
    await schedulerFor().reconcile()
    expect(issuer.requests).toHaveLength(1)
    expect(eventsOf('record-quarantined')).toHaveLength(0)
    issuer.onIssue = () => undefined
    await clock.advance(2 * hour)
    const later = await schedulerFor().reconcile()
    expect(later.outcomes[0]?.nextRunAt.getTime()).toBeGreaterThan(clock.now())
  })

  it('renewal information without dates is no answer', async () => {
    issuer.window = () => ({ windowStart: clock.now() }) as never
    const { outcomes } = await schedulerFor().reconcile()
    expect(outcomes).toMatchObject([{ status: 'renewed' }])
    expect(deployer.history).toHaveLength(1)
    expect(eventsOf('renewal-planned')).toMatchObject([{ source: 'lifetime' }])
  })

  it('an issuer that still cleans up holds the lock until it has', async () => {
    let cleaned = false
    issuer.onIssue = (_, { signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          setImmediate(() => {
            cleaned = true
            reject(signal.reason as Error)
          })
        })
      })
    const controller = new AbortController()
    const pass = schedulerFor().reconcile({ signal: controller.signal })
    await vi.waitUntil(() => issuer.requests.length === 1, { timeout: 50_000 })
    controller.abort(new Error('enough'))
    await expect(pass).rejects.toThrow('enough')
    expect(cleaned).toBe(true)
  })
})

describe('an expired certificate whose renewal must wait', () => {
  it.each([
    ['and the CA is not asked about it any more', (): ManagedCertificate => certificate()],
    ['and its issuer is not configured any more', (): ManagedCertificate => certificate({ issuers: [never()] })],
  ])('does not keep the scheduler busy: %s', async (_, changed) => {
    issuer.window = () => ({
      windowStart: new Date(clock.now() + 80 * day),
      windowEnd: new Date(clock.now() + 81 * day),
      retryAt: new Date(clock.now() + hour),
    })
    await schedulerFor().reconcile()
    issuer.onIssue = () => {
      throw new Error('away')
    }
    await clock.advance(100 * day)
    const scheduler = schedulerFor([changed()])
    for (let pass = 0; pass < 3; pass += 1) {
      const { outcomes } = await scheduler.reconcile()
      expect(outcomes[0]?.nextRunAt.getTime()).toBeGreaterThan(clock.now() + 1000)
    }
  })

  function never(): ScriptedIssuer {
    return {
      ...issuer,
      id: 'another',
      issue: () => Promise.reject(new Error('away')),
    }
  }
})

describe('the guard against renewing too often', () => {
  it('does not hold up what the operator changes', async () => {
    await schedulerFor().reconcile()
    for (const identifiers of [['a.example'], ['b.example'], ['c.example']]) {
      const { outcomes } = await schedulerFor([certificate({ identifiers })]).reconcile()
      expect(outcomes).toMatchObject([{ status: 'renewed', reason: 'identifiers-changed' }])
    }
  })
})

describe('placeholder', () => {
  it('is deployed before the first issuance, marked, and gives way at once', async () => {
    const scheduler = schedulerFor([certificate({ placeholder: true })])
    await scheduler.reconcile()
    expect(deployer.history.map(({ placeholder }) => placeholder)).toEqual([true, false])
    expect(eventsOf('certificate-deployed').map(({ placeholder }) => placeholder)).toEqual([true, false])
  })

  it('stays while issuing fails, is not made anew by a restart, and is no certificate to anyone who asks', async () => {
    issuer.onIssue = () => {
      throw new Error('CA away')
    }
    await schedulerFor([certificate({ placeholder: true })]).reconcile()
    const scheduler = schedulerFor([certificate({ placeholder: true })])
    await scheduler.reconcile()
    expect(deployer.history).toHaveLength(1)
    expect(await scheduler.status()).toMatchObject([{ health: 'failing', notAfter: undefined }])
  })

  it('never replaces a real certificate, also when the store was lost', async () => {
    await schedulerFor().reconcile()
    const real = deployer.current
    store = memoryStore({ clock })
    issuer.onIssue = () => {
      throw new Error('CA away')
    }
    await schedulerFor([certificate({ placeholder: true })]).reconcile()
    expect(deployer.current).toBe(real)
  })

  it('does not go to a deployer that cannot tell what is there', async () => {
    const blind = recordingDeployer('blind')
    Reflect.deleteProperty(blind, 'inspect')
    issuer.onIssue = () => {
      throw new Error('CA away')
    }
    await schedulerFor([certificate({ placeholder: true, deployers: [blind] })]).reconcile()
    expect(blind.calls).toBe(0)
  })
})

describe('endpoints', () => {
  let server: Server
  let port: number

  const listen = async (): Promise<void> => {
    server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    port = (server.address() as AddressInfo).port
  }
  const serve = (pem: { fullChainPem: string; privateKey: { exportPem(): string } }): void => {
    server.setSecureContext({ cert: pem.fullChainPem, key: pem.privateKey.exportPem() })
  }
  beforeEach(listen)
  afterEach(() => server.close())

  const endpoints = (): ManagedCertificate['endpoints'] => [{ host: '127.0.0.1', port, servername: 'www.example.com' }]

  it('are announced as served only after a handshake showed exactly this leaf', async () => {
    deployer.onDeploy = serve
    const { outcomes } = await schedulerFor([certificate({ endpoints: endpoints() })]).reconcile()
    expect(outcomes).toMatchObject([{ status: 'renewed', endpoints: [{ status: 'served' }] }])
    expect(eventsOf('certificate-served')).toMatchObject([
      { addresses: ['127.0.0.1'], fingerprintSha256: deployer.current?.fingerprintSha256 },
    ])
  })

  it('that still serve another certificate are a failure, looked at again, and deployed to again', async () => {
    clock = fakeClock({ autoAdvance: true })
    store = memoryStore({ clock })
    const old = await scriptedIssuer({ clock, id: 'old' })
    const stale = recordingDeployer('stale')
    await schedulerFor([certificate({ name: 'old', issuers: [old], deployers: [stale] })]).reconcile()
    if (stale.current) serve(stale.current)
    issuer = await scriptedIssuer({ clock })
    const scheduler = schedulerFor([certificate({ endpoints: endpoints() })])
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([
      { status: 'failed', endpoints: [{ status: 'failed', error: { code: 'ERR_DEPLOY_VERIFY_FAILED' } }] },
    ])
    expect(eventsOf('certificate-served')).toHaveLength(0)
    if (deployer.current) serve(deployer.current)
    const calls = deployer.calls
    await clock.advance(minute)
    await scheduler.reconcile()
    expect(eventsOf('certificate-served')).toHaveLength(1)
    expect(deployer.calls).toBe(calls + 1)
    expect(issuer.requests).toHaveLength(1)
  })

  it('are asked on every address, and one that fails is named', async () => {
    clock = fakeClock({ autoAdvance: true })
    store = memoryStore({ clock })
    issuer = await scriptedIssuer({ clock })
    deployer.onDeploy = serve
    const resolve = (): Promise<string[]> => Promise.resolve(['127.0.0.1', '127.0.0.2'])
    const scheduler = schedulerFor([certificate({ endpoints: [{ host: 'www.example.com', port }] })], { resolve })
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([{ endpoints: [{ status: 'failed' }] }])
    const [failure] = eventsOf('verification-failed')
    expect(failure?.['error']).toMatchObject({ message: expect.stringContaining('127.0.0.2: ECONNREFUSED') as string })
    expect(failure?.['error']).toMatchObject({ message: expect.stringContaining('127.0.0.1 shows it') as string })
  })
})

describe('the store', () => {
  it('that is away starts no order, and the pass is tried again', async () => {
    const broken: CertStore = {
      ...store,
      put: () => Promise.reject(new StoreError({ code: 'ERR_STORE_UNAVAILABLE', message: 'disk full', store: 'x' })),
    }
    const scheduler = schedulerFor([certificate()], { store: broken })
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([{ status: 'failed', error: { code: 'ERR_STORE_UNAVAILABLE' } }])
    expect(issuer.requests).toHaveLength(0)
  })

  it.each(['certificates', 'renewals', 'deployments'] as const)(
    'with a damaged record under %s sets a copy aside, says so, and does not loop',
    async (space) => {
      await schedulerFor().reconcile()
      const context = operationContext({ clock })
      const key = space === 'deployments' ? storeKey(space, 'www', 'test') : storeKey(space, 'www')
      const damage = Buffer.from('{"schema":1,"kind":"certif')
      await store.put(key, damage, context)
      const scheduler = schedulerFor()
      await scheduler.reconcile()
      await scheduler.reconcile()
      const [event] = eventsOf('record-quarantined')
      expect(event).toMatchObject({ key })
      const copy = await store.get(event?.['copiedTo'] as Parameters<CertStore['get']>[0], context)
      expect(Buffer.from(copy?.value ?? [])).toEqual(damage)
      expect(eventsOf('record-quarantined')).toHaveLength(1)
      expect(issuer.requests).toHaveLength(space === 'certificates' ? 2 : 1)
      expect(await scheduler.status()).toMatchObject([{ health: 'ok' }])
    },
  )

  it('with a damaged record and no bytes to copy keeps what it has, and the pass fails', async () => {
    await schedulerFor().reconcile()
    const deleted: string[] = []
    const blind: CertStore = {
      ...store,
      get: (key, context) =>
        key.startsWith('certificates/')
          ? Promise.reject(new StoreError({ code: 'ERR_STORE_CORRUPT', message: 'checksum', store: 'blind', key }))
          : store.get(key, context),
      delete(key, context, options) {
        deleted.push(key)
        return store.delete(key, context, options)
      },
    }
    const { outcomes } = await schedulerFor([certificate()], { store: blind }).reconcile()
    expect(outcomes).toMatchObject([{ status: 'failed', error: { code: 'ERR_STORE_CORRUPT' } }])
    expect(deleted).toEqual([])
    expect(eventsOf('pass-failed')).toHaveLength(1)
  })

  it('with a record whose key is not that of its certificate sets it aside and issues anew', async () => {
    await schedulerFor().reconcile()
    const context = operationContext({ clock })
    const key = storeKey('certificates', 'www')
    const stored = await store.get(key, context)
    const fields = JSON.parse(Buffer.from(stored?.value ?? []).toString()) as Record<string, unknown>
    const foreign = await generatePrivateKey()
    await store.put(key, Buffer.from(JSON.stringify({ ...fields, privateKeyPem: foreign.exportPem() })), context)
    const scheduler = schedulerFor()
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([{ status: 'renewed', reason: 'absent' }])
    expect(eventsOf('record-quarantined')).toHaveLength(1)
    expect(await scheduler.status()).toMatchObject([{ health: 'ok' }])
  })

  it('that fails around an issuance is announced and waited for, not asked every few seconds', async () => {
    const failing: CertStore = {
      ...store,
      lock: () => Promise.reject(new StoreError({ code: 'ERR_STORE_UNAVAILABLE', message: 'no lock', store: 'x' })),
    }
    const scheduler = schedulerFor([certificate()], { store: failing })
    for (let elapsed = 0; elapsed < hour; elapsed += 5_000) {
      const [status] = await scheduler.status()
      if (status !== undefined && events.length < 50) {
        const last = eventsOf('pass-failed').at(-1)?.['nextAttemptAt'] as Date | undefined
        if (last === undefined || last.getTime() <= clock.now()) await scheduler.reconcile()
      }
      await clock.advance(5_000)
    }
    const failures = eventsOf('pass-failed')
    expect(failures.length).toBeGreaterThan(4)
    expect(failures.length).toBeLessThan(10)
    expect(logger.entries.filter(({ message }) => message === 'pass failed')).toHaveLength(failures.length)
  })

  it('that hangs fails the pass and gives the slot back', async () => {
    let hanging = true
    const slow: CertStore = {
      ...store,
      get: (key, context) => (hanging ? new Promise(() => undefined) : store.get(key, context)),
    }
    const scheduler = schedulerFor([certificate()], { store: slow, concurrency: 1 })
    const pass = scheduler.reconcile()
    await vi.waitUntil(() => clock.sleeping > 0, { timeout: 50_000 })
    await clock.advance(minute)
    expect((await pass).outcomes).toMatchObject([{ status: 'failed', error: { code: 'ERR_STORE_UNAVAILABLE' } }])
    hanging = false
    await clock.advance(minute)
    expect((await scheduler.reconcile()).outcomes).toMatchObject([{ status: 'renewed' }])
  })

  it('written by a newer evercert is left alone', async () => {
    await schedulerFor().reconcile()
    const context = operationContext({ clock })
    const key = storeKey('certificates', 'www')
    const newer = Buffer.from('{"schema":2,"kind":"certificate"}')
    await store.put(key, newer, context)
    const { outcomes } = await schedulerFor().reconcile()
    expect(outcomes).toMatchObject([{ status: 'failed', error: { code: 'ERR_STORE_SCHEMA' } }])
    expect(Buffer.from((await store.get(key, context))?.value ?? [])).toEqual(newer)
    expect(issuer.requests).toHaveLength(1)
  })

  it('shared by several processes leads to one order', async () => {
    const replicas = Array.from({ length: 5 }, (_, index) => {
      const own = recordingDeployer()
      return { own, scheduler: schedulerFor([certificate({ deployers: [own] })], { node: `node-${String(index)}` }) }
    })
    const once = { waitForOthers: false }
    const reports = await Promise.all(replicas.map(({ scheduler }) => scheduler.reconcile(once)))
    expect(issuer.requests).toHaveLength(1)
    expect(reports.map(({ outcomes }) => outcomes[0]?.status).sort()).toEqual([
      'busy',
      'busy',
      'busy',
      'busy',
      'renewed',
    ])
    await clock.advance(15_000)
    await Promise.all(replicas.map(({ scheduler }) => scheduler.reconcile()))
    const deployed = new Set(replicas.map(({ own }) => own.current?.fingerprintSha256))
    expect(deployed.size).toBe(1)
    expect(deployed.has(undefined)).toBe(false)
    expect(issuer.requests).toHaveLength(1)
  })
})

it('a store that cannot be read for a moment is not held against a target', async () => {
  await schedulerFor().reconcile()
  let fired = 0
  for (let nth = 1; ; nth += 1) {
    let reads = 0
    const failing: CertStore = {
      ...store,
      get: (...args) => {
        reads += 1
        if (reads !== nth) return store.get(...args)
        return Promise.reject(new StoreError({ code: 'ERR_STORE_UNAVAILABLE', message: 'away', store: 'memory' }))
      },
    }
    const fresh = recordingDeployer('fresh')
    const scheduler = schedulerFor([certificate({ deployers: [fresh] })], { store: failing, node: `node-${nth}` })
    const report = await scheduler.reconcile()
    if (reads < nth) {
      expect(report.outcomes).toMatchObject([{ deployments: [{ status: 'deployed' }] }])
      break
    }
    fired += 1
    expect(eventsOf('deployment-failed'), `read ${nth}`).toEqual([])
    await clock.advance(minute)
    await scheduler.reconcile()
    expect(fresh.current, `read ${nth}`).toBeDefined()
  }
  expect(fired).toBeGreaterThan(3)
})

describe('a process that works once', () => {
  const lockTtlMs = 60_000

  /** Somebody else's lock: of a process that lives, or of one that is gone. */
  async function held(key: string, holderClock: FakeClock): Promise<StoreLock> {
    const lock = await store.lock!(key, operationContext({ clock: holderClock }), { ttlMs: lockTtlMs })
    return lock!
  }

  /** `waitedMs`: from the first refusal of each lock until it was given. */
  async function reconciled(
    options: ReconcileOptions = {},
  ): Promise<{ report: ReconcileReport; waitedMs: ReadonlyMap<string, number>; tookMs: number }> {
    const refusedAt = new Map<string, number>()
    const waitedMs = new Map<string, number>()
    const watched: CertStore = {
      ...store,
      async lock(...args) {
        const lock = await store.lock!(...args)
        const [name] = args
        if (lock === undefined) refusedAt.set(name, refusedAt.get(name) ?? clock.now())
        else waitedMs.set(name, clock.now() - (refusedAt.get(name) ?? clock.now()))
        return lock
      },
    }
    const cluster: RecordingDeployer = Object.assign(recordingDeployer('cluster'), { scope: 'cluster' as const })
    const startedAt = clock.now()
    let report: ReconcileReport | undefined
    void schedulerFor([certificate({ deployers: [cluster] })], { lockTtlMs, store: watched })
      .reconcile(options)
      .then((made) => (report = made))
    for (;;) {
      await vi.waitUntil(() => report !== undefined || clock.sleeping > 0, { interval: 1, timeout: 50_000 })
      if (report !== undefined) return { report, waitedMs, tookMs: clock.now() - startedAt }
      await clock.advance(500)
    }
  }

  beforeEach(() => {
    store = memoryStore()
  })

  it.each(['certificates/www', 'deployments/www/*'])('replaces one that died while it held %s', async (key) => {
    await held(key, fakeClock())
    const { report, waitedMs } = await reconciled()
    expect(report.outcomes).toMatchObject([{ deployments: [{ status: 'deployed' }] }])
    expect(issuer.requests).toHaveLength(1)
    expect(waitedMs.get(key)).toBeGreaterThanOrEqual(lockTtlMs)
    expect(waitedMs.get(key)).toBeLessThanOrEqual(lockTtlMs + 15_000)
  })

  it('gives way to one that lives, after as long', async () => {
    const lock = await held('certificates/www', clock)
    const { report, tookMs } = await reconciled()
    expect(report.outcomes).toMatchObject([{ status: 'busy' }])
    expect(tookMs).toBeGreaterThanOrEqual(lockTtlMs)
    expect(tookMs).toBeLessThanOrEqual(lockTtlMs + 30_000)
    expect(issuer.requests).toHaveLength(0)
    await lock.release()
  })

  it('waits for nobody when it is told so', async () => {
    await held('certificates/www', fakeClock())
    const { report, tookMs } = await reconciled({ waitForOthers: false })
    expect(report.outcomes).toMatchObject([{ status: 'busy' }])
    expect(tookMs).toBe(0)
  })
})

describe('the running scheduler', () => {
  const settle = async (condition: () => boolean): Promise<void> => {
    await vi.waitUntil(condition, { interval: 1, timeout: 50_000 })
  }

  it('works by itself, stops at once, starts again, and keeps no sleeper', async () => {
    const scheduler = schedulerFor()
    scheduler.start()
    scheduler.start()
    await settle(() => deployer.history.length === 1)
    await scheduler.stop()
    await scheduler.stop()
    expect(clock.sleeping).toBe(0)
    scheduler.start()
    await settle(() => clock.sleeping > 0)
    await scheduler[Symbol.asyncDispose]()
    expect(clock.sleeping).toBe(0)
    expect(issuer.requests).toHaveLength(1)
  })

  it('works on after start, stop and start in one breath', async () => {
    const scheduler = schedulerFor()
    scheduler.start()
    void scheduler.stop()
    scheduler.start()
    await settle(() => deployer.history.length === 1)
    await scheduler.stop()
    expect(clock.sleeping).toBe(0)
  })

  it('stops when its signal aborts', async () => {
    const controller = new AbortController()
    const scheduler = schedulerFor()
    scheduler.start({ signal: controller.signal })
    await settle(() => deployer.history.length === 1)
    controller.abort()
    await settle(() => clock.sleeping === 0)
  })

  it('is stopped in the middle of an order without counting a failure, and resumes the same one', async () => {
    issuer.onIssue = (_, { signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reject(signal.reason as Error)
        })
      })
    const scheduler = schedulerFor()
    scheduler.start()
    await settle(() => issuer.requests.length === 1)
    await scheduler.stop()
    expect(names()).toEqual([])
    issuer.onIssue = () => undefined
    await schedulerFor().reconcile()
    expect(issuer.requests[1]?.idempotencyKey).toBe(issuer.requests[0]?.idempotencyKey)
    expect(Buffer.from(issuer.requests[1]?.csr ?? [])).toEqual(Buffer.from(issuer.requests[0]?.csr ?? []))
  })

  it('looks at an added certificate at once, and not any more at a removed one', async () => {
    const scheduler = schedulerFor([])
    scheduler.start()
    await settle(() => clock.sleeping > 0)
    scheduler.add(certificate())
    await settle(() => deployer.history.length === 1)
    expect(await scheduler.remove('www')).toBe(true)
    expect(await scheduler.remove('www')).toBe(false)
    await clock.advance(90 * day)
    expect(issuer.requests).toHaveLength(1)
    await scheduler.stop()
  })

  it('survives listeners that throw, reject, and call it back', async () => {
    const scheduler = schedulerFor()
    scheduler.on('certificate-issued', () => {
      throw new Error('listener')
    })
    // eslint-disable-next-line @typescript-eslint/no-misused-promises -- people do write async listeners
    scheduler.on('certificate-stored', () => Promise.reject(new Error('async listener')))
    scheduler.on('certificate-deployed', () => void scheduler.renew('www'))
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([{ status: 'renewed' }])
    await settle(() => logger.entries.filter(({ message }) => message === 'event listener failed').length === 2)
  })

  describe('on a store that tells of changes', () => {
    let tell: (key: StoreKey) => void
    let watched: string[]
    /** Watches that end at once, before one that stays. */
    let failures: number

    beforeEach(() => {
      watched = []
      failures = 0
    })

    function watchedStore(): CertStore {
      return {
        ...store,
        watch: (prefix, onChange, { signal }) => {
          watched.push(prefix)
          if (watched.length <= failures) return Promise.reject(new Error('no connection'))
          tell = onChange
          return new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              reject(signal.reason as Error)
            })
          })
        },
      }
    }

    it('deploys at once what another replica has stored, without a look at the clock', async () => {
      const scheduler = schedulerFor([certificate()], { store: watchedStore() })
      scheduler.start()
      await settle(() => deployer.history.length === 1 && clock.sleeping > 0)
      const other = recordingDeployer()
      const replica = schedulerFor([certificate({ deployers: [other] })], { node: 'other' })
      await replica.renew('www', { force: true })
      expect(deployer.history).toHaveLength(1)
      tell(storeKey('certificates', 'elsewhere'))
      tell('certificates/%')
      tell(storeKey('certificates', 'www'))
      await settle(() => deployer.history.length === 2)
      expect(deployer.current?.fingerprintSha256).toBe(other.current?.fingerprintSha256)
      expect(watched).toEqual(['certificates/'])
      await scheduler.stop()
      expect(clock.sleeping).toBe(0)
    })

    it('looks again at what was stored while it was looking', async () => {
      const other = recordingDeployer()
      const replica = schedulerFor([certificate({ deployers: [other] })], { node: 'other' })
      deployer.onDeploy = async () => {
        deployer.onDeploy = () => undefined
        // Read already, and the only free slot is taken.
        await replica.renew('www', { force: true })
        tell(storeKey('certificates', 'www'))
      }
      const scheduler = schedulerFor([certificate()], { store: watchedStore(), concurrency: 1 })
      scheduler.start()
      await settle(() => other.history.length === 1 && clock.sleeping > 0)
      await clock.advance(minute)
      await settle(() => deployer.current?.fingerprintSha256 === other.current?.fingerprintSha256)
      await scheduler.stop()
    })

    it('leaves its places to other certificates, however often one changes that is worked on', async () => {
      let goOn = (): void => undefined
      const other = recordingDeployer('other')
      deployer.onDeploy = () =>
        new Promise((resolve) => {
          goOn = resolve
        })
      const scheduler = schedulerFor([certificate()], { store: watchedStore(), concurrency: 2 })
      scheduler.start()
      await settle(() => deployer.calls === 1)
      for (let change = 0; change < 5; change += 1) {
        tell(storeKey('certificates', 'www'))
        await clock.advance(1_000)
      }
      scheduler.add(certificate({ name: 'second', deployers: [other] }))
      await settle(() => other.history.length === 1)
      goOn()
      await scheduler.stop()
    })

    it('watches again after a watch that failed, and is stopped while it waits for that', async () => {
      failures = 2
      const scheduler = schedulerFor([certificate()], { store: watchedStore() })
      scheduler.start()
      await settle(() => watched.length === 1)
      await clock.advance(minute)
      await settle(() => watched.length === 3)
      expect(logger.entries.filter(({ message }) => message === 'store cannot be watched')).toHaveLength(2)
      await scheduler.stop()
      expect(clock.sleeping).toBe(0)
      failures = 4
      scheduler.start()
      await settle(() => watched.length === 4)
      await scheduler.stop()
      expect(clock.sleeping).toBe(0)
    })
  })

  it('evaluates anew when the clock has jumped past the end', async () => {
    const scheduler = schedulerFor()
    await scheduler.reconcile()
    await clock.setTime(clock.now() + 400 * day)
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([{ status: 'renewed' }])
    await clock.setTime(clock.now() - 500 * day)
    const back = await scheduler.reconcile()
    expect(back.outcomes).toMatchObject([{ status: 'unchanged' }])
  })

  it('raises the alarm once per level while renewal keeps failing', async () => {
    const scheduler = schedulerFor()
    await scheduler.reconcile()
    issuer.onIssue = () => {
      throw new Error('CA away')
    }
    for (let at = 0; at < 91; at += 1) {
      await clock.advance(day)
      await scheduler.reconcile()
    }
    expect(eventsOf('expiry-imminent').map(({ level }) => level)).toEqual([
      'quarter-left',
      'tenth-left',
      'three-days-left',
      'one-day-left',
      'expired',
    ])
    expect(await scheduler.status()).toMatchObject([{ health: 'failing', alarm: 'expired' }])
  })
})

describe('plan, status, renew and revoke', () => {
  it('tell what went wrong last, in words', async () => {
    issuer.onIssue = () => {
      throw new CertError({ code: 'ERR_ACME_PROBLEM', message: 'CAA forbids it', retryable: false })
    }
    const scheduler = schedulerFor()
    await scheduler.reconcile()
    expect(await scheduler.status()).toMatchObject([
      { failures: [{ issuer: 'scripted', code: 'ERR_ACME_PROBLEM', message: 'CAA forbids it' }] },
    ])
    issuer.onIssue = () => undefined
    deployer.onDeploy = () => {
      throw new Error('no route')
    }
    await clock.advance(2 * day)
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes[0]?.error).toMatchObject({ code: 'ERR_PLUGIN_FAILED' })
    expect(await scheduler.status()).toMatchObject([
      { health: 'degraded', deployments: [{ state: 'failing', message: 'deployer recording failed: no route' }] },
    ])
  })

  it('do not call a certificate well while its passes fail', async () => {
    await schedulerFor().reconcile()
    let readOnly = false
    const failing: CertStore = {
      ...store,
      put: (...args) =>
        readOnly
          ? Promise.reject(new StoreError({ code: 'ERR_STORE_UNAVAILABLE', message: 'read-only', store: 'x' }))
          : store.put(...args),
    }
    const scheduler = schedulerFor([certificate()], { store: failing })
    await scheduler.reconcile()
    expect(await scheduler.status()).toMatchObject([{ health: 'ok' }])
    readOnly = true
    await clock.advance(65 * day)
    await scheduler.reconcile()
    expect(eventsOf('pass-failed')).toHaveLength(1)
    expect(await scheduler.status()).toMatchObject([{ health: 'degraded' }])
  })

  it('say what would happen without doing it', async () => {
    const scheduler = schedulerFor()
    expect(await scheduler.plan()).toMatchObject([{ action: 'renew', reason: 'absent', issuers: ['scripted'] }])
    expect(await scheduler.status()).toMatchObject([{ health: 'failing', deployments: [{ state: 'outdated' }] }])
    expect(issuer.requests).toHaveLength(0)
    await scheduler.reconcile()
    const [planned] = await scheduler.plan()
    expect(planned).toMatchObject({ action: 'wait', because: 'not-due', reason: 'renew-before' })
    expect(planned?.at).toEqual(eventsOf('renewal-planned')[0]?.['at'])
  })

  it('refuse names that are not managed', async () => {
    await expect(schedulerFor().renew('other')).rejects.toMatchObject({ code: 'ERR_NOT_MANAGED' })
    await expect(schedulerFor().revoke('other')).rejects.toMatchObject({ code: 'ERR_NOT_MANAGED' })
  })

  it('revoke what is stored, and only that', async () => {
    const scheduler = schedulerFor()
    await expect(scheduler.revoke('www')).rejects.toMatchObject({ retryable: false })
    await scheduler.reconcile()
    await scheduler.revoke('www', 'keyCompromise')
    expect(issuer.revoked).toEqual([{ pem: deployer.current?.certificatePem, reason: 'keyCompromise' }])
  })

  it('reject with the reason of an aborted signal', async () => {
    const reason = new Error('enough')
    await expect(schedulerFor().reconcile({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    await expect(schedulerFor().renew('www', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })
})

describe('construction', () => {
  const bad = <T>(value: unknown): T => value as T
  it.each<[string, () => Partial<RenewalSchedulerOptions>]>([
    ['store', () => ({ store: bad(undefined) })],
    ['store.put', () => ({ store: bad({ ...store, put: undefined }) })],
    ['certificates', () => ({ certificates: bad({}) })],
    ['concurrency', () => ({ concurrency: 0 })],
    ['renewAtRemainingRatio', () => ({ renewAtRemainingRatio: 1.5 })],
    ['issuanceTimeoutMs', () => ({ issuanceTimeoutMs: Infinity })],
    ['lockTtlMs', () => ({ lockTtlMs: -1 })],
    ['node', () => ({ node: '*' })],
    ['unknownThing', () => ({ unknownThing: 1 }) as never],
    ['name', () => ({ certificates: [certificate({ name: '' })] })],
    ['name', () => ({ certificates: [certificate({ name: 'a\nb' })] })],
    ['identifiers', () => ({ certificates: [certificate({ identifiers: [] })] })],
    ['identifiers', () => ({ certificates: [certificate({ identifiers: ['$(id).com'] })] })],
    ['identifiers', () => ({ certificates: [certificate({ identifiers: ['*.a.example', 'b.a.example'] })] })],
    ['issuers', () => ({ certificates: [certificate({ issuers: bad([]) })] })],
    ['issuers', () => ({ certificates: [certificate({ issuers: [issuer, issuer] })] })],
    ['key', () => ({ certificates: [certificate({ key: bad('ed25519') })] })],
    ['deployers', () => ({ certificates: [certificate({ deployers: [deployer, recordingDeployer()] })] })],
    ['deployers[].deploy', () => ({ certificates: [certificate({ deployers: bad([{ name: 'x' }]) })] })],
    ['endpoints[].port', () => ({ certificates: [certificate({ endpoints: [{ host: 'a', port: 70_000 }] })] })],
    ['issuers[]', () => ({ certificates: [certificate({ issuers: bad([null]) })] })],
    ['deployers[]', () => ({ certificates: [certificate({ deployers: bad([null]) })] })],
    ['endpoints', () => ({ certificates: [certificate({ endpoints: bad({ host: 'a' }) })] })],
    [
      'belongs to certificate "a"',
      () => {
        const file: Deployer = { ...deployer, name: 'pem-files:/etc/a.pem', exclusive: true }
        const one = certificate({ name: 'a', deployers: [file] })
        return { certificates: [one, certificate({ name: 'b', deployers: [{ ...file }] })] }
      },
    ],
    ['store', () => ({ store: { ...memoryStore(), getMany: 5 } as unknown as CertStore })],
    ['www', () => ({ certificates: [certificate(), certificate()] })],
    ['placeHolder', () => ({ certificates: [bad({ ...certificate(), placeHolder: true })] })],
  ])('refuses a wrong %s with a TypeError that names it', (option, change) => {
    const construct = (): unknown => schedulerFor([certificate()], change())
    expect(construct).toThrow(TypeError)
    expect(construct).toThrow(option)
  })

  it('copies what it was given', async () => {
    const mutable = { ...certificate(), identifiers: ['a.example'] }
    const scheduler = schedulerFor([mutable])
    mutable.identifiers.push('b.example')
    await scheduler.reconcile()
    expect(issuer.requests[0]?.identifiers).toEqual([{ type: 'dns', value: 'a.example' }])
  })
})

describe('a pass over many certificates', () => {
  it('begins no more than can run: who asks for one of them meanwhile does not wait for all', async () => {
    const looked: string[] = []
    const watched: CertStore = {
      ...store,
      get: async (key, context) => {
        if (key.startsWith('certificates/')) looked.push(key)
        return store.get(key, context)
      },
    }
    const many = ['a', 'b', 'c', 'd'].map((name) => certificate({ name, deployers: [] }))
    await schedulerFor(many).reconcile()
    const scheduler = schedulerFor(many, { store: watched, concurrency: 1 })
    await Promise.all([scheduler.reconcile(), scheduler.renew('d')])
    expect(looked.slice(0, 2)).toEqual(['certificates/a', 'certificates/d'])
    expect(looked.slice(2)).toEqual(['certificates/b', 'certificates/c', 'certificates/d'])
  })
})

describe('telling about many certificates', () => {
  it.each(['plan', 'status'] as const)('%s reads 64 at once, and stops when the store is away', async (what) => {
    let reading = 0
    let most = 0
    let reads = 0
    let away = false
    const slow: CertStore = {
      ...memoryStore(),
      get: async () => {
        reads += 1
        reading += 1
        most = Math.max(most, reading)
        await new Promise((resolve) => setImmediate(resolve))
        reading -= 1
        if (away) throw new StoreError({ code: 'ERR_STORE_UNAVAILABLE', message: 'away', store: 'memory' })
        return undefined
      },
    }
    const names = Array.from({ length: 500 }, (_, index) => `name-${String(index)}`)
    const scheduler = schedulerFor(
      names.map((name) => certificate({ name })),
      { store: slow },
    )
    expect(await scheduler[what]()).toHaveLength(500)
    expect(most).toBe(64)
    away = true
    reads = 0
    await expect(scheduler[what]()).rejects.toMatchObject({ code: 'ERR_STORE_UNAVAILABLE' })
    for (let turns = 0; turns < 100; turns += 1) await new Promise((resolve) => setImmediate(resolve))
    expect(reads).toBe(64)
  })

  /** Reads many values by itself: in another order, in parts, and never by `get`. */
  function readingMany(inner: CertStore, change: (found: FoundValue[]) => FoundValue[] = (found) => found): CertStore {
    return {
      ...inner,
      get: () => Promise.reject(new Error('get is for one value')),
      async *getMany(keys, context) {
        const found: FoundValue[] = []
        for (const key of keys.toReversed()) found.push({ key, stored: await inner.get(key, context) })
        const told = change(found)
        for (let first = 0; first < told.length; first += 7) yield told.slice(first, first + 7)
      },
    }
  }

  const three = (): ManagedCertificate[] => ['a', 'b', 'c'].map((name) => certificate({ name }))

  it.each(['plan', 'status'] as const)(
    '%s leaves the reading to a store that can do it, and keeps the order',
    async (what) => {
      await schedulerFor(three().slice(0, 2)).reconcile()
      const expected = await schedulerFor(three())[what]()
      expect(expected.map((told) => told.certificate)).toEqual(['a', 'b', 'c'])
      expect(await schedulerFor(three(), { store: readingMany(store) })[what]()).toEqual(expected)
    },
  )

  it('plan asks for what such a store left out, and passes over what it made up', async () => {
    await schedulerFor(three()).reconcile()
    const expected = await schedulerFor(three()).plan()
    const odd = readingMany(store, (found) => [
      { key: 'certificates/x', stored: undefined },
      ...found.filter(({ key }) => key !== 'certificates/b'),
      ...found.filter(({ key }) => key === 'certificates/c'),
    ])
    const asked: string[] = []
    const get: CertStore['get'] = (key, context) => {
      asked.push(key)
      return store.get(key, context)
    }
    expect(await schedulerFor(three(), { store: { ...odd, get } }).plan()).toEqual(expected)
    expect(asked).toEqual(['certificates/b'])
  })

  it('plan says that a damaged one among many is issued anew', async () => {
    await schedulerFor(three()).reconcile()
    const error = new StoreError({ code: 'ERR_STORE_CORRUPT', message: 'torn', store: 'memory', key: 'certificates/b' })
    const torn = readingMany(store, (found) =>
      found.map((each) => (each.key === 'certificates/b' ? { key: each.key, error } : each)),
    )
    const plan = await schedulerFor(three(), { store: torn }).plan()
    expect(plan.map(({ action }) => action)).toEqual(['wait', 'renew', 'wait'])
  })

  it('plan gives up a store that stops in the middle of telling, and tells it so', async () => {
    let left = false
    const stuck: CertStore = {
      ...store,
      getMany: () => ({
        [Symbol.asyncIterator]: () => ({
          next: () => new Promise(() => undefined),
          return: () => {
            left = true
            return new Promise(() => undefined)
          },
        }),
      }),
    }
    const planning = schedulerFor(three(), { store: stuck }).plan()
    const refused = expect(planning).rejects.toThrow('store memory: no answer to getMany within 60000 ms')
    await clock.advance(60_000)
    await refused
    expect(left).toBe(true)
    expect(clock.sleeping).toBe(0)
  })

  /** A store whose parts come from an iterator by hand. */
  const iterating = (iterator: (keys: readonly StoreKey[]) => object): CertStore => ({
    ...store,
    getMany: (keys) => ({ [Symbol.asyncIterator]: () => iterator(keys) as AsyncIterator<readonly FoundValue[]> }),
  })

  it('plan ends for whoever aborts in the middle of it, at its end, or before it', async () => {
    const reason = new Error('stop')
    for (const certificates of [three(), [certificate({ name: 'a' })]]) {
      const controller = new AbortController()
      const slow = readingMany(store, (found) => {
        controller.abort(reason)
        return found
      })
      const scheduler = schedulerFor(certificates, { store: slow })
      await expect(scheduler.plan({ signal: controller.signal })).rejects.toBe(reason)
    }
    await expect(schedulerFor([]).plan({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })

  it('plan says what is wrong with a getMany that is no generator, and nothing of it is left unhandled', async () => {
    const unhandled: unknown[] = []
    const onUnhandled = (error: unknown): void => void unhandled.push(error)
    process.on('unhandledRejection', onUnhandled)
    const promising = {
      ...store,
      getMany: () => Promise.reject(new Error('the server is away')),
    } as unknown as CertStore
    await expect(schedulerFor(three(), { store: promising }).plan()).rejects.toThrow(
      /getMany must return an async iterable/,
    )
    for (let turns = 0; turns < 5; turns += 1) await new Promise((resolve) => setImmediate(resolve))
    process.off('unhandledRejection', onUnhandled)
    expect(unhandled).toEqual([])
  })

  it.each([
    [
      'throws',
      () => {
        throw new Error('cannot return')
      },
    ],
    ['returns no promise', () => undefined],
    ['is missing', undefined],
  ])('plan tells what went wrong in a store whose return() %s', async (_, leave) => {
    const away = iterating(() => ({ next: () => Promise.reject(new Error('the server is away')), return: leave }))
    await expect(schedulerFor(three(), { store: away }).plan()).rejects.toThrow('the server is away')
  })

  it('plan asks a store that has told everything for no more', async () => {
    const endless = iterating((keys) => ({
      next: () => Promise.resolve({ done: false, value: keys.map((key) => ({ key, stored: undefined })) }),
    }))
    expect(await schedulerFor(three(), { store: endless }).plan()).toHaveLength(3)
    const silent = iterating((keys) => {
      const parts = [keys.map((key) => ({ key, stored: undefined }))]
      return {
        next: () => {
          const value = parts.pop()
          return value === undefined ? new Promise(() => undefined) : Promise.resolve({ done: false, value })
        },
      }
    })
    expect(await schedulerFor(three(), { store: silent }).plan()).toHaveLength(3)
  })

  it('plan lets others have their turn, and ends at an abort, while a store tells nothing without an end', async () => {
    const endless = iterating(() => ({ next: () => Promise.resolve({ done: false, value: [] }) }))
    const controller = new AbortController()
    setImmediate(() => setImmediate(() => controller.abort('stop')))
    await expect(schedulerFor(three(), { store: endless }).plan({ signal: controller.signal })).rejects.toBe('stop')
  })

  it('plan reads what a store leaves out 64 at once', async () => {
    let reading = 0
    let most = 0
    const forgetful: CertStore = {
      ...memoryStore(),
      async *getMany() {
        await Promise.resolve()
        yield []
      },
      get: async () => {
        most = Math.max(most, (reading += 1))
        await new Promise((resolve) => setImmediate(resolve))
        reading -= 1
        return undefined
      },
    }
    const many = Array.from({ length: 100 }, (_, index) => certificate({ name: `name-${String(index)}` }))
    expect(await schedulerFor(many, { store: forgetful }).plan()).toHaveLength(100)
    expect(most).toBe(64)
  })

  it('plan waits for a store with few deadlines, which end with it', async () => {
    const slow: CertStore = {
      ...memoryStore(),
      get: async () => {
        for (let turns = 0; turns < 3; turns += 1) await new Promise((resolve) => setImmediate(resolve))
        return undefined
      },
    }
    let sleeps = 0
    const counted: Clock = {
      now: () => clock.now(),
      sleep: (ms, options) => {
        sleeps += 1
        return clock.sleep(ms, options)
      },
    }
    const many = Array.from({ length: 320 }, (_, index) => certificate({ name: `name-${String(index)}` }))
    expect(await schedulerFor(many, { store: slow, clock: counted }).plan()).toHaveLength(320)
    expect(sleeps).toBeGreaterThan(0)
    expect(sleeps).toBeLessThanOrEqual(64)
    for (let turns = 0; turns < 3; turns += 1) await new Promise((resolve) => setImmediate(resolve))
    expect(clock.sleeping).toBe(0)
  })
})
