/**
 * The contract of certificate stores, as tests.
 *
 * @module
 */
import type { CertStore, StoreKey } from '../stores/cert-store.js'
import type { ContractLevel, ContractRunner } from './contract-runner.js'
import { operationContext } from './operation-context.js'
import type { Subject } from './store-contract/checks.js'
import { defineConcurrency } from './store-contract/concurrency.js'
import { defineLocks } from './store-contract/locks.js'
import { defineBasics, defineComparisons, defineDamage, defineKeys } from './store-contract/values.js'
import { defineWatch } from './store-contract/watch.js'

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
