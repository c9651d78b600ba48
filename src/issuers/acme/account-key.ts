/**
 * The key of an account: parsed once, and kept as a `KeyObject` that does not print.
 *
 * @module
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'

/** An account's key as requests need it. */
export interface AccountKey {
  readonly privateKey: KeyObject
  /** Public key, members in lexical order. RFC 7638 section 3. */
  readonly jwk: Readonly<Record<string, string>>
  /** Second half of every key authorization. RFC 8555 section 8.1. */
  readonly thumbprint: string
}

/** Reads a PEM key that {@link importPrivateKey} accepts. */
export function accountKey(pem: string): AccountKey {
  const privateKey = createPrivateKey(pem)
  const members = Object.entries(createPublicKey(privateKey).export({ format: 'jwk' }))
  const jwk = Object.fromEntries(members.sort(([one], [other]) => (one < other ? -1 : 1))) as Record<string, string>
  return { privateKey, jwk, thumbprint: createHash('sha256').update(JSON.stringify(jwk)).digest('base64url') }
}
