import fc from 'fast-check'
import { expect, it } from 'vitest'
import { damaged, decodeEntry, encodeEntry, storedValue } from '../../../src/stores/entry-format.js'

const revision = '0123456789abcdef0123456789abcdef'

it('reads what it wrote', () => {
  fc.assert(
    fc.property(fc.string(), fc.uint8Array({ maxLength: 2000 }), (key, value) => {
      const entry = decodeEntry(encodeEntry(key, revision, value), key)
      expect(entry).toEqual({ key, revision, value })
    }),
  )
})

it('notices every change of a byte, and every cut', () => {
  const whole = encodeEntry('certificates/www', revision, Buffer.from('value'))
  for (let index = 0; index < whole.length; index += 1) {
    const changed = Uint8Array.from(whole)
    changed[index] = (changed[index] ?? 0) ^ 0x20
    expect(decodeEntry(changed), `byte ${String(index)}`).toHaveProperty('damage')
    expect(decodeEntry(whole.subarray(0, index)), `cut at ${String(index)}`).toHaveProperty('damage')
  }
})

it('never throws', () => {
  const start = fc.constantFrom(
    '',
    'evercert-entry 1 ',
    `evercert-entry 1 ${revision} 999999999 999999999 ${'0'.repeat(64)}\n`,
  )
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 300 }), (text, rest) => {
      expect(decodeEntry(Buffer.concat([Buffer.from(text), rest]))).toHaveProperty('damage')
    }),
  )
})

it('gives the same damage the same revision, and another damage another', () => {
  const damage = (bytes: string): unknown => decodeEntry(Buffer.from(bytes)).revision
  expect(damage('x')).toBe(damage('x'))
  expect(damage('x')).not.toBe(damage('y'))
})

it('is told as its value, or as damage with what to do', () => {
  const place = { store: 'redis', key: 'certificates/www', holder: 'its field in entries' } as const
  const value = Buffer.from('value')
  const whole = decodeEntry(encodeEntry('certificates/www', revision, value))
  expect(storedValue(whole, place)).toEqual({ value: new Uint8Array(value), revision })
  expect(storedValue(undefined, place)).toBeUndefined()
  const entry = damaged('is empty', value)
  expect(() => storedValue(entry, place)).toThrow(
    expect.objectContaining({
      code: 'ERR_STORE_CORRUPT',
      message: 'redis: certificates/www cannot be read: its field in entries is empty; restore it or remove it',
      store: 'redis',
      key: 'certificates/www',
      damaged: { value: new Uint8Array(value), revision: entry.revision },
    }) as Error,
  )
})
