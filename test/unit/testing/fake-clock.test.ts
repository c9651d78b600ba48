import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { systemClock, type SleepOptions } from '../../../src/core/clock.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'

const start = Date.UTC(2026, 0, 1)

/** Sleeps, and notes who woke and when. */
function sleepers(clock = fakeClock()) {
  const woken: [name: string, after: number][] = []
  return {
    clock,
    woken,
    sleep: async (name: string, ms: number, options?: SleepOptions): Promise<void> => {
      await clock.sleep(ms, options)
      woken.push([name, clock.now() - start])
    },
  }
}

describe('fakeClock', () => {
  it('begins with 2026, or where it is told to, and stands still', async () => {
    expect(fakeClock().now()).toBe(start)
    expect(fakeClock({ now: 5 }).now()).toBe(5)
    const clock = fakeClock({ now: new Date(start + 7) })
    await new Promise((resolve) => setImmediate(resolve))
    expect(clock.now()).toBe(start + 7)
  })

  it('wakes whoever is due in order, each at its own time', async () => {
    const { clock, woken, sleep } = sleepers()
    void Promise.all([sleep('c', 300), sleep('a', 100), sleep('b', 200), sleep('b2', 200), sleep('late', 301)])
    await clock.advance(300)
    expect(woken).toEqual([
      ['a', 100],
      ['b', 200],
      ['b2', 200],
      ['c', 300],
    ])
    expect(clock.sleeping).toBe(1)
    expect(clock.now()).toBe(start + 300)
    await clock.advance(1)
    expect(clock.sleeping).toBe(0)
  })

  it('wakes those who go to sleep again within the same step', async () => {
    const { clock, woken, sleep } = sleepers()
    void (async () => {
      for (let round = 1; round <= 5; round += 1) await sleep(`round ${String(round)}`, 100)
    })()
    await clock.advance(450)
    expect(woken.map(([, after]) => after)).toEqual([100, 200, 300, 400])
    expect(clock.now()).toBe(start + 450)
  })

  it('goes to an instant', async () => {
    const { clock, woken, sleep } = sleepers()
    void sleep('a', 1000)
    await clock.setTime(new Date(start + 1000))
    expect(woken).toEqual([['a', 1000]])
    await clock.setTime(start + 5000)
    expect(clock.now()).toBe(start + 5000)
  })

  it('goes backwards, when nobody wakes and everybody sleeps on as long as before', async () => {
    const { clock, woken, sleep } = sleepers()
    void sleep('a', 1000)
    await clock.setTime(start - 5000)
    expect(clock.now()).toBe(start - 5000)
    await clock.advance(999)
    expect(woken).toEqual([])
    await clock.advance(1)
    expect(woken).toEqual([['a', -4000]])
  })

  it.each(['an error', undefined, null])('rejects with the reason of the signal as it is: %s', async (reason) => {
    const clock = fakeClock()
    const controller = new AbortController()
    const before = clock.sleep(10, { signal: controller.signal }).catch((caught: unknown) => [caught])
    expect(clock.sleeping).toBe(1)
    controller.abort(reason)
    expect(clock.sleeping).toBe(0)
    const after = clock.sleep(10, { signal: controller.signal }).catch((caught: unknown) => [caught])
    expect(await before).toEqual([controller.signal.reason])
    expect(await after).toEqual([controller.signal.reason])
    expect(clock.sleeping).toBe(0)
  })

  it('leaves no listener on a signal that lives on', async () => {
    const clock = fakeClock()
    const { signal } = new AbortController()
    const waits = [clock.sleep(1, { signal }), clock.sleep(2, { signal })]
    await clock.advance(2)
    await Promise.all(waits)
    expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  it('is as strict about NaN as the clock of the machine', async () => {
    for (const clock of [fakeClock(), fakeClock({ autoAdvance: true }), systemClock]) {
      await expect(clock.sleep(Number.NaN)).rejects.toThrow(TypeError)
    }
  })
})

describe('fakeClock that advances by itself', () => {
  it('ends ordinary waits without being told, and moves on as far as they asked', async () => {
    const { clock, woken, sleep } = sleepers(fakeClock({ autoAdvance: true }))
    await sleep('a', 3_600_000)
    await sleep('b', 0)
    await sleep('c', 86_400_000)
    expect(woken.map(([, after]) => after)).toEqual([3_600_000, 3_600_000, 90_000_000])
    expect(clock.sleeping).toBe(0)
  })

  it('ends waits that run side by side in the order of their instants', async () => {
    const { woken, sleep } = sleepers(fakeClock({ autoAdvance: true }))
    const twice = async (): Promise<void> => {
      await sleep('first half', 100)
      await sleep('second half', 100)
    }
    await Promise.all([sleep('long', 1000), sleep('short', 10), twice()])
    expect(woken).toEqual([
      ['short', 10],
      ['first half', 100],
      ['second half', 200],
      ['long', 1000],
    ])
  })

  it('ends no deadline and no background wait, however far it goes', async () => {
    const { clock, woken, sleep } = sleepers(fakeClock({ autoAdvance: true }))
    void sleep('deadline', 10, { deadline: true })
    void sleep('background', 20, { background: true })
    await sleep('work', 1000)
    expect(woken).toEqual([['work', 1000]])
    expect(clock.sleeping).toBe(2)
    await clock.advance(0)
    expect(woken.map(([name]) => name)).toEqual(['work', 'deadline', 'background'])
  })

  it('is not confused by a wait that was aborted', async () => {
    const { clock, woken, sleep } = sleepers(fakeClock({ autoAdvance: true }))
    const controller = new AbortController()
    const aborted = sleep('aborted', 5, { signal: controller.signal }).catch(() => undefined)
    const other = sleep('other', 100)
    controller.abort()
    await Promise.all([aborted, other])
    expect(woken).toEqual([['other', 100]])
    expect(clock.sleeping).toBe(0)
  })
})
