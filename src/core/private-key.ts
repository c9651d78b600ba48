/**
 * Private keys: made off the event loop, and wrapped so that they do not print.
 *
 * @module
 */
import { createPrivateKey, createPublicKey, generateKeyPair, KeyObject } from 'node:crypto'
import { inspect, promisify } from 'node:util'

/** Key types every public CA accepts. */
export type KeyAlgorithm = 'ecdsa-p256' | 'ecdsa-p384' | 'rsa-2048' | 'rsa-3072' | 'rsa-4096'

/** All {@link KeyAlgorithm} values. */
export const keyAlgorithms: readonly KeyAlgorithm[] = ['ecdsa-p256', 'ecdsa-p384', 'rsa-2048', 'rsa-3072', 'rsa-4096']

/**
 * A private key that prints as `[PrivateKey]` under `util.inspect`, `JSON.stringify` and string conversion.
 * The key leaves it only through {@link PrivateKeyMaterial.exportPem}.
 */
export interface PrivateKeyMaterial {
  readonly algorithm: KeyAlgorithm
  /** PKCS#8 PEM, unencrypted, ending in one newline. Handle with care: this is the secret. */
  exportPem(): string
}

const generate = promisify(generateKeyPair)
/** Where {@link wrap} leaves the key; a `KeyObject` prints nothing of itself. */
const keyObject = Symbol('evercert.keyObject')

/**
 * Makes a key pair on the thread pool.
 *
 * @param algorithm - `ecdsa-p256` by default
 * @throws `TypeError` when it is no {@link KeyAlgorithm}
 */
export async function generatePrivateKey(algorithm: KeyAlgorithm = 'ecdsa-p256'): Promise<PrivateKeyMaterial> {
  // Callers without types: a misspelt algorithm must not become some other key.
  if (!keyAlgorithms.includes(algorithm)) throw new TypeError(`"algorithm" must be one of ${keyAlgorithms.join(', ')}`)
  const { privateKey } = algorithm.startsWith('rsa-')
    ? await generate('rsa', { modulusLength: Number(algorithm.slice(4)) })
    : await generate('ec', { namedCurve: algorithm === 'ecdsa-p256' ? 'P-256' : 'P-384' })
  return wrap(privateKey, algorithm)
}

/**
 * Reads an unencrypted PEM key: PKCS#8, SEC1 or PKCS#1.
 *
 * @throws `TypeError` when it is not a key, or of a type that CAs refuse. The message never quotes the input.
 */
export function importPrivateKey(pem: string): PrivateKeyMaterial {
  const key = readPrivateKey(pem)
  const algorithm = keyAlgorithmOf(key)
  if (algorithm === undefined) {
    throw new TypeError(`private key must be one of ${keyAlgorithms.join(', ')}`)
  }
  return wrap(key, algorithm)
}

/** The public half as DER SubjectPublicKeyInfo, to compare keys. @internal */
export function publicKeyInfo(key: PrivateKeyMaterial): Buffer {
  return createPublicKey(keyObjectOf(key)).export({ type: 'spki', format: 'der' })
}

/** The key as `node:crypto` has it: reading the PEM again costs OpenSSL a millisecond. @internal */
export function keyObjectOf(key: PrivateKeyMaterial): KeyObject {
  const held: unknown = Reflect.get(key, keyObject)
  return held instanceof KeyObject ? held : readPrivateKey(key.exportPem())
}

function readPrivateKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem)
  } catch {
    // OpenSSL's own message is dropped: some versions quote what they were given.
    throw new TypeError('private key must be an unencrypted PEM block (PKCS#8, SEC1 or PKCS#1)')
  }
}

/** What a key is, private or public; `undefined` when CAs refuse it. @internal */
export function keyAlgorithmOf(key: KeyObject): KeyAlgorithm | undefined {
  const details = key.asymmetricKeyDetails
  if (key.asymmetricKeyType === 'rsa') {
    const algorithm = `rsa-${String(details?.modulusLength)}`
    return keyAlgorithms.find((known) => known === algorithm)
  }
  if (key.asymmetricKeyType !== 'ec') return undefined
  if (details?.namedCurve === 'prime256v1') return 'ecdsa-p256'
  return details?.namedCurve === 'secp384r1' ? 'ecdsa-p384' : undefined
}

function wrap(key: KeyObject, algorithm: KeyAlgorithm): PrivateKeyMaterial {
  const text = '[PrivateKey]'
  const material = {
    algorithm,
    exportPem: () => key.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
  const hidden = { enumerable: false, value: () => text }
  return Object.freeze(
    Object.defineProperties(material, {
      [inspect.custom]: hidden,
      toJSON: hidden,
      toString: hidden,
      [keyObject]: { enumerable: false, value: key },
    }),
  )
}
