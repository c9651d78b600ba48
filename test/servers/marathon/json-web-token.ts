/**
 * RS256 tokens: those that services log in with, and those that DC/OS issues. RFC 7519.
 */
import { createHmac, createPublicKey, timingSafeEqual, verify, type KeyObject } from 'node:crypto'

export interface Claims {
  readonly uid?: unknown
  readonly exp?: unknown
  readonly [claim: string]: unknown
}

/** The claims of a token that the key has signed; `undefined` for any other text. Says nothing about `exp`. */
export function verifiedClaims(token: string, publicKeyPem: string): Claims | undefined {
  const key: KeyObject = createPublicKey(publicKeyPem)
  return claimsIf(token, 'RS256', (signed, signature) => verify('sha256', signed, key, signature))
}

/** An HS256 token, as the open DC/OS issues them. */
export function issuedToken(claims: Claims, secret: Buffer): string {
  const signed = [{ typ: 'JWT', alg: 'HS256' }, claims].map(encode).join('.')
  return `${signed}.${mac(signed, secret).toString('base64url')}`
}

/** The claims of a token made with {@link issuedToken}. */
export function issuedClaims(token: string, secret: Buffer): Claims | undefined {
  return claimsIf(token, 'HS256', (signed, signature) => {
    const expected = mac(signed.toString(), secret)
    return expected.length === signature.length && timingSafeEqual(expected, signature)
  })
}

function claimsIf(
  token: string,
  algorithm: string,
  isSigned: (signed: Buffer, signature: Buffer) => boolean,
): Claims | undefined {
  const parts = token.split('.')
  if (parts.length !== 3) return undefined
  const [header = '', claims = '', signature = ''] = parts
  try {
    if (decode(header)['alg'] !== algorithm) return undefined
    if (!isSigned(Buffer.from(`${header}.${claims}`), Buffer.from(signature, 'base64url'))) return undefined
    return decode(claims)
  } catch {
    return undefined
  }
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

function decode(part: string): Claims {
  return JSON.parse(Buffer.from(part, 'base64url').toString()) as Claims
}

function mac(signed: string, secret: Buffer): Buffer {
  return createHmac('sha256', secret).update(signed).digest()
}
