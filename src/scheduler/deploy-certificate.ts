/**
 * Brings a stored certificate to its targets, keeps the ledger, and lets one failing target stop no other.
 *
 * @module
 */
import type { CertificateBundle } from '../core/certificate-bundle.js'
import type { OperationContext } from '../core/context.js'
import { DeployError } from '../errors.js'
import { anySignal } from '../internal/any-signal.js'
import { withDeadline } from '../internal/deadline.js'
import type { Deployer, DeployResult } from '../deployers/deployer.js'
import { storeKey, type StoreKey } from '../stores/cert-store.js'
import { cleanUpGraceMs, operationContext, type Environment } from './environment.js'
import { lookAgainMs } from './look-again.js'
import type { CertificateSpec } from './managed-certificate.js'
import {
  bundleOf,
  certificateRecord,
  deploymentRecord,
  emptyDeployments,
  isPast,
  keptMessage,
  type CertificateRecord,
  type DeploymentRecord,
  type TargetRecord,
} from './records.js'
import { asCertError } from './plugin-failure.js'
import { deploymentSchedule, longestRetryAfterMs, scheduledWait } from './retry-schedule.js'
import { peekRecord, updateRecord } from './stored-records.js'
import { whileAwake } from './while-awake.js'

/** What became of one target in one pass. */
export type DeploymentOutcome =
  | { readonly deployer: string; readonly status: 'deployed' | 'unchanged' }
  /** Failed before and must wait, or another replica is at it (`busy`), or a placeholder has no business there. */
  | {
      readonly deployer: string
      readonly status: 'waiting'
      readonly busy?: boolean | undefined
      readonly nextAttemptAt: Date | undefined
    }
  | { readonly deployer: string; readonly status: 'failed'; readonly error: unknown; readonly nextAttemptAt: Date }

/** Leaves that this process has itself brought to, or seen at, a target: a ledger alone proves nothing after a restart. */
export type KnownTargets = Map<string, string>

/** Whether a target is to be deployed to now. Pure. */
export function decideDeployment(
  target: TargetRecord | undefined,
  fingerprintSha256: string,
  facts: { readonly now: number; readonly known: boolean },
): { readonly action: 'deploy' } | { readonly action: 'none' } | { readonly action: 'wait'; readonly until: number } {
  const failure = target?.failure
  const counts = failure?.fingerprintSha256 === fingerprintSha256 && isPast(failure, facts.now)
  if (counts && failure.notBefore > facts.now) {
    return { action: 'wait', until: failure.notBefore }
  }
  const current = target?.fingerprintSha256 === fingerprintSha256 && failure === undefined
  return current && facts.known ? { action: 'none' } : { action: 'deploy' }
}

/**
 * Deploys to every target that needs it. Never throws for a target's failure.
 *
 * @throws {@link StoreError}, also `ERR_STORE_CORRUPT` when the record holds no certificate with its key; the abort reason
 */
export async function deployCertificate(
  spec: CertificateSpec,
  record: CertificateRecord,
  placeholder: boolean,
  known: KnownTargets,
  environment: Environment,
  signal: AbortSignal,
): Promise<readonly DeploymentOutcome[]> {
  if (spec.deployers.length === 0) return []
  // Read once, and only when some target needs it: reading keys and certificates is most of what a quiet pass would cost.
  let read: CertificateBundle | undefined
  const bundle = (): CertificateBundle => (read ??= bundleOf(record, placeholder))
  const node = spec.deployers.filter(({ scope }) => scope !== 'cluster')
  const cluster = spec.deployers.filter(({ scope }) => scope === 'cluster')
  const deployment: Deployment = { spec, record, placeholder, bundle, known, environment, signal }
  // Both come to their end, whatever becomes of the other one.
  const [own, shared] = await Promise.allSettled([
    deployAll(node, environment.node, deployment),
    deployToCluster(cluster, deployment),
  ])
  if (own.status === 'rejected') throw own.reason
  if (shared.status === 'rejected') throw shared.reason
  return [...own.value, ...shared.value]
}

/** Key of a ledger: per node, and one for the cluster's own targets. That of a node that is gone is removed after renewals. */
export function ledgerKey(certificate: string, holder: string): StoreKey {
  return storeKey('deployments', certificate, holder)
}

/** Holder of the ledger of cluster-wide targets; no node can be called so. */
export const clusterHolder = '*'

interface Deployment {
  readonly spec: CertificateSpec
  readonly record: CertificateRecord
  readonly placeholder: boolean
  readonly bundle: () => CertificateBundle
  readonly known: KnownTargets
  readonly environment: Environment
  readonly signal: AbortSignal
}

