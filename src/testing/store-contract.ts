/**
 * The contract of certificate stores, as tests.
 *
 * @module
 */
import { deepEqual, equal, fail, notEqual, ok, rejects } from 'node:assert/strict'
import { systemClock } from '../core/clock.js'
import type { OperationContext } from '../core/context.js'
import { CertError, type StoreError } from '../errors.js'
import {
  storeKey,
  type CertStore,
  type FoundValue,
  type Revision,
  type StoreKey,
  type StoreLock,
} from '../stores/cert-store.js'
import type { ContractLevel, ContractRunner } from './contract-runner.js'
import { fakeClock, type FakeClock } from './fake-clock.js'
import { operationContext } from './operation-context.js'

/** An empty store under test. */
export interface StoreFixture {
  readonly store: CertStore
  /** Another object for the same data, as another process or a restart has it. Leave it out if the data ends with the object. */
  reopen?(): Promise<CertStore>
  /**
   * Ends the lease of a lock behind the back of its holder, as if that had slept too long. Needed for `strict` when
   * leases are `timed-by-server`.
   */
  endLease?(lock: string): Promise<void>
  /** Damages what is stored under a key, behind the back of the store. Then `strict` tests how damage is told and mended. */
  damage?(key: StoreKey): Promise<void>
  dispose?(): Promise<void>
}

/** Options of {@link certStoreContract}. */
export interface StoreContractOptions {
  /** Called for each test: each has an empty store of its own. */
  createStore(): Promise<StoreFixture>
  readonly level: ContractLevel
  /**
   * What measures the life of a lease: the clock of the operation's context, or a server of its own. `absent`: the store
   * has no `lock`.
   *
   * @defaultValue `'timed-by-context'`
   */
  readonly lock?: 'timed-by-context' | 'timed-by-server' | 'absent' | undefined
}

interface Subject {
  readonly store: CertStore
  /** The same data through another object, where there is one. */
  readonly other: CertStore
  readonly fixture: StoreFixture
  readonly context: OperationContext
}

const ttlMs = 30_000

/**
 * Defines tests that hold a store to {@link CertStore}'s contract. `basic`: what is put is there, exactly, and stays.
 * `strict`: compare-and-set, writers at the same time, odd keys, leases. No test sleeps; leases run on a fake clock.
 *
 * @example
 *
 * ```ts
 * import { describe, it } from 'node:test'
 * import { certStoreContract } from 'evercert/testing'
 * import { memoryStore } from 'evercert/stores/memory'
 *
 * certStoreContract({ describe, it }, {
 *   async createStore() {
 *     return { store: memoryStore() }
 *   },
 *   level: 'strict',
 * })
 * ```
 *
 * @param runner - `describe` and `it` of any test runner
 */
export function certStoreContract(runner: ContractRunner, options: StoreContractOptions): void {
  const { level, lock: lockKind = 'timed-by-context' } = options

  const test = (name: string, run: (subject: Subject) => Promise<void>): void => {
    runner.it(name, async () => {
      const fixture = await options.createStore()
      try {
        const other = (await fixture.reopen?.()) ?? fixture.store
        await run({ store: fixture.store, other, fixture, context: operationContext() })
      } finally {
        await fixture.dispose?.()
      }
    })
  }

  runner.describe(`certificate store contract, ${level}`, () => {
    defineBasics(test)
    if (level === 'basic') return
    defineComparisons(test)
    defineDamage(test)
    defineConcurrency(test)
    defineKeys(test)
    defineWatch(test)
    if (lockKind !== 'absent') defineLocks(test, lockKind)
  })
}

type Test = (name: string, run: (subject: Subject) => Promise<void>) => void

const www: StoreKey = 'certificates/www.example.com'

