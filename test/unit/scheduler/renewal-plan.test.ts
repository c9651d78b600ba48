import { describe, expect, it } from 'vitest'
import type { RenewalInfo } from '../../../src/core/renewal-info.js'
import { CertError } from '../../../src/errors.js'
import { nextPlan, renewalInfoIsDue, type RenewalInfoAnswer } from '../../../src/scheduler/renewal-plan.js'
import type { RenewalPlanRecord } from '../../../src/scheduler/records.js'

const day = 86_400_000
const now = Date.UTC(2026, 0, 1)
const certificate = { fingerprintSha256: 'aa', notBefore: now, notAfter: now + 90 * day }
const half = (): number => 0.5
const zero = (): number => 0

const info = (start: number, end: number, more: Partial<RenewalInfo> = {}): RenewalInfoAnswer => ({
  kind: 'info',
  info: { windowStart: new Date(start), windowEnd: new Date(end), retryAt: new Date(now + 6 * 3_600_000), ...more },
})
const plan = (answer: RenewalInfoAnswer, current?: RenewalPlanRecord, random = half): RenewalPlanRecord =>
  nextPlan({ current, certificate, answer, now }, random)

describe('nextPlan', () => {
  it('draws inside the window of the CA', () => {
    const drawn = plan(info(now + 10 * day, now + 12 * day))
    expect(drawn).toMatchObject({ source: 'renewal-info', selectedAt: now + 11 * day })
  })

  it('keeps the drawn instant while the window stays, and draws anew when it moves', () => {
    const first = plan(info(now + 10 * day, now + 12 * day), undefined, zero)
    const same = plan(info(now + 10 * day, now + 12 * day), first, half)
    expect(same.selectedAt).toBe(first.selectedAt)
    const moved = plan(info(now + 1 * day, now + 2 * day), same, half)
    expect(moved.selectedAt).toBe(now + 1.5 * day)
  })

  it('does not keep a plan of another certificate', () => {
    const other = { ...plan(info(now + 10 * day, now + 12 * day), undefined, zero), fingerprintSha256: 'bb' }
    expect(plan({ kind: 'failed', error: new Error('away') }, other).source).toBe('lifetime')
  })

  it.each([
    ['its end is not after its start', info(now + 12 * day, now + 12 * day)],
    ['an end is no date', info(now, Number.NaN)],
    ['the CA offers none', { kind: 'none' } satisfies RenewalInfoAnswer],
  ])('falls back to the share of life when %s', (_, answer) => {
    const fallback = plan(answer)
    expect(fallback.source).toBe('lifetime')
    expect(fallback.windowEnd).toBe(now + 60 * day)
    expect(fallback.selectedAt).toBeLessThan(fallback.windowEnd)
    expect(fallback.checkAgainAt).toBeGreaterThan(now)
  })

  it('keeps the window of the CA while the CA does not answer, and asks again ever more rarely', () => {
    let current = plan(info(now + 10 * day, now + 12 * day))
    const { selectedAt } = current
    const waits: number[] = []
    for (let failure = 0; failure < 5; failure += 1) {
      current = plan({ kind: 'failed', error: new Error('away') }, current, zero)
      expect(current).toMatchObject({ source: 'renewal-info', selectedAt })
      waits.push((current.checkAgainAt ?? 0) - now)
    }
    expect(waits).toEqual([60_000, 600_000, 3_600_000, 21_600_000, 21_600_000])
  })

  it('asks again after a first request that failed', () => {
    expect(plan({ kind: 'failed', error: new Error('away') }).checkAgainAt).toBeDefined()
  })

  it('takes an answer that cannot get better as a reason to wait six hours', () => {
    const error = new CertError({ code: 'ERR_ACME_PROTOCOL', message: 'no object', retryable: false })
    expect(plan({ kind: 'failed', error }, undefined, zero).checkAgainAt).toBe(now + 6 * 3_600_000)
  })

  it('clamps Retry-After between a minute and a day', () => {
    const soon = plan(info(now + day, now + 2 * day, { retryAt: new Date(now - day) }), undefined, zero)
    expect(soon.checkAgainAt).toBe(now + 60_000)
    const never = plan(info(now + day, now + 2 * day, { retryAt: new Date(now + 4000 * day) }), undefined, zero)
    expect(never.checkAgainAt).toBe(now + day)
  })

  it('keeps clear of the emergency when the CA suggests the last moment', () => {
    const late = plan(info(now + 88 * day, now + 200 * day), undefined, () => 0.999)
    expect(late.selectedAt).toBeLessThanOrEqual(now + 81 * day)
  })

  it('carries the explanation of the CA', () => {
    const explanationUrl = new URL('https://ca.example/incident')
    expect(plan(info(now + day, now + 2 * day, { explanationUrl })).explanationUrl).toBe('https://ca.example/incident')
  })
})

describe('renewalInfoIsDue', () => {
  it('asks for a certificate it has no plan for, then when the CA said, and never after the end', () => {
    expect(renewalInfoIsDue(undefined, certificate, now)).toBe(true)
    const known = plan(info(now + 10 * day, now + 12 * day), undefined, zero)
    expect(renewalInfoIsDue(known, certificate, now)).toBe(false)
    expect(renewalInfoIsDue(known, certificate, (known.checkAgainAt ?? 0) - 1)).toBe(false)
    expect(renewalInfoIsDue(known, certificate, known.checkAgainAt ?? 0)).toBe(true)
    expect(renewalInfoIsDue(known, certificate, certificate.notAfter)).toBe(false)
  })
})
