/**
 * What `npm run build` runs: src -> dist/esm and dist/cjs, each with source maps and declarations.
 *
 * One output file per source file, nothing bundled: every sub-path shares the code of the others by importing it, stack
 * traces name real files, and what is published can be read. (tsup can split CommonJS, but only by way of sucrase, which
 * rewrites `?.` and `??` into helper calls.)
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'tsup'

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)

await rm('dist', { recursive: true, force: true })
await Promise.all([transpile('esm'), transpile('cjs'), emitDeclarations()])
await writeFile('dist/cjs/package.json', '{ "type": "commonjs" }\n')
await cp('dist/esm', 'dist/cjs', { recursive: true, filter: isDirectoryOrDeclaration })
await checkExports()

/** @param {'esm' | 'cjs'} format */
function transpile(format) {
  return build({
    config: false,
    entry: ['src/**/*.ts'],
    format,
    outDir: `dist/${format}`,
    outExtension: () => ({ js: '.js' }),
    bundle: false,
    platform: 'node',
    target: 'node20',
    sourcemap: true,
    removeNodeProtocol: false,
    silent: true,
  })
}

async function emitDeclarations() {
  const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc')
  const options = ['--noEmit', 'false', '--emitDeclarationOnly', '--outDir', 'dist/esm']
  const child = spawn(process.execPath, [tsc, '-p', 'tsconfig.json', ...options], { stdio: 'inherit' })
  const [code] = await once(child, 'exit')
  if (code !== 0) process.exit(1)
}

/** @param {string} path */
async function isDirectoryOrDeclaration(path) {
  return path.endsWith('.d.ts') || (await stat(path)).isDirectory()
}

/** A sub-path without a file would only be noticed by whoever imports it. */
async function checkExports() {
  /** @type {{ exports: unknown }} */
  const { exports } = JSON.parse(await readFile('package.json', 'utf8'))
  const targets = JSON.stringify(exports).match(/\.\/dist\/[^"]+/g) ?? []
  await Promise.all(targets.map((target) => stat(target)))
}
