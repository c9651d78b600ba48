/**
 * http-01 challenges in the store that all replicas share.
 *
 * Sub-path export `'evercert/solvers/store-responder'`.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { CertError, ChallengeError } from '../errors.js'
import { coalesce } from '../internal/coalesce.js'
import { assertMethod, assertOptions, assertText } from '../internal/options.js'
import { storeKey, type CertStore, type StoreKey } from '../stores/cert-store.js'
import type { ChallengeSolver, Http01Challenge } from './challenge-solver.js'
import type { ChallengeSource, OpenChallenge } from './challenge-source.js'
import { isChallengeToken, isKeyAuthorization } from './http-challenge.js'
import { parseZones } from './zones.js'

/** Options of {@link storeResponder}. */
export interface StoreResponderOptions {
  /** Shared by the replicas: usually the scheduler's. */
  readonly store: CertStore
  /** DNS zones this solver is for. @defaultValue every name */
  readonly zones?: readonly string[] | undefined
  /** Needed when several of these are in one issuer. @defaultValue `'http-01/store-responder'` */
  readonly name?: string | undefined
}

/** A solver, and what `challengeGateway` answers from. */
export interface StoreResponder extends ChallengeSolver<'http-01'>, ChallengeSource {}

/** Beside what issuers keep below `challenges/`. */
const space = 'challenges/http-01/'
/** However many tokens are guessed, a store is left alone after a listing: for so many times as long as that took, within limits. */
const shortestPauseMs = 50
const longestPauseMs = 2_000
const pausePerListing = 10

/**
 * A http-01 solver that writes challenges to a shared store, so that whichever replica the CA comes to can answer. Give the
 * same object to `challengeGateway`.
 *
 * @example
 *
 * ```ts
 * import { challengeGateway } from 'evercert/solvers/challenge-gateway'
 * import { storeResponder } from 'evercert/solvers/store-responder'
 * import type { CertStore } from 'evercert'
 *
 * declare const store: CertStore // Redis, PostgreSQL, Kubernetes, ...
 *
 * const responder = storeResponder({ store }) // among the issuer's solvers
 * challengeGateway({ challenges: responder }).createServer().listen(80, '::')
 * ```
 *
 * @remarks
 * A token that is not among the keys of the store is not read: guessing tokens costs a listing of open challenges, shared by
 * all who guess meanwhile. After a listing the store is left alone for ten times as long as that took, at least 50 ms and at
 * most 2 seconds: where a store lists slowly, the CA waits that much longer for its answer.
 *
 * @param options - See {@link StoreResponderOptions}. Validated and copied.
 * @returns A solver named `http-01/store-responder`. `present` and `cleanUp` reject with what the store rejects with, or with
 *   `ChallengeError` `ERR_CHALLENGE_FAILED` when another account has put the same token there.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555.html#section-8.3 | RFC 8555 section 8.3, HTTP Challenge}
 */
export function storeResponder(options: StoreResponderOptions): StoreResponder {
  assertOptions(options, ['store', 'zones', 'name'], 'storeResponder')
  const { store, name = 'http-01/store-responder' } = options
  if (typeof store !== 'object' || store === null) throw new TypeError('"store" option must be a CertStore')
  for (const method of ['get', 'put', 'delete', 'list']) assertMethod(store, method, 'store')
  assertText(name, 'name', 100)
  const zones = parseZones(options.zones)

  async function read(key: StoreKey, context: OperationContext): Promise<string | undefined> {
    const stored = await store.get(key, context)
    return stored === undefined ? undefined : Buffer.from(stored.value).toString('latin1')
  }

  const known = latestKeys(store)

  return {
    name,
    type: 'http-01',
    ...(zones === undefined ? {} : { zones }),

    async present(challenge, context) {
      context.signal.throwIfAborted()
      const refuse = (reason: string): ChallengeError => failure(name, challenge, reason)
      if (!isChallengeToken(challenge.token)) throw refuse('the CA sent a malformed token')
      const key = keyOf(challenge.identifier.value, challenge.token)
      const value = Buffer.from(challenge.keyAuthorization, 'latin1')
      try {
        await store.put(key, value, context, { ifRevision: null })
      } catch (error) {
        if (!CertError.isInstance(error) || error.code !== 'ERR_STORE_CONFLICT') throw error
        if ((await read(key, context)) === challenge.keyAuthorization) return
        throw refuse('the store has the same token of another account; it goes when that order ends')
      }
    },

    async cleanUp({ identifier, token, keyAuthorization }, context) {
      context.signal.throwIfAborted()
      if (!isChallengeToken(token)) return
      const key = keyOf(identifier.value, token)
      const stored = await store.get(key, context)
      if (stored === undefined || Buffer.from(stored.value).toString('latin1') !== keyAuthorization) return
      await store.delete(key, context, { ifRevision: stored.revision }).catch((error: unknown) => {
        // Somebody else took it down, or put another one up.
        if (!CertError.isInstance(error) || error.code !== 'ERR_STORE_CONFLICT') throw error
      })
    },

    async findChallenge(host, token, context) {
      const key = keyOf(host, token)
      if (!(await known(context)).has(key)) return undefined
      return sound(await read(key, context), token)
    },

    async listChallenges(context) {
      const open: OpenChallenge[] = []
      for (const key of await known(context)) {
        const [host = '', token = ''] = key.slice(space.length).split('/').map(decodeURIComponent)
        const keyAuthorization = isChallengeToken(token) ? sound(await read(key, context), token) : undefined
        if (keyAuthorization !== undefined) open.push({ host, token, keyAuthorization })
      }
      return open
    },
  }
}

/** The keys of open challenges: each caller gets a listing that began after it asked, and shares it with the others. */
function latestKeys(store: CertStore): (context: OperationContext) => Promise<ReadonlySet<StoreKey>> {
  const { signal: unaborted } = new AbortController()
  let latest: OperationContext | undefined
  let listedAt = Number.NEGATIVE_INFINITY
  let pauseMs = shortestPauseMs
  const list = coalesce(async () => {
    if (latest === undefined) return new Set<StoreKey>()
    // A client that goes away must not end the listing of the others.
    const context = { ...latest, signal: unaborted }
    const { clock } = context
    const wait = Math.min(pauseMs, listedAt + pauseMs - clock.now())
    if (wait > 0) await clock.sleep(wait)
    const startedAt = clock.now()
    const keys = new Set<StoreKey>()
    try {
      for await (const key of store.list(space, context)) keys.add(key)
    } finally {
      listedAt = clock.now()
      const cost = pausePerListing * (listedAt - startedAt)
      pauseMs = Math.min(longestPauseMs, Math.max(shortestPauseMs, cost))
    }
    return keys
  })
  return (context) => {
    latest = context
    return list(context.signal)
  }
}

function keyOf(host: string, token: string): StoreKey {
  return storeKey('challenges', 'http-01', host, token)
}

function sound(keyAuthorization: string | undefined, token: string): string | undefined {
  return keyAuthorization !== undefined && isKeyAuthorization(keyAuthorization, token) ? keyAuthorization : undefined
}

function failure(solver: string, { identifier }: Http01Challenge, reason: string): ChallengeError {
  return new ChallengeError({
    code: 'ERR_CHALLENGE_FAILED',
    message: `${solver}: cannot present a challenge for ${identifier.value}: ${reason}`,
    retryable: true,
    solver,
    identifier,
    phase: 'present',
  })
}