function defineBasics(test: Test): void {
  test('an absent key has no value', async ({ store, context }) => {
    equal(await store.get(www, context), undefined)
    deepEqual(await keysOf(store, ''), [])
  })

  test('a value comes back byte for byte', async ({ store, context }) => {
    const everyByte = Uint8Array.from({ length: 256 }, (_, index) => index)
    const large = Uint8Array.from({ length: 200_000 }, (_, index) => (index * 31) % 251)
    for (const value of [everyByte, new Uint8Array(0), large]) {
      const revision = await store.put(www, value, context)
      const stored = await store.get(www, context)
      ok(stored !== undefined, 'what was put must be there')
      ok(Buffer.from(stored.value).equals(value), `a value of ${String(value.length)} bytes must come back as it was`)
      equal(stored.revision, revision, 'get() must report the revision that put() resolved')
    }
  })

  test('a value written twice has two revisions', async ({ store, context }) => {
    const first = await store.put(www, bytes('same'), context)
    const second = await store.put(www, bytes('same'), context)
    notEqual(first, second, 'the same bytes written again are another revision')
  })

  test('a deleted key is absent, and deleting it again succeeds', async ({ store, context }) => {
    await store.delete(www, context)
    await store.put(www, bytes('one'), context)
    await store.delete(www, context)
    equal(await store.get(www, context), undefined)
    deepEqual(await keysOf(store, 'certificates/'), [])
    await store.delete(www, context)
  })

  test('the list holds each key with the prefix, once', async ({ store, context }) => {
    const keys = Array.from({ length: 50 }, (_, index) => storeKey('renewals', `name-${String(index)}`))
    for (const key of keys) await store.put(key, bytes(key), context)
    await store.put(www, bytes('www'), context)
    deepEqual(await keysOf(store, 'renewals/'), [...keys].sort())
    deepEqual(await keysOf(store, ''), [www, ...keys].sort())
  })

  test('changing an array changes nothing that is stored', async ({ store, context }) => {
    const value = bytes('before')
    const writing = store.put(www, value, context)
    value.fill(0)
    await writing
    const read = await store.get(www, context)
    equal(text(read), 'before', 'put() must take a copy of its argument')
    read?.value.fill(0)
    equal(text(await store.get(www, context)), 'before', 'get() must hand out a copy')
  })

  test('values are there for whoever opens the store next', async ({ store, fixture, context }) => {
    const revision = await store.put(www, bytes('kept'), context)
    await store.close?.()
    if (fixture.reopen === undefined) return
    const reopened = await fixture.reopen()
    const stored = await reopened.get(www, context)
    equal(text(stored), 'kept', 'a value must survive a restart')
    equal(stored?.revision, revision, 'a revision must survive a restart')
  })

  test('many values are read as each of them is', async ({ store, other, context }) => {
    if (store.getMany === undefined) return
    const keys = Array.from({ length: 150 }, (_, index) => [
      storeKey('certificates', `name-${String(index)}`),
      storeKey('renewals', `name-${String(index)}`),
    ]).flat()
    for (const key of keys) await other.put(key, bytes(key), context)
    await other.put('deployments/name-0/node', bytes('of a space with one key'), context)
    await other.put('certificates/name-0', new Uint8Array(0), context)
    const asked: StoreKey[] = [...keys, 'certificates/none', 'renewals/none', 'deployments/name-0/node']
    const found = await foundBy(store, asked, context)
    for (const key of asked) {
      const expected = await store.get(key, context)
      const { stored, error } = found.get(key) ?? fail(`getMany() must answer for every key: ${key} was left out`)
      equal(error, undefined, `getMany() must find nothing wrong with ${key}`)
      deepEqual(stored?.value, expected?.value, `getMany() must find under ${key} what get() finds`)
      equal(stored?.revision, expected?.revision, `getMany() must report the revision of ${key}`)
    }
    equal((await foundBy(store, [], context)).size, 0, 'getMany() of no key must find nothing')
    for await (const part of store.getMany(keys, context)) if (part.length > 0) break
    await abortedWhileReading(store, keys)
    equal((await foundBy(store, [www], context)).size, 1, 'a store must go on when somebody stops reading')
  })

  test('an aborted signal rejects with its reason and changes nothing', async ({ store, context }) => {
    await store.put(www, bytes('before'), context)
    const reason = new Error('stopped by the contract')
    const aborted = operationContext({ signal: AbortSignal.abort(reason) })
    await rejectsWith(reason, () => store.get(www, aborted))
    await rejectsWith(reason, () => store.put(www, bytes('after'), aborted))
    await rejectsWith(reason, () => store.put('certificates/new', bytes('after'), aborted, { ifRevision: null }))
    await rejectsWith(reason, () => store.delete(www, aborted))
    await rejectsWith(reason, () => keysOf(store, '', aborted))
    if (store.getMany !== undefined) await rejectsWith(reason, () => foundBy(store, [www], aborted))
    if (store.lock !== undefined) await rejectsWith(reason, async () => store.lock?.('aborted', aborted, { ttlMs }))
    equal(text(await store.get(www, context)), 'before', 'an aborted write must change nothing')
    deepEqual(await keysOf(store, ''), [www], 'an aborted write must create nothing')
  })
}

