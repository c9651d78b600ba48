/**
 * Where open http-01 challenges can be looked up: for `challengeGateway`.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'

/** A challenge that a CA may ask for now. */
export interface OpenChallenge {
  /** The only name it may be asked for under. @defaultValue any: files of a web root belong to no name */
  readonly host?: string | undefined
  readonly token: string
  readonly keyAuthorization: string
}

/**
 * Knows open challenges. Both methods are called often while somebody guesses tokens, so both MUST be cheap, and an unknown
 * token MUST NOT cost more than a known one.
 */
export interface ChallengeSource {
  /**
   * The key authorization of one challenge, or `undefined`.
   *
   * @param host - name or IP address in lower case, without port
   * @param token - 1 to 512 characters of `A-Z a-z 0-9 _ -`
   */
  findChallenge(host: string, token: string, context: OperationContext): Promise<string | undefined>
  /** All that are open: what peers are told. */
  listChallenges(context: OperationContext): Promise<readonly OpenChallenge[]>
}
