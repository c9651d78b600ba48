import { describe, expect, it } from 'vitest'
import { compareNames, isWithin, unescapeName } from '../../../../src/solvers/route53/record-names.js'

describe('names of Route 53', () => {
  it.each([
    ['Example.COM.', 'example.com'],
    ['\\052.example.com.', '*.example.com'],
    ['_acme-challenge.example.com', '_acme-challenge.example.com'],
  ])('%s is %s', (written, name) => {
    expect(unescapeName(written)).toBe(name)
  })

  it('are sorted by reversed labels, the final dot included', () => {
    const sorted = ['example.com', 'a.example.com', 'x.a.example.com', 'b.example.com', 'example.net']
    expect([...sorted].reverse().sort(compareNames)).toEqual(sorted)
    // "-" comes before ".": "com.example.a-b." before "com.example.a."
    expect(['a.example.com', 'a-b.example.com'].sort(compareNames)).toEqual(['a-b.example.com', 'a.example.com'])
    expect(compareNames('a.example.com', 'a.example.com')).toBe(0)
  })

  it.each([
    ['www.example.com', 'example.com', true],
    ['example.com', 'example.com', true],
    ['notexample.com', 'example.com', false],
    ['com', 'example.com', false],
  ])('%s within %s: %s', (name, zone, within) => {
    expect(isWithin(name, zone)).toBe(within)
  })
})
