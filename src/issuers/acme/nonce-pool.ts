/**
 * Anti-replay nonces: every answer brings one, so that newNonce is asked only when more requests run at once than ever
 * before. RFC 8555 section 6.5.
 *
 * @module
 */
import type { Clock } from '../../core/clock.js'

/** Nonces that can be used once each. */
export interface NoncePool {
  /** One that came with an answer. Given to whoever waits longest, else kept. */
  put(nonce: string, clock: Clock): void
  /**
   * The newest nonce; else the next one that comes, by an answer to another request or by `fetchNonce`.
   *
   * @param fetchNonce - asks the CA; its signal aborts when nobody waits any more
   */
  take(clock: Clock, signal: AbortSignal, fetchNonce: (signal: AbortSignal) => Promise<string>): Promise<string>
}

/** More than are ever in flight; older ones are the first to go. */
const maxNonces = 200
/** CAs forget nonces after minutes; trying an old one would cost as much as asking for a new one. */
const maxAgeMs = 5 * 60_000
/** Let's Encrypt allows a burst of ten. */
const maxFetches = 8

interface Waiter {
  readonly resolve: (nonce: string) => void
  readonly reject: (error: unknown) => void
}

/** Makes a {@link NoncePool}. */
export function noncePool(): NoncePool {
  const nonces: { readonly value: string; readonly at: number }[] = []
  const waiters = new Set<Waiter>()
  const fetches = new Set<AbortController>()

  const first = (): Waiter | undefined => {
    for (const waiter of waiters) {
      waiters.delete(waiter)
      return waiter
    }
    return undefined
  }
  const pool: NoncePool = {
    put(value, clock) {
      const waiter = first()
      if (waiter !== undefined) waiter.resolve(value)
      else if (nonces.push({ value, at: clock.now() }) > maxNonces) nonces.shift()
    },
    async take(clock, signal, fetchNonce) {
      signal.throwIfAborted()
      const newest = nonces.pop()
      if (newest !== undefined && Math.abs(clock.now() - newest.at) <= maxAgeMs) return newest.value
      // Last in, first out: what lies below the newest is older still.
      nonces.length = 0
      return wait(clock, signal, fetchNonce)
    },
  }
  return pool

  function wait(clock: Clock, signal: AbortSignal, fetchNonce: (signal: AbortSignal) => Promise<string>) {
    return new Promise<string>((resolve, reject) => {
      const settled = (): void => {
        signal.removeEventListener('abort', onAbort)
      }
      const waiter: Waiter = {
        resolve: (nonce) => {
          settled()
          resolve(nonce)
        },
        reject: (error) => {
          settled()
          reject(error)
        },
      }
      const onAbort = (): void => {
        waiters.delete(waiter)
        waiter.reject(signal.reason)
        if (waiters.size > 0) return
        for (const fetching of fetches) fetching.abort(signal.reason)
        // Whoever comes next asks anew.
        fetches.clear()
      }
      signal.addEventListener('abort', onAbort, { once: true })
      waiters.add(waiter)
      refill(clock, fetchNonce)
    })
  }

  /** As many requests as there are waiters, within the limit; one that fails, fails the one who waits longest. */
  function refill(clock: Clock, fetchNonce: (signal: AbortSignal) => Promise<string>): void {
    while (fetches.size < Math.min(waiters.size, maxFetches)) {
      const fetching = new AbortController()
      fetches.add(fetching)
      void fetchNonce(fetching.signal)
        .then(
          (nonce) => {
            fetches.delete(fetching)
            pool.put(nonce, clock)
          },
          (error: unknown) => {
            // One that was given up is nobody's failure.
            if (fetches.delete(fetching)) first()?.reject(error)
          },
        )
        .then(() => {
          refill(clock, fetchNonce)
        })
    }
  }
}
