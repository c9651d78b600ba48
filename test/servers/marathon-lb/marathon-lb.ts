/**
 * marathon-lb for tests: a real HAProxy that is started from an environment as the container's entry point does it, and
 * routes by the labels of apps. A Marathon server of ours can run it as the task of an app.
 */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { haproxyComplaint, runHaproxy, type HaproxyProcess } from '../../support/haproxy.js'
import { withFreePorts } from '../../support/ports.js'
import { temporaryDirectory } from '../../support/temporary-directory.js'
import type { AppVersion } from '../marathon/app.js'
import type { TaskRunner } from '../marathon/task-cluster.js'
import { writeCertificates } from './certificate-files.js'
import { haproxyConfig, httpsFrontend, type RoutedApp } from './routing.js'

export interface MarathonLbPorts {
  readonly http: number
  readonly https: number
  readonly admin: number
}

export interface MarathonLbOptions {
  /** Of the task: `HAPROXY_SSL_CERT`, `HAPROXY_SSL_CERT0`, ... */
  readonly env: Readonly<Record<string, string>>
  /** What there is to route, asked for at the start and at each {@link MarathonLb.signal} `hup`. @defaultValue nothing */
  readonly apps?: (() => readonly RoutedApp[]) | undefined
  /** @defaultValue ['external'] */
  readonly groups?: readonly string[] | undefined
  /** Certificate files, as with `--ssl-certs`. @defaultValue none */
  readonly sslCerts?: readonly string[] | undefined
  /** @defaultValue '127.0.0.1' */
  readonly host?: string | undefined
  /** @defaultValue free ones */
  readonly ports?: MarathonLbPorts | undefined
}

/** What has become of a signal. */
export type SignalOutcome = 'reloaded' | 'unchanged' | 'refused'

export interface MarathonLb {
  readonly host: string
  readonly ports: MarathonLbPorts
  /** `http://host:port` of the admin port: `/_haproxy_health_check`, `/_mlb_signal/usr1`, `/_mlb_signal/hup`. */
  readonly adminUrl: string
  /** In the order HAProxy loads them. */
  readonly certificatePaths: readonly string[]
  /** `usr1`: the configuration is checked and loaded again, with what is in the files. `hup`: it is made anew, and loaded if it differs. */
  signal(name: 'usr1' | 'hup'): Promise<SignalOutcome>
  /** Outcomes of the signals so far, in order, those by HTTP too; resolves when none is being acted on. */
  signals(): Promise<readonly SignalOutcome[]>
  config(): string
  output(): string
  stop(): Promise<void>
}

/** Rejects when HAProxy does not start: with a certificate that it cannot load, say. */
export async function startMarathonLb(options: MarathonLbOptions): Promise<MarathonLb> {
  const directory = await temporaryDirectory()
  try {
    const { ports } = options
    const launched =
      ports === undefined
        ? await withFreePorts(3, (http, https, admin) => launch(options, { http, https, admin }, directory.path))
        : await launch(options, ports, directory.path)
    return {
      ...launched,
      async stop() {
        await launched.stop()
        await directory.remove()
      },
    }
  } catch (error) {
    await directory.remove()
    throw error
  }
}

async function launch(options: MarathonLbOptions, ports: MarathonLbPorts, directory: string): Promise<MarathonLb> {
  const { env, apps = () => [], groups = ['external'], sslCerts = [], host = '127.0.0.1' } = options
  const configPath = join(directory, 'haproxy.cfg')
  const certificatePaths = await writeCertificates(env, directory, sslCerts)
  // Nobody can send a signal before HAProxy passes it on.
  const signalServer = await listenForSignals((name) => void signal(name))
  const { port: signalPort } = signalServer.address() as AddressInfo
  const generated = (): string => haproxyConfig({ host, ports, certificatePaths, groups, apps: apps(), signalPort })

  let config = generated()
  await writeFile(configPath, config)
  let haproxy: HaproxyProcess
  try {
    // The master says so once the worker has bound all of its ports.
    const ready = [{ log: /Loading success/ }]
    haproxy = await runHaproxy({ configPath, args: ['-W'], ready, frontend: httpsFrontend })
  } catch (error) {
    await closeServer(signalServer)
    throw error
  }

  const act = async (name: 'usr1' | 'hup'): Promise<SignalOutcome> => {
    const next = name === 'hup' ? generated() : config
    if (name === 'hup' && next === config) return 'unchanged'
    await writeFile(configPath, next)
    if ((await haproxyComplaint(configPath)) !== undefined) {
      // The running one stays as it is.
      await writeFile(configPath, config)
      return 'refused'
    }
    config = next
    await haproxy.reload()
    return 'reloaded'
  }
  const outcomes: SignalOutcome[] = []
  let last: Promise<unknown> = Promise.resolve()
  const signal = (name: 'usr1' | 'hup'): Promise<SignalOutcome> => {
    const outcome = last.then(() => act(name))
    last = outcome.then((reached) => outcomes.push(reached))
    return outcome
  }

  return {
    host,
    ports,
    adminUrl: `http://${host}:${String(ports.admin)}`,
    certificatePaths,
    signal,
    async signals() {
      await last
      return [...outcomes]
    },
    config: () => config,
    output: haproxy.output,
    async stop() {
      await last.catch(() => undefined)
      await haproxy.stop()
      await closeServer(signalServer)
    },
  }
}

export interface MarathonLbRunner extends TaskRunner {
  /** Those that run now, the oldest first; each has the address of its agent and the same ports. */
  readonly running: readonly MarathonLb[]
}

/** Runs each task of the app as a marathon-lb of its own: a new task means a new HAProxy from the new environment. */
export function marathonLbRunner(
  options: Omit<MarathonLbOptions, 'env' | 'host' | 'ports'> & { readonly ports: MarathonLbPorts },
): MarathonLbRunner {
  const running: MarathonLb[] = []
  return {
    running,
    async start({ env, host }) {
      const balancer = await startMarathonLb({ ...options, env, host })
      running.push(balancer)
      return {
        async stop() {
          running.splice(running.indexOf(balancer), 1)
          await balancer.stop()
        },
      }
    },
  }
}

/** The apps of a Marathon, with the addresses at which a test serves them. */
export function routedApps(
  apps: readonly AppVersion[],
  servers: Readonly<Record<string, RoutedApp['servers']>>,
): RoutedApp[] {
  return apps.map(({ definition: { id, labels = {} } }) => ({ id, labels, servers: servers[id] ?? [] }))
}

/** What signalmlb.lua answers: the signal is sent, not what comes of it. */
async function listenForSignals(onSignal: (name: 'usr1' | 'hup') => void): Promise<Server> {
  const server = createServer(({ url }, response) => {
    const name = /^\/_mlb_signal\/(usr1|hup)$/.exec(url ?? '')?.[1] as 'usr1' | 'hup' | undefined
    if (name !== undefined) onSignal(name)
    response.writeHead(name === undefined ? 404 : 200, { 'content-type': 'text/plain', connection: 'close' })
    response.end(name === undefined ? '' : `Sent SIG${name.toUpperCase()} signal to marathon-lb`)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

async function closeServer(server: Server): Promise<void> {
  if (!server.listening) return
  const closed = once(server, 'close')
  server.close()
  server.closeAllConnections()
  await closed
}
