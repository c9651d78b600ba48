/**
 * From what the CA sends to what a solver presents. RFC 8555 section 8, RFC 8737 section 3.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import type { Identifier } from '../../core/identifier.js'
import type { Challenge, ChallengeType } from '../../solvers/challenge-solver.js'

/** What a challenge is made from; small enough to be stored, so that it can be cleaned up after a crash. */
export interface ChallengeSeed {
  readonly type: ChallengeType
  /** Without `*.`. */
  readonly identifier: Identifier
  readonly wildcard: boolean
  readonly token: string
  /** Of the account's key. */
  readonly thumbprint: string
}

/** The challenge for a solver. */
export function buildChallenge({ type, identifier, wildcard, token, thumbprint }: ChallengeSeed): Challenge {
  const keyAuthorization = `${token}.${thumbprint}`
  const digest = createHash('sha256').update(keyAuthorization).digest()
  const common = { identifier, wildcard, token, keyAuthorization }
  if (type === 'http-01') return { type, ...common, path: `/.well-known/acme-challenge/${token}` }
  if (type === 'tls-alpn-01') return { type, ...common, digest: new Uint8Array(digest) }
  const recordValue = digest.toString('base64url')
  return { type, ...common, recordName: `_acme-challenge.${identifier.value}`, recordValue }
}
