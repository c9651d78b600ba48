/**
 * Reads X.509 and PKCS#10, and makes requests. With `x509-signing.ts` the only importer of `@peculiar/x509`, so that its
 * quirks stay here.
 *
 * @module
 */
import { createPublicKey, webcrypto, X509Certificate as NodeCertificate } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import type { AdditionalName } from './additional-names.js'
import { parseIdentifier, type Identifier } from './identifier.js'
import { keyObjectOf, type KeyAlgorithm, type PrivateKeyMaterial } from './private-key.js'

/** What evercert reads of a certificate. */
export interface ParsedCertificate {
  readonly der: Buffer
  readonly serialNumber: Buffer
  readonly notBefore: Date
  readonly notAfter: Date
  /** SHA-256 of the DER, lower-case hex without colons. */
  readonly fingerprintSha256: string
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Buffer
  readonly authorityKeyIdentifier: Buffer | undefined
  /** Bits of the keyUsage extension, bit 0 lowest; `undefined` when it is absent (any use). */
  readonly keyUsages: number | undefined
  /** DER value of the nameConstraints extension. */
  readonly nameConstraints: Buffer | undefined
  /** DNS names and IP addresses of the subjectAltName extension, in their normal form. */
  readonly identifiers: readonly Identifier[]
  /**
   * subjectAltName entries of other types (`uri:spiffe://...`, `email:ops@example.com`), or names that are no valid
   * identifiers. As they are, for comparison: not for display.
   */
  readonly otherNames: readonly string[]
  readonly isCa: boolean
  /** OIDs; `undefined` when the extension is absent (any use). */
  readonly extendedKeyUsages: readonly string[] | undefined
  /** E.g. `SHA-256`. */
  readonly signatureHash: string | undefined
  readonly selfSigned: boolean
  /** Whether `issuer` signed this certificate: names, key identifiers and signature. */
  issuedBy(issuer: ParsedCertificate): boolean
  /** Subject common name, the whole subject, or `(no name)`; printable. For people, not for decisions. */
  readonly subject: string
  readonly issuerName: string
}

/** OID of extended key usage serverAuth. RFC 5280 section 4.2.1.12. */
export const serverAuthOid = '1.3.6.1.5.5.7.3.1'
/** OID of extended key usage clientAuth. */
export const clientAuthOid = '1.3.6.1.5.5.7.3.2'
/** OID of extended key usage anyExtendedKeyUsage. */
export const anyExtendedKeyUsageOid = '2.5.29.37.0'

const subjectAltNameOid = '2.5.29.17'
/** OID of the nameConstraints extension. RFC 5280 section 4.2.1.10. */
export const nameConstraintsOid = '2.5.29.30'

/** Reads one DER certificate. @throws when it is not one; nothing is said about its validity. */
export function parseCertificate(der: Uint8Array): ParsedCertificate {
  const node = new NodeCertificate(der)
  const certificate = new x509.X509Certificate(new Uint8Array(node.raw))
  const types = certificate.extensions.map(({ type }) => type)
  if (new Set(types).size !== types.length) throw new Error('an extension appears twice')
  const { identifiers, otherNames } = subjectAltNames(certificate.getExtension(subjectAltNameOid))
  return {
    der: node.raw,
    serialNumber: serialOctets(certificate.serialNumber),
    // Node's, because the library reads a thirteenth month as the next year's first.
    notBefore: instant(node.validFrom),
    notAfter: instant(node.validTo),
    fingerprintSha256: node.fingerprint256.replaceAll(':', '').toLowerCase(),
    publicKeyInfo: node.publicKey.export({ type: 'spki', format: 'der' }),
    authorityKeyIdentifier: keyIdentifier(certificate),
    keyUsages: certificate.getExtension(x509.KeyUsagesExtension)?.usages,
    nameConstraints: extensionValue(certificate, nameConstraintsOid),
    identifiers,
    otherNames,
    isCa: node.ca,
    extendedKeyUsages: certificate.getExtension(x509.ExtendedKeyUsageExtension)?.usages.map(String),
    signatureHash: signatureHashName(certificate),
    selfSigned: node.issuer === node.subject && node.verify(node.publicKey),
    issuedBy: (issuer) => {
      const issuerNode = new NodeCertificate(issuer.der)
      return node.checkIssued(issuerNode) && node.verify(issuerNode.publicKey)
    },
    subject: displayName(certificate.subjectName, certificate.subject),
    issuerName: displayName(certificate.issuerName, certificate.issuer),
  }
}

