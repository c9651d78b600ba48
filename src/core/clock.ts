/**
 * Time as evercert sees it: an interface, so that a year of renewals runs in seconds under a fake clock.
 *
 * @module
 */

/** Options of {@link Clock.sleep}. */
export interface SleepOptions {
  /** Ends the wait early; the promise then rejects with `signal.reason`. */
  readonly signal?: AbortSignal | undefined
  /**
   * `true` when this wait must not keep the process alive (an idle scheduler). Waits inside a running
   * operation leave it `false`, so that a script does not exit in the middle of an order.
   *
   * @defaultValue false
   */
  readonly background?: boolean | undefined
  /**
   * `true` when this wait only limits something else that is under way. A fake clock that advances by itself runs
   * towards ordinary waits, and never towards a deadline.
   *
   * @defaultValue false
   */
  readonly deadline?: boolean | undefined
}

/** Where evercert takes the time from, and how it waits. */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number
  /**
   * Resolves once `ms` milliseconds have passed. MUST accept any non-negative number, and SHOULD resolve when
   * the wall clock has jumped beyond the end of the wait (suspend, NTP step). Rejects with a `TypeError` for `NaN`.
   */
  sleep(ms: number, options?: SleepOptions): Promise<void>
}

/** Longest single timer. Node fires timers above 2^31-1 ms at once, and a timer does not advance in suspend. */
const longestTimerMs = 60_000

/** The clock of the machine. */
export const systemClock: Clock = {
  now: () => Date.now(),
  sleep(ms, options = {}) {
    const { signal, background = false } = options
    return new Promise<void>((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason)
        return
      }
      // NaN compares as never over, and a timer of NaN fires at once: the wait would spin.
      if (Number.isNaN(ms)) {
        reject(new TypeError('"ms" of a sleep must be a number'))
        return
      }
      const wallEnd = Date.now() + ms
      const monotonicEnd = performance.now() + ms
      let timer: NodeJS.Timeout | undefined
      const onAbort = (): void => {
        clearTimeout(timer)
        reject(signal?.reason)
      }
      const tick = (): void => {
        // Whichever clock says the wait is over wins: the wall clock survives suspend, the monotonic one a step back.
        const left = Math.min(wallEnd - Date.now(), monotonicEnd - performance.now())
        if (left <= 0) {
          signal?.removeEventListener('abort', onAbort)
          resolve()
          return
        }
        timer = setTimeout(tick, Math.min(Math.ceil(left), longestTimerMs))
        if (background) timer.unref()
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      tick()
    })
  },
}
