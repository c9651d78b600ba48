/**
 * Certificates in Redis, or in what speaks its protocol and runs its scripts (Valkey, KeyDB, managed services).
 *
 * Published as `evercert/stores/redis`.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import type { Clock } from '../core/clock.js'
import type { OperationContext } from '../core/context.js'
import { StoreError } from '../errors.js'
import { coalesce } from '../internal/coalesce.js'
import { assertDuration, assertNumber, assertOptions, assertText } from '../internal/options.js'
import type { CertStore, PutOptions, Revision, StoreKey } from './cert-store.js'
import { conflict } from './compare-revision.js'
import {
  decodeEntry,
  encodeEntry,
  foundValue,
  largestEntryBytes,
  newRevision,
  storedValue,
  type Entry,
} from './entry-format.js'
import type { LeaseCell } from './lease.js'
import { readInParts } from './read-in-parts.js'
import {
  redisChannel,
  redisCommands,
  type RedisArgument,
  type RedisClient,
  type RedisSubscriber,
} from './redis-client.js'
import { redisFailure } from './redis-failure.js'
import { changeScript, changeScriptId } from './redis-script.js'
import { serverOperations } from './server-operation.js'
import { storeLeases } from './store-leases.js'

export type {
  IoRedisClient,
  IoRedisSubscriber,
  NodeRedisClient,
  NodeRedisCluster,
  NodeRedisSentinel,
  NodeRedisSubscriber,
  RedisArgument,
  RedisClient,
  RedisSubscriber,
} from './redis-client.js'

/** Options of {@link redisStore}. */
export interface RedisStoreOptions {
  /**
   * A connected client of `redis` (node-redis: client, pool, sentinel or cluster) or `ioredis` (client or cluster). Yours:
   * evercert neither opens nor closes it.
   */
  readonly client: RedisClient
  /**
   * A second connected client (`client.duplicate()`) on which the store listens for changes, so that replicas notice at once
   * what another one stored. Used for nothing else. In a fail-over the sentinel client of node-redis may lose its
   * subscription (seen with 6.3), and so may a cluster client of `ioredis` that has only just been made (seen with 6.0):
   * changes are then noticed as without a second client.
   *
   * @defaultValue none: changes are noticed when the scheduler looks the next time
   */
  readonly subscriber?: RedisSubscriber | undefined
  /**
   * Begins the name of every key, as their hash tag: `{evercert}:entries`. 1 to 100 letters, digits, `.`, `_`, `:` and
   * `-`.
   *
   * @defaultValue `'evercert'`
   */
  readonly prefix?: string | undefined
  /**
   * Resolves writes only after so many replicas have received them (`WAIT`). That makes it unlikely, not impossible, that a
   * fail-over loses them. Holds up other commands on the same connection meanwhile. Not with a cluster client of `ioredis`,
   * which sends `WAIT` to any node.
   *
   * @defaultValue 0
   */
  readonly waitForReplicas?: number | undefined
  /** Limit of one operation, milliseconds. @defaultValue 10_000 (10 seconds) */
  readonly timeoutMs?: number | undefined
  /** Times leases and limits. @defaultValue the clock of each operation's context */
  readonly clock?: Clock | undefined
}

const name = 'redis'

/** Keys per page of a list. */
const pageSize = 1000

/**
 * A store in Redis 6.2 or later, for replicas of a service on several machines.
 *
 * Compare-and-set is a script, so it holds among any number of processes. Locks are leases with growing fencing tokens; no
 * clock of a server or of another process is compared to ours. All keys share a hash tag, so that one slot of a cluster has
 * them all.
 *
 * @example
 *
 * ```ts
 * import { createClient } from '@redis/client' // or 'redis'
 * import { redisStore } from 'evercert/stores/redis'
 *
 * const client = await createClient({ url: 'redis://localhost:6379' }).connect()
 * client.on('error', (error) => console.error(error))
 * const store = redisStore({ client, subscriber: await client.duplicate().connect() })
 * ```
 *
 * @remarks
 * What Redis guarantees is what it is configured to: a write that was acknowledged survives a crash of the server with
 * `appendonly yes` and `appendfsync always`; with `everysec` the last second may be lost, without the append-only file all
 * since the last snapshot. Replication is asynchronous: **a fail-over may lose the last writes**, and `waitForReplicas` makes
 * that rarer. What follows: when the record of a new certificate is lost, a second one is ordered; when a lease is lost,
 * two processes may work on one certificate for a while, and both can place an order. Neither publishes a wrong or an old
 * certificate: every record is compare-and-set, revisions are random and never come back, and who lost reads again. If
 * that is not good enough, use PostgreSQL.
 *
 * Values hold private keys in clear unless the store is wrapped by `encryptedStore`; so do the append-only file, snapshots,
 * replicas and backups. Set `maxmemory-policy noeviction` (or a `volatile-` policy): with an `allkeys-` policy the store
 * refuses to work, because certificates would vanish. Do not read from replicas (`scaleReads`, `useReplicas`).
 *
 * Rejects with `ERR_STORE_UNAVAILABLE` when the server is away, does not answer within `timeoutMs`, or refuses (replica,
 * out of memory, disk, permission): the message says which. A write may have been carried out then. A client may
 * also send it again after it reconnects (`ioredis` does, unless `autoResendUnfulfilledCommands` is `false`): no harm to a
 * write that names the revision it replaces, as those of evercert's records do. Rejects with `ERR_STORE_CORRUPT` when a value was damaged.
 *
 * @param options - See {@link RedisStoreOptions}. Validated and copied; later changes have no effect.
 * @returns A store named `redis`. Its `close` gives back leases and leaves the clients alone.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 * @see [Redis persistence](https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/)
 */
