/**
 * Values and keys: what is put is there, exactly, and only whoever knows its revision replaces it.
 *
 * @module
 */
import { deepEqual, equal, fail, notEqual, ok } from 'node:assert/strict'
import { storeKey, type CertStore, type Revision, type StoreKey } from '../../stores/cert-store.js'
import { operationContext } from '../operation-context.js'
import {
  foundBy,
  keysOf,
  rejectsWith,
  rejectsConflict,
  corruptionOf,
  bytes,
  text,
  www,
  ttlMs,
  type Test,
} from './checks.js'

export function defineBasics(test: Test): void {
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

export function defineComparisons(test: Test): void {
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

export function defineDamage(test: Test): void {
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

export function defineKeys(test: Test): void {
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
