import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { quoteTxt, unquoteTxt } from '../../../../src/solvers/route53/txt-value.js'

describe('quoteTxt', () => {
  it.each([
    ['abc_-1', '"abc_-1"'],
    ['', '""'],
    ['a"b\\c', '"a\\"b\\\\c"'],
    ['a\tb', '"a\\011b"'],
    ['é', '"\\303\\251"'],
    ['x'.repeat(256), `"${'x'.repeat(255)}" "x"`],
  ])('writes %j as Route 53 wants it', (text, quoted) => {
    expect(quoteTxt(text)).toBe(quoted)
  })

  it('can be read back', () => {
    const property = fc.property(fc.string({ unit: 'binary', maxLength: 400 }), (text) => {
      expect(unquoteTxt(quoteTxt(text))).toBe(text)
    })
    fc.assert(property, { seed: 20261125, numRuns: 200 })
  })
})

describe('unquoteTxt', () => {
  it.each([
    ['"abc"', 'abc'],
    ['"a" "b"', 'ab'],
    ['"a""b"', 'ab'],
    ['"\\141\\"\\\\"', 'a"\\'],
    ['abc', undefined],
    ['"abc', undefined],
    ['"a" b', undefined],
    ['', undefined],
  ])('reads %j', (value, text) => {
    expect(unquoteTxt(value)).toBe(text)
  })

  it('takes anything, in linear time', () => {
    const property = fc.property(
      fc.string({ unit: fc.constantFrom('"', '\\', 'a', ' ', '0'), maxLength: 200 }),
      (value) => {
        expect(['string', 'undefined']).toContain(typeof unquoteTxt(value))
      },
    )
    fc.assert(property, { seed: 20261125, numRuns: 200 })
    expect(unquoteTxt('"\\'.repeat(100_000))).toBeUndefined()
  })
})