export function redisStore(options: RedisStoreOptions): CertStore {
  assertOptions(options, ['client', 'subscriber', 'prefix', 'waitForReplicas', 'timeoutMs', 'clock'], 'redisStore')
  const { client, subscriber, prefix = 'evercert', waitForReplicas = 0, timeoutMs = 10_000, clock } = options
  const send = redisCommands(client)
  const hear = subscriber === undefined ? undefined : redisChannel(subscriber)
  assertText(prefix, 'prefix', 100)
  if (!/^[\w.:-]+$/.test(prefix)) {
    throw new TypeError('"prefix" option must consist of letters, digits, ".", "_", ":" and "-"')
  }
  assertNumber(waitForReplicas, 'waitForReplicas', { min: 0, max: 100, integer: true })
  if (waitForReplicas > 0 && 'isCluster' in client && client.isCluster === true) {
    throw new TypeError(
      '"waitForReplicas" option cannot be used with a cluster client of ioredis; use node-redis there',
    )
  }
  assertDuration(timeoutMs, 'timeoutMs')
  const place = (part: string): string => `{${prefix}}:${part}`
  const entries = { hash: place('entries'), index: place('keys'), channel: place('changes') }
  const leases = { hash: place('leases'), index: place('lease-names'), channel: '' }
  const operation = serverOperations({
    store: name,
    timeoutMs,
    clock,
    silence: 'look at the server and at the connection of the client',
    explain: redisFailure,
  })
  let checked = false

  /** Certificates must not vanish because somebody else needs memory. */
  async function check({ signal, logger }: OperationContext): Promise<void> {
    if (checked) return
    let info: string
    try {
      info = String(await send(entries.hash, ['INFO'], signal))
    } catch (error) {
      if (!(error instanceof Error) || !/^(?:NOPERM|ERR unknown)/.test(error.message)) throw error
      logger.warn('the server does not say how it is configured; it must not evict keys', { store: name })
      info = ''
    }
    const setting = (name: string): string | undefined => new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1]
    const policy = setting('maxmemory_policy') ?? ''
    if (policy.startsWith('allkeys-') && setting('maxmemory') !== '0') {
      const message = `${name}: the server may evict certificates (maxmemory-policy ${policy}); set it to noeviction or to a volatile- policy`
      throw new StoreError({ code: 'ERR_STORE_UNAVAILABLE', message, store: name })
    }
    if (setting('aof_enabled') === '0') {
      logger.warn('the server loses what was written since its last snapshot when it crashes; set appendonly yes', {
        store: name,
      })
    }
    checked = true
  }

  async function attempt<Result>(
    action: string,
    key: string,
    context: OperationContext,
    run: (signal: AbortSignal) => Promise<Result>,
  ): Promise<Result> {
    return operation(action, key, context, async (signal) => {
      await check({ ...context, signal })
      return run(signal)
    })
  }

  async function readAll(hash: string, keys: readonly string[], signal: AbortSignal): Promise<(Entry | undefined)[]> {
    const found = await send(hash, ['HMGET', hash, ...keys], signal)
    if (!Array.isArray(found) || found.length !== keys.length)
      throw new Error('the client answered with no list of values')
    return keys.map((key, index) => entryOf(found[index], key))
  }

  const placeOf = (key: StoreKey) => ({ store: name, key, holder: `its field in ${entries.hash}` })

  /** Puts an entry, or removes it when there is none. */
  async function change(
    { hash, index, channel }: typeof entries,
    key: string,
    entry: { readonly revision: Revision; readonly bytes: Uint8Array } | undefined,
    expected: PutOptions['ifRevision'],
    signal: AbortSignal,
  ): Promise<void> {
    const args: RedisArgument[] = ['2', hash, index, key]
    args.push(expected === undefined ? 'any' : (expected ?? 'none'), entry?.revision ?? '')
    args.push(entry === undefined ? '' : Buffer.from(entry.bytes), channel)
    // Sent together, so that nothing comes between: WAIT counts the writes of its own connection.
    const write = (command: RedisArgument[]): Promise<[unknown, unknown]> =>
      Promise.all([
        send(hash, command.concat(args), signal),
        waitForReplicas > 0 ? replicated(hash, signal) : undefined,
      ])
    let answer: readonly unknown[]
    try {
      answer = await write(['EVALSHA', changeScriptId])
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
      answer = await write(['EVAL', changeScript])
    }
    const outcome = String(answer[0])
    if (outcome !== 'done') throw conflict({ store: name, key }, outcome)
    if (waitForReplicas > 0 && Number(answer[1]) < waitForReplicas) {
      const message = `${name}: ${key} is written, but only ${String(answer[1])} of ${String(waitForReplicas)} replicas have it; look at the replicas`
      throw new StoreError({ code: 'ERR_STORE_UNAVAILABLE', message, store: name, key })
    }
  }

  function replicated(hash: string, signal: AbortSignal): Promise<unknown> {
    return send(hash, ['WAIT', String(waitForReplicas), String(Math.ceil(timeoutMs / 2))], signal)
  }

  async function put(
    to: typeof entries,
    key: string,
    value: Uint8Array,
    expected: PutOptions['ifRevision'],
    signal: AbortSignal,
  ): Promise<Revision> {
    const revision = newRevision()
    await change(to, key, { revision, bytes: encodeEntry(key, revision, value) }, expected, signal)
    return revision
  }

  function leaseCell(lock: string, context: OperationContext): LeaseCell {
    // Not the caller's signal: a lease outlives the call that took it, and is released also after an abort.
    const own = { ...context, signal: new AbortController().signal }
    return {
      read: (behalf) =>
        attempt('read', `lock ${lock}`, behalf === 'lease' ? own : context, async (signal) => {
          const [entry] = await readAll(leases.hash, [lock], signal)
          return entry && 'damage' in entry ? { value: new Uint8Array(), revision: entry.revision } : entry
        }),
      write: (value, ifRevision) =>
        attempt('write', `lock ${lock}`, own, (signal) => put(leases, lock, value, ifRevision, signal)),
    }
  }

  async function* list(prefix: string, context: OperationContext): AsyncGenerator<StoreKey> {
    // Keys are printable ASCII: all that begin with the prefix come before the prefix and DEL.
    let from = `[${prefix}`
    for (;;) {
      const page: unknown = await attempt('list', `${prefix}*`, context, (signal) =>
        send(
          entries.index,
          ['ZRANGEBYLEX', entries.index, from, `(${prefix}\x7f`, 'LIMIT', '0', String(pageSize)],
          signal,
        ),
      )
      const keys = Array.isArray(page) ? page.map(String) : []
      for (const key of keys) {
        context.signal.throwIfAborted()
        yield key as StoreKey
      }
      if (keys.length < pageSize) return
      from = `(${keys.at(-1) ?? ''}`
    }
  }

  return {
    name,
    async get(key, context) {
      const [entry] = await attempt('read', key, context, (signal) => readAll(entries.hash, [key], signal))
      return storedValue(entry, placeOf(key))
    },
    getMany: (keys, context) =>
      readInParts(keys, async (part, what) => {
        const found = await attempt('read', what, context, (signal) => readAll(entries.hash, part, signal))
        return part.map((key, index) => foundValue(found[index], placeOf(key)))
      }),
    put(key, value, context, { ifRevision } = {}) {
      if (value.length + key.length > largestEntryBytes - 1024) {
        return Promise.reject(
          new TypeError(`${name}: a value of ${String(value.length)} bytes is too large for a record`),
        )
      }
      // A copy: the caller may go on using its array.
      const copy = Uint8Array.from(value)
      return attempt('write', key, context, (signal) => put(entries, key, copy, ifRevision, signal))
    },
    delete: (key, context, { ifRevision } = {}) =>
      attempt('delete', key, context, (signal) => change(entries, key, undefined, ifRevision, signal)),
    list,
    ...storeLeases({
      store: name,
      clock,
      open: async (lock, context) => ({ cell: leaseCell(lock, context) }),
    }),
    ...(hear !== undefined && {
      async watch(prefix, onChange, context) {
        const { signal } = context
        signal.throwIfAborted()
        // A connection that comes and goes asks for no more lists than one after the other.
        const everything = coalesce(async () => {
          for await (const key of list(prefix, context)) onChange(key)
        })
        const onMessage = (key: string): void => {
          if (key.startsWith(prefix)) onChange(key as StoreKey)
        }
        const onGap = (): void => {
          everything().catch((error: unknown) => {
            if (!signal.aborted) context.logger.warn('changes may have been missed', { store: name, error })
          })
        }
        const end = await operation('watch', `${prefix}*`, context, (limit) =>
          hear(entries.channel, onMessage, onGap, limit),
        )
        // What was announced before nobody heard.
        onGap()
        await new Promise<void>((_, reject) => {
          const stop = (): void => {
            end()
            reject(signal.reason)
          }
          if (signal.aborted) stop()
          else signal.addEventListener('abort', stop, { once: true })
        })
      },
    }),
  }
}

function entryOf(found: unknown, key: string): Entry | undefined {
  if (found === null || found === undefined) return undefined
  if (!(found instanceof Uint8Array)) throw new Error('the client does not hand out bytes; is it wrapped?')
  const entry = decodeEntry(found, key)
  if (!('damage' in entry)) return entry
  return { ...entry, revision: `damaged-${createHash('sha1').update(found).digest('hex')}` as Revision }
}
