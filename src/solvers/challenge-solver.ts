/**
 * The contract of challenge solvers: whoever proves to a CA that a name is ours.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import type { Identifier } from '../core/identifier.js'

interface ChallengeBase<Type extends string> {
  readonly type: Type
  /** What is being validated; a wildcard appears without its `*.`. */
  readonly identifier: Identifier
  readonly wildcard: boolean
  /** Checked by evercert before a solver sees it: 1 to 512 characters of `A-Z a-z 0-9 _ -`. */
  readonly token: string
  /** `token "." thumbprint of the account key`. RFC 8555 section 8.1. */
  readonly keyAuthorization: string
}

/** RFC 8555 section 8.3. The body to serve is exactly `keyAuthorization`. */
export interface Http01Challenge extends ChallengeBase<'http-01'> {
  readonly path: `/.well-known/acme-challenge/${string}`
}

/** RFC 8555 section 8.4. */
export interface Dns01Challenge extends ChallengeBase<'dns-01'> {
  /** `_acme-challenge.example.com`, without a trailing dot. */
  readonly recordName: string
  /** The TXT value: base64url(sha256(keyAuthorization)). Solvers never hash. */
  readonly recordValue: string
}

/** RFC 8737. */
export interface TlsAlpn01Challenge extends ChallengeBase<'tls-alpn-01'> {
  /** SHA-256 of the key authorization: content of the acmeIdentifier extension. */
  readonly digest: Uint8Array
}

/** Everything a solver may be asked to present. */
export type Challenge = Http01Challenge | Dns01Challenge | TlsAlpn01Challenge
/** `http-01`, `dns-01` or `tls-alpn-01`. */
export type ChallengeType = Challenge['type']
/** The challenge of one type. */
export type ChallengeOf<Type extends ChallengeType> = Extract<Challenge, { type: Type }>

/**
 * Makes challenges of one type visible to the CA.
 *
 * - `present` MUST be idempotent and SHOULD return promptly; slow propagation belongs in `waitUntilReady`.
 * - Several challenges may be presented at once, also with the **same record name** (`example.com` and
 *   `*.example.com`): a solver MUST add and remove by value and MUST leave the values of others alone.
 * - `waitUntilReady` MUST NOT do anything the challenge needs in order to succeed.
 * - `cleanUp` MUST succeed when nothing was presented, MUST work on a fresh instance after a crash, and MUST NOT
 *   remove anything it did not make. It gets a signal of its own, not the aborted one.
 * - All of them MUST rethrow `context.signal.reason` when aborted, and MUST NOT log or throw a key authorization.
 *
 * Test yours with `challengeSolverContract` from `evercert/testing`.
 */
export interface ChallengeSolver<Type extends ChallengeType = ChallengeType> {
  /** Unique among the solvers of an issuer, stable; in logs and errors: `http-01/webroot`. */
  readonly name: string
  readonly type: Type
  /**
   * DNS zones this solver is for: `example.com` covers itself and every name below. The solver with an exact name
   * wins, then the one with the longest zone, then the order of the list.
   *
   * @defaultValue every name
   */
  readonly zones?: readonly string[] | undefined
  /**
   * How many challenges this solver takes at once: an order's calls of `present`, `waitUntilReady` and `cleanUp` are each
   * made side by side up to this number. A solver that turns many challenges into one request wants them all.
   *
   * @defaultValue 10
   */
  readonly concurrency?: number | undefined
  /** Refuses identifiers it cannot prove. @defaultValue every identifier its type allows */
  supports?(identifier: Identifier): boolean
  present(challenge: ChallengeOf<Type>, context: OperationContext): Promise<void>
  waitUntilReady?(challenge: ChallengeOf<Type>, context: OperationContext): Promise<void>
  cleanUp(challenge: ChallengeOf<Type>, context: OperationContext): Promise<void>
}

/** A solver of any type. */
export type AnyChallengeSolver = { [Type in ChallengeType]: ChallengeSolver<Type> }[ChallengeType]
