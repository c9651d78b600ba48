/**
 * postgresStore when connections are killed, refused or used up, and with users that may little.
 */
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import { silentLogger } from '../../src/core/logger.js'
import type { CertStore, StoreKey } from '../../src/stores/cert-store.js'
import { postgresStore } from '../../src/stores/postgres.js'
import { postgresPool, startPostgres, type PostgresServer } from '../support/postgres.js'
import { describeWith } from '../support/servers.js'
import { countThrough, tellsOfEach } from '../support/store-faults.js'

const key = 'certificates/www'
const context = { signal: new AbortController().signal, clock: systemClock, logger: silentLogger }
const bytes = (text: string): Uint8Array => Buffer.from(text)

async function valueOf(store: CertStore): Promise<string | undefined> {
  const stored = await store.get(key, context)
  return stored && Buffer.from(stored.value).toString()
}

describeWith(['postgres'], 'postgresStore and its server', () => {
  let server: PostgresServer
  let count = 0
  beforeAll(async () => {
    server = await startPostgres(['-c', 'max_connections=20', '-c', 'superuser_reserved_connections=3'])
    await server.query('CREATE ROLE service LOGIN')
  })
  afterAll(() => server.stop())

  const freshTable = (): string => `failures_${String((count += 1))}`
  const open = (table: string, change: object = {}) => {
    const pool = postgresPool({ ...server.connection, ...change })
    return { pool, store: postgresStore({ pool, table, timeoutMs: 5_000 }) }
  }

  it('makes its table once when many start in the same moment', async () => {
    const pools = Array.from({ length: 12 }, () => postgresPool({ ...server.connection, max: 1 }))
    // What a statement sees of a table that is being made depends on moments.
    for (let round = 0; round < 60; round += 1) {
      const table = freshTable()
      const outcomes = await Promise.allSettled(
        pools.map(async (pool, index) => {
          for (let turns = 0; turns < (index * round) % 12; turns += 1) await new Promise(setImmediate)
          return postgresStore({ pool, table }).put(key, bytes('value'), context, { ifRevision: null })
        }),
      )
      expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'ERR_STORE_CONFLICT' })
      }
    }
    await Promise.all(pools.map((pool) => pool.end()))
  })

  it('works for a user that may not create a table, once there is one, and says what that user lacks', async () => {
    const table = freshTable()
    const { pool, store } = open(table, { user: 'service' })
    await expect(store.get(key, context)).rejects.toThrow(/is missing, and the user of the pool may not create it/)
    const owner = open(table)
    await owner.store.get(key, context)
    await owner.pool.end()
    await expect(store.get(key, context)).rejects.toThrow(/needs SELECT, INSERT, UPDATE and DELETE.*42501/)
    await server.query(`GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO service`)
    const revision = await store.put(key, bytes('value'), context, { ifRevision: null })
    await (await store.lock?.('www', context, { ttlMs: 60_000 }))?.release()
    await store.delete(key, context, { ifRevision: revision })
    await pool.end()
  })

  it('refuses to write where nothing can be written, and keeps what is there', async () => {
    const table = freshTable()
    const { pool, store } = open(table)
    await store.put(key, bytes('old'), context)
    await pool.end()
    const standby = open(table, { options: '-c default_transaction_read_only=on' })
    await expect(standby.store.put(key, bytes('new'), context)).rejects.toThrow(/read-only standby.*25006/)
    expect(await valueOf(standby.store)).toBe('old')
    await standby.pool.end()
  })

  it('says that the connections are used up, and works when there are some', async () => {
    const table = freshTable()
    const hog = postgresPool({ ...server.connection, user: 'service', max: 25 })
    const taken = await Promise.allSettled(Array.from({ length: 20 }, () => hog.connect()))
    const { pool, store } = open(table, { user: 'service' })
    await expect(store.get(key, context)).rejects.toThrow(/no connection left.*53300/)
    for (const each of taken) if (each.status === 'fulfilled') each.value.release(true)
    await hog.end()
    await vi.waitUntil(
      async () => (await server.query("SELECT FROM pg_stat_activity WHERE usename = 'service'")).length === 0,
      { timeout: 50_000 },
    )
    await expect(store.get(key, context)).rejects.toThrow(/may not create it/)
    await pool.end()
  })

  it.each(['read committed', 'serializable'])(
    'counts every acknowledged change while backends are killed: %s',
    async (isolation) => {
      const table = freshTable()
      const { pool, store } = open(table, {
        application_name: table,
        options: `-c default_transaction_isolation=${isolation.replace(' ', '\\ ')}`,
      })
      await store.get(key, context)
      let working = true
      const kill = async (): Promise<number> => {
        let kills = 0
        while (working) {
          const killed = await server.query(
            'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1',
            [table],
          )
          kills += killed.length
          await systemClock.sleep(15)
        }
        return kills
      }
      const killing = kill()
      const { acknowledged, unknown, value } = await countThrough(store, key, 40).finally(() => (working = false))
      expect(await killing).toBeGreaterThan(3)
      console.log(
        `${isolation}: ${String(acknowledged)} acknowledged, ${String(unknown)} unknown, ${String(value)} counted`,
      )
      await pool.end()
    },
  )

  it('says once that its table was removed, and makes it anew when asked again', async () => {
    const table = freshTable()
    const { pool, store } = open(table)
    await store.put(key, bytes('value'), context)
    await server.query(`DROP TABLE ${table}`)
    await expect(store.get(key, context)).rejects.toThrow(/removed while it was in use.*42P01/)
    expect(await valueOf(store)).toBeUndefined()
    await pool.end()
  })

  it('leaves a table alone that is not its own', async () => {
    const table = freshTable()
    await server.query(`CREATE TABLE ${table} (key text)`)
    const { pool, store } = open(table)
    await expect(store.get(key, context)).rejects.toMatchObject({ code: 'ERR_STORE_SCHEMA' })
    await server.query(`COMMENT ON TABLE ${table} IS 'evercert store, format 7'`)
    await expect(store.get(key, context)).rejects.toThrow(/newer evercert \(format 7\)/)
    await pool.end()
  })

  it('hears of changes again after the connection that listens was killed', async () => {
    const table = freshTable()
    const { pool, store } = open(table)
    const listener = postgresPool({ ...server.connection, application_name: `${table}_listens` })
    const watched = postgresStore({ pool, listener, table })
    const abort = new AbortController()
    const told: StoreKey[] = []
    const watching = watched.watch!('certificates/', (each) => told.push(each), { ...context, signal: abort.signal })
    watching.catch(() => undefined)
    await vi.waitUntil(
      async () => {
        await store.put(key, bytes('value'), context)
        return told.length > 0
      },
      { timeout: 50_000 },
    )
    const listens = 'SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1'
    expect(await server.query(listens, [`${table}_listens`])).toHaveLength(1)
    told.length = 0
    // Nothing changes any more; but something could have, while nobody listened.
    await vi.waitUntil(() => told.includes(key), { timeout: 30_000 })
    await tellsOfEach(store, key, told)
    abort.abort()
    await Promise.all([pool.end(), listener.end()])
  })
})
