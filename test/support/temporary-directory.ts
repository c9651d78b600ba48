/**
 * A directory of its own for each server, gone when the server is stopped or the process ends.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atExit } from './at-exit.js'

export interface TemporaryDirectory {
  readonly path: string
  remove(): Promise<void>
}

const directories = new Set<string>()

atExit(() => {
  for (const path of directories) rmSync(path, { recursive: true, force: true })
})

export async function temporaryDirectory(): Promise<TemporaryDirectory> {
  // Short: the path of a Unix socket inside it must not exceed 107 bytes. Synchronous: no moment in which the
  // directory exists and would not be removed at exit.
  const path = mkdtempSync(join(tmpdir(), 'evercert-'))
  directories.add(path)
  return {
    path,
    async remove() {
      await rm(path, { recursive: true, force: true })
      directories.delete(path)
    },
  }
}
