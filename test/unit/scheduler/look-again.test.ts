import { expect, it } from 'vitest'
import { lookAgainMs } from '../../../src/scheduler/look-again.js'

it.each([
  [1, 1],
  [900, 300],
  [1_000, 334],
  [29_999, 10_000],
  [60_000, 10_000],
  [65_000, 9_286],
])('a lease of %i ms is looked at every %i ms', (lockTtlMs, ms) => {
  expect(lookAgainMs(lockTtlMs)).toBe(ms)
})

it('ends the life of any lease at a look, after three looks at least, and never pauses for longer than 10 s', () => {
  for (let lockTtlMs = 1; lockTtlMs < 2_000_000; lockTtlMs = Math.ceil(lockTtlMs * 1.07)) {
    const pauseMs = lookAgainMs(lockTtlMs)
    expect(pauseMs).toBeLessThanOrEqual(10_000)
    const looks = Math.ceil(lockTtlMs / pauseMs)
    if (lockTtlMs >= 10) expect(looks).toBeGreaterThanOrEqual(3)
    expect(looks * pauseMs - lockTtlMs).toBeLessThan(looks)
  }
})
