import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  newestGeneration,
  nextRootAt,
  signingGeneration,
  signsFrom,
  trustedGenerations,
  type Generation,
} from '../../../../src/issuers/private-ca/roll-over.js'

const times = { lifetimeMs: 90, overlapMs: 60 }

describe('nextRootAt', () => {
  it('leaves room for the overlap and two lives of a leaf', () => {
    expect(nextRootAt({ notAfter: 1000 }, times)).toBe(1000 - 60 - 180)
  })
})

describe('signsFrom', () => {
  it.each([
    ['in time: after the overlap', 760, 820],
    ['late: with a third of the rest left', 970, 990],
    ['just before the end', 999, 999],
    ['at the end', 1000, 1000],
    ['too late', 1500, 1500],
  ])('is, %s', (_, now, expected) => {
    expect(signsFrom(now, { notAfter: 1000 }, times)).toBe(expected)
  })
})

describe('newestGeneration', () => {
  const first = { notBefore: 0, notAfter: 1000, signsFrom: 0 }

  it.each([
    ['one that has begun', { notBefore: 700, notAfter: 1700, signsFrom: 760 }, 760, 1],
    ['one by a clock that is a little ahead', { notBefore: 770, notAfter: 1770, signsFrom: 830 }, 760, 1],
    ['none by a clock that was far ahead', { notBefore: 5000, notAfter: 6000, signsFrom: 5000 }, 760, 0],
    ['that one when its time has come', { notBefore: 5000, notAfter: 6000, signsFrom: 5000 }, 5000, 1],
  ])('is %s', (_, second, now, expected) => {
    const generations = [first, second]
    expect(newestGeneration(generations, now)).toBe(generations[expected])
  })

  it('is the first one even before it begins: a second one would be another CA', () => {
    expect(newestGeneration([{ ...first, notBefore: 100 }], 0)?.notBefore).toBe(100)
    expect(newestGeneration<Generation>([], 0)).toBeUndefined()
  })
})

describe('signingGeneration', () => {
  const roots = [
    { name: 'first', notAfter: 1000, signsFrom: 0 },
    { name: 'second', notAfter: 2000, signsFrom: 820 },
  ]

  it.each([
    [0, 'first', ['second', 'first']],
    [819, 'first', ['second', 'first']],
    [820, 'second', ['second', 'first']],
    [999, 'second', ['second', 'first']],
    [1000, 'second', ['second']],
    [2000, undefined, []],
  ])('at %i is %s, and %j are trusted', (now, signing, trusted) => {
    expect(signingGeneration(roots, now)?.name).toBe(signing)
    expect(trustedGenerations(roots, now).map(({ name }) => name)).toEqual(trusted)
  })

  it('takes the next root before its time when the old one has ended', () => {
    expect(
      signingGeneration(
        [
          { notAfter: 10, signsFrom: 0 },
          { notAfter: 99, signsFrom: 50 },
        ],
        20,
      )?.notAfter,
    ).toBe(99)
  })

  it('never leaves a CA without a valid root, whenever it is asked', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 60 }), (waits) => {
        const generations: Generation[] = [{ notBefore: 0, notAfter: 1000, signsFrom: 0 }]
        let now = 0
        for (const wait of waits) {
          now += wait
          const newest = newestGeneration(generations, now)!
          expect(newest).toBe(generations.at(-1))
          if (now >= nextRootAt(newest, times)) {
            generations.push({ notBefore: now, notAfter: now + 1000, signsFrom: signsFrom(now, newest, times) })
          }
          const signing = signingGeneration(generations, now)
          expect(signing).toBeDefined()
          expect(signing!.notAfter).toBeGreaterThan(now)
          expect(trustedGenerations(generations, now)).toContain(signing)
        }
      }),
    )
  })
})
