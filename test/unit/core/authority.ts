/**
 * Certificates as no good CA would sign them, made at run time.
 */
import { createPrivateKey, createPublicKey, randomBytes, webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import { parseIdentifier } from '../../../src/core/identifier.js'
import { generatePrivateKey, type PrivateKeyMaterial } from '../../../src/core/private-key.js'

export const day = 86_400_000
/** The instant all of these certificates are about. */
export const now: number = Date.UTC(2026, 5, 1)

export interface Forged {
  readonly pem: string
  readonly der: Buffer
  readonly certificate: x509.X509Certificate
  /** The key of the certificate. */
  readonly key: PrivateKeyMaterial
}

export interface Forgery {
  readonly subject?: string | x509.JsonName
  readonly names?: readonly string[]
  readonly key?: PrivateKeyMaterial
  /** Self-signed when absent. */
  readonly issuer?: Forged
  readonly notBefore?: number
  readonly notAfter?: number
  readonly ca?: boolean
  /** Hexadecimal. */
  readonly serialNumber?: string
  /** OIDs of extended key usage; `null` for none at all. */
  readonly usages?: readonly string[] | null
  readonly hash?: 'SHA-1' | 'SHA-256'
  readonly authorityKeyIdentifier?: boolean
  /** Beside those that follow from the rest. */
  readonly extensions?: readonly x509.Extension[]
}

const serverAuth = '1.3.6.1.5.5.7.3.1'

/** Signs whatever is asked for: by default a good leaf, or a good CA when `ca`. */
export async function forge(forgery: Forgery = {}): Promise<Forged> {
  const { subject = 'CN=forged', names = [], issuer, ca = false, hash = 'SHA-256', usages = [serverAuth] } = forgery
  const key = forgery.key ?? (await generatePrivateKey())
  const signer = issuer?.key ?? key
  const extensions: x509.Extension[] = [
    new x509.BasicConstraintsExtension(ca, undefined, true),
    await x509.SubjectKeyIdentifierExtension.create(await publicKeyOf(key)),
  ]
  if (names.length > 0) {
    extensions.push(new x509.SubjectAlternativeNameExtension(names.map(parseIdentifier).map((name) => ({ ...name }))))
  }
  if (!ca && usages !== null) extensions.push(new x509.ExtendedKeyUsageExtension([...usages]))
  if (forgery.authorityKeyIdentifier !== false) {
    extensions.push(await x509.AuthorityKeyIdentifierExtension.create(await publicKeyOf(signer)))
  }
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: forgery.serialNumber ?? `40${randomBytes(15).toString('hex')}`,
    subject,
    issuer: issuer?.certificate.subject ?? subject,
    notBefore: new Date(forgery.notBefore ?? now - day),
    notAfter: new Date(forgery.notAfter ?? now + 89 * day),
    publicKey: await publicKeyOf(key),
    signingKey: await signingKeyOf(signer, hash),
    signingAlgorithm: { name: 'ECDSA', hash },
    extensions: [...extensions, ...(forgery.extensions ?? [])],
  })
  const der = Buffer.from(certificate.rawData)
  return { pem: toPem(der), der, certificate, key }
}

/** PEM written here, so that what is tested is not what made the input. */
export function toPem(der: Uint8Array, label = 'CERTIFICATE'): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

const curve = { name: 'ECDSA', namedCurve: 'P-256' }

async function publicKeyOf(key: PrivateKeyMaterial): Promise<webcrypto.CryptoKey> {
  const spki = createPublicKey(key.exportPem()).export({ type: 'spki', format: 'der' })
  return webcrypto.subtle.importKey('spki', spki, curve, true, ['verify'])
}

async function signingKeyOf(key: PrivateKeyMaterial, hash: string): Promise<webcrypto.CryptoKey> {
  const pkcs8 = createPrivateKey(key.exportPem()).export({ type: 'pkcs8', format: 'der' })
  return webcrypto.subtle.importKey('pkcs8', pkcs8, { ...curve, hash }, false, ['sign'])
}
