import { createHash } from 'node:crypto'
import { chmod, lstat, mkdir, readdir, readFile, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { StoreError } from '../../../src/errors.js'
import { storeKey, type CertStore, type Revision, type StoreKey } from '../../../src/stores/cert-store.js'
import { fileStore } from '../../../src/stores/file.js'
import { encodeEntry, largestEntryBytes } from '../../../src/stores/entry-format.js'
import { keyName } from '../../../src/stores/file/key-name.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { recordingLogger } from '../../../src/testing/recording-logger.js'
import { interceptedFiles, systemError, type FileOperation } from '../../support/intercepted-files.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../support/temporary-directory.js'

const key = 'certificates/www'
const context = operationContext()

let temporary: TemporaryDirectory
let directories = 0

beforeEach(async () => {
  temporary = await temporaryDirectory()
})

afterEach(async () => {
  await temporary.remove()
})

async function freshDirectory(): Promise<string> {
  directories += 1
  const directory = join(temporary.path, `store-${String(directories)}`)
  await mkdir(directory, { mode: 0o700 })
  return directory
}

describe('fileStore options', () => {
  it.each([
    ['no options', undefined, /fileStore takes an options object/],
    ['no directory', {}, /"directory" option/],
    ['a relative directory', { directory: 'certificates' }, /"directory" option must be an absolute path/],
    ['an unknown option', { directory: '/tmp/x', mode: 0o644 }, /unknown option "mode"/],
  ])('refuses %s', (_, options, message) => {
    expect(() => fileStore(options as never)).toThrow(message)
    expect(() => fileStore(options as never)).toThrow(TypeError)
  })

  it('touches nothing before it is used', async () => {
    const directory = join(temporary.path, 'later')
    fileStore({ directory })
    await expect(lstat(directory)).rejects.toThrow(/ENOENT/)
  })
})

describe('files and directories', () => {
  it('are made for their owner only, parents included', async () => {
    const directory = join(temporary.path, 'a', 'b')
    const store = fileStore({ directory })
    await store.put(key, bytes('value'), context)
    await store.lock?.('www', context, { ttlMs: 1000 })
    expect(await readdir(directory)).toEqual(['certificates+www.entry', 'locks+www.lease'])
    for (const path of [join(temporary.path, 'a'), directory]) expect(await modeOf(path)).toBe('700')
    for (const name of await readdir(directory)) expect(await modeOf(join(directory, name))).toBe('600')
    await store.close?.()
  })

  it('that are open to others are reported once, and left as they are', async () => {
    const directory = await freshDirectory()
    await chmod(directory, 0o755)
    const logger = recordingLogger()
    const store = fileStore({ directory })
    for (let count = 0; count < 3; count += 1) await store.get(key, operationContext({ logger }))
    expect(logger.entries).toEqual([
      {
        level: 'warn',
        message: 'store directory is open to other users, it should have mode 0700',
        fields: { directory, mode: '0755' },
      },
    ])
    expect(await modeOf(directory)).toBe('755')
  })

  it('never get a path, a bad character or too long a name from a key', async () => {
    const directory = await freshDirectory()
    const store = fileStore({ directory })
    const components = [
      '../../../etc/passwd',
      '.',
      '..',
      'A',
      'a',
      'ÄÖ',
      'nul\0nul',
      'x'.repeat(5000),
      ' ',
      'CON',
      '~',
      '*',
    ]
    // Also what evercert would have encoded.
    const keys = [
      ...components.map((component) => storeKey('certificates', component)),
      ...components.map((component): StoreKey => `orders/${component}`),
    ]
    for (const each of keys) await store.put(each, bytes(each), context, { ifRevision: null })
    const names = await readdir(directory)
    expect(names).toHaveLength(keys.length)
    for (const name of names) expect(name).toMatch(/^[a-z0-9~][a-z0-9._+~-]{1,200}\.entry$/)
    expect(await keysOf(store)).toEqual([...keys].sort())
    for (const each of keys) expect(text(await store.get(each, context))).toBe(each)
    expect(await readdir(temporary.path)).toHaveLength(1)
  })

  it('of others are neither listed nor touched', async () => {
    const directory = await freshDirectory()
    const foreign = [
      'README',
      '.x.0123456789abcdef.tmp',
      'UPPER.entry',
      'bad_zz.entry',
      'other.turn',
      '.evercert-1.tmp',
    ]
    for (const name of foreign) await writeFile(join(directory, name), 'foreign')
    await mkdir(join(directory, 'lost+found'))
    const old = new Date(Date.now() - 10 * 86_400_000)
    for (const name of await readdir(directory)) await utimes(join(directory, name), old, old)
    const store = fileStore({ directory, clock: fakeClock({ now: Date.now() }) })
    await store.put(key, bytes('value'), context)
    expect(await keysOf(store)).toEqual([key])
    expect(await readdir(directory)).toEqual([...foreign, 'lost+found', 'certificates+www.entry'].sort())
  })

  it('that a killed writer left are removed after an hour, not before', async () => {
    const directory = await freshDirectory()
    const clock = fakeClock({ now: Date.now() })
    const leftovers = async (): Promise<string[]> =>
      (await readdir(directory)).filter((name) => !name.endsWith('.entry'))
    for (const stage of ['handle.writeFile', 'rename']) {
      // Twice, so that the second one crashes in the turn.
      await crashAt(directory, (operation) => operation.name === stage, 1)
      await crashAt(directory, (operation) => operation.name === stage, 2)
    }
    const before = await leftovers()
    expect(before.length).toBeGreaterThanOrEqual(3)
    await fileStore({ directory, clock }).get(key, context)
    expect(await leftovers()).toEqual(before)
    await clock.advance(2 * 3_600_000)
    await fileStore({ directory, clock }).get(key, context)
    expect(await leftovers()).toEqual([])
  })

  it('list 10,000 keys in well under two seconds', async () => {
    const directory = await freshDirectory()
    const keys = Array.from({ length: 10_000 }, (_, index) =>
      storeKey('certificates', `name-${String(index)}.example.com`),
    )
    for (let start = 0; start < keys.length; start += 500) {
      const batch = keys.slice(start, start + 500)
      await Promise.all(
        batch.map((each) =>
          writeFile(join(directory, `${keyName(each)}.entry`), encodeEntry(each, '0'.repeat(32), bytes('x'))),
        ),
      )
    }
    const store = fileStore({ directory })
    const startedAt = performance.now()
    expect(await keysOf(store, 'certificates/')).toHaveLength(10_000)
    const took = performance.now() - startedAt
    console.log(`listed 10,000 keys in ${took.toFixed(0)} ms`)
    expect(took).toBeLessThan(2000)
  })
})

describe('a damaged file', () => {
  const damages: readonly (readonly [string, (path: string) => Promise<unknown>, RegExp])[] = [
    ['that is empty', (path) => writeFile(path, ''), /is empty/],
    [
      'that is cut short',
      async (path) => writeFile(path, (await readFile(path)).subarray(0, -1)),
      /has \d+ bytes instead of/,
    ],
    ['that is cut in the header', async (path) => writeFile(path, (await readFile(path)).subarray(0, 40)), /header/],
    [
      'with bytes added',
      async (path) => writeFile(path, Buffer.concat([await readFile(path), bytes('x')])),
      /instead of/,
    ],
    ['with one bit changed', (path) => flipLastBit(path), /checksum/],
    ['of garbage', (path) => writeFile(path, Buffer.alloc(5000, 7)), /header/],
    ['in JSON', (path) => writeFile(path, '{"schema":1}'), /header/],
    [
      'of a newer format',
      async (path) => writeFile(path, (await readFile(path, 'latin1')).replace('entry 1', 'entry 2')),
      /header/,
    ],
    [
      'that belongs to another key',
      (path) => writeFile(path, encodeEntry('certificates/api', '0'.repeat(32), bytes('x'))),
      /another key/,
    ],
    ['that is huge', (path) => writeFile(path, Buffer.alloc(largestEntryBytes + 1)), /too large/],
    ['that is a link', (path) => replaceByLink(path), /symbolic link/],
    [
      'that is a directory',
      async (path) => {
        await rm(path)
        await mkdir(path)
      },
      /not a regular file/,
    ],
  ]

  it.each(damages)('%s is named, spoils nothing else, and can be deleted', async (_, damage, message) => {
    const directory = await freshDirectory()
    const store = fileStore({ directory })
    const revision = await store.put(key, bytes('secret value'), context)
    await store.put('certificates/other', bytes('fine'), context)
    const path = join(directory, 'certificates+www.entry')
    await damage(path)

    const error = await rejection(store.get(key, context))
    expect(error).toMatchObject({ code: 'ERR_STORE_CORRUPT', retryable: false, store: 'file', key })
    expect((error as Error).message).toContain(path)
    expect((error as Error).message).toMatch(message)
    expect(inspect(error)).not.toContain('secret value')
    expect(text(await store.get('certificates/other', context))).toBe('fine')
    expect(await keysOf(store)).toEqual(['certificates/other', key])

    for (const ifRevision of [null, revision]) {
      expect(await rejection(store.put(key, bytes('x'), context, { ifRevision }))).toMatchObject({
        code: 'ERR_STORE_CONFLICT',
      })
    }
    await store.delete(key, context)
    await store.put(key, bytes('again'), context, { ifRevision: null })
    expect(text(await store.get(key, context))).toBe('again')
  })

  it.each(damages.slice(0, 9))('%s is handed out as it is, and replaced by its revision', async (_, damage) => {
    const directory = await freshDirectory()
    const store = fileStore({ directory })
    await store.put(key, bytes('secret value'), context)
    const path = join(directory, 'certificates+www.entry')
    await damage(path)
    const found = (await rejection(store.get(key, context))) as StoreError
    const raw = await readFile(path)
    expect(raw.equals(found.damaged?.value ?? bytes('none'))).toBe(true)
    expect(inspect(found)).not.toContain('secret value')

    const ifRevision = found.damaged?.revision as Revision
    const conflict = { code: 'ERR_STORE_CONFLICT' }
    await writeFile(path, Buffer.concat([raw, bytes('damaged further')]))
    expect(await rejection(store.put(key, bytes('x'), context, { ifRevision }))).toMatchObject(conflict)
    expect(await rejection(store.delete(key, context, { ifRevision }))).toMatchObject(conflict)
    await writeFile(path, raw)
    await fileStore({ directory }).put(key, bytes('again'), context, { ifRevision })
    expect(text(await store.get(key, context))).toBe('again')
    expect(await rejection(store.delete(key, context, { ifRevision }))).toMatchObject(conflict)
    await writeFile(path, raw)
    await store.delete(key, context, { ifRevision })
    expect(await store.get(key, context)).toBeUndefined()
  })

  it('of many MiB is handed out as far as it can be put elsewhere', async () => {
    const directory = await freshDirectory()
    const store = fileStore({ directory })
    await writeFile(join(directory, 'certificates+www.entry'), Buffer.alloc(largestEntryBytes, 7))
    const found = (await rejection(store.get(key, context))) as StoreError
    const cut = found.damaged?.value ?? new Uint8Array()
    expect(cut.length).toBe(1024 * 1024)
    await store.put('quarantine/www', cut, context)
  })

  it('can be overwritten', async () => {
    const directory = await freshDirectory()
    const store = fileStore({ directory })
    await store.put(key, bytes('before'), context)
    await writeFile(join(directory, 'certificates+www.entry'), 'garbage')
    await store.put(key, bytes('after'), context)
    expect(text(await store.get(key, context))).toBe('after')
  })

  it('with a hashed name is passed over by lists', async () => {
    const directory = await freshDirectory()
    const store = fileStore({ directory })
    const long = storeKey('certificates', 'x'.repeat(500))
    await store.put(long, bytes('value'), context)
    await store.put(key, bytes('value'), context)
    expect(await keysOf(store)).toEqual([key, long])
    await writeFile(join(directory, `~${createHash('sha256').update(long).digest('hex')}.entry`), 'garbage')
    expect(await keysOf(store)).toEqual([key])
  })
})

describe('the file system fails', () => {
  const operations: readonly (readonly [
    string,
    (store: CertStore) => Promise<unknown>,
    readonly (string | undefined)[],
  ])[] = [
    ['get', (store) => store.get(key, context), ['old']],
    ['put', (store) => store.put(key, bytes('new'), context), ['old', 'new']],
    [
      'compare-and-set',
      async (store) => store.put(key, bytes('new'), context, { ifRevision: (await store.get(key, context))?.revision }),
      ['old', 'new'],
    ],
    ['delete', (store) => store.delete(key, context), ['old', undefined]],
    ['list', (store) => keysOf(store), ['old']],
    ['lock', async (store) => (await store.lock?.('www', context, { ttlMs: 1000 }))?.release(), ['old']],
  ]

  it.each(operations)(
    'at every single operation of %s: whole values, clear errors, nothing left behind',
    async (_, run, values) => {
      const reported = new Set<string>()
      for (const code of ['ENOSPC', 'EIO', 'EROFS']) {
        for (let index = 1; ; index += 1) {
          const directory = await freshDirectory()
          await quickStore(directory).put(key, bytes('old'), context)
          let struck: FileOperation | undefined
          const files = interceptedFiles((operation) => {
            if (operation.index !== index) return
            struck = operation
            throw systemError(code, operation)
          })
          const error = await rejection(run(fileStore({ directory, files })))
          if (struck === undefined) {
            expect(error).toBeUndefined()
            expect(index).toBeGreaterThan(4)
            break
          }
          const where = `${code} at operation ${String(index)}, ${struck.name} ${struck.path}`
          if (error !== undefined) {
            reported.add(code)
            expect(error, where).toBeInstanceOf(StoreError)
            expect(error, where).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', retryable: true, store: 'file' })
            expect((error as Error).message, where).toContain(struck.path)
            expect((error as Error).message, where).toContain(code)
          }
          const store = quickStore(directory)
          const found = text(await store.get(key, context))
          expect(values, where).toContain(found)
          await store.put(key, bytes('next'), context)
          expect(text(await store.get(key, context)), where).toBe('next')
          if (struck.name !== 'rm' && struck.name !== 'rmdir') {
            const others = (await readdir(directory)).filter((name) => !/^[^.].*\.(?:entry|lease)$/.test(name))
            expect(others, where).toEqual([])
          }
        }
      }
      expect(reported.size, 'an error was never reported').toBe(3)
    },
  )

  it.each([
    ['ENOSPC', 'no space left on the device'],
    ['EDQUOT', 'the disk quota is used up'],
    ['EMFILE', 'the process has too many open files; raise its limit'],
    ['EROFS', 'the file system is read-only'],
    ['EACCES', 'permission denied; the process must own the directory'],
    ['ESTALE', 'ESTALE: injected'],
  ])('with %s, and says what that means', async (code, meaning) => {
    const directory = await freshDirectory()
    const files = interceptedFiles((operation) => {
      if (operation.name === 'handle.sync') throw systemError(code, operation)
    })
    const error = await rejection(fileStore({ directory, files }).put(key, bytes('x'), context))
    expect((error as Error).message).toContain(`file: cannot write certificates/www: ${meaning}`)
    expect((error as Error).message).toMatch(new RegExp(`\\(${code}, ${directory}/`))
    expect((error as Error).cause).toMatchObject({ code })
  })

  it('because the directory is a file', async () => {
    const directory = join(temporary.path, 'file')
    await writeFile(directory, '')
    const error = await rejection(quickStore(directory).put(key, bytes('x'), context))
    expect(error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE' })
    expect((error as Error).message).toContain(directory)
  })

  it('because the directory was replaced while it was in use: said once, then taken for what is meant', async () => {
    const directory = await freshDirectory()
    const store = quickStore(directory)
    await store.put(key, bytes('value'), context)
    await rename(directory, `${directory}-elsewhere`)
    expect(await rejection(store.get(key, context))).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE' })
    await rm(directory, { recursive: true, force: true })
    expect(await store.get(key, context)).toBeUndefined()
    await rm(directory, { recursive: true })
    await rename(`${directory}-elsewhere`, directory)
    const error = await rejection(store.put(key, bytes('x'), context))
    expect((error as Error).message).toContain('was removed or replaced while it was in use')
    expect(text(await store.get(key, context))).toBe('value')
  })
})

describe('a process', () => {
  it('that ends at any operation of a write leaves the old value or the new one, and no obstacle', async () => {
    const seen = new Set<string | undefined>()
    for (const write of ['put', 'delete'] as const) {
      for (let index = 1; ; index += 1) {
        const directory = await freshDirectory()
        const revision = await quickStore(directory).put(key, bytes('old'), context)
        const crashed = await crashAt(directory, () => true, index, write)
        const store = quickStore(directory)
        const found = text(await store.get(key, context))
        seen.add(found)
        expect(['old', write === 'put' ? 'new' : undefined]).toContain(found)
        if (found === 'old') await store.put(key, bytes('next'), context, { ifRevision: revision })
        else await store.put(key, bytes('next'), context)
        expect(text(await store.get(key, context))).toBe('next')
        if (!crashed) {
          expect(index).toBeGreaterThan(12)
          break
        }
      }
    }
    expect(seen).toEqual(new Set(['old', 'new', undefined]))
  })

  it('that is stopped at any operation of a write cannot undo what others did meanwhile', async () => {
    const winners = new Set<string>()
    for (const stopped of ['put', 'delete'] as const) {
      for (let index = 1; ; index += 1) {
        const directory = await freshDirectory()
        const revision = await quickStore(directory).put(key, bytes('old'), context)
        const [reached, resumed] = [gate(), gate()]
        const files = interceptedFiles(async (operation) => {
          if (operation.index !== index) return
          reached.open()
          await resumed.opened
        })
        const sleeper = fileStore({ directory, files })
        const writing =
          stopped === 'put'
            ? rejection(sleeper.put(key, bytes('sleeper'), context, { ifRevision: revision }))
            : rejection(sleeper.delete(key, context, { ifRevision: revision }))
        const wasStopped = await Promise.race([reached.opened.then(() => true), writing.then(() => false)])
        if (!wasStopped) {
          expect(index).toBeGreaterThan(12)
          break
        }
        const other = quickStore(directory)
        const otherFailed = await rejection(other.put(key, bytes('other'), context, { ifRevision: revision }))
        resumed.open()
        const sleeperFailed = await writing
        const found = text(await other.get(key, context))
        const where = `stopped at operation ${String(index)} of ${stopped}`
        if (otherFailed === undefined) {
          if (stopped === 'delete' && sleeperFailed === undefined)
            throw new Error(`both were told that they had won, ${where}`)
          expect(sleeperFailed, where).toMatchObject({ code: 'ERR_STORE_CONFLICT' })
          expect(found, where).toBe('other')
          winners.add('other')
        } else {
          expect(otherFailed, where).toMatchObject({ code: 'ERR_STORE_CONFLICT' })
          expect(sleeperFailed, where).toBeUndefined()
          expect(found, where).toBe(stopped === 'put' ? 'sleeper' : undefined)
          winners.add(stopped)
        }
        expect(await readdir(directory), where).toEqual(found === undefined ? [] : ['certificates+www.entry'])
      }
    }
    expect(winners).toEqual(new Set(['other', 'put', 'delete']))
  })

  it('that is stopped before it writes without a revision writes in the end', async () => {
    const directory = await freshDirectory()
    const [reached, resumed] = [gate(), gate()]
    let stops = 0
    const files = interceptedFiles(async ({ name, path }) => {
      if (name !== 'rename' || !path.includes('.turn/') || stops > 0) return
      stops += 1
      reached.open()
      await resumed.opened
    })
    const writing = fileStore({ directory, files }).put(key, bytes('late'), context)
    await reached.opened
    const store = quickStore(directory)
    await store.put(key, bytes('early'), context)
    resumed.open()
    const revision = await writing
    expect(await store.get(key, context)).toMatchObject({ revision })
    expect(text(await store.get(key, context))).toBe('late')
  })

  it('that cannot get a turn is told so, instead of waiting for ever', async () => {
    const directory = await freshDirectory()
    // Not something a writer left: that would be moved away.
    await mkdir(join(directory, 'certificates+www.entry.turn', 'foreign'), { recursive: true })
    const error = await rejection(quickStore(directory).put(key, bytes('x'), context))
    expect(error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE' })
    expect((error as Error).message).toContain('certificates+www.entry.turn')
    expect(await readdir(directory)).toEqual(['certificates+www.entry.turn'])
  })

  it('that is told to stop while it waits for a turn stops, and leaves nothing', async () => {
    const directory = await freshDirectory()
    await mkdir(join(directory, 'certificates+www.entry.turn', 'foreign'), { recursive: true })
    const abort = new AbortController()
    let tries = 0
    const files = interceptedFiles(({ name }) => {
      if (name === 'rename') tries += 1
      if (tries === 20) abort.abort(new Error('stop'))
    })
    const writing = fileStore({ directory, files }).put(key, bytes('x'), operationContext({ signal: abort.signal }))
    expect(await rejection(writing)).toBe(abort.signal.reason)
    expect(await readdir(directory)).toEqual(['certificates+www.entry.turn'])
  })
})

describe('locks', () => {
  it('are released when the store is closed, and whoever relied on them is told before', async () => {
    const directory = await freshDirectory()
    const store = fileStore({ directory })
    const lock = await store.lock?.('www', context, { ttlMs: 60_000 })
    expect(lock).toBeDefined()
    const closed = store.close?.()
    expect(lock?.signal.reason).toMatchObject({
      code: 'ERR_STORE_LOCK_LOST',
      message: expect.stringMatching(/store was closed/) as string,
    })
    await closed
    expect(await fileStore({ directory }).lock?.('www', context, { ttlMs: 60_000 })).toBeDefined()
  })

  it('leave no timer behind', async () => {
    const clock = fakeClock()
    const store = fileStore({ directory: await freshDirectory(), clock })
    const lock = await store.lock?.('www', context, { ttlMs: 60_000 })
    expect(clock.sleeping).toBeGreaterThan(0)
    await lock?.release()
    expect(clock.sleeping).toBe(0)
  })

  it.each(['', 'garbage'])(
    'whose file holds %j are given away after their time, with a growing token',
    async (content) => {
      const directory = await freshDirectory()
      const clock = fakeClock()
      const logger = recordingLogger()
      const waiting = operationContext({ clock, logger })
      const first = await fileStore({ directory, clock }).lock?.('www', context, { ttlMs: 60_000 })
      await first?.release()
      await writeFile(join(directory, 'locks+www.lease'), content)
      const store = fileStore({ directory })
      expect(await store.lock?.('www', waiting, { ttlMs: 60_000 })).toBeUndefined()
      for (const ms of [15_000, 15_000, 15_000, 14_999]) {
        await clock.advance(ms)
        expect(await store.lock?.('www', waiting, { ttlMs: 60_000 })).toBeUndefined()
      }
      await clock.advance(1)
      const next = await store.lock?.('www', waiting, { ttlMs: 60_000 })
      expect(BigInt(next?.fencingToken ?? 0)).toBeGreaterThan(BigInt(first?.fencingToken ?? 0))
      expect(logger.entries[0]).toMatchObject({ level: 'warn', fields: { lock: 'www' } })
      await next?.release()
    },
  )

  it('need a life', async () => {
    const store = fileStore({ directory: await freshDirectory() })
    await expect(store.lock?.('www', context, { ttlMs: 0 })).rejects.toThrow(TypeError)
  })
})

/** Runs a write whose process ends at the n-th operation that matches: nothing happens any more, no clean-up either. */
async function crashAt(
  directory: string,
  matches: (operation: FileOperation) => boolean,
  nth: number,
  write: 'put' | 'delete' = 'put',
): Promise<boolean> {
  let matched = 0
  let crashed = false
  const files = interceptedFiles((operation) => {
    if (!crashed && matches(operation)) matched += 1
    crashed ||= matched === nth
    if (crashed) throw new Error('the process has ended')
  })
  const store = fileStore({ directory, files })
  const error = await rejection(write === 'delete' ? store.delete(key, context) : store.put(key, bytes('new'), context))
  expect(error === undefined || crashed).toBe(true)
  return crashed
}

async function modeOf(path: string): Promise<string> {
  return ((await lstat(path)).mode & 0o777).toString(8)
}

async function flipLastBit(path: string): Promise<void> {
  const content = await readFile(path)
  content.writeUInt8(content.readUInt8(content.length - 1) ^ 1, content.length - 1)
  await writeFile(path, content)
}

async function replaceByLink(path: string): Promise<void> {
  await rename(path, `${path}.moved`)
  await symlink(`${path}.moved`, path)
}

async function keysOf(store: CertStore, prefix = ''): Promise<string[]> {
  const keys: string[] = []
  for await (const each of store.list(prefix, context)) keys.push(each)
  return keys.sort()
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise
    return undefined
  } catch (error) {
    return error
  }
}

function bytes(value: string): Uint8Array {
  return Buffer.from(value)
}

function text(stored: { readonly value: Uint8Array } | undefined): string | undefined {
  return stored === undefined ? undefined : Buffer.from(stored.value).toString()
}

function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = (): void => undefined
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open }
}

/** A store that does not wait for the disk. */
function quickStore(directory: string): CertStore {
  return fileStore({ directory, files: interceptedFiles(() => undefined) })
}
