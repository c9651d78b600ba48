import { getEventListeners } from 'node:events'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sharedDeadline, type WaitInTime } from '../../../src/internal/shared-deadline.js'
import { fakeClock, type FakeClock } from '../../../src/testing/fake-clock.js'

let clock: FakeClock
let caller: AbortController
let inTime: WaitInTime
/** What was slept. */
let sleeps: number

beforeEach(() => {
  const fake = fakeClock()
  sleeps = 0
  clock = Object.create(fake, {
    sleep: {
      value: (...args: Parameters<FakeClock['sleep']>) => {
        sleeps += 1
        return fake.sleep(...args)
      },
    },
  }) as FakeClock
  caller = new AbortController()
  inTime = sharedDeadline({ clock, ms: 1000 })
})
afterEach(async () => {
  await turn()
  await turn()
  expect(getEventListeners(caller.signal, 'abort')).toEqual([])
  expect(clock.sleeping).toBe(0)
})

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const never = (): Promise<never> => new Promise(() => undefined)
const late = (name: string) => (): Error => new Error(`${name} is late`)
/** The reason as it is: `rejects` of vitest insists on errors. */
const outcomeOf = (work: Promise<unknown>): Promise<unknown> => work.catch((reason: unknown) => reason)

/** Work that ends when it is told to. */
function pending(): { readonly work: Promise<string>; end(result: string): void; fail(error: unknown): void } {
  let end!: (result: string) => void
  let fail!: (error: unknown) => void
  const work = new Promise<string>((resolve, reject) => {
    end = resolve
    fail = reject
  })
  return { work, end, fail }
}

describe('sharedDeadline', () => {
  it('passes on what comes of the work, and sleeps for nothing that ends in its turn', async () => {
    expect(await inTime(Promise.resolve('done'), caller.signal, late('it'))).toBe('done')
    const failure = new Error('away')
    expect(await outcomeOf(inTime(Promise.reject(failure), caller.signal, late('it')))).toBe(failure)
    expect(await inTime('no promise' as never, caller.signal, late('it'))).toBe('no promise')
    await turn()
    expect(sleeps).toBe(0)
  })

  it('sleeps once for all that begins in one turn, and only as long as one of them is under way', async () => {
    const works = Array.from({ length: 1000 }, pending)
    const outcomes = works.map(({ work }) => outcomeOf(inTime(work, caller.signal, late('it'))))
    await turn()
    expect([sleeps, clock.sleeping, getEventListeners(caller.signal, 'abort').length]).toEqual([1, 1, 1])
    for (const [index, { end, fail }] of works.entries()) (index % 2 === 0 ? end : fail)(String(index))
    expect(await Promise.all(outcomes)).toEqual(works.map((_, index) => String(index)))
    await turn()
    expect(clock.sleeping).toBe(0)
  })

  it('gives each its own time, and its own error', async () => {
    const first = outcomeOf(inTime(never(), caller.signal, late('the first')))
    const ending = pending()
    const ended = inTime(ending.work, caller.signal, late('what ended'))
    await clock.advance(400)
    const second = outcomeOf(inTime(never(), caller.signal, late('the second')))
    await clock.advance(599)
    ending.end('done')
    expect(await ended).toBe('done')
    expect(await Promise.race([first, Promise.resolve('under way')])).toBe('under way')
    await clock.advance(1)
    expect(await first).toEqual(new Error('the first is late'))
    await clock.advance(399)
    expect(await Promise.race([second, Promise.resolve('under way')])).toBe('under way')
    await clock.advance(1)
    expect(await second).toEqual(new Error('the second is late'))
  })

  it.each([
    ['before the turn ends', 0],
    ['while it waits', 1],
  ])('ends with the reason of a signal that aborts %s, for all that wait under it', async (_, turns) => {
    const other = new AbortController()
    const works = [1, 2].map(() => outcomeOf(inTime(never(), caller.signal, late('it'))))
    const staying = outcomeOf(inTime(never(), other.signal, late('the other')))
    for (let at = 0; at < turns; at += 1) await turn()
    caller.abort('no longer wanted')
    expect(await Promise.all(works)).toEqual(['no longer wanted', 'no longer wanted'])
    expect(await Promise.race([staying, Promise.resolve('under way')])).toBe('under way')
    await clock.advance(1000)
    expect(await staying).toEqual(new Error('the other is late'))
  })
})