function defineComparisons(test: Test): void {
  test('create-only refuses a key that exists, and keeps its value', async ({ store, other, context }) => {
    await store.put(www, bytes('first'), context, { ifRevision: null })
    await rejectsConflict(www, () => other.put(www, bytes('second'), context, { ifRevision: null }))
    equal(text(await store.get(www, context)), 'first')
  })

  test('a write with the current revision replaces, one with an old revision is refused', async ({
    store,
    other,
    context,
  }) => {
    const first = await store.put(www, bytes('first'), context)
    const second = await other.put(www, bytes('second'), context, { ifRevision: first })
    await rejectsConflict(www, () => store.put(www, bytes('late'), context, { ifRevision: first }))
    const stored = await store.get(www, context)
    equal(text(stored), 'second', 'a refused write must keep the value')
    equal(stored?.revision, second, 'a refused write must keep the revision')
  })

  test('a write without a revision overwrites', async ({ store, context }) => {
    await store.put(www, bytes('first'), context)
    await store.put(www, bytes('second'), context)
    await store.put(www, bytes('third'), context, { ifRevision: undefined })
    equal(text(await store.get(www, context)), 'third')
  })

  test('a revision does not come back with a key that was deleted', async ({ store, other, context }) => {
    const first = await store.put(www, bytes('same'), context)
    await other.delete(www, context)
    await rejectsConflict(www, () => store.put(www, bytes('late'), context, { ifRevision: first }))
    equal(await store.get(www, context), undefined, 'a refused write must not bring a deleted key back')
    await other.put(www, bytes('same'), context, { ifRevision: null })
    await rejectsConflict(www, () => store.put(www, bytes('late'), context, { ifRevision: first }))
    equal(text(await store.get(www, context)), 'same')
  })

  test('only the given revision is deleted', async ({ store, other, context }) => {
    const first = await store.put(www, bytes('first'), context)
    const second = await other.put(www, bytes('second'), context)
    await rejectsConflict(www, () => store.delete(www, context, { ifRevision: first }))
    equal(text(await store.get(www, context)), 'second', 'a refused delete must keep the value')
    await store.delete(www, context, { ifRevision: second })
    equal(await other.get(www, context), undefined)
    await store.delete(www, context, { ifRevision: second })
  })
}

function defineDamage(test: Test): void {
  test('a damaged value is handed out, and replaced or deleted by its revision only', async ({
    store,
    other,
    fixture,
    context,
  }) => {
    const damage = async (): Promise<Revision> => {
      const before = await other.put(www, bytes('whole'), context)
      await fixture.damage?.(www)
      const { damaged } = await corruptionOf(() => store.get(www, context))
      if (damaged === undefined) fail('ERR_STORE_CORRUPT must come with the bytes and a revision to replace them by')
      ok(damaged.value instanceof Uint8Array, 'damaged.value must be bytes')
      notEqual(damaged.revision, before, 'a damaged value must not have the revision of the sound one')
      return damaged.revision as Revision
    }
    if (fixture.damage === undefined) return
    if (store.getMany !== undefined) {
      const revision = await damage()
      const neighbours = Array.from({ length: 150 }, (_, index) => storeKey('certificates', String(index)))
      for (const key of neighbours) await other.put(key, bytes('sound'), context)
      const found = await foundBy(store, [...neighbours, www], context)
      const { damaged } = await corruptionOf(async () => {
        const { error } = found.get(www) ?? {}
        if (error !== undefined) throw error
      })
      equal(damaged?.revision, revision, 'getMany() must find a damaged value as get() does')
      for (const key of neighbours) equal(text(found.get(key)?.stored), 'sound', 'damage must not hide other values')
    }
    await store.put(www, bytes('mended'), context, { ifRevision: await damage() })
    equal(text(await other.get(www, context)), 'mended')
    await store.delete(www, context, { ifRevision: await damage() })
    equal(await other.get(www, context), undefined)

    const stale = await damage()
    const current = await other.put(www, bytes('by another'), context)
    await rejectsConflict(www, () => store.put(www, bytes('late'), context, { ifRevision: stale }))
    await rejectsConflict(www, () => store.delete(www, context, { ifRevision: stale }))
    equal((await store.get(www, context))?.revision, current, 'a refused write must keep the value')
  })
}

