/**
 * One Marathon behind several addresses: which one is asked, where redirects may lead, and who is told our credentials.
 *
 * @module
 */
import { CertError, HttpError } from '../../errors.js'
import type { HttpStream } from '../../internal/http.js'
import type { Authentication, LoginContext } from './authorization.js'
import { isRecord } from './marathon-app.js'
import { MarathonDeployError, type MarathonFailure } from './marathon-error.js'

/** One request to Marathon. */
export interface MarathonRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** With query; below a configured URL. */
  readonly path: string
  readonly body?: Readonly<Record<string, unknown>> | undefined
}

/** An answer of Marathon, whatever its status. */
export interface MarathonAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** What the JSON says; `undefined` for anything else. */
  readonly data: unknown
}

/** Sends requests to whichever URL answers. */
export interface MarathonTransport {
  send(request: MarathonRequest): Promise<MarathonAnswer>
  /** An event stream, or the reason why there is none as a status. */
  stream(path: string, timeoutMs: number, signal: AbortSignal): Promise<HttpStream>
}

/** Which URL has answered last: asked first the next time. Shared by all operations of a deployer. */
export interface Masters {
  readonly urls: readonly string[]
  preferred: number
}

/** Parts of {@link marathonTransport}. */
export interface TransportParts {
  readonly masters: Masters
  readonly authentication: Authentication
  readonly context: LoginContext
}

const mostRedirects = 5
/** An app of a thousand tasks, each with its status. */
const maxAnswerBytes = 8_388_608
/** A server that is no leader, and cannot find one; a proxy without anybody behind it. */
const elsewhere = new Set([502, 503, 504])
/** The request cannot have arrived. */
const neverSent = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'])

const hostAndPort = /^(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/

interface Wire {
  readonly headers: Readonly<Record<string, string>>
  readonly status: number
}

/** Makes a {@link MarathonTransport} for one operation. */
export function marathonTransport({ masters, authentication, context }: TransportParts): MarathonTransport {
  const { http, signal, deployer } = context
  const failure = (reason: MarathonFailure, message: string, cause?: unknown): MarathonDeployError =>
    new MarathonDeployError({ deployer, reason, message, cause })

  /** Asks one URL after the other, beginning with the one that answered last. */
  async function fromAny<Answer extends Wire>(
    repeatable: boolean,
    ask: (base: string) => Promise<Answer>,
  ): Promise<Answer> {
    const { urls } = masters
    let leaderless: Answer | undefined
    let lastError: HttpError | undefined
    const first = masters.preferred
    for (let offset = 0; offset < urls.length; offset += 1) {
      const index = (first + offset) % urls.length
      try {
        const answer = await ask(urls[index] ?? '')
        if (!elsewhere.has(answer.status)) {
          masters.preferred = index
          return answer
        }
        leaderless = answer
        // What a change has come to is not known: whoever sent it looks first.
        if (!repeatable) return answer
      } catch (error) {
        signal.throwIfAborted()
        if (!(error instanceof HttpError)) throw error
        lastError = error
        if (!repeatable && !isNeverSent(error)) throw unreachable(error)
      }
    }
    if (leaderless !== undefined) return leaderless
    throw unreachable(lastError)
  }

  function unreachable(cause: HttpError | undefined): MarathonDeployError {
    const others = masters.urls.length > 1 ? `none of ${String(masters.urls.length)} URLs answers, the last: ` : ''
    return failure('unreachable', `${others}${cause?.message ?? 'nobody answers'}`, cause)
  }

  /** With the credentials, and once more with new ones when these are refused. */
  async function authenticated<Answer extends Wire>(
    send: (headers: Readonly<Record<string, string>>) => Promise<Answer>,
  ): Promise<Answer> {
    for (let renewed = false; ; renewed = true) {
      const header = await authentication.header(context)
      const answer = await send(header === undefined ? {} : { authorization: header })
      if (answer.status !== 401 || header === undefined || renewed || !authentication.forget(header)) return answer
    }
  }

  /** Follows redirects by hand: `fetch` would drop the credentials, and take them nowhere is safer than anywhere. */
  async function followed<Answer extends Wire>(
    base: string,
    path: string,
    sendTo: (url: string) => Promise<Answer>,
  ): Promise<Answer> {
    let url = base + path
    for (let hops = 0; ; hops += 1) {
      const answer = await sendTo(url)
      const location = answer.headers['location']
      if (![301, 302, 307, 308].includes(answer.status) || location === undefined) return answer
      if (hops === mostRedirects)
        throw failure('redirected', `more than ${String(mostRedirects)} redirects from ${base}`)
      url = await permitted(location, url, base)
    }
  }

  /**
   * A redirect may lead to a configured host, or to the leader that the configured URL itself announces, and never from
   * https to http. Whoever can make a proxy redirect elsewhere gets neither the credentials nor the key in the body.
   */
  async function permitted(location: string, from: string, base: string): Promise<string> {
    const target = URL.canParse(location, from) ? new URL(location, from) : undefined
    if (target === undefined || !/^https?:$/.test(target.protocol)) {
      throw failure('redirected', `${base} redirects to something that is no URL`)
    }
    target.hash = ''
    target.username = ''
    target.password = ''
    const { protocol } = new URL(base)
    const origins = masters.urls.map((url) => new URL(url).origin)
    if (origins.includes(target.origin) && (protocol === 'http:' || target.protocol === 'https:')) return target.href
    const sameScheme = target.protocol === protocol
    if (sameScheme && (await announcedLeader(base)) === target.host) return target.href
    const where = `${target.origin}${target.pathname.slice(0, 100)}`
    throw failure(
      'redirected',
      `${base} redirects to ${where}, which gets no credentials; if this is your Marathon, add it to the option "urls"`,
    )
  }

  /** `host:port` of the leader as Marathon itself names it; ports that belong to a scheme are left out, as in a URL. */
  async function announcedLeader(base: string): Promise<string | undefined> {
    const answer = await authenticated((headers) => exchange(`${base}/v2/leader`, { method: 'GET', path: '' }, headers))
    const leader = isRecord(answer.data) ? answer.data['leader'] : undefined
    const known = typeof leader === 'string' && hostAndPort.test(leader)
    const address = known ? `${new URL(base).protocol}//${leader}` : ''
    return URL.canParse(address) ? new URL(address).host : undefined
  }

  async function exchange(
    url: string,
    { method, body }: MarathonRequest,
    headers: Readonly<Record<string, string>>,
  ): Promise<MarathonAnswer> {
    const response = await http.request({
      url,
      method,
      headers: {
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal,
      maxBodyBytes: maxAnswerBytes,
    })
    return { status: response.status, headers: response.headers, data: readJson(response.text()) }
  }

  return {
    send(request) {
      return fromAny(request.method === 'GET', (base) =>
        followed(base, request.path, (url) => authenticated((headers) => exchange(url, request, headers))),
      )
    },
    stream(path, timeoutMs, until) {
      return fromAny(true, (base) =>
        followed(base, path, (url) =>
          authenticated(async (headers) => {
            const wanted = { accept: 'text/event-stream', ...headers }
            const stream = await http.stream({ url, method: 'GET', headers: wanted, signal: until, timeoutMs })
            if (stream.status !== 200) stream.cancel()
            return stream
          }),
        ),
      )
    },
  }
}

function isNeverSent(error: HttpError): boolean {
  const { cause } = error
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' && neverSent.has(cause.code)
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

/** Whether an error may have left something done. */
export function isUnsure(error: unknown): boolean {
  return error instanceof MarathonDeployError && error.reason === 'unreachable' && CertError.isInstance(error.cause)
}
