/**
 * Entries in one directory, changed by compare-and-set between processes.
 *
 * POSIX has no compare-and-set for files, so a writer takes a *turn*. The turn of an entry is a directory beside it that
 * holds what the writer is about to commit:
 *
 *     .evercert-<id>.tmp/<id>      1. prepared: complete, 0600, synced
 *     <name>.turn/<id>             2. rename of the directory: fails while somebody else's is there and not empty
 *     <name>.entry                 3. compare the revision, then rename the file out of the turn: the commit
 *
 * The commit moves the one thing the turn holds, so it also ends the turn: an empty directory is free to be replaced.
 * A writer that was killed between 2 and 3 leaves its turn behind, one that was stopped keeps it. Others do not have to
 * know which: they evict `<id>` by renaming it away. Ids are never used twice, therefore an evicted writer that wakes up
 * finds its file gone (ENOENT), whoever's turn it is by then, and starts again. Eviction is thus always safe, and no
 * clock, process id or timeout is trusted with correctness; at worst it costs the evicted writer a second attempt.
 *
 * Readers take no turns: an entry is replaced by rename, and one open file is one version.
 *
 * @module
 */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { join } from 'node:path'
import { StoreError } from '../../errors.js'
import { errorCode, syncDirectory } from '../../internal/atomic-file.js'
import type { FileSystem } from '../../internal/file-system.js'
import type { Revision } from '../cert-store.js'
import { compareRevision } from '../compare-revision.js'
import { damaged, decodeEntry, encodeEntry, largestEntryBytes, type Entry } from '../entry-format.js'
import { isHashedName, keyName, nameKey } from './key-name.js'

/**
 * Attempts to enter before the holder of a turn is evicted. Counted in file operations and not in time: whatever slows
 * the holder down (a busy disk) slows its evictor down as well. A turn takes about five operations.
 */
const patience = 100

/** About a second. Whoever has not got a turn by then is told, instead of trying for ever. */
const maxTries = 20_000

/** So many evictions in a row mean that something else is wrong. */
const maxAttempts = 50

/** Leftovers younger than this may belong to a writer that is at work. */
const leftoverAgeMs = 60 * 60_000

/** Where entries live, and which of the files there are meant. */
export interface EntryFilesOptions {
  /** Absolute, without symbolic links. */
  readonly directory: string
  /** Appended to the encoded key. */
  readonly suffix: '.entry' | '.lease'
  /** Name of the store, for errors. */
  readonly store: string
  readonly files: FileSystem
}

/** What {@link entryFiles} makes. Errors are those of the file system, or a conflict. */
export interface EntryFiles {
  path(key: string): string
  read(key: string): Promise<Entry | undefined>
  write(key: string, value: Uint8Array, signal: AbortSignal, ifRevision?: Revision | null): Promise<Revision>
  remove(key: string, signal: AbortSignal, ifRevision?: Revision): Promise<void>
  /** Keys that start with the prefix; files that are not entries are passed over. */
  keys(prefix: string, signal: AbortSignal): AsyncIterable<string>
}

