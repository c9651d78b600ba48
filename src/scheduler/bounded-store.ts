/**
 * A store whose operations end: one that hangs must not hold up the scheduler.
 *
 * @module
 */
import type { Clock } from '../core/clock.js'
import type { OperationContext } from '../core/context.js'
import { StoreError } from '../errors.js'
import { sharedDeadline } from '../internal/shared-deadline.js'
import type { CertStore } from '../stores/cert-store.js'

/** Longer than any database's own limits. An operation that exceeds it is given up. */
const operationTimeoutMs = 60_000

/** The same store, each operation with a limit. A lock once taken has none, nor has a watch. */
export function boundedStore(store: CertStore, clock: Clock): CertStore {
  const inTime = sharedDeadline({ clock, ms: operationTimeoutMs })
  function bounded<T>(what: string, { signal }: OperationContext, work: Promise<T>): Promise<T> {
    return inTime(work, signal, () => {
      const message = `store ${store.name}: no answer to ${what} within ${String(operationTimeoutMs)} ms`
      return new StoreError({ code: 'ERR_STORE_UNAVAILABLE', message, store: store.name })
    })
  }
  const lock = store.lock?.bind(store)
  const getMany = store.getMany?.bind(store)
  return {
    name: store.name,
    get: (key, context) => bounded(`get ${key}`, context, store.get(key, context)),
    put: (key, value, context, options) => bounded(`put ${key}`, context, store.put(key, value, context, options)),
    delete: (key, context, options) => bounded(`delete ${key}`, context, store.delete(key, context, options)),
    list: (prefix, context) => store.list(prefix, context),
    ...(getMany !== undefined && {
      getMany: (keys, context) =>
        boundedParts({
          parts: getMany(keys, context),
          store: store.name,
          signal: context.signal,
          bounded: (part) => bounded('getMany', context, part),
        }),
    }),
    ...(store.watch !== undefined && { watch: store.watch.bind(store) }),
    ...(lock === undefined
      ? {}
      : {
          async lock(name, context, options) {
            const taking = lock(name, context, options)
            return bounded(`lock ${name}`, context, taking).catch((error: unknown) => {
              // A lease that comes too late is given back: nobody would use it, and nobody else could.
              void taking.then((late) => late?.release()).catch(() => undefined)
              throw error
            })
          },
        }),
  }
}

/** Parts of {@link boundedParts}. */
interface BoundedParts<Part> {
  readonly parts: unknown
  readonly store: string
  readonly signal: AbortSignal
  readonly bounded: (work: Promise<IteratorResult<Part>>) => Promise<IteratorResult<Part>>
}

/** The same parts, each within a limit. */
async function* boundedParts<Part>({ parts, store, signal, bounded }: BoundedParts<Part>): AsyncGenerator<Part> {
  if (!isAsyncIterable<Part>(parts)) {
    // A promise of it may be rejected, and nobody would hear of that.
    Promise.resolve(parts).catch(() => undefined)
    throw new TypeError(`store ${store}: getMany must return an async iterable; make it an async generator`)
  }
  const iterator = parts[Symbol.asyncIterator]()
  let ended = false
  try {
    for (let count = 1; ; count += 1) {
      const next = await bounded(iterator.next())
      if (next.done === true) {
        ended = true
        return
      }
      yield next.value
      // Whoever never waits would not let anybody else have a turn, nor abort.
      if (count % 16 === 0) await new Promise((resolve) => setImmediate(resolve))
      signal.throwIfAborted()
    }
  } finally {
    // One that does not answer is not waited for, and what it says when it is left does not matter.
    const leave = async (): Promise<unknown> => iterator.return?.()
    if (!ended) leave().catch(() => undefined)
  }
}

function isAsyncIterable<Part>(value: unknown): value is AsyncIterable<Part> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}
