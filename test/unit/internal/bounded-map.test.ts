import { describe, expect, it } from 'vitest'
import { boundedMap } from '../../../src/internal/bounded-map.js'

const { signal } = new AbortController()
const numbers = Array.from({ length: 100 }, (_, index) => index)

describe('boundedMap', () => {
  it('gives results in the order of the items, never more at once than the limit', async () => {
    let running = 0
    let most = 0
    const results = await boundedMap(numbers, 7, signal, async (number) => {
      running += 1
      most = Math.max(most, running)
      for (let turn = number % 3; turn >= 0; turn -= 1) await new Promise((resolve) => setImmediate(resolve))
      running -= 1
      return number * 2
    })
    expect(results).toEqual(numbers.map((number) => number * 2))
    expect(most).toBe(7)
  })

  it('takes no items, and fewer than the limit', async () => {
    expect(await boundedMap([], 7, signal, () => Promise.resolve(1))).toEqual([])
    expect(await boundedMap([1, 2], 7, signal, (number) => Promise.resolve(number))).toEqual([1, 2])
  })

  it('rejects with the first failure and begins nothing after it', async () => {
    const begun: number[] = []
    const failing = boundedMap(numbers, 4, signal, async (number) => {
      begun.push(number)
      await new Promise((resolve) => setImmediate(resolve))
      if (number >= 8) throw new Error(`failed at ${String(number)}`)
    })
    await expect(failing).rejects.toThrow('failed at 8')
    for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    expect(begun).toEqual(numbers.slice(0, 12))
  })

  it('begins nothing more after an abort, and throws its reason', async () => {
    const controller = new AbortController()
    const reason = new Error('stopped')
    const begun: number[] = []
    const aborted = boundedMap(numbers, 4, controller.signal, async (number) => {
      begun.push(number)
      if (number === 8) controller.abort(reason)
      await new Promise((resolve) => setImmediate(resolve))
    })
    await expect(aborted).rejects.toBe(reason)
    expect(Math.max(...begun)).toBeLessThan(12)
  })
})
