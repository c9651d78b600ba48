/**
 * nginx as a balancer's front: serves http-01 files from a web root, in a directory of its own.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { withFreePorts } from './ports.js'
import { spawnServer } from './processes.js'
import { requireServer } from './server-paths.js'
import { temporaryDirectory } from './temporary-directory.js'

export interface NginxOptions {
  /** `/.well-known/acme-challenge/<token>` is read from below this directory, at the same path. */
  readonly webroot: string
  /** @defaultValue a free port */
  readonly httpPort?: number | undefined
  /** Listens on ::1 too, same port. @defaultValue false */
  readonly listenIPv6?: boolean | undefined
  /** Further directives of the `server` block. */
  readonly serverConfig?: string | undefined
}

export interface Nginx {
  readonly httpPort: number
  accessLog(): Promise<string>
  output(): string
  stop(): Promise<void>
}

export async function startNginx(options: NginxOptions): Promise<Nginx> {
  const directory = await temporaryDirectory()
  const configPath = join(directory.path, 'nginx.conf')
  const accessLogPath = join(directory.path, 'access.log')

  const launch = async (freePort: number) => {
    const httpPort = options.httpPort ?? freePort
    await writeFile(configPath, config(directory.path, accessLogPath, httpPort, options))
    const server = await spawnServer({
      command: requireServer('nginx'),
      args: ['-p', directory.path, '-e', 'stderr', '-c', configPath],
      ready: [{ port: httpPort }],
    })
    return { httpPort, server }
  }

  try {
    const { httpPort, server } = await withFreePorts(1, launch)
    return {
      httpPort,
      accessLog: () => readFile(accessLogPath, 'utf8'),
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

/** One process and every path below our directory: nothing needs root, nothing is left in the system's places. */
function config(directory: string, accessLog: string, port: number, options: NginxOptions): string {
  const temporaryPaths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return `
daemon off;
master_process off;
pid "${directory}/nginx.pid";
events {}
http {
  access_log "${accessLog}";
  default_type text/plain;
  ${temporaryPaths.map((name) => `${name}_temp_path "${directory}/${name}";`).join('\n  ')}
  server {
    listen 127.0.0.1:${port};
    ${(options.listenIPv6 ?? false) ? `listen [::1]:${port} ipv6only=on;` : ''}
    location ^~ /.well-known/acme-challenge/ { root "${options.webroot}"; }
    location / { return 404; }
    ${options.serverConfig ?? ''}
  }
}
`
}
