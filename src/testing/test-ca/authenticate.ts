/**
 * Who sends a request, and whether it may be processed. RFC 8555 sections 6.2 to 6.5.
 *
 * @module
 */
import type { RequestKind } from './journal.js'
import { checkAlgorithm, importJwk, parseJws, verifyJws, type ParsedJws, type PublicKey } from './jws.js'
import type { Nonces } from './nonces.js'
import { malformed, Problem, unauthorized } from './problem.js'
import type { SignedQuery } from './reply.js'
import type { Account, Resources } from './resources.js'

/** The error that makes a client try again with another nonce. */
export function badNonce(): Problem {
  return new Problem('badNonce', 400, 'the anti-replay nonce is not known, or has been used')
}

/** Verifies a request body in the order in which Boulder does: algorithm, key, signature, nonce, URL. @throws `Problem` */
export function authenticate(
  body: string,
  request: { readonly kind: RequestKind; readonly url: string; readonly segments: readonly string[] },
  resources: Resources,
  nonces: Nonces,
): SignedQuery {
  const jws = parseJws(body)
  checkAlgorithm(jws)
  const { account, publicKey } = signer(jws, request.kind, resources)
  verifyJws(jws, publicKey)
  if (jws.nonce === undefined || !nonces.spend(jws.nonce)) throw badNonce()
  if (jws.url !== request.url) throw malformed('the "url" of the JWS is not the URL of the request')
  return { method: 'POST', url: request.url, segments: request.segments, payload: jws.payload, account, publicKey }
}

function signer(
  { jwk, keyId }: ParsedJws,
  kind: RequestKind,
  resources: Resources,
): { account: Account | undefined; publicKey: PublicKey } {
  if (jwk !== undefined) {
    if (kind !== 'newAccount' && kind !== 'revokeCert') throw malformed('this request must be signed with "kid"')
    return { account: undefined, publicKey: importJwk(jwk) }
  }
  if (kind === 'newAccount') throw malformed('newAccount must be signed with "jwk"')
  const account = keyId === undefined ? undefined : resources.accounts.get(keyId)
  if (account === undefined) throw new Problem('accountDoesNotExist', 400, 'there is no account at the URL of "kid"')
  if (account.status !== 'valid') throw unauthorized(`the account is ${account.status}`)
  return { account, publicKey: account.publicKey }
}
