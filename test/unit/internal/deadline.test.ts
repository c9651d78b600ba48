import { getEventListeners } from 'node:events'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { allowManyListeners, withDeadline, type Deadline } from '../../../src/internal/deadline.js'
import { fakeClock, type FakeClock } from '../../../src/testing/fake-clock.js'

let clock: FakeClock
let caller: AbortController
const unhandled: unknown[] = []
const onUnhandled = (reason: unknown): void => {
  unhandled.push(reason)
}
const warnings: string[] = []
const onWarning = (warning: Error): void => {
  warnings.push(warning.name)
}

beforeEach(() => {
  clock = fakeClock()
  caller = new AbortController()
  process.on('unhandledRejection', onUnhandled)
  process.on('warning', onWarning)
})
afterEach(async () => {
  await turn()
  await turn()
  process.off('unhandledRejection', onUnhandled)
  process.off('warning', onWarning)
  expect(unhandled.splice(0)).toEqual([])
  expect(warnings.splice(0)).toEqual([])
  expect(getEventListeners(caller.signal, 'abort')).toEqual([])
  expect(clock.sleeping).toBe(0)
})

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const timedOut = new Error('timed out')
const deadline = (change: Partial<Deadline> = {}): Deadline => ({
  clock,
  signal: caller.signal,
  ms: 1000,
  onTimeout: () => timedOut,
  ...change,
})
const never = (): Promise<never> => new Promise(() => undefined)
/** The reason as it is: `rejects` of vitest insists on errors. */
const reasonOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'resolved',
    (reason: unknown) => reason,
  )

describe('withDeadline', () => {
  it('returns what the function returns, and forgets the deadline', async () => {
    let inner: AbortSignal | undefined
    const result = await withDeadline(deadline(), async (signal) => {
      inner = signal
      await clock.advance(999)
      return 'done'
    })
    expect(result).toBe('done')
    expect(clock.sleeping).toBe(0)
    await clock.advance(10_000)
    expect(inner?.aborted).toBe(false)
  })

  it('passes on what the function throws, at once or later', async () => {
    const failure = new Error('failed')
    expect(await reasonOf(withDeadline(deadline(), () => Promise.reject(failure)))).toBe(failure)
    expect(
      await reasonOf(
        withDeadline(deadline(), () => {
          throw failure
        }),
      ),
    ).toBe(failure)
  })

  it('takes a value for a promise, as a plug-in without types may return one', async () => {
    const run = (() => ({ status: 'deployed' })) as unknown as () => Promise<{ status: string }>
    expect(await withDeadline(deadline(), run)).toEqual({ status: 'deployed' })
    const nothing = (() => undefined) as unknown as () => Promise<unknown>
    expect(await withDeadline(deadline(), nothing)).toBeUndefined()
  })

  it('ends at the deadline, although the function hangs and ignores its signal', async () => {
    let asked = 0
    const onTimeout = (): Error => {
      asked += 1
      return timedOut
    }
    const work = reasonOf(withDeadline(deadline({ onTimeout }), never))
    await clock.advance(999)
    expect(asked).toBe(0)
    await clock.advance(1)
    expect(await work).toBe(timedOut)
    expect(asked).toBe(1)
  })

  it('aborts the signal of the function with the error of the deadline', async () => {
    let inner: AbortSignal | undefined
    const work = reasonOf(
      withDeadline(deadline(), (signal) => {
        inner = signal
        return never()
      }),
    )
    await clock.advance(1000)
    expect(await work).toBe(timedOut)
    expect(inner?.reason).toBe(timedOut)
    expect(caller.signal.aborted).toBe(false)
  })

  it.each([
    ['an error', new Error('stop')],
    ['a text', 'stop'],
    ['null', null],
    ['nothing', undefined],
  ])('passes the reason of the caller through as it is: %s', async (_, reason) => {
    let inner: AbortSignal | undefined
    const work = reasonOf(
      withDeadline(deadline(), (signal) => {
        inner = signal
        return never()
      }),
    )
    await turn()
    caller.abort(reason)
    expect(await work).toBe(caller.signal.reason)
    expect(inner?.reason).toBe(caller.signal.reason)
  })

  it('passes the reason through although the function wraps it', async () => {
    const work = reasonOf(
      withDeadline(
        deadline(),
        (signal) =>
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              reject(new Error('wrapped', { cause: signal.reason }))
            })
          }),
      ),
    )
    const stop = new Error('stop')
    caller.abort(stop)
    expect(await work).toBe(stop)
  })

  it('does not run when the signal is aborted already', async () => {
    let runs = 0
    const stop = new Error('stop')
    const run = async (): Promise<void> => {
      runs += 1
    }
    expect(await reasonOf(withDeadline(deadline({ signal: AbortSignal.abort(stop) }), run))).toBe(stop)
    expect(runs).toBe(0)
  })

  it.each(['deadline', 'abort'])('swallows the late failure of what lost against the %s', async (winner) => {
    let failLate: (error: Error) => void = () => undefined
    const work = reasonOf(
      withDeadline(
        deadline(),
        () =>
          new Promise((_, reject) => {
            failLate = reject
          }),
      ),
    )
    if (winner === 'deadline') await clock.advance(1000)
    else caller.abort(timedOut)
    expect(await work).toBe(timedOut)
    failLate(new Error('too late'))
    // afterEach looks for unhandled rejections.
    await turn()
  })

  it('does not abort what is done when the caller aborts afterwards', async () => {
    let inner: AbortSignal | undefined
    await withDeadline(deadline(), async (signal) => {
      inner = signal
    })
    caller.abort(new Error('stop'))
    expect(inner?.aborted).toBe(false)
  })

  it('leaves nothing on a signal that lives on, and lets Node warn of nothing', async () => {
    const outcomes = Array.from({ length: 50 }, (_, at) =>
      reasonOf(
        withDeadline(deadline({ ms: 1000 + at }), async (signal) => {
          await Promise.all(Array.from({ length: 20 }, () => clock.sleep(at % 2 === 0 ? 500 : 5000, { signal })))
        }),
      ),
    )
    expect(getEventListeners(caller.signal, 'abort')).toHaveLength(50)
    await clock.advance(2000)
    const reasons = await Promise.all(outcomes)
    expect(reasons.filter((reason) => reason === 'resolved')).toHaveLength(25)
    expect(reasons.filter((reason) => reason === timedOut)).toHaveLength(25)
    expect(getEventListeners(caller.signal, 'abort')).toHaveLength(0)
  })

  it('lets the inner of two deadlines win when it is the shorter one, and the outer when that is', async () => {
    const innerError = new Error('inner')
    const nested = (innerMs: number, outerMs: number): Promise<unknown> =>
      reasonOf(
        withDeadline(deadline({ ms: outerMs }), (signal) =>
          withDeadline(deadline({ signal, ms: innerMs, onTimeout: () => innerError }), never),
        ),
      )
    const outcomes = [nested(10, 20), nested(20, 10)]
    await clock.advance(30)
    expect(await Promise.all(outcomes)).toEqual([innerError, timedOut])
  })
})

it('accepts a signal that is not of this Node, as jsdom has one', () => {
  expect(() => {
    allowManyListeners({ aborted: false } as AbortSignal)
  }).not.toThrow()
})
