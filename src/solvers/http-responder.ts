/**
 * http-01 challenges answered by the HTTP server the service already has.
 *
 * Sub-path export `'evercert/solvers/http-responder'`.
 *
 * @module
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ChallengeError } from '../errors.js'
import { assertNumber, assertOptions, assertText } from '../internal/options.js'
import type { ChallengeSolver } from './challenge-solver.js'
import type { ChallengeSource } from './challenge-source.js'
import { challengePathPrefix, isChallengeToken } from './http-challenge.js'
import { hostOf, requestTarget } from './http-request.js'
import { parseZones } from './zones.js'

/** Options of {@link httpResponder}. */
export interface HttpResponderOptions {
  /** DNS zones this solver is for. @defaultValue every name */
  readonly zones?: readonly string[] | undefined
  /** Needed when several of these are in one issuer. @defaultValue `'http-01/http-responder'` */
  readonly name?: string | undefined
  /** Challenges that may be open at once; one more fails. From 1 to 1,000,000. @defaultValue 10_000 */
  readonly maxChallenges?: number | undefined
}

/** A solver that is also a request handler, and a source for `challengeGateway`. */
export interface HttpResponder extends ChallengeSolver<'http-01'>, ChallengeSource {
  /**
   * For `node:http`, `node:https`, `node:http2` (compatibility API), Express and Connect, mounted at the root.
   *
   * @returns `true` when it has answered; `false` when the request is not for it and is untouched.
   */
  readonly requestListener: (request: IncomingMessage, response: ServerResponse) => boolean
  /**
   * For servers that speak `fetch` (Hono, Deno, Bun).
   *
   * @returns The answer; `undefined` when the request is not for it.
   */
  readonly fetch: (request: Request) => Response | undefined
}

/**
 * A http-01 solver that answers from the caller's own server.
 *
 * It answers a request only when path and `Host` are exactly those of an open challenge. Everything else, unknown tokens
 * included, is left to the caller: put your own routes, or another responder, behind it. The CA always comes to port 80
 * (a redirect to https is followed), whatever the port of the server behind it.
 *
 * @example
 *
 * ```ts
 * import { createServer } from 'node:http'
 * import { httpResponder } from 'evercert/solvers/http-responder'
 *
 * const responder = httpResponder()
 * createServer((request, response) => {
 *   if (responder.requestListener(request, response)) return
 *   response.writeHead(404).end()
 * }).listen(80)
 * ```
 *
 * @remarks
 * Open challenges are in the memory of this process: with several replicas behind one name, put `challengeGateway` in front
 * of it, or use `storeResponder`.
 *
 * @param options - See {@link HttpResponderOptions}. Validated and copied.
 * @returns A solver named `http-01/http-responder`. `present` fails with `ChallengeError` `ERR_CHALLENGE_FAILED` when too
 *   many challenges are open.
 * @throws `TypeError` if an option is unknown or out of range.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555.html#section-8.3 | RFC 8555 section 8.3, HTTP Challenge}
 */
export function httpResponder(options: HttpResponderOptions = {}): HttpResponder {
  assertOptions(options, ['zones', 'name', 'maxChallenges'], 'httpResponder')
  const { name = 'http-01/http-responder', maxChallenges = 10_000 } = options
  assertText(name, 'name', 100)
  assertNumber(maxChallenges, 'maxChallenges', { min: 1, max: 1_000_000, integer: true })
  const zones = parseZones(options.zones)
  const keyAuthorizations = new Map<string, string>()

  const answer = (method: string, authority: string | undefined, path: string): Answer | undefined => {
    // Before any work on the Host: most requests of a server end here.
    if (!path.startsWith(challengePathPrefix)) return undefined
    const host = authority === undefined ? undefined : hostOf(authority)
    if (host === undefined) return undefined
    const body = keyAuthorizations.get(entryKey(host, path.slice(challengePathPrefix.length)))
    if (body === undefined) return undefined
    const headers = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }
    if (method !== 'GET' && method !== 'HEAD') {
      // Closed, because the body of the request is not read.
      return {
        status: 405,
        headers: { ...headers, allow: 'GET, HEAD', 'content-length': '0', connection: 'close' },
        body: '',
      }
    }
    return {
      status: 200,
      headers: { ...headers, 'content-type': 'application/octet-stream', 'content-length': String(body.length) },
      body: method === 'HEAD' ? '' : body,
    }
  }

  return {
    name,
    type: 'http-01',
    ...(zones === undefined ? {} : { zones }),

    async present({ identifier, token, keyAuthorization }, { signal }) {
      signal.throwIfAborted()
      const refuse = (reason: string): never => {
        throw new ChallengeError({
          code: 'ERR_CHALLENGE_FAILED',
          message: `${name}: cannot answer a challenge for ${identifier.value}: ${reason}`,
          retryable: true,
          solver: name,
          identifier,
          phase: 'present',
        })
      }
      if (!isChallengeToken(token)) return refuse('the CA sent a malformed token')
      const key = entryKey(identifier.value, token)
      const present = keyAuthorizations.get(key)
      if (present === keyAuthorization) return
      if (present !== undefined) return refuse('another account has an open challenge with the same token')
      if (keyAuthorizations.size >= maxChallenges) {
        return refuse(`${String(maxChallenges)} challenges are open already; raise "maxChallenges" if that is intended`)
      }
      keyAuthorizations.set(key, keyAuthorization)
    },

    async cleanUp({ identifier, token, keyAuthorization }, { signal }) {
      signal.throwIfAborted()
      const key = entryKey(identifier.value, token)
      if (keyAuthorizations.get(key) === keyAuthorization) keyAuthorizations.delete(key)
    },

    findChallenge: (host, token) => Promise.resolve(keyAuthorizations.get(entryKey(host, token))),

    listChallenges: () =>
      Promise.resolve(
        [...keyAuthorizations].map(([key, keyAuthorization]) => {
          const slash = key.indexOf('/')
          return { host: key.slice(0, slash), token: key.slice(slash + 1), keyAuthorization }
        }),
      ),

    requestListener(request, response) {
      const target = requestTarget(request)
      const answered = answer(request.method ?? '', target.authority, target.path)
      if (answered === undefined) return false
      response.writeHead(answered.status, answered.headers).end(answered.body)
      return true
    },

    fetch(request) {
      const { host, pathname, search } = new URL(request.url)
      const answered = answer(request.method, host, pathname + search)
      if (answered === undefined) return undefined
      const { status, headers, body } = answered
      return new Response(body, { status, headers })
    },
  }
}

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** Neither a host nor a token has a slash. */
function entryKey(host: string, token: string): string {
  return `${host}/${token}`
}
