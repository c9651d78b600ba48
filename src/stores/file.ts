/**
 * Certificates in a directory of the local disk.
 *
 * Published as `evercert/stores/file`.
 *
 * @module
 */
import { dirname } from 'node:path'
import type { Clock } from '../core/clock.js'
import type { OperationContext } from '../core/context.js'
import { StoreError } from '../errors.js'
import { errorCode, syncDirectory } from '../internal/atomic-file.js'
import { systemFiles, type FileSystem } from '../internal/file-system.js'
import { assertOptions, assertPath } from '../internal/options.js'
import type { CertStore, StoreKey } from './cert-store.js'
import { largestEntryBytes, type DamagedEntry, type Entry } from './entry-format.js'
import { entryFiles, sweepLeftovers, type EntryFiles } from './file/entry-files.js'
import { isProvenDead, processIdentity } from '../internal/process-identity.js'
import type { LeaseCell } from './lease.js'
import { storeLeases } from './store-leases.js'

/** Options of {@link fileStore}. */
export interface FileStoreOptions {
  /** Absolute path. Made with mode 0700 when it is missing; nothing else should live in it. */
  readonly directory: string
  /** Times the leases of {@link CertStore.lock}. @defaultValue the clock of each operation's context */
  readonly clock?: Clock | undefined
  /** For tests. @defaultValue `node:fs/promises` */
  readonly files?: FileSystem | undefined
}

interface OpenStore {
  readonly entries: EntryFiles
  readonly leases: EntryFiles
  readonly identity: string | undefined
}

const name = 'file'

/**
 * A store in one directory of a local disk, shared by the processes of one machine.
 *
 * Every write is synced to the disk, file and directory, before it resolves, and is compare-and-set between processes:
 * a process that is killed or stopped at any point costs nobody else more than a few milliseconds. Locks are leases with
 * growing fencing tokens; that of a process of the same machine which is dead is taken over at once.
 *
 * @example
 *
 * ```ts
 * import { fileStore } from 'evercert/stores/file'
 *
 * const store = fileStore({ directory: '/var/lib/evercert' })
 * ```
 *
 * @remarks
 * Files are 0600, the directory is 0700; a directory that others can read is reported with `logger.warn`. Values hold
 * private keys in clear unless the store is wrapped by `encryptedStore`.
 *
 * The directory has to be on a local POSIX file system. On network file systems rename is not what this store needs it to
 * be (a repeated request can fail although it was carried out), and Windows cannot replace directories: use a Redis,
 * PostgreSQL or Kubernetes store to share between machines.
 *
 * Rejects with `ERR_STORE_UNAVAILABLE` when the disk is full, read-only, or the directory is not ours to write or gone;
 * with `ERR_STORE_CORRUPT`, naming the file, when a file was damaged. A damaged value can be overwritten and deleted; the
 * first MiB of it comes with the error.
 *
 * @param options - See {@link FileStoreOptions}. Validated and copied; later changes have no effect.
 * @returns A store named `file`.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 */
