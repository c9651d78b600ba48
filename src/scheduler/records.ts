/**
 * What the scheduler keeps in the store: the certificate, the state of its renewal, and the ledger of its deployments.
 *
 * @module
 */
import { createBundle, type CertificateBundle } from '../core/certificate-bundle.js'
import { parseIdentifier, type Identifier } from '../core/identifier.js'
import { importPrivateKey, keyAlgorithms, type KeyAlgorithm, type PrivateKeyMaterial } from '../core/private-key.js'
import { recordCodec, type RecordCodec, type RecordFields } from '../core/record.js'
import { StoreError } from '../errors.js'

/** A certificate as stored: one record, so that key and chain cannot come apart. Instants are epoch milliseconds. */
export interface CertificateRecord {
  readonly name: string
  readonly identifiers: readonly Identifier[]
  readonly issuerId: string
  readonly keyAlgorithm: KeyAlgorithm
  /** The profile that was asked for by the managed certificate. */
  readonly profile: string | undefined
  readonly certificatePem: string
  readonly chainPem: string
  readonly privateKeyPem: string
  readonly fingerprintSha256: string
  readonly notBefore: number
  readonly notAfter: number
  readonly issuedAt: number
  /** ARI id, when the certificate has one. */
  readonly certificateId: string | undefined
  /** The issuance this came from: a pending one with the same key is done. */
  readonly idempotencyKey: string
}

/** An issuance under way: written before the issuer is asked, so that a crash resumes it with the same key. */
export interface PendingIssuance {
  readonly idempotencyKey: string
  readonly privateKeyPem: string
  /** Base64 of the DER. */
  readonly csr: string
  readonly identifiers: readonly Identifier[]
  readonly keyAlgorithm: KeyAlgorithm
  readonly createdAt: number
}

/** Memory of failures of one issuer. */
export interface FailureRecord {
  readonly failureClass: string
  readonly code: string
  /** For people; cut. */
  readonly message: string
  /** In a row. */
  readonly count: number
  readonly at: number
  /** No attempt before. */
  readonly notBefore: number
  /** What was asked for; a changed request starts anew. */
  readonly identifiers: readonly string[]
  /** See {@link settingsOf}. */
  readonly settings: string | undefined
}

/** When a certificate will be renewed, and why then. */
export interface RenewalPlanRecord {
  /** Leaf this is about; a plan for another certificate is no plan. */
  readonly fingerprintSha256: string
  readonly source: 'renewal-info' | 'lifetime'
  readonly windowStart: number
  readonly windowEnd: number
  /** Drawn once inside the window. */
  readonly selectedAt: number
  readonly explanationUrl: string | undefined
  /** When to ask the CA again; `undefined` when it cannot be asked. */
  readonly checkAgainAt: number | undefined
  /** Failed requests for renewal information in a row. */
  readonly checkFailures: number
}

/** State of one certificate's renewal. */
export interface RenewalRecord {
  readonly plan: RenewalPlanRecord | undefined
  readonly pending: PendingIssuance | undefined
  readonly failures: ReadonlyMap<string, FailureRecord>
  /** The last few, oldest first. */
  readonly recentIssuances: readonly number[]
}

/** What is known of one target. */
export interface TargetRecord {
  /** Leaf that was brought there last. */
  readonly fingerprintSha256: string | undefined
  readonly at: number
  readonly failure: TargetFailure | undefined
}

/** Failures of one target in a row, for one leaf. */
export interface TargetFailure {
  readonly fingerprintSha256: string
  readonly code: string
  readonly message: string
  readonly count: number
  readonly at: number
  readonly notBefore: number
}

/** A message as it is kept: long enough for a person, too short to fill a store. */
export function keptMessage({ message }: Error): string {
  return message.slice(0, 500)
}

/** Whether a remembered failure still counts: one from the future was written by a clock that was wrong. */
export function isPast(failure: { readonly at: number }, now: number): boolean {
  return failure.at <= now + 300_000
}

/** Deployments of one certificate, as seen by one node (or by the cluster). */
export interface DeploymentRecord {
  /** By name of the deployer. */
  readonly targets: ReadonlyMap<string, TargetRecord>
  /** By `host:port/servername`. */
  readonly endpoints: ReadonlyMap<string, TargetRecord>
}

/** Nothing known yet. */
export const emptyRenewal: RenewalRecord = {
  plan: undefined,
  pending: undefined,
  failures: new Map(),
  recentIssuances: [],
}

/** Nothing deployed yet. */
export const emptyDeployments: DeploymentRecord = { targets: new Map(), endpoints: new Map() }

const identifiersOf = (fields: RecordFields): readonly Identifier[] => fields.texts('identifiers').map(parseIdentifier)
const names = (identifiers: readonly Identifier[]): readonly string[] => identifiers.map(({ value }) => value)

function keyAlgorithmOf(fields: RecordFields): KeyAlgorithm {
  const algorithm = keyAlgorithms.find((known) => known === fields.text('keyAlgorithm'))
  if (algorithm === undefined) throw new TypeError('"keyAlgorithm" is unknown')
  return algorithm
}

