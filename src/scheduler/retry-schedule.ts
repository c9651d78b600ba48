/**
 * How long to wait after a failure: data, and one pure function over it.
 *
 * @module
 */
import type { Random } from '../core/random.js'
import { CertError } from '../errors.js'

/** Kinds of failure; each has a schedule of its own. */
export type FailureClass =
  /** The other side is away or overloaded: network, time-out, 5xx. */
  | 'outage'
  /** Something of ours is not in place yet: web server, DNS, firewall. The CA was not told, so no quota was used. */
  | 'preflight'
  /** The CA tried and could not validate a name. Uses quota. */
  | 'validation'
  /** The CA asked to wait, and said how long. */
  | 'rate-limited'
  /** A person or a change of configuration is needed. */
  | 'permanent'
  /** Anything else. */
  | 'other'

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

/**
 * Waits after the first, second, ... failure in a row; the last one repeats. Let's Encrypt asks for 1, 10, 100 minutes,
 * then once a day (integration guide). An outage costs the CA nothing but a directory or nonce request, so it is probed
 * hourly: a renewal must not wait a day when the CA is back.
 */
export const retrySchedule: Readonly<Record<FailureClass, readonly number[]>> = {
  outage: [minute, 5 * minute, 10 * minute, 30 * minute, hour],
  preflight: [minute, 5 * minute, 10 * minute, 30 * minute, hour],
  validation: [minute, 10 * minute, 100 * minute, day],
  'rate-limited': [hour, 6 * hour, day],
  permanent: [day],
  other: [minute, 10 * minute, 100 * minute, day],
}

/** Waits between attempts to deploy one certificate to one target. */
export const deploymentSchedule: readonly number[] = [
  10_000,
  30_000,
  minute,
  2 * minute,
  5 * minute,
  10 * minute,
  30 * minute,
  hour,
]

/** Waits between looks at an endpoint that does not serve the certificate yet. */
export const verificationSchedule: readonly number[] = [5_000, 10_000, 30_000, minute, 5 * minute, 15 * minute, hour]

/** A `Retry-After` beyond this is not obeyed to the letter: a year is a mistake. */
export const longestRetryAfterMs: number = 7 * day

/** Sorts an error into its class. */
export function classifyFailure(error: unknown): FailureClass {
  if (!CertError.isInstance(error)) return 'other'
  switch (error.code) {
    case 'ERR_ACME_RATE_LIMITED':
      return 'rate-limited'
    case 'ERR_HTTP_NETWORK':
    case 'ERR_HTTP_TIMEOUT':
    case 'ERR_HTTP_BODY':
    case 'ERR_STORE_UNAVAILABLE':
    case 'ERR_STORE_CONFLICT':
    case 'ERR_STORE_LOCK_LOST':
    case 'ERR_ACME_ORDER_TIMEOUT':
    case 'ERR_ACME_PROTOCOL':
      return 'outage'
    case 'ERR_HTTP_STATUS':
      return error.retryable ? 'outage' : 'permanent'
    case 'ERR_CHALLENGE_PREFLIGHT':
    case 'ERR_CHALLENGE_FAILED':
    case 'ERR_CHALLENGE_PROPAGATION_TIMEOUT':
      return 'preflight'
    case 'ERR_ACME_AUTHORIZATION_FAILED':
      return 'validation'
    case 'ERR_ACME_USER_ACTION_REQUIRED':
    case 'ERR_ACME_PROFILE_UNAVAILABLE':
    case 'ERR_CHALLENGE_NO_SOLVER':
      return 'permanent'
    case 'ERR_ACME_PROBLEM':
      if ((error.problem?.status ?? 0) >= 500) return 'outage'
      return error.retryable ? 'other' : 'permanent'
    default:
      return error.retryable ? 'other' : 'permanent'
  }
}

/** What {@link nextAttempt} decides from. */
export interface FailureFacts {
  readonly failureClass: FailureClass
  /** Failures in a row, this one included. */
  readonly count: number
  /** When it failed, epoch milliseconds. */
  readonly at: number
  /** The other side's `Retry-After`, epoch milliseconds. Obeyed exactly. */
  readonly retryAt?: number | undefined
  /** Life of the certificate at stake; short-lived ones cannot wait a day. @defaultValue no limit */
  readonly lifetimeMs?: number | undefined
}

/**
 * The earliest next attempt, epoch milliseconds: the schedule's wait, at most a twentieth of the certificate's life, up
 * to 10 % later by chance, and never before the other side's `Retry-After`.
 */
export function nextAttempt(facts: FailureFacts, random: Random): number {
  const { failureClass, count, at, retryAt, lifetimeMs } = facts
  const scheduled = scheduledWait(retrySchedule[failureClass], count)
  const wait = Math.max(Math.min(scheduled, (lifetimeMs ?? Infinity) / 20), minute) * (1 + random() * 0.1)
  if (retryAt === undefined) return Math.ceil(at + wait)
  const asked = Math.min(retryAt, at + longestRetryAfterMs)
  // A class without a wait of its own to add: the CA named the instant.
  return Math.ceil(failureClass === 'rate-limited' ? Math.max(asked, at + minute) : Math.max(asked, at + wait))
}

/** The wait after the `count`-th failure in a row. */
export function scheduledWait(schedule: readonly number[], count: number): number {
  return schedule[Math.min(Math.max(count, 1), schedule.length) - 1] ?? day
}
