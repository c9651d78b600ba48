/**
 * Reads and verifies PKCS#10 requests, as strictly as a public CA. RFC 2986, RFC 8555 section 7.4.
 *
 * @module
 */
import { createPublicKey, verify, type KeyObject } from 'node:crypto'
import { identifierKey, type Identifier } from '../../core/identifier.js'
import { children, contextTag, decode, dottedIdentifier, tags, type DerElement } from './der.js'
import { isIP } from 'node:net'

/** A request whose signature is good. */
export interface CertificateRequest {
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Buffer
  /** Every name asked for, in subjectAltName or as common name; lower case, without duplicates. */
  readonly identifiers: readonly Identifier[]
}

/** The request is unreadable, badly signed, or asks for what the CA does not do. An ACME server answers `badCSR`. */
export class CertificateRequestError extends Error {
  override readonly name = 'CertificateRequestError'
}

const hashes = new Map([
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.2.840.10045.4.3.2', 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.10045.4.3.4', 'sha512'],
])
const commonNameId = '2.5.4.3'
const extensionRequestId = '1.2.840.113549.1.9.14'
const subjectAltNameId = '2.5.29.17'

/** Reads one DER request and checks its signature and key. @throws {@link CertificateRequestError} */
export function parseCertificateRequest(der: Uint8Array): CertificateRequest {
  try {
    return parse(der)
  } catch (cause) {
    if (cause instanceof CertificateRequestError) throw cause
    throw new CertificateRequestError('the certificate request is malformed', { cause })
  }
}

function parse(der: Uint8Array): CertificateRequest {
  const [info, algorithm, signature] = children(expectSequence(decode(der)))
  const [, subject, publicKeyInfo, attributes] = children(expectSequence(info))
  if (publicKeyInfo === undefined || signature?.tag !== tags.bitString) throw new CertificateRequestError('incomplete')
  const publicKey = createPublicKey({ key: publicKeyInfo.bytes, format: 'der', type: 'spki' })
  const weakness = keyWeakness(publicKey)
  if (weakness !== undefined) throw new CertificateRequestError(weakness)
  const hash = hashes.get(dottedIdentifier(at(children(expectSequence(algorithm)), 0)))
  if (hash === undefined) throw new CertificateRequestError('signature algorithm is not supported')
  if (!verify(hash, expectSequence(info).bytes, publicKey, signature.content.subarray(1))) {
    throw new CertificateRequestError('the signature is not by the key in the request')
  }
  const identifiers = [...commonNames(expectSequence(subject)), ...subjectAltNames(attributes)]
  return {
    publicKeyInfo: Buffer.from(publicKeyInfo.bytes),
    identifiers: [...new Map(identifiers.map((identifier) => [identifierKey(identifier), identifier])).values()],
  }
}

/** What is wrong with a key for a public CA, if anything: RSA 2048, 3072 and 4096, P-256 and P-384 are fine. */
export function keyWeakness(key: KeyObject): string | undefined {
  const { modulusLength, publicExponent, namedCurve } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === 'rsa') {
    if (modulusLength !== 2048 && modulusLength !== 3072 && modulusLength !== 4096) {
      return `RSA key size ${String(modulusLength)} is not supported`
    }
    return publicExponent === 65537n ? undefined : 'RSA public exponent must be 65537'
  }
  if (key.asymmetricKeyType === 'ec') {
    if (namedCurve === 'prime256v1' || namedCurve === 'secp384r1') return undefined
    return `curve ${String(namedCurve)} is not supported`
  }
  return `key type ${String(key.asymmetricKeyType)} is not supported`
}

function commonNames(subject: DerElement): Identifier[] {
  return children(subject)
    .flatMap((relative) => children(relative))
    .map((attribute) => children(attribute))
    .filter((parts) => dottedIdentifier(at(parts, 0)) === commonNameId)
    .map((parts) => at(parts, 1).content.toString('utf8').toLowerCase())
    .map((value) => (isIP(value) === 0 ? { type: 'dns', value } : { type: 'ip', value }))
}

function subjectAltNames(attributes: DerElement | undefined): Identifier[] {
  if (attributes?.tag !== contextTag(0, 'constructed')) return []
  return children(attributes)
    .map((attribute) => children(attribute))
    .filter((parts) => dottedIdentifier(at(parts, 0)) === extensionRequestId)
    .flatMap((parts) => children(at(parts, 1)))
    .flatMap((extensions) => children(extensions))
    .map((extension) => children(extension))
    .filter((parts) => dottedIdentifier(at(parts, 0)) === subjectAltNameId)
    .flatMap((parts) => children(decode(at(parts, parts.length - 1).content)))
    .map(generalName)
}

function generalName({ tag, content }: DerElement): Identifier {
  if (tag === contextTag(2, 'primitive')) return { type: 'dns', value: content.toString('latin1').toLowerCase() }
  if (tag === contextTag(7, 'primitive') && content.length === 4) return { type: 'ip', value: content.join('.') }
  if (tag === contextTag(7, 'primitive') && content.length === 16) {
    const groups = Array.from({ length: 8 }, (_, index) => content.readUInt16BE(index * 2).toString(16))
    return { type: 'ip', value: new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1) }
  }
  throw new CertificateRequestError('only DNS names and IP addresses can be certified')
}

function expectSequence(element: DerElement | undefined): DerElement {
  if (element?.tag !== tags.sequence) throw new CertificateRequestError('the certificate request is malformed')
  return element
}

function at(elements: readonly DerElement[], index: number): DerElement {
  const element = elements[index]
  if (element === undefined) throw new CertificateRequestError('the certificate request is malformed')
  return element
}
