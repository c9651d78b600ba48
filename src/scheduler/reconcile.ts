/**
 * One pass over one certificate: decide, issue, store, deploy, verify. Every step starts from what is stored.
 *
 * @module
 */
import { anySignal } from '../internal/any-signal.js'
import { withDeadline } from '../internal/deadline.js'
import { CertError, HttpError } from '../errors.js'
import type { Issuer } from '../issuers/issuer.js'
import type { StoreLock } from '../stores/cert-store.js'
import { storeKey } from '../stores/cert-store.js'
import {
  decideRenewal,
  openIssuers,
  type RenewalDecision,
  type RenewalFacts,
  type RenewalReason,
} from './decide-renewal.js'
import { deployCertificate, isSuperseded, type DeploymentOutcome, type KnownTargets } from './deploy-certificate.js'
import { operationContext, type Environment } from './environment.js'
import { expiryAlarm, type ExpiryLevel } from './expiry-alarm.js'
import { issueCertificate, issuerContext, renewalSlot, sameNames } from './issue-certificate.js'
import { identifierKey } from '../core/identifier.js'
import { lookAgainMs } from './look-again.js'
import { settingsOf, type CertificateSpec } from './managed-certificate.js'
import { providePlaceholder } from './placeholder.js'
import { ledgerPruning, pruneLedgers, type LedgerPruning } from './prune-ledgers.js'
import { certificateRecord, isPast, type CertificateRecord, type RenewalRecord } from './records.js'
import { nextPlan, renewalInfoIsDue, type RenewalInfoAnswer } from './renewal-plan.js'
import { loadRecord, setAside, updateRecord, type Loaded, type ReadRecord } from './stored-records.js'
import { verifyDeployment, type EndpointOutcome } from './verify-deployment.js'

/** What one pass did for one certificate. */
export interface CertificateOutcome {
  readonly certificate: string
  /**
   * `renewed`: a new certificate is stored; `redeployed`: a stored one was brought to a target; `unchanged`: nothing was
   * to be done, or nothing could be done yet; `busy`: another process is at it; `failed`: see `error`, or the
   * deployments and endpoints that failed.
   */
  readonly status: 'renewed' | 'redeployed' | 'unchanged' | 'busy' | 'failed'
  /** Why it was, or will be, renewed. */
  readonly reason?: RenewalReason | undefined
  /** Why the issuance, the pass as a whole, or the first target that failed did so. */
  readonly error?: unknown
  readonly deployments: readonly DeploymentOutcome[]
  readonly endpoints: readonly EndpointOutcome[]
  /** When there is something to be done again. */
  readonly nextRunAt: Date
}

/** What one process remembers of a certificate between passes. */
export interface PassMemory {
  readonly known: KnownTargets
  /** `fingerprint/level` of the last expiry alarm. */
  lastAlarm: string | undefined
  /** Until when the last logged back-off lasts, epoch milliseconds. */
  lastWait: number | undefined
  /** Ledgers of other nodes that are still to be looked at. */
  pruning: LedgerPruning | undefined
}

/** State of one certificate as stored. */
export interface StoredState {
  readonly certificate: Loaded<CertificateRecord> | 'corrupt' | undefined
  readonly renewal: RenewalRecord
}

const renewalInfoTimeoutMs = 30_000
/** Before a certificate that is due is looked at again although nothing is in its way. */
const dueRetryMs = 15_000

/** A pass, and why it could not do its work, when that is recorded nowhere: the shell tries again by its own schedule. */
export interface PassResult {
  readonly outcome: CertificateOutcome
  readonly unrecorded?: unknown
}

