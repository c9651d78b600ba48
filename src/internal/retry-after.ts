/**
 * The `Retry-After` header.
 *
 * @module
 */

/** Nobody may ask for more: an instant further away than this is taken as this. */
export const longestRetryAfterMs: number = 7 * 86_400_000

const weekday = '(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)'
const month = '(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)'
const time = '\\d\\d:\\d\\d:\\d\\d'
const httpDate = new RegExp(`^${weekday}, \\d\\d ${month} \\d{4} ${time} GMT$`)
const rfc850Date = new RegExp(`^${weekday}[a-z]{3,6}, \\d\\d-${month}-\\d\\d ${time} GMT$`)
const asctimeDate = new RegExp(`^${weekday} ${month} [ \\d]\\d ${time} \\d{4}$`)

/**
 * Reads `Retry-After`: whole seconds, or an HTTP-date in one of its three forms.
 *
 * @param value - the header, if there was one
 * @param now - milliseconds since the epoch
 * @returns The instant before which nothing may be sent: never earlier than `now` (a date in the past means "now") and
 *   never later than seven days from it. `undefined` for anything that is not a `Retry-After`, negative numbers included.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3 | RFC 9110 section 10.2.3}
 */
export function parseRetryAfter(value: string | null | undefined, now: number): Date | undefined {
  const text = value?.trim() ?? ''
  if (text.length > 64) return undefined
  const delayMs = /^\d+$/.test(text) ? Number(text) * 1000 : parseHttpDate(text) - now
  if (Number.isNaN(delayMs)) return undefined
  return new Date(now + Math.min(Math.max(delayMs, 0), longestRetryAfterMs))
}

/** Strict, because `Date.parse` alone reads nearly everything as a date: `-1`, `1.5`, `May`. */
function parseHttpDate(text: string): number {
  if (httpDate.test(text) || rfc850Date.test(text)) return Date.parse(text)
  return asctimeDate.test(text) ? Date.parse(`${text} GMT`) : Number.NaN
}
