import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  AcmeError,
  CertError,
  ChallengeError,
  HttpError,
  RateLimitedError,
  UserActionRequiredError,
} from '../../../src/errors.js'
import {
  classifyFailure,
  nextAttempt,
  retrySchedule,
  type FailureClass,
} from '../../../src/scheduler/retry-schedule.js'

const minute = 60_000
const day = 86_400_000
const at = Date.UTC(2026, 0, 1)
const early = (): number => 0
const late = (): number => 0.999_999

describe('nextAttempt', () => {
  it.each([
    ['validation', 1, minute],
    ['validation', 2, 10 * minute],
    ['validation', 3, 100 * minute],
    ['validation', 4, day],
    ['validation', 400, day],
    ['outage', 1, minute],
    ['outage', 99, 60 * minute],
    ['permanent', 1, day],
  ] satisfies [FailureClass, number, number][])(
    'after %s failure %i waits %i ms, up to a tenth more',
    (failureClass, count, wait) => {
      expect(nextAttempt({ failureClass, count, at }, early) - at).toBe(wait)
      const longest = nextAttempt({ failureClass, count, at }, late) - at
      expect(longest).toBeGreaterThan(wait)
      expect(longest).toBeLessThanOrEqual(Math.ceil(wait * 1.1))
    },
  )

  it('cannot wait a day for a certificate that lives six', () => {
    const lifetimeMs = 160 * 60 * minute
    expect(nextAttempt({ failureClass: 'validation', count: 9, at, lifetimeMs }, early) - at).toBe(lifetimeMs / 20)
  })

  it('obeys Retry-After exactly when rate limited, and never comes earlier otherwise', () => {
    const retryAt = at + 34 * 60 * minute
    expect(nextAttempt({ failureClass: 'rate-limited', count: 1, at, retryAt }, late)).toBe(retryAt)
    expect(nextAttempt({ failureClass: 'outage', count: 1, at, retryAt }, early)).toBe(retryAt)
    expect(nextAttempt({ failureClass: 'validation', count: 4, at, retryAt: at + minute }, early)).toBe(at + day)
  })

  it('does not believe a Retry-After of years', () => {
    const retryAt = at + 4000 * day
    expect(nextAttempt({ failureClass: 'rate-limited', count: 1, at, retryAt }, late)).toBe(at + 7 * day)
  })

  it('never waits less for more failures, and never less than a minute', () => {
    const classes = Object.keys(retrySchedule) as FailureClass[]
    fc.assert(
      fc.property(
        fc.constantFrom(...classes),
        fc.nat(50),
        fc.double({ min: 0, max: 0.99, noNaN: true }),
        (failureClass, count, chance) => {
          const random = (): number => chance
          const wait = nextAttempt({ failureClass, count, at }, random)
          expect(wait).toBeGreaterThanOrEqual(at + minute)
          expect(nextAttempt({ failureClass, count: count + 1, at }, random)).toBeGreaterThanOrEqual(wait)
        },
      ),
    )
  })

  it('keeps within 4 failed validations an hour', () => {
    let now = at
    const attempts = [now]
    for (let count = 1; count < 10; count += 1) {
      now = nextAttempt({ failureClass: 'validation', count, at: now }, early)
      attempts.push(now)
    }
    for (const start of attempts) {
      expect(attempts.filter((time) => time >= start && time < start + 60 * minute).length).toBeLessThanOrEqual(4)
    }
  })
})

describe('classifyFailure', () => {
  const identifier = { type: 'dns', value: 'example.com' } as const
  it.each([
    [new Error('boom'), 'other'],
    [new RateLimitedError({ message: 'slow down' }), 'rate-limited'],
    [new UserActionRequiredError({ message: 'agree' }), 'permanent'],
    [new HttpError({ code: 'ERR_HTTP_NETWORK', message: 'down', method: 'GET', url: 'https://ca.example/' }), 'outage'],
    [
      new ChallengeError({
        code: 'ERR_CHALLENGE_PREFLIGHT',
        message: 'x',
        retryable: true,
        identifier,
        phase: 'preflight',
      }),
      'preflight',
    ],
    [new CertError({ code: 'ERR_ACME_PROBLEM', message: 'caa', retryable: false }), 'permanent'],
    [new CertError({ code: 'ERR_ACME_PROBLEM', message: 'badNonce', retryable: true }), 'other'],
    [
      new AcmeError({
        code: 'ERR_ACME_PROBLEM',
        message: 'serverInternal',
        retryable: true,
        problem: { type: 'urn:ietf:params:acme:error:serverInternal', status: 500 },
      }),
      'outage',
    ],
  ])('%o', (error, expected) => {
    expect(classifyFailure(error)).toBe(expected)
  })
})
