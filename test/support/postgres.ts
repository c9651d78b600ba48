/**
 * PostgreSQL with a cluster of its own, and PgBouncer in transaction mode before it.
 */
import { execFile } from 'node:child_process'
import { chown, realpath, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { withFreePorts } from './ports.js'
import { spawnServer } from './processes.js'
import { requireServer } from './server-paths.js'
import { temporaryDirectory } from './temporary-directory.js'

export interface PostgresServer {
  readonly port: number
  readonly pid: number
  /** One statement as the superuser, over a connection of its own. */
  query(text: string, values?: unknown[]): Promise<Record<string, unknown>[]>
  /** Options for a pool of the superuser. */
  readonly connection: {
    readonly host: string
    readonly port: number
    readonly user: string
    readonly database: string
  }
  stop(): Promise<void>
}

/** Neither PostgreSQL nor PgBouncer runs as root; nobody owns what they write. */
const nobody = 65_534
const asRoot = process.getuid?.() === 0
const user = asRoot ? nobody : undefined

/** @param settings - as on the command line: `['-c', 'max_connections=5']` */
export async function startPostgres(settings: readonly string[] = []): Promise<PostgresServer> {
  const directory = await temporaryDirectory()
  if (asRoot) await chown(directory.path, nobody, nobody)
  // Where initdb lives, and where PostgreSQL looks for its other files.
  const postgres = await realpath(requireServer('postgres'))
  const data = join(directory.path, 'data')
  await promisify(execFile)(
    join(dirname(postgres), 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale', 'C', '--no-sync'],
    asRoot ? { uid: nobody, gid: nobody, cwd: directory.path } : {},
  )
  const start = async (port: number) => ({
    port,
    server: await spawnServer({
      command: postgres,
      args: ['-D', data, '-h', '127.0.0.1', '-p', String(port), '-k', directory.path, ...settings],
      user,
      // "fast": does not wait for clients.
      stopSignal: 'SIGINT',
      ready: [{ port }, { log: /database system is ready to accept connections/ }],
    }),
  })
  const { port, server } = await withFreePorts(1, start)
  const connection = { host: '127.0.0.1', port, user: 'postgres', database: 'postgres' }
  return {
    port,
    pid: server.pid,
    connection,
    async query(text, values) {
      const client = new pg.Client(connection)
      await client.connect()
      try {
        return (await client.query<Record<string, unknown>>(text, values)).rows
      } finally {
        await client.end()
      }
    },
    async stop() {
      await server.stop()
      await directory.remove()
    },
  }
}

/** PgBouncer in transaction mode: a few connections to the server, shared by everybody. */
export async function startPgBouncer(postgres: PostgresServer): Promise<{ port: number; stop(): Promise<void> }> {
  const directory = await temporaryDirectory()
  const users = join(directory.path, 'users.txt')
  const configuration = join(directory.path, 'pgbouncer.ini')
  await writeFile(users, '"postgres" ""\n')
  const start = async (port: number) => {
    await writeFile(
      configuration,
      `[databases]
postgres = host=127.0.0.1 port=${String(postgres.port)} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${String(port)}
unix_socket_dir =
auth_type = any
auth_file = ${users}
pool_mode = transaction
default_pool_size = 3
`,
    )
    if (asRoot) for (const path of [directory.path, users, configuration]) await chown(path, nobody, nobody)
    return {
      port,
      server: await spawnServer({
        command: requireServer('pgbouncer'),
        args: [configuration],
        user,
        ready: [{ port }],
      }),
    }
  }
  const { port, server } = await withFreePorts(1, start)
  return {
    port,
    async stop() {
      await server.stop()
      await directory.remove()
    },
  }
}

/** A pool that never throws into the test when the server goes away. */
export function postgresPool(options: pg.PoolConfig): pg.Pool {
  const pool = new pg.Pool({ connectionTimeoutMillis: 3_000, ...options })
  pool.on('error', () => undefined)
  return pool
}
