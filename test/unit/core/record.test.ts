import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { recordCodec, recordSchema, RecordFields } from '../../../src/core/record.js'
import { CertError, StoreError } from '../../../src/errors.js'
import { assertNoSecrets } from '../../../src/testing/recording-logger.js'

interface Sample {
  readonly text: string
  readonly number: number
  readonly flag: boolean
  readonly names: readonly string[]
  readonly inner: { readonly deep: string }
  readonly list: readonly { readonly at: number }[]
  readonly map: ReadonlyMap<string, number>
  readonly maybe: string | undefined
}

/** As the codecs of the scheduler do: maps are written as objects. */
const codec = recordCodec<Sample>('sample', (fields) => ({
  text: fields.text('text'),
  number: fields.number('number'),
  flag: fields.boolean('flag'),
  names: fields.texts('names'),
  inner: fields.object('inner', (inner) => ({ deep: inner.text('deep') })),
  list: fields.objects('list', (item) => ({ at: item.number('at') })),
  map: fields.map('map', (item) => item.number('n')),
  maybe: fields.optional('maybe', (name) => fields.text(name)),
}))

const origin = { store: 'file', key: 'certificates/www' }
const canary = 'canary-9b1f'
const stored = {
  schema: recordSchema,
  kind: 'sample',
  text: `text ${canary}`,
  number: 1,
  flag: true,
  names: [canary, 'b'],
  inner: { deep: canary },
  list: [{ at: 1 }, { at: 2 }],
  map: { [canary]: { n: 1 }, b: { n: 2 } },
  maybe: canary,
}
const bytes = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value))
const decode = (value: unknown): Sample => codec.decode(bytes(value), origin)

function refusal(run: () => unknown): StoreError {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(StoreError)
    const refused = error as StoreError
    expect(refused.retryable).toBe(false)
    expect(refused).toMatchObject(origin)
    expect(refused.message).toMatch(/^file: record certificates\/www /)
    expect(refused.message.length).toBeLessThan(300)
    assertNoSecrets(error, [canary])
    return refused
  }
  throw new Error('was not refused')
}

