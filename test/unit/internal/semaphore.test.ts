import { getEventListeners } from 'node:events'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Semaphore } from '../../../src/internal/semaphore.js'

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Tasks that end when told to. */
function tasks(semaphore: Semaphore) {
  const running = new Map<string, { end(): void; fail(error: Error): void }>()
  const started: string[] = []
  return {
    running,
    started,
    run: (name: string, signal?: AbortSignal): Promise<string> =>
      semaphore.run(
        () =>
          new Promise((resolve, reject) => {
            started.push(name)
            const leave = (): boolean => running.delete(name)
            running.set(name, {
              end: () => {
                leave()
                resolve(name)
              },
              fail: (error) => {
                leave()
                reject(error)
              },
            })
          }),
        signal,
      ),
  }
}

describe('Semaphore', () => {
  it('runs as many as there is room for, and the others in order', async () => {
    const { run, running, started } = tasks(new Semaphore(2))
    const all = ['a', 'b', 'c', 'd'].map((name) => run(name))
    expect(started).toEqual(['a', 'b'])
    running.get('b')?.end()
    await turn()
    expect(started).toEqual(['a', 'b', 'c'])
    running.get('a')?.end()
    running.get('c')?.end()
    await turn()
    expect(started).toEqual(['a', 'b', 'c', 'd'])
    running.get('d')?.end()
    expect(await Promise.all(all)).toEqual(['a', 'b', 'c', 'd'])
  })

  it('makes room when a task fails, at once or later', async () => {
    const semaphore = new Semaphore(1)
    const { run, running, started } = tasks(semaphore)
    const failing = run('a')
    const next = run('b')
    running.get('a')?.fail(new Error('failed'))
    await expect(failing).rejects.toThrow('failed')
    const throwing = semaphore.run(() => {
      throw new Error('thrown')
    })
    await turn()
    expect(started).toEqual(['a', 'b'])
    running.get('b')?.end()
    await next
    await expect(throwing).rejects.toThrow('thrown')
    expect(await semaphore.run(async () => 'room')).toBe('room')
  })

  it('stops waiting at once when the signal aborts, and keeps nobody else from running', async () => {
    const { run, running, started } = tasks(new Semaphore(1))
    const controller = new AbortController()
    const first = run('a')
    const second = run('b', controller.signal)
    const third = run('c')
    controller.abort('enough')
    // The task that holds the place is still running.
    await expect(second).rejects.toBe('enough')
    running.get('a')?.end()
    await first
    await turn()
    expect(started).toEqual(['a', 'c'])
    running.get('c')?.end()
    await third
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
  })

  it('does not run a task that is aborted between its turn and its start', async () => {
    const semaphore = new Semaphore(1)
    const { run, running, started } = tasks(semaphore)
    const controller = new AbortController()
    const { signal } = controller
    // Handing the place over takes the listener off: that is the moment.
    signal.removeEventListener = (...parameters: Parameters<AbortSignal['removeEventListener']>) => {
      EventTarget.prototype.removeEventListener.apply(signal, parameters)
      controller.abort('enough')
    }
    const first = run('a')
    const second = run('b', signal)
    running.get('a')?.end()
    await expect(second).rejects.toBe('enough')
    await first
    expect(started).toEqual(['a'])
    expect(await semaphore.run(async () => 'room')).toBe('room')
  })

  it('takes no place for a signal that is aborted already', async () => {
    const semaphore = new Semaphore(1)
    const { run, started } = tasks(semaphore)
    await expect(run('a', AbortSignal.abort('gone'))).rejects.toBe('gone')
    expect(started).toEqual([])
    expect(await semaphore.run(async () => 'room')).toBe('room')
  })

  it('leaves no listener on a signal that many tasks wait with, and lets Node warn of nothing', async () => {
    const warnings: string[] = []
    const onWarning = (warning: Error): void => {
      warnings.push(warning.name)
    }
    process.on('warning', onWarning)
    const { signal } = new AbortController()
    const semaphore = new Semaphore(3)
    await Promise.all(Array.from({ length: 100 }, () => semaphore.run(turn, signal)))
    await turn()
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  })

  it('never exceeds its limit and never loses a place, whatever fails or is aborted', async () => {
    const plan = fc.record({
      limit: fc.integer({ min: 1, max: 4 }),
      jobs: fc.array(
        fc.record({
          turns: fc.integer({ min: 0, max: 4 }),
          fails: fc.boolean(),
          abortAt: fc.option(fc.integer({ min: 0, max: 6 })),
        }),
        { maxLength: 15 },
      ),
    })
    await fc.assert(
      fc.asyncProperty(plan, async ({ limit, jobs }) => {
        const semaphore = new Semaphore(limit)
        let running = 0
        const settled = await Promise.allSettled(
          jobs.map(async ({ turns, fails, abortAt }) => {
            const controller = new AbortController()
            const aborting = (async () => {
              for (let left = abortAt ?? 0; left > 0; left -= 1) await turn()
              if (abortAt !== null) controller.abort('aborted')
            })()
            try {
              await semaphore.run(async () => {
                running += 1
                expect(running).toBeLessThanOrEqual(limit)
                for (let left = turns; left > 0; left -= 1) await turn()
                running -= 1
                if (fails) throw new Error('failed')
              }, controller.signal)
            } finally {
              await aborting
            }
          }),
        )
        expect(settled).toHaveLength(jobs.length)
        expect(running).toBe(0)
        const free = Array.from({ length: limit }, () => semaphore.run(async () => (running += 1)))
        expect(running).toBe(limit)
        await Promise.all(free)
      }),
      { numRuns: 300 },
    )
  })
})
