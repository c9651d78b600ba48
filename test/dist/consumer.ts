/**
 * A project of somebody else, in a directory far from this one, that depends on the packed package.
 */
import { execFile } from 'node:child_process'
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { inject } from 'vitest'
import { temporaryDirectory } from '../support/temporary-directory.js'

export interface Consumer {
  readonly path: string
  /** Runs `node` in the project and resolves with what it printed; rejects when it fails. */
  node(args: readonly string[]): Promise<string>
  write(file: string, content: string): Promise<void>
  /** Copies a file of test/dist/consumers. */
  copy(file: string, as?: string): Promise<void>
  remove(): Promise<void>
}

export interface ConsumerOptions {
  /** The `type` of its package.json. */
  readonly type: 'module' | 'commonjs'
  /** Packages it uses besides evercert, taken from this repository. */
  readonly dependencies?: readonly string[]
}

/** @param options - of the consumer's package.json */
export async function createConsumer({ type, dependencies = [] }: ConsumerOptions): Promise<Consumer> {
  const { path, remove } = await temporaryDirectory()
  const installed = join(path, 'node_modules')
  const write = (file: string, content: string): Promise<void> => writeFile(join(path, file), content)

  await mkdir(join(installed, 'evercert'), { recursive: true })
  await write('package.json', JSON.stringify({ name: 'consumer', private: true, type }))
  await promisify(execFile)('tar', [
    '-xzf',
    inject('tarball'),
    '--strip-components=1',
    '-C',
    join(installed, 'evercert'),
  ])
  // Only what the package declares: a forgotten dependency must fail here.
  const declared = await readJson<{ dependencies: Record<string, string> }>(join(installed, 'evercert/package.json'))
  for (const name of [...Object.keys(declared.dependencies), ...dependencies]) {
    await mkdir(dirname(join(installed, name)), { recursive: true })
    await symlink(resolve('node_modules', name), join(installed, name))
  }

  return {
    path,
    write,
    remove,
    copy: (file, as = file) => cp(resolve('test/dist/consumers', file), join(path, as)),
    async node(args) {
      const options = { cwd: path, env: { PATH: process.env['PATH'] }, maxBuffer: 16 * 1024 * 1024 }
      try {
        const { stdout } = await promisify(execFile)(process.execPath, args, options)
        return stdout
      } catch (error) {
        const { stdout, stderr } = error as { stdout: string; stderr: string }
        throw new Error(`node ${args.join(' ')} failed:\n${stdout}\n${stderr}`, { cause: error })
      }
    },
  }
}

/** What a JSON file holds, taken at its word. */
export async function readJson<T>(file: string): Promise<T> {
  return JSON.parse(await readFile(file, 'utf8')) as T
}
