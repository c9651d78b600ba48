import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { linkTargets, parseLinkHeader } from '../../../../src/issuers/acme/link-header.js'

const base = 'https://ca.example/certificate/1'

describe('linkTargets', () => {
  it.each<[what: string, header: string | undefined, expected: string[]]>([
    ['nothing', undefined, []],
    ['one', '<https://ca.example/1/2>;rel="alternate"', ['https://ca.example/1/2']],
    ['without quotes', '<https://ca.example/2>; rel=alternate', ['https://ca.example/2']],
    [
      'joined, others passed over',
      '<https://a.example/i>;rel="index", <https://a.example/2>;rel="alternate"',
      ['https://a.example/2'],
    ],
    ['commas in URLs and quotes', '<https://a.example/a,b>;title="x,y";rel="alternate"', ['https://a.example/a,b']],
    ['several relations', '<https://a.example/2>;rel="up ALTERNATE"', ['https://a.example/2']],
    ['relative', '</certificate/1/2>;rel="alternate"', ['https://ca.example/certificate/1/2']],
    ['no end', '<https://a.example/2;rel="alternate"', []],
    ['nothing but brackets', '<'.repeat(5000), []],
    ['more than is read', `<https://a.example/2>;rel="alternate"${' '.repeat(9000)}`, []],
  ])('reads %s', (_, header, expected) => {
    expect(linkTargets(header, 'alternate', base)).toEqual(expected)
  })

  it('never throws', () => {
    const pieces = fc.constantFrom('<', '>', ';', ',', '"', '=', 'rel', 'alternate', ' ', 'https://a.example')
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 200 }), (parts) => {
        expect(Array.isArray(parseLinkHeader(parts.join('')))).toBe(true)
        linkTargets(parts.join(''), 'alternate', base)
      }),
      { seed: 20261122 },
    )
  })
})
