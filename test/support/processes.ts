/**
 * Starts a real server as a child process, waits until it serves, and stops exactly that process.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { atExit } from './at-exit.js'

export { freePort, freePorts } from './ports.js'

/** A sign that a server serves: it accepts connections, or it has logged a line. */
export type Readiness =
  /** `host` is 127.0.0.1 where nothing else is said. */
  { readonly port: number; readonly host?: string | undefined } | { readonly socket: string } | { readonly log: RegExp }

export interface SpawnServerOptions {
  readonly command: string
  readonly args?: readonly string[] | undefined
  /** The whole environment except PATH: nothing of the caller's settings reaches the server. */
  readonly env?: Readonly<Record<string, string>> | undefined
  /** User and group id to run as, when this process is root. @defaultValue its own */
  readonly user?: number | undefined
  /** @defaultValue 'SIGTERM' */
  readonly stopSignal?: NodeJS.Signals | undefined
  /** All of them must hold. */
  readonly ready: readonly Readiness[]
  /** @defaultValue 60000 */
  readonly readyTimeoutMs?: number | undefined
  /** How long SIGTERM may take before SIGKILL follows. @defaultValue 5000 */
  readonly stopTimeoutMs?: number | undefined
  /** Called with each line of output. */
  readonly onLine?: ((line: string) => void) | undefined
}

export interface ServerProcess {
  readonly pid: number
  /** The end of standard output and standard error, as they came. */
  output(): string
  /** Resolves when the process is gone. Can be called again. */
  stop(): Promise<void>
}

type Child = ChildProcessByStdio<null, Readable, Readable>

const outputLimit = 256 * 1024
const running = new Set<Child>()

// A crashed test run leaves no servers behind; stop() is not called then.
atExit(() => {
  for (const child of running) child.kill('SIGKILL')
})

/** Process ids of the servers that have been started and are still there. */
export function runningServers(): number[] {
  return [...running].flatMap(({ pid }) => pid ?? [])
}

export async function spawnServer(options: SpawnServerOptions): Promise<ServerProcess> {
  const { ready, readyTimeoutMs = 60_000, stopTimeoutMs = 5_000, stopSignal = 'SIGTERM', onLine } = options
  const child = spawnChild(options)
  running.add(child)
  const gone = new Promise<void>((resolve) => {
    const onGone = (): void => {
      running.delete(child)
      resolve()
    }
    child.once('exit', onGone)
    child.once('error', onGone)
  })
  const closed = once(child, 'close')
  const output = captureOutput(child, onLine)

  let stopping: Promise<void> | undefined
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      child.kill(stopSignal)
      if (!(await settledWithin(gone, stopTimeoutMs))) child.kill('SIGKILL')
      await gone
      // The last lines; a grandchild that keeps the pipe open must not keep us.
      await settledWithin(closed, 500)
    })()
    return stopping
  }

  const died = closed.then(
    ([code, signal]) => `exited with ${String(code ?? signal)} before it was ready`,
    (error: unknown) => String(error),
  )
  const abort = new AbortController()
  const served = untilReady(ready, output, abort.signal).then(() => undefined)
  const late = sleep(readyTimeoutMs, `not ready after ${readyTimeoutMs} ms`, { signal: abort.signal })
  served.catch(() => {})
  late.catch(() => {})
  const failure = await Promise.race([died, served, late])
  abort.abort()
  if (failure !== undefined) {
    await stop()
    throw new Error(`${options.command}: ${failure}\n${output()}`)
  }
  return { pid: child.pid!, output, stop }
}

function spawnChild({ command, args = [], env = {}, user }: SpawnServerOptions): Child {
  // Where there is setpriv (Linux), the kernel ends the server with us, however we end. It keeps the process id.
  const withSetpriv = existsSync('/usr/bin/setpriv')
  const identity = user === undefined ? [] : ['--reuid', String(user), '--regid', String(user), '--clear-groups']
  const [file, ...prefix] = withSetpriv
    ? ['/usr/bin/setpriv', ...identity, '--pdeathsig', 'TERM', '--', command]
    : [command]
  return spawn(file, [...prefix, ...args], {
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(withSetpriv || user === undefined ? {} : { uid: user, gid: user }),
  })
}

function captureOutput(child: Child, onLine: ((line: string) => void) | undefined): () => string {
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    stream.setEncoding('utf8')
    stream.on('data', (chunk: string) => {
      text += chunk
      if (text.length > 2 * outputLimit) text = text.slice(-outputLimit)
      if (onLine === undefined) return
      const lines = (rest + chunk).split('\n')
      rest = lines.pop()!
      lines.forEach(onLine)
    })
  }
  return () => text.slice(-outputLimit)
}

async function untilReady(signs: readonly Readiness[], output: () => string, signal: AbortSignal): Promise<void> {
  for (const sign of signs) {
    while (!(await holds(sign, output))) await sleep(20, undefined, { signal })
  }
}

async function holds(sign: Readiness, output: () => string): Promise<boolean> {
  if ('log' in sign) return sign.log.test(output())
  const connection = 'port' in sign ? connect(sign.port, sign.host ?? '127.0.0.1') : connect(sign.socket)
  try {
    await once(connection, 'connect')
    return true
  } catch {
    return false
  } finally {
    connection.destroy()
  }
}

async function settledWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const timer = new AbortController()
  const settled = promise.then(
    () => true,
    () => true,
  )
  const late = sleep(ms, false, { signal: timer.signal }).catch(() => false)
  try {
    return await Promise.race([settled, late])
  } finally {
    timer.abort()
  }
}
