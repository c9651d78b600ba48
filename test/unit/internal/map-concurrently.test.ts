import { describe, expect, it } from 'vitest'
import { mapConcurrently } from '../../../src/internal/map-concurrently.js'

const numbers = Array.from({ length: 100 }, (_, index) => index)

describe('mapConcurrently', () => {
  it('gives results in the order of the items, never more at once than the limit', async () => {
    let running = 0
    let most = 0
    const results = await mapConcurrently(numbers, 7, async (number) => {
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
    expect(await mapConcurrently([], 7, () => Promise.resolve(1))).toEqual([])
    expect(await mapConcurrently([1, 2], 7, (number) => Promise.resolve(number))).toEqual([1, 2])
  })

  it('rejects with the first failure and begins nothing after it', async () => {
    const begun: number[] = []
    const failing = mapConcurrently(numbers, 4, async (number) => {
      begun.push(number)
      await new Promise((resolve) => setImmediate(resolve))
      if (number >= 8) throw new Error(`failed at ${String(number)}`)
    })
    await expect(failing).rejects.toThrow('failed at 8')
    for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    expect(begun).toEqual(numbers.slice(0, 12))
  })

  it('lets the event loop have its turn when tasks never wait', async () => {
    let turns = 0
    let done = false
    const turn = (): void => {
      turns += 1
      if (!done) setImmediate(turn)
    }
    setImmediate(turn)
    await mapConcurrently(numbers, 10, () => Promise.resolve())
    done = true
    expect(turns).toBeGreaterThanOrEqual(9)
  })
})
