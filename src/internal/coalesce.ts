/**
 * Many callers, one call at a time.
 *
 * @module
 */
import { allowManyListeners } from './deadline.js'

/**
 * Shares calls of `run`: at most one is under way, and whoever asks gets the outcome of one that began after that. However
 * many ask, they cost two calls at most. Whose signal aborts waits no longer; the call goes on for the others.
 */
export function coalesce<Result>(run: () => Promise<Result>): (signal?: AbortSignal) => Promise<Result> {
  let running: Promise<unknown> | undefined
  let next: Promise<Result> | undefined
  const start = (): Promise<Result> => {
    next = undefined
    const call = run()
    const ended = call.then(
      () => undefined,
      () => undefined,
    )
    running = ended
    void ended.then(() => {
      if (running === ended) running = undefined
    })
    return call
  }
  return (signal) => {
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error)
    const call = running === undefined ? start() : (next ??= running.then(start))
    return signal === undefined ? call : untilAborted(call, signal)
  }
}

function untilAborted<Result>(call: Promise<Result>, signal: AbortSignal): Promise<Result> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      reject(signal.reason)
    }
    allowManyListeners(signal)
    signal.addEventListener('abort', onAbort, { once: true })
    call.then(resolve, reject).finally(() => {
      signal.removeEventListener('abort', onAbort)
    })
  })
}