/** Runs one pass. Throws only the abort reason, or when the store cannot be used. */
export async function reconcileCertificate(
  spec: CertificateSpec,
  environment: Environment,
  memory: PassMemory,
  options: { readonly signal: AbortSignal; readonly force?: boolean | undefined },
): Promise<PassResult> {
  const { signal, force = false } = options
  const { clock } = environment
  let state = await loadState(spec, environment, signal)
  let deployments: readonly DeploymentOutcome[] = []
  if (recordOf(state) === undefined && spec.placeholder) {
    const placeholder = await providePlaceholder(spec, environment, signal)
    deployments = await deployCertificate(spec, placeholder, true, memory.known, environment, signal)
  }
  state = await refreshPlan(spec, state, environment, signal)
  let decision = decideRenewal(factsOf(spec, state, clock.now(), force))
  sayWhyItWaits(spec, state, decision, memory, environment, signal)
  let status: CertificateOutcome['status'] = 'unchanged'
  let reason = decision.reason
  let error: unknown
  let unrecorded: unknown
  if (decision.action === 'renew') {
    try {
      const renewal = await renewUnderLock(spec, state, environment, signal, force)
      status = renewal.status
      error = renewal.error
    } catch (thrown) {
      signal.throwIfAborted()
      status = 'failed'
      error = unrecorded = thrown
    }
    state = await refreshPlan(spec, await loadState(spec, environment, signal), environment, signal)
    decision = decideRenewal(factsOf(spec, state, clock.now(), false))
    // The failure has just been logged, with the time of the next attempt.
    if (status === 'failed' && decision.action === 'wait') memory.lastWait = decision.until
    if (status === 'unchanged') reason = decision.reason
  }
  const record = recordOf(state)
  if (record !== undefined) {
    try {
      deployments = await deployCertificate(spec, record, false, memory.known, environment, signal)
    } catch (thrown) {
      if (!CertError.isInstance(thrown) || thrown.code !== 'ERR_STORE_CORRUPT') throw thrown
      await setUnusableAside(spec, state, thrown, environment, signal)
      return reconcileCertificate(spec, environment, memory, { signal })
    }
  }
  const inPlace = deployments.every((outcome) => outcome.status === 'deployed' || outcome.status === 'unchanged')
  const endpoints =
    record === undefined || !inPlace ? [] : await verifyDeployment(spec, record, memory.known, environment, signal)
  // What is not served although it was deployed may have been overwritten there: the next pass deploys again.
  if (endpoints.some((outcome) => outcome.status === 'failed')) memory.known.clear()
  const alarmAt = record === undefined ? Infinity : raiseAlarm(spec, record, memory, environment)
  // Last: no deployment waits for it. Once per new certificate, because it takes a listing.
  if (status === 'renewed' && record !== undefined) memory.pruning = ledgerPruning(record, state.renewal, clock.now())
  if (memory.pruning !== undefined) memory.pruning = await pruneLedgers(spec, memory.pruning, environment, signal)
  if (status === 'unchanged' && deployments.some((outcome) => outcome.status === 'deployed')) status = 'redeployed'
  const failedTarget = [...deployments, ...endpoints].find((outcome) => outcome.status === 'failed')
  const now = clock.now()
  const checkAgainAt = asksForRenewalInfo(spec, state, now) ? state.renewal.plan?.checkAgainAt : undefined
  const busyRetryMs = status === 'busy' ? lookAgainMs(environment.lockTtlMs) : undefined
  const nextRunAt = nextRun({ decision, busyRetryMs, checkAgainAt, deployments, endpoints, alarmAt, now })
  const outcome: CertificateOutcome = {
    certificate: spec.name,
    status: failedTarget === undefined ? status : 'failed',
    reason,
    error: error ?? failedTarget?.error,
    deployments,
    endpoints,
    nextRunAt: new Date(nextRunAt),
  }
  return { outcome, unrecorded }
}

/** A failure of an earlier process would otherwise be obeyed in silence: who has mended the cause wonders why nothing happens. */
function sayWhyItWaits(
  spec: CertificateSpec,
  { renewal }: StoredState,
  decision: RenewalDecision,
  memory: PassMemory,
  environment: Environment,
  signal: AbortSignal,
): void {
  if (decision.action !== 'wait' || decision.because === 'not-due' || decision.until === memory.lastWait) return
  memory.lastWait = decision.until
  const { logger } = operationContext(environment, signal, { certificate: spec.name })
  const failures = spec.issuers.flatMap(({ id }) => {
    const failure = renewal.failures.get(id)
    return failure === undefined ? [] : [{ issuer: id, code: failure.code, message: failure.message }]
  })
  const { because, reason, until } = decision
  logger.warn('issuance waits', { reason, because, nextAttemptAt: new Date(until), failures })
}

/** A certificate whose key is not its own, or that is none: kept aside, and issued anew. */
async function setUnusableAside(
  spec: CertificateSpec,
  { certificate }: StoredState,
  error: unknown,
  environment: Environment,
  signal: AbortSignal,
): Promise<void> {
  if (certificate === undefined || certificate === 'corrupt') return
  const context = operationContext(environment, signal, { certificate: spec.name })
  const stored = { value: certificateRecord.encode(certificate.value), revision: certificate.revision }
  await setAside(storeKey('certificates', spec.name), stored, error, spec.name, environment, context)
}

