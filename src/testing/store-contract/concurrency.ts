/**
 * Writers and readers at the same time.
 *
 * @module
 */
import { equal, fail, ok } from 'node:assert/strict'
import type { CertStore } from '../../stores/cert-store.js'
import { allOf, keysOf, assertConflict, bytes, text, turn, www, type Test } from './checks.js'

export function defineConcurrency(test: Test): void {
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
