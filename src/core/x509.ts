/**
 * X.509 and PKCS#10: the only importer of `@peculiar/x509`, so that its quirks stay here.
 *
 * @module
 */
import { createPublicKey, randomBytes, webcrypto, X509Certificate as NodeCertificate } from 'node:crypto'
import * as x509 from '@peculiar/x509'
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
  /** DNS names and IP addresses of the subjectAltName extension, in their normal form. */
  readonly identifiers: readonly Identifier[]
  /** subjectAltName entries of other types, or names that are no valid identifiers. */
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
/** OID of extended key usage anyExtendedKeyUsage. */
export const anyExtendedKeyUsageOid = '2.5.29.37.0'

/** Reads one DER certificate. @throws when it is not one; nothing is said about its validity. */
export function parseCertificate(der: Uint8Array): ParsedCertificate {
  const node = new NodeCertificate(der)
  const certificate = new x509.X509Certificate(new Uint8Array(node.raw))
  const types = certificate.extensions.map(({ type }) => type)
  if (new Set(types).size !== types.length) throw new Error('an extension appears twice')
  const { identifiers, otherNames } = subjectAltNames(certificate)
  return {
    der: node.raw,
    serialNumber: serialOctets(certificate.serialNumber),
    // Node's, because the library reads a thirteenth month as the next year's first.
    notBefore: instant(node.validFrom),
    notAfter: instant(node.validTo),
    fingerprintSha256: node.fingerprint256.replaceAll(':', '').toLowerCase(),
    publicKeyInfo: node.publicKey.export({ type: 'spki', format: 'der' }),
    authorityKeyIdentifier: keyIdentifier(certificate),
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
      extensions: [subjectAltNameExtension(identifiers)],
    },
    webcrypto,
  )
  return new Uint8Array(request.rawData)
}

/** The public key of a request as DER SubjectPublicKeyInfo. @throws when it is no PKCS#10 request. */
export function csrPublicKeyInfo(csr: Uint8Array): Buffer {
  return Buffer.from(new x509.Pkcs10CertificateRequest(new Uint8Array(csr)).publicKey.rawData)
}

/** What {@link createCertificate} makes a certificate from. */
export interface CertificateTemplate {
  /** Distinguished name, e.g. `CN=example`. */
  readonly subject: string
  /** DER SubjectPublicKeyInfo of the certificate's key. */
  readonly publicKeyInfo: Uint8Array
  /** Empty for a CA. */
  readonly identifiers: readonly Identifier[]
  readonly notBefore: Date
  readonly notAfter: Date
  /** `true`: may sign certificates. */
  readonly isCa: boolean
  /** The issuer's key, and its certificate; without a certificate the result is self-signed. */
  readonly signWith: { readonly key: PrivateKeyMaterial; readonly certificate?: ParsedCertificate | undefined }
}

/** Signs a certificate, off the event loop. RFC 5280. @returns DER */
export async function createCertificate(template: CertificateTemplate): Promise<Uint8Array> {
  const { signWith, isCa } = template
  const publicKey = createPublicKey({ key: Buffer.from(template.publicKeyInfo), type: 'spki', format: 'der' })
  const rsa = publicKey.asymmetricKeyType === 'rsa'
  const subjectKey = new x509.PublicKey(new Uint8Array(template.publicKeyInfo))
  const { privateKey, publicKey: issuerKey } = await toCryptoKeyPair(signWith.key)
  const issuer =
    signWith.certificate === undefined ? undefined : new x509.X509Certificate(new Uint8Array(signWith.certificate.der))
  const issuerKeyId = issuer?.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: randomSerial(),
      subject: template.subject,
      // As the issuer has it, octet by octet: some clients compare nothing else.
      issuer: issuer?.subjectName ?? template.subject,
      notBefore: template.notBefore,
      notAfter: template.notAfter,
      publicKey: subjectKey,
      signingKey: privateKey,
      signingAlgorithm: webCryptoAlgorithm(signWith.key.algorithm),
      extensions: [
        new x509.BasicConstraintsExtension(isCa, undefined, true),
        new x509.KeyUsagesExtension(keyUsages(isCa, rsa), true),
        ...(isCa ? [] : [new x509.ExtendedKeyUsageExtension([serverAuthOid])]),
        ...(template.identifiers.length > 0 ? [subjectAltNameExtension(template.identifiers)] : []),
        await x509.SubjectKeyIdentifierExtension.create(subjectKey, false, webcrypto),
        // There is more than one way to derive the identifier of a key.
        issuerKeyId === undefined
          ? await x509.AuthorityKeyIdentifierExtension.create(issuerKey, false, webcrypto)
          : new x509.AuthorityKeyIdentifierExtension(issuerKeyId),
      ],
    },
    webcrypto,
  )
  return new Uint8Array(certificate.rawData)
}

function keyUsages(isCa: boolean, rsa: boolean): x509.KeyUsageFlags {
  const { cRLSign, digitalSignature, keyCertSign, keyEncipherment } = x509.KeyUsageFlags
  if (isCa) return keyCertSign | cRLSign
  if (rsa) return digitalSignature | keyEncipherment
  return digitalSignature
}

/** A positive serial of 126 random bits, hexadecimal: within RFC 5280's 20 octets and without a sign octet. */
function randomSerial(): string {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40
  return bytes.toString('hex')
}

function webCryptoAlgorithm(algorithm: KeyAlgorithm): { name: string; namedCurve?: string; hash: string } {
  if (algorithm === 'ecdsa-p256') return { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  if (algorithm === 'ecdsa-p384') return { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' }
  return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
}

async function toCryptoKeyPair(
  key: PrivateKeyMaterial,
): Promise<{ privateKey: webcrypto.CryptoKey; publicKey: webcrypto.CryptoKey }> {
  const privateObject = keyObjectOf(key)
  const algorithm = webCryptoAlgorithm(key.algorithm)
  const pkcs8 = privateObject.export({ type: 'pkcs8', format: 'der' })
  const spki = createPublicKey(privateObject).export({ type: 'spki', format: 'der' })
  const [privateKey, publicKey] = await Promise.all([
    webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, false, ['sign']),
    webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify']),
  ])
  return { privateKey, publicKey }
}

function subjectAltNameExtension(identifiers: readonly Identifier[]): x509.SubjectAlternativeNameExtension {
  return new x509.SubjectAlternativeNameExtension(identifiers.map(({ type, value }) => ({ type, value })))
}

function subjectAltNames(certificate: x509.X509Certificate): {
  identifiers: Identifier[]
  otherNames: string[]
} {
  const identifiers: Identifier[] = []
  const otherNames: string[] = []
  const names = certificate.getExtension(x509.SubjectAlternativeNameExtension)?.names
  if (names === undefined) return { identifiers, otherNames }
  for (const { type, value } of names.toJSON()) {
    const identifier = type === 'dns' || type === 'ip' ? readName(type, value) : undefined
    if (identifier === undefined) otherNames.push(printable(`${type}:${value}`))
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

function displayName(name: x509.Name, whole: string): string {
  return printable(name.getField('CN')[0] ?? whole) || '(no name)'
}

/** Certificates come from outside and their texts end up in messages: no line breaks, terminal codes or direction marks. */
function printable(text: string): string {
  return text.slice(0, 200).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?')
}
