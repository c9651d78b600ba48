/**
 * What a request for a challenge says: read as sent, and believed only as far as its alphabet.
 *
 * @module
 */
import type { IncomingMessage } from 'node:http'
import { isIPv6 } from 'node:net'

/** Authority and path as sent; in the absolute form the authority there wins over `Host`. RFC 9112 section 3.2.2. */
export function requestTarget(request: IncomingMessage): {
  readonly authority: string | undefined
  readonly path: string
} {
  const url = request.url ?? ''
  const absolute = url.startsWith('/') ? null : /^https?:\/\/([^/?#]+)(\/.*)$/i.exec(url)
  if (absolute !== null) return { authority: absolute[1], path: absolute[2] ?? '' }
  const pseudoHeader = request.headers[':authority']
  return { authority: typeof pseudoHeader === 'string' ? pseudoHeader : request.headers.host, path: url }
}

/**
 * `Host` without port, as an identifier spells it; `undefined` when it is malformed. A browser that was rebound to this
 * machine sends another name, and gets nothing.
 */
export function hostOf(authority: string): string | undefined {
  if (authority.length > 300) return undefined
  const bracketed = /^\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?$/.exec(authority)?.[1]
  if (bracketed !== undefined)
    return isIPv6(bracketed) ? new URL(`http://[${bracketed}]/`).hostname.slice(1, -1) : undefined
  const named = /^([A-Za-z0-9._-]+?)\.?(?::\d{1,5})?$/.exec(authority)?.[1]
  return named?.toLowerCase()
}
