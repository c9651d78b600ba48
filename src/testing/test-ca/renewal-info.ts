/**
 * When the test CA would like a certificate to be renewed. RFC 9773 section 4.2.
 *
 * @module
 */
import type { Validity } from './certificate-authority.js'

/** What the CA says about one certificate's renewal. */
export interface RenewalSuggestion {
  readonly start: Date
  readonly end: Date
  /** A page for the operator. */
  readonly explanationUrl?: string | undefined
  /** Seconds until the client should ask again. @defaultValue 21600 (6 hours) */
  readonly retryAfterSeconds?: number | undefined
}

const day = 86_400_000
const hour = 3_600_000

/** Six hours, as Let's Encrypt answers (there with jitter). */
export const renewalRetryAfterSeconds = 21_600

/**
 * The window of Let's Encrypt: 1 % of the life either side of two thirds of it (of half of it below ten days); already
 * past for a certificate that has been revoked.
 */
export function suggestRenewal(validity: Validity, revoked: boolean, now: number): RenewalSuggestion {
  if (revoked) return { start: new Date(now - hour), end: new Date(now - hour / 2) }
  const lifetime = validity.notAfter - validity.notBefore
  const middle = validity.notBefore + lifetime * (lifetime < 10 * day ? 1 / 2 : 2 / 3)
  return { start: new Date(middle - lifetime * 0.01), end: new Date(middle + lifetime * 0.01) }
}

/** The reply body. Whole seconds, as Let's Encrypt writes them. */
export function renewalInfoBody({ start, end, explanationUrl }: RenewalSuggestion): object {
  return {
    suggestedWindow: { start: timestamp(start), end: timestamp(end) },
    ...(explanationUrl === undefined ? {} : { explanationURL: explanationUrl }),
  }
}

/** RFC 3339 with whole seconds. */
export function timestamp(instant: Date): string {
  return instant.toISOString().replace(/\.\d+Z$/, 'Z')
}
