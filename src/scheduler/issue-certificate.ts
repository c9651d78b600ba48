/**
 * One issuance: key and request first into the store, then the issuers in turn, then the checked result into the store.
 *
 * @module
 */
import { randomUUID } from 'node:crypto'
import { checkIssuedChain, type CheckedChain } from '../core/certificate-bundle.js'
import { identifierKey, sameIdentifiers } from '../core/identifier.js'
import { generatePrivateKey, importPrivateKey, publicKeyInfo } from '../core/private-key.js'
import { certificateIdOf } from '../core/renewal-info.js'
import { createCsr } from '../core/x509.js'
import { CertError, IssuersFailedError } from '../errors.js'
import { asCertError } from './plugin-failure.js'
import { withDeadline } from '../internal/deadline.js'
import type { Issuer, IssuerContext } from '../issuers/issuer.js'
import { storeKey } from '../stores/cert-store.js'
import type { RenewalReason } from './decide-renewal.js'
import { cleanUpGraceMs, operationContext, type Environment } from './environment.js'
import { settingsOf, type CertificateSpec } from './managed-certificate.js'
import {
  certificateRecord,
  emptyRenewal,
  keptMessage,
  pendingKey,
  renewalRecord,
  type CertificateRecord,
  type FailureRecord,
  type PendingIssuance,
  type RenewalRecord,
} from './records.js'
import { classifyFailure, nextAttempt } from './retry-schedule.js'
import { updateRecord, type Loaded } from './stored-records.js'

/** What {@link issueCertificate} starts from. */
export interface Issuance {
  readonly spec: CertificateSpec
  readonly reason: RenewalReason
  /** Ids of the issuers that may be asked now, in order. */
  readonly issuerIds: readonly string[]
  /** What is stored now. */
  readonly current: Loaded<CertificateRecord> | undefined
}

/** How long a prepared key and request are taken up again: an older order yields a certificate that is old already. */
const pendingLifeMs = 86_400_000

/**
 * Issues and stores.
 *
 * @returns `undefined` when it is stored; else why every issuer failed, which is recorded and announced.
 * @throws What could not be recorded: a {@link StoreError} when the store is away; the abort reason.
 */
export async function issueCertificate(
  issuance: Issuance,
  environment: Environment,
  signal: AbortSignal,
): Promise<CertError | undefined> {
  const { spec, current } = issuance
  const issuers = spec.issuers.filter(({ id }) => issuance.issuerIds.includes(id))
  const pending = await preparePending(issuance, environment, signal)
  const failures: { issuer: string; error: CertError }[] = []
  for (const issuer of issuers) {
    let checked: CheckedChain
    try {
      checked = await askIssuer(issuer, spec, pending, current?.value, environment, signal)
    } catch (thrown) {
      // A stop or a lost lock says nothing about the CA.
      signal.throwIfAborted()
      const error = asCertError(thrown, `issuer ${issuer.id}`)
      await recordFailure(issuer, error, issuance, environment, signal)
      failures.push({ issuer: issuer.id, error })
      continue
    }
    await storeCertificate(issuance, issuer, pending, checked, environment, signal)
    return undefined
  }
  const [first, second] = failures
  if (first !== undefined && second === undefined) return first.error
  return new IssuersFailedError({
    message: `certificate ${spec.name}: every issuer failed: ${failures.map(({ issuer, error }) => `${issuer}: ${error.message}`).join('; ')}`,
    failures,
  })
}

/** Key and request are stored before anyone is asked, so that a crash finishes the same order with the same key. */
async function preparePending(
  { spec, current }: Issuance,
  environment: Environment,
  signal: AbortSignal,
): Promise<PendingIssuance> {
  const context = contextOf(environment, spec, signal)
  const now = environment.clock.now()
  const keep = (record: RenewalRecord): PendingIssuance | undefined => {
    const { pending } = record
    const usable =
      pending !== undefined &&
      pending.idempotencyKey !== current?.value.idempotencyKey &&
      sameIdentifiers(pending.identifiers, spec.identifiers) &&
      pending.keyAlgorithm === spec.key &&
      Math.abs(now - pending.createdAt) < pendingLifeMs
    return usable ? pending : undefined
  }
  const slot = renewalSlot(spec)
  const before = await updateRecord(slot, spec.name, environment, context, (record) => record)
  const kept = keep(before)
  if (kept !== undefined) return kept
  const reused = spec.reuseKey && current?.value.keyAlgorithm === spec.key
  const key = reused ? importPrivateKey(current.value.privateKeyPem) : await generatePrivateKey(spec.key)
  const pending: PendingIssuance = {
    idempotencyKey: randomUUID(),
    privateKeyPem: key.exportPem(),
    csr: Buffer.from(await createCsr(key, spec.identifiers)).toString('base64'),
    identifiers: spec.identifiers,
    keyAlgorithm: spec.key,
    createdAt: now,
  }
  const after = await updateRecord(slot, spec.name, environment, context, (record) =>
    keep(record) === undefined ? { ...record, pending } : record,
  )
  return after.pending ?? pending
}

