/**
 * Certificates in the memory of this process, for tests and for setups that may lose them.
 *
 * Published as `evercert/stores/memory`.
 *
 * @module
 */
import type { Clock } from '../core/clock.js'
import { assertDuration, assertOptions } from '../internal/options.js'
import type { CertStore, Revision, StoredValue, StoreKey } from './cert-store.js'
import { compareRevision } from './compare-revision.js'
import { takeLease, type LeaseObservations } from './lease.js'

/** Options of {@link memoryStore}. */
export interface MemoryStoreOptions {
  /** Times the leases of {@link CertStore.lock}. @defaultValue the clock of each operation's context */
  readonly clock?: Clock | undefined
}

const name = 'memory'

/**
 * A store that forgets everything when the process ends: then each certificate is ordered again, so use it with a CA that
 * does not mind. Only those who have the same object share its content.
 *
 * @example
 *
 * ```ts
 * import { memoryStore } from 'evercert/stores/memory'
 *
 * const store = memoryStore()
 * ```
 *
 * @returns A store named `memory`.
 * @throws `TypeError` if an option is unknown.
 */
export function memoryStore(options: MemoryStoreOptions = {}): CertStore {
  assertOptions(options, ['clock'], 'memoryStore')
  const { clock } = options
  const values = new Map<string, StoredValue>()
  const leases = new Map<string, StoredValue>()
  const observations: LeaseObservations = new Map()
  let lastRevision = 0

  function write(map: Map<string, StoredValue>, key: string, value: Uint8Array, expected?: Revision | null): Revision {
    compareRevision({ store: name, key }, map.get(key)?.revision ?? null, expected)
    lastRevision += 1
    const revision = String(lastRevision) as Revision
    map.set(key, { value: Uint8Array.from(value), revision })
    return revision
  }

  return {
    name,
    get: (key, { signal }) =>
      attempt(signal, () => {
        const found = values.get(key)
        return found === undefined ? undefined : { value: Uint8Array.from(found.value), revision: found.revision }
      }),
    put: (key, value, { signal }, { ifRevision } = {}) => attempt(signal, () => write(values, key, value, ifRevision)),
    delete: (key, { signal }, { ifRevision } = {}) =>
      attempt(signal, () => {
        const found = values.get(key)
        if (found === undefined) return
        compareRevision({ store: name, key }, found.revision, ifRevision)
        values.delete(key)
      }),
    async *list(prefix, { signal }) {
      const keys = await attempt(signal, () => [...values.keys()].filter((key) => key.startsWith(prefix)))
      for (const key of keys) {
        signal.throwIfAborted()
        yield key as StoreKey
      }
    },
    async lock(lock, context, { ttlMs }) {
      assertDuration(ttlMs, 'ttlMs')
      context.signal.throwIfAborted()
      return takeLease({
        store: name,
        name: lock,
        cell: {
          read: () => Promise.resolve(leases.get(lock)),
          write: (value, ifRevision) =>
            new Promise((resolve) => {
              resolve(write(leases, lock, value, ifRevision))
            }),
        },
        ttlMs,
        clock: clock ?? context.clock,
        logger: context.logger,
        observations,
      })
    },
  }
}

/** A promise for what `run` returns or throws. */
function attempt<Result>(signal: AbortSignal, run: () => Result): Promise<Result> {
  return new Promise((resolve) => {
    signal.throwIfAborted()
    resolve(run())
  })
}
