import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { whileAwake } from '../../../src/scheduler/while-awake.js'
import { stoppableClock } from '../../support/stoppable-clock.js'

const limitMs = 3_000

describe('whileAwake', () => {
  it('leaves alone what takes long', async () => {
    const clock = stoppableClock()
    const { signal } = new AbortController()
    const done = await whileAwake({ clock, signal, limitMs }, async (inner) => {
      await clock.advance(100 * limitMs)
      inner.throwIfAborted()
      return 'done'
    })
    expect(done).toBe('done')
    expect(clock.sleeping).toBe(0)
  })

  it.each([
    ['just short of the limit', limitMs - 1, false],
    ['as long as the limit', limitMs, true],
    ['for an hour', 3_600_000, true],
  ])('tells by the clock, before any timer, that the process stood still %s', async (_, ms, told) => {
    const clock = stoppableClock()
    const { signal } = new AbortController()
    const result = await whileAwake({ clock, signal, limitMs }, async (inner) => {
      clock.stop(ms)
      inner.throwIfAborted()
      return 'done'
    })
    expect(result).toBe(told ? undefined : 'done')
    expect(clock.sleeping).toBe(0)
  })

  it('tells who only listens as soon as a timer has its turn', async () => {
    const clock = stoppableClock()
    const { signal } = new AbortController()
    const result = whileAwake({ clock, signal, limitMs }, async (inner) => {
      await new Promise((_, reject) => {
        inner.addEventListener('abort', () => {
          reject(inner.reason as Error)
        })
      })
    })
    clock.stop(limitMs)
    await clock.advance(limitMs / 3)
    expect(await result).toBeUndefined()
  })

  it('leaves nothing on the signal of its caller, however it ends', async () => {
    const clock = stoppableClock()
    const caller = new AbortController()
    const { signal } = caller
    const ends: (() => void)[] = [
      () => undefined,
      () => {
        throw new Error('refused')
      },
      () => {
        clock.stop(limitMs)
      },
      () => {
        caller.abort(new Error('stopped'))
      },
    ]
    for (const end of ends) {
      const run = whileAwake({ clock, signal, limitMs }, async (inner) => {
        expect(getEventListeners(signal, 'abort')).toHaveLength(1)
        end()
        inner.throwIfAborted()
      })
      await run.catch(() => undefined)
      expect(getEventListeners(signal, 'abort')).toEqual([])
    }
    expect(signal.aborted).toBe(true)
  })

  it('passes on the reason of its caller, and what goes wrong otherwise', async () => {
    const clock = stoppableClock()
    const caller = new AbortController()
    const failure = new Error('refused')
    const { signal } = caller
    await expect(whileAwake({ clock, signal, limitMs }, () => Promise.reject(failure))).rejects.toBe(failure)
    const stopped = new Error('stopped')
    const run = whileAwake({ clock, signal, limitMs }, async (inner) => {
      caller.abort(stopped)
      inner.throwIfAborted()
    })
    await expect(run).rejects.toBe(stopped)
  })
})
