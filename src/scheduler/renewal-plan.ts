/**
 * When a stored certificate will be renewed: the CA's window or the share of life left, and one instant drawn inside.
 *
 * @module
 */
import {
  clampRenewalInfoPoll,
  drawInstant,
  emergencyInstant,
  lifetimeWindow,
  type RenewalInfo,
  type RenewalWindow,
} from '../core/renewal-info.js'
import type { Random } from '../core/random.js'
import { CertError } from '../errors.js'
import type { CertificateRecord, RenewalPlanRecord } from './records.js'

const minute = 60_000
const hour = 60 * minute
const longestCheckMs = 27 * hour

/** Whether it is time to ask the CA for renewal information. RFC 9773 section 4.3: never after expiry. */
export function renewalInfoIsDue(
  plan: RenewalPlanRecord | undefined,
  certificate: Pick<CertificateRecord, 'fingerprintSha256' | 'notAfter'>,
  now: number,
): boolean {
  if (now >= certificate.notAfter) return false
  if (plan?.fingerprintSha256 !== certificate.fingerprintSha256) return true
  // Further ahead than any answer can ask for: it was written by a clock that was wrong.
  return plan.checkAgainAt !== undefined && (plan.checkAgainAt <= now || plan.checkAgainAt > now + longestCheckMs)
}

/** What the CA said, or did not say. */
export type RenewalInfoAnswer =
  | { readonly kind: 'info'; readonly info: RenewalInfo }
  /** The CA offers none. */
  | { readonly kind: 'none' }
  | { readonly kind: 'failed'; readonly error: unknown }
  /** Nobody was asked. */
  | { readonly kind: 'not-asked' }

/** What {@link nextPlan} decides from. */
export interface PlanFacts {
  readonly current: RenewalPlanRecord | undefined
  readonly certificate: Pick<CertificateRecord, 'fingerprintSha256' | 'notBefore' | 'notAfter'>
  readonly answer: RenewalInfoAnswer
  readonly now: number
  readonly remainingRatio?: number | undefined
}

/**
 * The plan after an answer. The instant is drawn anew only when the window changed: drawn at every look, it would be
 * biased early, or never be due.
 */
export function nextPlan(facts: PlanFacts, random: Random): RenewalPlanRecord {
  const { certificate, answer, now } = facts
  const current = facts.current?.fingerprintSha256 === certificate.fingerprintSha256 ? facts.current : undefined
  const suggested = answer.kind === 'info' ? usableWindow(answer.info, certificate) : undefined
  const keepsOld = answer.kind !== 'info' && answer.kind !== 'none' && current !== undefined
  const source = suggested !== undefined ? 'renewal-info' : keepsOld ? current.source : 'lifetime'
  const window: RenewalWindow =
    suggested ??
    (keepsOld
      ? { start: current.windowStart, end: current.windowEnd }
      : lifetimeWindow(certificate, facts.remainingRatio))
  const unchanged =
    current !== undefined &&
    current.source === source &&
    current.windowStart === window.start &&
    current.windowEnd === window.end
  return {
    fingerprintSha256: certificate.fingerprintSha256,
    source,
    windowStart: window.start,
    windowEnd: window.end,
    selectedAt: unchanged ? current.selectedAt : drawInstant(window, random),
    explanationUrl: answer.kind === 'info' ? answer.info.explanationUrl?.href : current?.explanationUrl,
    ...nextCheck(answer, current, now, random),
  }
}

/** RFC 9773 section 4.2: a window whose end is not after its start is no answer. Both ends stay clear of the emergency. */
function usableWindow(
  info: RenewalInfo,
  certificate: { readonly notBefore: number; readonly notAfter: number },
): RenewalWindow | undefined {
  const start = info.windowStart.getTime()
  const end = info.windowEnd.getTime()
  if (!Number.isFinite(start) || !Number.isFinite(end) || end <= start) return undefined
  const latest = emergencyInstant(certificate)
  return { start: Math.min(start, latest), end: Math.min(end, latest) }
}

/** Waits after failed requests for renewal information. RFC 9773 section 4.3.3: six hours in the long run. */
const failedCheckSchedule: readonly number[] = [minute, 10 * minute, hour, 6 * hour]

function nextCheck(
  answer: RenewalInfoAnswer,
  current: RenewalPlanRecord | undefined,
  now: number,
  random: Random,
): Pick<RenewalPlanRecord, 'checkAgainAt' | 'checkFailures'> {
  switch (answer.kind) {
    case 'info': {
      const wait = clampRenewalInfoPoll(answer.info.retryAt.getTime() - now)
      // Jitter only makes it later: the answer's Retry-After is a minimum.
      return { checkAgainAt: Math.ceil(now + wait * (1 + random() * 0.05)), checkFailures: 0 }
    }
    case 'none':
      return { checkAgainAt: Math.ceil(now + 12 * hour * (1 + random() * 0.1)), checkFailures: 0 }
    case 'failed': {
      const checkFailures = (current?.checkFailures ?? 0) + 1
      const temporary = !CertError.isInstance(answer.error) || answer.error.retryable
      const scheduled = failedCheckSchedule[Math.min(checkFailures, failedCheckSchedule.length) - 1] ?? 6 * hour
      const retryAt = CertError.isInstance(answer.error) ? (answer.error.retryAt?.getTime() ?? 0) : 0
      const wait = temporary ? scheduled : 6 * hour
      return {
        checkAgainAt: Math.ceil(Math.max(now + wait * (1 + random() * 0.1), Math.min(retryAt, now + 24 * hour))),
        checkFailures,
      }
    }
    case 'not-asked':
      return { checkAgainAt: undefined, checkFailures: 0 }
  }
}
