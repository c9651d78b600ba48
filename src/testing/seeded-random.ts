/**
 * Randomness that can be replayed.
 *
 * @module
 */
import type { Random } from '../core/random.js'

/** A {@link Random} that yields the same numbers for the same seed (mulberry32). Print the seed when a test fails. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }
}
