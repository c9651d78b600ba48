/**
 * A lease: a lock that ends by itself, kept in one value that is changed by compare-and-set only.
 *
 * No two processes ever compare their clocks. Each renewal gives the value a new revision; whoever wants the lease
 * takes it over once it has itself seen one and the same revision for the whole life of the lease. It has to look several
 * times for that: a step of its clock counts for a third of the life at most. A holder that was stopped cannot renew, and
 * cannot release, what somebody else holds by then: its compare-and-set fails.
 *
 * @module
 */
import { randomUUID } from 'node:crypto'
import type { Clock } from '../core/clock.js'
import type { Logger } from '../core/logger.js'
import { recordCodec, type RecordCodec, type RecordFields } from '../core/record.js'
import { CertError, StoreError } from '../errors.js'
import { checkedSignal } from '../internal/checked-signal.js'
import type { Revision, StoredValue, StoreLock } from './cert-store.js'

/** The value that holds the lease. It is never deleted: the fencing token has to grow. */
export interface LeaseCell {
  /**
   * A value that cannot be read is given as an empty one, with a revision to replace it by. On behalf of whom: the caller who
   * takes the lock, and may give up, or the lease, which outlives that call.
   */
  read(behalf: 'caller' | 'lease'): Promise<StoredValue | undefined>
  /** Rejects with `ERR_STORE_CONFLICT` when the revision is not the current one; `null`: there is none yet. */
  write(value: Uint8Array, ifRevision: Revision | null): Promise<Revision>
}

/** How long a revision has been seen, up to the last look. One map per store instance, by the name of the lock. */
export type LeaseObservations = Map<
  string,
  { readonly revision: Revision; readonly unchangedMs: number; readonly lookedAt: number }
>

/** Parts of {@link takeLease}. */
export interface LeaseOptions {
  /** Name of the store. */
  readonly store: string
  /** Name of the lock. */
  readonly name: string
  readonly cell: LeaseCell
  readonly ttlMs: number
  readonly clock: Clock
  readonly logger: Logger
  readonly observations: LeaseObservations
  /** Who asks, in words for `isDead` of others. */
  readonly holder?: string | undefined
  /** Whether a holder is proven to be dead, so that nobody has to wait for it. @defaultValue nothing is proven */
  readonly isDead?: ((holder: string) => Promise<boolean>) | undefined
}

/** What the value says. */
export interface Lease {
  readonly token: number
  readonly held: boolean
  readonly ttlMs: number
  readonly holder?: string | undefined
  /** Tells this taking of the lock from all others. */
  readonly id?: string | undefined
}

/** The value of the cell. */
export const leaseCodec: RecordCodec<Lease> = recordCodec<Lease>('lease', (fields: RecordFields) => ({
  token: fields.number('token'),
  held: fields.boolean('held'),
  ttlMs: fields.number('ttlMs'),
  holder: fields.optional('holder', (name) => fields.text(name)),
  id: fields.optional('id', (name) => fields.text(name)),
}))

/** A lease that can be given back although it is in use. */
export interface HeldLease extends StoreLock {
  /** Tells the holder that it is lost, then releases it. `why` continues "the lock ...". */
  abandon(why: string): Promise<void>
}

/** Takes the lease, or resolves `undefined` at once when somebody else has it. */
export async function takeLease(options: LeaseOptions): Promise<HeldLease | undefined> {
  const { name, cell, ttlMs, clock, observations } = options
  const found = await cell.read('caller')
  const previous = found === undefined ? undefined : readLease(found.value, options)
  if (found !== undefined && previous?.held === true && !(await isOver(found.revision, previous, options))) {
    return undefined
  }
  const lease: Lease = {
    // The time is only a floor: tokens keep growing when a damaged or deleted lease has forgotten its own.
    token: Math.max((previous?.token ?? 0) + 1, Math.floor(clock.now())),
    held: true,
    ttlMs,
    holder: options.holder,
    id: randomUUID(),
  }
  const startedAt = clock.now()
  let revision: Revision
  try {
    revision = await cell.write(leaseCodec.encode(lease), found?.revision ?? null)
  } catch (error) {
    if (isConflict(error)) return undefined
    // It may have been written all the same: a lease that nobody knows to have would keep everybody out for its life.
    const written = await revisionOf(lease, options).catch(() => undefined)
    if (written === undefined) throw error
    revision = written
  }
  observations.delete(name)
  return holdLease(lease, revision, startedAt, options)
}

/** The current revision, if the lease is still this one. */
async function revisionOf(lease: Lease, options: LeaseOptions): Promise<Revision | undefined> {
  const found = await options.cell.read('lease')
  const current = found && readLease(found.value, options)
  return current?.held === true && current.id === lease.id ? found?.revision : undefined
}

