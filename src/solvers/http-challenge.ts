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
