import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { SleepOptions } from '../../../src/core/clock.js'
import type { OperationContext } from '../../../src/core/context.js'
import { StoreError } from '../../../src/errors.js'
import type {
  CertStore,
  FoundValue,
  PutOptions,
  Revision,
  StoredValue,
  StoreKey,
  StoreLock,
} from '../../../src/stores/cert-store.js'
import { memoryStore } from '../../../src/stores/memory.js'
import type { ContractLevel } from '../../../src/testing/contract-runner.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { certStoreContract, type StoreContractOptions, type StoreFixture } from '../../../src/testing/store-contract.js'

/** Runs the kit, and resolves what failed: the name of the case and the message. */
async function failuresOf(options: StoreContractOptions): Promise<Map<string, string>> {
  const cases: { readonly name: string; readonly run: () => Promise<void> }[] = []
  const describeNow = (_: string, define: () => void): void => {
    define()
  }
  certStoreContract({ describe: describeNow, it: (name, run) => cases.push({ name, run }) }, options)
  const failures = new Map<string, string>()
  for (const { name, run } of cases) {
    try {
      await run()
    } catch (error) {
      failures.set(name, error instanceof Error ? error.message : String(error))
    }
  }
  return failures
}

/** A store with something wrong: what is given replaces methods of a sound one. */
function broken(change: (sound: CertStore) => Partial<CertStore>): () => Promise<StoreFixture> {
  return () => {
    const sound = memoryStore()
    return Promise.resolve({ store: { ...sound, ...change(sound) } })
  }
}

/** A store that reads many values by itself; `change` does something to what was found. */
function readingMany(change: (found: FoundValue, index: number) => readonly FoundValue[]): () => Promise<StoreFixture> {
  return broken((sound) => ({ getMany: (keys, context) => eachOf(sound, keys, context, change) }))
}

async function* eachOf(
  store: CertStore,
  keys: readonly StoreKey[],
  context: OperationContext,
  change: (found: FoundValue, index: number) => readonly FoundValue[],
): AsyncGenerator<readonly FoundValue[]> {
  for (const [index, key] of keys.entries()) {
    const found = await store.get(key, context).then(
      (stored) => ({ key, stored }),
      (error: unknown) => {
        if (error instanceof StoreError && error.code === 'ERR_STORE_CORRUPT') return { key, error }
        throw error
      },
    )
    yield change(found, index)
  }
}

/** A store that finds values damaged; `tell` is the error it has for them. */
function damageable(
  tell: (key: StoreKey, found: StoredValue) => unknown,
  {
    ignoresRevision = false,
    readMany,
  }: { ignoresRevision?: boolean; readMany?: (store: CertStore) => NonNullable<CertStore['getMany']> } = {},
) {
  return (): Promise<StoreFixture> => {
    const sound = memoryStore()
    const marked = new Set<string>()
    const store: CertStore = {
      ...sound,
      async get(key, context) {
        const found = await sound.get(key, context)
        if (found !== undefined && marked.has(found.revision)) throw tell(key, found) as Error
        return found
      },
      put(key, value, context, options) {
        const known = ignoresRevision && marked.has(options?.ifRevision ?? '')
        return sound.put(key, value, context, known ? {} : options)
      },
    }
    const damage = async (key: StoreKey): Promise<void> => {
      const context = { signal: never, clock: fakeClock(), logger: console }
      marked.add(await sound.put(key, Buffer.from('torn'), context))
    }
    return Promise.resolve({ store: { ...store, ...(readMany && { getMany: readMany(store) }) }, damage })
  }
}

const corrupt = (key: string, damaged?: StoredValue): StoreError =>
  new StoreError({ code: 'ERR_STORE_CORRUPT', message: `${key} is torn`, store: 'broken', key, damaged })

const never = new AbortController().signal
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const soundLock = (sound: CertStore): NonNullable<CertStore['lock']> => {
  if (sound.lock === undefined) throw new Error('the memory store has locks')
  return sound.lock.bind(sound)
}
const heldLock = (fencingToken: string, signal: AbortSignal = never): StoreLock => ({
  signal,
  fencingToken,
  release: () => Promise.resolve(),
  [Symbol.asyncDispose]: () => Promise.resolve(),
})

