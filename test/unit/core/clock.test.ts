import { execFileSync } from 'node:child_process'
import { getEventListeners } from 'node:events'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../../src/core/clock.js'

const day = 86_400_000
const start = Date.UTC(2026, 0, 1)

// vitest's timers stand in for the machine's: what is tested is what systemClock makes of them.
beforeEach(() => {
  vi.useFakeTimers({ now: start, toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
})
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

/** Whether a wait has ended, without waiting for it. */
function watch(wait: Promise<void>): { readonly state: () => string } {
  let state = 'waiting'
  wait.then(
    () => (state = 'over'),
    (reason: unknown) => (state = `rejected: ${String(reason)}`),
  )
  return { state: () => state }
}

describe('systemClock', () => {
  it('tells the time of the machine', () => {
    expect(systemClock.now()).toBe(start)
    vi.setSystemTime(start + day)
    expect(systemClock.now()).toBe(start + day)
  })

  it.each([1, 999, 60_000, 60_001, 3_600_000])('sleeps %d ms, not less and not more', async (ms) => {
    const { state } = watch(systemClock.sleep(ms))
    await vi.advanceTimersByTimeAsync(ms - 1)
    expect(state()).toBe('waiting')
    await vi.advanceTimersByTimeAsync(1)
    expect(state()).toBe('over')
    expect(vi.getTimerCount()).toBe(0)
  })

  it.each([0, -1, -Infinity])('does not wait for %d ms', async (ms) => {
    await systemClock.sleep(ms)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('refuses NaN, which would spin', async () => {
    await expect(systemClock.sleep(Number.NaN)).rejects.toThrow(TypeError)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('sleeps more than 2^31 ms: no timer is longer than a minute', async () => {
    const timers = vi.spyOn(globalThis, 'setTimeout')
    const ms = 2 ** 31 + day
    const { state } = watch(systemClock.sleep(ms))
    await vi.advanceTimersByTimeAsync(ms - 1)
    expect(state()).toBe('waiting')
    await vi.advanceTimersByTimeAsync(1)
    expect(state()).toBe('over')
    expect(timers.mock.calls.filter(([, delay]) => delay === undefined || delay > 60_000)).toEqual([])
  }, 60_000)

  it.each([Infinity, Number.MAX_VALUE])('sleeps %d ms until it is aborted', async (ms) => {
    const controller = new AbortController()
    const { state } = watch(systemClock.sleep(ms, { signal: controller.signal }))
    await vi.advanceTimersByTimeAsync(day)
    expect(state()).toBe('waiting')
    controller.abort('enough')
    await vi.advanceTimersByTimeAsync(0)
    expect(state()).toBe('rejected: enough')
    expect(vi.getTimerCount()).toBe(0)
  })

  it('wakes within a minute of a jump of the wall clock beyond the end, as after a suspend', async () => {
    const { state } = watch(systemClock.sleep(10 * day))
    await vi.advanceTimersByTimeAsync(30_000)
    const now = vi.spyOn(Date, 'now').mockReturnValue(start + 11 * day)
    await vi.advanceTimersByTimeAsync(29_999)
    expect(state()).toBe('waiting')
    await vi.advanceTimersByTimeAsync(1)
    expect(state()).toBe('over')
    expect(now).toHaveBeenCalled()
  })

  it('sleeps the rest when the wall clock jumps forward, but not to the end', async () => {
    const { state } = watch(systemClock.sleep(10 * day))
    await vi.advanceTimersByTimeAsync(60_000)
    vi.setSystemTime(start + 10 * day - 90_000)
    await vi.advanceTimersByTimeAsync(89_000)
    expect(state()).toBe('waiting')
    await vi.advanceTimersByTimeAsync(60_000)
    expect(state()).toBe('over')
  })

  it.each([-3_600_000, -400 * day])('is not kept from waking by a wall clock that steps by %d ms', async (step) => {
    const { state } = watch(systemClock.sleep(180_000))
    await vi.advanceTimersByTimeAsync(60_000)
    vi.setSystemTime(start + step)
    await vi.advanceTimersByTimeAsync(119_999)
    expect(state()).toBe('waiting')
    await vi.advanceTimersByTimeAsync(1)
    expect(state()).toBe('over')
  })

  it.each([
    ['an error', new Error('stop')],
    ['a text', 'stop'],
    ['undefined', undefined],
    ['null', null],
  ])('rejects with the reason of the signal as it is: %s', async (_, reason) => {
    const controller = new AbortController()
    const before = systemClock.sleep(day, { signal: controller.signal }).catch((caught: unknown) => ({ caught }))
    controller.abort(reason)
    const after = systemClock.sleep(day, { signal: controller.signal }).catch((caught: unknown) => ({ caught }))
    for (const outcome of [await before, await after]) {
      expect((outcome as { caught: unknown }).caught).toBe(controller.signal.reason)
    }
    expect(vi.getTimerCount()).toBe(0)
  })

  it('rejects at once, even for no time at all, when the signal is aborted already', async () => {
    await expect(systemClock.sleep(0, { signal: AbortSignal.abort('gone') })).rejects.toBe('gone')
  })

  it('leaves no listener on a signal that lives on', async () => {
    const { signal } = new AbortController()
    const waits = Array.from({ length: 10 }, (_, at) => systemClock.sleep(at * 1000, { signal }))
    expect(getEventListeners(signal, 'abort')).toHaveLength(9)
    await vi.advanceTimersByTimeAsync(20_000)
    await Promise.all(waits)
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  })

  it('does nothing when the signal aborts after the end', async () => {
    const controller = new AbortController()
    const wait = systemClock.sleep(1000, { signal: controller.signal })
    await vi.advanceTimersByTimeAsync(1000)
    controller.abort()
    await expect(wait).resolves.toBeUndefined()
  })
})

describe('systemClock and the life of the process', () => {
  const script = (options: string): string => `
    import { systemClock } from ${JSON.stringify(new URL('../../../src/core/clock.ts', import.meta.url).href)}
    systemClock.sleep(300, ${options}).then(() => console.log('over'))`
  // A process of its own, with real timers: that it ends, and when, is the point.
  const run = (options: string): string =>
    execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script(options)], {
      encoding: 'utf8',
      timeout: 30_000,
    })

  it('keeps the process alive in the middle of an operation', () => {
    expect(run('{}')).toBe('over\n')
  }, 30_000)

  it('lets the process end during a wait in the background', () => {
    expect(run('{ background: true }')).toBe('')
  }, 30_000)
})
