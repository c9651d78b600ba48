import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { anySignal } from '../../../src/internal/any-signal.js'
import { checkedSignal } from '../../../src/internal/checked-signal.js'
import { allowManyListeners } from '../../../src/internal/deadline.js'

const first = new Error('first')
const second = new Error('second')

function listenersOf(...signals: readonly AbortSignal[]): number[] {
  return signals.map((signal) => getEventListeners(signal, 'abort').length)
}

/** A signal that aborts when it is asked for the `nth` time. */
function abortingAt(nth: number): { signal: AbortSignal; asked: number } {
  const controller = new AbortController()
  const state = {
    asked: 0,
    signal: checkedSignal(controller.signal, () => {
      state.asked += 1
      if (state.asked === nth) controller.abort(first)
    }),
  }
  return state
}

describe('one signal for several', () => {
  it('asks each once more when it is nested, however deep, and none once it is over', () => {
    const source = abortingAt(2)
    let signal = source.signal
    for (let depth = 0; depth < 12; depth += 1) signal = anySignal(signal, new AbortController().signal).signal
    source.asked = 1
    expect(signal.aborted).toBe(true)
    expect(source.asked).toBeLessThan(50)
    source.asked = 0
    expect(signal.reason).toBe(first)
    expect(source.asked).toBe(0)
  })

  it('is aborted from the beginning when one of them is, with the reason of the first in order', () => {
    const [one, two, three] = [new AbortController(), AbortSignal.abort(first), AbortSignal.abort(second)]
    const { signal } = anySignal(one.signal, two, three)
    // Already before anybody asks.
    expect(Reflect.get(AbortSignal.prototype, 'aborted', signal)).toBe(true)
    expect(signal.aborted).toBe(true)
    expect(signal.reason).toBe(first)
    expect(() => {
      signal.throwIfAborted()
    }).toThrow(first)
    expect(listenersOf(one.signal, two, three)).toEqual([0, 0, 0])
  })

  it('aborts with whichever is first, once, and tells its listeners then', () => {
    const [one, two] = [new AbortController(), new AbortController()]
    const { signal } = anySignal(one.signal, two.signal)
    const told: unknown[] = []
    signal.addEventListener('abort', () => told.push(signal.reason))
    expect(signal.aborted).toBe(false)
    expect(signal.reason).toBeUndefined()
    signal.throwIfAborted()
    two.abort(second)
    expect(told).toEqual([second])
    one.abort(first)
    expect(signal.reason).toBe(second)
    expect(told).toEqual([second])
    expect(listenersOf(one.signal, two.signal)).toEqual([0, 0])
  })

  it.each([null, 0, '', 'text', { code: 'x' }])('passes on the reason %j as it is', (reason) => {
    const controller = new AbortController()
    const { signal } = anySignal(controller.signal)
    controller.abort(reason)
    expect(signal.reason).toBe(reason)
    expect(anySignal(controller.signal).signal.reason).toBe(reason)
  })

  it('passes on the reason of an abort without one', () => {
    const controller = new AbortController()
    const { signal } = anySignal(anySignal(controller.signal).signal)
    controller.abort()
    expect(signal.reason).toBe(controller.signal.reason)
  })

  it('hears of an abort that asking another of them brings about', () => {
    const controller = new AbortController()
    const asked = checkedSignal(new AbortController().signal, () => {
      controller.abort(first)
    })
    const told: unknown[] = []
    const composite = anySignal(controller.signal, asked)
    expect(composite.signal.reason).toBe(first)
    expect(told).toEqual([])
    expect(listenersOf(controller.signal, asked)).toEqual([0, 0])
  })

  it('is not stopped by a listener that asks it, or ends it', () => {
    const controller = new AbortController()
    const composite = anySignal(controller.signal)
    const told: unknown[] = []
    composite.signal.addEventListener('abort', () => {
      composite.end()
      told.push(composite.signal.aborted, composite.signal.reason)
    })
    controller.abort(first)
    expect(told).toEqual([true, first])
  })

  it('does not listen after its end, but tells the truth when asked', () => {
    const [one, two] = [new AbortController(), new AbortController()]
    const { signal, end } = anySignal(one.signal, two.signal)
    const told: unknown[] = []
    signal.addEventListener('abort', () => told.push(signal.reason))
    expect(listenersOf(one.signal, two.signal)).toEqual([1, 1])
    end()
    end()
    expect(listenersOf(one.signal, two.signal)).toEqual([0, 0])
    expect(signal.aborted).toBe(false)
    two.abort(second)
    expect(told).toEqual([])
    expect(signal.aborted).toBe(true)
    expect(signal.reason).toBe(second)
    expect(told).toEqual([second])
  })

  it('may follow one signal twice', () => {
    const controller = new AbortController()
    const { signal, end } = anySignal(controller.signal, controller.signal)
    expect(signal.aborted).toBe(false)
    end()
    expect(listenersOf(controller.signal)).toEqual([0])
  })

  it('leaves nothing behind on a signal that outlives ten thousand of them', () => {
    const scheduler = new AbortController()
    allowManyListeners(scheduler.signal)
    // Node 20 and 22 keep what depends on a signal under a key of their own.
    const before = Reflect.ownKeys(scheduler.signal)
    let most = 0
    for (let made = 0; made < 10_000; made += 1) {
      const ended = new AbortController()
      const outer = anySignal(scheduler.signal, new AbortController().signal)
      const inner = anySignal(outer.signal, ended.signal)
      if (made % 2 === 0) ended.abort(first)
      else inner.end()
      outer.end()
      most = Math.max(most, ...listenersOf(scheduler.signal, outer.signal, ended.signal))
    }
    expect(most).toBe(0)
    expect(Reflect.ownKeys(scheduler.signal)).toEqual(before)
  })

  it('warns of no leak, however many there are at a time or listen', async () => {
    const warnings: unknown[] = []
    const warned = (warning: unknown): void => void warnings.push(warning)
    process.on('warning', warned)
    try {
      const controller = new AbortController()
      const composites = Array.from({ length: 100 }, () => anySignal(controller.signal))
      for (const { signal } of composites) composites[0]?.signal.addEventListener('abort', () => signal.aborted)
      expect(listenersOf(controller.signal)).toEqual([100])
      for (const { end } of composites) end()
      expect(listenersOf(controller.signal)).toEqual([0])
      await new Promise((resolve) => setImmediate(resolve))
    } finally {
      process.off('warning', warned)
    }
    expect(warnings).toEqual([])
  })

  // `AbortSignal.any` asks several times and asserts that the answers agree.
  it('takes a lease that ends between any two of its questions', () => {
    for (let nth = 1; ; nth += 1) {
      const lease = abortingAt(nth)
      const other = new AbortController()
      const outer = anySignal(other.signal, lease.signal)
      const inner = anySignal(outer.signal, other.signal)
      const { aborted } = inner.signal
      if (lease.asked < nth) {
        expect(aborted).toBe(false)
        expect(nth).toBeGreaterThan(3)
        return
      }
      expect(aborted).toBe(true)
      expect(inner.signal.reason).toBe(first)
      expect(listenersOf(lease.signal, other.signal, outer.signal)).toEqual([0, 0, 0])
    }
  })
})
