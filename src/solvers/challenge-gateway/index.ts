/**
 * http-01 for several balancers behind one name, each with a certificate of its own.
 *
 * Sub-path export `'evercert/solvers/challenge-gateway'`.
 *
 * @module
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { systemClock, type Clock } from '../../core/clock.js'
import { boundLogger, silentLogger, type Logger } from '../../core/logger.js'
import { coalesce } from '../../internal/coalesce.js'
import { withDeadline } from '../../internal/deadline.js'
import { createHttpClient, type FetchFunction } from '../../internal/http.js'
import { assertDuration, assertMethod, assertNumber, assertOneOf, assertOptions } from '../../internal/options.js'
import { version } from '../../internal/version.js'
import type { ChallengeSource } from '../challenge-source.js'
import { isKeyAuthorization } from '../http-challenge.js'
import { requestTarget } from '../http-request.js'
import { atMostEvery } from './at-most-every.js'
import { parsePeers, parseThumbprints } from './fleet-options.js'
import { decideGatewayRequest, type GatewayRequest } from './gateway-request.js'
import { formatOpenChallenges, openChallengesPath, peerChallenges } from './peer-challenges.js'
import { strictServer } from './strict-server.js'

export type { ChallengeSource, OpenChallenge } from '../challenge-source.js'
export { webrootChallenges, type WebrootChallengesOptions } from './webroot-challenges.js'

/** What goes wrong with every request is logged this often. */
const logPaceMs = 10_000
/** How long the challenges of this machine are looked through before the peers are asked as well. */
const headStartMs = 250

/** Options of {@link challengeGateway}. */
export interface ChallengeGatewayOptions {
  /** What this machine has open: {@link webrootChallenges}, an `httpResponder`, or a `storeResponder` (which needs no peers). */
  readonly challenges: ChallengeSource
  /**
   * The peer ports of the other gateways: IP address and port, `192.0.2.12:31080` or `[2001:db8::12]:31080`. Names are not
   * taken, so that whoever controls DNS cannot send this gateway elsewhere. Its own address may be among them.
   *
   * @defaultValue none
   */
  readonly peers?: readonly string[] | undefined
  /**
   * RFC 7638 thumbprints of the accounts whose challenges are served, from every source; those of all others are not. Each
   * gateway's is in `await issuer.account(context)`.
   *
   * @defaultValue all accounts
   */
  readonly accountThumbprints?: readonly string[] | undefined
  /**
   * What becomes of requests for anything else: `'redirect'` to https, or `'leave'` them to the caller.
   *
   * @defaultValue `'redirect'`
   */
  readonly elsewhere?: 'redirect' | 'leave' | undefined
  /** Port of the redirect. @defaultValue 443 */
  readonly httpsPort?: number | undefined
  /**
   * How long a peer, or `challenges`, may take, in milliseconds; CAs give up after about 10 seconds. A peer that did not
   * answer last time is waited for half a second.
   *
   * @defaultValue 8_000 (8 seconds)
   */
  readonly timeoutMs?: number | undefined
  /** Connections at once of each server; for one more the oldest is closed. @defaultValue 1_000 */
  readonly maxConnections?: number | undefined
  /** Is told when a peer falls silent, and when it is back. @defaultValue silent */
  readonly logger?: Logger | undefined
  /** @defaultValue the machine's clock */
  readonly clock?: Clock | undefined
  /** Asks the peers, instead of undici. */
  readonly fetch?: FetchFunction | undefined
}

/** Answers http-01 for a fleet. */
export interface ChallengeGateway {
  /**
   * For `node:http`, Express and Connect, on the port that the CA reaches. With `elsewhere: 'leave'` other requests go to
   * `next`, or get a 404 where there is none.
   */
  readonly requestListener: (request: IncomingMessage, response: ServerResponse, next?: () => void) => void
  /** The same for servers that speak `fetch`; `undefined`: not for it, and left to the caller. */
  readonly fetch: (request: Request) => Promise<Response | undefined>
  /**
   * For the port that only peers reach: tells them what is open here, and answers for local challenges only. It never asks
   * anybody, so that no question can go in a circle.
   */
  readonly peerListener: (request: IncomingMessage, response: ServerResponse) => void
  /**
   * A server with {@link ChallengeGateway.requestListener}; host `'::'` serves IPv4 and IPv6. Give `listen` a `backlog` above
   * Node's 511: of more connections that come at once, those that the system drops try again after seconds. Close it
   * yourself.
   */
  createServer(): Server
  /** A server with {@link ChallengeGateway.peerListener}; listen on a private address. Close it yourself. */
  createPeerServer(): Server
  /** Ends questions to peers that are under way, and closes the connections. */
  close(): Promise<void>
}

