import { describe, expect, it } from 'vitest'
import { parseIdentifier } from '../../../src/core/identifier.js'
import {
  constraintViolation,
  decodeNameConstraints,
  encodeNameConstraints,
  parseNameConstraints,
} from '../../../src/core/name-constraints.js'

type Lists = Parameters<typeof parseNameConstraints>[0]

/** As its own reader, and not only its writer, sees the constraints. */
const judge = (lists: Lists, name: string): string | undefined =>
  constraintViolation(decodeNameConstraints(encodeNameConstraints(parseNameConstraints(lists))), [
    parseIdentifier(name),
  ])

describe('parseNameConstraints', () => {
  it.each<[Lists, string, boolean]>([
    [{ permitted: ['a.example'] }, 'a.example', true],
    [{ permitted: ['a.example'] }, 'x.y.a.example', true],
    [{ permitted: ['a.example'] }, '*.a.example', true],
    [{ permitted: ['A.example.'] }, 'a.example', true],
    [{ permitted: ['a.example'] }, 'ba.example', false],
    [{ permitted: ['a.example'] }, 'example', false],
    [{ permitted: ['b.a.example'] }, '*.a.example', false],
    [{ permitted: ['a.example'] }, '10.0.0.1', false],
    [{ permitted: ['a.example'] }, 'fd00::1', false],
    [{ permitted: ['10.0.0.0/8'] }, '10.255.0.1', true],
    [{ permitted: ['10.0.0.0/8'] }, '11.0.0.1', false],
    [{ permitted: ['10.0.0.0/8'] }, 'a.example', false],
    [{ permitted: ['10.0.0.0/8'] }, '::1', false],
    [{ permitted: ['fd00:12::/31'] }, 'fd00:13::1', true],
    [{ permitted: ['fd00:12::/31'] }, 'fd00:14::1', false],
    [{ permitted: ['0.0.0.0/0', '::/0'] }, '::ffff:1.2.3.4', true],
    [{ permitted: ['192.0.2.7/32'] }, '192.0.2.7', true],
    [{ permitted: ['192.0.2.7/32'] }, '192.0.2.6', false],
    [{ permitted: ['a.example'], excluded: ['secret.a.example'] }, 'secret.a.example', false],
    [{ permitted: ['a.example'], excluded: ['secret.a.example'] }, 'x.secret.a.example', false],
    [{ permitted: ['a.example'], excluded: ['secret.a.example'] }, '*.a.example', false],
    [{ permitted: ['a.example'], excluded: ['secret.a.example'] }, '*.b.a.example', true],
    [{ excluded: ['10.0.0.0/8'] }, '10.0.0.1', false],
    [{ excluded: ['10.0.0.0/8'] }, 'a.example', true],
    [{ excluded: ['10.0.0.0/8'] }, '11.0.0.1', true],
  ])('%j: %s is allowed: %s', (lists, name, allowed) => {
    expect(judge(lists, name) === undefined).toBe(allowed)
  })

  it.each(['*.a.example', '10.0.0.0', '10.0.0.0/33', '10.0.0.1/8', '::1/129', '10.0.0.0/8/1', '10.0.0.0/', '', 'a b'])(
    'refuses %j, and quotes it',
    (text) => {
      expect(() => parseNameConstraints({ permitted: [text] })).toThrow(TypeError)
      expect(() => parseNameConstraints({ permitted: [text] })).toThrow(JSON.stringify(text))
    },
  )

  it('survives the way through DER, whatever the length', () => {
    const permitted = Array.from({ length: 200 }, (_, index) => `name-${String(index)}.example`)
    for (const count of [1, 5, 10, 200]) {
      const parsed = parseNameConstraints({ permitted: permitted.slice(0, count), excluded: ['fd00::/8'] })
      expect(decodeNameConstraints(encodeNameConstraints(parsed))).toEqual(parsed)
    }
  })
})

describe('decodeNameConstraints', () => {
  const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

  it('sees that other types are constrained', () => {
    expect(decodeNameConstraints(hex('3009 a007 3005 8103 612e62'))).toEqual({
      permitted: [],
      excluded: [],
      otherTypes: true,
    })
  })

  it('takes a leading dot for everything below and not the name itself', () => {
    const constraints = decodeNameConstraints(hex('300a a008 3006 8204 2e612e62'))
    expect(constraintViolation(constraints, [parseIdentifier('x.a.b')])).toBeUndefined()
    expect(constraintViolation(constraints, [parseIdentifier('*.a.b')])).toBeUndefined()
    expect(constraintViolation(constraints, [parseIdentifier('a.b')])).toBeDefined()
  })

  it.each([
    ['nothing', ''],
    ['another type', '3100'],
    ['a directory name', '3008 a006 3004 a402 3000'],
    ['a minimum', '300c a00a 3008 8203 612e62 800101'],
    ['a third list', '3009 a207 3005 8203 612e62'],
    ['an address without its mask', '300a a008 3006 8704 0a000000'],
    ['a length beyond its end', '3009 a007 3005 8209 612e62'],
    ['a length of many octets', '3084ffffffff'],
  ])('refuses %s', (_, bytes) => {
    expect(() => decodeNameConstraints(hex(bytes))).toThrow(SyntaxError)
  })
})
