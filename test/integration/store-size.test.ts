/**
 * Ten thousand certificates on each store: listed, and decided about. Prints what it took; a time is no test.
 */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import { silentLogger } from '../../src/core/logger.js'
import { RenewalScheduler } from '../../src/scheduler/renewal-scheduler.js'
import { storeKey, type CertStore } from '../../src/stores/cert-store.js'
import { kubernetesStore } from '../../src/stores/kubernetes/index.js'
import { memoryStore } from '../../src/stores/memory.js'
import { postgresStore } from '../../src/stores/postgres.js'
import { redisStore } from '../../src/stores/redis.js'
import { startKubeApiserver, type KubeApiserver } from '../support/kube-apiserver.js'
import { scriptedIssuer, type ScriptedIssuer } from '../support/scripted-issuer.js'
import { postgresPool, startPostgres, type PostgresServer } from '../support/postgres.js'
import { redisClients, startRedis, type RedisServer } from '../support/redis.js'
import { describeWith } from '../support/servers.js'

const certificates = 10_000
const context = { signal: new AbortController().signal, clock: systemClock, logger: silentLogger }

describeWith(['redis-server', 'postgres', 'etcd', 'kube-apiserver'], 'ten thousand certificates', () => {
  let redis: RedisServer
  let postgres: PostgresServer
  let kube: KubeApiserver
  let issuer: ScriptedIssuer
  /** What a scheduler stored of one certificate. */
  let records: Map<string, string>

  beforeAll(async () => {
    // Reading is measured: filling the stores need not wait for disks.
    ;[redis, postgres, kube] = await Promise.all([
      startRedis({ settings: [] }),
      startPostgres(['-c', 'fsync=off']),
      startKubeApiserver(),
    ])
    issuer = await scriptedIssuer({ clock: systemClock })
    const store = memoryStore()
    await managing(store, ['name-0']).reconcile()
    records = new Map()
    for (const space of ['certificates', 'renewals'] as const) {
      const stored = await store.get(storeKey(space, 'name-0'), context)
      records.set(space, Buffer.from(stored!.value).toString())
    }
  })
  afterAll(() => Promise.all([redis.stop(), postgres.stop(), kube.stop()]))

  function managing(store: CertStore, names: readonly string[]): RenewalScheduler {
    return new RenewalScheduler({
      store,
      certificates: names.map((name) => ({ name, identifiers: ['www.example.com'], issuers: [issuer] })),
    })
  }

  async function open(engine: 'redis' | 'ioredis' | 'postgres' | 'kubernetes') {
    if (engine === 'kubernetes') {
      const store = kubernetesStore({ kubeConfigFile: kube.adminKubeConfigPath, namespace: 'default' })
      return { store, close: async () => store.close?.() }
    }
    if (engine === 'postgres') {
      const pool = postgresPool({ ...postgres.connection, max: 10 })
      return { store: postgresStore({ pool }), close: () => pool.end() }
    }
    const { client, close } = await redisClients[engine](redis.port)
    return { store: redisStore({ client, prefix: engine }), close }
  }

  it.each(['redis', 'ioredis', 'postgres', 'kubernetes'] as const)(
    'are listed and decided about: %s',
    async (engine) => {
      const { store, close } = await open(engine)
      const names = Array.from({ length: certificates }, (_, index) => `name-${String(index)}`)
      for (let first = 0; first < certificates; first += 500) {
        await Promise.all(
          names
            .slice(first, first + 500)
            .flatMap((name) =>
              [...records].map(([space, record]) =>
                store.put(
                  storeKey(space as 'certificates', name),
                  Buffer.from(record.replaceAll('"name-0"', JSON.stringify(name))),
                  context,
                ),
              ),
            ),
        )
      }
      const before = process.memoryUsage().rss
      const listedAt = performance.now()
      const listed = new Set<string>()
      for await (const key of store.list('certificates/', context)) listed.add(key)
      const plannedAt = performance.now()
      expect(listed.size).toBe(certificates)
      const plan = await managing(store, names).plan()
      const endedAt = performance.now()
      expect(plan.filter(({ action }) => action === 'wait')).toHaveLength(certificates)
      const grown = Math.round((process.memoryUsage().rss - before) / 1e6)
      expect(grown, 'MB more resident').toBeLessThan(200)
      // Under two seconds on an idle machine; how long it takes on a busy one says nothing.
      console.log(
        `${engine}: listed in ${(plannedAt - listedAt).toFixed()} ms, decided in ${(endedAt - plannedAt).toFixed()} ms, ${String(grown)} MB more resident`,
      )
      await close()
    },
  )
})