/** Reads what is stored of a certificate. */
export async function loadState(
  spec: Pick<CertificateSpec, 'name'>,
  environment: Environment,
  signal: AbortSignal,
  read: ReadRecord = loadRecord,
): Promise<StoredState> {
  const context = operationContext(environment, signal, { certificate: spec.name })
  const slot = renewalSlot(spec)
  const [certificate, renewal] = await Promise.all([
    read(certificateRecord, storeKey('certificates', spec.name), spec.name, environment, context),
    read(slot.codec, slot.key, spec.name, environment, context),
  ])
  return { certificate, renewal: renewal === undefined || renewal === 'corrupt' ? slot.empty : renewal.value }
}

/** The facts {@link decideRenewal} wants. Pure. */
export function factsOf(spec: CertificateSpec, state: StoredState, now: number, force: boolean): RenewalFacts {
  const { certificate, renewal } = state
  const wanted = spec.identifiers.map(identifierKey)
  const settings = new Map(spec.issuers.map((issuer) => [issuer.id, settingsOf(spec, issuer)]))
  const backoff = new Map(
    [...renewal.failures]
      // What was wrong with other names says nothing about these; a CA's rate limit stays.
      .filter(([, failure]) => failure.failureClass === 'rate-limited' || sameNames(failure.identifiers, wanted))
      .filter(([, failure]) => isPast(failure, now))
      .filter(([id, failure]) => failure.failureClass !== 'permanent' || failure.settings === settings.get(id))
      .map(([id, { notBefore, failureClass }]) => [id, { notBefore, rateLimited: failureClass === 'rate-limited' }]),
  )
  return {
    now,
    wanted: {
      identifiers: spec.identifiers,
      issuerIds: spec.issuers.map(({ id }) => id),
      keyAlgorithm: spec.key,
      profile: spec.profile,
    },
    certificate: certificate === 'corrupt' ? 'corrupt' : certificate?.value,
    plan: renewal.plan,
    backoff,
    recentIssuances: renewal.recentIssuances,
    force,
  }
}

/** The stored certificate, if there is a readable one. */
export function recordOf(state: StoredState): CertificateRecord | undefined {
  return state.certificate === 'corrupt' ? undefined : state.certificate?.value
}

/** What became of a renewal. A failure in it is recorded. */
interface Renewal {
  readonly status: 'renewed' | 'unchanged' | 'busy' | 'failed'
  readonly error?: unknown
}

async function renewUnderLock(
  spec: CertificateSpec,
  before: StoredState,
  environment: Environment,
  signal: AbortSignal,
  force: boolean,
): Promise<Renewal> {
  const { store } = environment
  if (store.lock === undefined) {
    return renewIfStillNeeded(spec, before, environment, signal, force)
  }
  const context = operationContext(environment, signal, { certificate: spec.name })
  const lock: StoreLock | undefined = await store.lock(storeKey('certificates', spec.name), context, {
    ttlMs: environment.lockTtlMs,
  })
  if (lock === undefined) return { status: 'busy' }
  const held = anySignal(signal, lock.signal)
  try {
    // Somebody else may have renewed it while we came here.
    const now = await loadState(spec, environment, held.signal)
    const changed = recordOf(now)?.fingerprintSha256 !== recordOf(before)?.fingerprintSha256
    const state = now.certificate === undefined && before.certificate === 'corrupt' ? before : now
    return await renewIfStillNeeded(spec, state, environment, held.signal, force && !changed)
  } finally {
    held.end()
    await lock.release()
  }
}

async function renewIfStillNeeded(
  spec: CertificateSpec,
  state: StoredState,
  environment: Environment,
  signal: AbortSignal,
  force: boolean,
): Promise<Renewal> {
  const facts = factsOf(spec, state, environment.clock.now(), force)
  const decision = decideRenewal(facts)
  if (decision.action !== 'renew') return { status: 'unchanged' }
  const error = await issueCertificate(
    {
      spec,
      reason: decision.reason,
      issuerIds: openIssuers(facts, force),
      current: state.certificate === 'corrupt' ? undefined : state.certificate,
    },
    environment,
    signal,
  )
  return error === undefined ? { status: 'renewed' } : { status: 'failed', error }
}

/** The issuer that can be asked about the stored certificate: configured still, and never after the end. RFC 9773. */
function asksForRenewalInfo(spec: CertificateSpec, state: StoredState, now: number): Issuer | undefined {
  const record = recordOf(state)
  if (record === undefined || now >= record.notAfter) return undefined
  return spec.issuers.find((issuer) => issuer.id === record.issuerId && issuer.renewalInfo !== undefined)
}

