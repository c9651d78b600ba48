/**
 * LISTEN: one connection of its own, made anew whenever it breaks.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import type { StoreKey } from './cert-store.js'
import type { PostgresListenerClient, PostgresListenerPool } from './postgres-client.js'

/** Parts of {@link watchPostgres}. */
export interface PostgresWatch {
  readonly listener: PostgresListenerPool
  /** The `LISTEN`. */
  readonly statement: string
  readonly prefix: string
  readonly onChange: (key: StoreKey) => void
  readonly list: (prefix: string, context: OperationContext) => AsyncIterable<StoreKey>
  readonly context: OperationContext
  /** Name of the store. */
  readonly store: string
  /** Runs what may fail at the server: with a limit, and in the words of the store. */
  readonly attempt: <Result>(run: (signal: AbortSignal) => Promise<Result>) => Promise<Result>
}

/** Pause before a connection that broke is made anew. */
const pauseMs = 5_000

/** Watches until the signal aborts; rejects with its reason, or when the very first connection cannot be made. */
export async function watchPostgres(watch: PostgresWatch): Promise<void> {
  const { context, prefix, onChange, list, store } = watch
  const { signal, clock, logger } = context
  signal.throwIfAborted()
  let listening = await watch.attempt((limit) => listen(watch, limit))
  for (;;) {
    await listening.broken
    signal.throwIfAborted()
    logger.warn('the connection that listens for changes broke', { store })
    for (;;) {
      await clock.sleep(pauseMs, { signal, background: true })
      try {
        listening = await watch.attempt((limit) => listen(watch, limit))
        break
      } catch (error) {
        signal.throwIfAborted()
        logger.warn('no connection to listen for changes', { store, error })
      }
    }
    // What was announced meanwhile nobody heard.
    try {
      for await (const key of list(prefix, context)) onChange(key)
    } catch (error) {
      signal.throwIfAborted()
      logger.warn('changes may have been missed', { store, error })
    }
  }
}

/** Resolves once the server tells; `broken` resolves when it does not any more. */
async function listen(watch: PostgresWatch, limit: AbortSignal): Promise<{ readonly broken: Promise<void> }> {
  const { listener, statement, prefix, onChange, context } = watch
  const { signal } = context
  const client: PostgresListenerClient = await listener.connect()
  let end = (): void => undefined
  const broken = new Promise<void>((resolve) => (end = resolve))
  signal.addEventListener('abort', end, { once: true })
  client.on('error', end)
  client.on('end', end)
  client.on('notification', ({ payload }) => {
    if (!signal.aborted && payload?.startsWith(prefix) === true) onChange(payload as StoreKey)
  })
  void broken.then(() => {
    signal.removeEventListener('abort', end)
    // Not back into the pool: it would go on listening there.
    client.release(true)
  })
  try {
    // A connection that comes too late is given back.
    limit.throwIfAborted()
    await client.query(statement)
    limit.throwIfAborted()
  } catch (error) {
    end()
    throw error
  }
  return { broken }
}