/**
 * Lets several balancers behind one name each obtain a certificate of its own: whichever of them the CA comes to answers
 * for the one that placed the order.
 *
 * It looks among its own challenges, then asks all peers at once; the first valid answer wins. A peer that is down, slow or
 * wrong costs the others nothing. Peers are asked what they have open, not for a token: a flood of unknown tokens makes no
 * more than forty questions a second, and nothing of a request leaves the machine.
 *
 * @example
 *
 * ```ts
 * import { challengeGateway, webrootChallenges } from 'evercert/solvers/challenge-gateway'
 * import { webrootSolver } from 'evercert/solvers/webroot'
 *
 * const directory = '/var/lib/evercert/webroot'
 * const solver = webrootSolver({ directory }) // for the issuer on this machine
 * const gateway = challengeGateway({
 *   challenges: webrootChallenges({ directory }),
 *   peers: ['192.0.2.12:31080', '192.0.2.13:31080'],
 *   accountThumbprints: ['NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs'], // of every balancer
 * })
 * gateway.createServer().listen({ port: 80, host: '::', backlog: 4_096 })
 * gateway.createPeerServer().listen(31080, '192.0.2.11')
 * ```
 *
 * @remarks
 * Peers speak plain http: keep their port on a private network. A peer can make the CA believe what it likes about a name
 * that leads to it anyway; `accountThumbprints` keeps it from doing so for an account of its own through this machine.
 *
 * @param options - See {@link ChallengeGatewayOptions}. Validated and copied.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555.html#section-8.3 | RFC 8555 section 8.3, HTTP Challenge}
 */
