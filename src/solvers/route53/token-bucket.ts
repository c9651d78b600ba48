/**
 * A rate limit by the injected clock.
 *
 * @module
 */
import type { Clock } from '../../core/clock.js'

/** Who takes waits by this clock, and leaves by this signal. */
export interface TakeContext {
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** Tokens that come back at a fixed rate. */
export interface TokenBucket {
  /** Waits until `count` tokens are there, first come, first served. More than the bucket holds is paid off afterwards. */
  take(count: number, context: TakeContext): Promise<void>
  /** The other side says that there are none left. */
  drain(clock: Clock): void
}

/** Makes a full {@link TokenBucket}. */
export function tokenBucket(limits: { readonly capacity: number; readonly perSecond: number }): TokenBucket {
  const { capacity, perSecond } = limits
  let tokens = capacity
  let filledAt: number | undefined

  const fill = (now: number): void => {
    const elapsedMs = Math.max(0, now - (filledAt ?? now))
    tokens = Math.min(capacity, tokens + (elapsedMs / 1000) * perSecond)
    filledAt = now
  }

  return {
    async take(count, { clock, signal }) {
      signal.throwIfAborted()
      fill(clock.now())
      // Taken at once, so that whoever comes later waits behind.
      tokens -= count
      const lack = Math.min(count, capacity) - (tokens + count)
      if (lack <= 0) return
      try {
        await clock.sleep(Math.ceil((lack / perSecond) * 1000), { signal })
      } catch (error) {
        tokens += count
        throw error
      }
    },
    drain(clock) {
      fill(clock.now())
      tokens = Math.min(tokens, 0)
    },
  }
}
