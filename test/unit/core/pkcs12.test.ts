import { createSecureContext } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { createKeystore } from '../../../src/core/pkcs12.js'
import { createTestBundle } from '../../../src/testing/test-bundle.js'

const options = { password: 'change it: {"$\'}~', alias: 'certificate' }
// Making RSA keys takes seconds, and 4096 bits are no other case than 2048.
const algorithms = ['ecdsa-p256', 'ecdsa-p384', 'rsa-2048'] as const

describe('createKeystore', () => {
  it.each(algorithms)('holds a key of type %s that OpenSSL reads with the password alone', async (keyAlgorithm) => {
    const keystore = await createKeystore(await createTestBundle({ keyAlgorithm }), options)
    expect(() => createSecureContext({ pfx: keystore, passphrase: options.password })).not.toThrow()
    expect(() => createSecureContext({ pfx: keystore, passphrase: 'changeit' })).toThrow(/mac verify failure/i)
  })

  it('gives the same bytes for the same content, and shares no salt with other content', async () => {
    const [one, two] = [await createTestBundle(), await createTestBundle()]
    const keystores = await Promise.all([
      createKeystore(one, options),
      createKeystore(one, options),
      createKeystore(two, options),
      createKeystore(one, { ...options, password: 'other' }),
      createKeystore(one, { ...options, alias: 'other' }),
    ])
    expect(keystores[0]).toEqual(keystores[1])
    const salts = keystores.slice(1).flatMap(saltsOf)
    expect(salts).toHaveLength(4 * 3)
    expect(new Set(salts).size).toBe(salts.length)
  })

  it('shows nothing of the key and the password', async () => {
    const bundle = await createTestBundle()
    const keystore = await createKeystore(bundle, options)
    const key = Buffer.from(bundle.privateKey.exportPem().replace(/-----[^-]+-----|\s/g, ''), 'base64')
    expect(keystore.includes(key.subarray(40, 60))).toBe(false)
    expect(keystore.includes(options.password)).toBe(false)
  })
})

/**
 * OCTET STRINGs of 64 octets, two of the encryption and one of the integrity key, each with its iterations behind it: the two
 * octets they begin with are in one keystore of forty by chance.
 */
function saltsOf(keystore: Buffer): readonly string[] {
  const found = keystore.toString('hex').matchAll(/0440([0-9a-f]{128})0202(?:2710|0800)/g)
  return [...found].map(([, salt]) => salt!)
}
