/**
 * Randomness for jitter and window selection. Keys, serial numbers and tokens never use it: they come from `node:crypto`.
 *
 * @module
 */

/** Uniform in [0, 1). */
export type Random = () => number

/** `Math.random`. */
export const systemRandom: Random = () => Math.random()
