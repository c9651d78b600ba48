import { describe, expect, it } from 'vitest'
import { tokenBucket } from '../../../../src/solvers/route53/token-bucket.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'

const { signal } = new AbortController()

describe('tokenBucket', () => {
  it('lets a burst through, then as many as come back', async () => {
    const clock = fakeClock({ autoAdvance: true })
    const start = clock.now()
    const bucket = tokenBucket({ capacity: 5, perSecond: 5 })
    const times: number[] = []
    for (let index = 0; index < 15; index += 1) {
      await bucket.take(1, { clock, signal })
      times.push(clock.now() - start)
    }
    expect(times.slice(0, 5)).toEqual([0, 0, 0, 0, 0])
    expect(times.slice(5)).toEqual([200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000])
  })

  it('serves in the order of arrival, and never faster than its rate', async () => {
    const clock = fakeClock({ autoAdvance: true })
    const start = clock.now()
    const bucket = tokenBucket({ capacity: 10, perSecond: 10 })
    const done: string[] = []
    const take = async (name: string, count: number): Promise<void> => {
      await bucket.take(count, { clock, signal })
      done.push(`${name} at ${String(clock.now() - start)}`)
    }
    await Promise.all([take('a', 10), take('b', 10), take('c', 5)])
    expect(done).toEqual(['a at 0', 'b at 1000', 'c at 1500'])
  })

  it('lets more through than it holds, and has it paid off', async () => {
    const clock = fakeClock({ autoAdvance: true })
    const start = clock.now()
    const bucket = tokenBucket({ capacity: 10, perSecond: 10 })
    await bucket.take(100, { clock, signal })
    expect(clock.now() - start).toBe(0)
    await bucket.take(1, { clock, signal })
    expect(clock.now() - start).toBe(9100)
  })

  it('holds back once it is told that there is nothing left', async () => {
    const clock = fakeClock({ autoAdvance: true })
    const start = clock.now()
    const bucket = tokenBucket({ capacity: 5, perSecond: 5 })
    bucket.drain(clock)
    await bucket.take(1, { clock, signal })
    expect(clock.now() - start).toBe(200)
  })

  it('gives back what an aborted wait had taken, and passes on the reason', async () => {
    const clock = fakeClock()
    const bucket = tokenBucket({ capacity: 1, perSecond: 1 })
    await bucket.take(1, { clock, signal })
    const controller = new AbortController()
    const reason = new Error('stop')
    const waiting = bucket.take(1, { clock, signal: controller.signal })
    controller.abort(reason)
    await expect(waiting).rejects.toBe(reason)
    await clock.advance(1000)
    await bucket.take(1, { clock, signal })
    await expect(bucket.take(1, { clock, signal: controller.signal })).rejects.toBe(reason)
  })

  it('does not mind a clock that steps back', async () => {
    const clock = fakeClock({ autoAdvance: true })
    const bucket = tokenBucket({ capacity: 1, perSecond: 1 })
    await bucket.take(1, { clock, signal })
    await clock.setTime(clock.now() - 3_600_000)
    const stepped = clock.now()
    await bucket.take(1, { clock, signal })
    expect(clock.now() - stepped).toBe(1000)
  })
})
