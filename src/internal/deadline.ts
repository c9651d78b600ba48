/**
 * Deadlines by the injected clock.
 *
 * @module
 */
import { setMaxListeners } from 'node:events'
import type { Clock } from '../core/clock.js'
import { followedSignal } from './checked-signal.js'

/** Why a deadline is waited for no longer. Nobody gets to see it. */
const inTime = 'ended in time'

/** Parts of {@link withDeadline}. */
export interface Deadline {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Milliseconds. */
  readonly ms: number
  /**
   * After an abort or when time has run out: how long to wait for `run` to come to its end (take down challenges, put a
   * file back) before returning all the same. Milliseconds.
   *
   * @defaultValue 0
   */
  readonly graceMs?: number | undefined
  /** Made only when time runs out. */
  readonly onTimeout: () => Error
}

/**
 * Runs something with a signal that aborts when the caller's does, or when time runs out. Returns then even when `run`
 * ignores its signal: a plug-in that hangs must not hang its caller.
 */
export async function withDeadline<T>(deadline: Deadline, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { clock, signal, ms, onTimeout, graceMs = 0 } = deadline
  signal.throwIfAborted()
  const inner = new AbortController()
  const timer = new AbortController()
  const forward = (): void => {
    inner.abort(signal.reason)
  }
  allowManyListeners(signal)
  allowManyListeners(inner.signal)
  followedSignal(inner.signal, signal)
  signal.addEventListener('abort', forward, { once: true })
  const aborted = new Promise<never>((_, reject) => {
    inner.signal.addEventListener(
      'abort',
      () => {
        reject(inner.signal.reason)
      },
      { once: true },
    )
  })
  void clock.sleep(ms, { signal: timer.signal, deadline: true }).then(
    () => {
      inner.abort(onTimeout())
    },
    () => undefined,
  )
  // A plug-in without types may throw at once, or return something that is no promise.
  const work = (async () => run(inner.signal))()
  try {
    // The race handles both, also the one that loses and fails later.
    return await Promise.race([work, aborted])
  } catch (error) {
    if (inner.signal.aborted && graceMs > 0) {
      const over = new AbortController()
      const grace = clock.sleep(graceMs, { signal: over.signal, deadline: true }).catch(() => undefined)
      await Promise.race([work.catch(() => undefined), grace])
      over.abort()
    }
    throw error
  } finally {
    // With a reason that is there: making an exception, with its stack, costs more than all else here.
    timer.abort(inTime)
    signal.removeEventListener('abort', forward)
  }
}

/**
 * Many waits share one signal: Node would warn of a leak, in the log of the host, from the eleventh on. Not 0 for "no limit":
 * Node 20's `getMaxListeners`, which undici calls, throws for a signal whose limit is 0.
 */
export function allowManyListeners(signal: AbortSignal): void {
  try {
    setMaxListeners(100_000, signal)
  } catch {
    // A signal of another make (jsdom, a polyfill) is not known to Node, which then does not warn either.
  }
}