export function fileStore(options: FileStoreOptions): CertStore {
  assertOptions(options, ['directory', 'clock', 'files'], 'fileStore')
  const { directory, clock, files = systemFiles } = options
  assertPath(directory, 'directory')
  let opening: Promise<OpenStore & { stillThere(): Promise<boolean> }> | undefined

  async function open(context: OperationContext): Promise<OpenStore> {
    context.signal.throwIfAborted()
    opening ??= openDirectory(directory, files, clock ?? context.clock, context)
    const current = opening
    try {
      const store = await current
      if (await store.stillThere()) return store
    } catch (error) {
      if (opening === current) opening = undefined
      throw error
    }
    // An unmounted disk looks like an empty directory, and an empty store makes evercert order everything anew: say so
    // once, and take what is there for what is meant only when asked again.
    if (opening === current) opening = undefined
    throw new StoreError({
      code: 'ERR_STORE_UNAVAILABLE',
      message: `${name}: ${directory} was removed or replaced while it was in use; is a file system mounted or unmounted there?`,
      store: name,
    })
  }

  /** Runs one operation; errors of the file system become errors of the store. */
  async function attempt<Result>(
    action: string,
    key: string | undefined,
    context: OperationContext,
    run: (store: OpenStore) => Promise<Result>,
  ): Promise<Result> {
    try {
      return await run(await open(context))
    } catch (error) {
      throw error === context.signal.reason ? error : unavailable(action, key, error)
    }
  }

  function unavailable(action: string, key: string | undefined, cause: unknown): unknown {
    const code = errorCode(cause)
    if (code === undefined || !(cause instanceof Error) || !('syscall' in cause)) return cause
    const path = 'path' in cause && typeof cause.path === 'string' ? cause.path : directory
    const reason = reasons[code] ?? cause.message
    return new StoreError({
      code: 'ERR_STORE_UNAVAILABLE',
      message: `${name}: cannot ${action} ${key ?? directory}: ${reason} (${code}, ${path})`,
      store: name,
      key,
      cause,
    })
  }

  function corrupt(key: string, path: string, { damage, raw, revision }: DamagedEntry): StoreError {
    return new StoreError({
      code: 'ERR_STORE_CORRUPT',
      message: `${name}: ${key} cannot be read: ${path} ${damage}; restore the file or remove it`,
      store: name,
      key,
      damaged: raw && { value: raw, revision },
    })
  }

  function leaseCell(leases: EntryFiles, lock: string): LeaseCell {
    const key = `locks/${lock}`
    // Not the caller's signal: a lease outlives the call that took it, and is released also after an abort.
    const { signal } = new AbortController()
    return {
      async read() {
        const entry: Entry | undefined = await leases.read(key).catch((error: unknown) => {
          throw unavailable('lock', `lock ${lock}`, error)
        })
        if (entry === undefined) return undefined
        return 'damage' in entry ? { value: new Uint8Array(), revision: entry.revision } : entry
      },
      async write(value, ifRevision) {
        try {
          return await leases.write(key, value, signal, ifRevision)
        } catch (error) {
          throw unavailable('write', `lock ${lock}`, error)
        }
      },
    }
  }

  const leases = storeLeases({
    store: name,
    clock,
    open: (lock, context) =>
      attempt('lock', `lock ${lock}`, context, async (opened) => ({
        cell: leaseCell(opened.leases, lock),
        holder: opened.identity,
        isDead: (holder) => isProvenDead(holder, opened.identity, files),
      })),
  })

  return {
    name,
    get: (key, context) =>
      attempt('read', key, context, async ({ entries }) => {
        const entry = await entries.read(key)
        context.signal.throwIfAborted()
        if (entry === undefined) return undefined
        if ('damage' in entry) throw corrupt(key, entries.path(key), entry)
        return { value: entry.value, revision: entry.revision }
      }),
    put(key, value, context, { ifRevision } = {}) {
      if (value.length + key.length > largestEntryBytes - 1024) {
        return Promise.reject(
          new TypeError(`${name}: a value of ${String(value.length)} bytes is too large for a record`),
        )
      }
      // A copy: the caller may go on using its array.
      const copy = Uint8Array.from(value)
      return attempt('write', key, context, ({ entries }) => entries.write(key, copy, context.signal, ifRevision))
    },
    delete: (key, context, { ifRevision } = {}) =>
      attempt('delete', key, context, ({ entries }) => entries.remove(key, context.signal, ifRevision)),
    async *list(prefix, context) {
      try {
        const { entries } = await open(context)
        for await (const key of entries.keys(prefix, context.signal)) yield key as StoreKey
      } catch (error) {
        throw error === context.signal.reason ? error : unavailable('list', undefined, error)
      }
    },
    ...leases,
  }
}

/** What to do about the usual errors, for somebody who was woken up by one. */
const reasons: Readonly<Record<string, string>> = {
  EACCES: 'permission denied; the process must own the directory',
  EDQUOT: 'the disk quota is used up',
  EIO: 'the disk reports an error; look at the kernel log',
  EMFILE: 'the process has too many open files; raise its limit',
  ENFILE: 'the system has too many open files',
  ENOSPC: 'no space left on the device',
  ENOTDIR: 'part of the path is not a directory',
  EPERM: 'not permitted; the process must own the directory',
  EROFS: 'the file system is read-only',
}

async function openDirectory(
  directory: string,
  files: FileSystem,
  clock: Clock,
  { logger }: OperationContext,
): Promise<OpenStore & { stillThere(): Promise<boolean> }> {
  const root = await makeDirectory(directory, files)
  const opened = await files.stat(root)
  if ((opened.mode & 0o077) !== 0) {
    const mode = (opened.mode & 0o777).toString(8).padStart(4, '0')
    logger.warn('store directory is open to other users, it should have mode 0700', { directory: root, mode })
  }
  await sweepLeftovers(root, clock.now(), files).catch(() => undefined)
  const parts = { directory: root, store: name, files }
  return {
    entries: entryFiles({ ...parts, suffix: '.entry' }),
    leases: entryFiles({ ...parts, suffix: '.lease' }),
    identity: await processIdentity(files),
    async stillThere() {
      try {
        const now = await files.stat(root)
        return now.dev === opened.dev && now.ino === opened.ino
      } catch (error) {
        if (errorCode(error) === 'ENOENT') return false
        throw error
      }
    },
  }
}

/** Resolves the path without symbolic links: one that is turned elsewhere later cannot move a store at work. */
async function makeDirectory(directory: string, files: FileSystem): Promise<string> {
  try {
    return await files.realpath(directory)
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error
  }
  const first = await files.mkdir(directory, { recursive: true, mode: 0o700 })
  if (first !== undefined) {
    // Each new directory is an entry of its parent, which has to be on the disk as well.
    for (let made = directory; made.length >= first.length; made = dirname(made))
      await syncDirectory(dirname(made), files)
  }
  return files.realpath(directory)
}
