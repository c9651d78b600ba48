/**
 * Whether a certificate is to be renewed now, and why: a pure function of what is stored, what is wanted, and the time.
 *
 * @module
 */
import { sameIdentifiers, type Identifier } from '../core/identifier.js'
import type { KeyAlgorithm } from '../core/private-key.js'
import { emergencyInstant } from '../core/renewal-info.js'

/** Why a certificate is renewed. */
export type RenewalReason =
  /** Nothing is stored. */
  | 'absent'
  /** What was stored could not be read, and was set aside. */
  | 'corrupt'
  /** Other names are wanted. */
  | 'identifiers-changed'
  /** Its issuer is not among those wanted any more. */
  | 'issuer-changed'
  /** Another key type is wanted. */
  | 'key-changed'
  /** Another profile is wanted. */
  | 'profile-changed'
  /** Little life is left, whatever the CA suggested. */
  | 'emergency'
  /** The instant drawn inside the CA's window has come. RFC 9773. */
  | 'renewal-info'
  /** The instant drawn by the share of life that is left has come. */
  | 'renew-before'
  /** The caller said so. */
  | 'forced'

/** What is to be done, and when. Instants are epoch milliseconds. */
export type RenewalDecision =
  | { readonly action: 'renew'; readonly reason: RenewalReason }
  | {
      readonly action: 'wait'
      readonly until: number
      readonly because: 'not-due' | 'backoff' | 'rate-limited' | 'renewed-too-often'
      /** Why it would be renewed, if it need not wait. */
      readonly reason?: RenewalReason | undefined
    }

/** The stored certificate, as far as it matters here. */
export interface CertificateFacts {
  readonly identifiers: readonly Identifier[]
  readonly issuerId: string
  readonly keyAlgorithm: KeyAlgorithm
  readonly profile: string | undefined
  readonly fingerprintSha256: string
  readonly notBefore: number
  readonly notAfter: number
}

/** Everything the decision depends on. */
export interface RenewalFacts {
  readonly now: number
  readonly wanted: {
    readonly identifiers: readonly Identifier[]
    readonly issuerIds: readonly string[]
    readonly keyAlgorithm: KeyAlgorithm
    readonly profile: string | undefined
  }
  /** `'corrupt'` when there was one that could not be read. */
  readonly certificate: CertificateFacts | 'corrupt' | undefined
  /** The instant drawn for this very certificate. */
  readonly plan:
    | { readonly fingerprintSha256: string; readonly source: 'renewal-info' | 'lifetime'; readonly selectedAt: number }
    | undefined
  /** Per issuer: no attempt before this instant. */
  readonly backoff: ReadonlyMap<string, { readonly notBefore: number; readonly rateLimited: boolean }>
  /** When the last certificates of this name were issued, oldest first. */
  readonly recentIssuances: readonly number[]
  readonly force?: boolean | undefined
}

interface Need {
  readonly reason: RenewalReason
  /** Due since, or from then on. */
  readonly at: number
}

/** Decides. The first thing that is wrong with what is stored gives the reason; waits come after. */
export function decideRenewal(facts: RenewalFacts): RenewalDecision {
  const need = needOf(facts)
  if (need.at > facts.now) return { action: 'wait', until: need.at, because: 'not-due', reason: need.reason }
  const forced = facts.force === true
  const bySchedule = need.reason === 'renewal-info' || need.reason === 'renew-before' || need.reason === 'emergency'
  const tooOften = bySchedule ? dwellEnd(facts) : undefined
  if (tooOften !== undefined && tooOften > facts.now) {
    return { action: 'wait', until: tooOften, because: 'renewed-too-often', reason: need.reason }
  }
  const free = openIssuers(facts, forced)
  if (free.length > 0) return { action: 'renew', reason: need.reason }
  return { ...earliestIssuer(facts), reason: need.reason }
}

/** Ids of the issuers that may be asked now, in order. Force overrides our own back-off, never the CA's `Retry-After`. */
export function openIssuers(facts: RenewalFacts, force: boolean): readonly string[] {
  return facts.wanted.issuerIds.filter((id) => {
    const wait = facts.backoff.get(id)
    return wait === undefined || wait.notBefore <= facts.now || (force && !wait.rateLimited)
  })
}

function needOf({ certificate, wanted, plan, now, force }: RenewalFacts): Need {
  if (force === true) return { reason: 'forced', at: now }
  if (certificate === undefined) return { reason: 'absent', at: now }
  if (certificate === 'corrupt') return { reason: 'corrupt', at: now }
  if (!sameIdentifiers(certificate.identifiers, wanted.identifiers)) return { reason: 'identifiers-changed', at: now }
  if (!wanted.issuerIds.includes(certificate.issuerId)) return { reason: 'issuer-changed', at: now }
  if (certificate.keyAlgorithm !== wanted.keyAlgorithm) return { reason: 'key-changed', at: now }
  if (certificate.profile !== wanted.profile) return { reason: 'profile-changed', at: now }
  const emergency: Need = { reason: 'emergency', at: emergencyInstant(certificate) }
  // A plan is bound to its certificate: a window meant for the last one would renew the new one at once (RFC 9773).
  if (plan?.fingerprintSha256 !== certificate.fingerprintSha256) return emergency
  const planned: Need = {
    reason: plan.source === 'renewal-info' ? 'renewal-info' : 'renew-before',
    at: plan.selectedAt,
  }
  return planned.at <= emergency.at ? planned : emergency
}

/**
 * A guard against loops (a CA whose window is always past, a clock that jumps): two certificates within a tenth of a
 * lifetime are enough, then that tenth must pass.
 */
function dwellEnd({ certificate, recentIssuances, now }: RenewalFacts): number | undefined {
  if (certificate === undefined || certificate === 'corrupt') return undefined
  const dwell = (certificate.notAfter - certificate.notBefore) / 10
  const recent = recentIssuances.filter((at) => at > now - dwell && at <= now)
  const [oldest] = recent
  return recent.length >= 2 && oldest !== undefined ? oldest + dwell : undefined
}

function earliestIssuer({ wanted, backoff, now }: RenewalFacts): {
  action: 'wait'
  until: number
  because: 'backoff' | 'rate-limited'
} {
  let until = Infinity
  let rateLimited = false
  for (const id of wanted.issuerIds) {
    const wait = backoff.get(id)
    if (wait === undefined || wait.notBefore >= until) continue
    until = wait.notBefore
    rateLimited = wait.rateLimited
  }
  return {
    action: 'wait',
    until: Number.isFinite(until) ? until : now,
    because: rateLimited ? 'rate-limited' : 'backoff',
  }
}
