/**
 * A crt-list file of HAProxy on the disk, so that what was added at run time is there after a reload.
 *
 * @module
 */
import { errorCode, writeFileAtomic } from '../internal/atomic-file.js'
import type { FileSystem } from '../internal/file-system.js'

/** Whether the list has a line for the certificate. A directory lists what is in it. */
export async function isListed(list: string, name: string, files: FileSystem): Promise<boolean> {
  const lines = await readLines(list, files)
  return lines === 'directory' || lines.some((line) => line.trim().split(/\s/)[0] === name)
}

/** Adds a line for the certificate; every other line, the mode and the owner stay as they are. */
export async function addToListFile(list: string, name: string, files: FileSystem): Promise<void> {
  const lines = await readLines(list, files)
  if (lines === 'directory') return
  const { mode, uid, gid } = await files.stat(list)
  const owner = process.getuid?.() === uid && process.getgid?.() === gid ? undefined : { uid, gid }
  const text = lines.join('\n')
  const separator = text === '' || text.endsWith('\n') ? '' : '\n'
  await writeFileAtomic(list, `${text}${separator}${name}\n`, { mode: mode & 0o777, owner, files })
}

async function readLines(list: string, files: FileSystem): Promise<readonly string[] | 'directory'> {
  try {
    return (await files.readFile(list, 'utf8')).split('\n')
  } catch (error) {
    if (errorCode(error) === 'EISDIR') return 'directory'
    throw error
  }
}
