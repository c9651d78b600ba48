/**
 * postgresStore on a real PostgreSQL, directly and through PgBouncer.
 */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { CertStore } from '../../src/stores/cert-store.js'
import { encryptedStore } from '../../src/stores/encrypted.js'
import { postgresStore } from '../../src/stores/postgres.js'
import { certStoreContract, type StoreFixture } from '../../src/testing/store-contract.js'
import { postgresPool, startPgBouncer, startPostgres, type PostgresServer } from '../support/postgres.js'
import { describeWith } from '../support/servers.js'
import { sweepFaults } from '../support/store-faults.js'
import { tcpProxy } from '../support/tcp-proxy.js'

describeWith(['postgres', 'pgbouncer'], 'postgresStore', () => {
  let server: PostgresServer
  let bouncer: { port: number; stop(): Promise<void> }
  let count = 0

  beforeAll(async () => {
    server = await startPostgres()
    bouncer = await startPgBouncer(server)
  })
  afterAll(async () => {
    await bouncer.stop()
    await server.stop()
  })

  /** Two stores with a pool each, on a table of their own. */
  const fixture = async (port: () => number, wrap: (store: CertStore) => CertStore): Promise<StoreFixture> => {
    const table = `contract_${String((count += 1))}`
    const pools = [port(), port(), server.port].map((each) => postgresPool({ ...server.connection, port: each }))
    const [one, other, listener] = pools
    const open = (pool: typeof one): CertStore => wrap(postgresStore({ pool: pool!, table, listener }))
    return {
      store: open(one),
      reopen: async () => open(other),
      damage: async (key) => {
        await server.query(
          `UPDATE ${table} SET entry = set_byte(entry, length(entry) - 1, get_byte(entry, length(entry) - 1) # 1) WHERE key = $1`,
          [key],
        )
      },
      dispose: async () => {
        await Promise.all(pools.map((pool) => pool.end()))
      },
    }
  }

  describe('directly', () => {
    const createStore = () =>
      fixture(
        () => server.port,
        (store) => store,
      )
    certStoreContract({ describe, it }, { createStore, level: 'strict' })
  })

  describe('through PgBouncer in transaction mode', () => {
    const createStore = () =>
      fixture(
        () => bouncer.port,
        (store) => store,
      )
    certStoreContract({ describe, it }, { createStore, level: 'strict' })
  })

  describe('through a bad connection', () => {
    it.each(['drop-before', 'drop-after', 'hang'] as const)('tells of every request that met %s', async (fault) => {
      const proxy = await tcpProxy(server.port)
      const table = `faults_${String((count += 1))}`
      const open = (port: number, timeoutMs: number) => {
        const pool = postgresPool({ ...server.connection, port, ssl: false })
        return { store: postgresStore({ pool, table, timeoutMs }), close: () => pool.end() }
      }
      const direct = open(server.port, 10_000)
      const { fired, told } = await sweepFaults(
        { proxy, direct: direct.store, connect: async (timeoutMs) => open(proxy.port, timeoutMs) },
        fault,
      )
      expect(fired).toBeGreaterThanOrEqual(9)
      console.log(`postgres, ${fault}: ${String(fired)} requests, ${String(told)} operations failed`)
      await direct.close()
      await proxy.close()
    })
  })

  describe('encrypted', () => {
    const key = randomBytes(32)
    const createStore = () =>
      fixture(
        () => server.port,
        (store) => encryptedStore(store, key),
      )
    certStoreContract({ describe, it }, { createStore, level: 'strict' })
  })
})
