/**
 * The long-lived object callers embed: timers, locks and events around one pass per certificate, nothing else.
 *
 * @module
 */
import { EventEmitter } from 'node:events'
import { hostname } from 'node:os'
import { systemClock, type Clock } from '../core/clock.js'
import { boundLogger, silentLogger, type Logger } from '../core/logger.js'
import { systemRandom, type Random } from '../core/random.js'
import { CertError } from '../errors.js'
import { boundedMap } from '../internal/bounded-map.js'
import { allowManyListeners, withDeadline } from '../internal/deadline.js'
import {
  assertArray,
  assertDuration,
  assertFunction,
  assertMethod,
  assertNumber,
  assertOptions,
  assertText,
} from '../internal/options.js'
import { Semaphore } from '../internal/semaphore.js'
import type { RevocationReason } from '../issuers/issuer.js'
import type { CertStore, StoreKey } from '../stores/cert-store.js'
import { boundedStore } from './bounded-store.js'
import { DueQueue } from './due-queue.js'
import { operationContext, type Environment } from './environment.js'
import type { RenewalEventMap } from './events.js'
import { lookAgainMs, patienceMs } from './look-again.js'
import { parseManagedCertificate, type CertificateSpec, type ManagedCertificate } from './managed-certificate.js'
import { readAhead } from './read-ahead.js'
import { reconcileCertificate, type CertificateOutcome, type PassMemory } from './reconcile.js'
import { scheduledWait } from './retry-schedule.js'
import {
  certificateStatus,
  planCertificate,
  planKeys,
  statusKeys,
  type CertificateStatus,
  type PlannedAction,
} from './status.js'
import { revokeStored } from './revoke-certificate.js'
import { handshake, resolveWithSystem, type ResolveHost } from './verify-endpoint.js'
import { watchCertificates } from './watch-certificates.js'

/** Options of {@link RenewalScheduler}. */
export interface RenewalSchedulerOptions {
  readonly store: CertStore
  /** @defaultValue none; see {@link RenewalScheduler.add} */
  readonly certificates?: readonly ManagedCertificate[] | undefined
  /**
   * Share of the life that is left at renewal when the CA suggests no window: above 0, at most 0.9.
   *
   * @defaultValue 1/3, and 1/2 for lives below ten days
   */
  readonly renewAtRemainingRatio?: number | undefined
  /** Certificates worked on at once: 1 to 1000. @defaultValue 4 */
  readonly concurrency?: number | undefined
  /** Limit of one issuance by one issuer, milliseconds. @defaultValue 1_200_000 (20 minutes) */
  readonly issuanceTimeoutMs?: number | undefined
  /** Limit of one deployment to one target, milliseconds. @defaultValue 900_000 (15 minutes) */
  readonly deploymentTimeoutMs?: number | undefined
  /**
   * Life of a lease in a shared store, milliseconds; the same for all replicas. A dead holder is replaced within it and 15
   * seconds.
   *
   * @defaultValue 60_000 (1 minute)
   */
  readonly lockTtlMs?: number | undefined
  /** Name of this replica: owner of the ledger of its `node` deployers. @defaultValue the host name */
  readonly node?: string | undefined
  /** How endpoints are resolved for their proof. @defaultValue the system's resolver, all addresses */
  readonly resolve?: ResolveHost | undefined
  /** @defaultValue the machine's clock */
  readonly clock?: Clock | undefined
  /** @defaultValue `Math.random` */
  readonly random?: Random | undefined
  /** @defaultValue silent */
  readonly logger?: Logger | undefined
}

/** Options of a call that may take long. */
export interface RunOptions {
  readonly signal?: AbortSignal | undefined
}

/** Options of {@link RenewalScheduler.reconcile}. */
export interface ReconcileOptions extends RunOptions {
  /**
   * Waits for other processes that are at a certificate, for the life of a lease (`lockTtlMs`) and 15 seconds at most: a
   * process that works once cannot replace a dead one otherwise, because that takes watching its lease for so long. Not while
   * the scheduler is running, which watches anyway.
   *
   * @defaultValue true
   */
  readonly waitForOthers?: boolean | undefined
}

