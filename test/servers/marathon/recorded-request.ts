/**
 * What a client has sent, with its credentials replaced by digests: they can be compared, and nobody reads them in the
 * output of a failing test.
 */
import { createHash } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'

export interface RecordedRequest {
  /** Which node it came to. */
  readonly node: number
  readonly method: string
  /** Without the query. */
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  /** `authorization` and `cookie` are {@link credentialDigest}s. */
  readonly headers: IncomingHttpHeaders
  readonly body: string
  /** What it was answered with, or would have been had the reply not been lost. */
  readonly status: number | undefined
  /** The action of the fault rule that was applied. */
  readonly fault: string | undefined
}

/** As in `sha256:1f3a...`. */
export function credentialDigest(credential: string): string {
  return `sha256:${createHash('sha256').update(credential).digest('hex').slice(0, 16)}`
}

export function redactedHeaders(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const { authorization, cookie } = headers
  return {
    ...headers,
    ...(authorization === undefined ? {} : { authorization: credentialDigest(authorization) }),
    ...(cookie === undefined ? {} : { cookie: credentialDigest(cookie) }),
  }
}

/** The body of a login without what it proves itself with. */
export function redactedLogin(body: string): string {
  return body.replace(/("(?:token|password)"\s*:\s*")([^"]*)"/g, (_, start: string, credential: string) => {
    return `${start}${credentialDigest(credential)}"`
  })
}