export function challengeGateway(options: ChallengeGatewayOptions): ChallengeGateway {
  assertOptions(options, optionNames, 'challengeGateway')
  const { challenges, elsewhere = 'redirect', httpsPort = 443, timeoutMs = 8_000, maxConnections = 1_000 } = options
  for (const method of ['findChallenge', 'listChallenges']) assertMethod(challenges, method, 'challenges')
  assertOneOf(elsewhere, 'elsewhere', ['redirect', 'leave'])
  assertNumber(httpsPort, 'httpsPort', { min: 1, max: 65_535, integer: true })
  assertDuration(timeoutMs, 'timeoutMs')
  assertNumber(maxConnections, 'maxConnections', { min: 1, max: 100_000, integer: true })
  const thumbprints = parseThumbprints(options.accountThumbprints)
  const clock = options.clock ?? systemClock
  const logger = boundLogger(options.logger ?? silentLogger, { solver: 'challenge-gateway' })
  const http = createHttpClient({
    clock,
    userAgent: `evercert/${version}`,
    fetch: options.fetch,
    timeoutMs,
    allowHttp: true,
  })
  const closed = new AbortController()
  const peers = parsePeers(options.peers ?? []).map((origin) =>
    peerChallenges({ origin, http, clock, logger, timeoutMs, closed: closed.signal }),
  )
  const redirectTo = elsewhere === 'redirect' ? httpsPort : undefined

  /** Whoever guesses tokens must not fill the log. */
  const sayForeign = atMostEvery(logPaceMs, clock, (token: string) => {
    logger.warn('challenge of a foreign account is not served', { token })
  })
  const sayUnreadable = atMostEvery(logPaceMs, clock, (error: unknown) => {
    logger.error('challenges of this machine cannot be read', { error })
  })
  const sayFailed = atMostEvery(logPaceMs, clock, (error: unknown) => {
    logger.error('request failed', { error })
  })

  const served = (keyAuthorization: string | undefined, token: string): string | undefined => {
    if (keyAuthorization === undefined || !isKeyAuthorization(keyAuthorization, token)) return undefined
    if (thumbprints?.has(keyAuthorization.slice(token.length + 1)) === false) {
      sayForeign(token)
      return undefined
    }
    return keyAuthorization
  }

  /** A source that hangs, as a store may, or a peer must not hang the request. */
  const bounded = <Result>(signal: AbortSignal, run: (inner: AbortSignal) => Promise<Result>): Promise<Result> => {
    const onTimeout = (): Error => new Error(`no answer within ${String(timeoutMs)} ms`)
    return withDeadline({ clock, signal, ms: timeoutMs, onTimeout }, run)
  }

  const findHere = async (host: string, token: string, signal: AbortSignal): Promise<string | undefined> => {
    try {
      return served(await challenges.findChallenge(host, token, { signal, clock, logger }), token)
    } catch (error) {
      if (!signal.aborted) sayUnreadable(error)
      return undefined
    }
  }

  const find = async (host: string, token: string, signal: AbortSignal): Promise<string | undefined> => {
    const here = findHere(host, token, signal)
    if (peers.length === 0) return here
    // What is found here needs no question; a disk that hangs must not keep the peers from being asked.
    const ended = new AbortController()
    const headStart = clock.sleep(headStartMs, { signal: ended.signal }).catch(() => undefined)
    const found = await Promise.race([here, headStart])
    ended.abort(ended)
    return found ?? firstFound([here, ...peers.map(async (peer) => served(await peer.find(host, token), token))])
  }

  const answer = async (
    request: GatewayRequest,
    lookUp: typeof find,
    port: number | undefined,
    signal: AbortSignal,
  ): Promise<Answer | undefined> => {
    const decision = decideGatewayRequest(request, port)
    switch (decision.action) {
      case 'leave':
        return undefined
      case 'refuse':
        return { status: decision.status, headers: decision.status === 405 ? { allow: 'GET, HEAD' } : {}, body: '' }
      case 'redirect':
        return { status: decision.status, headers: { location: decision.location }, body: '' }
      case 'look-up': {
        const { host, token } = decision
        const body = await bounded(signal, (inner) => lookUp(host, token, inner)).catch((error: unknown) => {
          signal.throwIfAborted()
          sayFailed(error)
          return undefined
        })
        if (body === undefined) return { status: 404, headers: {}, body: '' }
        return { status: 200, headers: { 'content-type': 'application/octet-stream' }, body }
      }
    }
  }

  const listen =
    (run: (request: GatewayRequest, signal: AbortSignal) => Promise<Answer | undefined>) =>
    (request: IncomingMessage, response: ServerResponse, next?: () => void): void => {
      const gone = new AbortController()
      response.once('close', () => {
        gone.abort(new Error('the client has gone'))
      })
      const method = request.method ?? ''
      run({ method, ...requestTarget(request) }, gone.signal).then(
        (answered) => {
          if (response.destroyed) return
          if (answered === undefined && next !== undefined) next()
          else send(response, method, answered ?? { status: 404, headers: {}, body: '' })
        },
        (error: unknown) => {
          if (gone.signal.aborted) return
          sayFailed(error)
          send(response, method, { status: 500, headers: {}, body: '' })
        },
      )
    }

  const requestListener = listen((request, signal) => answer(request, find, redirectTo, signal))

  // A directory is read once for all who ask meanwhile.
  const list = coalesce(async () =>
    formatOpenChallenges(
      await bounded(closed.signal, (signal) => challenges.listChallenges({ signal, clock, logger })),
    ),
  )
  const listOpen = async (method: string, signal: AbortSignal): Promise<Answer> => {
    if (method !== 'GET' && method !== 'HEAD') return { status: 405, headers: { allow: 'GET, HEAD' }, body: '' }
    return { status: 200, headers: { 'content-type': 'application/json' }, body: await list(signal) }
  }
  const peerListener = listen(async (request, signal) =>
    request.path === openChallengesPath
      ? listOpen(request.method, signal)
      : answer(request, findHere, undefined, signal),
  )

  return {
    requestListener,
    async fetch(request) {
      const { host, pathname, search } = new URL(request.url)
      const { method, signal } = request
      const answered = await answer({ method, authority: host, path: pathname + search }, find, redirectTo, signal)
      if (answered === undefined) return undefined
      const { status, headers, body } = withCommonHeaders(answered)
      return new Response(method === 'HEAD' ? null : body, { status, headers })
    },
    peerListener: (request, response) => {
      peerListener(request, response)
    },
    createServer: () => strictServer(requestListener, maxConnections),
    createPeerServer: () => strictServer(peerListener, maxConnections),
    async close() {
      closed.abort(new Error('the gateway was closed'))
      await http.close()
    },
  }
}

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

function withCommonHeaders({ status, headers, body }: Answer): Answer {
  const common = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }
  return { status, headers: { ...common, ...headers, 'content-length': String(Buffer.byteLength(body)) }, body }
}

function send(response: ServerResponse, method: string, answer: Answer): void {
  const { status, headers, body } = withCommonHeaders(answer)
  response.writeHead(status, headers).end(method === 'HEAD' ? '' : body)
}

/** The first value that is not `undefined`; `undefined` when there is none. Nobody waits for the others. */
async function firstFound<Value>(searches: readonly Promise<Value | undefined>[]): Promise<Value | undefined> {
  const found = searches.map(async (search) => (await search) ?? Promise.reject(new Error('not found')))
  return Promise.any(found).catch(() => undefined)
}

const optionNames = [
  'challenges',
  'peers',
  'accountThumbprints',
  'elsewhere',
  'httpsPort',
  'timeoutMs',
  'maxConnections',
  'logger',
  'clock',
  'fetch',
] as const
