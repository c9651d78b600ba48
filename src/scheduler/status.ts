/**
 * What a scheduler can tell without doing anything: the plan, and the state of each certificate.
 *
 * @module
 */
import { storeKey, type StoreKey } from '../stores/cert-store.js'
import { decideRenewal, openIssuers, type RenewalReason } from './decide-renewal.js'
import { clusterHolder, ledgerKey } from './deploy-certificate.js'
import { operationContext, type Environment } from './environment.js'
import { expiryAlarm, type ExpiryLevel } from './expiry-alarm.js'
import type { CertificateSpec } from './managed-certificate.js'
import { renewalSlot } from './issue-certificate.js'
import { factsOf, loadState, recordOf } from './reconcile.js'
import { deploymentRecord, type DeploymentRecord, type TargetRecord } from './records.js'
import { peekRecord } from './stored-records.js'
import { endpointName } from './verify-endpoint.js'

/** What would happen to one certificate, when and why. No order is placed to find out, and nothing is written. */
export interface PlannedAction {
  readonly certificate: string
  readonly action: 'renew' | 'wait'
  /** When it will be renewed; now for `renew`. */
  readonly at: Date
  readonly reason: RenewalReason | undefined
  /** Why it waits. */
  readonly because: 'not-due' | 'backoff' | 'rate-limited' | 'renewed-too-often' | undefined
  /** The CA's explanation, for people. Comes from outside: show it, do not fetch it. */
  readonly explanationUrl: string | undefined
  /** Issuers in the order they would be tried now; those that must wait are left out. */
  readonly issuers: readonly string[]
}

/** State of a deployment target or an endpoint. */
export interface TargetStatus {
  readonly name: string
  /** Whether the stored certificate is known to be there. */
  readonly state: 'current' | 'outdated' | 'failing'
  /** When it was brought or seen there. */
  readonly since: Date | undefined
  /** Code and message of the last failure. */
  readonly code: string | undefined
  readonly message: string | undefined
  readonly nextAttemptAt: Date | undefined
}

/** State of one certificate. Holds no key material. */
export interface CertificateStatus {
  readonly certificate: string
  /**
   * `ok`: valid, deployed and served; `degraded`: valid, but something is failing, not in place yet, or late; `failing`:
   * there is no valid certificate.
   */
  readonly health: 'ok' | 'degraded' | 'failing'
  readonly issuer: string | undefined
  readonly fingerprintSha256: string | undefined
  readonly notBefore: Date | undefined
  readonly notAfter: Date | undefined
  readonly alarm: ExpiryLevel | undefined
  readonly failures: readonly {
    readonly issuer: string
    readonly code: string
    readonly message: string
    readonly count: number
    readonly nextAttemptAt: Date
  }[]
  readonly deployments: readonly TargetStatus[]
  readonly endpoints: readonly TargetStatus[]
  /** When the running scheduler looks at it again; `undefined` when it is not started. */
  readonly nextRunAt: Date | undefined
}

/** What {@link planCertificate} reads. */
export function planKeys(spec: CertificateSpec): readonly StoreKey[] {
  return [storeKey('certificates', spec.name), renewalSlot(spec).key]
}

/** Says what would be done. */
export async function planCertificate(
  spec: CertificateSpec,
  environment: Environment,
  signal: AbortSignal,
): Promise<PlannedAction> {
  const state = await loadState(spec, environment, signal, peekRecord)
  const now = environment.clock.now()
  const facts = factsOf(spec, state, now, false)
  const decision = decideRenewal(facts)
  return {
    certificate: spec.name,
    action: decision.action,
    at: new Date(decision.action === 'wait' ? decision.until : now),
    reason: decision.reason,
    because: decision.action === 'wait' ? decision.because : undefined,
    explanationUrl: state.renewal.plan?.explanationUrl,
    issuers: openIssuers(facts, false),
  }
}

/** What {@link certificateStatus} reads. */
export function statusKeys(spec: CertificateSpec, node: string): readonly StoreKey[] {
  const { own, cluster } = ledgerKeys(spec, node)
  return [...planKeys(spec), ...[own, cluster].filter((key) => key !== undefined)]
}

/** The ledgers that say something about a certificate here. */
function ledgerKeys({ name, deployers, endpoints }: CertificateSpec, node: string) {
  const hasOwn = endpoints.length > 0 || deployers.some(({ scope }) => scope !== 'cluster')
  const hasShared = deployers.some(({ scope }) => scope === 'cluster')
  return {
    own: hasOwn ? ledgerKey(name, node) : undefined,
    cluster: hasShared ? ledgerKey(name, clusterHolder) : undefined,
  }
}

/** Says how a certificate is. */
export async function certificateStatus(
  spec: CertificateSpec,
  environment: Environment,
  signal: AbortSignal,
  running: { readonly nextRunAt: number | undefined; readonly lastPassFailed: boolean },
): Promise<CertificateStatus> {
  const state = await loadState(spec, environment, signal, peekRecord)
  const context = operationContext(environment, signal, { certificate: spec.name })
  const ledger = async (key: StoreKey | undefined): Promise<DeploymentRecord | undefined> => {
    const loaded = key && (await peekRecord(deploymentRecord, key, spec.name, environment, context))
    return loaded === 'corrupt' ? undefined : loaded?.value
  }
  const keys = ledgerKeys(spec, environment.node)
  const [own, cluster] = await Promise.all([ledger(keys.own), ledger(keys.cluster)])
  const record = recordOf(state)
  const now = environment.clock.now()
  const alarm = record && expiryAlarm(record, now).level
  const fingerprint = record?.fingerprintSha256
  const deployments = spec.deployers.map(({ name, scope }) =>
    targetStatus(name, (scope === 'cluster' ? cluster : own)?.targets.get(name), fingerprint),
  )
  const endpoints = spec.endpoints.map((endpoint) => {
    const name = endpointName(endpoint)
    return targetStatus(name, own?.endpoints.get(name), fingerprint)
  })
  const failures = [...state.renewal.failures]
    .filter(([id]) => spec.issuers.some((issuer) => issuer.id === id))
    .map(([issuer, { code, message, count, notBefore }]) => ({
      issuer,
      code,
      message,
      count,
      nextAttemptAt: new Date(notBefore),
    }))
  const valid = record !== undefined && record.notBefore <= now && record.notAfter > now
  const inPlace = [...deployments, ...endpoints].every((target) => target.state === 'current')
  const well = inPlace && failures.length === 0 && alarm === undefined && !running.lastPassFailed
  return {
    certificate: spec.name,
    health: !valid ? 'failing' : well ? 'ok' : 'degraded',
    issuer: record?.issuerId,
    fingerprintSha256: fingerprint,
    notBefore: record && new Date(record.notBefore),
    notAfter: record && new Date(record.notAfter),
    alarm,
    failures,
    deployments,
    endpoints,
    nextRunAt: running.nextRunAt === undefined ? undefined : new Date(running.nextRunAt),
  }
}

function targetStatus(name: string, target: TargetRecord | undefined, fingerprint: string | undefined): TargetStatus {
  const failure = target?.failure
  const current = fingerprint !== undefined && target?.fingerprintSha256 === fingerprint
  return {
    name,
    state: failure !== undefined ? 'failing' : current ? 'current' : 'outdated',
    since: target?.fingerprintSha256 === undefined ? undefined : new Date(target.at),
    code: failure?.code,
    message: failure?.message,
    nextAttemptAt: failure && new Date(failure.notBefore),
  }
}
