/**
 * One run of something for everybody who wants it at the same moment.
 *
 * @module
 */
import { checkedSignal } from './checked-signal.js'
import { allowManyListeners } from './deadline.js'

/** Joins the run under way, or starts one. Each caller leaves by its own signal; the last to leave ends the run. */
export type SingleFlight<T> = (signal: AbortSignal, run: (signal: AbortSignal) => Promise<T>) => Promise<T>

interface Flight<T> {
  readonly result: Promise<T>
  readonly controller: AbortController
  /** Signals of those who have not left. */
  readonly callers: Set<AbortSignal>
}

/** Makes a {@link SingleFlight}. */
export function singleFlight<T>(): SingleFlight<T> {
  let current: Flight<T> | undefined
  return async (signal, run) => {
    signal.throwIfAborted()
    if (current === undefined) {
      const controller = new AbortController()
      const callers = new Set<AbortSignal>()
      // As long as one of them stays, the others need not be asked.
      checkedSignal(controller.signal, () => [...callers].every(({ aborted }) => aborted))
      const flight: Flight<T> = { result: run(controller.signal), controller, callers }
      current = flight
      const landed = (): void => {
        if (current === flight) current = undefined
      }
      flight.result.then(landed, landed)
    }
    return join(current, signal)
  }

  function join(flight: Flight<T>, signal: AbortSignal): Promise<T> {
    flight.callers.add(signal)
    return new Promise<T>((resolve, reject) => {
      const onAbort = (): void => {
        flight.callers.delete(signal)
        if (flight.callers.size === 0) {
          if (current === flight) current = undefined
          flight.controller.abort(signal.reason)
        }
        reject(signal.reason)
      }
      allowManyListeners(signal)
      signal.addEventListener('abort', onAbort, { once: true })
      flight.result
        .then(resolve, reject)
        .finally(() => {
          signal.removeEventListener('abort', onAbort)
        })
        .catch(() => undefined)
    })
  }
}