describe('a sound store', () => {
  it('that hands out what is damaged passes strict', async () => {
    expect(await failuresOf({ createStore: damageable(corrupt), level: 'strict' })).toEqual(new Map())
  })

  it('that reads many values by itself passes strict', async () => {
    const sound = (found: FoundValue): readonly FoundValue[] => [found]
    expect(await failuresOf({ createStore: readingMany(sound), level: 'strict' })).toEqual(new Map())
    const createStore = damageable(corrupt, {
      readMany: (store) => (keys, context) => eachOf(store, keys, context, sound),
    })
    expect(await failuresOf({ createStore, level: 'strict' })).toEqual(new Map())
  })

  it.each<ContractLevel>(['basic', 'strict'])('passes %s', async (level) => {
    expect(await failuresOf({ createStore: broken(() => ({})), level })).toEqual(new Map())
  })

  it('that polls for its watchers passes strict', async () => {
    const createStore = broken((sound) => ({
      async watch(prefix, onChange, context) {
        const seen = new Map<StoreKey, string | undefined>()
        for (;;) {
          for await (const key of sound.list(prefix, context)) {
            const revision = (await sound.get(key, context))?.revision
            if (seen.get(key) !== revision) onChange(key)
            seen.set(key, revision)
          }
          await context.clock.sleep(30_000, { signal: context.signal, background: true })
        }
      },
    }))
    expect(await failuresOf({ createStore, level: 'strict' })).toEqual(new Map())
  })

  it('passes under node:test', async () => {
    const source = fileURLToPath(new URL('../../../src', import.meta.url))
    const script = `
      import { describe, it } from 'node:test'
      import { memoryStore } from '${source}/stores/memory.ts'
      import { certStoreContract } from '${source}/testing/store-contract.ts'
      certStoreContract({ describe, it }, { createStore: async () => ({ store: memoryStore() }), level: 'strict' })
    `
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '--test-reporter=tap', '-e', script],
      {
        cwd: fileURLToPath(new URL('../../..', import.meta.url)),
        env: { PATH: process.env['PATH'] ?? '' },
      },
    )
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (output += text))
    const [code] = (await once(child, 'close')) as [number]
    expect(code, output).toBe(0)
    expect(Number(/# pass (\d+)/.exec(output)?.[1]), output).toBeGreaterThan(20)
  })

  it('may have no lock, if it says so', async () => {
    const createStore = (): Promise<StoreFixture> => {
      const store: CertStore = { ...memoryStore() }
      delete store.lock
      return Promise.resolve({ store })
    }
    expect(await failuresOf({ createStore, level: 'strict', lock: 'absent' })).toEqual(new Map())
    const failures = await failuresOf({ createStore, level: 'strict' })
    expect(failures.get('a lock has one holder')).toContain("lock: 'absent'")
  })

  it('may time leases by a server, if the test can end them', async () => {
    const createStore = broken(() => ({}))
    const failures = await failuresOf({ createStore, level: 'strict', lock: 'timed-by-server' })
    expect([...failures.keys()]).toEqual(['a holder that slept too long is replaced, told, and harmless'])
    expect([...failures.values()][0]).toContain('endLease()')
  })
})

