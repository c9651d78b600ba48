/**
 * A directory that readers see change as a whole: a symbolic link, switched by one rename from version to version.
 *
 * @module
 */
import { randomBytes } from 'node:crypto'
import { basename, dirname, join, relative } from 'node:path'
import { errorCode, syncDirectory, temporaryName } from './atomic-file.js'
import type { FileOwner } from './file-owner.js'
import type { FileSystem } from './file-system.js'

/** One file of a version. */
export interface VersionedFile {
  readonly name: string
  readonly text: string
  readonly mode: number
}

/** Where the link and its versions are, and whose they are. */
export interface VersionedDirectory {
  /** The path readers know: a symbolic link. */
  readonly link: string
  /** Directory of the versions, on the same file system. */
  readonly versions: string
  readonly owner?: FileOwner | undefined
  readonly files: FileSystem
}

/** What is at a path that should be a link of ours. */
export type LinkState =
  { readonly kind: 'absent' } | { readonly kind: 'link'; readonly target: string } | { readonly kind: 'other' }

/** Reads the link, without following it. */
export async function readLink({ link, files }: VersionedDirectory): Promise<LinkState> {
  try {
    return { kind: 'link', target: await files.readlink(link) }
  } catch (error) {
    const code = errorCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return { kind: 'absent' }
    if (code === 'EINVAL') return { kind: 'other' }
    throw error
  }
}

/**
 * Writes a new version, syncs it, and switches the link to it. A process that ends on the way leaves a version that
 * nobody refers to; {@link removeOldVersions} takes it away.
 *
 * @param label - appears in the version's name, for people
 */
export async function switchVersion(
  directory: VersionedDirectory,
  label: string,
  contents: readonly VersionedFile[],
): Promise<void> {
  const { link, versions, owner, files } = directory
  await files.mkdir(versions, { recursive: true, mode: 0o755 })
  await files.mkdir(dirname(link), { recursive: true, mode: 0o755 })
  const version = join(versions, `${basename(link)}.${label}.${randomBytes(4).toString('hex')}`)
  await files.mkdir(version, { mode: 0o700 })
  for (const { name, text, mode } of contents) {
    const handle = await files.open(join(version, name), 'wx', 0o600)
    try {
      await handle.writeFile(text)
      if (owner !== undefined) await handle.chown(owner.uid, owner.gid)
      await handle.chmod(mode)
      await handle.sync()
    } finally {
      await handle.close()
    }
  }
  const handle = await files.open(version, 'r')
  try {
    if (owner !== undefined) await handle.chown(owner.uid, owner.gid)
    await handle.chmod(directoryMode(contents))
  } finally {
    await handle.close()
  }
  await syncDirectory(version, files)
  await syncDirectory(versions, files)
  await pointTo(link, relative(dirname(link), version), files)
}

/** Removes the versions of this link but the current one and the one before it. */
export async function removeOldVersions(
  directory: VersionedDirectory,
  previousTarget: string | undefined,
): Promise<void> {
  const { link, versions, files } = directory
  const current = await readLink(directory)
  const kept = new Set([current.kind === 'link' ? basename(current.target) : '', basename(previousTarget ?? '')])
  const prefix = `${basename(link)}.`
  for (const name of await files.readdir(versions)) {
    const ours = name.startsWith(prefix) && /^[0-9a-f]{16}\.[0-9a-f]{8}$/.test(name.slice(prefix.length))
    if (ours && !kept.has(name)) await files.rm(join(versions, name), { recursive: true, force: true })
  }
}

async function pointTo(link: string, target: string, files: FileSystem): Promise<void> {
  const temporary = join(dirname(link), temporaryName(basename(link)))
  await files.symlink(target, temporary)
  try {
    await files.rename(temporary, link)
  } catch (error) {
    await files.rm(temporary, { force: true }).catch(() => undefined)
    throw error
  }
  await syncDirectory(dirname(link), files)
}

/** Whoever may read one of the files may enter the directory. */
function directoryMode(contents: readonly VersionedFile[]): number {
  const read = contents.reduce((all, { mode }) => all | (mode & 0o444), 0)
  return 0o700 | read | (read >> 2)
}
