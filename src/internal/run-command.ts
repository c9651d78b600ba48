/**
 * Runs a program of the caller's: no shell, its own process group, bounded in time and output.
 *
 * @module
 */
import { spawn, type ChildProcess } from 'node:child_process'
import type { Clock } from '../core/clock.js'
import { assertDuration, assertOptions, assertPath, assertText } from './options.js'

/** A program and its arguments; no shell reads them. */
export type Command = readonly [file: string, ...args: string[]]

/** A {@link Command} and how it is run, as options of a plug-in give it. */
export interface CommandOptions {
  /** The program, by absolute path or looked up in `env.PATH`, and its arguments. No shell is involved. */
  readonly command: Command
  /**
   * Limit for the program and everything it starts, milliseconds. Then its process group gets SIGTERM, and SIGKILL two
   * seconds later.
   *
   * @defaultValue 60_000 (one minute)
   */
  readonly timeoutMs?: number | undefined
  /** @defaultValue `'/'` */
  readonly cwd?: string | undefined
  /** The whole environment: nothing is inherited. @defaultValue `PATH` with the system directories, `LANG=C` */
  readonly env?: Readonly<Record<string, string>> | undefined
}

/** Parts of {@link runCommand}. */
export interface CommandRun {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Written to standard input, which is then closed. @defaultValue nothing */
  readonly input?: string | undefined
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>> | undefined
  /** Never shown in the output, whatever the program prints. PEM keys never are. */
  readonly secrets?: readonly string[] | undefined
}

/** How a program ended. */
export interface CommandResult {
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
  readonly timedOut: boolean
  /** The last 64 kB of standard output and error as they came, keys and `secrets` replaced. */
  readonly output: string
}

/** @defaultValue of {@link CommandOptions.timeoutMs} */
export const defaultCommandTimeoutMs = 60_000
/** What a program may print before the beginning is dropped. */
export const outputLimitBytes = 65_536

const defaultEnvironment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C',
}
const killDelayMs = 2_000

/** Checks and copies {@link CommandOptions}. @throws `TypeError` */
export function commandOptions(value: CommandOptions, option: string): CommandOptions {
  assertOptions(value, ['command', 'timeoutMs', 'cwd', 'env'], option)
  const { timeoutMs, cwd, env } = value
  if (timeoutMs !== undefined) assertDuration(timeoutMs, `${option}.timeoutMs`)
  if (cwd !== undefined) assertPath(cwd, `${option}.cwd`)
  if (env !== undefined) assertEnvironment(env, `${option}.env`)
  return { command: commandOption(value.command, `${option}.command`), timeoutMs, cwd, env: env && { ...env } }
}

/** Checks and copies a {@link Command}. @throws `TypeError` */
export function commandOption(value: unknown, option: string): Command {
  if (!Array.isArray(value) || value.length === 0) {
    throw new TypeError(`"${option}" option must be an array: the program, then its arguments`)
  }
  const [file, ...args] = value as readonly unknown[]
  assertText(file, option)
  const texts = args.map((arg) => {
    if (typeof arg !== 'string' || arg.includes('\0')) throw new TypeError(`"${option}" option must hold strings only`)
    return arg
  })
  return [file, ...texts]
}

/**
 * Runs the program to its end.
 *
 * Resolves however the program ended. Rejects with the error of the system when it could not be started, and with
 * `signal.reason` when aborted, once the process group is gone.
 */
