import { execFileSync } from 'node:child_process'
import { createPublicKey, X509Certificate } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { parseIdentifier, type Identifier } from '../../../src/core/identifier.js'
import { encodePem, parsePem } from '../../../src/core/pem.js'
import {
  generatePrivateKey,
  keyAlgorithms,
  publicKeyInfo,
  type PrivateKeyMaterial,
} from '../../../src/core/private-key.js'
import { certificateIdOf } from '../../../src/core/renewal-info.js'
import { createCsr, csrPublicKeyInfo, parseCertificate, serverAuthOid } from '../../../src/core/x509.js'
import { createCertificate } from '../../../src/core/x509-signing.js'
import { children, decode } from '../../../src/testing/test-ca/der.js'
import { temporaryDirectory } from '../../support/temporary-directory.js'
import { day, forge, now } from './authority.js'

const names = ['a.example', '*.b.example', 'xn--bcher-kva.example', '192.0.2.7', '2001:db8::1']
const identifiers: readonly Identifier[] = names.map(parseIdentifier)

/** The other implementation, in a process of its own; its input is in a file because it may be a key. */
async function openssl(input: Uint8Array, ...parameters: string[]): Promise<string> {
  const directory = await temporaryDirectory()
  onTestFinished(() => directory.remove())
  const path = join(directory.path, 'input')
  await writeFile(path, input)
  return execFileSync('openssl', [...parameters, '-in', path], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

describe('createCsr', () => {
  describe.each(keyAlgorithms)('with %s', (algorithm) => {
    let key: PrivateKeyMaterial
    let csr: Uint8Array
    beforeAll(async () => {
      key = await generatePrivateKey(algorithm)
      csr = await createCsr(key, identifiers)
      // A large RSA key takes seconds, and sometimes a lot of them.
    }, 60_000)

    it('is signed by the key and names it', async () => {
      expect(await new x509.Pkcs10CertificateRequest(Buffer.from(csr)).verify()).toBe(true)
      expect(csrPublicKeyInfo(csr).equals(publicKeyInfo(key))).toBe(true)
    })

    it('is a request for exactly these names, in the eyes of openssl', async () => {
      const text = await openssl(csr, 'req', '-inform', 'der', '-verify', '-noout', '-text', '-nameopt', 'RFC2253')
      expect(text).toMatch(/Subject: *\n/)
      expect(text).toContain(
        [
          'DNS:a.example',
          'DNS:*.b.example',
          'DNS:xn--bcher-kva.example',
          'IP Address:192.0.2.7',
          'IP Address:2001:DB8:0:0:0:0:0:1',
        ].join(', '),
      )
      expect(text.match(/X509v3 /g)).toHaveLength(1)
      expect(text).toMatch(/Signature Algorithm: (?:ecdsa-with-SHA(?:256|384)|sha256WithRSAEncryption)/)
    })
  })

  it('holds a thousand names, 63-octet labels and 253-octet names', async () => {
    const label = 'a'.repeat(63)
    const long = [label, label, label, 'b'.repeat(61)].join('.')
    const many = [long, ...Array.from({ length: 999 }, (_, at) => `host-${String(at)}.example`)].map(parseIdentifier)
    const csr = await createCsr(await generatePrivateKey(), many)
    const text = await openssl(csr, 'req', '-inform', 'der', '-verify', '-noout', '-text')
    expect(text.match(/DNS:[^,\s]+/g)).toEqual(many.map(({ value }) => `DNS:${value}`))
  })

  it('refuses to read a key from what is no request', () => {
    expect(() => csrPublicKeyInfo(Buffer.from('no request'))).toThrow(Error)
  })
})

describe('createCertificate', () => {
  it.each(['ecdsa-p256', 'ecdsa-p384', 'rsa-2048'] as const)(
    'makes a chain with %s keys that openssl verifies',
    async (algorithm) => {
      const rootKey = await generatePrivateKey(algorithm)
      const key = await generatePrivateKey(algorithm)
      const validity = { notBefore: new Date(Date.now() - day), notAfter: new Date(Date.now() + day) }
      const rootDer = await createCertificate({
        ...validity,
        subject: 'CN=a root, O=evercert',
        publicKeyInfo: publicKeyInfo(rootKey),
        identifiers: [],
        isCa: true,
        signWith: { key: rootKey },
      })
      const root = parseCertificate(rootDer)
      const leafDer = await createCertificate({
        ...validity,
        subject: 'CN=a leaf',
        publicKeyInfo: publicKeyInfo(key),
        identifiers,
        isCa: false,
        signWith: { key: rootKey, certificate: root },
      })
      const leaf = parseCertificate(leafDer)

      const directory = await temporaryDirectory()
      onTestFinished(() => directory.remove())
      const rootPath = join(directory.path, 'root.pem')
      await writeFile(rootPath, encodePem('CERTIFICATE', rootDer))
      const leafPem = Buffer.from(encodePem('CERTIFICATE', leafDer))
      const verify = ['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', rootPath]
      for (const host of ['a.example', 'www.b.example']) {
        await writeFile(join(directory.path, 'leaf.pem'), leafPem)
        const parameters = [...verify, '-verify_hostname', host, join(directory.path, 'leaf.pem')]
        expect(execFileSync('openssl', parameters, { encoding: 'utf8' })).toContain('OK')
      }

      expect(root).toMatchObject({ isCa: true, selfSigned: true, subject: 'a root', identifiers: [] })
      expect(root.issuedBy(root)).toBe(true)
      expect(leaf).toMatchObject({
        isCa: false,
        selfSigned: false,
        subject: 'a leaf',
        issuerName: 'a root',
        otherNames: [],
      })
      expect(leaf.identifiers).toEqual(identifiers)
      expect(leaf.extendedKeyUsages).toEqual([serverAuthOid])
      expect(leaf.issuedBy(root)).toBe(true)
      expect(root.issuedBy(leaf)).toBe(false)
      expect(leaf.publicKeyInfo.equals(publicKeyInfo(key))).toBe(true)
      expect(leaf.signatureHash).toBe(algorithm === 'ecdsa-p384' ? 'SHA-384' : 'SHA-256')
    },
  )

  it.each(['nombstr', 'utf8only'])("names its issuer as that one names itself: openssl's %s", async (mask) => {
    const directory = await temporaryDirectory()
    onTestFinished(() => directory.remove())
    const rootKey = await generatePrivateKey()
    const paths = { key: join(directory.path, 'key.pem'), config: join(directory.path, 'openssl.cnf') }
    await writeFile(paths.key, rootKey.exportPem(), { mode: 0o600 })
    await writeFile(paths.config, `[req]\nstring_mask = ${mask}\ndistinguished_name = name\n[name]\n`)
    const subject = ['-utf8', '-subj', '/C=DE/O=Ein, "Verein"+OU=x/CN=Größe \\/ 1']
    const extensions = ['-addext', 'subjectKeyIdentifier=01:02:03', '-addext', 'keyUsage=keyCertSign']
    const parameters = ['req', '-x509', '-new', '-key', paths.key, '-config', paths.config, ...subject, ...extensions]
    const [block] = parsePem(
      execFileSync('openssl', [...parameters, '-addext', 'basicConstraints=critical,CA:TRUE'], { encoding: 'utf8' }),
    )
    const root = parseCertificate(block!.der)
    const leaf = parseCertificate(
      await createCertificate({
        subject: 'CN=leaf',
        publicKeyInfo: publicKeyInfo(await generatePrivateKey()),
        identifiers,
        notBefore: new Date(now),
        notAfter: new Date(now + day),
        isCa: false,
        signWith: { key: rootKey, certificate: root },
      }),
    )
    const part = (der: Buffer, at: number): string => children(children(decode(der))[0]!)[at]!.bytes.toString('hex')
    expect(part(leaf.der, 3)).toBe(part(root.der, 5))
    expect(leaf.authorityKeyIdentifier?.toString('hex')).toBe('010203')
    expect(leaf.issuedBy(root)).toBe(true)
  })

  it('draws a positive serial number of at least 64 bits each time', async () => {
    const key = await generatePrivateKey()
    const serials = new Set<string>()
    for (let round = 0; round < 50; round += 1) {
      const der = await createCertificate({
        subject: 'CN=x',
        publicKeyInfo: publicKeyInfo(key),
        identifiers,
        notBefore: new Date(now),
        notAfter: new Date(now + day),
        isCa: false,
        signWith: { key },
      })
      const { serialNumber } = parseCertificate(der)
      expect(serialNumber.length).toBe(20)
      expect(serialNumber[0]).toBeLessThan(0x80)
      expect(serialNumber[0]).toBeGreaterThan(0)
      serials.add(serialNumber.toString('hex'))
    }
    expect(serials.size).toBe(50)
  })
})

describe('parseCertificate', () => {
  it('agrees with node on all that both can read', async () => {
    const { der, key } = await forge({ subject: 'CN=one, O=two', names })
    const parsed = parseCertificate(der)
    const node = new X509Certificate(der)
    expect(parsed.der.equals(der)).toBe(true)
    expect(parsed.fingerprintSha256).toBe(node.fingerprint256.replaceAll(':', '').toLowerCase())
    expect(parsed.fingerprintSha256).toMatch(/^[0-9a-f]{64}$/)
    expect(parsed.notBefore).toEqual(new Date(node.validFrom))
    expect(parsed.notAfter).toEqual(new Date(now + 89 * day))
    expect(parsed.serialNumber.toString('hex')).toBe(node.serialNumber.toLowerCase())
    expect(createPublicKey(key.exportPem()).equals(node.publicKey)).toBe(true)
  })

  it.each([
    [Date.UTC(1999, 11, 31), Date.UTC(2049, 11, 31, 23, 59, 59)],
    [Date.UTC(2050, 0, 1), Date.UTC(9999, 11, 31, 23, 59, 59)],
  ])('reads years before and after 2050 (%d to %d)', async (notBefore, notAfter) => {
    const parsed = parseCertificate((await forge({ names, notBefore, notAfter })).der)
    expect(parsed.notBefore.getTime()).toBe(notBefore)
    expect(parsed.notAfter.getTime()).toBe(notAfter)
  })

  it('shows nothing of a subject that a terminal or a log would obey', async () => {
    const { der } = await forge({ subject: [{ CN: ['evil\n\u001b[31m\u202eline'] }, { O: ['x'] }] })
    expect(parseCertificate(der).subject).toBe('evil??[31m?line')
    const long = await forge({ subject: `CN=${'x'.repeat(5000)}` })
    expect(parseCertificate(long.der).subject.length).toBeLessThanOrEqual(200)
    const nameless = await forge({ subject: 'O=only an organisation' })
    expect(parseCertificate(nameless.der).subject).toBe('O=only an organisation')
    const anonymous = await forge({ subject: '', names })
    expect(parseCertificate(anonymous.der).subject).toBe('(no name)')
  })

  it.each([Buffer.alloc(0), Buffer.from([0x30, 0x80]), Buffer.from('<html>'), Buffer.alloc(1000, 0x30)])(
    'refuses %o',
    (der) => {
      expect(() => parseCertificate(der)).toThrow(Error)
    },
  )

  it('does not take a signature by another key of the same name for an issuer', async () => {
    const real = await forge({ subject: 'CN=ca', ca: true })
    const impostor = await forge({ subject: 'CN=ca', ca: true })
    const leaf = parseCertificate((await forge({ names, issuer: real, authorityKeyIdentifier: false })).der)
    expect(leaf.issuedBy(parseCertificate(real.der))).toBe(true)
    expect(leaf.issuedBy(parseCertificate(impostor.der))).toBe(false)
  })
})

describe('the id of a certificate (RFC 9773 section 4.1)', () => {
  it('is the one of the example in appendix A', async () => {
    const { der } = await forge({
      names,
      serialNumber: '0087654321',
      authorityKeyIdentifier: false,
      extensions: [new x509.AuthorityKeyIdentifierExtension('69885B6B87464041E1B37B847BA0AE2CDE01C8D4')],
    })
    expect(certificateIdOf(parseCertificate(der))?.value).toBe('aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE')
  })

  it.each([
    ['7f', '7f'],
    ['80', '0080'],
    ['0080', '0080'],
    ['ff'.repeat(19), `00${'ff'.repeat(19)}`],
    ['01', '01'],
    ['0f00', '0f00'],
    [`40${'00'.repeat(19)}`, `40${'00'.repeat(19)}`],
  ])('keeps the octets of serial number %s', async (serialNumber, octets) => {
    const parsed = parseCertificate((await forge({ names, serialNumber })).der)
    expect(parsed.serialNumber.toString('hex')).toBe(octets)
    expect(certificateIdOf(parsed)?.value.split('.')[1]).toBe(Buffer.from(octets, 'hex').toString('base64url'))
  })

  it('is absent without an authority key identifier', async () => {
    const { der } = await forge({ names, authorityKeyIdentifier: false })
    expect(certificateIdOf(parseCertificate(der))).toBeUndefined()
  })
})
