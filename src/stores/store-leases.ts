/**
 * The locks of a store that keeps its leases in cells of its own: gives them out, and back when the store is closed.
 *
 * @module
 */
import type { Clock } from '../core/clock.js'
import type { OperationContext } from '../core/context.js'
import { assertDuration } from '../internal/options.js'
import type { CertStore } from './cert-store.js'
import { takeLease, type HeldLease, type LeaseObservations, type LeaseOptions } from './lease.js'

/** Parts of {@link storeLeases}. */
export interface StoreLeasesOptions {
  /** Name of the store. */
  readonly store: string
  /** @defaultValue the clock of each operation's context */
  readonly clock: Clock | undefined
  /** The cell of a lock. It outlives the call that takes the lock, and with it the call's signal. */
  readonly open: (lock: string, context: OperationContext) => Promise<Pick<LeaseOptions, 'cell' | 'holder' | 'isDead'>>
}

/** `lock` and `close` of a store. */
export function storeLeases(options: StoreLeasesOptions): Required<Pick<CertStore, 'lock' | 'close'>> {
  const { store, clock, open } = options
  const observations: LeaseObservations = new Map()
  const held = new Set<HeldLease>()
  return {
    async lock(name, context, { ttlMs }) {
      assertDuration(ttlMs, 'ttlMs')
      context.signal.throwIfAborted()
      const { logger } = context
      const opened = await open(name, context)
      const lease = await takeLease({
        ...{ store, name, ttlMs, logger, observations, clock: clock ?? context.clock },
        ...opened,
      })
      if (lease === undefined) return undefined
      const release = async (): Promise<void> => {
        await lease.release()
        held.delete(lease)
      }
      held.add(lease)
      lease.signal.addEventListener('abort', () => held.delete(lease))
      return { signal: lease.signal, fencingToken: lease.fencingToken, release, [Symbol.asyncDispose]: release }
    },
    async close() {
      await Promise.all([...held].map((lease) => lease.abandon('was given back because the store was closed')))
      held.clear()
    },
  }
}