describe('a store that', () => {
  const cases: readonly {
    readonly fault: string
    readonly failing: readonly string[]
    readonly store: () => Promise<StoreFixture>
    readonly level?: ContractLevel
  }[] = [
    {
      fault: 'throws when an absent key is deleted',
      failing: ['a deleted key is absent, and deleting it again succeeds'],
      store: broken((sound) => ({
        async delete(key, context, options) {
          if ((await sound.get(key, context)) === undefined) throw new Error('ENOENT')
          await sound.delete(key, context, options)
        },
      })),
    },
    {
      fault: 'keeps the array it is given',
      failing: ['changing an array changes nothing that is stored'],
      store: broken((sound) => {
        const values = new Map<StoreKey, Uint8Array>()
        return {
          async put(key, value, context, options) {
            const revision = await sound.put(key, value, context, options)
            values.set(key, value)
            return revision
          },
          async get(key, context) {
            const found = await sound.get(key, context)
            return found === undefined ? undefined : { ...found, value: values.get(key) ?? found.value }
          },
        }
      }),
    },
    {
      fault: 'hands out the array it keeps',
      failing: ['changing an array changes nothing that is stored'],
      store: broken((sound) => {
        const cache = new Map<string, StoredValue>()
        return {
          async get(key, context) {
            const found = await sound.get(key, context)
            if (found === undefined) return undefined
            if (!cache.has(found.revision)) cache.set(found.revision, found)
            return cache.get(found.revision)
          },
        }
      }),
    },
    {
      fault: 'cuts long values',
      failing: ['a value comes back byte for byte'],
      store: broken((sound) => ({
        put: (key, value, context, options) => sound.put(key, value.subarray(0, 65_536), context, options),
      })),
    },
    {
      fault: 'stores text instead of bytes',
      failing: ['a value comes back byte for byte'],
      store: broken((sound) => ({
        put: (key, value, context, options) =>
          sound.put(key, Buffer.from(Buffer.from(value).toString()), context, options),
      })),
    },
    {
      fault: 'ignores an abort',
      failing: ['an aborted signal rejects with its reason and changes nothing'],
      store: broken((sound) => ({
        put: (key, value, context, options) => sound.put(key, value, { ...context, signal: never }, options),
      })),
    },
    {
      fault: 'wraps the reason of an abort',
      failing: ['an aborted signal rejects with its reason and changes nothing'],
      store: broken((sound) => ({
        async get(key, context) {
          if (context.signal.aborted) throw new Error('aborted', { cause: context.signal.reason })
          return sound.get(key, context)
        },
      })),
    },
    {
      fault: 'leaves out one of many',
      failing: ['many values are read as each of them is'],
      store: readingMany((found, index) => (index === 99 ? [] : [found])),
    },
    {
      fault: 'leaves out those of many that are absent',
      failing: ['many values are read as each of them is'],
      store: readingMany((found) => (found.stored === undefined ? [] : [found])),
    },
    {
      fault: 'tells one of many twice',
      failing: ['many values are read as each of them is'],
      store: readingMany((found, index) => (index === 99 ? [found, found] : [found])),
    },
    {
      fault: 'mixes up many values',
      failing: ['many values are read as each of them is'],
      store: readingMany(({ key, stored }) => [
        { key, stored: stored && { ...stored, value: Buffer.from('of another key') } },
      ]),
    },
    {
      fault: 'makes up revisions of many values',
      failing: ['many values are read as each of them is'],
      store: readingMany(({ key, stored }) => [{ key, stored: stored && { ...stored, revision: '1' as Revision } }]),
    },
    {
      fault: 'goes on reading many values after an abort',
      failing: ['an aborted signal rejects with its reason and changes nothing'],
      store: broken((sound) => ({
        getMany: (keys, context) => eachOf(sound, keys, { ...context, signal: never }, (found) => [found]),
      })),
    },
    {
      fault: 'goes on with more parts after an abort',
      failing: ['many values are read as each of them is'],
      store: broken((sound) => ({
        getMany: (keys, context) => {
          context.signal.throwIfAborted()
          return eachOf(sound, keys, { ...context, signal: never }, (found) => [found])
        },
      })),
    },
    {
      fault: 'ends without a word at an abort',
      failing: ['many values are read as each of them is'],
      store: broken((sound) => ({
        async *getMany(keys, context) {
          context.signal.throwIfAborted()
          for await (const part of eachOf(sound, keys, { ...context, signal: never }, (found) => [found])) {
            yield part
            if (context.signal.aborted) return
          }
        },
      })),
    },
    {
      fault: 'finds nothing where one of many is damaged',
      failing: ['a damaged value is handed out, and replaced or deleted by its revision only'],
      store: damageable(corrupt, {
        readMany: (store) => (keys, context) => eachOf(store, keys, context, ({ key, stored }) => [{ key, stored }]),
      }),
    },
    {
      fault: 'finds nothing at all when one of many is damaged',
      failing: ['a damaged value is handed out, and replaced or deleted by its revision only'],
      store: damageable(corrupt, {
        readMany: (store) => (keys, context) =>
          eachOf(store, keys, context, (found) => {
            if (found.error !== undefined) throw found.error
            return [found]
          }),
      }),
    },
    {
      fault: 'loses everything at a restart',
      level: 'basic',
      failing: ['values are there for whoever opens the store next'],
      store: () => Promise.resolve({ store: memoryStore(), reopen: () => Promise.resolve(memoryStore()) }),
    },
    {
      fault: 'takes the hash of a value for its revision',
      failing: ['a value written twice has two revisions', 'a revision does not come back with a key that was deleted'],
      store: broken((sound) => hashedRevisions(sound)),
    },
    {
      fault: 'ignores create-only',
      failing: [
        'create-only refuses a key that exists, and keeps its value',
        'of several who create at once exactly one succeeds',
      ],
      store: broken((sound) => ({
        put: (key, value, context, options) =>
          sound.put(key, value, context, options?.ifRevision === null ? {} : options),
      })),
    },
    {
      fault: 'ignores revisions: lost updates',
      failing: [
        'a write with the current revision replaces, one with an old revision is refused',
        'a revision does not come back with a key that was deleted',
        'increments by several writers at once are all counted',
      ],
      store: broken((sound) => ({
        put: (key, value, context, options) =>
          sound.put(key, value, context, options?.ifRevision === null ? options : {}),
      })),
    },
    {
      fault: 'compares first and writes later',
      failing: [
        'of several who create at once exactly one succeeds',
        'increments by several writers at once are all counted',
      ],
      store: broken((sound) => ({
        async put(key, value, context, options) {
          const copy = Uint8Array.from(value)
          await compare(sound, key, options)
          await turn()
          return sound.put(key, copy, context)
        },
      })),
    },
    {
      fault: 'writes, and then reports the conflict',
      failing: ['create-only refuses a key that exists, and keeps its value'],
      store: broken((sound) => ({
        async put(key, value, context, options) {
          const copy = Uint8Array.from(value)
          const conflict = await compare(sound, key, options).then(
            () => undefined,
            (error: unknown) => error,
          )
          const revision = await sound.put(key, copy, context)
          if (conflict !== undefined) throw conflict as Error
          return revision
        },
      })),
    },
    {
      fault: 'reports a conflict as any error',
      failing: ['create-only refuses a key that exists, and keeps its value'],
      store: broken((sound) => ({
        put: (key, value, context, options) =>
          sound.put(key, value, context, options).catch((error: unknown) => {
            throw error instanceof StoreError ? new Error('duplicate key value violates unique constraint') : error
          }),
      })),
    },
    {
      fault: 'deletes whatever the revision is',
      failing: ['only the given revision is deleted'],
      store: broken((sound) => ({ delete: (key, context) => sound.delete(key, context) })),
    },
    {
      fault: 'writes a value in two steps',
      failing: ['a reader sees the value of one writer, never a mixture'],
      store: broken((sound) => ({
        async put(key, value, context, options) {
          const copy = Uint8Array.from(value)
          const before = await sound.get(key, context)
          const half = copy.length >> 1
          const mixture = Buffer.concat([copy.subarray(0, half), before?.value.subarray(half) ?? new Uint8Array()])
          const revision = await sound.put(key, mixture, context, options)
          await turn()
          return sound.put(key, copy, context, { ifRevision: revision })
        },
      })),
    },
    {
      fault: 'deletes before it replaces',
      failing: [
        'a reader sees the value of one writer, never a mixture',
        'keys that nobody touches are listed while others come and go',
      ],
      store: broken((sound) => ({
        async put(key, value, context, options) {
          const copy = Uint8Array.from(value)
          await compare(sound, key, options)
          await sound.delete(key, context)
          await turn()
          return sound.put(key, copy, context)
        },
      })),
    },
    {
      fault: 'lists by path component',
      failing: ['a prefix is compared to the whole beginning of the key'],
      store: broken((sound) => ({
        async *list(prefix, context) {
          for await (const key of sound.list('', context)) {
            if (
              prefix === '' || prefix.endsWith('/')
                ? key.startsWith(prefix)
                : key === prefix || key.startsWith(`${prefix}/`)
            )
              yield key
          }
        },
      })),
    },
    {
      fault: 'lists by pattern',
      failing: ['a prefix is compared to the whole beginning of the key'],
      store: broken((sound) => ({
        async *list(prefix, context) {
          const like = new RegExp(`^${prefix.replaceAll('%', '.*').replaceAll('_', '.')}`)
          for await (const key of sound.list('', context)) if (like.test(key)) yield key
        },
      })),
    },
    {
      fault: 'lists one page only',
      failing: ['the list holds each key with the prefix, once'],
      store: broken((sound) => ({
        async *list(prefix, context) {
          let count = 0
          for await (const key of sound.list(prefix, context)) {
            if (count < 20) yield key
            count += 1
          }
        },
      })),
    },
    {
      fault: 'does not tell case apart',
      failing: ['odd names are kept apart and come back as they were'],
      store: broken((sound) => renamedKeys(sound, (key) => key.toLowerCase() as StoreKey)),
    },
    {
      fault: 'cuts long keys',
      failing: ['odd names are kept apart and come back as they were'],
      store: broken((sound) => renamedKeys(sound, (key) => key.slice(0, 210) as StoreKey)),
    },
    {
      fault: 'gives a lock to everybody',
      failing: [
        'a lock has one holder',
        'of several who ask at once exactly one gets the lock',
        'releasing twice is the same as once, and disposing releases',
        'a holder keeps its lock for as long as it needs',
      ],
      store: broken(() => {
        let token = 0
        return {
          lock() {
            token += 1
            return Promise.resolve(heldLock(String(token)))
          },
        }
      }),
    },
    {
      fault: 'looks first and locks later',
      failing: ['of several who ask at once exactly one gets the lock'],
      store: broken(() => {
        const holders = new Map<string, StoreLock>()
        let token = 0
        return {
          async lock(name) {
            if (holders.has(name)) return undefined
            await turn()
            token += 1
            const release = (): Promise<void> => Promise.resolve(void holders.delete(name))
            const lock = { ...heldLock(String(token)), release, [Symbol.asyncDispose]: release }
            holders.set(name, lock)
            return lock
          },
        }
      }),
    },
    {
      fault: 'makes fencing tokens of nothing',
      failing: ['fencing tokens grow with every holder, also over a restart'],
      store: broken((sound) => ({
        async lock(name, context, options) {
          const lock = await soundLock(sound)(name, context, options)
          return lock === undefined ? undefined : { ...lock, fencingToken: '1' }
        },
      })),
    },
    {
      fault: 'renews nothing',
      failing: ['a holder keeps its lock for as long as it needs'],
      store: broken((sound) => ({
        lock: (name, context, options) =>
          soundLock(sound)(
            name,
            { ...context, clock: { now: () => context.clock.now(), sleep: sleepForEver } },
            options,
          ),
      })),
    },
    {
      fault: 'never replaces a holder',
      failing: ['a holder that slept too long is replaced, told, and harmless'],
      store: broken((sound) => ({
        lock: (name, context, options) =>
          soundLock(sound)(name, { ...context, clock: { ...context.clock, now: () => 0 } }, options),
      })),
    },
    {
      fault: 'does not tell a holder that it lost its lease',
      failing: ['a holder that slept too long is replaced, told, and harmless'],
      store: broken((sound) => ({
        async lock(name, context, options) {
          const lock = await soundLock(sound)(name, context, options)
          return lock === undefined ? undefined : { ...lock, signal: never }
        },
      })),
    },
    {
      fault: 'releases the lock of somebody else',
      failing: ['releasing twice is the same as once, and disposing releases'],
      store: broken((sound) => {
        const current = new Map<string, StoreLock>()
        return {
          async lock(name, context, options) {
            const lock = await soundLock(sound)(name, context, options)
            if (lock === undefined) return undefined
            current.set(name, lock)
            return { ...lock, release: async () => current.get(name)?.release() }
          },
        }
      }),
    },
    {
      fault: 'keeps locks among the values',
      failing: ['locks are not values'],
      store: broken((sound) => ({
        async lock(name, context, options) {
          await sound.put('renewals/lock', Buffer.from(name), context)
          return soundLock(sound)(name, context, options)
        },
      })),
    },
    {
      fault: 'keeps what it found damaged to itself',
      failing: ['a damaged value is handed out, and replaced or deleted by its revision only'],
      store: damageable((key) => corrupt(key)),
    },
    {
      fault: 'has an error of its own for damage',
      failing: ['a damaged value is handed out, and replaced or deleted by its revision only'],
      store: damageable(() => new SyntaxError('unexpected end')),
    },
    {
      fault: 'replaces a value that is not damaged any more',
      failing: ['a damaged value is handed out, and replaced or deleted by its revision only'],
      store: damageable(corrupt, { ignoresRevision: true }),
    },
    {
      fault: 'watches everything',
      failing: ['a watcher is told of changes below its prefix, until its signal aborts'],
      store: broken((sound) => {
        const watchers = new Set<(key: StoreKey) => void>()
        return {
          put(key, value, context, options) {
            for (const watcher of watchers) watcher(key)
            return sound.put(key, value, context, options)
          },
          async watch(_, onChange, { signal }) {
            watchers.add(onChange)
            await new Promise((resolve) => {
              signal.addEventListener('abort', resolve)
            })
            watchers.delete(onChange)
          },
        }
      }),
    },
    {
      fault: 'tells a watcher of nothing later',
      failing: ['a watcher is told of changes below its prefix, until its signal aborts'],
      store: broken((sound) => ({
        async watch(prefix, onChange, context) {
          const ended = new Promise((_, reject) => {
            context.signal.addEventListener('abort', () => {
              reject(context.signal.reason as Error)
            })
          })
          // As one that is slow to connect: there is something by then.
          let begun = false
          while (!begun && !context.signal.aborted) {
            for await (const key of sound.list(prefix, context)) {
              onChange(key)
              begun = true
            }
            await turn()
          }
          await ended
        },
      })),
    },
  ]

  it.each(cases)(
    '$fault fails',
    async ({ store, failing, level = 'strict' }) => {
      const failures = await failuresOf({ createStore: store, level })
      for (const name of failing) expect([...failures.keys()], 'these cases failed').toContain(name)
      // A fault is found by the cases that are about it, not by everything falling over.
      expect(failures.size, [...failures].map((entry) => entry.join(': ')).join('\n')).toBeLessThanOrEqual(
        failing.length + 4,
      )
    },
    60_000,
  )
})