function defineConcurrency(test: Test): void {
  test('of several who create at once exactly one succeeds', async ({ store, other, context }) => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, (_, index) =>
        (index % 2 === 0 ? store : other).put(www, bytes(String(index)), context, { ifRevision: null }),
      ),
    )
    const winners = outcomes.flatMap((outcome, index) => (outcome.status === 'fulfilled' ? [index] : []))
    equal(winners.length, 1, `${String(winners.length)} of 8 were told that they had created the key`)
    for (const outcome of outcomes) if (outcome.status === 'rejected') assertConflict(outcome.reason, www)
    equal(text(await store.get(www, context)), String(winners[0]), 'the value must be that of the winner')
  })

  test('increments by several writers at once are all counted', async ({ store, other, context }) => {
    const increment = async (through: CertStore): Promise<void> => {
      for (let attempt = 0; attempt < 1000; attempt += 1) {
        const stored = await through.get(www, context)
        const next = stored === undefined ? 1 : Number(text(stored)) + 1
        try {
          await through.put(www, bytes(String(next)), context, { ifRevision: stored?.revision ?? null })
          return
        } catch (error) {
          assertConflict(error, www)
        }
      }
      fail('a writer that reads again after each conflict must get through')
    }
    const workers = Array.from({ length: 6 }, async (_, index) => {
      for (let count = 0; count < 5; count += 1) await increment(index % 2 === 0 ? store : other)
    })
    await allOf(workers)
    equal(text(await store.get(www, context)), '30', 'an update was lost, or counted although it was refused')
  })

  test('a reader sees the value of one writer, never a mixture', async ({ store, other, context }) => {
    const value = (writer: number): Uint8Array => new Uint8Array(50_000 + writer * 1000).fill(writer)
    await store.put(www, value(0), context)
    let writing = true
    const read = async (through: CertStore): Promise<void> => {
      while (writing) {
        const stored = await through.get(www, context)
        ok(stored !== undefined, 'a value that is being replaced must not be absent')
        const writer = stored.value[0] ?? 0
        ok(Buffer.from(stored.value).equals(value(writer)), 'a reader saw a mixture of two values')
        await turn()
      }
    }
    const write = async (through: CertStore, writer: number): Promise<void> => {
      for (let count = 0; count < 4; count += 1) await through.put(www, value(writer), context)
    }
    const writers = allOf([write(store, 1), write(other, 2), write(store, 3), write(other, 4)])
    await allOf([
      read(store),
      read(other),
      writers.finally(() => {
        writing = false
      }),
    ])
  })

  test('keys that nobody touches are listed while others come and go', async ({ store, other, context }) => {
    const steady = ['renewals/a', 'renewals/b', 'renewals/c'] as const
    for (const key of steady) await store.put(key, bytes('steady'), context)
    let writing = true
    const churn = async (): Promise<void> => {
      for (let count = 0; count < 10; count += 1) {
        await other.put('renewals/b', bytes(String(count)), context)
        await other.put('renewals/passing', bytes('here'), context)
        await other.delete('renewals/passing', context)
      }
    }
    const watch = async (): Promise<void> => {
      do {
        const listed = new Set(await keysOf(store, 'renewals/'))
        for (const key of steady) ok(listed.has(key), `${key} was missing from a list`)
        await turn()
      } while (writing)
    }
    await allOf([
      watch(),
      churn().finally(() => {
        writing = false
      }),
    ])
  })
}

function defineKeys(test: Test): void {
  test('a prefix is compared to the whole beginning of the key', async ({ store, context }) => {
    const keys: StoreKey[] = ['certificates/a', 'certificates/ab', 'certificates/a/b', 'challenges/a', 'certificates/b']
    for (const key of keys) await store.put(key, bytes(key), context)
    deepEqual(await keysOf(store, 'certificates/a/'), ['certificates/a/b'])
    deepEqual(await keysOf(store, 'certificates/a'), ['certificates/a', 'certificates/a/b', 'certificates/ab'])
    deepEqual(await keysOf(store, 'certificates/'), [
      'certificates/a',
      'certificates/a/b',
      'certificates/ab',
      'certificates/b',
    ])
    deepEqual(await keysOf(store, 'certificates/a%'), [], 'a prefix is not a pattern')
    deepEqual(await keysOf(store, 'certificates/_'), [], 'a prefix is not a pattern')
  })

  test('odd names are kept apart and come back as they were', async ({ store, other, context }) => {
    const names = [
      '*.example.com',
      '_.example.com',
      '..',
      '../../etc/passwd',
      '.hidden',
      'a b',
      'a+b',
      'A',
      'a',
      'Straße',
      'STRASSE',
      'bücher.example',
      '日本語',
      '%2e%2e',
      "'; drop table certificates; --",
      '__proto__',
      'constructor',
      '~',
      'con',
      'x'.repeat(200),
      'x'.repeat(201),
      `${'x'.repeat(200)}Y`,
      'ü'.repeat(200),
    ]
    const keys = names.map((name) => storeKey('certificates', name))
    for (const key of keys) await store.put(key, bytes(key), context, { ifRevision: null })
    for (const key of keys) equal(text(await other.get(key, context)), key)
    deepEqual(await keysOf(other, 'certificates/'), [...keys].sort())
    for (const key of keys) await other.delete(key, context)
    deepEqual(await keysOf(store, ''), [])
  })
}