/**
 * A PKCS#10 request for exactly these identifiers: names only in subjectAltName, no common name (CAs ignore or refuse
 * it), signed off the event loop. RFC 2986, RFC 8555 section 7.4.
 *
 * @returns DER
 */
export async function createCsr(key: PrivateKeyMaterial, identifiers: readonly Identifier[]): Promise<Uint8Array> {
  const request = await x509.Pkcs10CertificateRequestGenerator.create(
    {
      keys: await toCryptoKeyPair(key),
      signingAlgorithm: webCryptoAlgorithm(key.algorithm),
      extensions: [new x509.Extension(subjectAltNameExtension(identifiers))],
    },
    webcrypto,
  )
  return new Uint8Array(request.rawData)
}

/** The public key of a request as DER SubjectPublicKeyInfo. @throws when it is no PKCS#10 request. */
export function csrPublicKeyInfo(csr: Uint8Array): Buffer {
  return Buffer.from(new x509.Pkcs10CertificateRequest(new Uint8Array(csr)).publicKey.rawData)
}

/** What evercert reads of a request. */
export interface ParsedCsr {
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Buffer
  /** DNS names and IP addresses of the requested subjectAltName extension. */
  readonly identifiers: readonly Identifier[]
  /** As {@link ParsedCertificate.otherNames}. */
  readonly otherNames: readonly string[]
  /** Common names of the subject. */
  readonly commonNames: readonly string[]
}

/** Reads a request and verifies its signature: whoever made it holds the key. @throws when it is none, or badly signed. */
export async function readCsr(csr: Uint8Array): Promise<ParsedCsr> {
  const request = new x509.Pkcs10CertificateRequest(new Uint8Array(csr))
  if (!(await request.verify(webcrypto))) throw new Error('the signature is not by the key in the request')
  return {
    publicKeyInfo: Buffer.from(request.publicKey.rawData),
    ...subjectAltNames(request.getExtension(subjectAltNameOid)),
    commonNames: request.subjectName.getField('CN'),
  }
}

/** Parameters of Web Crypto. @internal */
export interface WebCryptoAlgorithm {
  readonly name: string
  readonly namedCurve?: string
  readonly hash: string
}

