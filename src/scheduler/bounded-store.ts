/**
 * A store whose operations end: one that hangs must not hold up the scheduler.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { StoreError } from '../errors.js'
import { withDeadline } from '../internal/deadline.js'
import type { CertStore } from '../stores/cert-store.js'

/** Longer than any database's own limits. An operation that exceeds it is given up. */
const operationTimeoutMs = 60_000

/** The same store, each operation with a limit. A lock once taken has none, nor has a watch. */
export function boundedStore(store: CertStore): CertStore {
  async function bounded<T>(what: string, context: OperationContext, work: Promise<T>): Promise<T> {
    // Most operations are over within a turn of the event loop; a deadline for each would cost more than they do.
    const done = await Promise.race([work.then((value) => ({ value })), turn()])
    if (done !== undefined) return done.value
    const onTimeout = (): StoreError =>
      new StoreError({
        code: 'ERR_STORE_UNAVAILABLE',
        message: `store ${store.name}: no answer to ${what} within ${String(operationTimeoutMs)} ms`,
        store: store.name,
      })
    return withDeadline({ ...context, ms: operationTimeoutMs, onTimeout }, () => work)
  }
  const lock = store.lock?.bind(store)
  return {
    name: store.name,
    get: (key, context) => bounded(`get ${key}`, context, store.get(key, context)),
    put: (key, value, context, options) => bounded(`put ${key}`, context, store.put(key, value, context, options)),
    delete: (key, context, options) => bounded(`delete ${key}`, context, store.delete(key, context, options)),
    list: (prefix, context) => store.list(prefix, context),
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

function turn(): Promise<undefined> {
  return new Promise((resolve) => setImmediate(resolve, undefined))
}
