/**
 * What `npm test` runs: provides the real servers, then vitest. `--integration-only` limits the run to the
 * integration tests; every other argument is passed on to vitest.
 */
import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { describeMissing, provideServers } from './servers.js'

const integrationOnly = process.argv.includes('--integration-only')
const passedOn = process.argv.slice(2).filter((argument) => argument !== '--integration-only')
const ci = ['true', '1'].includes(process.env['CI'] ?? '')

try {
  process.exitCode = await runTests()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}

async function runTests() {
  const servers = await provideServers({ ci, log: (line) => console.error(line) })
  for (const line of describeMissing(servers)) console.warn(`missing server: ${line}`)
  const paths = Object.fromEntries(
    Object.entries(servers).flatMap(([name, server]) => ('path' in server ? [[name, server.path]] : [])),
  )

  const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs')
  const project = integrationOnly ? ['--project', 'integration'] : []
  const child = spawn(process.execPath, [vitest, 'run', ...project, ...passedOn], {
    stdio: 'inherit',
    env: { ...process.env, EVERCERT_SERVERS: JSON.stringify(paths) },
  })
  // A terminal sends Ctrl-C to vitest as well; this process only has to wait for it to finish.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGTERM']))
  })
}
