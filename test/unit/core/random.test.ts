import { expect, it } from 'vitest'
import { systemRandom } from '../../../src/core/random.js'

it('is uniform in [0, 1), as far as a thousand numbers show', () => {
  const numbers = Array.from({ length: 1000 }, systemRandom)
  expect(numbers.every((number) => number >= 0 && number < 1)).toBe(true)
  expect(new Set(numbers).size).toBeGreaterThan(990)
  expect(numbers.filter((number) => number < 0.5).length).toBeGreaterThan(350)
  expect(numbers.filter((number) => number >= 0.5).length).toBeGreaterThan(350)
})
