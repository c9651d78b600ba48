import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import * as x509 from '@peculiar/x509'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  checkIssuedChain,
  createBundle,
  readCertificates,
  type CheckedChain,
} from '../../../src/core/certificate-bundle.js'
import { parseIdentifier } from '../../../src/core/identifier.js'
import { generatePrivateKey, publicKeyInfo } from '../../../src/core/private-key.js'
import { anyExtendedKeyUsageOid } from '../../../src/core/x509.js'
import { CertError, type CertificateError } from '../../../src/errors.js'
import { assertNoSecrets } from '../../../src/testing/recording-logger.js'
import { contextTag, encode, objectIdentifier, sequence, tags } from '../../../src/testing/test-ca/der.js'
import { day, forge, now, toPem, type Forged, type Forgery } from './authority.js'

const names = ['a.example', '*.b.example', '192.0.2.7', '2001:db8::1']
const minute = 60_000

let root: Forged
let upper: Forged
let lower: Forged
let leaf: Forged
let otherRoot: Forged
let stranger: Forged

beforeAll(async () => {
  root = await forge({ subject: 'CN=root', ca: true })
  upper = await forge({ subject: 'CN=upper', ca: true, issuer: root })
  lower = await forge({ subject: 'CN=lower', ca: true, issuer: upper })
  leaf = await forge({ subject: 'CN=leaf', names, issuer: lower })
  otherRoot = await forge({ subject: 'CN=other root', ca: true })
  stranger = await forge({ subject: 'CN=stranger', ca: true, issuer: otherRoot })
})

interface Expected {
  readonly names?: readonly string[]
  readonly now?: number
  readonly trustedRoots?: string
}

function check(pem: string, expected: Expected = {}): CheckedChain {
  return checkIssuedChain(pem, {
    publicKeyInfo: publicKeyInfo(leaf.key),
    identifiers: (expected.names ?? names).map(parseIdentifier),
    now: expected.now ?? now,
    trustedRoots: expected.trustedRoots,
  })
}

function refusal(run: () => unknown): CertificateError {
  try {
    run()
  } catch (error) {
    expect(CertError.isInstance(error)).toBe(true)
    const refused = error as CertificateError
    expect(refused.name).toBe('CertificateError')
    // A CA that erred may do better next time; until then the old certificate serves.
    expect(refused.retryable).toBe(true)
    expect(refused.message).toMatch(/^[^\p{C}]{20,1200}$/u)
    assertNoSecrets(error)
    return refused
  }
  throw new Error('was not refused')
}

/** A leaf for the same key and names, with something changed, and its chain. */
async function chainWith(change: Forgery): Promise<string> {
  const changed = await forge({ subject: 'CN=leaf', names, issuer: lower, key: leaf.key, ...change })
  return changed.pem + lower.pem + upper.pem
}

