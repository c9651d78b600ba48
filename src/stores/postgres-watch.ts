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
/** How often a connection on which nothing happens is asked whether it is still there. */
const askAgainMs = 60_000

interface Listening {
  readonly client: PostgresListenerClient
  /** Resolves once nothing is heard any more. */
  readonly broken: Promise<void>
  readonly end: () => void
}

/** Watches until the signal aborts; rejects with its reason, or when the very first connection cannot be made. */
export async function watchPostgres(watch: PostgresWatch): Promise<void> {
  const { context, prefix, onChange, list, store } = watch
  const { signal, clock, logger } = context
  signal.throwIfAborted()
  let listening = await watch.attempt((limit) => listen(watch, limit))
  for (;;) {
    // What was announced before nobody heard.
    try {
      for await (const key of list(prefix, context)) onChange(key)
    } catch (error) {
      signal.throwIfAborted()
      logger.warn('changes may have been missed', { store, error })
    }
    await untilBroken(listening, watch)
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
  }
}

/** A connection whose other end vanished without a word looks like one on which nothing happens. */
async function untilBroken({ client, broken, end }: Listening, watch: PostgresWatch): Promise<void> {
  const over = new AbortController()
  void broken.then(() => {
    over.abort('over')
  })
  while (!over.signal.aborted) {
    try {
      await watch.context.clock.sleep(askAgainMs, { signal: over.signal, background: true })
      await watch.attempt(() => client.query('SELECT 1'))
    } catch {
      end()
    }
  }
}

/** Resolves once the server tells. */
async function listen(watch: PostgresWatch, limit: AbortSignal): Promise<Listening> {
  const { listener, statement, prefix, onChange, context } = watch
  const { signal } = context
  const client: PostgresListenerClient = await listener.connect()
  let end = (): void => undefined
  const broken = new Promise<void>((resolve) => (end = resolve))
  signal.addEventListener('abort', end, { once: true })
  client.unref?.()
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
  // A statement that is not answered must not keep the connection; once it is, the limit is over.
  limit.addEventListener('abort', end, { once: true })
  try {
    // A connection that comes too late is given back.
    limit.throwIfAborted()
    await client.query(statement)
    limit.throwIfAborted()
  } catch (error) {
    end()
    throw error
  }
  return { client, broken, end }
}
