import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { longestRetryAfterMs, parseRetryAfter } from '../../../src/internal/retry-after.js'

const now = Date.UTC(2026, 10, 22, 12)
const after = (ms: number): Date => new Date(now + ms)

describe('parseRetryAfter', () => {
  it.each([
    ['0', after(0)],
    ['120', after(120_000)],
    [' 120 ', after(120_000)],
    ['9999999999', after(longestRetryAfterMs)],
    ['9'.repeat(64), after(longestRetryAfterMs)],
    ['Sun, 22 Nov 2026 12:02:00 GMT', after(120_000)],
    ['Sunday, 22-Nov-26 12:02:00 GMT', after(120_000)],
    ['Sun Nov 22 12:02:00 2026', after(120_000)],
    ['Sun, 06 Nov 1994 08:49:37 GMT', after(0)],
    ['Fri, 31 Dec 9999 23:59:59 GMT', after(longestRetryAfterMs)],
  ])('reads %j', (value, expected) => {
    expect(parseRetryAfter(value, now)).toEqual(expected)
  })

  it.each([
    null,
    undefined,
    '',
    '-1',
    '1.5',
    '+5',
    '1e3',
    '0x10',
    'soon',
    'May',
    '120, 120',
    '12 0',
    '2026-11-22T12:02:00Z',
    'Sun, 99 Nov 2026 12:02:00 GMT',
    'Sun, 22 Nov 2026 12:02:00',
    'Sun, 22 Nov 2026 12:02:00 +0100',
    '\u0661',
    '9'.repeat(65),
  ])('takes %j for nothing', (value) => {
    expect(parseRetryAfter(value, now)).toBeUndefined()
  })

  it('never throws, and never answers outside of now and seven days later', () => {
    const text = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary', maxLength: 200 }),
      fc.integer().map(String),
      fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
      fc.stringMatching(/^[\d A-Za-z,:-]{0,40}$/),
    )
    fc.assert(
      fc.property(text, (value) => {
        const instant = parseRetryAfter(value, now)?.getTime()
        return instant === undefined || (instant >= now && instant <= now + longestRetryAfterMs)
      }),
      { numRuns: 20_000 },
    )
  })

  it('reads every number of seconds and every date it should obey exactly', () => {
    const seconds = fc.integer({ min: 0, max: longestRetryAfterMs / 1000 })
    fc.assert(
      fc.property(seconds, (count) => {
        const expected = now + count * 1000
        expect(parseRetryAfter(String(count), now)?.getTime()).toBe(expected)
        expect(parseRetryAfter(new Date(expected).toUTCString(), now)?.getTime()).toBe(expected)
      }),
    )
  })
})
