/**
 * A store whose operations end: one that hangs must not hold up the scheduler.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { StoreError } from '../errors.js'
import { withDeadline } from '../internal/deadline.js'
import type { CertStore } from '../stores/cert-store.js'

/** Longer than any database's own limits. */
const operationTimeoutMs = 60_000

/** The same store, each operation with a limit. A lock once taken has none. */
export function boundedStore(store: CertStore): CertStore {
  function bounded<T>(
    what: string,
    context: OperationContext,
    run: (context: OperationContext) => Promise<T>,
  ): Promise<T> {
    const onTimeout = (): StoreError =>
      new StoreError({
        code: 'ERR_STORE_UNAVAILABLE',
        message: `store ${store.name}: no answer to ${what} within ${String(operationTimeoutMs)} ms`,
        store: store.name,
      })
    return withDeadline({ ...context, ms: operationTimeoutMs, onTimeout }, (signal) => run({ ...context, signal }))
  }
  const lock = store.lock?.bind(store)
  return {
    name: store.name,
    get: (key, context) => bounded(`get ${key}`, context, (inner) => store.get(key, inner)),
    put: (key, value, context, options) =>
      bounded(`put ${key}`, context, (inner) => store.put(key, value, inner, options)),
    delete: (key, context, options) => bounded(`delete ${key}`, context, (inner) => store.delete(key, inner, options)),
    list: (prefix, context) => store.list(prefix, context),
    ...(lock === undefined
      ? {}
      : {
          lock: (name, context, options) => bounded(`lock ${name}`, context, () => lock(name, context, options)),
        }),
  }
}
