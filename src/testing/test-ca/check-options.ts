/**
 * Misuse of the test CA is a `TypeError` that names the option, so that a misspelt option does not pass in silence.
 *
 * @module
 */

/** Refuses an option that `what` does not have. */
export function checkOptions(what: string, options: object, known: readonly string[]): void {
  const unknown = Object.keys(options).find((name) => !known.includes(name))
  if (unknown !== undefined) throw new TypeError(`"${unknown}" is not an option of ${what}()`)
}

/** A finite number of at least `minimum`. */
export function positive(name: string, value: number, minimum: number): number {
  if (Number.isFinite(value) && value >= minimum) return value
  throw new TypeError(`"${name}" option must be a number of at least ${String(minimum)}`)
}

/** A finite number of at least 0. */
export function nonNegative(name: string, value: number): number {
  return positive(name, value, 0)
}

/** An integer from 0 to `maximum`. */
export function wholeNumber(name: string, value: number, maximum: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= maximum) return value
  throw new TypeError(`"${name}" option must be an integer from 0 to ${String(maximum)}`)
}