describe('recordCodec', () => {
  it('reads what it wrote', () => {
    const value = {
      text: 'ü\0\ud800 "',
      number: -1.5,
      flag: false,
      names: [],
      inner: { deep: '' },
      list: [],
      maybe: undefined,
    }
    const read = codec.decode(codec.encode({ ...value, map: {} as never }), origin)
    // A lone surrogate is no UTF-8, but JSON escapes it.
    expect(read).toEqual({ ...value, map: new Map() })
    expect(decode(stored)).toEqual({
      ...{ text: stored.text, number: 1, flag: true, names: stored.names, inner: stored.inner, list: stored.list },
      map: new Map([
        [canary, 1],
        ['b', 2],
      ]),
      maybe: canary,
    })
  })

  it('marks what it writes with schema and kind', () => {
    const text = Buffer.from(recordCodec<{ a: number }>('k', () => ({ a: 1 })).encode({ a: 1 })).toString()
    expect(JSON.parse(text)).toEqual({ schema: 1, kind: 'k', a: 1 })
  })

  it('passes over members it does not know', () => {
    expect(decode({ ...stored, later: canary }).text).toBe(stored.text)
  })

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['half a record', bytes(stored).subarray(0, -5)],
    ['a record and more', Buffer.concat([bytes(stored), Buffer.from('x')])],
    ['two records', Buffer.concat([bytes(stored), bytes(stored)])],
    ['NUL octets', Buffer.alloc(100)],
    ['invalid UTF-8', Buffer.concat([Buffer.from('{"text":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')])],
    ['UTF-16', Buffer.from(JSON.stringify(stored), 'utf16le')],
    ['text that is a secret', Buffer.from(canary)],
    ['nesting without end', Buffer.from('['.repeat(1_000_000))],
    ['deep nesting', Buffer.from(`${'['.repeat(100_000)}${']'.repeat(100_000)}`)],
    ['null', bytes(null)],
    ['a number', bytes(7)],
    ['a text', bytes(canary)],
    ['a list', bytes([stored])],
    ['an empty object', bytes({})],
  ])('calls %s corrupt', (_, damaged) => {
    expect(refusal(() => codec.decode(damaged, origin)).code).toBe('ERR_STORE_CORRUPT')
  })

  it.each([
    ['another kind', { kind: 'certificate' }],
    ['no kind', { kind: undefined }],
    ['a kind that is a list', { kind: ['sample'] }],
    ['no schema', { schema: undefined }],
    ['schema "1"', { schema: '1' }],
    ['schema 0', { schema: 0 }],
    ['schema -1', { schema: -1 }],
    ['schema 0.5', { schema: 0.5 }],
    ['a number for a text', { text: 7 }],
    ['null for a text', { text: null }],
    ['an object for a text', { text: { toString: canary } }],
    ['a text for a number', { number: canary }],
    ['null for a number', { number: null }],
    ['a text for a boolean', { flag: 'false' }],
    ['0 for a boolean', { flag: 0 }],
    ['a text for a list', { names: canary }],
    ['an object for a list', { names: { length: 1, 0: canary } }],
    ['a number in a list of texts', { names: [canary, 7] }],
    ['a list for an object', { inner: [{ deep: canary }] }],
    ['null for an object', { inner: null }],
    ['an object without its member', { inner: {} }],
    ['null in a list of objects', { list: [null] }],
    ['a list in a list of objects', { list: [[]] }],
    ['a list for a map', { map: [{ n: 1 }] }],
    ['null for a map', { map: null }],
    ['a text for an entry of a map', { map: { [canary]: canary } }],
    ['an entry of a map without its member', { map: { [canary]: {} } }],
    ['null for what may be absent', { maybe: null }],
  ])('calls %s corrupt', (_, change) => {
    expect(refusal(() => decode({ ...stored, ...change })).code).toBe('ERR_STORE_CORRUPT')
  })

  it('tells a newer schema from damage: the process has to be upgraded', () => {
    for (const schema of [2, 1000, Number.MAX_SAFE_INTEGER]) {
      const error = refusal(() => decode({ schema, kind: 'something else' }))
      expect(error.code).toBe('ERR_STORE_SCHEMA')
      expect(error.message).toContain('upgrade')
    }
    expect(refusal(() => codec.decode(Buffer.from('{"schema":1e999,"kind":"sample"}'), origin)).code).toBe(
      'ERR_STORE_CORRUPT',
    )
  })

  it('reads own members only', () => {
    // What a JSON parser makes of it is an own member of that name; what an object inherits is not read.
    const polluted = Buffer.from(
      JSON.stringify({ ...stored, text: undefined }).replace('{', '{"__proto__":{"text":"inherited"},'),
    )
    expect(refusal(() => codec.decode(polluted, origin)).message).toContain('"text"')
    const fields = new RecordFields(Object.create({ text: 'inherited' }) as Record<string, unknown>)
    expect(() => fields.text('text')).toThrow(TypeError)
    expect(() => fields.text('constructor')).toThrow(TypeError)
    expect(fields.optional('toString', () => 'found')).toBeUndefined()
  })

  it('keeps __proto__ and constructor as ordinary keys of a map', () => {
    const text = JSON.stringify({ ...stored, map: {} }).replace(
      '"map":{}',
      '"map":{"__proto__":{"n":1},"constructor":{"n":2}}',
    )
    const { map } = codec.decode(Buffer.from(text), origin)
    expect([...map]).toEqual([
      ['__proto__', 1],
      ['constructor', 2],
    ])
    expect(({} as Record<string, unknown>)['n']).toBeUndefined()
  })

  it('says which member is damaged', () => {
    expect(refusal(() => decode({ ...stored, number: 'x' })).message).toContain('"number" is not a number')
    expect(refusal(() => decode({ ...stored, map: { a: 7 } })).message).toContain('"map.*" is not an object')
  })

  it('turns whatever a reader throws into corruption, except errors of the store', () => {
    const throwing = (thrown: unknown) =>
      recordCodec('k', (): object => {
        throw thrown
      })
    const record = bytes({ schema: 1, kind: 'k' })
    for (const thrown of [new RangeError('of some kind'), 'a text', undefined, null]) {
      expect(refusal(() => throwing(thrown).decode(record, origin)).code).toBe('ERR_STORE_CORRUPT')
    }
    const own = new StoreError({ code: 'ERR_STORE_UNAVAILABLE', message: 'away', store: 'file' })
    expect(() => throwing(own).decode(record, origin)).toThrow(own)
  })

  it('never throws anything but a StoreError, for arbitrary octets', () => {
    const json = fc.json().map((text) => Buffer.from(text))
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), json), (damaged) => {
        expect(() => codec.decode(damaged, origin)).toThrow(StoreError)
      }),
      { numRuns: 10_000 },
    )
  })

  it('never throws anything but a StoreError, for mutated records', () => {
    const members = fc.constantFrom(...Object.keys(stored), '__proto__', 'constructor')
    const mutations = fc.array(fc.tuple(members, fc.jsonValue()), { minLength: 1, maxLength: 3 })
    let refused = 0
    fc.assert(
      fc.property(mutations, (changes) => {
        const record = { ...stored, ...Object.fromEntries(changes) }
        try {
          decode(record)
        } catch (error) {
          refused += 1
          expect(CertError.isInstance(error) && error.code).toMatch(/^ERR_STORE_(?:CORRUPT|SCHEMA)$/)
          assertNoSecrets(error, [canary])
        }
      }),
      { numRuns: 5000 },
    )
    expect(refused).toBeGreaterThan(1000)
  })

  it('never throws anything but a StoreError, whichever octet is damaged or cut', () => {
    const good = bytes(stored)
    let refused = 0
    for (let at = 0; at < good.length; at += 1) {
      const flipped = Buffer.from(good)
      flipped[at]! ^= 0x20
      for (const damaged of [flipped, good.subarray(0, at)]) {
        try {
          codec.decode(damaged, origin)
        } catch (error) {
          refused += 1
          expect(error).toBeInstanceOf(StoreError)
          assertNoSecrets(error, [canary])
        }
      }
    }
    expect(refused).toBeGreaterThan(good.length)
  })
})
