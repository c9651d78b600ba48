import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  baseName,
  identifierKey,
  isWildcard,
  overlaps,
  parseIdentifier,
  parseIdentifiers,
  sameIdentifiers,
} from '../../../src/core/identifier.js'

const label63 = 'a'.repeat(63)
const name253 = [label63, label63, label63, 'b'.repeat(61)].join('.')

describe('parseIdentifier', () => {
  it.each([
    ['example.com', 'example.com'],
    ['EXAMPLE.Com', 'example.com'],
    ['example.com.', 'example.com'],
    ['*.Example.com', '*.example.com'],
    ['*.co.uk', '*.co.uk'],
    ['localhost', 'localhost'],
    ['_acme-challenge.example.com', '_acme-challenge.example.com'],
    ['1.example', '1.example'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['*.bücher.example', '*.xn--bcher-kva.example'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['XN--BCHER-KVA.example', 'xn--bcher-kva.example'],
    ['faß.de', 'xn--fa-hia.de'],
    ['пример.рф', 'xn--e1afmkfd.xn--p1ai'],
    // Look-alikes: legal names, and visibly not what they look like.
    ['аррӏе.com', 'xn--80ak6aa92e.com'],
    ['ｅｘａｍｐｌｅ．com', 'example.com'],
    ['example。com', 'example.com'],
    ['exam\u00adple.com', 'example.com'],
    [`${label63}.com`, `${label63}.com`],
    [name253, name253],
    [`${name253}.`, name253],
  ])('reads the DNS name %j', (written, value) => {
    expect(parseIdentifier(written)).toEqual({ type: 'dns', value })
  })

  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['2001:db8::1', '2001:db8::1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:0db8:0000:0000:0000:0000:0000:0001', '2001:db8::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['::', '::'],
    ['::1', '::1'],
    ['::ffff:192.0.2.7', '::ffff:c000:207'],
  ])('reads the address %j', (written, value) => {
    expect(parseIdentifier(written)).toEqual({ type: 'ip', value })
  })

  it.each([
    ['', 'non-empty'],
    ['$(id).com', 'character'],
    ['`id`.com', 'character'],
    ['a.com;reboot', 'character'],
    ['a.com|sh', 'character'],
    ['a.com\n', 'character'],
    ['a.com\r\nHost: b', 'character'],
    ['a\0.com', 'character'],
    [' a.com', 'character'],
    ['a.com ', 'character'],
    ['a\tb.com', 'character'],
    ['a/../b', 'character'],
    ['a\\b.com', 'character'],
    ['a%41.com', 'character'],
    ['user@a.com', 'character'],
    ['a.com:443', 'character'],
    ['https://a.com', 'character'],
    ['a.com#b', 'character'],
    ['a.com?b', 'character'],
    ['a{b}.com', 'character'],
    ['!a.com', 'character'],
    ['"a.com"', 'character'],
    ['[192.0.2.7]', 'character'],
    ['[example.com]', 'character'],
    ['[::1', 'character'],
    ['::1]', 'character'],
    ['1::2::3', 'character'],
    ['12345::', 'character'],
    ['2001:db8::1/64', 'character'],
    ['-rf', 'label'],
    ['--help', 'label'],
    ['-rf.example.com', 'label'],
    ['a-.example.com', 'label'],
    ['..', 'label'],
    ['a..b', 'label'],
    ['.a.com', 'label'],
    ['a.com..', 'label'],
    ['\u3002', 'label'],
    ['\u00ad.com', 'label'],
    [`${'a'.repeat(64)}.com`, 'label'],
    [`${'é'.repeat(60)}.com`, 'label'],
    ['＊.example.com', 'label'],
    ['.', 'internationalised'],
    ['*.', 'internationalised'],
    ['\u00ad', 'internationalised'],
    ['\u200b', 'internationalised'],
    ['a\u2028.com', 'internationalised'],
    ['a\u0085.com', 'internationalised'],
    ['a\ud800.com', 'internationalised'],
    ['a／b.com', 'internationalised'],
    ['℀.com', 'internationalised'],
    ['a％41.com', 'internationalised'],
    ['xn--a.com', 'internationalised'],
    ['xn--.com', 'internationalised'],
    ['256.1.1.1', ''],
    ['example.09', ''],
    ['1.2.3', 'number'],
    ['127.1', 'number'],
    ['0x7f.1', 'number'],
    ['01.2.3.4', 'number'],
    ['4', 'number'],
    ['１２７.１', 'number'],
    ['*.192.0.2.7', 'number'],
    ['*', 'wildcard'],
    ['*.*.example.com', 'wildcard'],
    ['a.*.example.com', 'wildcard'],
    ['a*.example.com', 'wildcard'],
    ['*a.example.com', 'wildcard'],
    ['example.*', 'wildcard'],
    ['*.com', 'top-level'],
    ['*.com.', 'top-level'],
    ['fe80::1%eth0', 'zone'],
    ['[fe80::1%25eth0]', 'zone'],
    [`c${name253}`, ''],
    [[label63, label63, label63, 'b'.repeat(62)].join('.'), '253'],
    [`*.${name253}`, '253'],
    ['a'.repeat(1_000_000), '253'],
    ['中'.repeat(1_000_000), '253'],
  ])('refuses %j', (written, why) => {
    let error: unknown
    try {
      parseIdentifier(written)
    } catch (caught) {
      error = caught
    }
    expect(error).toBeInstanceOf(TypeError)
    const { message } = error as TypeError
    expect(message).toContain(why)
    // It quotes the name in a way that a log or a terminal survives, and not at any length.
    expect(message).toContain(JSON.stringify(written.slice(0, 300)).slice(1, -1).slice(0, 100))
    expect(message).not.toMatch(/[\n\r\0]/)
    expect(message.length).toBeLessThan(1000)
  })

  it.each([undefined, null, 7, {}, ['a.com'], Object.create(null) as unknown, Symbol('a.com')])(
    'refuses %s, which is no string',
    (value) => {
      expect(() => parseIdentifier(value as string)).toThrow(new TypeError('identifier must be a non-empty string'))
    },
  )

  const hostile = fc.oneof(
    fc.domain(),
    fc.ipV4(),
    fc.ipV6(),
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.string({ unit: fc.constantFrom(...Array.from('aZ09-_.*[]:%/\\ $;`"\n\0ü。．℀\u00ad\u200d')), maxLength: 80 }),
    fc.array(fc.string({ unit: 'grapheme', maxLength: 20 }), { maxLength: 6 }).map((labels) => labels.join('.')),
    fc.tuple(fc.constantFrom('*.', '', 'xn--'), fc.domain()).map((parts) => parts.join('')),
  )

  it('either refuses with a TypeError or yields a normal form that any sink may have', () => {
    fc.assert(
      fc.property(hostile, (written) => {
        let identifier
        try {
          identifier = parseIdentifier(written)
        } catch (error) {
          expect(error).toBeInstanceOf(TypeError)
          return
        }
        const { type, value } = identifier
        expect(parseIdentifier(value)).toEqual(identifier)
        expect(value.length).toBeLessThanOrEqual(253)
        expect(value).toMatch(type === 'dns' ? /^(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?$/ : /^[0-9a-f.:]+$/)
        expect(value).not.toContain('..')
      }),
      { numRuns: 20_000 },
    )
  })

  it('reads every domain name and address that there is', () => {
    fc.assert(
      fc.property(fc.domain(), fc.ipV4(), fc.ipV6(), (domain, four, six) => {
        expect(parseIdentifier(domain)).toEqual({ type: 'dns', value: domain.toLowerCase() })
        expect(parseIdentifier(four)).toEqual({ type: 'ip', value: four })
        expect(parseIdentifier(six).type).toBe('ip')
        expect(parseIdentifier(`[${six}]`)).toEqual(parseIdentifier(six))
      }),
      { numRuns: 2000 },
    )
  })
})

describe('parseIdentifiers', () => {
  it('merges what is the same after normalisation, in the order of the first spelling', () => {
    const names = ['b.example', 'A.example', 'a.example.', 'B.EXAMPLE', 'bücher.example', 'xn--bcher-kva.example']
    expect(parseIdentifiers(names).map(({ value }) => value)).toEqual([
      'b.example',
      'a.example',
      'xn--bcher-kva.example',
    ])
    expect(parseIdentifiers(['2001:db8:0::1', '[2001:DB8::1]'])).toHaveLength(1)
  })

  it('keeps a wildcard and its base apart', () => {
    expect(parseIdentifiers(['*.a.example', 'a.example'])).toHaveLength(2)
  })

  it('refuses an empty list and any wrong name in it', () => {
    expect(() => parseIdentifiers([])).toThrow(TypeError)
    expect(() => parseIdentifiers(['a.example', '-rf'])).toThrow(TypeError)
  })
})

describe('sets of identifiers', () => {
  const list = (...names: string[]) => names.map(parseIdentifier)

  it.each([
    [['a.example'], ['a.example'], true],
    [['a.example', 'b.example'], ['b.example', 'a.example'], true],
    [['a.example', 'a.example'], ['a.example'], true],
    [['a.example'], ['a.example', 'b.example'], false],
    [['a.example', 'b.example'], ['a.example'], false],
    [['*.a.example'], ['a.example'], false],
    [[], [], true],
  ])('%j and %j are the same set: %s', (one, other, same) => {
    expect(sameIdentifiers(list(...one), list(...other))).toBe(same)
    expect(sameIdentifiers(list(...other), list(...one))).toBe(same)
  })

  it('does not take a DNS name for an address that is written alike', () => {
    expect(sameIdentifiers([{ type: 'dns', value: '192.0.2.7' }], [{ type: 'ip', value: '192.0.2.7' }])).toBe(false)
    expect(identifierKey({ type: 'ip', value: '192.0.2.7' })).toBe('ip:192.0.2.7')
  })

  it('tells wildcards and their base', () => {
    expect(isWildcard(parseIdentifier('*.a.example'))).toBe(true)
    expect(isWildcard(parseIdentifier('a.example'))).toBe(false)
    expect(isWildcard({ type: 'ip', value: '*.1' })).toBe(false)
    expect(baseName(parseIdentifier('*.a.example'))).toBe('a.example')
    expect(baseName(parseIdentifier('a.example'))).toBe('a.example')
    expect(baseName(parseIdentifier('::1'))).toBe('::1')
  })

  it.each([
    [
      ['*.a.example', 'www.a.example'],
      ['*.a.example', 'www.a.example'],
    ],
    [
      ['www.a.example', '*.a.example'],
      ['*.a.example', 'www.a.example'],
    ],
    [['*.a.example', 'a.example'], undefined],
    [['*.a.example', 'x.www.a.example'], undefined],
    [['*.a.example', '*.www.a.example'], undefined],
    [['*.a.example', 'www.b.example', '192.0.2.7', '::1', 'localhost'], undefined],
    [[], undefined],
  ])('finds the overlap in %j', (names, pair) => {
    expect(overlaps(list(...names))?.map(({ value }) => value)).toEqual(pair)
  })
})
