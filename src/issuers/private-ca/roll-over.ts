/**
 * When a CA gets its next root, and which root signs: pure arithmetic. All instants are epoch milliseconds.
 *
 * A new root is in the trust bundle for a while before it signs anything, and an old one stays in it to its end:
 *
 * ```text
 * old   ──signs──────────────────────────────┤ trusted only ├ gone
 * new                        ┤ trusted only ├──signs─────────────────
 *                            made           signsFrom
 * ```
 *
 * @module
 */

/** What matters here of a root. */
export interface Generation {
  readonly notBefore: number
  readonly notAfter: number
  /** From when on it signs. */
  readonly signsFrom: number
}

/** Durations of the roll-over. */
export interface RollOverTimes {
  /** Longest life of a leaf. */
  readonly lifetimeMs: number
  /** How long a new root is trusted before it signs. */
  readonly overlapMs: number
}

/**
 * The root that the next one will follow. Roots of a clock that was far ahead for a moment follow on none: they are passed
 * over until their time comes.
 */
export function newestGeneration<One extends Generation>(generations: readonly One[], now: number): One | undefined {
  let newest: One | undefined
  for (const one of generations) {
    if (newest === undefined || one.notBefore <= now || one.signsFrom <= newest.notAfter) newest = one
  }
  return newest
}

/**
 * When the next root is made. One life of a leaf before it has to be: whoever asks for certificates asks that often, so that
 * the old root signs leaves of full life to the end.
 */
export function nextRootAt(newest: Pick<Generation, 'notAfter'>, { lifetimeMs, overlapMs }: RollOverTimes): number {
  return newest.notAfter - overlapMs - 2 * lifetimeMs
}

/** From when on a root that is made now signs. Cut short where the old root would end before: a third of its rest is left. */
export function signsFrom(now: number, previous: Pick<Generation, 'notAfter'>, { overlapMs }: RollOverTimes): number {
  const rest = previous.notAfter - now
  return rest <= 0 ? now : Math.floor(Math.min(now + overlapMs, now + (rest * 2) / 3))
}

/** The root that signs now: the newest whose time has come; `undefined` when none is valid. */
export function signingGeneration<One extends Omit<Generation, 'notBefore'>>(
  generations: readonly One[],
  now: number,
): One | undefined {
  const valid = generations.filter(({ notAfter }) => notAfter > now)
  return valid.findLast((generation) => generation.signsFrom <= now) ?? valid.at(0)
}

/** The roots that are trusted now, newest first. */
export function trustedGenerations<One extends Pick<Generation, 'notAfter'>>(
  generations: readonly One[],
  now: number,
): readonly One[] {
  return generations.filter(({ notAfter }) => notAfter > now).reverse()
}
