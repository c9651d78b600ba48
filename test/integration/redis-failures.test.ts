/**
 * redisStore when Redis is restarted, fails over, runs out of memory or disk, or kills connections.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import { silentLogger } from '../../src/core/logger.js'
import type { CertStore, StoreKey } from '../../src/stores/cert-store.js'
import { redisStore } from '../../src/stores/redis.js'
import { fakeClock } from '../../src/testing/fake-clock.js'
import { redisClients, startRedis, type RedisServer } from '../support/redis.js'
import { describeWith } from '../support/servers.js'
import { countThrough, tellsOfEach } from '../support/store-faults.js'
import { tcpProxy } from '../support/tcp-proxy.js'

const key = 'certificates/www'
const context = { signal: new AbortController().signal, clock: systemClock, logger: silentLogger }
const bytes = (text: string): Uint8Array => Buffer.from(text)

async function valueOf(store: CertStore): Promise<string | undefined> {
  const stored = await store.get(key, context)
  return stored && Buffer.from(stored.value).toString()
}

describeWith(['redis-server'], 'redisStore and its server', () => {
  describe.each(Object.entries(redisClients))('with %s', (make, connect) => {
    let server: RedisServer
    let count = 0
    beforeAll(async () => {
      server = await startRedis()
    })
    afterAll(() => server.stop())
    const open = async (port = server.port) => {
      const { client, close } = await connect(port)
      const prefix = `failures-${String((count += 1))}`
      return { client, close, prefix, store: redisStore({ client, prefix, timeoutMs: 5_000 }) }
    }

    it('finds after a restart what was acknowledged before, and is told of changes again', async () => {
      const { store, prefix, client, close } = await open()
      const subscriber = await connect(server.port)
      const watched = redisStore({ client, subscriber: subscriber.client, prefix })
      const abort = new AbortController()
      const told: StoreKey[] = []
      const watching = watched.watch!('certificates/', (each) => told.push(each), { ...context, signal: abort.signal })
      watching.catch(() => undefined)
      const revision = await store.put(key, bytes('before'), context)
      await vi.waitUntil(() => told.length > 0, { timeout: 50_000 })
      told.length = 0
      await server.restart()
      // Nothing has changed since; but something could have.
      await vi.waitUntil(() => told.includes(key), { timeout: 20_000 })
      expect((await store.get(key, context))?.revision).toBe(revision)
      await store.put(key, bytes('after'), context, { ifRevision: revision })
      expect(await valueOf(store)).toBe('after')
      await tellsOfEach(store, key, told)
      abort.abort()
      await subscriber.close()
      await close()
    })

    it('counts every acknowledged change while its connections are killed', async () => {
      const { store, close } = await open()
      const killer = new Redis({ port: server.port, host: '127.0.0.1' })
      let working = true
      const kill = async (): Promise<number> => {
        let kills = 0
        while (working) {
          kills += Number(await killer.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'))
          await systemClock.sleep(25)
        }
        return kills
      }
      const killing = kill()
      const { acknowledged, unknown, value } = await countThrough(store, key, 40).finally(() => (working = false))
      expect(await killing).toBeGreaterThan(3)
      console.log(`${make}: ${String(acknowledged)} acknowledged, ${String(unknown)} unknown, ${String(value)} counted`)
      killer.disconnect()
      await close()
    })

    it('says that the memory or the disk is used up, changes nothing, and works when there is room', async () => {
      const { store, close } = await open()
      const revision = await store.put(key, bytes('old'), context)
      const refused = async (word: string): Promise<void> => {
        await expect(store.put(key, bytes('new'), context, { ifRevision: revision })).rejects.toMatchObject({
          code: 'ERR_STORE_UNAVAILABLE',
          message: expect.stringContaining(`(${word})`) as string,
        })
        expect(await valueOf(store)).toBe('old')
      }
      await server.command('CONFIG', 'SET', 'maxmemory', '1')
      await refused('OOM')
      await server.command('CONFIG', 'SET', 'maxmemory', '0')

      // A snapshot that cannot be put in place, as on a full disk.
      await mkdir(join(server.directory, 'dump.rdb', 'in-the-way'), { recursive: true })
      await server.command('CONFIG', 'SET', 'save', '3600 1')
      await server.command('BGSAVE')
      await vi.waitUntil(async () => String(await server.command('INFO')).includes('rdb_last_bgsave_status:err'), {
        timeout: 50_000,
      })
      await refused('MISCONF')
      await server.command('CONFIG', 'SET', 'save', '')
      await store.put(key, bytes('new'), context, { ifRevision: revision })
      expect(await valueOf(store)).toBe('new')
      await close()
    })

    it('works with no more permissions than the documentation lists', async () => {
      const user = `user-${make}`
      await server.command(
        ...['ACL', 'SETUSER', user, 'on', '>password', '~{acl}:*', '&{acl}:*', '-@all', '+@connection'],
        ...[
          '+hget',
          '+hmget',
          '+hset',
          '+hdel',
          '+zadd',
          '+zrem',
          '+zrangebylex',
          '+eval',
          '+evalsha',
          '+publish',
          '+subscribe',
        ],
        ...['+unsubscribe', '+info', '+wait'],
      )
      const { client, close } = await open()
      if (client instanceof Redis) await client.auth(user, 'password')
      else await client.auth({ username: user, password: 'password' })
      const store = redisStore({ client, prefix: 'acl' })
      const revision = await store.put(key, bytes('value'), context, { ifRevision: null })
      const lock = await store.lock?.('www', context, { ttlMs: 60_000 })
      await lock?.release()
      for await (const each of store.list('', context)) expect(each).toBe(key)
      await store.delete(key, context, { ifRevision: revision })
      const elsewhere = redisStore({ client, prefix: 'other' }).get(key, context)
      await expect(elsewhere).rejects.toThrow(/may not do this.*NOPERM/)
      await close()
    })

    it('after a fail-over that lost the last write tells whoever relied on it, and whoever held a lock', async () => {
      const primary = await startRedis()
      const between = await tcpProxy(primary.port)
      const replica = await startRedis({ replicaOf: between.port })
      const way = await tcpProxy(primary.port)
      const { store, close, prefix, client } = await open(way.port)
      const careful = redisStore({ client, prefix, waitForReplicas: 1, timeoutMs: 2_000 })
      const first = await untilDone(() => careful.put(key, bytes('first'), context))

      between.cut()
      await expect(careful.put('renewals/www', bytes('value'), context)).rejects.toThrow(/only 0 of 1 replicas have it/)
      const clock = fakeClock()
      const lock = await store.lock!('www', { ...context, clock }, { ttlMs: 60_000 })
      const lost = await store.put(key, bytes('lost'), context, { ifRevision: first })

      // The old primary is gone, and the client comes to the replica while that is none yet.
      way.cut()
      await primary.stop()
      way.restore(replica.port)
      await expect(
        untilOther('connection', () => store.put(key, bytes('late'), context, { ifRevision: first })),
      ).rejects.toThrow(/connect to the primary.*READONLY/)
      await replica.command('REPLICAOF', 'NO', 'ONE')

      expect(await valueOf(store)).toBe('first')
      await expect(store.put(key, bytes('late'), context, { ifRevision: lost })).rejects.toMatchObject({
        code: 'ERR_STORE_CONFLICT',
      })
      const second = await store.put(key, bytes('second'), context, { ifRevision: first })
      expect(second).not.toBe(lost)
      await expect(store.put(key, bytes('late'), context, { ifRevision: lost })).rejects.toMatchObject({
        code: 'ERR_STORE_CONFLICT',
      })

      // Two believe that they hold the lock, until the first one renews.
      const next = await store.lock!('www', context, { ttlMs: 60_000 })
      expect(next).toBeDefined()
      expect(lock?.signal.aborted).toBe(false)
      await clock.advance(20_000)
      await vi.waitUntil(() => lock?.signal.aborted === true, { timeout: 60_000 })
      expect(lock?.signal.reason).toMatchObject({ code: 'ERR_STORE_LOCK_LOST' })
      await next?.release()
      await close()
      await Promise.all([way.close(), between.close(), replica.stop()])
    })
  })

  it('refuses a server that evicts keys', async () => {
    const server = await startRedis({ settings: ['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru'] })
    const { client, close } = await redisClients.redis(server.port)
    await expect(redisStore({ client }).put(key, bytes('value'), context)).rejects.toThrow(/may evict certificates/)
    await close()
    await server.stop()
  })
})

/** A replica needs a moment to come in touch with its primary, a client to find its new server. */
async function untilDone<Result>(run: () => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run()
    } catch (error) {
      if (attempt === 50) throw error
      await systemClock.sleep(100)
    }
  }
}

/** Repeats while it fails for the reason that is passing. */
async function untilOther(passing: string, run: () => Promise<unknown>): Promise<unknown> {
  return untilDone(() =>
    run().catch((error: unknown) => {
      if (error instanceof Error && error.message.includes(passing)) throw error
      return Promise.resolve({ error })
    }),
  ).then((result) => {
    throw (result as { error: unknown }).error
  })
}
