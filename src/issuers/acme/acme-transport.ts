/**
 * Between acme-client and the network: acme-client signs, everything that goes over the wire is ours. The only importer
 * of acme-client, whose version is pinned because of the members used here.
 *
 * @module
 */
import { Client } from 'acme-client'
import { systemClock, type Clock } from '../../core/clock.js'
import type { OperationContext } from '../../core/context.js'
import type { Random } from '../../core/random.js'
import { HttpError } from '../../errors.js'
import { createHttpClient, type FetchFunction, type HttpClient, type HttpResponse } from '../../internal/http.js'
import { parseRetryAfter } from '../../internal/retry-after.js'
import { singleFlight } from '../../internal/single-flight.js'
import { version } from '../../internal/version.js'
import type { AccountKey } from './account-key.js'
import { linkTargets } from './link-header.js'
import { noncePool } from './nonce-pool.js'
import { problemError, protocolError, readProblem } from './problem.js'
import { resourceReader, type AcmeDirectory, type ResourceReader } from './resources.js'

/** Options of {@link acmeTransport}. */
export interface AcmeTransportOptions {
  readonly directoryUrl: string
  readonly externalAccountBinding: { readonly kid: string; readonly hmacKey: string } | undefined
  readonly fetch: FetchFunction | undefined
  readonly ca: string | undefined
  readonly userAgent: string | undefined
  readonly requestTimeoutMs: number
  readonly allowLoopbackHttp: boolean
}

/** What a request needs of an operation. */
export interface RequestContext extends OperationContext {
  readonly random: Random
}

/** A request of any kind. */
interface RequestParts {
  readonly url: string
  /** What is being done, for messages: `new order for www.example.com`. */
  readonly what: string
  readonly orderUrl?: string | undefined
}

/** A signed request. RFC 8555 section 6.2. */
export interface SignedRequest extends RequestParts {
  /** `null`: POST-as-GET. */
  readonly payload: Readonly<Record<string, unknown>> | null
  /** Account URL; without it the request carries the public key. */
  readonly account: string | undefined
  /**
   * Whether it may be sent again when its answer was lost. Otherwise only what the CA surely turned away is.
   */
  readonly repeatable: boolean
  /** Whether the account is to be bound to an external one. RFC 8555 section 7.3.4. @defaultValue false */
  readonly bindExternalAccount?: boolean | undefined
  /** @defaultValue 'json' */
  readonly answer?: 'json' | 'chain' | 'any' | undefined
  /**
   * Whether its answer is waited for, within the time-out of a request, also after an abort: only the answer says where
   * to find what the CA has made.
   *
   * @defaultValue false
   */
  readonly uninterrupted?: boolean | undefined
}

/** An answer with a status below 300. */
export interface AcmeReply {
  readonly status: number
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  /** What the JSON says; `undefined` for other types. */
  readonly data: unknown
  readonly text: string
  readonly retryAt: Date | undefined
  readonly roundTripMs: number
}

/** Talks to one CA. */
export interface AcmeTransport {
  readonly read: ResourceReader
  /** Cached for a day; asked once for everybody who waits. */
  directory(context: RequestContext): Promise<AcmeDirectory>
  /** Unauthenticated GET. */
  get(request: RequestParts, context: RequestContext): Promise<AcmeReply>
  /** @throws a typed error for every status from 300 */
  signer(key: AccountKey): AcmeSigner
  close(): Promise<void>
}

/** Sends requests signed with one key. */
export interface AcmeSigner {
  send(request: SignedRequest, context: RequestContext): Promise<AcmeReply>
  /** A JWS without nonce, with the public key in its header: the inner one of a key change. RFC 8555 section 7.3.5. */
  sign(url: string, payload: Readonly<Record<string, unknown>>): object
}

/** The members of acme-client 5.4.0 that are used, none of which is in its types. */
interface AcmeClientHttp {
  accountKey: unknown
  jwk: unknown
  maxBadNonceRetries: number
  getNonce: () => Promise<string>
  request: (url: string, method: string, options: { readonly data?: object }) => Promise<AcmeReply>
  signedRequest(
    url: string,
    payload: object | null,
    options: { readonly kid: string | null; readonly includeExternalAccountBinding: boolean },
  ): Promise<AcmeReply>
  createSignedBody(url: string, payload: object): object
}

const maxJsonBytes = 64 * 1024
const maxChainBytes = 100_000
const directoryMaxAgeMs = 86_400_000
/** With half of all nonces refused, one request in 2^60 gives up; with nine tenths, one in 500. */
const maxNonceRetries = 60
const maxTries = 3
/** A longer wait belongs to the scheduler. */
const maxRetryWaitMs = 10_000
const noncePattern = /^[A-Za-z0-9_-]{1,512}$/
const jsonType = /^application\/(?:[a-z0-9.-]+\+)?json *(?:;|$)/i

