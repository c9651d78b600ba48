/**
 * What goes back to the client, before headers that every reply has.
 *
 * @module
 */
import type { Account } from './resources.js'
import type { IssuedRecord } from './test-authority.js'
import type { Problem } from './problem.js'
import type { PublicKey } from './jws.js'

/** One reply. */
export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[]>>
  readonly body: string
  /** The certificate that the body is, so that a fault can put another in its place. */
  readonly certificate?: IssuedRecord | undefined
}

/** A request without a body that matters. */
export interface Query {
  readonly method: string
  readonly url: string
  /** What the path has after the name of the resource, e.g. an order's number. */
  readonly segments: readonly string[]
}

/** A signed request that has been verified. */
export interface SignedQuery extends Query {
  readonly payload: Buffer
  /** Who signed by `kid`, or `undefined` when the request carries its key. */
  readonly account: Account | undefined
  /** The key that signed. */
  readonly publicKey: PublicKey
}

/** Answers a request without a body. Throws `Problem` to refuse it; so do the signed ones. */
export type QueryOperation = (query: Query) => Reply

/** Answers a signed request. */
export type SignedOperation = (query: SignedQuery) => Reply

/** A JSON reply. */
export function jsonReply(status: number, body: object, headers: Reply['headers'] = {}): Reply {
  return { status, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) }
}

/** An error reply. */
export function problemReply(problem: Problem): Reply {
  const { document, headers } = problem
  return {
    status: document.status,
    headers: { 'content-type': 'application/problem+json', ...headers },
    body: JSON.stringify(document),
  }
}
