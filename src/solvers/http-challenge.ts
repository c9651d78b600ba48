/**
 * What all http-01 solvers know about RFC 8555 section 8.3.
 *
 * @module
 */

/** Where every http-01 challenge lives. */
export const challengePathPrefix = '/.well-known/acme-challenge/'

/** One path segment without any meaning to a file system, a URL or a shell. */
export function isChallengeToken(token: string): boolean {
  return /^[A-Za-z0-9_-]{1,512}$/.test(token)
}

/** Token, dot, and the thumbprint of an account key: base64url of a SHA-256. RFC 8555 section 8.1, RFC 7638. */
export function isKeyAuthorization(text: string, token: string): boolean {
  return text.length === token.length + 44 && text.startsWith(`${token}.`) && isThumbprint(text.slice(-43))
}

/** RFC 7638 with SHA-256. */
export function isThumbprint(text: string): boolean {
  return /^[A-Za-z0-9_-]{43}$/.test(text)
}