/** What {@link RenewalScheduler.reconcile} did. */
export interface ReconcileReport {
  readonly outcomes: readonly CertificateOutcome[]
  /** The earliest instant at which another pass has something to do. */
  readonly nextRunAt: Date
}

/** Waits after passes that failed for a reason that could not be recorded (the store is away). */
const failedPassSchedule: readonly number[] = [5_000, 15_000, 60_000, 300_000, 900_000, 3_600_000]
/** A day: the longest anything goes unlooked at. */
const longestWaitMs = 86_400_000
/** A clock that steps back is noticed within this. */
const longestIdleMs = 60_000
/** Two passes over one certificate are this far apart at least, whatever a plug-in says. */
const shortestWaitMs = 100

interface Managed {
  readonly spec: CertificateSpec
  readonly memory: PassMemory
  /** The pass under way, if any: passes over one certificate follow each other. */
  running: Promise<unknown>
  /** Passes in a row that failed as a whole. */
  failedPasses: number
  /** Passes that were begun and have not ended, also those that wait for their turn. */
  underWay: number
  /** Something was stored since the last pass began. */
  changed: boolean
}

/**
 * Keeps certificates valid: decides when to renew, has them issued, stores, deploys and verifies them.
 *
 * Construction validates everything and starts nothing. Either `start()` it, or call `reconcile()` from cron.
 *
 * @example
 *
 * ```ts
 * import { RenewalScheduler } from 'evercert'
 * import { selfSignedIssuer } from 'evercert/issuers/self-signed'
 * import { memoryStore } from 'evercert/stores/memory'
 *
 * const scheduler = new RenewalScheduler({
 *   store: memoryStore(),
 *   certificates: [{ name: 'local', identifiers: ['localhost'], issuers: [selfSignedIssuer()] }],
 * })
 * scheduler.on('certificate-stored', ({ certificate, notAfter }) => console.log(certificate, notAfter))
 * await scheduler.reconcile()
 * ```
 */
export class RenewalScheduler extends EventEmitter<RenewalEventMap> implements AsyncDisposable {
  readonly #environment: Environment
  readonly #managed = new Map<string, Managed>()
  readonly #queue = new DueQueue()
  readonly #slots: Semaphore
  readonly #concurrency: number
  #attempts = 0
  #run: { readonly controller: AbortController; readonly ended: Promise<void> } | undefined
  /** Resolves when the run that was stopped last has ended. */
  #stopped: Promise<void> = Promise.resolve()
  #wake: (() => void) | undefined

