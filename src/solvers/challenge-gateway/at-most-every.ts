/**
 * For log lines that every request would cause.
 *
 * @module
 */
import type { Clock } from '../../core/clock.js'

/** Calls `run`, unless it has been called a moment ago. */
export function atMostEvery<Value>(ms: number, clock: Clock, run: (value: Value) => void): (value: Value) => void {
  let last = Number.NEGATIVE_INFINITY
  return (value) => {
    const now = clock.now()
    // A clock that was put back must not silence it for long.
    if (now >= last && now < last + ms) return
    last = now
    run(value)
  }
}
