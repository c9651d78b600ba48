/**
 * Watchers are told of changes.
 *
 * @module
 */
import { equal, ok } from 'node:assert/strict'
import type { StoreKey } from '../../stores/cert-store.js'
import { fakeClock, type FakeClock } from '../fake-clock.js'
import { operationContext } from '../operation-context.js'
import { untilTrue, bytes, www, type Test } from './checks.js'

export function defineWatch(test: Test): void {
  test('a watcher is told of changes below its prefix, until its signal aborts', async ({ store, other, context }) => {
    if (store.watch === undefined) return
    const clock = clockWithoutDeadlines()
    const abort = new AbortController()
    const told = new Set<StoreKey>()
    const watching = store.watch(
      'certificates/',
      (key) => told.add(key),
      operationContext({ clock, signal: abort.signal }),
    )
    const ended = watching.then(
      () => undefined,
      (error: unknown) => {
        equal(error, abort.signal.reason, 'a watch ends with the reason of its signal')
      },
    )
    await untilTrue(async () => {
      await other.put('renewals/www', bytes('elsewhere'), context)
      await other.put(www, bytes('changed'), context)
      await clock.advance(60_000)
      return told.has(www)
    }, 'a watcher must be told of a change')
    assertBelow('certificates/', told)
    // Each change by itself. At the beginning all keys are told, but not again and again.
    for (let count = 1; count <= 3; count += 1) {
      told.clear()
      await other.put(www, bytes(`changed ${String(count)}`), context)
      let looks = 0
      await untilTrue(async () => {
        looks += 1
        // For a store that polls, or that goes on after a pause; in between, a server has real time to tell.
        if (looks % 250 === 0) await clock.advance(60_000)
        return told.has(www)
      }, 'a watcher must be told of every change, and not only at its beginning')
      assertBelow('certificates/', told)
    }
    abort.abort(new Error('stopped by the contract'))
    await ended
  })
}

function assertBelow(prefix: string, keys: Iterable<StoreKey>): void {
  for (const key of keys) ok(key.startsWith(prefix), `${key} is not below the prefix`)
}

/** A fake clock by which nothing is late: a server answers in real time, however far the clock has moved meanwhile. */
function clockWithoutDeadlines(): FakeClock {
  const fake = fakeClock()
  const sleep: FakeClock['sleep'] = (ms, options = {}) => fake.sleep(options.deadline === true ? Infinity : ms, options)
  return Object.assign(Object.create(fake) as FakeClock, { sleep })
}
