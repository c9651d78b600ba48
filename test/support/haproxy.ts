/**
 * HAProxy with a TLS frontend, its runtime API on a socket, in a directory of its own.
 */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { withFreePorts } from './ports.js'
import { spawnServer, type Readiness, type ServerProcess } from './processes.js'
import { requireServer } from './server-paths.js'
import { temporaryDirectory } from './temporary-directory.js'
import { askSocket } from './unix-socket.js'

export interface HaproxyOptions {
  /** PEM files, the first of which serves unknown names; or a crt-list; or a directory of PEM files. */
  readonly certificates:
    readonly [string, ...string[]] | { readonly crtList: string } | { readonly crtDirectory: string }
  /** @defaultValue a free port */
  readonly tlsPort?: number | undefined
  /** A master that can reload its worker, as Debian's service runs it. @defaultValue true */
  readonly masterWorker?: boolean | undefined
  /** The runtime API. @defaultValue true */
  readonly adminSocket?: boolean | undefined
  /** The master's own socket, in master-worker mode. @defaultValue true */
  readonly masterSocket?: boolean | undefined
  /** Further sections, after ours. */
  readonly extraConfig?: string | undefined
}

export interface Haproxy {
  readonly pid: number
  readonly tlsPort: number
  /** `undefined` when it was not wanted. */
  readonly adminSocket: string | undefined
  readonly masterSocket: string | undefined
  readonly configPath: string
  /** As in `2.6.12`. */
  readonly version: string
  /** Sends a command to the runtime API and resolves with the whole reply. */
  command(text: string): Promise<string>
  /** Resolves when the new worker serves and the old one no longer accepts; rejects when the configuration is refused. */
  reload(): Promise<void>
  output(): string
  stop(): Promise<void>
}

/** What {@link runHaproxy} runs. */
export interface HaproxyProcessOptions {
  readonly configPath: string
  /** Command line arguments before the configuration. */
  readonly args: readonly string[]
  readonly ready: readonly Readiness[]
  /** A frontend of the configuration: a reload is over when its old instance has stopped. */
  readonly frontend: string
}

/** An HAProxy of whatever configuration. */
export interface HaproxyProcess extends ServerProcess {
  /** In master-worker mode. */
  reload(): Promise<void>
}

export async function runHaproxy({
  configPath,
  args,
  ready,
  frontend,
}: HaproxyProcessOptions): Promise<HaproxyProcess> {
  const server = await spawnServer({ command: requireServer('haproxy'), args: [...args, '-f', configPath], ready })
  return { ...server, reload: () => reloadWorker(server, frontend) }
}

/** What HAProxy says against a configuration, the certificates included; `undefined` when it would load it. */
export async function haproxyComplaint(configPath: string): Promise<string | undefined> {
  try {
    await promisify(execFile)(requireServer('haproxy'), ['-c', '-f', configPath])
    return undefined
  } catch (error) {
    return (error as { stderr?: string }).stderr ?? String(error)
  }
}

export async function startHaproxy(options: HaproxyOptions): Promise<Haproxy> {
  const masterWorker = options.masterWorker ?? true
  const [directory, version] = await Promise.all([temporaryDirectory(), haproxyVersion()])
  const configPath = join(directory.path, 'haproxy.cfg')
  const adminSocket = (options.adminSocket ?? true) ? join(directory.path, 'admin.sock') : undefined
  const masterSocket = masterWorker && (options.masterSocket ?? true) ? join(directory.path, 'master.sock') : undefined

  const launch = async (freePort: number) => {
    const tlsPort = options.tlsPort ?? freePort
    await writeFile(configPath, config(tlsPort, adminSocket, options))
    const master = masterWorker
      ? ['-W', ...(masterSocket === undefined ? [] : ['-S', `${masterSocket},mode,600`])]
      : ['-db']
    const server = await runHaproxy({
      configPath,
      args: master,
      frontend: 'tls',
      ready: [
        { port: tlsPort },
        ...[adminSocket, masterSocket].flatMap((socket) => (socket === undefined ? [] : [{ socket }])),
      ],
    })
    return { tlsPort, server }
  }

  try {
    const { tlsPort, server } = await withFreePorts(1, launch)
    return {
      pid: server.pid,
      tlsPort,
      adminSocket,
      masterSocket,
      configPath,
      version,
      command(text) {
        if (adminSocket === undefined) throw new TypeError('this HAProxy was started without its runtime API')
        return askSocket(adminSocket, text)
      },
      async reload() {
        if (!masterWorker) throw new TypeError('only an HAProxy in master-worker mode can reload')
        await server.reload()
      },
      output: server.output,
      async stop() {
        await server.stop()
        await directory.remove()
      },
    }
  } catch (error) {
    await directory.remove()
    throw error
  }
}

async function haproxyVersion(): Promise<string> {
  const { stdout } = await promisify(execFile)(requireServer('haproxy'), ['-v'])
  return /version (\d+\.\d+\.\d+)/.exec(stdout)?.[1] ?? stdout
}

/** SIGUSR2 works with every version and without a master socket; the outcome is in the log. */
async function reloadWorker(server: ServerProcess, frontend: string): Promise<void> {
  const before = server.output().length
  const since = (): string => server.output().slice(before)
  const deadline = Date.now() + 10_000
  let signalAt = 0
  while (Date.now() < deadline) {
    if (/Loading failure|failed to load/i.test(since())) throw new Error(`HAProxy refused to reload:\n${since()}`)
    if (/Loading success/.test(since()) && since().includes(`Proxy ${frontend} stopped`)) return
    // HAProxy 2.6 loses a signal that comes in the first 10 ms after it has (re)loaded.
    if (!since().includes('Reloading HAProxy') && Date.now() - signalAt > 500) {
      signalAt = Date.now()
      process.kill(server.pid, 'SIGUSR2')
    }
    await sleep(10)
  }
  throw new Error(`HAProxy did not reload within 10 s:\n${since()}`)
}

function config(tlsPort: number, adminSocket: string | undefined, options: HaproxyOptions): string {
  const { certificates } = options
  let source: string
  if ('crtList' in certificates) source = `crt-list ${certificates.crtList}`
  else if ('crtDirectory' in certificates) source = `crt ${certificates.crtDirectory}`
  else source = certificates.map((path) => `crt ${path}`).join(' ')
  return `
global
  log stdout format raw local0 notice
  maxconn 1000
  ${adminSocket === undefined ? '' : `stats socket ${adminSocket} mode 600 level admin expose-fd listeners`}

defaults
  mode http
  log global
  timeout connect 5s
  timeout client 10s
  timeout server 10s

frontend tls
  bind 127.0.0.1:${tlsPort} ssl ${source}
  http-request return status 200 content-type text/plain string served

${options.extraConfig ?? ''}
`
}
