/**
 * Signs certificates and revocation lists. RFC 5280.
 *
 * @module
 */
import { createPublicKey, randomBytes, webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import type { AdditionalName } from './additional-names.js'
import type { Identifier } from './identifier.js'
import type { KeyAlgorithm, PrivateKeyMaterial } from './private-key.js'
import {
  nameConstraintsOid,
  serverAuthOid,
  subjectAltNameExtension,
  toCryptoKeyPair,
  webCryptoAlgorithm,
  type ParsedCertificate,
  type WebCryptoAlgorithm,
} from './x509.js'

/** What {@link createCertificate} makes a certificate from. */
export interface CertificateTemplate {
  /** Distinguished name, e.g. `CN=example`; may be empty, and the subjectAltName is critical then. */
  readonly subject: string
  /** DER SubjectPublicKeyInfo of the certificate's key. */
  readonly publicKeyInfo: Uint8Array
  /** Empty for a CA. */
  readonly identifiers: readonly Identifier[]
  /** Further subjectAltName entries. @defaultValue none */
  readonly additionalNames?: readonly AdditionalName[] | undefined
  readonly notBefore: Date
  readonly notAfter: Date
  /** `true`: may sign certificates. */
  readonly isCa: boolean
  /** How many CAs may follow below a CA. @defaultValue any number */
  readonly pathLength?: number | undefined
  /** DER value of the nameConstraints extension of a CA, which is critical. @defaultValue none */
  readonly nameConstraints?: Uint8Array | undefined
  /** OIDs; a CA has none. @defaultValue serverAuth */
  readonly extendedKeyUsages?: readonly string[] | undefined
  /** The issuer's key, and its certificate; without a certificate the result is self-signed. */
  readonly signWith: { readonly key: PrivateKeyMaterial; readonly certificate?: ParsedCertificate | undefined }
}

/** Signs a certificate, off the event loop. @returns DER */
export async function createCertificate(template: CertificateTemplate): Promise<Uint8Array> {
  const { signWith, isCa, subject, extendedKeyUsages = [serverAuthOid], nameConstraints } = template
  const publicKey = createPublicKey({ key: Buffer.from(template.publicKeyInfo), type: 'spki', format: 'der' })
  const rsa = publicKey.asymmetricKeyType === 'rsa'
  const subjectKey = new x509.PublicKey(new Uint8Array(template.publicKeyInfo))
  const signingAlgorithm = signatureAlgorithm(signWith.key.algorithm)
  const { privateKey, publicKey: issuerKey } = await toCryptoKeyPair(signWith.key, signingAlgorithm)
  const issuer = signWith.certificate && libraryCertificate(signWith.certificate)
  const additionalNames = template.additionalNames ?? []
  const hasNames = template.identifiers.length + additionalNames.length > 0
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: randomSerial(),
      subject,
      // As the issuer has it, octet by octet: some clients compare nothing else.
      issuer: issuer?.subjectName ?? subject,
      notBefore: template.notBefore,
      notAfter: template.notAfter,
      publicKey: subjectKey,
      signingKey: privateKey,
      signingAlgorithm,
      extensions: [
        new x509.BasicConstraintsExtension(isCa, template.pathLength, true),
        new x509.KeyUsagesExtension(keyUsages(isCa, rsa), true),
        ...(isCa ? [] : [new x509.ExtendedKeyUsageExtension([...extendedKeyUsages])]),
        ...(hasNames
          ? [new x509.Extension(subjectAltNameExtension(template.identifiers, additionalNames, subject === ''))]
          : []),
        ...(nameConstraints === undefined
          ? []
          : [new x509.Extension(nameConstraintsOid, true, new Uint8Array(nameConstraints))]),
        await x509.SubjectKeyIdentifierExtension.create(subjectKey, false, webcrypto),
        await authorityKeyIdentifier(issuer, issuerKey),
      ],
    },
    webcrypto,
  )
  return new Uint8Array(certificate.rawData)
}

/** One entry of a revocation list. */
export interface RevokedCertificate {
  /** Content octets of the serial number, hexadecimal. */
  readonly serialNumber: string
  readonly revokedAt: Date
  /** CRLReason. RFC 5280 section 5.3.1; in place of 0 (unspecified), which it asks to leave out, `revokedAt` is the invalidity date. */
  readonly reason: number
}