function defineWatch(test: Test): void {
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

function defineLocks(test: Test, kind: 'timed-by-context' | 'timed-by-server'): void {
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

/** A fake clock by which nothing is late: a server answers in real time, however far the clock has moved meanwhile. */
function clockWithoutDeadlines(): FakeClock {
  const fake = fakeClock()
  const sleep: FakeClock['sleep'] = (ms, options = {}) => fake.sleep(options.deadline === true ? Infinity : ms, options)
  return Object.assign(Object.create(fake) as FakeClock, { sleep })
}

/** Waits for all of them, also when one has failed: nothing must go on in a store that is about to be disposed of. */
async function allOf(promises: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(promises)).find((outcome) => outcome.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

/** In real time: stores work on real disks and networks, whatever the clock of the context says. */
async function untilTrue(condition: () => boolean | Promise<boolean>, message: string): Promise<void> {
  const giveUpAt = systemClock.now() + 20_000
  do await systemClock.sleep(1)
  while (!(await condition()) && systemClock.now() < giveUpAt)
  ok(await condition(), message)
}

/** What `getMany` tells, each key once. */
async function foundBy(
  store: CertStore,
  keys: readonly StoreKey[],
  context: OperationContext,
): Promise<ReadonlyMap<StoreKey, FoundValue>> {
  const found = new Map<StoreKey, FoundValue>()
  for await (const part of store.getMany?.(keys, context) ?? []) {
    for (const value of part) {
      ok(keys.includes(value.key), `getMany() must not answer for ${value.key}, which nobody asked for`)
      ok(!found.has(value.key), `getMany() must answer for ${value.key} once`)
      found.set(value.key, value)
    }
  }
  return found
}

/** Going on after an abort rejects with its reason, unless everything had been told. */
async function abortedWhileReading(store: CertStore, keys: readonly StoreKey[]): Promise<void> {
  const controller = new AbortController()
  const reason = new Error('stopped by the contract')
  const read = async (): Promise<void> => {
    for await (const part of store.getMany?.(keys, operationContext({ signal: controller.signal })) ?? []) {
      if (controller.signal.aborted) return
      if (part.length === keys.length) throw reason
      if (part.length > 0) controller.abort(reason)
    }
  }
  await rejectsWith(reason, read)
}

async function keysOf(
  store: CertStore,
  prefix: string,
  context: OperationContext = operationContext(),
): Promise<string[]> {
  const keys: string[] = []
  for await (const key of store.list(prefix, context)) keys.push(key)
  return keys.sort()
}

async function rejectsWith(reason: Error, run: () => Promise<unknown>): Promise<void> {
  await rejects(run, (error) => {
    equal(error, reason, 'an abort must reject with the reason of the signal, as it is')
    return true
  })
}

async function rejectsConflict(key: StoreKey, run: () => Promise<unknown>): Promise<void> {
  await rejects(run, (error) => {
    assertConflict(error, key)
    return true
  })
}

async function corruptionOf(run: () => Promise<unknown>): Promise<StoreError> {
  let found: StoreError | undefined
  await rejects(run, (error) => {
    assertCode(error, 'ERR_STORE_CORRUPT')
    found = error as StoreError
    return true
  })
  return found ?? fail('rejects() has looked at the error')
}

function assertConflict(error: unknown, key: StoreKey): void {
  assertCode(error, 'ERR_STORE_CONFLICT')
  ok(error.retryable, 'a conflict can be tried again')
  ok(error.message.includes(key), 'the message of a conflict names the key')
}

function assertCode(error: unknown, code: CertError['code']): asserts error is CertError {
  if (!CertError.isInstance(error)) fail(`a StoreError ${code} is due here, not ${String(error)}`)
  equal(error.code, code)
}

function bytes(value: string): Uint8Array {
  return new Uint8Array(Buffer.from(value))
}

function text(stored: { readonly value: Uint8Array } | undefined): string | undefined {
  return stored === undefined ? undefined : Buffer.from(stored.value).toString()
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
