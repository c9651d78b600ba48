/**
 * What the groups of the contract of stores have in common: what a test gets, and how it looks at it.
 *
 * @module
 */
import { equal, fail, ok, rejects } from 'node:assert/strict'
import { systemClock } from '../../core/clock.js'
import type { OperationContext } from '../../core/context.js'
import { CertError, type StoreError } from '../../errors.js'
import type { CertStore, FoundValue, StoreKey } from '../../stores/cert-store.js'
import { operationContext } from '../operation-context.js'
import type { StoreFixture } from '../store-contract.js'

export interface Subject {
  readonly store: CertStore
  /** The same data through another object, where there is one. */
  readonly other: CertStore
  readonly fixture: StoreFixture
  readonly context: OperationContext
}

export type Test = (name: string, run: (subject: Subject) => Promise<void>) => void

export const www: StoreKey = 'certificates/www.example.com'

export const ttlMs = 30_000

/** Waits for all of them, also when one has failed: nothing must go on in a store that is about to be disposed of. */
export async function allOf(promises: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(promises)).find((outcome) => outcome.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

/** In real time: stores work on real disks and networks, whatever the clock of the context says. */
export async function untilTrue(condition: () => boolean | Promise<boolean>, message: string): Promise<void> {
  const giveUpAt = systemClock.now() + 20_000
  do await systemClock.sleep(1)
  while (!(await condition()) && systemClock.now() < giveUpAt)
  ok(await condition(), message)
}

/** What `getMany` tells, each key once. */
export async function foundBy(
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

export async function keysOf(
  store: CertStore,
  prefix: string,
  context: OperationContext = operationContext(),
): Promise<string[]> {
  const keys: string[] = []
  for await (const key of store.list(prefix, context)) keys.push(key)
  return keys.sort()
}

export async function rejectsWith(reason: Error, run: () => Promise<unknown>): Promise<void> {
  await rejects(run, (error) => {
    equal(error, reason, 'an abort must reject with the reason of the signal, as it is')
    return true
  })
}

export async function rejectsConflict(key: StoreKey, run: () => Promise<unknown>): Promise<void> {
  await rejects(run, (error) => {
    assertConflict(error, key)
    return true
  })
}

export async function corruptionOf(run: () => Promise<unknown>): Promise<StoreError> {
  let found: StoreError | undefined
  await rejects(run, (error) => {
    assertCode(error, 'ERR_STORE_CORRUPT')
    found = error as StoreError
    return true
  })
  return found ?? fail('rejects() has looked at the error')
}

export function assertConflict(error: unknown, key: StoreKey): void {
  assertCode(error, 'ERR_STORE_CONFLICT')
  ok(error.retryable, 'a conflict can be tried again')
  ok(error.message.includes(key), 'the message of a conflict names the key')
}

export function assertCode(error: unknown, code: CertError['code']): asserts error is CertError {
  if (!CertError.isInstance(error)) fail(`a StoreError ${code} is due here, not ${String(error)}`)
  equal(error.code, code)
}

export function bytes(value: string): Uint8Array {
  return new Uint8Array(Buffer.from(value))
}

export function text(stored: { readonly value: Uint8Array } | undefined): string | undefined {
  return stored === undefined ? undefined : Buffer.from(stored.value).toString()
}

export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
