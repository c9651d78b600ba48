import { execFileSync } from 'node:child_process'
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { inspect } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  generatePrivateKey,
  importPrivateKey,
  keyAlgorithms,
  publicKeyInfo,
  type KeyAlgorithm,
  type PrivateKeyMaterial,
} from '../../../src/core/private-key.js'
import { assertNoSecrets } from '../../../src/testing/recording-logger.js'

const pem = (key: KeyObject, type: 'pkcs8' | 'sec1' | 'pkcs1'): string => key.export({ type, format: 'pem' }).toString()

describe('generatePrivateKey', () => {
  it.each([
    ['ecdsa-p256', 'ec', { namedCurve: 'prime256v1' }],
    ['ecdsa-p384', 'ec', { namedCurve: 'secp384r1' }],
    ['rsa-2048', 'rsa', { modulusLength: 2048, publicExponent: 65537n }],
    ['rsa-3072', 'rsa', { modulusLength: 3072, publicExponent: 65537n }],
    ['rsa-4096', 'rsa', { modulusLength: 4096, publicExponent: 65537n }],
  ] as const)(
    'makes %s',
    async (algorithm, type, details) => {
      const material = await generatePrivateKey(algorithm)
      expect(material.algorithm).toBe(algorithm)
      const text = material.exportPem()
      expect(text).toMatch(/^-----BEGIN PRIVATE KEY-----\n[^]+\n-----END PRIVATE KEY-----\n$/)
      const key = createPrivateKey(text)
      expect(key.asymmetricKeyType).toBe(type)
      expect(key.asymmetricKeyDetails).toMatchObject(details)
      expect(importPrivateKey(text)).toMatchObject({ algorithm })
      expect(importPrivateKey(text).exportPem()).toBe(text)
      // A large RSA key takes seconds, and sometimes a lot of them.
    },
    60_000,
  )

  it('makes P-256 unless told otherwise, and another one each time', async () => {
    const [one, two] = await Promise.all([generatePrivateKey(), generatePrivateKey()])
    expect(one.algorithm).toBe('ecdsa-p256')
    expect(publicKeyInfo(one).equals(publicKeyInfo(two))).toBe(false)
  })

  it.each(['ed25519', 'ecdsa-p521', 'rsa-1024', 'rsa-', 'RSA-2048', '', 7, null])('refuses %s', async (algorithm) => {
    await expect(generatePrivateKey(algorithm as KeyAlgorithm)).rejects.toThrow(TypeError)
    await expect(generatePrivateKey(algorithm as KeyAlgorithm)).rejects.toThrow('"algorithm"')
  })

  it('lets the event loop turn while it works', async () => {
    let turns = 0
    let done = false
    const made = generatePrivateKey('rsa-2048').then(() => (done = true))
    const turn = (): void => {
      turns += 1
      if (!done) setImmediate(turn)
    }
    setImmediate(turn)
    await made
    // Made on the event loop, the key would be there before the first turn.
    expect(turns).toBeGreaterThan(1)
  })
})