async function askIssuer(
  issuer: Issuer,
  spec: CertificateSpec,
  pending: PendingIssuance,
  current: CertificateRecord | undefined,
  environment: Environment,
  signal: AbortSignal,
): Promise<CheckedChain> {
  const replaces =
    current?.issuerId === issuer.id && current.certificateId !== undefined
      ? { value: current.certificateId }
      : undefined
  const issued = await withDeadline(
    {
      clock: environment.clock,
      signal,
      ms: environment.issuanceTimeoutMs,
      graceMs: cleanUpGraceMs,
      onTimeout: () =>
        new CertError({
          code: 'ERR_PLUGIN_FAILED',
          message: `issuer ${issuer.id} did not finish within ${String(environment.issuanceTimeoutMs)} ms`,
          retryable: true,
        }),
    },
    (inner) =>
      issuer.issue(
        {
          certificate: spec.name,
          idempotencyKey: pending.idempotencyKey,
          csr: Buffer.from(pending.csr, 'base64'),
          identifiers: spec.identifiers,
          replaces,
          profile: spec.profile,
        },
        issuerContext(environment, spec, issuer, inner),
      ),
  )
  return checkIssuedChain(issued.chainPem, {
    publicKeyInfo: publicKeyInfo(pendingKey(pending)),
    identifiers: spec.identifiers,
    traits: issuer.traits?.({ certificate: spec.name, profile: spec.profile }),
    now: environment.clock.now(),
    trustedRoots: issued.trustedRoots,
  })
}

async function storeCertificate(
  { spec, reason, current }: Issuance,
  issuer: Issuer,
  pending: PendingIssuance,
  { leaf, certificatePem, chainPem }: CheckedChain,
  environment: Environment,
  signal: AbortSignal,
): Promise<void> {
  const now = environment.clock.now()
  const { notAfter, fingerprintSha256 } = leaf
  const facts = { certificate: spec.name, fingerprintSha256, notAfter }
  environment.announce('certificate-issued', { ...facts, issuer: issuer.id, reason })
  const record: CertificateRecord = {
    name: spec.name,
    identifiers: spec.identifiers,
    issuerId: issuer.id,
    keyAlgorithm: pending.keyAlgorithm,
    profile: spec.profile,
    certificatePem,
    chainPem,
    privateKeyPem: pending.privateKeyPem,
    fingerprintSha256,
    notBefore: leaf.notBefore.getTime(),
    notAfter: notAfter.getTime(),
    issuedAt: now,
    certificateId: certificateIdOf(leaf)?.value,
    idempotencyKey: pending.idempotencyKey,
  }
  const context = contextOf(environment, spec, signal)
  await environment.store.put(storeKey('certificates', spec.name), certificateRecord.encode(record), context, {
    ifRevision: current?.revision ?? null,
  })
  environment.announce('certificate-stored', facts)
  await updateRecord(renewalSlot(spec), spec.name, environment, context, (renewal) => ({
    plan: undefined,
    pending: undefined,
    failures: new Map([...renewal.failures].filter(([id]) => id !== issuer.id)),
    recentIssuances: [...renewal.recentIssuances, now].slice(-5),
  }))
}

async function recordFailure(
  issuer: Issuer,
  error: CertError,
  { spec, current }: Issuance,
  environment: Environment,
  signal: AbortSignal,
): Promise<void> {
  const context = contextOf(environment, spec, signal)
  const at = environment.clock.now()
  const failureClass = classifyFailure(error)
  const wanted = spec.identifiers.map(identifierKey)
  let failure: FailureRecord | undefined
  await updateRecord(renewalSlot(spec), spec.name, environment, context, (renewal) => {
    const previous = renewal.failures.get(issuer.id)
    const count = previous !== undefined && sameNames(previous.identifiers, wanted) ? previous.count + 1 : 1
    failure = {
      failureClass,
      code: error.code,
      message: keptMessage(error),
      count,
      at,
      notBefore: nextAttempt(
        {
          failureClass,
          count,
          at,
          retryAt: error.retryAt?.getTime(),
          lifetimeMs: current && current.value.notAfter - current.value.notBefore,
        },
        environment.random,
      ),
      identifiers: wanted,
      settings: settingsOf(spec, issuer),
    }
    // A finished order that yields a wrong certificate would yield it again: the second time, a new key and order. Not for
    // its dates: they look wrong to a clock that is wrong, and new orders would not change that.
    const spoils = (code: string | undefined): boolean =>
      code?.startsWith('ERR_CERT_') === true && code !== 'ERR_CERT_EXPIRED'
    const spoilt = spoils(failure.code) && spoils(previous?.code)
    return {
      ...renewal,
      pending: spoilt ? undefined : renewal.pending,
      failures: new Map([...renewal.failures, [issuer.id, failure]]),
    }
  })
  const nextAttemptAt = new Date(failure?.notBefore ?? at)
  const attempt = failure?.count ?? 1
  context.logger.warn('issuance failed', { issuer: issuer.id, attempt, nextAttemptAt, error })
  environment.announce('issuance-failed', {
    certificate: spec.name,
    issuer: issuer.id,
    error,
    attempt,
    nextAttemptAt,
  })
}

/** Where a certificate's renewal state is kept. */
export function renewalSlot(spec: Pick<CertificateSpec, 'name'>): {
  codec: typeof renewalRecord
  key: ReturnType<typeof storeKey>
  empty: RenewalRecord
} {
  return { codec: renewalRecord, key: storeKey('renewals', spec.name), empty: emptyRenewal }
}

/** The context an issuer gets. */
export function issuerContext(
  environment: Environment,
  spec: Pick<CertificateSpec, 'name'>,
  issuer: Issuer,
  signal: AbortSignal,
): IssuerContext {
  return {
    ...operationContext(environment, signal, { certificate: spec.name, issuer: issuer.id }),
    store: environment.store,
    random: environment.random,
  }
}

function contextOf(
  environment: Environment,
  spec: CertificateSpec,
  signal: AbortSignal,
): ReturnType<typeof operationContext> {
  return operationContext(environment, signal, { certificate: spec.name })
}

/** Whether two lists hold the same names, in any order. */
export function sameNames(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((name) => other.includes(name))
}
