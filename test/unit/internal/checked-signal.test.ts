import { describe, expect, it } from 'vitest'
import { anySignal } from '../../../src/internal/any-signal.js'
import { checkedSignal, followedSignal } from '../../../src/internal/checked-signal.js'
import { withDeadline } from '../../../src/internal/deadline.js'
import { singleFlight } from '../../../src/internal/single-flight.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'

const lost = new Error('lost')

/** A signal that is to abort once `due` is set, and told by nobody. */
function checked(): { signal: AbortSignal; due: boolean; checks: number } {
  const controller = new AbortController()
  const state = {
    due: false,
    checks: 0,
    signal: checkedSignal(controller.signal, () => {
      state.checks += 1
      if (state.due) controller.abort(lost)
    }),
  }
  return state
}

describe('a checked signal', () => {
  it('looks before each answer, and tells its listeners', () => {
    const state = checked()
    const told: unknown[] = []
    state.signal.addEventListener('abort', () => told.push(state.signal.reason))
    expect(state.signal.aborted).toBe(false)
    expect(() => {
      state.signal.throwIfAborted()
    }).not.toThrow()
    expect(state.checks).toBe(2)
    expect(told).toEqual([])
    state.due = true
    expect(() => {
      state.signal.throwIfAborted()
    }).toThrow(lost)
    expect(state.signal.aborted).toBe(true)
    expect(told).toEqual([lost])
  })

  it('gives its reason to who asks for that first', () => {
    const state = checked()
    state.due = true
    expect(state.signal.reason).toBe(lost)
  })

  it('is a signal to everything that takes one', async () => {
    const state = checked()
    expect(state.signal).toBeInstanceOf(AbortSignal)
    state.due = true
    await expect(fetch('http://127.0.0.1:9/', { signal: state.signal })).rejects.toBe(lost)
    expect(AbortSignal.any([state.signal]).aborted).toBe(true)
  })
})

describe('signals made from a checked one', () => {
  it.each<[string, (signal: AbortSignal) => AbortSignal]>([
    ['anySignal', (signal) => anySignal(new AbortController().signal, signal).signal],
    ['anySignal twice', (signal) => anySignal(anySignal(signal).signal, new AbortController().signal).signal],
    [
      'followedSignal',
      (signal) => {
        const own = new AbortController()
        signal.addEventListener('abort', () => {
          own.abort(signal.reason)
        })
        return followedSignal(own.signal, signal)
      },
    ],
  ])('%s asks it', (_, make) => {
    const state = checked()
    const made = make(state.signal)
    expect(made.aborted).toBe(false)
    state.due = true
    expect(made.aborted).toBe(true)
    expect(made.reason).toBe(lost)
  })

  it('within deadlines and shared runs ask it, in the same turn', async () => {
    const state = checked()
    const clock = fakeClock()
    const flight = singleFlight()
    const answers: boolean[] = []
    const work = withDeadline({ clock, signal: state.signal, ms: 1000, onTimeout: () => new Error('late') }, (outer) =>
      flight(outer, async (shared) => {
        await Promise.resolve()
        answers.push(shared.aborted)
        state.due = true
        answers.push(shared.aborted)
      }),
    )
    await expect(work).rejects.toBe(lost)
    expect(answers).toEqual([false, true])
  })
})
