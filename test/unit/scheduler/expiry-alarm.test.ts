import { describe, expect, it } from 'vitest'
import { expiryAlarm } from '../../../src/scheduler/expiry-alarm.js'

const hour = 3_600_000
const day = 24 * hour

describe('expiryAlarm', () => {
  const quarterly = { notBefore: 0, notAfter: 90 * day }
  it.each([
    [60 * day, undefined, 67.5 * day],
    [67.5 * day - 1, undefined, 67.5 * day],
    [67.5 * day, 'quarter-left', 81 * day],
    [81 * day, 'tenth-left', 87 * day],
    [87 * day, 'three-days-left', 89 * day],
    [89 * day, 'one-day-left', 90 * day],
    [90 * day, 'expired', Infinity],
  ])('at %i of ninety days', (now, level, nextAt) => {
    expect(expiryAlarm(quarterly, now)).toEqual({ level, nextAt })
  })

  it('does not alarm early in the life of a short-lived certificate, although it has less than three days', () => {
    const shortLived = { notBefore: 0, notAfter: 160 * hour }
    expect(expiryAlarm(shortLived, 100 * hour).level).toBeUndefined()
    expect(expiryAlarm(shortLived, 120 * hour).level).toBe('three-days-left')
    expect(expiryAlarm(shortLived, 144 * hour).level).toBe('tenth-left')
  })
})
