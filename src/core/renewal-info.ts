/**
 * ARI arithmetic: certificate ids, windows, and the instant drawn inside one. Pure. RFC 9773.
 *
 * @module
 */
import type { Random } from './random.js'
import type { ParsedCertificate } from './x509.js'

/** Names a certificate towards its CA. RFC 9773 section 4.1. */
export interface CertificateId {
  /** `base64url(AKI keyIdentifier) "." base64url(serial number octets)` */
  readonly value: string
}

/** When a CA would like a certificate to be renewed. RFC 9773 section 4.2. */
export interface RenewalInfo {
  readonly windowStart: Date
  readonly windowEnd: Date
  /** When to ask again. */
  readonly retryAt: Date
  /** A page for the operator. Comes from the CA: show it, do not fetch it. */
  readonly explanationUrl?: URL | undefined
}

/** A stretch of time, epoch milliseconds, `start` < `end`. */
export interface RenewalWindow {
  readonly start: number
  readonly end: number
}

/** The id of a certificate, or `undefined` when it has no authority key identifier. */
export function certificateIdOf(certificate: ParsedCertificate): CertificateId | undefined {
  const { authorityKeyIdentifier, serialNumber } = certificate
  if (authorityKeyIdentifier === undefined) return undefined
  return { value: `${authorityKeyIdentifier.toString('base64url')}.${serialNumber.toString('base64url')}` }
}

/** Uniform within the window. To be drawn once and persisted: drawn anew at each look, it would never be due. */
export function drawInstant(window: RenewalWindow, random: Random): number {
  return Math.floor(window.start + random() * (window.end - window.start))
}

const day = 86_400_000

/**
 * The window when the CA names none: it ends where `remainingRatio` of the life is left, and is 2 % of the life wide, so
 * that certificates issued together are not renewed in one instant.
 *
 * @param remainingRatio - 1/3 by default, 1/2 for lives below ten days
 */
export function lifetimeWindow(
  validity: { readonly notBefore: number; readonly notAfter: number },
  remainingRatio?: number,
): RenewalWindow {
  const lifetime = validity.notAfter - validity.notBefore
  const ratio = remainingRatio ?? (lifetime < 10 * day ? 1 / 2 : 1 / 3)
  const end = validity.notAfter - lifetime * ratio
  return { start: end - lifetime * 0.02, end }
}

/** When a certificate must be renewed whatever the CA suggests: a tenth of its life is left. */
export function emergencyInstant(validity: { readonly notBefore: number; readonly notAfter: number }): number {
  return validity.notAfter - (validity.notAfter - validity.notBefore) / 10
}

/** A CA's `Retry-After` for renewal information, within a minute and a day. RFC 9773 section 4.3.3. */
export function clampRenewalInfoPoll(retryAfterMs: number): number {
  return Math.min(Math.max(retryAfterMs, 60_000), day)
}
