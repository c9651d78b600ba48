/**
 * Several Redis servers that are one: a cluster of primaries, and a primary with a replica that a sentinel watches.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createCluster, createSentinel } from '@redis/client'
import { Cluster, Redis } from 'ioredis'
import { vi } from 'vitest'
import type { RedisClient, RedisSubscriber } from '../../src/stores/redis.js'
import { freePort, withFreePorts } from './ports.js'
import { spawnServer } from './processes.js'
import { startRedis, type RedisServer } from './redis.js'
import { requireServer } from './server-paths.js'
import { temporaryDirectory } from './temporary-directory.js'

/** A client as a service would set it up, with another one to listen on. */
export interface TopologyClient {
  readonly client: RedisClient
  readonly subscriber: RedisSubscriber
  close(): Promise<void>
}

const slots = 16_384
const host = '127.0.0.1'

export interface RedisCluster {
  readonly nodes: readonly RedisServer[]
  /** The node that a slot belongs to. */
  ownerOf(slot: number): Promise<number>
  /** Moves a slot and its keys, one key after the other, as `redis-cli --cluster reshard` does; `between` runs before each key. */
  moveSlot(slot: number, to: number, between: () => Promise<void>): Promise<void>
  stop(): Promise<void>
}

export async function startRedisCluster(size = 3): Promise<RedisCluster> {
  const busPorts = await Promise.all(Array.from({ length: size }, () => freePort()))
  const nodes = await Promise.all(
    busPorts.map((busPort) =>
      startRedis({
        settings: [
          ...['--appendonly', 'yes', '--cluster-enabled', 'yes', '--cluster-node-timeout', '5000'],
          ...['--cluster-port', String(busPort)],
        ],
      }),
    ),
  )
  for (const [index, node] of nodes.entries()) {
    const [first, last] = [index, index + 1].map((share) => Math.floor((share * slots) / size)) as [number, number]
    await node.command('CLUSTER', 'ADDSLOTSRANGE', String(first), String(last - 1))
    await node.command('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1))
  }
  for (const [index, node] of nodes.entries()) {
    if (index > 0) await nodes[0]!.command('CLUSTER', 'MEET', host, String(node.port), String(busPorts[index]))
  }
  await vi.waitUntil(
    async () => {
      const states = await Promise.all(nodes.map((node) => node.command('CLUSTER', 'INFO').then(String)))
      return states.every(
        (state) => state.includes('cluster_state:ok') && state.includes(`cluster_known_nodes:${String(size)}`),
      )
    },
    { timeout: 60_000, interval: 50 },
  )
  const ids = await Promise.all(nodes.map((node) => node.command('CLUSTER', 'MYID').then(String)))

  async function ownerOf(slot: number): Promise<number> {
    const ranges = (await nodes[0]!.command('CLUSTER', 'SLOTS')) as [number, number, [string, number]][]
    const range = ranges.find(([first, last]) => first <= slot && slot <= last)
    return nodes.findIndex(({ port }) => port === range?.[2][1])
  }

  return {
    nodes,
    ownerOf,
    async moveSlot(slot, to, between) {
      const from = await ownerOf(slot)
      const [source, target] = [nodes[from]!, nodes[to]!]
      await target.command('CLUSTER', 'SETSLOT', String(slot), 'IMPORTING', ids[from]!)
      await source.command('CLUSTER', 'SETSLOT', String(slot), 'MIGRATING', ids[to]!)
      for (;;) {
        await between()
        const [key] = (await source.command('CLUSTER', 'GETKEYSINSLOT', String(slot), '1')) as string[]
        if (key === undefined) break
        await source.command('MIGRATE', host, String(target.port), key, '0', '10000')
      }
      for (const node of [target, source, ...nodes]) {
        await node.command('CLUSTER', 'SETSLOT', String(slot), 'NODE', ids[to]!)
      }
    },
    async stop() {
      await Promise.all(nodes.map((node) => node.stop()))
    },
  }
}

export const clusterClients = {
  redis: async ({ nodes }: RedisCluster): Promise<TopologyClient> => {
    const open = async () => {
      const cluster = createCluster({ rootNodes: nodes.map(({ port }) => ({ socket: { host, port } })) })
      cluster.on('error', () => undefined)
      return cluster.connect()
    }
    const [client, listening] = [await open(), await open()]
    return {
      client: client,
      subscriber: listening,
      close: async () => [client, listening].forEach((each) => each.destroy()),
    }
  },
  ioredis: async ({ nodes }: RedisCluster): Promise<TopologyClient> => {
    const open = async () => {
      const cluster = new Cluster(nodes.map(({ port }) => ({ host, port })))
      cluster.on('error', () => undefined)
      await cluster.ping()
      return cluster
    }
    const [client, subscriber] = [await open(), await open()]
    // While a cluster client of ioredis still chooses the node it listens to, it may lose what it has subscribed to.
    let heard = false
    subscriber.on('message', () => (heard = true))
    await vi.waitUntil(
      async () => {
        await subscriber.subscribe('settled')
        await client.publish('settled', '')
        return heard
      },
      { timeout: 60_000, interval: 50 },
    )
    return { client, subscriber, close: async () => [client, subscriber].forEach((each) => each.disconnect()) }
  },
} as const

export interface RedisSentinel {
  readonly port: number
  readonly primary: RedisServer
  readonly replica: RedisServer
  stop(): Promise<void>
}

/** Under the name `main`; the only sentinel decides alone, half a second after the primary fell silent. */
export async function startRedisSentinel(): Promise<RedisSentinel> {
  const primary = await startRedis()
  const replica = await startRedis({ replicaOf: primary.port })
  await vi.waitUntil(
    async () => String(await replica.command('INFO', 'replication')).includes('master_link_status:up'),
    { timeout: 30_000, interval: 50 },
  )
  const directory = await temporaryDirectory()
  const configuration = join(directory.path, 'sentinel.conf')
  const { port, server } = await withFreePorts(1, async (port) => {
    const lines = [
      ...[`port ${String(port)}`, `bind ${host}`, `dir ${directory.path}`],
      `sentinel monitor main ${host} ${String(primary.port)} 1`,
      ...['sentinel down-after-milliseconds main 500', 'sentinel failover-timeout main 3000'],
    ]
    await writeFile(configuration, `${lines.join('\n')}\n`)
    return {
      port,
      server: await spawnServer({
        command: requireServer('redis-server'),
        args: [configuration, '--sentinel'],
        ready: [{ port }, { log: /\+monitor master main/ }],
      }),
    }
  })
  const sentinel = new Redis({ port, host })
  sentinel.on('error', () => undefined)
  await vi.waitUntil(
    async () => {
      const replicas = (await sentinel.call('SENTINEL', 'replicas', 'main')) as unknown[]
      return replicas.length === 1
    },
    { timeout: 30_000, interval: 50 },
  )
  sentinel.disconnect()
  return {
    ...{ port, primary, replica },
    async stop() {
      await server.stop()
      await Promise.all([primary.stop(), replica.stop()])
      await directory.remove()
    },
  }
}

export const sentinelClients = {
  redis: async ({ port }: RedisSentinel): Promise<TopologyClient> => {
    const open = async () => {
      const sentinel = createSentinel({ name: 'main', sentinelRootNodes: [{ host, port }], scanInterval: 200 })
      sentinel.on('error', () => undefined)
      return sentinel.connect()
    }
    const [client, listening] = [await open(), await open()]
    return {
      client: client,
      subscriber: listening,
      close: async () => {
        await Promise.all([client.destroy(), listening.destroy()])
      },
    }
  },
  ioredis: async ({ port }: RedisSentinel): Promise<TopologyClient> => {
    const open = async () => {
      const redis = new Redis({
        ...{ name: 'main', sentinels: [{ host, port }] },
        ...{ retryStrategy: () => 50, sentinelRetryStrategy: () => 50, maxRetriesPerRequest: 20 },
      })
      redis.on('error', () => undefined)
      await redis.ping()
      return redis
    }
    const [client, subscriber] = [await open(), await open()]
    return { client, subscriber, close: async () => [client, subscriber].forEach((each) => each.disconnect()) }
  },
} as const
