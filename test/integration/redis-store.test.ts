/**
 * redisStore on a real Redis, with both clients.
 */
import { randomBytes } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { CertStore } from '../../src/stores/cert-store.js'
import { encryptedStore } from '../../src/stores/encrypted.js'
import { redisStore, type RedisClient, type RedisSubscriber } from '../../src/stores/redis.js'
import { certStoreContract, type StoreFixture } from '../../src/testing/store-contract.js'
import { redisClients, startRedis, type RedisServer } from '../support/redis.js'
import { describeWith } from '../support/servers.js'
import { sweepFaults } from '../support/store-faults.js'
import { tcpProxy } from '../support/tcp-proxy.js'

describeWith(['redis-server'], 'redisStore', () => {
  let server: RedisServer
  let count = 0

  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server.stop())

  for (const [make, connect] of Object.entries(redisClients)) {
    /** Two stores with a connection each, on keys of their own. */
    const fixture = async (
      wrap: (store: CertStore) => CertStore,
      damage: (hash: string, key: string) => Promise<void>,
    ): Promise<StoreFixture> => {
      const prefix = `contract-${String((count += 1))}`
      const connections = await Promise.all([connect(server.port), connect(server.port), connect(server.port)])
      const [one, other, subscriber] = connections.map(({ client }) => client as RedisClient)
      const open = (client: RedisClient): CertStore =>
        wrap(redisStore({ client, prefix, subscriber: subscriber as unknown as RedisSubscriber }))
      return {
        store: open(one!),
        reopen: async () => open(other!),
        damage: (key) => damage(`{${prefix}}:entries`, key),
        dispose: async () => {
          await Promise.all(connections.map(({ close }) => close()))
        },
      }
    }

    describe(`with ${make}`, () => {
      certStoreContract(
        { describe, it },
        { createStore: () => fixture((store) => store, flipLastBit), level: 'strict' },
      )
    })

    describe(`with ${make}, encrypted`, () => {
      const key = randomBytes(32)
      certStoreContract(
        { describe, it },
        { createStore: () => fixture((store) => encryptedStore(store, key), flipLastBit), level: 'strict' },
      )
    })
  }

  describe.each(Object.entries(redisClients))('through a bad connection with %s', (_, connect) => {
    it.each(['drop-before', 'drop-after', 'hang'] as const)('tells of every request that met %s', async (fault) => {
      const proxy = await tcpProxy(server.port)
      const prefix = `faults-${String((count += 1))}`
      const open = async (port: number, timeoutMs: number) => {
        const { client, close } = await connect(port)
        return { store: redisStore({ client, prefix, timeoutMs }), close }
      }
      const direct = await open(server.port, 10_000)
      const { fired, told } = await sweepFaults(
        { proxy, direct: direct.store, connect: (timeoutMs) => open(proxy.port, timeoutMs) },
        fault,
      )
      expect(fired).toBeGreaterThanOrEqual(9)
      console.log(`redis, ${fault}: ${String(fired)} requests, ${String(told)} operations failed`)
      await direct.close()
      await proxy.close()
    })
  })

  async function flipLastBit(hash: string, key: string): Promise<void> {
    const client = new Redis({ port: server.port, host: '127.0.0.1' })
    const bytes = (await client.hgetBuffer(hash, key)) ?? Buffer.alloc(0)
    bytes[bytes.length - 1]! ^= 1
    await client.hset(hash, key, bytes)
    client.disconnect()
  }
})
