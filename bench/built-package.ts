/**
 * `dist`, built when it is missing or older than the source: what is measured is what users get.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

export async function provideBuiltPackage(log: (line: string) => void): Promise<void> {
  const built = await changedAt(join(root, 'dist/cjs/package.json'))
  const files = await readdir(join(root, 'src'), { recursive: true })
  const changes = await Promise.all(files.map((file) => changedAt(join(root, 'src', file))))
  if (built > Math.max(...changes)) return
  log('building dist')
  const build = spawn(process.execPath, [join(root, 'scripts/build.js')], { stdio: 'inherit' })
  const [code] = (await once(build, 'exit')) as [number | null]
  if (code !== 0) throw new Error('the package could not be built')
}

async function changedAt(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs
  } catch {
    return 0
  }
}
