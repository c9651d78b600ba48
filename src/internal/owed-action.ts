/**
 * Remembers, across a crash, that something still has to be done after a file was replaced: a reload, a hook.
 *
 * @module
 */
import { basename, dirname, join } from 'node:path'
import { errorCode, writeFileAtomic } from './atomic-file.js'
import { systemFiles, type FileSystem } from './file-system.js'

/** An action that is owed from before a change is made until the action has succeeded. */
export interface OwedAction {
  isOwed(): Promise<boolean>
  /** Durable once it resolves. */
  owe(): Promise<void>
  settle(): Promise<void>
}

/** Kept as an empty hidden file beside `path`: `.<name>.<action>-owed`. */
export function owedAction(path: string, action: string, files: FileSystem = systemFiles): OwedAction {
  const marker = join(dirname(path), `.${basename(path)}.${action}-owed`)
  return {
    async isOwed() {
      try {
        await files.lstat(marker)
        return true
      } catch (error) {
        if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return false
        throw error
      }
    },
    owe: () => writeFileAtomic(marker, '', { mode: 0o600, files }),
    settle: () => files.rm(marker, { force: true }),
  }
}