/** Asks the CA when it is time to, and fixes the instant of renewal. */
async function refreshPlan(
  spec: CertificateSpec,
  state: StoredState,
  environment: Environment,
  signal: AbortSignal,
): Promise<StoredState> {
  const record = recordOf(state)
  const { clock, random } = environment
  if (record === undefined) return state
  const { plan } = state.renewal
  const issuer = asksForRenewalInfo(spec, state, clock.now())
  const asks = issuer !== undefined && renewalInfoIsDue(plan, record, clock.now())
  if (!asks && plan?.fingerprintSha256 === record.fingerprintSha256) return state
  const answer: RenewalInfoAnswer = asks
    ? await askForRenewalInfo(spec, issuer, record, environment, signal)
    : { kind: 'not-asked' }
  const context = operationContext(environment, signal, { certificate: spec.name })
  const renewal = await updateRecord(renewalSlot(spec), spec.name, environment, context, async (current) => {
    // A process that was stopped since it read the certificate must not plan for an old one.
    if (await isSuperseded(record, environment, context)) return current
    const facts = { current: current.plan, certificate: record, answer, now: clock.now() }
    const { renewAtRemainingRatio: remainingRatio } = environment
    return { ...current, plan: nextPlan({ ...facts, remainingRatio }, random) }
  })
  if (renewal.plan !== undefined && renewal.plan.selectedAt !== plan?.selectedAt) {
    environment.announce('renewal-planned', {
      certificate: spec.name,
      source: renewal.plan.source,
      at: new Date(renewal.plan.selectedAt),
      explanationUrl: renewal.plan.explanationUrl,
    })
  }
  return { ...state, renewal }
}

async function askForRenewalInfo(
  spec: CertificateSpec,
  issuer: Issuer,
  record: CertificateRecord,
  environment: Environment,
  signal: AbortSignal,
): Promise<RenewalInfoAnswer> {
  const context = issuerContext(environment, spec, issuer, signal)
  try {
    const info = await withDeadline(
      {
        ...context,
        ms: renewalInfoTimeoutMs,
        onTimeout: () =>
          new HttpError({
            code: 'ERR_HTTP_TIMEOUT',
            message: `${issuer.id} gave no renewal information within ${String(renewalInfoTimeoutMs)} ms`,
            method: 'GET',
            url: issuer.id,
          }),
      },
      async (inner) => issuer.renewalInfo?.(record.certificatePem, { ...context, signal: inner }),
    )
    if (info === undefined) return { kind: 'none' }
    const instants = [info.windowStart, info.windowEnd, info.retryAt].map(Number)
    if (!instants.every(Number.isFinite)) throw new TypeError(`${issuer.id} returned renewal information without dates`)
    return { kind: 'info', info }
  } catch (error) {
    signal.throwIfAborted()
    if (!CertError.isInstance(error) || error.code !== 'ERR_HTTP_NETWORK') {
      context.logger.warn('no renewal information', { error })
    }
    return { kind: 'failed', error }
  }
}

function raiseAlarm(
  spec: CertificateSpec,
  record: CertificateRecord,
  memory: PassMemory,
  environment: Environment,
): number {
  const { level, nextAt } = expiryAlarm(record, environment.clock.now())
  if (level !== undefined) {
    const alarm = `${record.fingerprintSha256}/${level satisfies ExpiryLevel}`
    if (memory.lastAlarm !== alarm) {
      memory.lastAlarm = alarm
      environment.announce('expiry-imminent', { certificate: spec.name, notAfter: new Date(record.notAfter), level })
    }
  }
  return nextAt
}

interface NextRunFacts {
  readonly decision: RenewalDecision
  /** When to look again after another process, if one is at it. */
  readonly busyRetryMs: number | undefined
  /** When to ask the CA for renewal information again, if it will be asked. */
  readonly checkAgainAt: number | undefined
  readonly deployments: readonly DeploymentOutcome[]
  readonly endpoints: readonly EndpointOutcome[]
  readonly alarmAt: number
  readonly now: number
}

/** The earliest instant at which anything is to be done. */
function nextRun({ decision, busyRetryMs, checkAgainAt, deployments, endpoints, alarmAt, now }: NextRunFacts): number {
  const candidates: number[] = [alarmAt, decision.action === 'wait' ? decision.until : now + dueRetryMs]
  if (busyRetryMs !== undefined) candidates.push(now + busyRetryMs)
  if (checkAgainAt !== undefined) candidates.push(checkAgainAt)
  for (const outcome of [...deployments, ...endpoints]) {
    if ('nextAttemptAt' in outcome && outcome.nextAttemptAt !== undefined)
      candidates.push(outcome.nextAttemptAt.getTime())
  }
  return Math.max(Math.min(...candidates), now)
}