async function deployToCluster(
  deployers: readonly Deployer[],
  deployment: Deployment,
): Promise<readonly DeploymentOutcome[]> {
  const { environment, spec, signal } = deployment
  const { store } = environment
  if (deployers.length === 0) return []
  if (store.lock === undefined) return deployAll(deployers, clusterHolder, deployment)
  const context = operationContext(environment, signal, { certificate: spec.name })
  const lock = await store.lock(ledgerKey(spec.name, clusterHolder), context, { ttlMs: environment.lockTtlMs })
  if (lock === undefined) {
    const nextAttemptAt = new Date(environment.clock.now() + lookAgainMs(environment.lockTtlMs))
    return deployers.map(({ name }) => ({ deployer: name, status: 'waiting', busy: true, nextAttemptAt }))
  }
  const held = anySignal(signal, lock.signal)
  try {
    return await deployAll(deployers, clusterHolder, { ...deployment, signal: held.signal })
  } catch (error) {
    if (signal.aborted || !lock.signal.aborted) throw error
    context.logger.warn('lock lost while deploying', { error })
    const nextAttemptAt = new Date(environment.clock.now() + lookAgainMs(environment.lockTtlMs))
    return deployers.map(({ name }) => ({ deployer: name, status: 'failed', error, nextAttemptAt }))
  } finally {
    held.end()
    await lock.release()
  }
}

async function deployAll(
  deployers: readonly Deployer[],
  holder: string,
  deployment: Deployment,
): Promise<readonly DeploymentOutcome[]> {
  const { spec, record, known, environment, signal } = deployment
  if (deployers.length === 0) return []
  const context = operationContext(environment, signal, { certificate: spec.name })
  const slot = { codec: deploymentRecord, key: ledgerKey(spec.name, holder), empty: emptyDeployments }
  const ledger = await updateRecord(slot, spec.name, environment, context, (current) => current)
  const { fingerprintSha256 } = record
  const now = environment.clock.now()
  const decided = deployers.map((deployer) => {
    const target = ledger.targets.get(deployer.name)
    const isKnown = deployer.everyPass !== true && known.get(deployer.name) === fingerprintSha256
    return { deployer, target, decision: decideDeployment(target, fingerprintSha256, { now, known: isKnown }) }
  })
  // Here, and not where a deployer's failure is caught: a record that cannot be used is no fault of a target.
  if (decided.some(({ decision }) => decision.action === 'deploy')) deployment.bundle()
  const results = await Promise.all(
    decided.map(({ deployer, target, decision }) => deployToTarget(deployer, target, decision, deployment)),
  )
  // One write for all targets of the pass; nothing to write is the usual case, and then nothing is read again either.
  if (mergeTargets(ledger, results) !== ledger) {
    await updateRecord(slot, spec.name, environment, context, (current) => mergeTargets(current, results))
  }
  for (const { deployer, target } of results) {
    if (target?.failure === undefined && target?.fingerprintSha256 === fingerprintSha256) {
      known.set(deployer.name, fingerprintSha256)
    } else {
      known.delete(deployer.name)
    }
  }
  return results.map(({ outcome }) => outcome)
}

interface TargetResult {
  readonly deployer: Deployer
  readonly outcome: DeploymentOutcome
  /** The ledger entry afterwards. */
  readonly target: TargetRecord | undefined
}

async function deployToTarget(
  deployer: Deployer,
  target: TargetRecord | undefined,
  decision: ReturnType<typeof decideDeployment>,
  deployment: Deployment,
): Promise<TargetResult> {
  const { spec, environment, signal } = deployment
  const { fingerprintSha256 } = deployment.record
  const now = environment.clock.now()
  if (decision.action === 'none') return { deployer, target, outcome: { deployer: deployer.name, status: 'unchanged' } }
  if (decision.action === 'wait') {
    const nextAttemptAt = new Date(decision.until)
    return { deployer, target, outcome: { deployer: deployer.name, status: 'waiting', nextAttemptAt } }
  }
  const context = operationContext(environment, signal, { certificate: spec.name, deployer: deployer.name })
  const bundle = deployment.bundle()
  try {
    if (bundle.placeholder && !(await mayTakePlaceholder(deployer, bundle, environment, context))) {
      return { deployer, target, outcome: { deployer: deployer.name, status: 'waiting', nextAttemptAt: undefined } }
    }
    // As long as a lease is trusted without word from the store.
    const limitMs = (environment.lockTtlMs * 2) / 3
    const later = (waitMs: number): TargetResult => {
      const nextAttemptAt = new Date(environment.clock.now() + waitMs)
      return { deployer, target, outcome: { deployer: deployer.name, status: 'waiting', nextAttemptAt } }
    }
    const result = await whileAwake({ ...context, limitMs }, async (awake) => {
      const current = { ...context, signal: awake }
      const newest = bundle.placeholder ? 'this' : await newestOf(bundle, environment, current)
      if (newest !== 'this') return newest
      return bounded(deployer, environment, current, (inner) => deployer.deploy(bundle, inner))
    })
    if (result === 'another') return later(0)
    if (result === 'unknown') return later(lookAgainMs(environment.lockTtlMs))
    if (result === undefined) {
      context.logger.warn('the process stood still while it deployed; what came of it is not known', { limitMs })
      return later(lookAgainMs(environment.lockTtlMs))
    }
    if (result.status === 'deployed' || target?.fingerprintSha256 !== fingerprintSha256) {
      announceDeployed(deployer, result, deployment)
    }
    return {
      deployer,
      outcome: { deployer: deployer.name, status: result.status },
      target: { fingerprintSha256, at: environment.clock.now(), failure: undefined },
    }
  } catch (thrown) {
    signal.throwIfAborted()
    const error = asCertError(thrown, `deployer ${deployer.name}`)
    const before = target?.failure?.fingerprintSha256 === fingerprintSha256 ? target.failure.count : 0
    const attempt = before + 1
    const wait = scheduledWait(deploymentSchedule, attempt) * (1 + environment.random() * 0.1)
    const at = environment.clock.now()
    const asked = Math.min(error.retryAt?.getTime() ?? 0, at + longestRetryAfterMs)
    const notBefore = Math.ceil(Math.max(at + wait, asked))
    const nextAttemptAt = new Date(notBefore)
    context.logger.warn('deployment failed', { attempt, nextAttemptAt, error })
    environment.announce('deployment-failed', {
      certificate: spec.name,
      deployer: deployer.name,
      placeholder: bundle.placeholder,
      error,
      attempt,
      nextAttemptAt,
    })
    return {
      deployer,
      outcome: { deployer: deployer.name, status: 'failed', error, nextAttemptAt },
      target: {
        fingerprintSha256: target?.fingerprintSha256,
        at: target?.at ?? now,
        failure: {
          fingerprintSha256,
          code: error.code,
          message: keptMessage(error),
          count: attempt,
          at,
          notBefore,
        },
      },
    }
  }
}

