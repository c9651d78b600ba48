/**
 * Reload through HAProxy's master socket (`haproxy -W -S <socket>`), with proof that a new worker came of it.
 *
 * @module
 */
import type { Clock } from '../core/clock.js'
import { DeployError } from '../errors.js'
import { askSocket } from '../internal/ask-socket.js'
import { socketFailure } from './haproxy-runtime.js'

/** Where the master is and how long it may take. */
export interface HaproxyMasterOptions {
  readonly socket: string
  /** Name of the deployer, for errors. */
  readonly deployer: string
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly timeoutMs: number
}

/** What `show proc` says. */
export interface HaproxyProcesses {
  /** Reloads so far, failed ones included. */
  readonly reloads: number
  /** Process ids of the workers that serve. */
  readonly workers: readonly string[]
}

const pollMs = 50

/**
 * Reloads, and waits until the outcome is known. HAProxy 2.7 and newer answer with it; older ones answer nothing, close
 * the connection and start themselves anew: there a worker that was not there before is the proof.
 *
 * @throws {@link DeployError} `ERR_DEPLOY_REJECTED` when HAProxy refused its configuration and the old worker goes on.
 */
export async function reloadByMaster(options: HaproxyMasterOptions): Promise<void> {
  const { socket, deployer, clock, signal, timeoutMs } = options
  const before = await showProcesses(options)
  const reply = await ask('reload', options)
  const verdict = /^Success=([01])/m.exec(reply)?.[1]
  if (verdict === '1') return
  const refused = (log: string): DeployError =>
    new DeployError({
      code: 'ERR_DEPLOY_REJECTED',
      message: `${deployer}: HAProxy refused to reload, and serves as before; "haproxy -c -f <configuration>" tells why${log}`,
      deployer,
      retryable: true,
    })
  if (verdict === '0') throw refused(`: ${alerts(reply)}`)
  const giveUpAt = clock.now() + timeoutMs
  for (;;) {
    // The master is away while it starts itself anew.
    const now = await showProcesses(options).catch((error: unknown) => {
      if (signal.aborted || clock.now() >= giveUpAt) throw error
      return undefined
    })
    if (now?.workers.some((worker) => !before.workers.includes(worker)) === true) return
    if (now !== undefined && now.reloads > before.reloads) throw refused('')
    if (clock.now() >= giveUpAt) {
      throw new DeployError({
        code: 'ERR_DEPLOY_UNAVAILABLE',
        message: `${deployer}: HAProxy did not reload within ${String(timeoutMs)} ms of being told on ${socket}`,
        deployer,
      })
    }
    await clock.sleep(pollMs, { signal })
  }
}

/** Reads `show proc`. `undefined` when it is anything else. */
export function parseProcesses(reply: string): HaproxyProcesses | undefined {
  const reloads = /^\d+\s+master\s+(\d+)/m.exec(reply)?.[1]
  const section = /^# workers\n((?:[^#\n][^\n]*\n)*)/m.exec(reply)?.[1]
  if (reloads === undefined || section === undefined) return undefined
  const workers = [...section.matchAll(/^(\d+)\s+worker\s/gm)].map((match) => match[1] ?? '')
  return { reloads: Number(reloads), workers }
}

async function showProcesses(options: HaproxyMasterOptions): Promise<HaproxyProcesses> {
  const processes = parseProcesses(await ask('show proc', options))
  if (processes !== undefined) return processes
  const { deployer, socket } = options
  throw new DeployError({
    code: 'ERR_DEPLOY_REJECTED',
    message: `${deployer}: ${socket} is not the socket of an HAProxy master; it is made by "haproxy -W -S <socket>"`,
    deployer,
  })
}

async function ask(command: string, options: HaproxyMasterOptions): Promise<string> {
  const { socket, deployer, clock, signal, timeoutMs } = options
  const question = { path: socket, command: `${command}\n`, endAfterCommand: true, clock, signal, timeoutMs }
  try {
    return await askSocket(question)
  } catch (error) {
    throw signal.aborted && error === signal.reason ? error : socketFailure(deployer, socket, error)
  }
}

/** What HAProxy says of the reason; its log lines hold paths, no keys. */
function alerts(reply: string): string {
  const lines = reply.split('\n').filter((line) => line.includes('[ALERT]'))
  return lines
    .join(' | ')
    .replace(/[^\x20-\x7e]+/g, ' ')
    .slice(0, 600)
}
