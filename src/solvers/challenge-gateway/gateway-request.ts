/**
 * What a gateway does with a request: a decision, and nothing else.
 *
 * @module
 */
import { challengePathPrefix, isChallengeToken } from '../http-challenge.js'
import { hostOf } from '../http-request.js'

/** What is to be done. */
export type GatewayDecision =
  | { readonly action: 'look-up'; readonly host: string; readonly token: string }
  | { readonly action: 'redirect'; readonly status: 301 | 308; readonly location: string }
  | { readonly action: 'refuse'; readonly status: 400 | 404 | 405 }
  /** Not a challenge, and not redirected: the caller's. */
  | { readonly action: 'leave' }

/** A request as it came. */
export interface GatewayRequest {
  readonly method: string
  /** `Host`, or the authority of the absolute form. */
  readonly authority: string | undefined
  /** With its query. */
  readonly path: string
}

/**
 * Decides. A request for anything but a well-formed token never becomes a look-up, and a request for a challenge is never
 * redirected: what is not known is not known on https either.
 *
 * @param httpsPort - where everything else is redirected to; `undefined`: it is left to the caller
 */
export function decideGatewayRequest(request: GatewayRequest, httpsPort: number | undefined): GatewayDecision {
  const { method, authority, path } = request
  const host = authority === undefined ? undefined : hostOf(authority)
  if (path.startsWith(challengePathPrefix)) {
    if (method !== 'GET' && method !== 'HEAD') return { action: 'refuse', status: 405 }
    const token = path.slice(challengePathPrefix.length)
    if (host === undefined) return { action: 'refuse', status: 400 }
    return isChallengeToken(token) ? { action: 'look-up', host, token } : { action: 'refuse', status: 404 }
  }
  if (httpsPort === undefined) return { action: 'leave' }
  if (host === undefined || !/^\/[\x21-\x7e]*$/.test(path)) return { action: 'refuse', status: 400 }
  const name = host.includes(':') ? `[${host}]` : host
  const port = httpsPort === 443 ? '' : `:${String(httpsPort)}`
  // 301 lets clients turn POST into GET; 308 does not.
  const status = method === 'GET' || method === 'HEAD' ? 301 : 308
  return { action: 'redirect', status, location: `https://${name}${port}${path}` }
}
