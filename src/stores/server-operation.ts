/**
 * Operations of stores that are servers: each one ends, and what goes wrong in it is told in the words of the store.
 *
 * @module
 */
import type { Clock } from '../core/clock.js'
import type { OperationContext } from '../core/context.js'
import { CertError, StoreError } from '../errors.js'
import { errorCode } from '../internal/atomic-file.js'
import { withDeadline } from '../internal/deadline.js'

/** Parts of {@link serverOperations}. */
export interface ServerOperationsOptions {
  /** Name of the store. */
  readonly store: string
  /** Limit of one operation, milliseconds. */
  readonly timeoutMs: number
  /** @defaultValue the clock of each operation's context */
  readonly clock: Clock | undefined
  /** Continues "no answer within ... ms;": what to look at. */
  readonly silence: string
  /** What went wrong and what to do, for an error of the client. */
  readonly explain: (error: Error) => string
}

/** Makes the error of an operation that failed. `reason` continues "cannot write certificates/www:". */
export type TellUnavailable = (reason: string, cause?: unknown, retryAt?: Date) => StoreError

/** Runs one operation; `action` and `key` are for its messages. */
export type ServerOperation = <Result>(
  action: string,
  key: string,
  context: OperationContext,
  run: (signal: AbortSignal, unavailable: TellUnavailable) => Promise<Result>,
) => Promise<Result>

/** Makes the one function through which a store talks to its server. */
export function serverOperations(options: ServerOperationsOptions): ServerOperation {
  const { store, timeoutMs, clock, silence, explain } = options
  return async (action, key, context, run) => {
    const { signal } = context
    const unavailable: TellUnavailable = (reason, cause, retryAt) =>
      new StoreError({
        code: 'ERR_STORE_UNAVAILABLE',
        message: `${store}: cannot ${action} ${key}: ${reason}`,
        ...{ store, key, cause, retryAt },
      })
    const onTimeout = (): Error => unavailable(`no answer within ${String(timeoutMs)} ms; ${silence}`)
    try {
      return await withDeadline({ clock: clock ?? context.clock, signal, ms: timeoutMs, onTimeout }, (limit) =>
        run(limit, unavailable),
      )
    } catch (error) {
      if (signal.aborted && error === signal.reason) throw error
      if (CertError.isInstance(error)) throw error
      const failure = bareError(error)
      throw unavailable(explain(failure), failure)
    }
  }
}

/**
 * Clients attach the command, and with it the value, to their errors, and servers quote rows: nothing but the message and
 * the code is passed on.
 */
function bareError(error: unknown): Error & { readonly code?: string | undefined } {
  const bare = new Error(
    error instanceof Error ? shorten(messageOf(error)) : 'the client threw something that is no error',
  )
  return Object.assign(bare, { code: errorCode(error) })
}

/** Node's error for a name with several addresses has no message of its own, nor have those of node-redis about time. */
function messageOf(error: Error): string {
  if (error.message !== '') return error.message
  if (!(error instanceof AggregateError)) return error.constructor.name
  return error.errors.map((each) => (each instanceof Error ? each.message : '')).join(', ')
}

/** Redis repeats a command it does not know. */
function shorten(message: string): string {
  const own = message.replace(/, with args beginning with:.*/s, '')
  return own.length > 300 ? `${own.slice(0, 300)}...` : own
}
