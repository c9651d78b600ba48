import { createSecretKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { StoreError } from '../../../src/errors.js'
import type { CertStore, FoundValue, StoreKey } from '../../../src/stores/cert-store.js'
import { encryptedStore } from '../../../src/stores/encrypted.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { operationContext } from '../../../src/testing/operation-context.js'

const context = operationContext()
const www: StoreKey = 'certificates/www'
const secret = 'the private key'

async function stored(store: CertStore, key: StoreKey = www): Promise<string | undefined> {
  const found = await store.get(key, context)
  return found === undefined ? undefined : Buffer.from(found.value).toString()
}

async function rawOf(store: CertStore): Promise<Uint8Array> {
  const found = await store.get(www, context)
  if (found === undefined) throw new Error('nothing is stored')
  return found.value
}

describe('encryptedStore', () => {
  it('gives the store underneath nothing to read, and never the same bytes twice', async () => {
    const inner = memoryStore()
    const store = encryptedStore(inner, randomBytes(32))
    const seen = new Set<string>()
    for (let count = 0; count < 50; count += 1) {
      await store.put(www, Buffer.from(secret), context)
      const raw = Buffer.from(await rawOf(inner))
      expect(raw.includes(secret)).toBe(false)
      seen.add(raw.subarray(12, 24).toString('hex'))
    }
    expect(seen.size, 'a nonce was used twice').toBe(50)
    expect(await stored(store)).toBe(secret)
    expect(store.name).toBe('encrypted/memory')
  })

  it('takes the key as bytes or as a KeyObject, and keeps a copy', async () => {
    const inner = memoryStore()
    const key = randomBytes(32)
    const sameKey = createSecretKey(Uint8Array.from(key))
    const store = encryptedStore(inner, key)
    key.fill(0)
    await store.put(www, Buffer.from(secret), context)
    expect(await stored(encryptedStore(inner, sameKey))).toBe(secret)
  })

  it('changes keys: the first one encrypts, all of them decrypt', async () => {
    const inner = memoryStore()
    const [oldKey, newKey] = [randomBytes(32), randomBytes(32)]
    await encryptedStore(inner, oldKey).put(www, Buffer.from(secret), context)
    const both = encryptedStore(inner, [newKey, oldKey])
    expect(await stored(both)).toBe(secret)
    await both.put(www, Buffer.from('written anew'), context)
    expect(await stored(encryptedStore(inner, newKey))).toBe('written anew')
  })

  it('tells a wrong key from damage: nothing is wrong with the value then', async () => {
    const inner = memoryStore()
    await encryptedStore(inner, randomBytes(32)).put(www, Buffer.from(secret), context)
    await expect(stored(encryptedStore(inner, randomBytes(32)))).rejects.toMatchObject({
      code: 'ERR_STORE_UNAVAILABLE',
      key: www,
      message: expect.stringMatching(
        /certificates\/www was encrypted with key [0-9a-f]{16}, which is not given/,
      ) as unknown,
    })
  })

  it('notices every change of a byte and every cut', async () => {
    const inner = memoryStore()
    const store = encryptedStore(inner, randomBytes(32))
    await store.put(www, Buffer.from(secret), context)
    const raw = await rawOf(inner)
    for (let index = 0; index < raw.length; index += 1) {
      const changed = Uint8Array.from(raw)
      changed[index] = (changed[index] ?? 0) ^ 1
      await inner.put(www, changed, context)
      // Bytes 0 to 4 say that it is encrypted at all, 4 to 12 with which key.
      const code = index < 12 ? 'ERR_STORE_UNAVAILABLE' : 'ERR_STORE_CORRUPT'
      await expect(stored(store), `byte ${String(index)}`).rejects.toMatchObject({ code })
      const cut = raw.subarray(0, index)
      const revision = await inner.put(www, cut, context)
      await expect(stored(store), `cut at ${String(index)}`).rejects.toMatchObject({
        code: 'ERR_STORE_CORRUPT',
        damaged: { value: Uint8Array.from(cut), revision },
      })
    }
  })

  it('does not decrypt a value that was moved to another name', async () => {
    const inner = memoryStore()
    const store = encryptedStore(inner, randomBytes(32))
    await store.put(www, Buffer.from(secret), context)
    await inner.put('certificates/api', await rawOf(inner), context)
    await expect(stored(store, 'certificates/api')).rejects.toMatchObject({ code: 'ERR_STORE_CORRUPT' })
  })

  it('says so when the store was used without encryption, and calls nothing damaged that has to be kept', async () => {
    const inner = memoryStore()
    await inner.put(www, Buffer.from('{"schema":1,"kind":"certificate","privateKeyPem":"x"}'), context)
    await expect(stored(encryptedStore(inner, randomBytes(32)))).rejects.toMatchObject({
      code: 'ERR_STORE_UNAVAILABLE',
      damaged: undefined,
      message: expect.stringContaining('was the store used without encryption?') as unknown,
    })
  })

  it('passes on what the store underneath found damaged', async () => {
    const damaged = { value: Buffer.from('torn'), revision: 'damaged-1' }
    const error = new StoreError({ code: 'ERR_STORE_CORRUPT', message: 'torn', store: 'inner', key: www, damaged })
    const inner: CertStore = { ...memoryStore(), get: () => Promise.reject(error) }
    await expect(stored(encryptedStore(inner, randomBytes(32)))).rejects.toMatchObject({ damaged })
  })

  it('decrypts many values as the store underneath reads them, and tells what is wrong of each', async () => {
    const inner = memoryStore()
    const [key, other] = [randomBytes(32), randomBytes(32)]
    const torn = new StoreError({ code: 'ERR_STORE_CORRUPT', message: 'torn', store: 'inner', key: 'orders/torn' })
    const wanted: StoreKey[] = ['certificates/a', 'certificates/b', 'certificates/moved', 'orders/torn', 'orders/none']
    await encryptedStore(inner, key).put('certificates/a', Buffer.from(secret), context)
    await encryptedStore(inner, other).put('certificates/b', Buffer.from(secret), context)
    const { value } = (await inner.get('certificates/a', context))!
    await inner.put('certificates/moved', value, context)
    const reading: CertStore = {
      ...inner,
      async *getMany(keys) {
        for (const each of keys) {
          yield [each === torn.key ? { key: each, error: torn } : { key: each, stored: await inner.get(each, context) }]
        }
      },
    }
    const found = new Map<StoreKey, FoundValue>()
    for await (const part of encryptedStore(reading, key).getMany!(wanted, context)) {
      for (const each of part) found.set(each.key, each)
    }
    expect([...found.keys()]).toEqual(wanted)
    expect(Buffer.from(found.get('certificates/a')!.stored!.value).toString()).toBe(secret)
    expect(found.get('certificates/b')?.error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE' })
    expect(found.get('certificates/moved')?.error).toMatchObject({
      code: 'ERR_STORE_CORRUPT',
      key: 'certificates/moved',
    })
    expect(found.get('orders/torn')?.error).toBe(torn)
    expect(found.get('orders/none')).toEqual({ key: 'orders/none', stored: undefined })
  })

  it('shows its key nowhere', async () => {
    const key = Buffer.from('0123456789abcdef0123456789abcdef')
    const store = encryptedStore(memoryStore(), key)
    const shown = [store, await stored(encryptedStore(memoryStore(), key)).catch((error: unknown) => error)]
    expect(inspect(shown, { depth: 20, showHidden: true })).not.toContain('0123456789abcdef')
    expect(() => encryptedStore(memoryStore(), key.subarray(1))).toThrow(/^(?!.*0123).*$/)
  })

  it('has the optional methods of the store underneath, and no others', async () => {
    const withoutLock: CertStore = { ...memoryStore() }
    delete withoutLock.lock
    const plain = encryptedStore(withoutLock, randomBytes(32))
    expect(Object.keys(plain).sort()).toEqual(['delete', 'get', 'list', 'name', 'put'])
    const calls: string[] = []
    const full = encryptedStore(
      {
        ...memoryStore(),
        watch: () => Promise.resolve(void calls.push('watch')),
        close: () => Promise.resolve(void calls.push('close')),
      },
      randomBytes(32),
    )
    expect(await full.lock?.('www', context, { ttlMs: 1000 })).toBeDefined()
    await full.watch?.('', () => undefined, context)
    await full.close?.()
    expect(calls).toEqual(['watch', 'close'])
  })

  it.each([
    ['no key', undefined],
    ['an empty list', []],
    ['a short key', randomBytes(16)],
    ['a short key in the list', [randomBytes(32), randomBytes(31)]],
    ['a password', 'correct horse battery staple'],
    ['a short KeyObject', createSecretKey(randomBytes(24))],
    ['an asymmetric key', generateKeyPairSync('ed25519').privateKey],
  ])('refuses %s', (_, key) => {
    expect(() => encryptedStore(memoryStore(), key as never)).toThrow(TypeError)
  })
})
