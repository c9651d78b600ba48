/** The TLS servers of the embedded run: the real HAProxy, or Node. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, constants, mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import { createServer as createTcpServer, type AddressInfo } from 'node:net'
import { delimiter, join } from 'node:path'
import type { Deployer } from 'evercert'
import { haproxyDeployer } from 'evercert/deployers/haproxy'
import { nodeTlsDeployer } from 'evercert/deployers/node-tls'

export interface TlsServer {
  readonly title: string
  readonly port: number
  readonly deployer: Deployer
  /** Called once a first certificate is there: HAProxy does not start without one. */
  start(): Promise<void>
  stop(): Promise<void>
}

export async function nodeTlsServer(): Promise<TlsServer> {
  const server = createServer((_, response) => response.end('hello\n'))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    title: 'Node https.Server',
    port: (server.address() as AddressInfo).port,
    deployer: nodeTlsDeployer({ servers: [server] }),
    start: () => Promise.resolve(),
    stop: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

export async function haproxyTlsServer(haproxy: string, directory: string): Promise<TlsServer> {
  const port = await freePort()
  const pemPath = join(directory, 'certificates', 'www.pem')
  const socket = join(directory, 'haproxy.sock')
  const configuration = join(directory, 'haproxy.cfg')
  await mkdir(join(directory, 'certificates'), { mode: 0o700 })
  await writeFile(
    configuration,
    `global
  stats socket ${socket} mode 600 level admin
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend https
  bind 127.0.0.1:${String(port)} ssl crt ${pemPath}
  http-request return status 200 content-type text/plain string hello
`,
  )
  let stop = (): Promise<void> => Promise.resolve()
  return {
    title: 'HAProxy',
    port,
    deployer: haproxyDeployer({ pemPath, runtimeSocket: socket }),
    async start() {
      const child = spawn(haproxy, ['-db', '-f', configuration], { stdio: ['ignore', 'ignore', 'pipe'] })
      let complaints = ''
      child.stderr.setEncoding('utf8').on('data', (text: string) => (complaints += text))
      const ended = once(child, 'exit')
      stop = async () => {
        child.kill()
        await ended
      }
      for (let tries = 0; !(await exists(socket)); tries += 1) {
        if (child.exitCode !== null || tries === 500) throw new Error(`HAProxy did not start: ${complaints}`)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    },
    stop: () => stop(),
  }
}

/** Finds a program on the PATH. */
export async function findProgram(name: string): Promise<string | undefined> {
  const places = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
  for (const place of places) {
    const path = join(place, name)
    if (await exists(path, constants.X_OK)) return path
  }
  return undefined
}

async function exists(path: string, mode = constants.F_OK): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  )
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