describe('importPrivateKey', () => {
  it.each([
    ['P-256', 'ecdsa-p256'],
    ['P-384', 'ecdsa-p384'],
  ])('reads %s as PKCS#8 and SEC1', (namedCurve, algorithm) => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve })
    for (const type of ['pkcs8', 'sec1'] as const) {
      const material = importPrivateKey(pem(privateKey, type))
      expect(material.algorithm).toBe(algorithm)
      expect(material.exportPem()).toBe(pem(privateKey, 'pkcs8'))
    }
  })

  it('reads RSA as PKCS#8 and PKCS#1', () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    for (const type of ['pkcs8', 'pkcs1'] as const) {
      const material = importPrivateKey(pem(privateKey, type))
      expect(material.algorithm).toBe('rsa-2048')
      expect(material.exportPem()).toBe(pem(privateKey, 'pkcs8'))
    }
  })

  it('reads what openssl writes beside a key: parameters first, comments, CRLF', () => {
    const written = execFileSync('openssl', ['ecparam', '-name', 'prime256v1', '-genkey'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    expect(written).toContain('BEGIN EC PARAMETERS')
    const key = written.slice(written.indexOf('-----BEGIN EC PRIVATE KEY'))
    for (const text of [key, `# the key\n${key}`, key.replaceAll('\n', '\r\n')]) {
      expect(importPrivateKey(text).algorithm).toBe('ecdsa-p256')
    }
  })

  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const cipher = { cipher: 'aes-256-cbc', passphrase: 'a passphrase' } as const
  const good = pem(ec.privateKey, 'pkcs8')

  it.each([
    ['Ed25519', pem(generateKeyPairSync('ed25519').privateKey, 'pkcs8'), 'must be one of'],
    ['X25519', pem(generateKeyPairSync('x25519').privateKey, 'pkcs8'), 'must be one of'],
    ['P-521', pem(generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey, 'pkcs8'), 'must be one of'],
    ['secp256k1', pem(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey, 'pkcs8'), 'must be one of'],
    ['RSA 1024', pem(generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey, 'pkcs8'), 'must be one of'],
    ['RSA-PSS', pem(generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).privateKey, 'pkcs8'), 'must be one of'],
    ['encrypted PKCS#8', ec.privateKey.export({ type: 'pkcs8', format: 'pem', ...cipher }).toString(), 'unencrypted'],
    ['encrypted SEC1', ec.privateKey.export({ type: 'sec1', format: 'pem', ...cipher }).toString(), 'unencrypted'],
    ['a public key', ec.publicKey.export({ type: 'spki', format: 'pem' }).toString(), 'unencrypted'],
    ['nothing', '', 'unencrypted'],
    ['garbage', 'my-secret-password-in-the-wrong-field', 'unencrypted'],
    ['a cut key', good.slice(0, 120), 'unencrypted'],
    ['a damaged key', good.replace(/\n.{10}/, '\nAAAAAAAAAA'), 'unencrypted'],
  ])('refuses %s without quoting it', (_, text, hint) => {
    let error: unknown
    try {
      importPrivateKey(text)
    } catch (caught) {
      error = caught
    }
    expect(error).toBeInstanceOf(TypeError)
    expect((error as TypeError).message).toContain(hint)
    assertNoSecrets(error, [text, ...text.split('\n').filter((line) => line.length > 16)])
  })

  it.each([undefined, null, 7, {}, { key: 'x' }, []])('refuses %j', (value) => {
    expect(() => importPrivateKey(value as unknown as string)).toThrow(TypeError)
  })
})

describe('a private key', () => {
  let material: PrivateKeyMaterial
  let secrets: readonly string[]
  beforeAll(async () => {
    material = await generatePrivateKey()
    const text = material.exportPem()
    const scalar = createPrivateKey(text).export({ format: 'jwk' }).d ?? ''
    secrets = [
      text,
      scalar,
      Buffer.from(scalar, 'base64url').toString('hex'),
      Buffer.from(scalar, 'base64url').toString('base64'),
    ]
  })

  it('prints as [PrivateKey]', () => {
    expect(inspect(material)).toBe('[PrivateKey]')
    // eslint-disable-next-line @typescript-eslint/no-base-to-string -- that it has a text of its own is the point
    expect(String(material)).toBe('[PrivateKey]')
    expect(JSON.stringify(material)).toBe('"[PrivateKey]"')
    expect(inspect({ deep: { down: [material] } }, { depth: null })).toContain('[PrivateKey]')
  })

  it.each([
    ['alone', () => material],
    ['in an object', () => ({ bundle: { privateKey: material } })],
    ['in an array, a map and a set', () => [[material], new Map([['key', material]]), new Set([material])]],
    [
      'in an error',
      () => Object.assign(new Error('failed'), { key: material, cause: new Error('x', { cause: material }) }),
    ],
    ['as its own copy', () => ({ ...material })],
    ['as another object with its prototype', () => Object.assign(Object.create(material) as object, { a: 1 })],
  ])('shows no secret %s', (_, make) => {
    assertNoSecrets(make(), secrets)
    for (const options of [
      { showHidden: true, depth: null },
      { customInspect: false, showHidden: true, depth: null, getters: true },
    ]) {
      const shown = inspect(make(), options)
      for (const secret of secrets) expect(shown).not.toContain(secret)
      expect(shown).not.toContain('BEGIN')
    }
  })

  it('cannot be changed', () => {
    expect(Object.isFrozen(material)).toBe(true)
    expect(() => Object.assign(material, { exportPem: () => 'other' })).toThrow(TypeError)
  })

  it.each(keyAlgorithms.filter((algorithm) => algorithm.startsWith('ecdsa')))(
    'compares by its public half: %s',
    async (algorithm) => {
      const key = await generatePrivateKey(algorithm)
      expect(publicKeyInfo(key).equals(publicKeyInfo(importPrivateKey(key.exportPem())))).toBe(true)
      // A plug-in's own object is as good, as long as it exports its key.
      expect(publicKeyInfo({ algorithm, exportPem: () => key.exportPem() }).equals(publicKeyInfo(key))).toBe(true)
    },
  )
})
