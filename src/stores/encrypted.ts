/**
 * Encryption at rest for any store.
 *
 * Published as `evercert/stores/encrypted`.
 *
 * @module
 */
import { createCipheriv, createDecipheriv, createHmac, createSecretKey, KeyObject, randomBytes } from 'node:crypto'
import { StoreError } from '../errors.js'
import type { CertStore, FoundValue, StoredValue, StoreKey } from './cert-store.js'

/** 32 bytes for AES-256: raw, or as a secret `KeyObject`, which does not print itself. */
export type StoreEncryptionKey = Uint8Array | KeyObject

/** "evercert encrypted value, format 1". */
const magic = Buffer.from('EVC\x01', 'latin1')
const keyIdBytes = 8
const nonceBytes = 12
const tagBytes = 16
const headerBytes = magic.length + keyIdBytes + nonceBytes

/**
 * Wraps a store so that values are encrypted with AES-256-GCM before they reach it. Locks, watches and revisions are
 * those of the wrapped store.
 *
 * A value is bound to its key name: copied to another one it does not decrypt. Key names stay in clear, they hold the
 * names of certificates; so do the size of a value and the time it was written. An old value that is put back under its
 * own name cannot be recognised.
 *
 * @example
 *
 * ```ts
 * import { encryptedStore } from 'evercert/stores/encrypted'
 * import { fileStore } from 'evercert/stores/file'
 *
 * declare const secret: string // 32 bytes in base64, from where you keep secrets
 * const store = encryptedStore(fileStore({ directory: '/var/lib/evercert' }), Buffer.from(secret, 'base64'))
 * ```
 *
 * @remarks
 * To change the key, pass `[newKey, oldKey]`: the first one encrypts, all of them decrypt. A value is re-encrypted when it
 * is written the next time; keep the old key until every certificate has been renewed.
 *
 * `get` rejects with `ERR_STORE_UNAVAILABLE` when the value was written with a key that is not given here: nothing is
 * damaged then, and nothing must be ordered anew because of a wrong setting. The same goes for a value that was never
 * encrypted: to turn encryption on, begin with an empty store, and put what the old one holds into it. `get` rejects with
 * `ERR_STORE_CORRUPT` when the key fits and the value does not: it was changed, cut or moved.
 *
 * @param store - The store to wrap. It is closed by `close` of the wrapper.
 * @param key - The key, or a list of keys.
 * @returns A store named `encrypted/` and the name of the wrapped one.
 * @throws `TypeError` if there is no key, or one that is not 32 bytes long.
 */
export function encryptedStore(store: CertStore, key: StoreEncryptionKey | readonly StoreEncryptionKey[]): CertStore {
  const [first, ...others] = (isKeyList(key) ? key : [key]).map(readKey)
  if (first === undefined) throw new TypeError('encryptedStore: the list of keys is empty')
  const keys = new Map([...others, first].map((known) => [known.id.toString('hex'), known.secret]))
  const name = `encrypted/${store.name}`

  function decrypt(storeKey: StoreKey, stored: StoredValue | undefined): FoundValue {
    if (stored === undefined) return { key: storeKey, stored }
    const bytes = Buffer.from(stored.value.buffer, stored.value.byteOffset, stored.value.length)
    const failure = (code: StoreError['code'], why: string, damaged?: StoredValue): FoundValue => ({
      key: storeKey,
      error: new StoreError({ code, message: `${name}: ${storeKey} ${why}`, store: name, key: storeKey, damaged }),
    })
    if (!bytes.subarray(0, magic.length).equals(magic.subarray(0, bytes.length))) {
      return failure(
        'ERR_STORE_UNAVAILABLE',
        'is not an encrypted value, and is left as it is; was the store used without encryption? ' +
          'Go on without it, or copy what the plain store holds into an empty encrypted one',
      )
    }
    if (bytes.length < headerBytes + tagBytes) {
      return failure('ERR_STORE_CORRUPT', 'was cut short after it was encrypted', stored)
    }
    const header = bytes.subarray(0, headerBytes)
    const id = header.subarray(magic.length, magic.length + keyIdBytes).toString('hex')
    const secret = keys.get(id)
    if (secret === undefined) {
      return failure(
        'ERR_STORE_UNAVAILABLE',
        `was encrypted with key ${id}, which is not given; add it to the list of keys`,
      )
    }
    const decipher = createDecipheriv('aes-256-gcm', secret, header.subarray(-nonceBytes), { authTagLength: tagBytes })
    decipher.setAAD(additionalData(header, storeKey))
    decipher.setAuthTag(bytes.subarray(-tagBytes))
    try {
      const plain = Buffer.concat([decipher.update(bytes.subarray(headerBytes, -tagBytes)), decipher.final()])
      return { key: storeKey, stored: { value: new Uint8Array(plain), revision: stored.revision } }
    } catch {
      return failure('ERR_STORE_CORRUPT', 'was changed or moved after it was encrypted; the key does fit', stored)
    }
  }

  const getMany = store.getMany?.bind(store)

  async function* decryptMany(parts: AsyncIterable<readonly FoundValue[]>): AsyncGenerator<readonly FoundValue[]> {
    for await (const part of parts) {
      yield part.map((found) => (found.error === undefined ? decrypt(found.key, found.stored) : found))
    }
  }

  return {
    name,
    async get(storeKey, context) {
      const { stored, error } = decrypt(storeKey, await store.get(storeKey, context))
      if (error !== undefined) throw error
      return stored
    },
    ...(getMany !== undefined && { getMany: (storeKeys, context) => decryptMany(getMany(storeKeys, context)) }),
    async put(storeKey, value, context, options) {
      const header = Buffer.concat([magic, first.id, randomBytes(nonceBytes)])
      const cipher = createCipheriv('aes-256-gcm', first.secret, header.subarray(-nonceBytes), {
        authTagLength: tagBytes,
      })
      cipher.setAAD(additionalData(header, storeKey))
      const encrypted = Buffer.concat([header, cipher.update(value), cipher.final(), cipher.getAuthTag()])
      return store.put(storeKey, encrypted, context, options)
    },
    delete: (storeKey, context, options) => store.delete(storeKey, context, options),
    list: (prefix, context) => store.list(prefix, context),
    ...(store.lock !== undefined && { lock: store.lock.bind(store) }),
    ...(store.watch !== undefined && { watch: store.watch.bind(store) }),
    ...(store.close !== undefined && { close: store.close.bind(store) }),
  }
}

interface KnownKey {
  readonly secret: KeyObject
  /** Says which key a value needs, and nothing about the key. */
  readonly id: Buffer
}

function readKey(key: unknown): KnownKey {
  const secret = key instanceof Uint8Array ? createSecretKey(Uint8Array.from(key)) : key
  if (!(secret instanceof KeyObject) || secret.type !== 'secret' || secret.symmetricKeySize !== 32) {
    throw new TypeError('encryptedStore: a key must be 32 bytes, as a Uint8Array or a secret KeyObject')
  }
  const id = createHmac('sha256', secret).update('evercert store key id').digest().subarray(0, keyIdBytes)
  return { secret, id }
}

function isKeyList(key: StoreEncryptionKey | readonly StoreEncryptionKey[]): key is readonly StoreEncryptionKey[] {
  return Array.isArray(key)
}

function additionalData(header: Uint8Array, storeKey: string): Uint8Array {
  return Buffer.concat([header, Buffer.from(storeKey)])
}
