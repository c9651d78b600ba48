/**
 * Global set-up of the `dist` tests: builds when the sources are newer than dist, and packs what `npm publish` would
 * upload.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { TestProject } from 'vitest/node'

declare module 'vitest' {
  export interface ProvidedContext {
    /** Path of the packed package. */
    readonly tarball: string
  }
}

const run = promisify(execFile)

export default async function pack(project: TestProject): Promise<() => Promise<void>> {
  if (!(await isBuilt())) await run(process.execPath, ['scripts/build.js'])
  const directory = await mkdtemp(join(tmpdir(), 'evercert-pack-'))
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', directory])
  const [tarball = ''] = await readdir(directory)
  project.provide('tarball', join(directory, tarball))
  return () => rm(directory, { recursive: true, force: true })
}

async function isBuilt(): Promise<boolean> {
  const inputs = (await readdir('src', { recursive: true })).map((path) => join('src', path))
  const changed = await Promise.all([...inputs, 'package.json', 'tsconfig.json', 'scripts/build.js'].map(modifiedAt))
  return Math.max(...changed) < (await modifiedAt('dist/cjs/package.json').catch(() => 0))
}

async function modifiedAt(path: string): Promise<number> {
  return (await stat(path)).mtimeMs
}