/** A store that cannot be read is no fault of the target. */
async function newestOf(
  bundle: CertificateBundle,
  environment: Environment,
  context: OperationContext,
): Promise<'this' | 'another' | 'unknown'> {
  try {
    return (await isSuperseded(bundle, environment, context)) ? 'another' : 'this'
  } catch (error) {
    context.signal.throwIfAborted()
    context.logger.warn('not deployed: the store does not say whether the certificate is still the newest', { error })
    return 'unknown'
  }
}

/** A process that was stopped for long may hold an old certificate: what is stored now is what counts. */
export async function isSuperseded(
  { name, fingerprintSha256 }: Pick<CertificateRecord, 'name' | 'fingerprintSha256'>,
  environment: Environment,
  context: OperationContext,
): Promise<boolean> {
  const stored = await peekRecord(certificateRecord, storeKey('certificates', name), name, environment, context)
  return stored !== undefined && stored !== 'corrupt' && stored.value.fingerprintSha256 !== fingerprintSha256
}

/** A placeholder never takes the place of anything: only a deployer that sees an empty target, or this one, gets it. */
async function mayTakePlaceholder(
  deployer: Deployer,
  bundle: CertificateBundle,
  environment: Environment,
  context: OperationContext,
): Promise<boolean> {
  const inspect = deployer.inspect?.bind(deployer)
  if (inspect === undefined) {
    context.logger.debug('no placeholder for a deployer that cannot inspect')
    return false
  }
  const state = await bounded(deployer, environment, context, (inner) => inspect(bundle, inner))
  return state !== 'stale'
}

function bounded<T>(
  deployer: Deployer,
  environment: Environment,
  context: OperationContext,
  run: (context: OperationContext) => Promise<T>,
): Promise<T> {
  const ms = environment.deploymentTimeoutMs
  return withDeadline(
    {
      ...context,
      ms,
      graceMs: cleanUpGraceMs,
      onTimeout: () =>
        new DeployError({
          code: 'ERR_DEPLOY_UNAVAILABLE',
          message: `deployer ${deployer.name} did not finish within ${String(ms)} ms`,
          deployer: deployer.name,
        }),
    },
    (signal) => run({ ...context, signal }),
  )
}

function announceDeployed(
  deployer: Deployer,
  result: DeployResult,
  { spec, record, placeholder, environment }: Deployment,
): void {
  environment.announce('certificate-deployed', {
    certificate: spec.name,
    deployer: deployer.name,
    status: result.status,
    fingerprintSha256: record.fingerprintSha256,
    placeholder,
    details: result.details,
  })
}

function mergeTargets(record: DeploymentRecord, results: readonly TargetResult[]): DeploymentRecord {
  const changed = results.filter(({ deployer, target }) => !sameTarget(record.targets.get(deployer.name), target))
  if (changed.length === 0) return record
  const targets = new Map(record.targets)
  for (const { deployer, target } of changed) if (target !== undefined) targets.set(deployer.name, target)
  return { ...record, targets }
}

function sameTarget(one: TargetRecord | undefined, other: TargetRecord | undefined): boolean {
  return (
    one === other ||
    (one?.fingerprintSha256 === other?.fingerprintSha256 && one?.failure === undefined && other?.failure === undefined)
  )
}