/** Parameters of keys and signatures of an algorithm. @internal */
export function webCryptoAlgorithm(algorithm: KeyAlgorithm): WebCryptoAlgorithm {
  if (algorithm === 'ecdsa-p256') return { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  if (algorithm === 'ecdsa-p384') return { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' }
  return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
}

/** The key as the library signs with it. @internal */
export async function toCryptoKeyPair(
  key: PrivateKeyMaterial,
  algorithm: WebCryptoAlgorithm = webCryptoAlgorithm(key.algorithm),
): Promise<{ privateKey: webcrypto.CryptoKey; publicKey: webcrypto.CryptoKey }> {
  const privateObject = keyObjectOf(key)
  const pkcs8 = privateObject.export({ type: 'pkcs8', format: 'der' })
  const spki = createPublicKey(privateObject).export({ type: 'spki', format: 'der' })
  const [privateKey, publicKey] = await Promise.all([
    webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, false, ['sign']),
    webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify']),
  ])
  return { privateKey, publicKey }
}

/** The DER of the extension for these names: declarations that others read must not name the library's types. @internal */
export function subjectAltNameExtension(
  identifiers: readonly Identifier[],
  additionalNames: readonly AdditionalName[] = [],
  critical = false,
): Uint8Array<ArrayBuffer> {
  const others = additionalNames.map(({ type, value }) => ({ type: type === 'uri' ? ('url' as const) : type, value }))
  const names = [...identifiers.map(({ type, value }) => ({ type, value })), ...others]
  return new Uint8Array(new x509.SubjectAlternativeNameExtension(names, critical).rawData)
}

function subjectAltNames(extension: x509.Extension | null): {
  identifiers: Identifier[]
  otherNames: string[]
} {
  const identifiers: Identifier[] = []
  const otherNames: string[] = []
  const names = extension === null ? undefined : new x509.SubjectAlternativeNameExtension(extension.rawData).names
  if (names === undefined) return { identifiers, otherNames }
  for (const { type, value } of names.toJSON()) {
    const identifier = type === 'dns' || type === 'ip' ? readName(type, value) : undefined
    if (identifier === undefined) otherNames.push(`${type === 'url' ? 'uri' : type}:${value}`)
    else identifiers.push(identifier)
  }
  // The library passes over names it cannot read, and a certificate must not be for more than we see.
  const unread = countElements(new Uint8Array(names.rawData)) - names.items.length
  if (unread > 0) otherNames.push(`${String(unread)} of an unknown type`)
  return { identifiers, otherNames }
}

/**
 * A name of a certificate is trusted only when it reads as exactly the type it claims to be, and is in the form that
 * TLS clients compare with: they neither map IDNA nor drop a trailing dot.
 */
function readName(type: 'dns' | 'ip', value: string): Identifier | undefined {
  try {
    const identifier = parseIdentifier(value)
    if (identifier.type !== type) return undefined
    return type === 'ip' || identifier.value === value.toLowerCase() ? identifier : undefined
  } catch {
    return undefined
  }
}

/** How many elements a DER SEQUENCE holds. Its outer length has been checked by the parser. */
function countElements(sequence: Uint8Array): number {
  const skipHeader = (at: number): { start: number; length: number } => {
    const first = sequence[at + 1] ?? 0
    if (first < 0x80) return { start: at + 2, length: first }
    const start = at + 2 + (first & 0x7f)
    return { start, length: sequence.subarray(at + 2, start).reduce((sum, octet) => sum * 256 + octet, 0) }
  }
  let count = 0
  for (let at = skipHeader(0).start; at < sequence.length; count += 1) {
    const { start, length } = skipHeader(at)
    at = start + length
  }
  return count
}

function instant(text: string): Date {
  const date = new Date(text)
  if (Number.isNaN(date.getTime())) throw new Error('the validity is not readable')
  return date
}

function signatureHashName(certificate: x509.X509Certificate): string | undefined {
  const { hash } = certificate.signatureAlgorithm as { readonly hash?: { readonly name: string } }
  return hash?.name
}

/** Content octets of the serial INTEGER. The library drops the leading zero that keeps a number positive. */
function serialOctets(hex: string): Buffer {
  const octets = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
  return (octets[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), octets]) : octets
}

function keyIdentifier(certificate: x509.X509Certificate): Buffer | undefined {
  const keyId = certificate.getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId
  return keyId === undefined ? undefined : Buffer.from(keyId, 'hex')
}

function extensionValue(certificate: x509.X509Certificate, oid: string): Buffer | undefined {
  const value = certificate.getExtension(oid)?.value
  return value === undefined ? undefined : Buffer.from(value)
}

function displayName(name: x509.Name, whole: string): string {
  return printable(name.getField('CN')[0] ?? whole) || '(no name)'
}

/** Certificates come from outside and their texts end up in messages: no line breaks, terminal codes or direction marks. */
export function printable(text: string): string {
  return text.slice(0, 200).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?')
}
