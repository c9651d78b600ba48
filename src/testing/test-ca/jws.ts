/**
 * Reads and verifies signed requests, strictly. RFC 7515, RFC 8555 section 6.2.
 *
 * @module
 */
import {
  constants,
  createHash,
  createHmac,
  createPublicKey,
  timingSafeEqual,
  verify,
  type KeyObject,
} from 'node:crypto'
import { keyWeakness } from './certificate-request.js'
import { malformed, Problem, unauthorized } from './problem.js'

/** A JWS that has been taken apart but not verified. */
export interface ParsedJws {
  readonly algorithm: string
  readonly url: string
  readonly nonce: string | undefined
  /** Exactly one of these two is present. */
  readonly jwk: object | undefined
  readonly keyId: string | undefined
  readonly payload: Buffer
  /** What is signed: `protected "." payload`. */
  readonly signingInput: string
  readonly signature: Buffer
}

/** An account or certificate key. */
export interface PublicKey {
  readonly key: KeyObject
  /** RFC 7638, SHA-256, base64url. */
  readonly thumbprint: string
}

const algorithms = ['ES256', 'ES384', 'RS256'] as const

/** Takes apart a flattened JWS. @throws {@link Problem} `malformed` */
export function parseJws(text: string): ParsedJws {
  const jws = jsonObject(text, 'the request body')
  if ('header' in jws || 'signatures' in jws) throw malformed('only the flattened JWS serialization without "header"')
  const protectedText = member(jws, 'protected')
  const payloadText = member(jws, 'payload')
  const header = jsonObject(base64url(protectedText, 'protected').toString('utf8'), 'the protected header')
  const { jwk, nonce } = header
  const keyId = header['kid']
  if ((jwk === undefined) === (keyId === undefined)) throw malformed('exactly one of "jwk" and "kid" must be present')
  if (jwk !== undefined && (typeof jwk !== 'object' || jwk === null)) throw malformed('"jwk" must be an object')
  if (keyId !== undefined && typeof keyId !== 'string') throw malformed('"kid" must be a string')
  if (nonce !== undefined && typeof nonce !== 'string') throw malformed('"nonce" must be a string')
  if ('crit' in header || 'b64' in header) throw malformed('JWS extensions are not supported')
  return {
    algorithm: member(header, 'alg'),
    url: member(header, 'url'),
    nonce,
    jwk: jwk ?? undefined,
    keyId,
    payload: base64url(payloadText, 'payload'),
    signingInput: `${protectedText}.${payloadText}`,
    signature: base64url(member(jws, 'signature'), 'signature'),
  }
}

/** Reads a JWK of a kind that a public CA takes. @throws {@link Problem} `badPublicKey` */
export function importJwk(jwk: object): PublicKey {
  if ('d' in jwk) throw new Problem('badPublicKey', 400, 'the JWK holds a private key')
  let key: KeyObject
  try {
    key = createPublicKey({ key: { ...jwk }, format: 'jwk' })
  } catch {
    throw new Problem('badPublicKey', 400, 'the JWK is not a public key')
  }
  const weakness = keyWeakness(key)
  if (weakness !== undefined) throw new Problem('badPublicKey', 400, weakness)
  return { key, thumbprint: thumbprint(key) }
}

function thumbprint(key: KeyObject): string {
  const { crv, e, kty, n, x, y } = key.export({ format: 'jwk' })
  // Lexical order of the members that RFC 7638 section 3.2 asks for; absent ones are left out by JSON.
  return createHash('sha256').update(JSON.stringify({ crv, e, kty, n, x, y })).digest('base64url')
}

/** Refuses what no key could make good. @throws {@link Problem} `badSignatureAlgorithm` */
export function checkAlgorithm({ algorithm }: ParsedJws): void {
  if (algorithms.some((supported) => supported === algorithm)) return
  throw new Problem('badSignatureAlgorithm', 400, `"alg" ${algorithm} is not supported`, { algorithms })
}

/** Checks algorithm and signature. @throws {@link Problem} `badSignatureAlgorithm`, or `malformed` for a bad signature */
export function verifyJws(jws: ParsedJws, { key }: PublicKey): void {
  const expected = algorithmOf(key)
  if (jws.algorithm !== expected) {
    throw new Problem('badSignatureAlgorithm', 400, `"alg" ${jws.algorithm} does not go with the key`, { algorithms })
  }
  const hash = expected === 'ES384' ? 'sha384' : 'sha256'
  const how =
    expected === 'RS256'
      ? ({ key, padding: constants.RSA_PKCS1_PADDING } as const)
      : ({ key, dsaEncoding: 'ieee-p1363' } as const)
  if (!verify(hash, Buffer.from(jws.signingInput), how, jws.signature)) throw malformed('the JWS signature is wrong')
}

function algorithmOf(key: KeyObject): (typeof algorithms)[number] {
  if (key.asymmetricKeyType === 'rsa') return 'RS256'
  return key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'ES384' : 'ES256'
}

/**
 * Checks an external account binding: HMAC by the external account's key over the account key. RFC 8555 section 7.3.4.
 *
 * @returns The external key identifier.
 * @throws {@link Problem}
 */
export function verifyExternalBinding(options: {
  readonly binding: unknown
  readonly accountKey: PublicKey
  readonly newAccountUrl: string
  readonly keys: ReadonlyMap<string, Buffer>
}): string {
  const { binding, accountKey, newAccountUrl, keys } = options
  const jws = parseJws(JSON.stringify(binding))
  const hash = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' }[jws.algorithm]
  if (hash === undefined) throw malformed('the external account binding must be signed with HS256, HS384 or HS512')
  if (jws.nonce !== undefined) throw malformed('the external account binding must not have a nonce')
  if (jws.url !== newAccountUrl) throw malformed('the external account binding is for another URL')
  if (jws.keyId === undefined) throw malformed('the external account binding must have a "kid"')
  const key = keys.get(jws.keyId)
  if (key === undefined) throw unauthorized('the external account is not known')
  const mac = createHmac(hash, key).update(jws.signingInput).digest()
  if (mac.length !== jws.signature.length || !timingSafeEqual(mac, jws.signature)) {
    throw unauthorized('the external account binding is signed with another key')
  }
  const boundKey = importJwk(jsonObject(jws.payload.toString('utf8'), 'the external account binding'))
  if (boundKey.thumbprint !== accountKey.thumbprint) throw malformed('the external account binding binds another key')
  return jws.keyId
}

/** Parses text that must be a JSON object. @throws {@link Problem} `malformed` */
export function jsonObject(text: string, what: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw malformed(`${what} is not JSON`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(`${what} is not an object`)
  return value as Record<string, unknown>
}

/** Decodes base64url as RFC 8555 section 6.1 wants it: unpadded, nothing else between. */
export function base64url(text: string, what: string): Buffer {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) throw malformed(`"${what}" is not unpadded base64url`)
  return Buffer.from(text, 'base64url')
}

function member(object: Record<string, unknown>, name: string): string {
  const value = object[name]
  if (typeof value !== 'string') throw malformed(`"${name}" must be a string`)
  return value
}
