/**
 * Certificates in PostgreSQL.
 *
 * Published as `evercert/stores/postgres`.
 *
 * @module
 */
import type { Clock } from '../core/clock.js'
import type { OperationContext } from '../core/context.js'
import { StoreError } from '../errors.js'
import { errorCode } from '../internal/atomic-file.js'
import { assertDuration, assertMethod, assertOptions, assertText } from '../internal/options.js'
import type { CertStore, PutOptions, Revision, StoreKey } from './cert-store.js'
import { conflict } from './compare-revision.js'
import {
  damaged,
  decodeEntry,
  encodeEntry,
  foundValue,
  largestEntryBytes,
  newRevision,
  storedValue,
  type Entry,
} from './entry-format.js'
import type { LeaseCell } from './lease.js'
import type { PostgresListenerPool, PostgresPool } from './postgres-client.js'
import { isTransient, postgresFailure } from './postgres-failure.js'
import { tableFormat, tableStatements } from './postgres-table.js'
import { watchPostgres } from './postgres-watch.js'
import { readInParts } from './read-in-parts.js'
import { serverOperations } from './server-operation.js'
import { storeLeases } from './store-leases.js'

export type { PostgresListenerClient, PostgresListenerPool, PostgresPool, PostgresResult } from './postgres-client.js'

/** Options of {@link postgresStore}. */
export interface PostgresStoreOptions {
  /** A `Pool` of `pg`. Yours: evercert does not end it. May lead to a transaction pooler such as PgBouncer. */
  readonly pool: PostgresPool
  /**
   * A pool that leads to the server itself (`LISTEN` does not work through a transaction pooler; without one it may be the
   * same pool). While a watch is on, one of its connections is taken, so that replicas notice at once what another one
   * stored.
   *
   * @defaultValue none: changes are noticed when the scheduler looks the next time
   */
  readonly listener?: PostgresListenerPool | undefined
  /** Letters, digits and `_`, up to 63. Made when it is missing. @defaultValue `'evercert'` */
  readonly table?: string | undefined
  /** Letters, digits and `_`, up to 63. Must exist. @defaultValue the first one in the server's `search_path` */
  readonly schema?: string | undefined
  /** Limit of one operation, milliseconds. @defaultValue 10_000 (10 seconds) */
  readonly timeoutMs?: number | undefined
  /** Times leases and limits. @defaultValue the clock of each operation's context */
  readonly clock?: Clock | undefined
}

const name = 'postgres'

/** Keys per page of a list. */
const pageSize = 1000

/** What the index of the table can hold. */
const longestKey = 2000

/** How often a statement is sent that other transactions were in the way of. */
const maxAttempts = 10

/**
 * A store in a table of PostgreSQL 11 or later, for replicas of a service on several machines.
 *
 * Compare-and-set is the `WHERE` of one statement. Every operation is one statement without session state, so that it works
 * behind a transaction pooler. Locks are leases with growing fencing tokens in the same table: no session lock that a
 * pooler could strand, and no clock of the server or of another process that is compared to ours.
 *
 * @example
 *
 * ```ts
 * import { Pool } from 'pg'
 * import { postgresStore } from 'evercert/stores/postgres'
 *
 * const pool = new Pool({
 *   connectionString: 'postgres://evercert@db.example/services',
 *   connectionTimeoutMillis: 5_000,
 *   statement_timeout: 10_000,
 * })
 * pool.on('error', (error) => console.error(error))
 * const store = postgresStore({ pool, listener: pool })
 * ```
 *
 * @remarks
 * The table is made at the first operation, by whichever process comes first. A user that may not create one needs
 * `SELECT, INSERT, UPDATE, DELETE` on a table that its owner made: run the store once as the owner.
 *
 * A write that was acknowledged is on the server's disk, unless `synchronous_commit` is off, which is reported with
 * `logger.warn`. A fail-over to an **asynchronous** standby may lose the last writes: when the record of a new certificate is
 * lost, a second one is ordered; when a lease is lost, two processes may work on one certificate for a while. Neither
 * publishes a wrong or an old certificate, because every record is compare-and-set and revisions are random. With a
 * synchronous standby (`synchronous_standby_names`) nothing is lost.
 *
 * Values hold private keys in clear unless the store is wrapped by `encryptedStore`; so do backups, standbys, and the
 * server's log if it logs parameters (`log_parameter_max_length_on_error`, `auto_explain`).
 *
 * Rejects with `ERR_STORE_UNAVAILABLE` when the server is away, does not answer within `timeoutMs`, or refuses: the message
 * says why, with the SQLSTATE. A statement that was given up may still be carried out, until the server's own
 * `statement_timeout`, which is not changed: set it on the pool. The outcome of a write whose reply was lost is unknown; the
 * next read tells. Rejects with `ERR_STORE_CORRUPT` when a value was damaged, with `ERR_STORE_SCHEMA` when the table was
 * made by a newer evercert or by somebody else.
 *
 * @param options - See {@link PostgresStoreOptions}. Validated and copied; later changes have no effect.
 * @returns A store named `postgres`. Its `close` gives back leases and leaves the pools alone.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 */
