/**
 * What a reader copies must compile: every `ts` fence of the documents and of the doc comments in src becomes a module
 * of its own, checked against the sources. And every `'evercert/...'` that documents, doc comments and examples name
 * must be a sub-path of package.json.
 *
 * A fence that is only a sketch uses another language tag (`text`).
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { subPaths } from './sub-paths.js'

/** @typedef {{ file: string, firstLine: number, code: string }} Fence */

process.chdir(fileURLToPath(new URL('..', import.meta.url)))

const documents = [
  ...filesBelow('.', '.md', { deep: false }),
  ...filesBelow('docs', '.md'),
  ...filesBelow('examples', '.md'),
]
const sources = filesBelow('src', '.ts')
const examples = [...filesBelow('examples', '.ts'), ...filesBelow('bench', '.ts')]

const fences = [...documents, ...sources].flatMap(fencesOf)
const problems = [...compile(fences), ...[...documents, ...sources, ...examples].flatMap(unknownSubPaths)]
for (const problem of problems) console.error(problem)
console.log(`${fences.length} fences, ${problems.length} problems`)
process.exitCode = problems.length === 0 ? 0 : 1

/**
 * @param {string} directory
 * @param {string} extension
 * @param {{ deep: boolean }} options
 */
function filesBelow(directory, extension, { deep } = { deep: true }) {
  if (!existsSync(directory)) return []
  return readdirSync(directory, { recursive: deep, encoding: 'utf8' })
    .filter((path) => path.endsWith(extension) && !path.startsWith('api/'))
    .map((path) => join(directory, path))
    .sort()
}

/**
 * @param {string} file
 * @returns {Fence[]}
 */
function fencesOf(file) {
  /** @type {Fence[]} */
  const found = []
  /** @type {{ margin: number, firstLine: number, lines: string[] } | undefined} */
  let open
  for (const [index, line] of readFileSync(file, 'utf8').split('\n').entries()) {
    // In a doc comment the fence stands behind " * ", in a list behind its indentation.
    const fence = /^(\s*(?:\* )?\s*)```(\w*)/.exec(line)
    if (open === undefined) {
      if (fence?.[2] === 'ts') open = { margin: fence[1]?.length ?? 0, firstLine: index + 2, lines: [] }
    } else if (fence === null) {
      open.lines.push(line.slice(open.margin))
    } else {
      found.push({ file, firstLine: open.firstLine, code: open.lines.join('\n') })
      open = undefined
    }
  }
  return found
}

/**
 * @param {Fence[]} fences
 * @returns {string[]} One line per error, at its place in the document.
 */
function compile(fences) {
  const directory = '.fences'
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory)
  for (const [index, { code }] of fences.entries()) {
    writeFileSync(join(directory, `${index}.ts`), `${code}\nexport {}\n`)
  }
  const config = {
    extends: '../tsconfig.check.json',
    compilerOptions: { allowJs: false, checkJs: false, noUnusedLocals: false, noUnusedParameters: false },
    files: fences.map((_, index) => `${index}.ts`),
    include: [],
  }
  writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify(config, null, 2))

  const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc')
  const { stdout } = spawnSync(process.execPath, [tsc, '-p', directory], { encoding: 'utf8' })
  // Errors in src are not this check's.
  const errors = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('src/'))
  // What failed stays for a look.
  if (errors.length === 0) rmSync(directory, { recursive: true })
  return errors.map((error) =>
    error.replace(/^\.fences\/(\d+)\.ts\((\d+),(\d+)\)/, (_, index, row, column) => {
      const fence = fences[Number(index)]
      return `${fence?.file}:${Number(row) + (fence?.firstLine ?? 0) - 1}:${column}`
    }),
  )
}

/**
 * @param {string} file
 * @returns {string[]}
 */
function unknownSubPaths(file) {
  const lines = readFileSync(file, 'utf8').split('\n')
  return lines.flatMap((line, index) => {
    if (file.startsWith('src/') && !/^\s*(\/\*\*|\*)/.test(line)) return []
    return [...line.matchAll(/['"`](evercert\/[a-z][\w./-]*)/g)]
      .map(([, name]) => name ?? '')
      .filter((name) => !(name in subPaths) && name !== 'evercert/package.json')
      .map((name) => `${file}:${index + 1}: ${name} is no sub-path of package.json`)
  })
}
