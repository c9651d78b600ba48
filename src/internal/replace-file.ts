/**
 * A file that is replaced as a whole, with a way back that needs no space on the disk.
 *
 * @module
 */
import { basename, dirname, join } from 'node:path'
import {
  errorCode,
  isTemporaryName,
  syncDirectory,
  temporaryName,
  temporaryPrefix,
  writeFileAtomic,
  type AtomicFileOptions,
} from './atomic-file.js'
import { systemFiles, type FileSystem } from './file-system.js'

/** A replacement that can still be taken back. Exactly one of the two has to be called. */
export interface Replacement {
  /** Keeps the new file. */
  keep(): Promise<void>
  /** Puts the previous file back, or removes the new one where there was none. */
  undo(): Promise<void>
}

/** Replaces a file by {@link writeFileAtomic}; the previous one stays under a hidden name until it is decided. */
export async function replaceFile(path: string, data: string, options: AtomicFileOptions): Promise<Replacement> {
  const { files = systemFiles } = options
  const directory = dirname(path)
  const backup = join(directory, temporaryName(basename(path)))
  const previous = await keepPrevious(path, backup, options)
  try {
    await writeFileAtomic(path, data, options)
  } catch (error) {
    await files.rm(backup, { force: true }).catch(() => undefined)
    throw error
  }
  return {
    keep: () => files.rm(backup, { force: true }),
    async undo() {
      if (previous === 'absent') await files.rm(path, { force: true })
      else if (previous === 'linked') await files.rename(backup, path)
      else await writeFileAtomic(path, previous, options)
      await syncDirectory(directory, files)
    },
  }
}

/** Removes what a process that was killed has left beside a file: it may hold a key. */
export async function removeLeftovers(path: string, files: FileSystem = systemFiles): Promise<void> {
  const directory = dirname(path)
  const prefix = temporaryPrefix(basename(path))
  for (const name of await files.readdir(directory)) {
    const rest = name.slice(prefix.length)
    if (name.startsWith(prefix) && !rest.slice(0, -4).includes('.') && isTemporaryName(name)) {
      await files.rm(join(directory, name), { force: true })
    }
  }
}

/** A hard link is the file itself; where the system refuses one, the bytes have to do. */
async function keepPrevious(
  path: string,
  backup: string,
  { files = systemFiles }: AtomicFileOptions,
): Promise<'absent' | 'linked' | Buffer> {
  try {
    await files.link(path, backup)
    return 'linked'
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return 'absent'
  }
  return files.readFile(path)
}
