/**
 * Checks a request as a CA does, and signs the leaf.
 *
 * @module
 */
import { createPublicKey } from 'node:crypto'
import { additionalNameKey, type AdditionalName } from '../../core/additional-names.js'
import { sameIdentifiers, type Identifier } from '../../core/identifier.js'
import { constraintViolation, type NameConstraints } from '../../core/name-constraints.js'
import { encodePem } from '../../core/pem.js'
import { keyAlgorithmOf, keyAlgorithms } from '../../core/private-key.js'
import { readCsr, type ParsedCsr } from '../../core/x509.js'
import { createCertificate } from '../../core/x509-signing.js'
import { CertError, CertificateError } from '../../errors.js'
import type { IssueRequest } from '../issuer.js'
import { extendedKeyUsagesOf, type PrivateCaProfile } from './certificate-profile.js'
import { backdateMs, type Root } from './root.js'

/** What {@link signLeaf} is asked for, besides the request. */
export interface LeafOptions {
  readonly issuerId: string
  readonly profile: PrivateCaProfile
  readonly additionalNames: readonly AdditionalName[]
  readonly lifetimeMs: number
  readonly now: number
}

/** A leaf must live a little, and a root must outlive it. */
const marginMs = 60_000
const maxCommonNameLength = 64

/**
 * Signs a leaf for a request that was checked.
 *
 * @returns PEM, and whether its life was cut short because the root's ends
 * @throws {@link CertificateError} when the request is unreadable, badly signed, or not for the identifiers; a
 *   {@link CertError} `ERR_PLUGIN_FAILED` when the CA does not certify them
 */
export async function signLeaf(
  { csr, identifiers }: Pick<IssueRequest, 'csr' | 'identifiers'>,
  root: Root,
  options: LeafOptions,
): Promise<{ readonly pem: string; readonly cutShort: boolean }> {
  const { issuerId, additionalNames, now } = options
  const request = await checkedRequest(csr, identifiers, additionalNames)
  const refused = refusalOf(root.constraints, identifiers, additionalNames)
  if (refused !== undefined) {
    throw refusal(issuerId, `${refused}, by the name constraints of root ${root.certificate.subject}`)
  }
  const end = Math.min(now + options.lifetimeMs, root.certificate.notAfter.getTime() - marginMs)
  if (end < now + marginMs) {
    throw refusal(issuerId, `root ${root.certificate.subject} ends at ${root.certificate.notAfter.toISOString()}`)
  }
  const der = await createCertificate({
    subject: subjectOf(identifiers),
    publicKeyInfo: request.publicKeyInfo,
    identifiers,
    additionalNames,
    notBefore: new Date(Math.max(now - backdateMs, root.certificate.notBefore.getTime())),
    notAfter: new Date(end),
    isCa: false,
    extendedKeyUsages: extendedKeyUsagesOf[options.profile],
    signWith: { key: root.key, certificate: root.certificate },
  })
  return { pem: encodePem('CERTIFICATE', der), cutShort: end < now + options.lifetimeMs }
}

/** Why a CA with these constraints does not certify the names, if it does not. */
export function refusalOf(
  constraints: NameConstraints | undefined,
  identifiers: readonly Identifier[],
  additionalNames: readonly AdditionalName[],
): string | undefined {
  if (constraints === undefined) return undefined
  if (constraints.otherTypes && additionalNames.length > 0) {
    return 'URIs and e-mail addresses are constrained, which evercert cannot judge'
  }
  return constraintViolation(constraints, identifiers)
}

async function checkedRequest(
  csr: Uint8Array,
  identifiers: readonly Identifier[],
  additionalNames: readonly AdditionalName[],
): Promise<ParsedCsr> {
  let request: ParsedCsr
  try {
    request = await readCsr(csr)
  } catch (cause) {
    throw new CertificateError('ERR_CERT_INVALID', 'the certificate request is unreadable or badly signed', { cause })
  }
  const key = createPublicKey({ key: request.publicKeyInfo, type: 'spki', format: 'der' })
  if (keyAlgorithmOf(key) === undefined) {
    throw new CertificateError('ERR_CERT_INVALID', `the key of the request is none of ${keyAlgorithms.join(', ')}`)
  }
  const allowed = new Set(additionalNames.map(additionalNameKey))
  const values = new Set(identifiers.map(({ value }) => value))
  const exact =
    sameIdentifiers(request.identifiers, identifiers) &&
    request.otherNames.every((name) => allowed.has(name)) &&
    request.commonNames.every((name) => values.has(name))
  if (!exact) {
    throw new CertificateError(
      'ERR_CERT_NAME_MISMATCH',
      'the certificate request is for other names than those asked for',
    )
  }
  return request
}

/**
 * For people who look at it. No address: verifiers hold a common name without DNS names beside it to the constraints on DNS
 * names. No value here needs escaping.
 */
function subjectOf(identifiers: readonly Identifier[]): string {
  const first = identifiers.find(({ type, value }) => type === 'dns' && value.length <= maxCommonNameLength)
  return first === undefined ? '' : `CN=${first.value}`
}

function refusal(issuerId: string, why: string): CertError {
  return new CertError({ code: 'ERR_PLUGIN_FAILED', message: `issuer ${issuerId}: ${why}`, retryable: false })
}
