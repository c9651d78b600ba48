/**
 * Runs an example as its README says, and ends it with the test.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { onTestFinished, vi } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))

export interface RunningExample {
  readonly child: ChildProcess
  output(): string
}

/** With arguments of Node, in an environment that holds nothing but PATH and what is given. */
export function runNode(args: readonly string[], env: Readonly<Record<string, string>> = {}): RunningExample {
  const child = spawn(process.execPath, args, { cwd: root, env: { PATH: process.env['PATH'] ?? '', ...env } })
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    await once(child, 'exit')
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  return { child, output: () => output }
}

/** `path` below `examples/`. */
export function runExample(
  path: string,
  env: Readonly<Record<string, string>> = {},
  args: readonly string[] = [],
): RunningExample {
  // Without tsx's own process around it, which waits 30 ms for an answer to a signal and then ends the example itself.
  const environment = { TSX_TSCONFIG_PATH: 'tsconfig.check.json', ...env }
  return runNode(['--import', 'tsx', `examples/${path}`, ...args], environment)
}

/** Waits until the text was printed; fails when the example ends before. */
export async function printed({ child, output }: RunningExample, text: string): Promise<void> {
  await vi
    .waitUntil(
      () => {
        if (child.exitCode !== null) throw new Error(`ended with ${String(child.exitCode)}: ${output()}`)
        return output().includes(text)
      },
      { timeout: 100_000, interval: 20 },
    )
    .catch((error: unknown) => {
      throw new Error(`did not print ${text}: ${output()}`, { cause: error })
    })
}