/** Makes an {@link AcmeTransport}. No request is sent before one is needed. */
export function acmeTransport(options: AcmeTransportOptions): AcmeTransport {
  const { directoryUrl, requestTimeoutMs, allowLoopbackHttp } = options
  const userAgent = [options.userAgent, `evercert/${version}`, `node/${process.versions.node}`]
    .filter(Boolean)
    .join(' ')
  const httpClients = new Map<Clock, HttpClient>()
  // Made at once for its checks of the options.
  httpClient(systemClock)
  const read = resourceReader(allowLoopbackHttp)
  const nonces = noncePool()
  const directoryFlight = singleFlight<AcmeDirectory>()
  let cached: { readonly directory: AcmeDirectory; readonly at: number } | undefined

  const transport: AcmeTransport = {
    read,
    async directory(context) {
      const age = cached === undefined ? undefined : Math.abs(context.clock.now() - cached.at)
      if (cached !== undefined && age !== undefined && age <= directoryMaxAgeMs) return cached.directory
      return directoryFlight(context.signal, async (signal) => {
        const what = `directory ${directoryUrl}`
        const reply = await transport.get({ url: directoryUrl, what }, { ...context, signal })
        const directory = read.directory(reply.data, what)
        cached = { directory, at: context.clock.now() }
        return directory
      })
    },
    get: (request, context) => {
      const send = (): Promise<AcmeReply> => exchange('GET', request.url, undefined, 'json', context)
      return withRetries({ ...request, repeatable: true, answer: 'json' }, context, send)
    },
    signer,
    async close() {
      await Promise.all([...httpClients.values()].map((client) => client.close()))
    },
  }
  return transport

  function signer(key: AccountKey): AcmeSigner {
    const client = new Client({
      directoryUrl,
      // The key follows as a parsed object: acme-client would parse the PEM for every request.
      accountKey: Buffer.alloc(0),
      ...(options.externalAccountBinding === undefined
        ? {}
        : { externalAccountBinding: { ...options.externalAccountBinding } }),
    })
    const http = (client as unknown as { readonly http: AcmeClientHttp }).http
    http.accountKey = key.privateKey
    http.jwk = key.jwk
    http.maxBadNonceRetries = maxNonceRetries
    return {
      send(request, context) {
        const { url, payload, account, answer = 'json' } = request
        // Each request is sent through an object of its own that inherits from the client's, so that it has its own
        // signal, clock and limits.
        const bound: AcmeClientHttp = Object.assign(Object.create(http) as AcmeClientHttp, {
          getNonce: () => nonces.take(context.clock, context.signal, (signal) => newNonce({ ...context, signal })),
          request: async (target: string, _method: string, { data }: { readonly data?: object }) => {
            context.signal.throwIfAborted()
            const signal = request.uninterrupted === true ? new AbortController().signal : context.signal
            return exchange('POST', target, JSON.stringify(data), answer, { ...context, signal })
          },
        })
        return withRetries(request, context, () =>
          bound.signedRequest(url, payload === null ? null : { ...payload }, {
            kid: account ?? null,
            includeExternalAccountBinding: request.bindExternalAccount ?? false,
          }),
        )
      },
      sign: (url, payload) => http.createSignedBody(url, payload),
    }
  }

  async function newNonce(context: RequestContext): Promise<string> {
    const { newNonce: url } = await transport.directory(context)
    const what = 'new nonce'
    const send = (): Promise<AcmeReply> => exchange('HEAD', url, undefined, 'any', context)
    const reply = await withRetries({ url, what, repeatable: true, answer: 'any' }, context, send)
    const nonce = replayNonce(reply.headers)
    if (nonce === undefined) throw protocolError(what, 'the answer has no usable Replay-Nonce header')
    return nonce
  }

  /** One request, one answer, whatever its status. Nonces of answers to signed requests go into the pool. */
  async function exchange(
    method: 'GET' | 'HEAD' | 'POST',
    url: string,
    body: string | undefined,
    answer: 'json' | 'chain' | 'any',
    context: RequestContext,
  ): Promise<AcmeReply> {
    const started = context.clock.now()
    const response = await httpClient(context.clock).request({
      url,
      method,
      headers: {
        'accept-language': 'en',
        ...(answer === 'chain' ? { accept: 'application/pem-certificate-chain' } : {}),
        ...(body === undefined ? {} : { 'content-type': 'application/jose+json' }),
      },
      body,
      signal: context.signal,
      maxBodyBytes: answer === 'chain' ? maxChainBytes : maxJsonBytes,
    })
    const now = context.clock.now()
    const data = readJson(response)
    const nonce = method === 'POST' ? replayNonce(response.headers) : undefined
    // The nonce of a badNonce answer is for the repetition of that request.
    if (nonce !== undefined && !isBadNonce(response.status, data)) nonces.put(nonce, context.clock)
    context.logger.debug('acme request', { method, url, status: response.status, durationMs: now - started })
    return {
      status: response.status,
      headers: response.headers,
      data,
      text: response.text(),
      retryAt: parseRetryAfter(response.headers['retry-after'], now),
      roundTripMs: Math.max(0, now - started),
    }
  }

  /** Sends again what may be sent again, with a fresh nonce, and makes errors of what is no success. */
  async function withRetries(
    request: RequestParts & Pick<SignedRequest, 'repeatable' | 'answer'>,
    context: RequestContext,
    send: () => Promise<AcmeReply>,
  ): Promise<AcmeReply> {
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await attemptOnce(request, context, send)
      if ('reply' in outcome) return outcome.reply
      const waitMs = attempt === maxTries || !outcome.again ? undefined : retryWait(outcome.retryAt, attempt, context)
      if (waitMs === undefined) throw outcome.error
      context.logger.debug('acme request is repeated', { what: request.what, attempt, waitMs })
      await context.clock.sleep(waitMs, { signal: context.signal })
    }
  }

  async function attemptOnce(
    request: RequestParts & Pick<SignedRequest, 'repeatable' | 'answer'>,
    context: RequestContext,
    send: () => Promise<AcmeReply>,
  ): Promise<
    | { readonly reply: AcmeReply }
    | { readonly error: unknown; readonly again: boolean; readonly retryAt?: Date | undefined }
  > {
    const { url, what, orderUrl, repeatable, answer = 'json' } = request
    let reply
    try {
      reply = await send()
    } catch (error) {
      // A time-out has used up the time of all tries.
      const lost = error instanceof HttpError && error.code === 'ERR_HTTP_NETWORK' && error.retryable
      return { error, again: repeatable && lost && !context.signal.aborted }
    }
    const { status, headers, data, retryAt } = reply
    if (status < 300) {
      if (answer !== 'json' || data !== undefined) return { reply }
      return { error: protocolError(what, 'the answer is not JSON'), again: false }
    }
    if (status < 400)
      return { error: protocolError(what, 'the answer is a redirect, which ACME has not'), again: false }
    if (status === 404 && cached !== undefined && Object.values(cached.directory).includes(url)) cached = undefined
    const [termsOfServiceUrl] = linkTargets(headers['link'], 'terms-of-service', url)
    const now = context.clock.now()
    const error = problemError({ what, status, problem: readProblem(data), retryAt, now, orderUrl, termsOfServiceUrl })
    const turnedAway = (status === 429 || status === 503) && retryAt !== undefined
    return { error, again: turnedAway || (repeatable && status >= 500), retryAt }
  }

  function httpClient(clock: Clock): HttpClient {
    let client = httpClients.get(clock)
    if (client === undefined) {
      const { fetch, ca } = options
      client = createHttpClient({ clock, userAgent, fetch, ca, timeoutMs: requestTimeoutMs, allowLoopbackHttp })
      httpClients.set(clock, client)
    }
    return client
  }
}

/** How long to wait before the next try; `undefined` when that is too long. Jitter only adds. */
function retryWait(retryAt: Date | undefined, attempt: number, { clock, random }: RequestContext): number | undefined {
  const asked = retryAt === undefined ? 0 : retryAt.getTime() - clock.now()
  if (asked > maxRetryWaitMs) return undefined
  const least = Math.max(asked, 500 * 2 ** attempt)
  return Math.ceil(least * (1 + random() / 4))
}

function readJson(response: HttpResponse): unknown {
  if (!jsonType.test(response.headers['content-type'] ?? '')) return undefined
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(response.body)) as unknown
  } catch {
    // Told as "not JSON", unless the status says more.
    return undefined
  }
}

function isBadNonce(status: number, data: unknown): boolean {
  return status === 400 && readProblem(data)?.type === 'urn:ietf:params:acme:error:badNonce'
}

function replayNonce(headers: Readonly<Record<string, string>>): string | undefined {
  const nonce = headers['replay-nonce']
  return nonce !== undefined && noncePattern.test(nonce) ? nonce : undefined
}
