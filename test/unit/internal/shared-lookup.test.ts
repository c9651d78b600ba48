import { describe, expect, it } from 'vitest'
import { sharedLookup } from '../../../src/internal/shared-lookup.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'

function scene() {
  const clock = fakeClock()
  const context = operationContext({ clock })
  const lookup = sharedLookup<string>({ lifetimeMs: 1_000, mostEntries: 2 })
  const runs: string[] = []
  const find = (key: string, found: string | Error = `${key}!`): Promise<string> =>
    lookup(key, context, async () => {
      runs.push(key)
      if (found instanceof Error) throw found
      return found
    })
  return { clock, context, lookup, runs, find }
}

describe('sharedLookup', () => {
  it('looks once for all who ask at the same time, or shortly after', async () => {
    const { clock, runs, find } = scene()
    expect(await Promise.all([find('a'), find('a'), find('b')])).toEqual(['a!', 'a!', 'b!'])
    await clock.advance(999)
    expect(await find('a')).toBe('a!')
    expect(runs).toEqual(['a', 'b'])
    await clock.advance(1)
    await find('a')
    expect(runs).toEqual(['a', 'b', 'a'])
  })

  it('looks again when the clock was set back', async () => {
    const { clock, runs, find } = scene()
    await find('a')
    await clock.setTime(0)
    await find('a')
    expect(runs).toEqual(['a', 'a'])
  })

  it('tells all who wait of a failure, and does not keep it', async () => {
    const { runs, find } = scene()
    const both = await Promise.allSettled([find('a', new Error('no')), find('a')])
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    expect(await find('a')).toBe('a!')
    expect(runs).toEqual(['a', 'a'])
  })

  it('forgets the least recently used when there are too many', async () => {
    const { runs, find } = scene()
    for (const key of ['a', 'b', 'a', 'c', 'a', 'b']) await find(key)
    expect(runs).toEqual(['a', 'b', 'c', 'b'])
  })

  it('ends a look-up that nobody waits for any more', async () => {
    const { clock, lookup } = scene()
    const controller = new AbortController()
    const reason = new Error('stop')
    let ended: unknown
    const waiting = lookup(
      'a',
      { clock, signal: controller.signal },
      (signal) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => {
            ended = signal.reason
            reject(signal.reason)
          })
        }),
    )
    controller.abort(reason)
    await expect(waiting).rejects.toBe(reason)
    expect(ended).toBe(reason)
  })
})