/** A damaged lease may be somebody's: it counts as held, and is waited for like any other. */
function readLease(value: Uint8Array, { store, name, ttlMs, logger }: LeaseOptions): Lease {
  try {
    return leaseCodec.decode(value, { store, key: `lock ${name}` })
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'ERR_STORE_CORRUPT') throw error
    logger.warn('lock is damaged and will be replaced', { store, lock: name, error })
    return { token: 0, held: true, ttlMs }
  }
}

async function isOver(revision: Revision, lease: Lease, options: LeaseOptions): Promise<boolean> {
  const { name, clock, observations, isDead } = options
  if (lease.holder !== undefined && (await isDead?.(lease.holder)) === true) return true
  const now = clock.now()
  const observed = observations.get(name)
  let unchangedMs = 0
  if (observed?.revision === revision) {
    // The clock may have been set. A holder trusts its lease for two thirds of its life, so that one step, which counts
    // for a third, cannot end a lease that is still trusted.
    const sinceLookMs = Math.max(0, now - observed.lookedAt)
    unchangedMs = observed.unchangedMs + Math.min(sinceLookMs, Math.ceil(lease.ttlMs / 3))
  }
  observations.set(name, { revision, unchangedMs, lookedAt: now })
  return unchangedMs >= lease.ttlMs
}

function holdLease(lease: Lease, first: Revision, takenAt: number, options: LeaseOptions): HeldLease {
  const { store, name, cell, ttlMs, clock, logger } = options
  const trustedMs = Math.floor((ttlMs * 2) / 3)
  const lost = new AbortController()
  const ended = new AbortController()
  let revision = first
  /** A renewal failed that may have been carried out: the lease may have a revision that nobody was told. */
  let uncertain = false
  let released: Promise<void> | undefined
  let trustedUntil = Infinity

  const lose = (why: string, cause?: unknown): void => {
    if (ended.signal.aborted) return
    ended.abort()
    const message = `${store}: lock ${name} ${why}; what it protected may be done by another process now`
    lost.abort(new StoreError({ code: 'ERR_STORE_LOCK_LOST', message, store, cause }))
  }

  const loseTrust = (): void => {
    lose(`was not renewed for ${String(trustedMs)} ms`)
  }
  // The timer is late when the process was stopped: whoever asks before it acts is told by the clock.
  checkedSignal(lost.signal, () => {
    if (clock.now() >= trustedUntil) loseTrust()
  })

  /** A timer of its own, so that a renewal that hangs cannot hide how late it is. */
  const trustUntil = (since: number): (() => void) => {
    const confirmed = new AbortController()
    // Never more than the whole time, also when the clock was set back since.
    const now = clock.now()
    const ms = Math.min(trustedMs, Math.max(0, since + trustedMs - now))
    trustedUntil = now + ms
    clock.sleep(ms, { signal: confirmed.signal, background: true, deadline: true }).then(loseTrust, () => undefined)
    return () => {
      confirmed.abort()
    }
  }

  let endTrust = trustUntil(takenAt)
  ended.signal.addEventListener('abort', () => {
    endTrust()
  })

  const renewUntilEnded = async (): Promise<void> => {
    let pauseMs = ttlMs / 3
    for (;;) {
      try {
        await clock.sleep(pauseMs, { signal: ended.signal, background: true })
      } catch {
        return
      }
      if (lost.signal.aborted) return
      const startedAt = clock.now()
      try {
        if (uncertain) revision = (await revisionOf(lease, options)) ?? revision
        revision = await cell.write(leaseCodec.encode(lease), revision)
        uncertain = false
      } catch (error) {
        if (isConflict(error)) {
          lose('was taken over')
          return
        }
        logger.warn('lock could not be renewed', { store, lock: name, error })
        uncertain = true
        pauseMs = ttlMs / 12
        continue
      }
      if (ended.signal.aborted) return
      endTrust()
      endTrust = trustUntil(startedAt)
      pauseMs = ttlMs / 3
    }
  }
  const renewing = renewUntilEnded()

  const giveBack = async (): Promise<void> => {
    // A renewal that is under way decides which revision there is to release.
    await renewing
    try {
      if (uncertain) revision = (await revisionOf(lease, options)) ?? revision
      await cell.write(leaseCodec.encode({ ...lease, held: false }), revision)
    } catch (error) {
      // Nothing that was done under the lock is undone by this: the lease ends by itself.
      if (!isConflict(error)) logger.warn('lock could not be released, it will expire', { store, lock: name, error })
    }
  }

  const release = async (): Promise<void> => {
    if (lost.signal.aborted) return
    ended.abort()
    await giveBack()
  }

  const abandon = async (why: string): Promise<void> => {
    if (lost.signal.aborted) return
    // Whoever relies on it is told before anybody else can have it.
    lose(why)
    await giveBack()
  }

  return {
    signal: lost.signal,
    fencingToken: String(lease.token),
    release: () => (released ??= release()),
    abandon: (why) => (released ??= abandon(why)),
    [Symbol.asyncDispose]: () => (released ??= release()),
  }
}

function isConflict(error: unknown): boolean {
  return CertError.isInstance(error) && error.code === 'ERR_STORE_CONFLICT'
}
