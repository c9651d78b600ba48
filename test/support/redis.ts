/**
 * Redis, durable or not, primary or replica, on ports and in directories of its own.
 */
import { createClient } from '@redis/client'
import { Redis } from 'ioredis'
import { withFreePorts } from './ports.js'
import { spawnServer } from './processes.js'
import { requireServer } from './server-paths.js'
import { temporaryDirectory } from './temporary-directory.js'

export interface RedisOptions {
  /** Settings as on the command line: `['--maxmemory', '10mb']`. @defaultValue durable: each write is synced */
  readonly settings?: readonly string[] | undefined
  /** Port of the primary that this one copies. */
  readonly replicaOf?: number | undefined
}

export interface RedisServer {
  readonly port: number
  readonly pid: number
  /** Where it keeps its files. */
  readonly directory: string
  /** One command over a connection of its own. */
  command(...args: string[]): Promise<unknown>
  /** Ends it by SIGKILL and starts it again, on the same port and data. */
  restart(): Promise<void>
  stop(): Promise<void>
}

export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const { settings = ['--appendonly', 'yes', '--appendfsync', 'always'], replicaOf } = options
  const directory = await temporaryDirectory()
  const start = async (port: number) => ({
    port,
    server: await spawnServer({
      command: requireServer('redis-server'),
      args: [
        ...['--port', String(port), '--bind', '127.0.0.1', '--dir', directory.path, '--save', ''],
        ...(replicaOf === undefined ? [] : ['--replicaof', `127.0.0.1 ${String(replicaOf)}`]),
        ...settings,
      ],
      ready: [{ port }, { log: /Ready to accept connections/ }],
    }),
  })
  let { port, server } = await withFreePorts(1, start)
  return {
    port,
    directory: directory.path,
    get pid() {
      return server.pid
    },
    async command(...args) {
      const client = new Redis({ port, host: '127.0.0.1' })
      client.on('error', () => undefined)
      try {
        return await client.call(args[0]!, ...args.slice(1))
      } finally {
        client.disconnect()
      }
    },
    async restart() {
      process.kill(server.pid, 'SIGKILL')
      await server.stop()
      ;({ port, server } = await start(port))
    },
    async stop() {
      await server.stop()
      await directory.remove()
    },
  }
}

/** Clients of both makes, with what a service would set. The caller closes them. */
export const redisClients = {
  redis: async (port: number) => {
    const client = createClient({
      socket: { port, host: '127.0.0.1', reconnectStrategy: () => 50 },
    })
    client.on('error', () => undefined)
    await client.connect()
    return { client, close: async () => client.destroy() }
  },
  ioredis: async (port: number) => {
    const client = new Redis({ port, host: '127.0.0.1', retryStrategy: () => 50, maxRetriesPerRequest: 20 })
    client.on('error', () => undefined)
    await client.ping()
    return { client, close: async () => client.disconnect() }
  },
} as const
