import fc from 'fast-check'
import { expect, it } from 'vitest'
import { isHashedName, keyName, nameKey } from '../../../../src/stores/file/key-name.js'

it('shows what an administrator looks for', () => {
  expect(keyName('certificates/www.example.com')).toBe('certificates+www.example.com')
  expect(keyName('certificates/%2A.example.com')).toBe('certificates+_252_41.example.com')
})

it('is safe for any key, also where case does not count, and can be turned back', () => {
  const seen = new Map<string, string>()
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (key) => {
      const name = keyName(key)
      expect(name).toMatch(/^[a-z0-9_+~][a-z0-9._+~-]*$|^$/)
      expect(name.length).toBeLessThanOrEqual(180)
      expect(seen.get(name) ?? key).toBe(key)
      seen.set(name, key)
      if (!isHashedName(name)) expect(nameKey(name)).toBe(key)
    }),
  )
})

it('recognises only names it made', () => {
  for (const name of ['UPPER', 'a b', '_zz', '_61', 'a_', '.hidden', '-x', 'a/b', '_ff', '~short']) {
    expect(nameKey(name), name).toBeUndefined()
  }
})