/** What {@link createRevocationList} makes a list from. */
export interface RevocationListTemplate {
  readonly number: number
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  readonly revoked: readonly RevokedCertificate[]
  readonly signWith: { readonly key: PrivateKeyMaterial; readonly certificate: ParsedCertificate }
}

/** Signs a version 2 CRL with its number. RFC 5280 section 5. @returns DER */
export async function createRevocationList(template: RevocationListTemplate): Promise<Uint8Array> {
  const { key, certificate } = template.signWith
  const signingAlgorithm = signatureAlgorithm(key.algorithm)
  const { privateKey, publicKey } = await toCryptoKeyPair(key, signingAlgorithm)
  const issuer = libraryCertificate(certificate)
  const crl = await x509.X509CrlGenerator.create(
    {
      issuer: issuer.subjectName,
      thisUpdate: template.thisUpdate,
      nextUpdate: template.nextUpdate,
      signingAlgorithm,
      signingKey: privateKey,
      entries: template.revoked.map(({ serialNumber, revokedAt, reason }) => ({
        serialNumber,
        revocationDate: revokedAt,
        // An entry that says nothing more would get an empty list of extensions, which DER parsers may refuse.
        ...(reason === 0 ? { invalidity: wholeSecond(revokedAt) } : { reason }),
      })),
      extensions: [
        await authorityKeyIdentifier(issuer, publicKey),
        new x509.Extension(crlNumberOid, false, derInteger(template.number)),
      ],
    },
    webcrypto,
  )
  return new Uint8Array(crl.rawData)
}

const crlNumberOid = '2.5.29.20'

/** GeneralizedTime has no fractions. RFC 5280 section 5.3.2. */
function wholeSecond(instant: Date): Date {
  return new Date(Math.floor(instant.getTime() / 1000) * 1000)
}

function libraryCertificate(certificate: ParsedCertificate): x509.X509Certificate {
  return new x509.X509Certificate(new Uint8Array(certificate.der))
}

/** There is more than one way to derive the identifier of a key: the issuer's own comes first. */
async function authorityKeyIdentifier(
  issuer: x509.X509Certificate | undefined,
  issuerKey: webcrypto.CryptoKey,
): Promise<x509.AuthorityKeyIdentifierExtension> {
  const keyId = issuer?.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId
  return keyId === undefined
    ? await x509.AuthorityKeyIdentifierExtension.create(issuerKey, false, webcrypto)
    : new x509.AuthorityKeyIdentifierExtension(keyId)
}

function keyUsages(isCa: boolean, rsa: boolean): x509.KeyUsageFlags {
  const { cRLSign, digitalSignature, keyCertSign, keyEncipherment } = x509.KeyUsageFlags
  if (isCa) return keyCertSign | cRLSign
  if (rsa) return digitalSignature | keyEncipherment
  return digitalSignature
}

/** The hash goes with the strength of the signing key. */
function signatureAlgorithm(algorithm: KeyAlgorithm): WebCryptoAlgorithm {
  const parameters = webCryptoAlgorithm(algorithm)
  if (algorithm === 'rsa-3072') return { ...parameters, hash: 'SHA-384' }
  if (algorithm === 'rsa-4096') return { ...parameters, hash: 'SHA-512' }
  return parameters
}

/** Positive, 159 random bits, hexadecimal: as many as the 20 octets of RFC 5280 section 4.1.2.2 hold beside the sign. */
function randomSerial(): string {
  for (;;) {
    const bytes = randomBytes(20)
    bytes[0] = (bytes[0] ?? 0) & 0x7f
    // DER forbids a leading zero octet unless the next one has its top bit set; such serials are not worth the trouble.
    if (bytes[0] !== 0) return bytes.toString('hex')
  }
}

/** A non-negative DER INTEGER. */
function derInteger(value: number): Uint8Array<ArrayBuffer> {
  const hex = value.toString(16)
  const octets = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
  const content = (octets[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), octets]) : octets
  return new Uint8Array([0x02, content.length, ...content])
}