describe('checkIssuedChain: what is right', () => {
  const variants: [string, () => string][] = [
    ['as it should be', () => leaf.pem + lower.pem + upper.pem],
    ['a root appended', () => leaf.pem + lower.pem + upper.pem + root.pem],
    ['a foreign root appended', () => leaf.pem + lower.pem + upper.pem + otherRoot.pem],
    ['the leaf last', () => upper.pem + lower.pem + leaf.pem],
    ['root first', () => root.pem + upper.pem + lower.pem + leaf.pem],
    ['the leaf in the middle', () => lower.pem + leaf.pem + upper.pem],
    ['a duplicate leaf', () => leaf.pem + leaf.pem + lower.pem + upper.pem],
    ['duplicate intermediates', () => leaf.pem + lower.pem + lower.pem + upper.pem + upper.pem],
    ['CRLF', () => (leaf.pem + lower.pem + upper.pem).replaceAll('\n', '\r\n')],
    ['no final newline', () => (leaf.pem + lower.pem + upper.pem).trimEnd()],
    ['blocks joined without a newline', () => leaf.pem.trimEnd() + lower.pem.trimEnd() + upper.pem.trimEnd()],
    ['blank lines', () => `\n\n${leaf.pem}\n\n\n${lower.pem}\n${upper.pem}\n\n`],
    ['comments', () => `subject=CN = leaf\n${leaf.pem}# issuer\n${lower.pem}Bag Attributes\n  a: b\n${upper.pem}end`],
    ['runtime API commands between the blocks', () => `${leaf.pem}\nshow info;\n\n${lower.pem}shutdown\n${upper.pem}`],
    ['a byte order mark and NUL octets', () => `\ufeff${leaf.pem}\0${lower.pem}${upper.pem}\0`],
    ['long lines', () => [leaf, lower, upper].map(({ pem }) => pem.replace(/([^-])\n(?!-)/g, '$1')).join('')],
  ]

  it.each(variants)('%s', (_, make) => {
    const { certificatePem, chainPem, leaf: parsed } = check(make())
    expect(certificatePem).toBe(toPem(leaf.der))
    expect(chainPem).toBe(toPem(lower.der) + toPem(upper.der))
    expect(parsed.der.equals(leaf.der)).toBe(true)
    expect(parsed.notAfter.getTime()).toBe(now + 89 * day)
  })

  it('takes the names in any order and spelling', () => {
    const spelled = ['2001:DB8:0::1', '*.B.example.', '192.0.2.7', 'A.EXAMPLE', 'a.example']
    expect(check(leaf.pem + lower.pem + upper.pem, { names: spelled }).certificatePem).toBe(leaf.pem)
  })

  it('takes a chain that stops below an unknown root, and one issued by the root itself', async () => {
    expect(check(leaf.pem + lower.pem).chainPem).toBe(lower.pem)
    const direct = await forge({ names, issuer: root, key: leaf.key })
    expect(check(direct.pem + root.pem).chainPem).toBe('')
    expect(check(direct.pem, { trustedRoots: root.pem }).chainPem).toBe('')
  })

  it.each([
    ['any extended key usage', { usages: [anyExtendedKeyUsageOid] }],
    ['server and client', { usages: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'] }],
    ['no extended key usage', { usages: null }],
    ['no authority key identifier', { authorityKeyIdentifier: false }],
    ['a life of fifty years', { notAfter: now + 50 * 365 * day }],
    ['a life of six days', { notAfter: now + 6 * day }],
  ] satisfies [string, Forgery][])('takes a leaf with %s', async (_, change) => {
    expect(check(await chainWith(change)).chainPem).toBe(lower.pem + upper.pem)
  })

  it('is of the same opinion as openssl about the chain it returns', async () => {
    const { certificatePem, chainPem } = check(root.pem + upper.pem + leaf.pem + lower.pem)
    const [first, second, third] = (certificatePem + chainPem)
      .split(/(?<=-----END CERTIFICATE-----\n)/)
      .map((pem) => new X509Certificate(pem))
    expect(first?.verify(second!.publicKey)).toBe(true)
    expect(second?.verify(third!.publicKey)).toBe(true)
    expect(third?.verify(new X509Certificate(root.pem).publicKey)).toBe(true)
  })
})

describe('checkIssuedChain: names', () => {
  it.each([
    ['other names', ['c.example']],
    ['fewer names', names.slice(1)],
    ['one name more', [...names, 'c.example']],
    ['a common name only', []],
    ['the wildcard in place of its base', ['*.a.example', ...names.slice(1)]],
    ['the base in place of the wildcard', ['a.example', 'b.example', ...names.slice(2)]],
    ['another address', ['a.example', '*.b.example', '192.0.2.8', '2001:db8::1']],
  ])('refuses %s', async (_, got) => {
    const pem = await chainWith({ subject: 'CN=a.example', names: got })
    const error = refusal(() => check(pem))
    expect(error.code).toBe('ERR_CERT_NAME_MISMATCH')
    for (const name of [...got, ...names]) expect(error.message).toContain(name)
  })

  const dns = (text: string): Buffer => encode(contextTag(2, 'primitive'), Buffer.from(text, 'latin1'))
  const utf8 = (text: string): Buffer => encode(tags.utf8String, Buffer.from(text))
  const raw = (...generalNames: Buffer[]): x509.Extension =>
    new x509.Extension('2.5.29.17', false, sequence(...generalNames))

  it.each([
    ['an e-mail address', [encode(contextTag(1, 'primitive'), Buffer.from('a@a.example'))], 'email'],
    ['a URI', [encode(contextTag(6, 'primitive'), Buffer.from('https://a.example/'))], 'uri'],
    ['a registered id', [encode(contextTag(8, 'primitive'), Buffer.from([42, 3, 4]))], 'id'],
    [
      'an otherName that the library cannot read',
      [
        encode(
          contextTag(0, 'constructed'),
          objectIdentifier('1.2.3.4'),
          encode(contextTag(0, 'constructed'), utf8('x')),
        ),
      ],
      'unknown',
    ],
    ['a name with a NUL', [dns('a.example\0.c.example')], 'dns'],
    ['a name with a line end', [dns('c.example\nd')], 'dns'],
    ['a name that is no host name', [dns('-rf')], 'dns'],
    ['a name with a trailing dot', [dns('a.example.')], 'dns'],
    ['a name outside ASCII', [dns('b\u00fccher.example')], 'dns'],
    ['an address written as a DNS name', [dns('192.0.2.7')], 'dns'],
    ['an address of five octets', [encode(contextTag(7, 'primitive'), Buffer.from([192, 0, 2, 7, 9]))], ''],
    [
      'an address with a mask',
      [encode(contextTag(7, 'primitive'), Buffer.from([192, 0, 2, 7, 255, 255, 255, 255]))],
      '',
    ],
    ['an empty name', [dns('')], 'dns'],
  ])('refuses %s beside the right names', async (_, more, shown) => {
    const pem = await chainWith({ names: [], extensions: [raw(dns('a.example'), ...more)] })
    const error = refusal(() => check(pem, { names: ['a.example'] }))
    expect(['ERR_CERT_NAME_MISMATCH', 'ERR_CERT_INVALID']).toContain(error.code)
    expect(error.message).toContain(shown)
  })

  it('refuses an address where a DNS name was asked for, and the other way round', async () => {
    const asName = await chainWith({ names: [], extensions: [raw(dns('192.0.2.7'))] })
    expect(refusal(() => check(asName, { names: ['192.0.2.7'] })).code).toBe('ERR_CERT_NAME_MISMATCH')
  })

  it('refuses two lists of names: clients would disagree which one counts', async () => {
    const pem = await chainWith({ names: ['a.example'], extensions: [raw(dns('c.example'))] })
    expect(refusal(() => check(pem, { names: ['a.example'] })).code).toBe('ERR_CERT_INVALID')
  })

  it('does not print a thousand names, nor what a terminal would obey', async () => {
    const many = await chainWith({ names: Array.from({ length: 1000 }, (_, at) => `host-${String(at)}.example`) })
    expect(refusal(() => check(many)).message.length).toBeLessThan(1200)
    const codes = await chainWith({ names: [], extensions: [raw(dns('\u001b[2Jc\u009b'))] })
    refusal(() => check(codes))
  })
})

describe('checkIssuedChain: key and validity', () => {
  it('refuses a leaf for another key', async () => {
    const other = await forge({ names, issuer: lower })
    expect(refusal(() => check(other.pem + lower.pem + upper.pem)).code).toBe('ERR_CERT_KEY_MISMATCH')
    expect(refusal(() => check(lower.pem + upper.pem)).code).toBe('ERR_CERT_KEY_MISMATCH')
  })

  it('refuses two certificates for the key: which one was meant?', async () => {
    const twin = await forge({ names, issuer: lower, key: leaf.key })
    const error = refusal(() => check(leaf.pem + twin.pem + lower.pem + upper.pem))
    expect(error.code).toBe('ERR_CERT_CHAIN')
    expect(error.message).toContain('two certificates')
  })

  it.each([
    ['expired yesterday', { notBefore: now - 9 * day, notAfter: now - day }, 'expired'],
    ['expires this very moment', { notAfter: now }, 'expired'],
    ['has no life at all', { notBefore: now + minute, notAfter: now + minute }, 'expired'],
    ['ends before it begins', { notBefore: now + 4 * minute, notAfter: now + minute }, 'expired'],
    ['begins in five minutes and a second', { notBefore: now + 5 * minute + 1000 }, 'clock'],
    ['begins tomorrow', { notBefore: now + day }, 'clock'],
  ] satisfies [string, Forgery, string][])('refuses a leaf that %s', async (_, validity, hint) => {
    const pem = await chainWith(validity)
    const error = refusal(() => check(pem))
    expect(error.code).toBe('ERR_CERT_EXPIRED')
    expect(error.message).toContain(hint)
    expect(error.message).toContain('leaf')
  })

  it.each([
    ['expires in a second', { notAfter: now + 1000 }],
    ['begins in five minutes', { notBefore: now + 5 * minute }],
  ] satisfies [string, Forgery][])('takes a leaf that %s', async (_, validity) => {
    expect(check(await chainWith(validity)).chainPem).not.toBe('')
  })

  it('refuses an intermediate that has expired, or has not begun', async () => {
    for (const validity of [{ notAfter: now - 1000 }, { notBefore: now + day }]) {
      const stale = await forge({ subject: 'CN=stale', ca: true, issuer: root, ...validity })
      const below = await forge({ names, issuer: stale, key: leaf.key })
      const error = refusal(() => check(below.pem + stale.pem))
      expect(error.code).toBe('ERR_CERT_EXPIRED')
      expect(error.message).toContain('stale')
    }
  })

  it('refuses an unreadable validity', () => {
    const last = leaf.der.lastIndexOf(Buffer.from([tags.utcTime, 13]))
    const damaged = Buffer.from(leaf.der)
    damaged.write('261301000000Z', last + 2, 'latin1')
    expect(refusal(() => check(toPem(damaged) + lower.pem)).code).toBe('ERR_CERT_INVALID')
  })
})

describe('checkIssuedChain: weak or wrong kinds', () => {
  it.each([
    ['a CA certificate', { ca: true }, 'CA certificate'],
    ['for clients only', { usages: ['1.3.6.1.5.5.7.3.2'] }, 'serverAuth'],
    ['signed with SHA-1', { hash: 'SHA-1' }, 'SHA-1'],
  ] satisfies [string, Forgery, string][])('refuses a leaf that is %s', async (_, change, hint) => {
    const pem = await chainWith(change)
    const error = refusal(() => check(pem))
    expect(error.code).toBe('ERR_CERT_INVALID')
    expect(error.message).toContain(hint)
  })

  it('refuses an intermediate that is signed with SHA-1', async () => {
    const weak = await forge({ subject: 'CN=weak', ca: true, issuer: root, hash: 'SHA-1' })
    const below = await forge({ names, issuer: weak, key: leaf.key })
    const error = refusal(() => check(below.pem + weak.pem))
    expect(error.code).toBe('ERR_CERT_INVALID')
    expect(error.message).toContain('weak')
  })

  it('refuses an issuer that may not sign certificates', async () => {
    const noCa = await forge({ subject: 'CN=no ca', issuer: root })
    const below = await forge({ names, issuer: noCa, key: leaf.key })
    expect(refusal(() => check(below.pem + noCa.pem)).code).toBe('ERR_CERT_CHAIN')
  })

  it('refuses a leaf that signed itself', async () => {
    const own = await forge({ names, key: leaf.key })
    expect(refusal(() => check(own.pem)).code).toBe('ERR_CERT_CHAIN')
  })
})

describe('checkIssuedChain: the chain', () => {
  it.each([
    ['the leaf alone', () => leaf.pem],
    ['the issuer missing', () => leaf.pem + upper.pem],
    ['the issuer missing, root appended', () => leaf.pem + root.pem],
    ['a stranger in its place', () => leaf.pem + stranger.pem],
    ['a stranger beside it', () => leaf.pem + lower.pem + upper.pem + stranger.pem],
    ['a foreign leaf beside it', () => leaf.pem + lower.pem + upper.pem + foreignLeaf.pem],
    ['an issuer of the same name with another key', () => leaf.pem + impostor.pem],
    ['an issuer of the same name with another key, without key identifiers', () => bare.pem + impostor.pem],
  ])('refuses %s', (_, make) => {
    expect(refusal(() => check(make())).code).toBe('ERR_CERT_CHAIN')
  })

  let foreignLeaf: Forged
  let impostor: Forged
  let bare: Forged
  beforeAll(async () => {
    foreignLeaf = await forge({ subject: 'CN=foreign', names, issuer: stranger })
    impostor = await forge({ subject: 'CN=lower', ca: true, issuer: otherRoot })
    bare = await forge({ names, issuer: lower, key: leaf.key, authorityKeyIdentifier: false })
  })

  it('ends at a root that is trusted, given or appended', () => {
    const chain = leaf.pem + lower.pem + upper.pem
    for (const pem of [chain, chain + root.pem]) {
      expect(check(pem, { trustedRoots: root.pem }).chainPem).toBe(lower.pem + upper.pem)
      expect(check(pem, { trustedRoots: otherRoot.pem + root.pem }).chainPem).toBe(lower.pem + upper.pem)
      const error = refusal(() => check(pem, { trustedRoots: otherRoot.pem }))
      expect(error.code).toBe('ERR_CERT_CHAIN')
      expect(error.message).toContain('upper')
    }
  })

  it('refuses a chain that stops before the trusted root', () => {
    expect(refusal(() => check(leaf.pem + lower.pem, { trustedRoots: root.pem })).code).toBe('ERR_CERT_CHAIN')
    expect(check(leaf.pem + lower.pem, { trustedRoots: upper.pem }).chainPem).toBe(lower.pem)
  })

  it.each(['', 'no PEM', '<html>'])('says that it was the trusted roots that are %j', (trustedRoots) => {
    const error = refusal(() => check(leaf.pem + lower.pem + upper.pem, { trustedRoots }))
    expect(error.code).toBe('ERR_CERT_INVALID')
    expect(error.message).toMatch(/^trustedRoots /)
  })

  it('follows a cross-signed root to either side', async () => {
    // As Let's Encrypt did: the young root, certified by an old one, and by itself.
    const old = await forge({ subject: 'CN=old root', ca: true })
    const crossed = await forge({ subject: 'CN=root', ca: true, key: root.key, issuer: old })
    const sent = leaf.pem + lower.pem + upper.pem + crossed.pem
    const long = lower.pem + upper.pem + crossed.pem
    expect(check(sent).chainPem).toBe(long)
    expect(check(sent, { trustedRoots: old.pem }).chainPem).toBe(long)
    expect(check(sent, { trustedRoots: root.pem }).chainPem).toBe(long)
    expect(check(sent + root.pem).chainPem).toBe(long)
    expect(check(root.pem + sent + old.pem, { trustedRoots: old.pem }).chainPem).toBe(long)
    expect(refusal(() => check(sent, { trustedRoots: otherRoot.pem })).code).toBe('ERR_CERT_CHAIN')
  })

  it('refuses two certificates of one intermediate: there is no one right order', async () => {
    const twin = await forge({ subject: 'CN=lower', ca: true, key: lower.key, issuer: otherRoot })
    expect(refusal(() => check(leaf.pem + lower.pem + twin.pem + upper.pem)).code).toBe('ERR_CERT_CHAIN')
  })

  it('ends although two CAs certify each other', async () => {
    const keys = await Promise.all([generatePrivateKey(), generatePrivateKey()])
    const one = await forge({ subject: 'CN=one', ca: true, key: keys[0] })
    const two = await forge({ subject: 'CN=two', ca: true, key: keys[1] })
    const oneByTwo = await forge({ subject: 'CN=one', ca: true, key: keys[0], issuer: two })
    const twoByOne = await forge({ subject: 'CN=two', ca: true, key: keys[1], issuer: one })
    const below = await forge({ names, key: leaf.key, issuer: one })
    expect(check(below.pem + oneByTwo.pem + twoByOne.pem).chainPem).toBe(oneByTwo.pem + twoByOne.pem)
  })
})

describe('checkIssuedChain: what is no chain', () => {
  const body = (pem: string): string => pem.replace(/-----[^-]+-----\n/g, '')

  it.each([
    ['nothing', () => '', 'error page'],
    ['a line end', () => '\n', 'error page'],
    ['HTML', () => '<!doctype html><h1>502 Bad Gateway</h1>', 'error page'],
    ['JSON', () => '{"type":"urn:ietf:params:acme:error:serverInternal"}', 'error page'],
    ['binary DER', () => leaf.der.toString('latin1'), 'error page'],
    ['base64 without armour', () => body(leaf.pem), 'error page'],
    ['a private key', () => leaf.pem + leaf.key.exportPem() + lower.pem, 'PRIVATE KEY'],
    ['a private key first', () => leaf.key.exportPem() + leaf.pem + lower.pem, 'PRIVATE KEY'],
    ['a trusted certificate', () => toPem(leaf.der, 'TRUSTED CERTIFICATE') + lower.pem, 'TRUSTED CERTIFICATE'],
    ['a request', () => toPem(leaf.der, 'CERTIFICATE REQUEST') + lower.pem, 'REQUEST'],
    ['PKCS#7', () => toPem(leaf.der, 'PKCS7'), 'PKCS7'],
    ['a cut download', () => (leaf.pem + lower.pem + upper.pem).slice(0, -40), 'PEM'],
    ['a cut in the base64', () => leaf.pem.replace(/.{7}\n-----END/, '\n-----END') + lower.pem, ''],
    ['trailing octets', () => toPem(Buffer.concat([leaf.der, Buffer.from([0])])) + lower.pem, 'X.509'],
    ['two certificates in one block', () => toPem(Buffer.concat([leaf.der, lower.der])), 'X.509'],
    ['a cut certificate', () => toPem(leaf.der.subarray(0, -1)) + lower.pem, 'X.509'],
    ['PEM inside a block', () => toPem(Buffer.from(leaf.pem)) + lower.pem, 'X.509'],
    ['random octets', () => toPem(Buffer.alloc(300, 7)) + lower.pem, 'X.509'],
    ['eleven blocks', () => leaf.pem + lower.pem.repeat(10), '10 certificates'],
    ['200 certificates', () => leaf.pem + lower.pem.repeat(199), ''],
    ['more than 100 kB', () => `${leaf.pem}${lower.pem}${upper.pem}${'# comment\n'.repeat(10_000)}`, '100000'],
  ])('refuses %s', (_, make, hint) => {
    const pem = make()
    const error = refusal(() => check(pem))
    expect(error.code).toBe('ERR_CERT_INVALID')
    expect(error.message).toContain(hint)
    expect(error.message).not.toContain('Bad Gateway')
    assertNoSecrets(error, [leaf.key.exportPem()])
  })

  it.each([undefined, null, 7, {}, Buffer.from('')])(
    'refuses %s, which a plug-in without types may return',
    (value) => {
      expect(refusal(() => check(value as string)).code).toBe('ERR_CERT_INVALID')
    },
  )

  it('never throws anything but a CertificateError, whichever octet is damaged', () => {
    const pems: string[] = []
    for (let at = 0; at < leaf.der.length; at += 1) {
      const damaged = Buffer.from(leaf.der)
      damaged[at]! ^= 1
      pems.push(toPem(damaged) + lower.pem)
    }
    const codes = new Set(pems.map((pem) => refusal(() => check(pem)).code))
    // The sweep met the parser, the names, the validity and the signature; a damaged key is no point of the curve.
    expect([...codes].sort()).toEqual([
      'ERR_CERT_CHAIN',
      'ERR_CERT_EXPIRED',
      'ERR_CERT_INVALID',
      'ERR_CERT_NAME_MISMATCH',
    ])
  })
})

describe('readCertificates', () => {
  it('reads each certificate once, in order', () => {
    const read = readCertificates(leaf.pem + root.pem + leaf.pem)
    expect(read.map(({ subject }) => subject)).toEqual(['leaf', 'root'])
  })

  it('names what it was reading', () => {
    expect(refusal(() => readCertificates('', 'the file of the operator')).message).toMatch(
      /^the file of the operator /,
    )
  })
})

describe('createBundle', () => {
  const parts = (change: { certificatePem?: string; chainPem?: string } = {}) => ({
    name: 'www',
    certificatePem: leaf.pem,
    chainPem: lower.pem + upper.pem,
    privateKey: leaf.key,
    issuerId: 'ca',
    placeholder: false,
    ...change,
  })

  it('puts leaf, chain and key together', () => {
    const bundle = createBundle(parts())
    expect(bundle).toMatchObject({ name: 'www', issuerId: 'ca', placeholder: false, privateKey: leaf.key })
    expect(bundle.fullChainPem).toBe(leaf.pem + lower.pem + upper.pem)
    expect(bundle.fingerprintSha256).toBe(
      new X509Certificate(leaf.der).fingerprint256.replaceAll(':', '').toLowerCase(),
    )
    expect(bundle.notBefore.getTime()).toBe(now - day)
    expect(bundle.notAfter.getTime()).toBe(now + 89 * day)
    expect(bundle.identifiers.map(({ value }) => value)).toEqual(names)
    expect(Object.isFrozen(bundle)).toBe(true)
    assertNoSecrets(bundle, [leaf.key.exportPem()])
  })

  it('writes everything anew: a blank line would end the payload of a runtime API', () => {
    const loose = `\n# comment\n${leaf.pem.trimEnd()}\r\n`
    const bundle = createBundle(parts({ certificatePem: loose, chainPem: `${lower.pem}\n\nshow info\n\n${upper.pem}` }))
    expect(bundle.certificatePem).toBe(leaf.pem)
    expect(bundle.chainPem).toBe(lower.pem + upper.pem)
    expect(createBundle(parts({ chainPem: '' })).fullChainPem).toBe(leaf.pem)
  })

  it.each([
    ['the key of another certificate', () => ({ certificatePem: lower.pem }), 'ERR_CERT_KEY_MISMATCH'],
    ['no certificate', () => ({ certificatePem: '' }), 'ERR_CERT_INVALID'],
    ['two certificates', () => ({ certificatePem: leaf.pem + lower.pem }), 'ERR_CERT_INVALID'],
    ['a key in the chain', () => ({ chainPem: leaf.key.exportPem() }), 'ERR_CERT_INVALID'],
    ['text for a chain', () => ({ chainPem: 'show info\n' }), 'ERR_CERT_INVALID'],
  ])('refuses %s, and says whose it is', (_, change, code) => {
    const error = refusal(() => createBundle(parts(change())))
    expect(error.code).toBe(code)
    expect(error.message).toContain('www')
  })
})

it('uses no certificates or keys from the repository', async () => {
  const source = await readFile(new URL(import.meta.url), 'utf8')
  expect(source).not.toMatch(/MI[IGH][A-Za-z0-9+/]{40}/)
})
