/**
 * A stand-in that lets a server start before the first issuance: self-signed, short-lived, and marked.
 *
 * @module
 */
import { randomUUID } from 'node:crypto'
import { encodePem } from '../core/pem.js'
import { generatePrivateKey, publicKeyInfo } from '../core/private-key.js'
import { parseCertificate } from '../core/x509.js'
import { createCertificate } from '../core/x509-signing.js'
import { sameIdentifiers } from '../core/identifier.js'
import { storeKey } from '../stores/cert-store.js'
import { operationContext, type Environment } from './environment.js'
import type { CertificateSpec } from './managed-certificate.js'
import { bundleOf, placeholderRecord, type CertificateRecord } from './records.js'
import { loadRecord } from './stored-records.js'

/** Issuer id of placeholders, and organizational unit in their subject. */
export const placeholderIssuer = 'placeholder'

const lifetimeMs = 7 * 86_400_000

/**
 * The placeholder of a certificate, made anew when there is none or it nears its end. Kept under a key and a record kind
 * of its own, so that nothing can take it for the real thing.
 */
export async function providePlaceholder(
  spec: CertificateSpec,
  environment: Environment,
  signal: AbortSignal,
): Promise<CertificateRecord> {
  const context = operationContext(environment, signal, { certificate: spec.name })
  const key = storeKey('placeholders', spec.name)
  const now = environment.clock.now()
  const loaded = await loadRecord(placeholderRecord, key, spec.name, environment, context)
  const stored = loaded === 'corrupt' ? undefined : loaded
  if (
    stored !== undefined &&
    sameIdentifiers(stored.value.identifiers, spec.identifiers) &&
    stored.value.notAfter - now > lifetimeMs / 3 &&
    isUsable(stored.value)
  ) {
    return stored.value
  }
  const record = await createPlaceholder(spec, now)
  await environment.store.put(key, placeholderRecord.encode(record), context, { ifRevision: stored?.revision ?? null })
  return record
}

function isUsable(record: CertificateRecord): boolean {
  try {
    bundleOf(record, true)
    return true
  } catch {
    return false
  }
}

async function createPlaceholder(spec: CertificateSpec, now: number): Promise<CertificateRecord> {
  const privateKey = await generatePrivateKey(spec.key)
  const der = await createCertificate({
    subject: `CN=evercert placeholder, OU=${placeholderIssuer}`,
    publicKeyInfo: publicKeyInfo(privateKey),
    identifiers: spec.identifiers,
    notBefore: new Date(now - 5 * 60_000),
    notAfter: new Date(now + lifetimeMs),
    isCa: false,
    signWith: { key: privateKey },
  })
  const { fingerprintSha256, notBefore, notAfter } = parseCertificate(der)
  return {
    name: spec.name,
    identifiers: spec.identifiers,
    issuerId: placeholderIssuer,
    keyAlgorithm: spec.key,
    profile: undefined,
    certificatePem: encodePem('CERTIFICATE', der),
    chainPem: '',
    privateKeyPem: privateKey.exportPem(),
    fingerprintSha256,
    notBefore: notBefore.getTime(),
    notAfter: notAfter.getTime(),
    issuedAt: now,
    certificateId: undefined,
    idempotencyKey: randomUUID(),
  }
}
