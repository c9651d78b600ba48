/**
 * What a store on a server must stand: its connection breaks at every request of every operation, before and after the
 * server has carried the request out, or nobody answers. One sweep for every such store.
 */
import { randomBytes } from 'node:crypto'
import { expect, vi } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import { silentLogger } from '../../src/core/logger.js'
import { CertError } from '../../src/errors.js'
import type { CertStore, FoundValue, Revision, StoreKey } from '../../src/stores/cert-store.js'
import type { TcpFault, TcpProxy } from './tcp-proxy.js'

/** A store whose connections go through a proxy, and the same data by another way. */
export interface FaultySubject {
  readonly proxy: TcpProxy
  /** With new connections each time. */
  connect(timeoutMs: number): Promise<{ readonly store: CertStore; close(): Promise<void> }>
  readonly direct: CertStore
}

const context = () => ({ signal: new AbortController().signal, clock: systemClock, logger: silentLogger })
const bytes = (text: string): Uint8Array => Buffer.from(text)

interface Operation {
  /** Values that the key may have afterwards, when it has failed; the first one is that of success. */
  readonly after: readonly [string | undefined, ...(string | undefined)[]]
  run(store: CertStore, key: StoreKey, revision: Revision): Promise<unknown>
}

const operations: Readonly<Record<string, Operation>> = {
  get: { after: ['old'], run: (store, key) => store.get(key, context()) },
  getMany: { after: ['old'], run: (store, key) => readMany(store, [key, `${key}-none`]) },
  create: {
    after: ['new', undefined],
    run: (store, key) => store.put(`${key}-new`, bytes('new'), context(), { ifRevision: null }),
  },
  replace: {
    after: ['new', 'old'],
    run: (store, key, ifRevision) => store.put(key, bytes('new'), context(), { ifRevision }),
  },
  overwrite: { after: ['new', 'old'], run: (store, key) => store.put(key, bytes('new'), context()) },
  delete: {
    after: [undefined, 'old'],
    run: (store, key, ifRevision) => store.delete(key, context(), { ifRevision }),
  },
  list: { after: ['old'], run: (store) => listAll(store) },
  lock: {
    after: ['old'],
    run: async (store, key) => (await store.lock?.(key, context(), { ttlMs: 60_000 }))?.release(),
  },
}

async function readMany(store: CertStore, keys: readonly StoreKey[]): Promise<void> {
  const found: FoundValue[] = []
  for await (const part of store.getMany?.(keys, context()) ?? []) found.push(...part)
  expect(found.map(({ key }) => key).sort()).toEqual([...keys].sort())
}

async function listAll(store: CertStore): Promise<StoreKey[]> {
  const keys: StoreKey[] = []
  for await (const key of store.list('certificates/', context())) keys.push(key)
  return keys
}

/** @returns how often a fault fired, and how often it was told */
export async function sweepFaults(subject: FaultySubject, fault: TcpFault): Promise<{ fired: number; told: number }> {
  const { proxy, direct, connect } = subject
  let fired = 0
  let told = 0
  for (const [name, { run, after }] of Object.entries(operations)) {
    for (let nth = 1; ; nth += 1) {
      const where = `${name}, ${fault} at request ${String(nth)}`
      const key: StoreKey = `certificates/${randomBytes(6).toString('hex')}`
      const revision = await direct.put(key, bytes('old'), context(), { ifRevision: null })
      const { store, close } = await connect(fault === 'hang' ? 700 : 5_000)
      // Not the first operation: what the store does once, at its beginning, is another sweep's.
      if (name !== 'get') await store.get(key, context())
      proxy.arm(nth, fault)
      const outcome = await run(store, key, revision).then(
        () => 'done',
        (error: unknown) => error,
      )
      const happened = proxy.disarm()
      if (fault === 'hang') {
        // The network is there again.
        proxy.cut()
        proxy.restore()
      }
      if (outcome !== 'done') {
        told += 1
        expect(outcome, where).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', retryable: true })
        expect((outcome as CertError).message, where).toMatch(/cannot \w+ .*(certificates\/|lock)/)
      }
      const found = await direct.get(name === 'create' ? `${key}-new` : key, context())
      const value = found && Buffer.from(found.value).toString()
      expect(outcome === 'done' ? after.slice(0, 1) : after, where).toContain(value)
      // The same object works on, and a lost reply is no riddle: reading again tells, and what is read can be replaced.
      const again = await untilItWorks(() => store.get(key, context()))
      await store.put(key, bytes('next'), context(), { ifRevision: again?.revision ?? null })
      expect(Buffer.from((await direct.get(key, context()))?.value ?? []).toString(), where).toBe('next')
      await close()
      if (!happened) {
        expect(outcome, where).toBe('done')
        break
      }
      fired += 1
    }
  }
  return { fired, told }
}

/** Three writers count at once, each until so many of its changes were acknowledged; some outcomes they do not get to know. */
export async function countThrough(
  store: CertStore,
  key: StoreKey,
  times: number,
): Promise<{ acknowledged: number; unknown: number; value: number }> {
  let acknowledged = 0
  let unknown = 0
  const increment = async (): Promise<void> => {
    for (let done = 0; done < times;) {
      try {
        const stored = await store.get(key, context())
        const next = Number(Buffer.from(stored?.value ?? bytes('0')).toString()) + 1
        await store.put(key, bytes(String(next)), context(), { ifRevision: stored?.revision ?? null })
        acknowledged += 1
        done += 1
      } catch (error) {
        if (!CertError.isInstance(error)) throw error
        if (error.code === 'ERR_STORE_UNAVAILABLE') unknown += 1
        else expect(error.code).toBe('ERR_STORE_CONFLICT')
      }
    }
  }
  await Promise.all([increment(), increment(), increment()])
  const counted = await untilItWorks(() => store.get(key, context()))
  const value = Number(Buffer.from(counted?.value ?? bytes('0')).toString())
  expect(value).toBeGreaterThanOrEqual(acknowledged)
  expect(value).toBeLessThanOrEqual(acknowledged + unknown)
  return { acknowledged, unknown, value }
}

/** A watcher that was told of everything anew is told of each later change, too: three times, because it may have been told twice. */
export async function tellsOfEach(store: CertStore, key: StoreKey, told: StoreKey[]): Promise<void> {
  for (let count = 1; count <= 3; count += 1) {
    told.length = 0
    await store.put(key, bytes(String(count)), context())
    await vi.waitUntil(() => told.includes(key), { timeout: 60_000 })
  }
}

/** The connection comes back when the client has made a new one. */
async function untilItWorks<Result>(run: () => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run()
    } catch (error) {
      if (attempt === 100 || !CertError.isInstance(error) || error.code !== 'ERR_STORE_UNAVAILABLE') throw error
      await systemClock.sleep(20)
    }
  }
}