/** Gives access to the entries of a directory. Holds no state. */
export function entryFiles(options: EntryFilesOptions): EntryFiles {
  const { directory, suffix, store, files } = options
  const path = (key: string): string => join(directory, `${keyName(key)}${suffix}`)

  async function readFile(file: string, key?: string): Promise<Entry | undefined> {
    let handle
    try {
      // Never through a planted link, and never waiting for the other end of a planted pipe.
      handle = await files.open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return undefined
      if (errorCode(error) === 'ELOOP') return damaged('is a symbolic link', file)
      throw error
    }
    try {
      const status = await handle.stat()
      if (!status.isFile()) return damaged('is not a regular file', file)
      if (status.size > largestEntryBytes) return damaged(`is too large (${String(status.size)} bytes)`, file)
      return decodeEntry(await handle.readFile(), key)
    } finally {
      await handle.close()
    }
  }

  async function compare(key: string, expected: Revision | null | undefined): Promise<void> {
    if (expected === undefined) return
    compareRevision({ store, key }, (await readFile(path(key), key))?.revision ?? null, expected)
  }

  /** Runs `commit` with the path of what `prepare` made, while nobody else can change the entry. */
  async function inTurn(
    key: string,
    signal: AbortSignal,
    prepare: (path: string, id: string) => Promise<void>,
    commit: (path: string) => Promise<void>,
  ): Promise<string> {
    const turn = `${path(key)}.turn`
    for (let attempt = 1; ; attempt += 1) {
      const id = randomBytes(16).toString('hex')
      const staging = stagingPath(directory, id)
      await files.mkdir(staging, { mode: 0o700 })
      try {
        await prepare(join(staging, id), id)
        await enter(staging, turn, signal)
        await commit(join(turn, id))
        return id
      } catch (error) {
        // What was prepared is gone: evicted, or swept because this process slept for an hour.
        if (errorCode(error) !== 'ENOENT' || attempt === maxAttempts) throw error
      } finally {
        await files.rm(staging, { recursive: true, force: true }).catch(() => undefined)
        await files.rm(join(turn, id), { recursive: true, force: true }).catch(() => undefined)
        // Fails when it is someone else's by now.
        await files.rmdir(turn).catch(() => undefined)
      }
    }
  }

  async function enter(staging: string, turn: string, signal: AbortSignal): Promise<void> {
    let holderBefore: string | undefined
    for (let tries = 1; ; tries += 1) {
      signal.throwIfAborted()
      try {
        await files.rename(staging, turn)
        return
      } catch (error) {
        if (!['ENOTEMPTY', 'EEXIST'].includes(errorCode(error) ?? '')) throw error
      }
      if (tries === maxTries) {
        const message = `${store}: no turn at ${turn} after ${String(tries)} tries; if no process writes there, remove what is in it`
        throw new StoreError({ code: 'ERR_STORE_UNAVAILABLE', message, store })
      }
      if (tries % patience !== 0) continue
      const holder = await holderOf(files, turn)
      if (holder !== undefined && holder === holderBefore) await evict(files, directory, turn, holder)
      holderBefore = holder
    }
  }

  return {
    path,
    read: (key) => readFile(path(key), key),
    async write(key, value, signal, ifRevision) {
      // Saves a losing writer the trouble; what counts is the comparison inside the turn.
      await compare(key, ifRevision)
      const revision = await inTurn(
        key,
        signal,
        async (prepared, id) => {
          const handle = await files.open(prepared, 'wx', 0o600)
          try {
            await handle.writeFile(encodeEntry(key, id, value))
            await handle.sync()
          } finally {
            await handle.close()
          }
        },
        async (prepared) => {
          await compare(key, ifRevision)
          signal.throwIfAborted()
          await files.rename(prepared, path(key))
        },
      )
      await syncDirectory(directory, files)
      return revision as Revision
    },
    async remove(key, signal, ifRevision) {
      const absent = async (): Promise<boolean> => (await readFile(path(key), key)) === undefined
      if (await absent()) return
      await inTurn(
        key,
        signal,
        // A directory to move the entry into: it exists only as long as the turn is ours.
        async (prepared) => {
          await files.mkdir(prepared, { mode: 0o700 })
        },
        async (prepared) => {
          if (await absent()) return
          await compare(key, ifRevision)
          signal.throwIfAborted()
          await files.rename(path(key), join(prepared, 'removed'))
        },
      )
      await syncDirectory(directory, files)
    },
    async *keys(prefix, signal) {
      for (const file of await files.readdir(directory)) {
        signal.throwIfAborted()
        if (!file.endsWith(suffix)) continue
        const name = file.slice(0, -suffix.length)
        let key = nameKey(name)
        if (isHashedName(name)) {
          const entry = await readFile(join(directory, file))
          key = entry !== undefined && 'key' in entry && keyName(entry.key) === name ? entry.key : undefined
        }
        if (key?.startsWith(prefix) === true) yield key
      }
    },
  }
}

/** Removes what writers that were killed have left behind. What is not evercert's, or is younger than an hour, stays. */
export async function sweepLeftovers(directory: string, now: number, files: FileSystem): Promise<void> {
  const old = async (path: string): Promise<boolean> => now - (await files.lstat(path)).mtimeMs > leftoverAgeMs
  for (const file of await files.readdir(directory)) {
    const path = join(directory, file)
    const sweep = async (): Promise<void> => {
      if (/^\.evercert-[0-9a-f]{32}\.tmp$/.test(file)) {
        if (await old(path)) await files.rm(path, { recursive: true, force: true })
      } else if (/\.(?:entry|lease)\.turn$/.test(file)) {
        const holder = await holderOf(files, path)
        if (holder !== undefined && (await old(join(path, holder)))) await evict(files, directory, path, holder)
        if (await old(path)) await files.rmdir(path)
      }
    }
    // Gone already, or not to be removed by us: neither stops a store from working.
    await sweep().catch(() => undefined)
  }
}

async function holderOf(files: FileSystem, turn: string): Promise<string | undefined> {
  try {
    return (await files.readdir(turn)).find((name) => /^[0-9a-f]{32}$/.test(name))
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined
    throw error
  }
}

async function evict(files: FileSystem, directory: string, turn: string, holder: string): Promise<void> {
  const away = stagingPath(directory, randomBytes(16).toString('hex'))
  try {
    await files.rename(join(turn, holder), away)
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return
    throw error
  }
  await files.rm(away, { recursive: true, force: true })
}

function stagingPath(directory: string, id: string): string {
  return join(directory, `.evercert-${id}.tmp`)
}
