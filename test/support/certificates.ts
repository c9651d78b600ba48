/**
 * A throw-away CA for the HTTPS endpoints and HAProxy certificates of the tests.
 */
import { webcrypto } from 'node:crypto'
import { isIP } from 'node:net'
import * as x509 from '@peculiar/x509'

export interface TestCertificate {
  /** The leaf alone. */
  readonly certificatePem: string
  readonly privateKeyPem: string
  /** Leaf, then key: what HAProxy's `crt` reads. */
  readonly bundlePem: string
  /** Lower-case hex without colons. */
  readonly fingerprintSha256: string
}

export interface TestAuthority {
  readonly certificatePem: string
  /** A leaf for DNS names and IP addresses, valid for a day; of a server unless `usage` says otherwise. */
  issue(names: readonly [string, ...string[]], usage?: 'serverAuth' | 'clientAuth'): Promise<TestCertificate>
}

const keyAlgorithm = { name: 'ECDSA', namedCurve: 'P-256' }
const signingAlgorithm = { name: 'ECDSA', hash: 'SHA-256' }
const dayMs = 86_400_000

export async function testAuthority(name = 'evercert test authority'): Promise<TestAuthority> {
  const keys = await generateKeys()
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(),
    name: `CN=${name}`,
    keys,
    signingAlgorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })

  return {
    certificatePem: pem(authority),
    async issue(names, usage = 'serverAuth') {
      const leafKeys = await generateKeys()
      const certificate = await x509.X509CertificateGenerator.create({
        ...validity(),
        subject: `CN=${names[0]}`,
        issuer: authority.subject,
        publicKey: leafKeys.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage[usage]]),
          new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: isIP(value) ? 'ip' : 'dns', value }))),
          await x509.AuthorityKeyIdentifierExtension.create(keys.publicKey),
        ],
      })
      const certificatePem = pem(certificate)
      const privateKeyPem = await exportKey(leafKeys.privateKey)
      return {
        certificatePem,
        privateKeyPem,
        bundlePem: certificatePem + privateKeyPem,
        fingerprintSha256: Buffer.from(await certificate.getThumbprint('SHA-256')).toString('hex'),
      }
    },
  }
}

/** An authority and its certificate for the loopback endpoints, and further addresses, of a test server. */
export async function loopbackCertificate(
  ...addresses: readonly string[]
): Promise<TestCertificate & { readonly caPem: string }> {
  const authority = await testAuthority()
  const names = new Set(['127.0.0.1', '::1', ...addresses])
  return { ...(await authority.issue(['localhost', ...names])), caPem: authority.certificatePem }
}

function validity(): { serialNumber: string; notBefore: Date; notAfter: Date } {
  const serial = webcrypto.getRandomValues(new Uint8Array(16))
  // Positive, and without a leading zero byte.
  serial[0] = 0x40 | (serial[0]! & 0x3f)
  return {
    serialNumber: Buffer.from(serial).toString('hex'),
    notBefore: new Date(Date.now() - dayMs),
    notAfter: new Date(Date.now() + dayMs),
  }
}

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(keyAlgorithm, true, ['sign', 'verify'])
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return `${x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')}\n`
}

function pem(certificate: x509.X509Certificate): string {
  return `${certificate.toString('pem')}\n`
}