export async function runCommand(options: CommandOptions, run: CommandRun): Promise<CommandResult> {
  const { command, timeoutMs = defaultCommandTimeoutMs, cwd = '/', env = defaultEnvironment } = options
  const { clock, signal, input, secrets = [] } = run
  signal.throwIfAborted()
  const [file, ...args] = command
  const child = spawn(file, args, {
    cwd,
    env: { ...env, ...run.env },
    shell: false,
    // A group of its own, so that what the program starts can be ended with it.
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const output = collectOutput(child)
  // A program that does not read its input is within its rights.
  child.stdin.on('error', () => undefined)
  child.stdin.end(input ?? '')
  const ended = waitForExit(child)

  const timer = new AbortController()
  let timedOut = false
  const stop = (): void => {
    void endGroup(child, clock, timer.signal)
  }
  signal.addEventListener('abort', stop, { once: true })
  void clock.sleep(timeoutMs, { signal: timer.signal, deadline: true }).then(
    () => {
      timedOut = true
      stop()
    },
    () => undefined,
  )
  try {
    const exit = await ended
    await drained(child)
    if (signal.aborted) throw signal.reason
    return { ...exit, timedOut, output: redact(output(), secrets) }
  } finally {
    timer.abort()
    signal.removeEventListener('abort', stop)
    child.stdout.destroy()
    child.stderr.destroy()
  }
}

/** What became of a program, for an error message; `undefined` when it exited with 0. */
export function describeFailure(command: Command, result: CommandResult, timeoutMs: number): string | undefined {
  const { exitCode, signal, timedOut, output } = result
  if (exitCode === 0 && !timedOut) return undefined
  const end = timedOut
    ? `did not end within ${String(timeoutMs)} ms and was killed`
    : exitCode === null
      ? `was ended by ${String(signal)}`
      : `exited with code ${String(exitCode)}`
  const lines = output.trim().split(/\s*[\r\n]+\s*/)
  const said = lines.slice(-5).join(' | ').slice(-600)
  return `${command[0]} ${end}${said === '' ? '' : `: ${said}`}`
}

function waitForExit(child: ChildProcess): Promise<Pick<CommandResult, 'exitCode' | 'signal'>> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (exitCode, signal) => {
      resolve({ exitCode, signal })
    })
  })
}

/** What was printed before the exit is in the pipes; a background process that holds them open is not waited for. */
async function drained(child: ChildProcess): Promise<void> {
  let closed = false
  child.once('close', () => (closed = true))
  for (let turn = 0; turn < 20 && !closed; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

async function endGroup(child: ChildProcess, clock: Clock, exited: AbortSignal): Promise<void> {
  signalGroup(child, 'SIGTERM')
  await clock.sleep(killDelayMs, { signal: exited, deadline: true }).catch(() => undefined)
  // Also when the program itself has ended: what it started may have ignored SIGTERM.
  signalGroup(child, 'SIGKILL')
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // The group is gone.
  }
}

function collectOutput(child: ChildProcess): () => string {
  let chunks: Buffer[] = []
  let bytes = 0
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes <= 2 * outputLimitBytes) return
      chunks = [Buffer.concat(chunks).subarray(-outputLimitBytes)]
      bytes = outputLimitBytes
    })
  }
  return () => Buffer.concat(chunks).subarray(-outputLimitBytes).toString('utf8')
}

/** Whole keys, keys whose beginning or end was cut off, and every one of the secrets. */
function redact(output: string, secrets: readonly string[]): string {
  const shown = '[private key]'
  let text = output
    .replace(/-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,32}PRIVATE KEY-----)?/g, shown)
    .replace(/^[^-]*-----END [A-Z ]{0,32}PRIVATE KEY-----/, shown)
  for (const secret of secrets) if (secret !== '') text = text.replaceAll(secret, shown)
  // Control characters could rewrite a terminal that shows the log.
  // eslint-disable-next-line no-control-regex -- they are what is replaced
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g, '?')
}

function assertEnvironment(value: unknown, option: string): void {
  if (typeof value !== 'object' || value === null)
    throw new TypeError(`"${option}" option must be an object of strings`)
  for (const [name, text] of Object.entries(value)) {
    if (name === '' || /[=\0]/.test(name) || typeof text !== 'string' || text.includes('\0')) {
      throw new TypeError(`"${option}" option must be an object of strings`)
    }
  }
}
