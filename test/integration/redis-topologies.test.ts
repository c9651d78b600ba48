/**
 * redisStore on a cluster of Redis, and behind a sentinel, with both clients.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import { silentLogger } from '../../src/core/logger.js'
import { CertError } from '../../src/errors.js'
import { redisStore } from '../../src/stores/redis.js'
import { fakeClock } from '../../src/testing/fake-clock.js'
import { certStoreContract } from '../../src/testing/store-contract.js'
import {
  clusterClients,
  sentinelClients,
  startRedisCluster,
  startRedisSentinel,
  type RedisCluster,
} from '../support/redis-topologies.js'
import { describeWith } from '../support/servers.js'
import { countThrough } from '../support/store-faults.js'

const key = 'certificates/www'
const context = { signal: new AbortController().signal, clock: systemClock, logger: silentLogger }
const bytes = (text: string): Uint8Array => Buffer.from(text)

describeWith(['redis-server'], 'redisStore on several servers', () => {
  describe.each(Object.entries(clusterClients))('a cluster, with %s', (make, connect) => {
    let cluster: RedisCluster
    let count = 0

    beforeAll(async () => {
      cluster = await startRedisCluster()
    }, 120_000)
    afterAll(() => cluster.stop())

    certStoreContract(
      { describe, it },
      {
        createStore: async () => {
          const prefix = `contract-${String((count += 1))}`
          const [one, other] = [await connect(cluster), await connect(cluster)]
          return {
            store: redisStore({ client: one.client, subscriber: one.subscriber, prefix }),
            reopen: async () => redisStore({ client: other.client, subscriber: other.subscriber, prefix }),
            damage: async (damaged) => {
              const hash = `{${prefix}}:entries`
              const slot = Number(await cluster.nodes[0]!.command('CLUSTER', 'KEYSLOT', hash))
              const owner = cluster.nodes[await cluster.ownerOf(slot)]!
              await owner.command('HSET', hash, damaged, 'damaged')
            },
            dispose: async () => {
              await Promise.all([one.close(), other.close()])
            },
          }
        },
        level: 'strict',
      },
    )

    it('loses no acknowledged change while its slot is moved from node to node, and hears of changes after it', async () => {
      const prefix = `moved-${make}`
      const connections = await Promise.all([connect(cluster), connect(cluster)])
      const [one, other] = connections.map(({ client, subscriber }) => redisStore({ client, subscriber, prefix }))
      await one!.put('certificates/first', bytes('first'), context)
      const slot = Number(await cluster.nodes[0]!.command('CLUSTER', 'KEYSLOT', `{${prefix}}:entries`))
      const from = await cluster.ownerOf(slot)

      let moving = true
      const counting = (async () => {
        let acknowledged = 0
        let unknown = 0
        for (let round = 1; moving; round += 1) {
          const counted = await countThrough(one!, `certificates/counter-${String(round)}`, 5)
          acknowledged += counted.acknowledged
          unknown += counted.unknown
        }
        return { acknowledged, unknown }
      })()
      const moved = (async () => {
        for (let step = 1; step <= 3; step += 1) {
          await cluster.moveSlot(slot, (from + step) % 3, () => systemClock.sleep(30))
        }
      })().finally(() => (moving = false))
      const [{ acknowledged, unknown }] = await Promise.all([counting, moved])
      console.log(`cluster, ${make}: ${String(acknowledged)} acknowledged, ${String(unknown)} unknown`)
      expect(acknowledged).toBeGreaterThan(0)

      const watching = new AbortController()
      const heard: string[] = []
      const watch = other!.watch!('certificates/', (changed) => heard.push(changed), {
        ...context,
        signal: watching.signal,
      }).catch(() => undefined)
      await vi.waitUntil(
        async () => {
          await one!.put(key, bytes('again'), context)
          // Of everything it is told at the beginning.
          return heard.filter((each) => each === key).length > 1
        },
        { timeout: 20_000, interval: 100 },
      )
      watching.abort()
      await watch
      await Promise.all(connections.map(({ close }) => close()))
    })
  })

  describe.each(Object.entries(sentinelClients))('a primary that a sentinel replaces, with %s', (make, connect) => {
    it('keeps what replicas had, and who holds a lock', async () => {
      const topology = await startRedisSentinel()
      const { client, subscriber, close } = await connect(topology)
      const store = redisStore({ client, subscriber, waitForReplicas: 1, timeoutMs: 4_000 })
      const clock = fakeClock()
      const lock = await store.lock!('www', { ...context, clock }, { ttlMs: 60_000 })
      const revision = await store.put(key, bytes('replicated'), context, { ifRevision: null })
      const changed: string[] = []
      const watching = new AbortController()
      const watch = store.watch!('certificates/', (each) => changed.push(each), {
        ...context,
        signal: watching.signal,
      }).catch(() => undefined)

      process.kill(topology.primary.pid, 'SIGKILL')
      // No replica is left afterwards that could have it as well: a store that does not wait for one goes on.
      const onward = redisStore({ client, timeoutMs: 4_000 })
      const errors = new Set<string>()
      const read = await vi.waitUntil(
        async () => {
          try {
            const stored = await onward.get(key, context)
            return await onward.put(key, bytes('after'), context, { ifRevision: stored?.revision ?? null }).then(
              () => stored,
              (error: unknown) => {
                // Carried out although no reply came: what is there now is ours.
                if (CertError.isInstance(error) && error.code === 'ERR_STORE_CONFLICT') return stored
                throw error
              },
            )
          } catch (error) {
            errors.add(error instanceof CertError ? error.code : String(error))
            return undefined
          }
        },
        { timeout: 60_000, interval: 100 },
      )
      expect(read).toMatchObject({ revision })
      expect([...errors].filter((code) => code !== 'ERR_STORE_UNAVAILABLE')).toEqual([])
      await vi.waitUntil(
        async () => Buffer.from((await onward.get(key, context))?.value ?? []).toString() === 'after',
        { timeout: 30_000, interval: 50 },
      )
      expect(await topology.replica.command('ROLE')).toContain('master')
      console.log(`sentinel, ${make}: ${errors.size === 0 ? 'waited' : `told ${[...errors].join(', ')}`}`)

      expect(await onward.lock!('www', context, { ttlMs: 60_000 })).toBeUndefined()
      expect(lock?.signal.aborted).toBe(false)
      // The sentinel client of node-redis may forget its subscription here: then the next look tells.
      if (make === 'ioredis') {
        await vi.waitUntil(
          async () => {
            await onward.put('certificates/other', bytes('new'), context).catch(() => undefined)
            return changed.includes('certificates/other')
          },
          { timeout: 60_000, interval: 100 },
        )
      }
      watching.abort()
      await watch
      await close()
      await topology.stop()
    }, 180_000)
  })

  it('cannot wait for replicas through a cluster client of ioredis, which asks any node how many there are', () => {
    const cluster = { isCluster: true, callBuffer: () => Promise.resolve(null) }
    expect(() => redisStore({ client: cluster, waitForReplicas: 1 })).toThrow(
      /"waitForReplicas" option .*cluster client of ioredis/,
    )
  })
})
