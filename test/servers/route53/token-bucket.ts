/**
 * A rate limit as AWS describes its own: a bucket that holds so many tokens and is refilled evenly.
 */
export interface RateLimit {
  readonly perSecond: number
  /** What the bucket holds. @defaultValue `perSecond` */
  readonly burst?: number | undefined
}

export interface TokenBucket {
  /** Takes tokens if there are enough of them. */
  take(now: number, count?: number): boolean
}

export function tokenBucket({ perSecond, burst = perSecond }: RateLimit): TokenBucket {
  let tokens = burst
  let filledAt = -Infinity
  return {
    take(now, count = 1) {
      tokens = Math.min(burst, tokens + (Math.max(0, now - filledAt) / 1_000) * perSecond)
      filledAt = now
      if (tokens < count) return false
      tokens -= count
      return true
    },
  }
}
