/**
 * When to raise the alarm about a certificate that nears its end: it should have been renewed long before.
 *
 * @module
 */

/** How urgent it is; each level is announced once per certificate. */
export type ExpiryLevel = 'quarter-left' | 'tenth-left' | 'three-days-left' | 'one-day-left' | 'expired'

const hour = 3_600_000

/** The level reached, and the instant of the next one (`Infinity` after the last). Epoch milliseconds. Pure. */
export function expiryAlarm(
  validity: { readonly notBefore: number; readonly notAfter: number },
  now: number,
): { readonly level: ExpiryLevel | undefined; readonly nextAt: number } {
  const { notBefore, notAfter } = validity
  const quarter = notAfter - (notAfter - notBefore) / 4
  const levels: readonly (readonly [ExpiryLevel, number])[] = [
    ['quarter-left', quarter],
    ['tenth-left', notAfter - (notAfter - notBefore) / 10],
    // A short-lived certificate has less than three days left from early on: that alone is no alarm.
    ['three-days-left', Math.max(quarter, notAfter - 72 * hour)],
    ['one-day-left', Math.max(quarter, notAfter - 24 * hour)],
    ['expired', notAfter],
  ]
  const ordered = [...levels].sort(([, one], [, other]) => one - other)
  const reached = ordered.filter(([, at]) => at <= now).at(-1)
  const next = ordered.find(([, at]) => at > now)
  return { level: reached?.[0], nextAt: next?.[1] ?? Infinity }
}