  /** @throws `TypeError` that names the option. */
  constructor(options: RenewalSchedulerOptions) {
    super()
    assertOptions(options, optionNames, 'RenewalScheduler')
    const { store, certificates = [], concurrency = 4, logger = silentLogger } = options
    if (typeof store !== 'object' || store === null) throw new TypeError('"store" option must be a CertStore')
    for (const method of ['get', 'put', 'delete', 'list']) assertMethod(store, method, 'store')
    if (store.getMany !== undefined) assertMethod(store, 'getMany', 'store')
    assertArray(certificates, 'certificates')
    assertNumber(concurrency, 'concurrency', { min: 1, max: 1000, integer: true })
    const ratio = options.renewAtRemainingRatio
    if (ratio !== undefined) assertNumber(ratio, 'renewAtRemainingRatio', { min: 0.01, max: 0.9 })
    const { issuanceTimeoutMs = 20 * 60_000, deploymentTimeoutMs = 15 * 60_000, lockTtlMs = 60_000 } = options
    assertDuration(issuanceTimeoutMs, 'issuanceTimeoutMs')
    assertDuration(deploymentTimeoutMs, 'deploymentTimeoutMs')
    assertDuration(lockTtlMs, 'lockTtlMs')
    const { node = hostname(), resolve = resolveWithSystem, clock = systemClock, random = systemRandom } = options
    assertText(node, 'node', 200)
    if (node === '*') throw new TypeError('"node" option must not be "*"')
    assertFunction(resolve, 'resolve')
    this.#slots = new Semaphore(concurrency)
    this.#concurrency = concurrency
    this.#environment = {
      store: boundedStore(store, clock),
      clock,
      random,
      logger: boundLogger(logger, {}),
      node,
      renewAtRemainingRatio: ratio,
      issuanceTimeoutMs,
      deploymentTimeoutMs,
      lockTtlMs,
      resolve,
      handshake,
      announce: (name, event) => {
        this.#announce(name, event)
      },
    }
    for (const certificate of certificates) this.add(certificate)
  }

  // Node's own declarations take any event name: here a misspelt one is an error.

  /** Calls `listener` at each event of this name. What it throws is logged and disturbs nothing. */
  override on<Name extends keyof RenewalEventMap>(
    name: Name,
    listener: (...event: RenewalEventMap[Name]) => void,
  ): this {
    return super.on(name, listener as never)
  }

  /** Calls `listener` at the next event of this name. */
  override once<Name extends keyof RenewalEventMap>(
    name: Name,
    listener: (...event: RenewalEventMap[Name]) => void,
  ): this {
    return super.once(name, listener as never)
  }

  /** Takes back {@link RenewalScheduler.on} or {@link RenewalScheduler.once}. */
  override off<Name extends keyof RenewalEventMap>(
    name: Name,
    listener: (...event: RenewalEventMap[Name]) => void,
  ): this {
    return super.off(name, listener as never)
  }

  /** Manages one more certificate. A started scheduler looks at it at once. @throws `TypeError` when it is not valid */
  add(certificate: ManagedCertificate): void {
    const spec = parseManagedCertificate(certificate)
    if (this.#managed.has(spec.name)) {
      throw new TypeError(`certificates[${JSON.stringify(spec.name)}] is managed already`)
    }
    this.#assertTargetsAreFree(spec)
    this.#managed.set(spec.name, {
      spec,
      memory: { known: new Map(), lastAlarm: undefined, lastWait: undefined, pruning: undefined },
      running: Promise.resolve(),
      failedPasses: 0,
      underWay: 0,
      changed: false,
    })
    this.#queue.set(spec.name, this.#environment.clock.now())
    this.#wake?.()
  }

  /**
   * Stops managing a certificate, once a pass that is under way has ended. What is stored and deployed stays.
   *
   * @returns whether it was managed
   */
  async remove(name: string): Promise<boolean> {
    const managed = this.#managed.get(name)
    if (managed === undefined) return false
    this.#managed.delete(name)
    this.#queue.delete(name)
    await managed.running
    return true
  }

  /**
   * Works in the background from now on. Keeps no process alive by itself. Does nothing when started already.
   *
   * @param options - `signal`: stops it, as {@link RenewalScheduler.stop} does
   */
  start(options: RunOptions = {}): void {
    const { signal } = options
    if (this.#run !== undefined || signal?.aborted === true) return
    const controller = new AbortController()
    allowManyListeners(controller.signal)
    const onAbort = (): void => {
      void this.stop()
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    const watching = watchCertificates(this.#environment, (name) => this.#lookAt(name), controller.signal)
    const ended = Promise.all([this.#loop(controller.signal), watching]).then(() => {
      signal?.removeEventListener('abort', onAbort)
    })
    this.#run = { controller, ended }
  }

  /**
   * Ends waits at once and lets writes that are under way finish. It can be started again afterwards.
   *
   * @param options - `timeoutMs`: how long to wait for what is under way. @defaultValue 5000 (5 seconds)
   */
  async stop(options: { readonly timeoutMs?: number | undefined } = {}): Promise<void> {
    const run = this.#run
    if (run !== undefined) {
      this.#run = undefined
      run.controller.abort(new DOMException('the scheduler was stopped', 'AbortError'))
      this.#stopped = run.ended
    }
    const stopped = this.#stopped
    const { clock } = this.#environment
    const ms = options.timeoutMs ?? 5_000
    await withDeadline(
      { clock, signal: new AbortController().signal, ms, onTimeout: () => new Error('still busy') },
      () => stopped,
    ).catch(() => undefined)
  }

  /**
   * One pass over every certificate, and more over those that another process is at: for cron, scripts and tests. Never
   * rejects for a certificate's failure: that is in the report.
   */
  async reconcile(options: ReconcileOptions = {}): Promise<ReconcileReport> {
    const { signal = new AbortController().signal, waitForOthers = true } = options
    const { clock, lockTtlMs } = this.#environment
    const done = new Map<string, CertificateOutcome>()
    let giveUpAt: number | undefined
    let names = [...this.#managed.keys()]
    for (;;) {
      // No more than can run: to begin a hundred thousand at once holds up the host for half a second.
      const outcomes = await boundedMap(names, this.#concurrency, signal, (name) => this.#pass(name, { signal }))
      for (const [index, name] of names.entries()) {
        const outcome = outcomes[index]
        if (outcome !== undefined) done.set(name, outcome)
      }
      names = names.filter((name) => isBusy(done.get(name)))
      // From here on, and not from the beginning: an order of our own may have taken long.
      giveUpAt ??= this.#now() + patienceMs(lockTtlMs)
      if (names.length === 0 || !waitForOthers || this.#run !== undefined || this.#now() >= giveUpAt) break
      await clock.sleep(lookAgainMs(lockTtlMs), { signal })
    }
    let next = this.#now() + longestWaitMs
    for (const { nextRunAt } of done.values()) next = Math.min(next, nextRunAt.getTime())
    return { outcomes: [...done.values()], nextRunAt: new Date(next) }
  }

  /**
   * One pass over one certificate.
   *
   * @param options - `force`: renew although it is not due. Overrides evercert's own back-off, never a CA's `Retry-After`.
   * @throws {@link CertError} `ERR_NOT_MANAGED`
   */
  async renew(
    name: string,
    options: RunOptions & { readonly force?: boolean | undefined } = {},
  ): Promise<CertificateOutcome> {
    const signal = options.signal ?? new AbortController().signal
    const outcome = await this.#pass(name, { signal, force: options.force })
    signal.throwIfAborted()
    if (outcome === undefined) throw notManaged(name)
    return outcome
  }

  /** What would be renewed, when and why. Places no order and writes nothing. Deployments are in `status()`. */
  async plan(options: RunOptions = {}): Promise<readonly PlannedAction[]> {
    const signal = options.signal ?? new AbortController().signal
    return this.#tellOfAll(signal, planKeys, ({ spec }, environment) => planCertificate(spec, environment, signal))
  }

  /**
   * How each certificate is, from what is stored. For health checks and dashboards.
   *
   * @throws {@link StoreError} `ERR_STORE_UNAVAILABLE` when the store cannot be read: to a health check that is a failure too
   */
  async status(options: RunOptions = {}): Promise<readonly CertificateStatus[]> {
    const signal = options.signal ?? new AbortController().signal
    return this.#tellOfAll(signal, statusKeys, ({ spec, failedPasses }, environment) => {
      const nextRunAt = this.#run === undefined ? undefined : this.#queue.get(spec.name)
      return certificateStatus(spec, environment, signal, { nextRunAt, lastPassFailed: failedPasses > 0 })
    })
  }

  /**
   * Revokes the stored certificate of a name with the issuer it came from. It stays stored and deployed: renew first.
   *
   * @throws {@link CertError} `ERR_NOT_MANAGED`, or what the issuer throws
   */
  async revoke(name: string, reason: RevocationReason = 'unspecified', options: RunOptions = {}): Promise<void> {
    const managed = this.#managed.get(name)
    if (managed === undefined) throw notManaged(name)
    const signal = options.signal ?? new AbortController().signal
    await revokeStored(managed.spec, reason, this.#environment, signal)
  }

  /** {@link RenewalScheduler.stop} */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  /** Two certificates for one file would overwrite each other, and both look well. */
  #assertTargetsAreFree(spec: CertificateSpec): void {
    const wanted = new Set(spec.deployers.filter(({ exclusive }) => exclusive === true).map(({ name }) => name))
    if (wanted.size === 0) return
    for (const { spec: other } of this.#managed.values()) {
      const taken = other.deployers.find(({ name }) => wanted.has(name))
      if (taken === undefined) continue
      const at = `certificates[${JSON.stringify(spec.name)}].deployers`
      throw new TypeError(`"${at}" option: ${taken.name} belongs to certificate ${JSON.stringify(other.name)} already`)
    }
  }

  /** In the order in which they were added. What `keysOf` says is read for all of them together. */
  async #tellOfAll<Told>(
    signal: AbortSignal,
    keysOf: (spec: CertificateSpec, node: string) => readonly StoreKey[],
    tell: (managed: Managed, environment: Environment) => Promise<Told>,
  ): Promise<Told[]> {
    const told: Told[] = []
    const { store, node } = this.#environment
    const all = [...this.#managed.values()].map((managed, index) => ({ managed, index }))
    const context = operationContext(this.#environment, signal, {})
    const ahead = readAhead(all, ({ managed }) => keysOf(managed.spec, node), store, context)
    const environment = { ...this.#environment, store: ahead.store }
    let count = 0
    signal.throwIfAborted()
    for await (const { managed, index } of ahead.items) {
      told[index] = await tell(managed, environment)
      count += 1
      // What has been read is looked at without waiting: the host must have its turn in between.
      if (count % 16 === 0) await new Promise((resolve) => setImmediate(resolve))
      signal.throwIfAborted()
    }
    return told
  }

  #now(): number {
    return this.#environment.clock.now()
  }

  /** Sleeps until something is due and starts it. Never rejects. */
  async #loop(signal: AbortSignal): Promise<void> {
    this.#lookAtAll()
    const passes = new Set<Promise<unknown>>()
    let lastSeen = this.#now()
    while (!signal.aborted) {
      // What was due by a clock that ran ahead would wait until that time comes again.
      if (this.#now() < lastSeen - 1_000) this.#lookAtAll()
      lastSeen = this.#now()
      // No more than can run: a hundred thousand that are due at once need not all be begun.
      while (passes.size < this.#concurrency) {
        const name = this.#queue.takeDue(this.#now())
        if (name === undefined) break
        const pass = this.#pass(name, { signal }).finally(() => passes.delete(pass))
        passes.add(pass)
      }
      if (passes.size >= this.#concurrency) await Promise.race(passes)
      else await this.#idle(signal)
    }
    await Promise.all(passes)
  }

  /** Another replica, or this one, has stored this certificate. */
  #lookAt(name: string): void {
    const managed = this.#managed.get(name)
    if (managed === undefined) return
    managed.changed = true
    // The end of a pass looks for itself: another one would take the place of a certificate that could be worked on.
    if (managed.underWay > 0) return
    this.#queue.set(name, this.#now())
    this.#wake?.()
  }

  #lookAtAll(): void {
    const now = this.#now()
    for (const name of this.#managed.keys()) {
      // What is due already keeps its place: to move a hundred thousand names holds up the host.
      if ((this.#queue.get(name) ?? Infinity) > now) this.#queue.set(name, now)
    }
  }

  /** Waits until the first certificate is due, something changes, or the scheduler stops. */
  async #idle(signal: AbortSignal): Promise<void> {
    const wait = Math.min(Math.max(this.#queue.nextAt() - this.#now(), 0), longestIdleMs)
    const waiting = new AbortController()
    const end = (): void => {
      waiting.abort()
    }
    this.#wake = end
    signal.addEventListener('abort', end, { once: true })
    try {
      await this.#environment.clock.sleep(wait, { signal: waiting.signal, background: true })
    } catch {
      // Woken: there is something to look at.
    } finally {
      signal.removeEventListener('abort', end)
      this.#wake = undefined
    }
  }

  /** One pass over one certificate, after any pass over it that is under way. Never rejects; `undefined` when unmanaged. */
  #pass(
    name: string,
    options: { readonly signal: AbortSignal; readonly force?: boolean | undefined },
  ): Promise<CertificateOutcome | undefined> {
    const managed = this.#managed.get(name)
    if (managed === undefined) return Promise.resolve(undefined)
    managed.underWay += 1
    const pass = managed.running
      .then(() => this.#slots.run(() => this.#attempt(managed, options)))
      .finally(() => (managed.underWay -= 1))
    managed.running = pass
    return pass
  }

  async #attempt(
    managed: Managed,
    options: { readonly signal: AbortSignal; readonly force?: boolean | undefined },
  ): Promise<CertificateOutcome | undefined> {
    const { spec, memory } = managed
    // A pass that finds nothing to do on a store in memory never waits: the host must have its turn in between.
    this.#attempts += 1
    if (this.#attempts % 16 === 0) await new Promise((resolve) => setImmediate(resolve))
    if (this.#managed.get(spec.name) !== managed) return undefined
    let outcome: CertificateOutcome
    try {
      options.signal.throwIfAborted()
      allowManyListeners(options.signal)
      managed.changed = false
      const result = await reconcileCertificate(spec, this.#environment, memory, options)
      outcome = result.outcome
      if (result.unrecorded === undefined) managed.failedPasses = 0
      else outcome = { ...outcome, nextRunAt: this.#failedPass(managed, result.unrecorded) }
    } catch (error) {
      if (options.signal.aborted) {
        if (managed.changed && this.#managed.get(spec.name) === managed) this.#queue.set(spec.name, this.#now())
        return undefined
      }
      const nextRunAt = this.#failedPass(managed, error)
      outcome = { certificate: spec.name, status: 'failed', error, deployments: [], endpoints: [], nextRunAt }
    }
    if (this.#managed.get(spec.name) === managed) {
      const now = this.#now()
      const wanted = managed.changed ? now : outcome.nextRunAt.getTime()
      const at = Number.isFinite(wanted) ? wanted : now + longestWaitMs
      this.#queue.set(spec.name, Math.min(Math.max(at, now + shortestWaitMs), now + longestWaitMs))
      this.#wake?.()
    }
    return outcome
  }

  /** @returns when to try again */
  #failedPass(managed: Managed, error: unknown): Date {
    const { spec } = managed
    managed.failedPasses += 1
    const attempt = managed.failedPasses
    const wait = scheduledWait(failedPassSchedule, attempt) * (1 + this.#environment.random() * 0.1)
    const nextAttemptAt = new Date(Math.ceil(this.#now() + wait))
    this.#environment.logger.error('pass failed', { certificate: spec.name, attempt, nextAttemptAt, error })
    this.#announce('pass-failed', { certificate: spec.name, error, attempt, nextAttemptAt })
    return nextAttemptAt
  }

  /** A listener that throws or rejects is logged; it cannot disturb a renewal or the host. */
  #announce<Name extends keyof RenewalEventMap>(name: Name, event: RenewalEventMap[Name][0]): void {
    // Failures are logged where they happen, with what is known there.
    if (successes.has(name)) this.#environment.logger.info(name.replaceAll('-', ' '), { ...event })
    const failed = (error: unknown): void => {
      this.#environment.logger.error('event listener failed', { event: name, error })
    }
    for (const listener of this.rawListeners(name)) {
      try {
        const result: unknown = Reflect.apply(listener, this, [event])
        if (result instanceof Promise) result.catch(failed)
      } catch (error) {
        failed(error)
      }
    }
  }
}

const successes: ReadonlySet<keyof RenewalEventMap> = new Set([
  'certificate-issued',
  'certificate-stored',
  'certificate-deployed',
  'certificate-served',
  'renewal-planned',
])

const optionNames = [
  'store',
  'certificates',
  'renewAtRemainingRatio',
  'concurrency',
  'issuanceTimeoutMs',
  'deploymentTimeoutMs',
  'lockTtlMs',
  'node',
  'resolve',
  'clock',
  'random',
  'logger',
] as const

/** Another process is at it. */
function isBusy(outcome: CertificateOutcome | undefined): boolean {
  if (outcome === undefined) return false
  return outcome.status === 'busy' || outcome.deployments.some((each) => 'busy' in each && each.busy === true)
}

function notManaged(name: string): CertError {
  return new CertError({
    code: 'ERR_NOT_MANAGED',
    message: `no certificate named ${JSON.stringify(name)} is managed by this scheduler`,
    retryable: false,
  })
}
