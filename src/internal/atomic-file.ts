/**
 * Files that are there as a whole or not at all, also after a power cut.
 *
 * @module
 */
import { randomBytes } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import { systemFiles, type FileSystem } from './file-system.js'

/** Options of {@link writeFileAtomic}. */
export interface AtomicFileOptions {
  /** Permission bits of the result, whatever the umask. */
  readonly mode: number
  /** Numeric owner and group; needs the right to change them. @defaultValue those of the process */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined
  readonly files?: FileSystem | undefined
}

/**
 * Writes beside the target under a name that starts with a dot (HAProxy reads every other file of a `crt` directory),
 * syncs, renames over the target, and syncs the directory: without the last step a rename is lost by a power cut.
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  options: AtomicFileOptions,
): Promise<void> {
  const files = options.files ?? systemFiles
  const directory = dirname(path)
  const temporary = join(directory, temporaryName(basename(path)))
  // 'wx' refuses to follow or reuse anything planted under the name; 0600 until content and owner are final.
  const handle = await files.open(temporary, 'wx', 0o600)
  try {
    try {
      await handle.writeFile(data)
      if (options.owner !== undefined) await handle.chown(options.owner.uid, options.owner.gid)
      await handle.chmod(options.mode)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await files.rename(temporary, path)
  } catch (error) {
    await files.rm(temporary, { force: true }).catch(() => undefined)
    throw error
  }
  await syncDirectory(directory, files)
}

/** Makes renames, links and removals in a directory durable. */
export async function syncDirectory(directory: string, files: FileSystem = systemFiles): Promise<void> {
  try {
    const handle = await files.open(directory, 'r')
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  } catch (error) {
    // Some systems cannot open or sync directories; then there is nothing more to be done.
    if (!['EINVAL', 'EPERM', 'ENOTSUP', 'EISDIR'].includes(errorCode(error) ?? '')) throw error
  }
}

/** `.<name>.<16 hex digits>.tmp` */
export function temporaryName(name: string): string {
  return `${temporaryPrefix(name)}${randomBytes(8).toString('hex')}.tmp`
}

/** What all temporary names of a file begin with. A name has at most 255 bytes, and a character up to four. */
export function temporaryPrefix(name: string): string {
  return `.${Buffer.from(name).subarray(0, 200).toString()}.`
}

/** Whether a directory entry is a leftover of {@link writeFileAtomic}. */
export function isTemporaryName(name: string): boolean {
  return /^\..*\.[0-9a-f]{16}\.tmp$/s.test(name)
}

/** `ENOENT` and the like, when the error is one of the system's. */
export function errorCode(error: unknown): string | undefined {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : undefined
}