function sleepForEver(_: number, { signal }: SleepOptions = {}): Promise<void> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => {
      reject(new Error('woken up'))
    })
  })
}

async function compare(sound: CertStore, key: StoreKey, options: PutOptions = {}): Promise<void> {
  const context = { signal: never, clock: { now: () => 0, sleep: () => Promise.resolve() }, logger: console }
  const current = (await sound.get(key, context))?.revision ?? null
  if (options.ifRevision === undefined || options.ifRevision === current) return
  throw new StoreError({ code: 'ERR_STORE_CONFLICT', message: `${key} was changed`, store: 'broken', key })
}

function hashedRevisions(sound: CertStore): Partial<CertStore> {
  const hash = (value: Uint8Array): Revision => createHash('sha256').update(value).digest('hex') as Revision
  const real = async (key: StoreKey, context: Parameters<CertStore['get']>[1], wanted: Revision | null | undefined) => {
    if (wanted === null || wanted === undefined) return wanted
    const found = await sound.get(key, context)
    return found !== undefined && hash(found.value) === wanted ? found.revision : wanted
  }
  return {
    async get(key, context) {
      const found = await sound.get(key, context)
      return found === undefined ? undefined : { value: found.value, revision: hash(found.value) }
    },
    async put(key, value, context, options) {
      const copy = Uint8Array.from(value)
      await sound.put(key, copy, context, { ifRevision: await real(key, context, options?.ifRevision) })
      return hash(copy)
    },
    async delete(key, context, options) {
      const ifRevision = await real(key, context, options?.ifRevision)
      await sound.delete(key, context, ifRevision === null ? {} : { ifRevision })
    },
  }
}

function renamedKeys(sound: CertStore, rename: (key: StoreKey) => StoreKey): Partial<CertStore> {
  return {
    get: (key, context) => sound.get(rename(key), context),
    put: (key, value, context, options) => sound.put(rename(key), value, context, options),
    delete: (key, context, options) => sound.delete(rename(key), context, options),
  }
}