/** Codec of {@link CertificateRecord}; also of placeholders, under their own kind, so that none passes for the other. */
function certificateCodec(kind: string): RecordCodec<CertificateRecord> {
  const codec = recordCodec(kind, (fields) => ({
    name: fields.text('name'),
    identifiers: identifiersOf(fields),
    issuerId: fields.text('issuerId'),
    keyAlgorithm: keyAlgorithmOf(fields),
    profile: fields.optional('profile', (name) => fields.text(name)),
    certificatePem: fields.text('certificatePem'),
    chainPem: fields.text('chainPem'),
    privateKeyPem: fields.text('privateKeyPem'),
    fingerprintSha256: fields.text('fingerprintSha256'),
    notBefore: fields.number('notBefore'),
    notAfter: fields.number('notAfter'),
    issuedAt: fields.number('issuedAt'),
    certificateId: fields.optional('certificateId', (name) => fields.text(name)),
    idempotencyKey: fields.text('idempotencyKey'),
  }))
  return mapCodec(codec, (record) => ({ ...record, identifiers: names(record.identifiers) }))
}

export const certificateRecord: RecordCodec<CertificateRecord> = certificateCodec('certificate')
export const placeholderRecord: RecordCodec<CertificateRecord> = certificateCodec('placeholder')

/** Codec of {@link RenewalRecord}. */
export const renewalRecord: RecordCodec<RenewalRecord> = mapCodec(
  recordCodec('renewal', (fields) => ({
    plan: fields.optional('plan', (name) => fields.object(name, readPlan)),
    pending: fields.optional('pending', (name) => fields.object(name, readPending)),
    failures: fields.map('failures', readFailure),
    recentIssuances: fields.list('recentIssuances', Number),
  })),
  (record) => ({
    ...record,
    pending: record.pending && { ...record.pending, identifiers: names(record.pending.identifiers) },
    failures: Object.fromEntries(record.failures),
  }),
)

/** Codec of {@link DeploymentRecord}. */
export const deploymentRecord: RecordCodec<DeploymentRecord> = mapCodec(
  recordCodec('deployments', (fields) => ({
    targets: fields.map('targets', readTarget),
    endpoints: fields.map('endpoints', readTarget),
  })),
  ({ targets, endpoints }) => ({
    targets: Object.fromEntries(targets),
    endpoints: Object.fromEntries(endpoints),
  }),
)

/** Materialises a stored certificate for deployers. @throws {@link StoreError} `ERR_STORE_CORRUPT` when it is none */
export function bundleOf(record: CertificateRecord, placeholder = false): CertificateBundle {
  try {
    const bundle = createBundle({ ...record, privateKey: importPrivateKey(record.privateKeyPem), placeholder })
    if (bundle.fingerprintSha256 === record.fingerprintSha256) return bundle
    throw new TypeError('the fingerprint is that of another certificate')
  } catch (cause) {
    throw new StoreError({
      code: 'ERR_STORE_CORRUPT',
      message: `the stored certificate ${record.name} cannot be used: ${cause instanceof Error ? cause.message : 'damaged'}`,
      store: 'certificates',
      cause,
    })
  }
}

/** The pending issuance's key. */
export function pendingKey(pending: PendingIssuance): PrivateKeyMaterial {
  return importPrivateKey(pending.privateKeyPem)
}

function mapCodec<Value extends object>(
  codec: RecordCodec<Value>,
  toJson: (value: Value) => object,
): RecordCodec<Value> {
  return {
    encode: (value) => codec.encode(toJson(value) as Value),
    decode: (bytes, origin) => codec.decode(bytes, origin),
  }
}

function readPlan(fields: RecordFields): RenewalPlanRecord {
  return {
    fingerprintSha256: fields.text('fingerprintSha256'),
    source: fields.text('source') === 'renewal-info' ? 'renewal-info' : 'lifetime',
    windowStart: fields.number('windowStart'),
    windowEnd: fields.number('windowEnd'),
    selectedAt: fields.number('selectedAt'),
    explanationUrl: fields.optional('explanationUrl', (name) => fields.text(name)),
    checkAgainAt: fields.optional('checkAgainAt', (name) => fields.number(name)),
    checkFailures: fields.number('checkFailures'),
  }
}

function readPending(fields: RecordFields): PendingIssuance {
  return {
    idempotencyKey: fields.text('idempotencyKey'),
    privateKeyPem: fields.text('privateKeyPem'),
    csr: fields.text('csr'),
    identifiers: identifiersOf(fields),
    keyAlgorithm: keyAlgorithmOf(fields),
    createdAt: fields.number('createdAt'),
  }
}

function readFailure(fields: RecordFields): FailureRecord {
  return {
    failureClass: fields.text('failureClass'),
    code: fields.text('code'),
    message: fields.text('message'),
    count: fields.number('count'),
    at: fields.number('at'),
    notBefore: fields.number('notBefore'),
    identifiers: fields.texts('identifiers'),
    settings: fields.optional('settings', (name) => fields.text(name)),
  }
}

function readTarget(fields: RecordFields): TargetRecord {
  return {
    fingerprintSha256: fields.optional('fingerprintSha256', (name) => fields.text(name)),
    at: fields.number('at'),
    failure: fields.optional('failure', (name) =>
      fields.object(name, (failure) => ({
        fingerprintSha256: failure.text('fingerprintSha256'),
        code: failure.text('code'),
        message: failure.text('message'),
        count: failure.number('count'),
        at: failure.number('at'),
        notBefore: failure.number('notBefore'),
      })),
    ),
  }
}
