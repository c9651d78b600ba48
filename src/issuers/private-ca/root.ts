/**
 * Roots: made, or brought along by the caller, and checked before anything is signed with them.
 *
 * @module
 */
import { randomBytes } from 'node:crypto'
import { readCertificates } from '../../core/certificate-bundle.js'
import { decodeNameConstraints, type NameConstraints } from '../../core/name-constraints.js'
import { encodePem } from '../../core/pem.js'
import {
  generatePrivateKey,
  importPrivateKey,
  publicKeyInfo,
  type KeyAlgorithm,
  type PrivateKeyMaterial,
} from '../../core/private-key.js'
import type { ParsedCertificate } from '../../core/x509.js'
import { createCertificate } from '../../core/x509-signing.js'

/** A root with its key, as PEM. The key is unencrypted: PKCS#8, SEC1 or PKCS#1. */
export interface RootPair {
  readonly certificatePem: string
  readonly privateKeyPem: string
}

/** A root that was checked: the key is its own, and it may sign certificates and revocation lists. */
export interface Root {
  readonly certificate: ParsedCertificate
  readonly certificatePem: string
  readonly key: PrivateKeyMaterial
  readonly constraints: NameConstraints | undefined
}

/** How roots are made. */
export interface RootTemplate {
  /** Begins the common name; eight random digits follow, so that two roots are never taken for each other. */
  readonly commonName: string
  readonly keyAlgorithm: KeyAlgorithm
  readonly lifetimeMs: number
  /** DER value of the extension. */
  readonly nameConstraints: Uint8Array | undefined
}

/** How far certificates are dated back: clocks of clients are late. */
export const backdateMs: number = 5 * 60_000

const keyCertSign = 0x20
const crlSign = 0x40

/** Makes a root, key first. */
export async function createRoot(template: RootTemplate, now: number): Promise<RootPair> {
  const key = await generatePrivateKey(template.keyAlgorithm)
  const der = await createCertificate({
    subject: `CN=${template.commonName} ${randomBytes(4).toString('hex')}`,
    publicKeyInfo: publicKeyInfo(key),
    identifiers: [],
    notBefore: new Date(now - backdateMs),
    notAfter: new Date(now + template.lifetimeMs),
    isCa: true,
    // It signs leaves, and nothing else.
    pathLength: 0,
    nameConstraints: template.nameConstraints,
    signWith: { key },
  })
  return { certificatePem: encodePem('CERTIFICATE', der), privateKeyPem: key.exportPem() }
}

/**
 * Reads and checks a root. Nothing is said about its dates.
 *
 * @throws `TypeError` that says what is wrong and never quotes the key
 */
export function readRoot({ certificatePem, privateKeyPem }: RootPair): Root {
  const key = importPrivateKey(privateKeyPem)
  const [certificate, second] = readCertificates(certificatePem, 'the root')
  if (certificate === undefined || second !== undefined) throw new TypeError('the root must be one certificate')
  if (!certificate.publicKeyInfo.equals(publicKeyInfo(key))) throw new TypeError("the key is not the root's")
  if (!certificate.isCa) throw new TypeError('the root is no CA certificate (basic constraints)')
  if (!certificate.selfSigned) throw new TypeError('the root is not self-signed: intermediate CAs are not supported')
  const usages = certificate.keyUsages ?? keyCertSign | crlSign
  if ((usages & keyCertSign) === 0 || (usages & crlSign) === 0) {
    throw new TypeError('the root may not sign certificates and revocation lists (key usage)')
  }
  return {
    certificate,
    certificatePem: encodePem('CERTIFICATE', certificate.der),
    key,
    constraints: certificate.nameConstraints && decodeNameConstraints(certificate.nameConstraints),
  }
}
