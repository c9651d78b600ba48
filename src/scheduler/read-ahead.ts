/**
 * Reads what will be asked about many certificates before it is asked, by as few requests as the store knows to.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { CertError } from '../errors.js'
import { boundedMap } from '../internal/bounded-map.js'
import type { CertStore, FoundValue, StoreKey } from '../stores/cert-store.js'

/** More would only queue up in a pool, or in a file system. */
const readsAtOnce = 64

/** An item whose keys are being read. */
interface Awaited<Item> {
  readonly item: Item
  readonly keys: readonly StoreKey[]
  left: number
}

/** Items that can be looked at without waiting. */
export interface ReadAhead<Item> {
  /** Each once everything under its keys has been read, in the order of the answers. */
  readonly items: AsyncIterable<Item>
  /** Answers `get` from what was read, for the item that was handed over last. */
  readonly store: CertStore
}

/** Begins when `items` is iterated. No two items have a key in common, and each has one. */
export function readAhead<Item>(
  items: readonly Item[],
  keysOf: (item: Item) => readonly StoreKey[],
  store: CertStore,
  context: OperationContext,
): ReadAhead<Item> {
  const found = new Map<StoreKey, FoundValue>()
  const ahead: CertStore = {
    ...store,
    async get(key, own) {
      // What nobody thought of is asked for by itself.
      const { stored, error } = found.get(key) ?? { stored: await store.get(key, own) }
      if (error !== undefined) throw error
      return stored
    },
  }
  async function* handOver(): AsyncGenerator<Item> {
    const awaited = new Map<StoreKey, Awaited<Item>>()
    for (const item of items) {
      const keys = keysOf(item)
      const one = { item, keys, left: keys.length }
      for (const key of keys) awaited.set(key, one)
    }
    if (store.getMany !== undefined) yield* taken(awaited, found, store.getMany([...awaited.keys()], context))
    // All of it, or what the store left out.
    yield* taken(awaited, found, readEach([...awaited.keys()], store, context))
  }
  return { items: handOver(), store: ahead }
}

/** Each item whose last value comes, until no value is awaited. */
async function* taken<Item>(
  awaited: Map<StoreKey, Awaited<Item>>,
  found: Map<StoreKey, FoundValue>,
  parts: AsyncIterable<readonly FoundValue[]>,
): AsyncGenerator<Item> {
  if (awaited.size === 0) return
  for await (const part of parts) {
    for (const value of part) {
      const one = awaited.get(value.key)
      // Told twice, or never asked for.
      if (one === undefined) continue
      awaited.delete(value.key)
      found.set(value.key, value)
      one.left -= 1
      if (one.left > 0) continue
      yield one.item
      for (const key of one.keys) found.delete(key)
    }
    // A store that has told everything need not be asked for more.
    if (awaited.size === 0) return
  }
}

async function* readEach(
  keys: readonly StoreKey[],
  store: CertStore,
  context: OperationContext,
): AsyncGenerator<readonly FoundValue[]> {
  for (let first = 0; first < keys.length; first += readsAtOnce) {
    yield await boundedMap(keys.slice(first, first + readsAtOnce), readsAtOnce, context.signal, async (key) => {
      try {
        return { key, stored: await store.get(key, context) }
      } catch (error) {
        if (CertError.isInstance(error) && error.code === 'ERR_STORE_CORRUPT') return { key, error }
        throw error
      }
    })
  }
}
