/**
 * Look-ups that many callers want at once: each is made once, and its result kept for a moment.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { singleFlight, type SingleFlight } from './single-flight.js'

/** The result for `key`: a recent one, that of a look-up under way, or that of `run`. Failures are not kept. */
export type SharedLookup<T> = (
  key: string,
  context: Pick<OperationContext, 'clock' | 'signal'>,
  run: (signal: AbortSignal) => Promise<T>,
) => Promise<T>

interface Entry<T> {
  readonly flight: SingleFlight<T>
  found: { readonly value: T; readonly at: number } | undefined
}

/** Makes a {@link SharedLookup} that keeps at most `mostEntries` results, each for `lifetimeMs`. */
export function sharedLookup<T>(limits: {
  readonly lifetimeMs: number
  readonly mostEntries: number
}): SharedLookup<T> {
  const entries = new Map<string, Entry<T>>()

  return (key, { clock, signal }, run) => {
    const entry = entries.get(key) ?? { flight: singleFlight<T>(), found: undefined }
    // The least recently used one goes first.
    entries.delete(key)
    entries.set(key, entry)
    const [oldest = key] = entries.keys()
    if (entries.size > limits.mostEntries) entries.delete(oldest)

    const age = clock.now() - (entry.found?.at ?? Number.NEGATIVE_INFINITY)
    // A negative age: the clock was set back.
    if (entry.found !== undefined && age >= 0 && age < limits.lifetimeMs) return Promise.resolve(entry.found.value)
    return entry.flight(signal, async (inner) => {
      const value = await run(inner)
      entry.found = { value, at: clock.now() }
      return value
    })
  }
}
