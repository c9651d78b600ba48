/**
 * Leases: one holder, who is replaced once it cannot be trusted any more.
 *
 * @module
 */
import { deepEqual, equal, fail, ok } from 'node:assert/strict'
import type { OperationContext } from '../../core/context.js'
import type { CertStore, StoreLock } from '../../stores/cert-store.js'
import { fakeClock, type FakeClock } from '../fake-clock.js'
import { operationContext } from '../operation-context.js'
import { untilTrue, keysOf, assertCode, www, ttlMs, type Test } from './checks.js'

export function defineLocks(test: Test, kind: 'timed-by-context' | 'timed-by-server'): void {
  test('a lock has one holder', async ({ store, other, context }) => {
    const first = await take(store, 'www', context)
    equal(await lockOf(other)('www', context, { ttlMs }), undefined, 'a held lock must resolve undefined')
    equal(await lockOf(store)('www', context, { ttlMs }), undefined, 'also in the store that holds it')
    const another = await take(other, 'api', context)
    await another.release()
    await first.release()
    const next = await take(other, 'www', context)
    ok(!next.signal.aborted)
    await next.release()
  })

  test('of several who ask at once exactly one gets the lock', async ({ store, other, context }) => {
    const asked = Array.from({ length: 8 }, (_, index) =>
      lockOf(index % 2 === 0 ? store : other)('www', context, { ttlMs }),
    )
    const taken = (await Promise.all(asked)).filter((lock) => lock !== undefined)
    equal(taken.length, 1, `${String(taken.length)} of 8 got the lock`)
    await taken[0]?.release()
  })

  test('locks are not values', async ({ store, context }) => {
    const lock = await take(store, 'certificates/www.example.com', context)
    deepEqual(await keysOf(store, ''), [], 'a lock must not be listed')
    equal(await store.get(www, context), undefined)
    await lock.release()
  })

  test('fencing tokens grow with every holder, also over a restart', async ({ store, fixture, context }) => {
    let last = -1n
    let current = store
    for (let count = 0; count < 4; count += 1) {
      const lock = await take(current, 'www', context)
      ok(/^\d+$/.test(lock.fencingToken), `a fencing token must be a decimal number, not ${lock.fencingToken}`)
      ok(BigInt(lock.fencingToken) > last, `token ${lock.fencingToken} follows ${String(last)}`)
      last = BigInt(lock.fencingToken)
      await lock.release()
      if (fixture.reopen !== undefined) current = await fixture.reopen()
    }
  })

  test('releasing twice is the same as once, and disposing releases', async ({ store, other, context }) => {
    const first = await take(store, 'www', context)
    await first.release()
    const second = await take(other, 'www', context)
    await first.release()
    equal(await lockOf(store)('www', context, { ttlMs }), undefined, 'an old release must not end the lock of the next')
    await second[Symbol.asyncDispose]()
    await (await take(store, 'www', context)).release()
  })

  test('a holder keeps its lock for as long as it needs', async ({ store, other }) => {
    const { clock, idle } = renewalClock()
    const context = operationContext({ clock })
    const lock = await take(store, 'www', context)
    await untilTrue(() => idle() > 0 || lock.signal.aborted, 'a holder must wait for its next renewal')
    const waiting = idle()
    for (let step = 0; step < 18; step += 1) {
      await clock.advance(ttlMs / 6)
      // In real time, until a renewal that this has set off is through.
      await untilTrue(() => idle() >= waiting || lock.signal.aborted, 'a renewal of the lease must end')
      ok(!lock.signal.aborted, `a lease that is renewed was lost: ${String(lock.signal.reason)}`)
      equal(await lockOf(other)('www', context, { ttlMs }), undefined, 'a lease that is renewed was taken over')
    }
    await lock.release()
    await (await take(other, 'www', context)).release()
  })

  test('a holder that slept too long is replaced, told, and harmless', async ({ store, other, fixture, context }) => {
    // A process that was stopped: its clock stands still.
    const holderClock = fakeClock()
    const lock = await take(store, 'www', operationContext({ clock: holderClock }))
    const waiterClock = fakeClock()
    const waiter = operationContext({ clock: waiterClock })
    if (kind === 'timed-by-server') {
      if (fixture.endLease === undefined) fail('a store that is timed-by-server needs endLease() in its fixture')
      await fixture.endLease('www')
    } else {
      equal(await lockOf(other)('www', waiter, { ttlMs }), undefined)
      // Looks again now and then, as evercert does: a store need not believe one big step of a clock.
      for (let look = 1; look < 4; look += 1) {
        await waiterClock.advance(ttlMs / 4)
        equal(await lockOf(other)('www', waiter, { ttlMs }), undefined, 'a lease was taken over before its time')
      }
      await waiterClock.advance(ttlMs / 4)
    }
    const next = await take(other, 'www', waiter)
    ok(BigInt(next.fencingToken) > BigInt(lock.fencingToken), 'the next holder must have a larger token')
    ok(!lock.signal.aborted)

    await holderClock.advance(ttlMs)
    await untilTrue(() => lock.signal.aborted, 'the signal of a lost lease must abort')
    assertCode(lock.signal.reason, 'ERR_STORE_LOCK_LOST')
    await lock.release()
    equal(
      await lockOf(store)('www', context, { ttlMs }),
      undefined,
      'releasing a lost lease must leave the next holder alone',
    )
    ok(!next.signal.aborted)
    await next.release()
  })
}

function lockOf(store: CertStore): NonNullable<CertStore['lock']> {
  if (store.lock === undefined)
    fail("the store has no lock(); if that is intended, say so with the option lock: 'absent'")
  return store.lock.bind(store)
}

async function take(store: CertStore, name: string, context: OperationContext): Promise<StoreLock> {
  const lock = await lockOf(store)(name, context, { ttlMs })
  if (lock === undefined) fail(`the lock ${name} is free and must be given`)
  return lock
}

/** A fake clock that knows how many wait for their next renewal. Limits of what is under way (deadlines) do not count. */
function renewalClock(): { readonly clock: FakeClock; readonly idle: () => number } {
  const fake = fakeClock()
  let idle = 0
  const sleep: FakeClock['sleep'] = async (ms, options = {}) => {
    if (options.deadline === true) return fake.sleep(ms, options)
    idle += 1
    return fake.sleep(ms, options).finally(() => {
      idle -= 1
    })
  }
  return { clock: Object.assign(Object.create(fake) as FakeClock, { sleep }), idle: () => idle }
}
