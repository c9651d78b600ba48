/**
 * What `npm run check` runs: every gate a change has to pass, one line each; the output of a gate is shown when it fails.
 *
 *     node scripts/check.js --only lint,types      some of them
 *     node scripts/check.js --skip-tests           those that `npm test` does not run
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, stripVTControlCharacters } from 'node:util'

/**
 * @typedef {object} Gate
 * @property {string} name
 * @property {string} [proves] Shown when the output has nothing to summarise.
 * @property {string[][]} commands Run one after the other; the first word is a program of node_modules/.bin.
 * @property {RegExp} [summary] Picks the one line of output worth showing; the last match counts.
 * @property {boolean} [test] Also run by `npm test`.
 * @property {boolean} [ofBuild] Says nothing when the build failed.
 */

process.chdir(fileURLToPath(new URL('..', import.meta.url)))

const { values: flags } = parseArgs({ options: { only: { type: 'string' }, 'skip-tests': { type: 'boolean' } } })

const packed = await mkdtemp(join(tmpdir(), 'evercert-check-'))

/** @param {string} project */
const vitest = (project) => ({
  commands: [['vitest', 'run', '--project', project]],
  summary: /^\s*Tests\s+(.+)$/gm,
  test: true,
})

/** @type {Gate[]} Cheap ones first. */
const gates = [
  {
    name: 'types',
    proves: 'src, and with tests, examples, bench and scripts',
    commands: [
      ['tsc', '-p', 'tsconfig.json'],
      ['tsc', '-p', 'tsconfig.check.json'],
    ],
  },
  { name: 'lint', proves: 'no warnings', commands: [['eslint', '.', '--max-warnings', '0']] },
  { name: 'format', proves: 'as prettier has it', commands: [['prettier', '--check', '.', '--log-level', 'warn']] },
  { name: 'fences', commands: [['node', 'scripts/check-fences.js']], summary: /^\d+ fences.*$/gm },
  { name: 'unit', ...vitest('unit') },
  { name: 'contract', ...vitest('contract') },
  { name: 'api-types', ...vitest('types') },
  { name: 'build', proves: 'esm, cjs, declarations', commands: [['node', 'scripts/build.js']] },
  {
    name: 'publint',
    ofBuild: true,
    commands: [
      ['npm', 'pack', '--ignore-scripts', '--pack-destination', packed],
      ['publint', '--strict', '<tarball>'],
    ],
    summary: /^All good!$/gm,
  },
  {
    name: 'attw',
    ofBuild: true,
    proves: 'every sub-path in node10, node16 and bundler resolution',
    commands: [
      ['npm', 'pack', '--ignore-scripts', '--pack-destination', packed],
      ['attw', '<tarball>'],
    ],
  },
  { name: 'dist', ofBuild: true, ...vitest('dist') },
  { name: 'docs', proves: 'no warnings', commands: [['typedoc', '--logLevel', 'Warn']] },
  {
    name: 'integration',
    commands: [['node', 'scripts/test.js', '--integration-only']],
    summary: /^\s*Tests\s+(.+)$/gm,
    test: true,
  },
]

try {
  process.exitCode = await runAll(selected())
} finally {
  await rm(packed, { recursive: true })
}

function selected() {
  const wanted = flags.only?.split(',')
  const unknown = wanted?.filter((name) => !gates.some((gate) => gate.name === name)) ?? []
  if (unknown.length > 0) {
    throw new Error(`no gate named ${unknown.join(', ')}; there are ${gates.map(({ name }) => name).join(', ')}`)
  }
  return gates.filter(({ name, test }) => wanted?.includes(name) ?? !(test && flags['skip-tests']))
}

/**
 * @param {Gate[]} gatesToRun
 * @returns {Promise<number>} Exit code.
 */
async function runAll(gatesToRun) {
  const start = performance.now()
  /** @type {string[]} */
  const failed = []
  for (const gate of gatesToRun) {
    if (gate.ofBuild && failed.includes('build')) continue
    const gateStart = performance.now()
    const { ok, output } = await run(gate)
    const summary = gate.summary && [...output.matchAll(gate.summary)].at(-1)
    const remark = summary?.[1] ?? summary?.[0] ?? (ok ? gate.proves : undefined) ?? ''
    if (!ok) {
      failed.push(gate.name)
      console.log(output.trimEnd())
    }
    console.log(`${ok ? 'ok  ' : 'FAIL'}  ${gate.name.padEnd(11)} ${seconds(gateStart)}  ${remark}`)
  }
  const verdict = failed.length === 0 ? `${gatesToRun.length} gates passed` : `failed: ${failed.join(', ')}`
  console.log(`${verdict} in ${seconds(start).trimStart()}`)
  return failed.length === 0 ? 0 : 1
}

/** @param {Gate} gate */
async function run({ commands }) {
  let output = ''
  for (const command of commands) {
    const result = await runCommand(command)
    output += result.output
    if (!result.ok) return { ok: false, output }
  }
  return { ok: true, output }
}

/** @param {string[]} command */
async function runCommand([program = '', ...args]) {
  const [tarball = ''] = args.includes('<tarball>') ? await readdir(packed) : []
  const child = spawn(
    program === 'node' ? process.execPath : program,
    args.map((argument) => (argument === '<tarball>' ? join(packed, tarball) : argument)),
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, PATH: `${join('node_modules', '.bin')}:${process.env['PATH']}` },
    },
  )
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (/** @type {string} */ text) => (output += text))
  }
  const [code] = await once(child, 'close')
  return { ok: code === 0, output: stripVTControlCharacters(output) }
}

/** @param {number} start */
function seconds(start) {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`.padStart(8)
}
