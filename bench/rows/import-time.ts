/**
 * What importing costs, each time in a process of its own.
 */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { atMostVerdict, milliseconds, times } from '../report.js'
import type { Row } from '../row.js'
import { median } from '../statistics.js'

const execute = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))
const specifiers = [['acme-client'], ['evercert'], ['evercert', 'evercert/issuers/acme']] as const

export const importTime: Row = async ({ rounds }) => {
  const samples = specifiers.map((): number[] => [])
  // The first round brings the files into the cache.
  for (let round = 0; round <= Math.max(15, 2 * rounds); round += 1) {
    for (const [index, imported] of specifiers.entries()) {
      const ms = await timeImport(imported)
      if (round > 0) samples[index]?.push(ms)
    }
  }
  const [alone = NaN, ours = NaN] = samples.map(median)
  return [
    {
      title: 'Import time of the built package',
      columns: ['', 'import', 'to acme-client', 'runs'],
      lines: specifiers.map((imported, index) => {
        const sample = samples[index] ?? []
        const ms = median(sample)
        return [imported.join(' + '), milliseconds(ms), times(ms / alone), String(sample.length)]
      }),
      verdicts: [atMostVerdict("import 'evercert' to acme-client alone", ours / alone, 1.3, times)],
      notes: [],
    },
  ]
}

async function timeImport(imported: readonly string[]): Promise<number> {
  const imports = imported.map((specifier) => `await import('${specifier}')`).join('\n')
  const script = `const started = performance.now()\n${imports}\nconsole.log(performance.now() - started)`
  const { stdout } = await execute(process.execPath, ['--input-type=module', '--eval', script], { cwd: root })
  return Number(stdout)
}
