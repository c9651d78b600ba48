/**
 * Checks after a deployment that clients really get the certificate, and keeps that in the ledger.
 *
 * @module
 */
import { DeployError } from '../errors.js'
import { operationContext, type Environment } from './environment.js'
import { ledgerKey, type KnownTargets } from './deploy-certificate.js'
import type { CertificateSpec, EndpointSpec } from './managed-certificate.js'
import {
  deploymentRecord,
  emptyDeployments,
  isPast,
  keptMessage,
  type CertificateRecord,
  type TargetRecord,
} from './records.js'
import { scheduledWait, verificationSchedule } from './retry-schedule.js'
import { updateRecord } from './stored-records.js'
import { endpointName, proveEndpoint, type AddressProof } from './verify-endpoint.js'

/** What became of one endpoint in one pass. */
export type EndpointOutcome =
  | { readonly endpoint: string; readonly status: 'served' | 'unchanged' }
  | { readonly endpoint: string; readonly status: 'waiting'; readonly nextAttemptAt: Date }
  | { readonly endpoint: string; readonly status: 'failed'; readonly error: unknown; readonly nextAttemptAt: Date }

/** Looks within one pass: a server needs a moment to take a certificate up. */
const immediateWaits: readonly number[] = [0, 250, 1_000, 2_000]

/** Checks every endpoint that is not known to serve this leaf. */
export async function verifyDeployment(
  spec: CertificateSpec,
  record: CertificateRecord,
  known: KnownTargets,
  environment: Environment,
  signal: AbortSignal,
): Promise<readonly EndpointOutcome[]> {
  if (spec.endpoints.length === 0) return []
  const context = operationContext(environment, signal, { certificate: spec.name })
  const slot = { codec: deploymentRecord, key: ledgerKey(spec.name, environment.node), empty: emptyDeployments }
  const ledger = await updateRecord(slot, spec.name, environment, context, (current) => current)
  const results = await Promise.all(
    spec.endpoints.map((endpoint) => {
      const name = endpointName(endpoint)
      return verifyEndpoint(spec, endpoint, record, ledger.endpoints.get(name), known.get(name), environment, signal)
    }),
  )
  const changed = results.filter(({ changed: isChanged }) => isChanged)
  if (changed.length > 0) {
    await updateRecord(slot, spec.name, environment, context, (current) => ({
      ...current,
      endpoints: new Map([...current.endpoints, ...changed.map(({ name, entry }) => [name, entry] as const)]),
    }))
  }
  for (const { name, entry } of results) {
    if (entry.failure === undefined && entry.fingerprintSha256 !== undefined) known.set(name, entry.fingerprintSha256)
    else known.delete(name)
  }
  return results.map(({ outcome }) => outcome)
}

interface EndpointResult {
  readonly name: string
  readonly outcome: EndpointOutcome
  readonly entry: TargetRecord
  readonly changed: boolean
}

async function verifyEndpoint(
  spec: CertificateSpec,
  endpoint: EndpointSpec,
  record: CertificateRecord,
  before: TargetRecord | undefined,
  known: string | undefined,
  environment: Environment,
  signal: AbortSignal,
): Promise<EndpointResult> {
  const name = endpointName(endpoint)
  const { fingerprintSha256 } = record
  const { clock, random } = environment
  const remembered = before?.failure?.fingerprintSha256 === fingerprintSha256 ? before.failure : undefined
  const failure = remembered !== undefined && isPast(remembered, clock.now()) ? remembered : undefined
  if (before !== undefined && failure === undefined && known === fingerprintSha256) {
    return { name, entry: before, changed: false, outcome: { endpoint: name, status: 'unchanged' } }
  }
  if (before !== undefined && failure !== undefined && failure.notBefore > clock.now()) {
    const nextAttemptAt = new Date(failure.notBefore)
    return { name, entry: before, changed: false, outcome: { endpoint: name, status: 'waiting', nextAttemptAt } }
  }
  const context = operationContext(environment, signal, { certificate: spec.name, endpoint: name })
  let proofs: readonly AddressProof[] = []
  for (const wait of immediateWaits) {
    if (wait > 0) await clock.sleep(wait, { signal })
    proofs = await proveEndpoint(endpoint, context, environment)
    if (!proofs.every((proof) => proof.fingerprintSha256 === fingerprintSha256)) continue
    const alreadyServed = before?.fingerprintSha256 === fingerprintSha256 && failure === undefined
    if (!alreadyServed) {
      environment.announce('certificate-served', {
        certificate: spec.name,
        endpoint: name,
        addresses: proofs.map(({ address }) => address),
        fingerprintSha256,
        notAfter: new Date(record.notAfter),
      })
    }
    const entry: TargetRecord = { fingerprintSha256, at: clock.now(), failure: undefined }
    const outcome: EndpointOutcome = { endpoint: name, status: alreadyServed ? 'unchanged' : 'served' }
    return { name, entry, changed: !alreadyServed, outcome }
  }
  const error = new DeployError({
    code: 'ERR_DEPLOY_VERIFY_FAILED',
    message: `${name} does not serve certificate ${spec.name} (sha256 ${short(fingerprintSha256)}): ${describe(proofs, fingerprintSha256)}`,
    deployer: name,
  })
  const attempt = (failure?.count ?? 0) + 1
  const wait = scheduledWait(verificationSchedule, attempt) * (1 + random() * 0.1)
  const at = clock.now()
  const notBefore = Math.ceil(at + wait)
  const nextAttemptAt = new Date(notBefore)
  context.logger.warn('verification failed', { attempt, nextAttemptAt, error })
  environment.announce('verification-failed', {
    certificate: spec.name,
    endpoint: name,
    proofs,
    error,
    attempt,
    nextAttemptAt,
  })
  return {
    name,
    changed: true,
    entry: {
      fingerprintSha256: before?.fingerprintSha256,
      at: before?.at ?? clock.now(),
      failure: { fingerprintSha256, code: error.code, message: keptMessage(error), count: attempt, at, notBefore },
    },
    outcome: { endpoint: name, status: 'failed', error, nextAttemptAt },
  }
}

function describe(proofs: readonly AddressProof[], wanted: string): string {
  return proofs
    .map(({ address, fingerprintSha256, problem }) => {
      if (fingerprintSha256 === undefined) return `${address}: ${problem ?? 'no certificate'}`
      return `${address} shows ${fingerprintSha256 === wanted ? 'it' : `sha256 ${short(fingerprintSha256)}`}`
    })
    .join(', ')
}

function short(fingerprint: string): string {
  return fingerprint.slice(0, 16)
}
