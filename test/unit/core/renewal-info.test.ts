import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { clampRenewalInfoPoll, drawInstant, emergencyInstant, lifetimeWindow } from '../../../src/core/renewal-info.js'
import { seededRandom } from '../../../src/testing/seeded-random.js'

const day = 86_400_000
const notBefore = Date.UTC(2026, 0, 1)
const life = (lifetime: number) => ({ notBefore, notAfter: notBefore + lifetime })

describe('drawInstant', () => {
  const window = { start: 1000, end: 2000 }

  it.each([
    [0, 1000],
    [0.5, 1500],
    [0.9999, 1999],
  ])('takes %d of the window', (random, instant) => {
    expect(drawInstant(window, () => random)).toBe(instant)
  })

  it('draws a whole millisecond within any window', () => {
    const windows = fc.tuple(fc.integer({ min: 0, max: 4e12 }), fc.integer({ min: 1, max: 1e10 }))
    fc.assert(
      fc.property(windows, fc.integer(), ([start, length], seed) => {
        const instant = drawInstant({ start, end: start + length }, seededRandom(seed))
        expect(Number.isInteger(instant)).toBe(true)
        expect(instant).toBeGreaterThanOrEqual(start)
        expect(instant).toBeLessThan(start + length)
      }),
    )
  })

  it('spreads over the window', () => {
    const random = seededRandom(1)
    const quarters = [0, 0, 0, 0]
    for (let round = 0; round < 4000; round += 1) {
      const quarter = Math.floor((drawInstant(window, random) - 1000) / 250)
      quarters[quarter] = (quarters[quarter] ?? 0) + 1
    }
    for (const count of quarters) expect(Math.abs(count - 1000)).toBeLessThan(150)
  })
})

describe('lifetimeWindow', () => {
  it.each([
    ['90 days', 90 * day, undefined, 60 * day],
    ['45 days', 45 * day, undefined, 30 * day],
    ['ten days', 10 * day, undefined, (20 / 3) * day],
    ['a moment less than ten days', 10 * day - 1000, undefined, 5 * day - 500],
    ['160 hours', (160 / 24) * day, undefined, (80 / 24) * day],
    ['a minute', 60_000, undefined, 30_000],
    ['398 days, a tenth left', 398 * day, 0.1, 398 * day * 0.9],
  ])('ends where the share of the life is left: %s', (_, lifetime, ratio, end) => {
    const window = lifetimeWindow(life(lifetime), ratio)
    expect(window.end - notBefore).toBeCloseTo(end, 0)
    expect(window.end - window.start).toBeCloseTo(lifetime * 0.02, 0)
  })

  it('lies within the life, and before the emergency, for every life and ratio that is allowed', () => {
    const lives = fc.integer({ min: 60_000, max: 10 * 365 * day })
    fc.assert(
      fc.property(
        lives,
        fc.option(fc.double({ min: 0.11, max: 0.9, noNaN: true }), { nil: undefined }),
        (lifetime, ratio) => {
          const validity = life(lifetime)
          const { start, end } = lifetimeWindow(validity, ratio)
          expect(start).toBeGreaterThan(validity.notBefore)
          expect(end).toBeGreaterThan(start)
          expect(end).toBeLessThan(emergencyInstant(validity))
          expect(emergencyInstant(validity)).toBeLessThan(validity.notAfter)
        },
      ),
    )
  })
})

it('calls it an emergency when a tenth of the life is left', () => {
  expect(emergencyInstant(life(90 * day)) - notBefore).toBe(81 * day)
})

it.each([
  [0, 60_000],
  [-5, 60_000],
  [59_999, 60_000],
  [60_000, 60_000],
  [6 * 3_600_000, 6 * 3_600_000],
  [day, day],
  [day + 1, day],
  [10 * 365 * day, day],
  [Infinity, day],
])('asks for renewal information again after %d ms: %d', (asked, waited) => {
  expect(clampRenewalInfoPoll(asked)).toBe(waited)
})