export function postgresStore(options: PostgresStoreOptions): CertStore {
  assertOptions(options, ['pool', 'listener', 'table', 'schema', 'timeoutMs', 'clock'], 'postgresStore')
  const { pool, listener, table = 'evercert', schema, timeoutMs = 10_000, clock } = options
  assertMethod(pool, 'query', 'pool')
  if (listener !== undefined) assertMethod(listener, 'connect', 'listener')
  assertIdentifier(table, 'table')
  if (schema !== undefined) assertIdentifier(schema, 'schema')
  assertDuration(timeoutMs, 'timeoutMs')
  const statements = tableStatements(table, schema)
  const operation = serverOperations({
    store: name,
    timeoutMs,
    clock,
    silence: 'look at the server, and whether all connections of the pool are taken',
    explain: postgresFailure,
  })
  let isOpen = false

  /** By each of the operations that come first: made twice is made once, and none of them hangs on another. */
  async function open(context: OperationContext): Promise<void> {
    if ((await inspect(context)) !== undefined) return
    try {
      await pool.query(statements.create)
    } catch (error) {
      if (errorCode(error) !== '42501') throw error
      const message = `${name}: the table ${statements.name} is missing, and the user of the pool may not create it; run the store once as a user that may`
      throw new StoreError({ code: 'ERR_STORE_UNAVAILABLE', message, store: name })
    }
    await inspect(context)
  }

  /** The format of the table, `undefined` when there is none. */
  async function inspect({ logger }: OperationContext): Promise<number | undefined> {
    const look = async () => ((await pool.query(statements.inspect)).rows as readonly TableState[])[0]
    let row = await look()
    if (row?.exists !== true) return undefined
    // A table that another process makes in this moment is seen before its comment: names are looked up as things are by now,
    // comments as they were when the statement began.
    if (row.format === null) row = await look()
    if (row?.exists !== true) return undefined
    const format = Number(row.format ?? NaN)
    if (format === tableFormat) {
      if (!row.synchronous) {
        logger.warn('the server may lose the last writes when it crashes; set synchronous_commit', { store: name })
      }
      return format
    }
    const why = Number.isNaN(format)
      ? 'was not made by evercert; choose another "table"'
      : `was made by a newer evercert (format ${String(format)}); upgrade this process`
    throw new StoreError({
      code: 'ERR_STORE_SCHEMA',
      message: `${name}: the table ${statements.name} ${why}`,
      store: name,
    })
  }

  async function query(statement: string, values: unknown[], signal: AbortSignal): Promise<readonly unknown[]> {
    for (let attempt = 1; ; attempt += 1) {
      signal.throwIfAborted()
      try {
        return (await pool.query(statement, values)).rows
      } catch (error) {
        if (!isTransient(error) || attempt === maxAttempts) throw error
      }
    }
  }

  async function withTable<Result>(context: OperationContext, run: () => Promise<Result>): Promise<Result> {
    if (!isOpen) await open(context)
    isOpen = true
    context.signal.throwIfAborted()
    try {
      return await run()
    } catch (error) {
      if (errorCode(error) === '42P01') isOpen = false
      throw error
    }
  }

  async function attempt<Result>(
    action: string,
    key: string,
    context: OperationContext,
    run: (signal: AbortSignal) => Promise<Result>,
  ): Promise<Result> {
    return operation(action, key, context, (signal) => withTable({ ...context, signal }, () => run(signal)))
  }

  async function readAll(lease: boolean, keys: readonly string[], signal: AbortSignal): Promise<(Entry | undefined)[]> {
    const rows = (await query(statements.read, [lease, keys], signal)) as readonly EntryRow[]
    const found = new Map(rows.map((row) => [row.key, row]))
    return keys.map((key) => entryOf(found.get(key)))
  }

  const placeOf = (key: StoreKey) => ({ store: name, key, holder: `its row in ${statements.name}` })

  async function put(
    lease: boolean,
    key: string,
    value: Uint8Array,
    expected: PutOptions['ifRevision'],
    signal: AbortSignal,
  ): Promise<Revision> {
    const revision = newRevision()
    const values = [lease, key, revision, Buffer.from(encodeEntry(key, revision, value))]
    if (expected === undefined) {
      await query(statements.overwrite, values, signal)
    } else if (expected === null) {
      const rows = await query(statements.insert, values, signal)
      if (rows.length === 0) throw conflict({ store: name, key }, 'created')
    } else {
      const rows = await query(statements.replace, [...values, expected], signal)
      if (rows.length === 0) throw conflict({ store: name, key }, 'changed or deleted')
    }
    return revision
  }

  function leaseCell(lock: string, context: OperationContext): LeaseCell {
    // Not the caller's signal: a lease outlives the call that took it, and is released also after an abort.
    const own = { ...context, signal: new AbortController().signal }
    return {
      read: (behalf) =>
        attempt('read', `lock ${lock}`, behalf === 'lease' ? own : context, async (signal) => {
          const [entry] = await readAll(true, [lock], signal)
          return entry && 'damage' in entry ? { value: new Uint8Array(), revision: entry.revision } : entry
        }),
      write: (value, ifRevision) =>
        attempt('write', `lock ${lock}`, own, (signal) => put(true, lock, value, ifRevision, signal)),
    }
  }

  async function* list(prefix: string, context: OperationContext): AsyncGenerator<StoreKey> {
    let after = ''
    for (;;) {
      // Keys are printable ASCII: all that begin with the prefix come before the prefix and DEL.
      const rows = (await attempt('list', `${prefix}*`, context, (signal) =>
        query(statements.list, [prefix, `${prefix}\x7f`, after, pageSize], signal),
      )) as readonly { readonly key: StoreKey }[]
      for (const { key } of rows) {
        context.signal.throwIfAborted()
        yield key
      }
      if (rows.length < pageSize) return
      after = rows.at(-1)?.key ?? ''
    }
  }

  return {
    name,
    async get(key, context) {
      const [entry] = await attempt('read', key, context, (signal) => readAll(false, [key], signal))
      return storedValue(entry, placeOf(key))
    },
    getMany: (keys, context) =>
      readInParts(keys, async (part, what) => {
        const found = await attempt('read', what, context, (signal) => readAll(false, part, signal))
        return part.map((key, index) => foundValue(found[index], placeOf(key)))
      }),
    put(key, value, context, { ifRevision } = {}) {
      if (value.length + key.length > largestEntryBytes - 1024 || key.length > longestKey) {
        return Promise.reject(
          new TypeError(
            `${name}: a value of ${String(value.length)} bytes under a key of ${String(key.length)} is too large`,
          ),
        )
      }
      // A copy: the caller may go on using its array.
      const copy = Uint8Array.from(value)
      return attempt('write', key, context, (signal) => put(false, key, copy, ifRevision, signal))
    },
    delete: (key, context, { ifRevision } = {}) =>
      attempt('delete', key, context, async (signal) => {
        if (ifRevision === undefined) {
          await query(statements.remove, [false, key], signal)
          return
        }
        const isRefused = async (): Promise<boolean> => {
          const rows = await query(statements.removeRevision, [false, key, ifRevision], signal)
          const [counted] = rows as readonly { readonly removed: number; readonly found: number }[]
          return counted?.removed === 0 && counted.found > 0
        }
        // What another one changes at the same time was found as it was before, and may be gone since: looked at anew.
        if ((await isRefused()) && (await isRefused())) throw conflict({ store: name, key }, 'changed')
      }),
    list,
    ...storeLeases({
      store: name,
      clock,
      open: async (lock, context) => ({ cell: leaseCell(lock, context) }),
    }),
    ...(listener !== undefined && {
      watch: (prefix: string, onChange: (key: StoreKey) => void, context: OperationContext) =>
        watchPostgres({
          ...{ listener, statement: statements.listen, prefix, onChange, list, context, store: name },
          attempt: (run) => operation('watch', `${prefix}*`, context, run),
        }),
    }),
  }
}

interface TableState {
  readonly exists: boolean
  readonly format: string | null
  readonly synchronous: boolean
}

interface EntryRow {
  readonly key: string
  readonly revision: string
  readonly entry: unknown
}

function entryOf(row: EntryRow | undefined): Entry | undefined {
  if (row === undefined) return undefined
  if (!(row.entry instanceof Uint8Array)) throw new Error('the pool does not hand out bytea as bytes; is a parser set?')
  const entry = decodeEntry(row.entry, row.key)
  const own = 'damage' in entry || entry.revision === row.revision
  return own ? entry : damaged('is not of the revision beside it', row.entry)
}

/** An identifier is put into statements as it is. */
function assertIdentifier(value: unknown, option: string): asserts value is string {
  assertText(value, option, 63)
  if (!/^[A-Za-z_]\w*$/.test(value)) {
    throw new TypeError(`"${option}" option must be an SQL identifier of letters, digits and "_"`)
  }
}
