/**
 * What was asked of the CA, in order of arrival.
 *
 * @module
 */

/** Which resource a request is for; `unknown` for a path that the CA does not have. */
export type RequestKind =
  | 'directory'
  | 'newNonce'
  | 'newAccount'
  | 'newOrder'
  | 'authorization'
  | 'challenge'
  | 'order'
  | 'finalize'
  | 'certificate'
  | 'renewalInfo'
  | 'revokeCert'
  | 'keyChange'
  | 'account'
  | 'unknown'

/** One request. */
export interface RequestRecord {
  readonly method: string
  readonly path: string
  readonly kind: RequestKind
  /** `undefined` until the reply is sent, and for good when a fault dropped it. */
  readonly status: number | undefined
  /** When it arrived, by the CA's clock. */
  readonly at: Date
}
