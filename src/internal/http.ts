/**
 * The HTTP client for everything evercert talks to: bounded in time and size, cancellable, and silent about secrets.
 *
 * @module
 */
import type { Agent, fetch as undiciFetch, RequestInit as UndiciRequestInit } from 'undici'
import type { Clock } from '../core/clock.js'
import { HttpError } from '../errors.js'
import { anySignal } from './any-signal.js'
import { assertCertificates } from './certificates-option.js'
import { withDeadline } from './deadline.js'
import {
  assertBoolean,
  assertDuration,
  assertFunction,
  assertHttpsUrl,
  assertNumber,
  assertOptions,
  assertText,
} from './options.js'

/** `fetch`, or something that behaves like it. */
export type FetchFunction = typeof globalThis.fetch

/** Options of {@link createHttpClient}. */
export interface HttpClientOptions {
  readonly clock: Clock
  /** The `User-Agent` of every request. RFC 8555 section 6.1. */
  readonly userAgent: string
  /**
   * Sends the requests instead of undici, with whatever proxy, trust and connections it has.
   *
   * @defaultValue `fetch` of undici, with connections and trust of its own for each client
   */
  readonly fetch?: FetchFunction | undefined
  /**
   * PEM certificates that are trusted instead of the roots that come with Node. Not together with `fetch`.
   *
   * @defaultValue the roots that come with Node
   */
  readonly ca?: string | undefined
  /** What a person sets to trust another root, for messages. @defaultValue `'the "ca" option'` */
  readonly caSetting?: string | undefined
  /** For servers that ask who the client is. Not together with `fetch`. */
  readonly clientCertificate?: { readonly certificatePem: string; readonly privateKeyPem: string } | undefined
  /** The name the certificate of the server must have. Not together with `fetch`. @defaultValue that of the URL */
  readonly servername?: string | undefined
  /** From sending a request until the last byte of its answer, in milliseconds. @defaultValue 30_000 (30 seconds) */
  readonly timeoutMs?: number | undefined
  /** Longest answer, decoded, in bytes. @defaultValue 1_048_576 (1 MiB) */
  readonly maxBodyBytes?: number | undefined
  /** Accepts `http:` to a loopback address: for tests. @defaultValue false */
  readonly allowLoopbackHttp?: boolean | undefined
  /** Accepts `http:` to any address: inside a cluster that has nothing else. @defaultValue false */
  readonly allowHttp?: boolean | undefined
}

/** One request. */
export interface HttpRequest {
  readonly url: string
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly body?: string | Uint8Array | undefined
  readonly signal: AbortSignal
  /** @defaultValue that of the client */
  readonly clock?: Clock | undefined
  /** @defaultValue that of the client */
  readonly timeoutMs?: number | undefined
  /** @defaultValue that of the client */
  readonly maxBodyBytes?: number | undefined
}

/** An answer, whatever its status: redirects are not followed, and 4xx and 5xx are no errors here. */
export interface HttpResponse {
  readonly status: number
  /** Lower-case names; several lines of one name are joined with `, `. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  /** The body as UTF-8. */
  text(): string
  /** What was asked for. */
  readonly url: string
}

/** An answer that is read while it comes. */
export interface HttpStream {
  readonly status: number
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  /** Ends with the answer, and rejects as `request` does. Leaving the loop closes the connection. */
  readonly chunks: AsyncIterable<Uint8Array>
  /** For whoever does not want to read it. */
  cancel(): void
}

/** Sends requests over connections that are kept alive and shared. */
export interface HttpClient {
  /**
   * @throws `HttpError` with `ERR_HTTP_NETWORK` (no connection, no trust, cut off), `ERR_HTTP_TIMEOUT` or
   *   `ERR_HTTP_BODY` (answer too long); the reason of `signal`, as it is, when that aborts.
   */
  request(request: HttpRequest): Promise<HttpResponse>
  /**
   * Resolves with the status line and headers; the time limit is for these. The body goes on until `signal` aborts, and is
   * not limited here.
   *
   * @throws as `request`
   */
  stream(request: Omit<HttpRequest, 'maxBodyBytes'>): Promise<HttpStream>
  /** Waits for what is under way, then closes the connections. Idle ones do not keep the process alive. */
  close(): Promise<void>
}

type Dispatch = (url: string, init: RequestInit) => Promise<Response>

/** Makes an {@link HttpClient}. @throws `TypeError` if an option is missing, unknown or out of range. */
export function createHttpClient(options: HttpClientOptions): HttpClient {
  assertOptions(
    options,
    [
      'clock',
      'userAgent',
      'fetch',
      'ca',
      'caSetting',
      'clientCertificate',
      'servername',
      'timeoutMs',
      'maxBodyBytes',
      'allowLoopbackHttp',
      'allowHttp',
    ],
    'createHttpClient',
  )
  const { clock, userAgent, fetch, ca, caSetting = 'the "ca" option', clientCertificate, servername } = options
  const { timeoutMs = 30_000, maxBodyBytes = 1_048_576, allowLoopbackHttp = false, allowHttp = false } = options
  assertText(userAgent, 'userAgent', 200)
  assertDuration(timeoutMs, 'timeoutMs')
  assertNumber(maxBodyBytes, 'maxBodyBytes', { min: 1, max: 1_073_741_824, integer: true })
  assertBoolean(allowLoopbackHttp, 'allowLoopbackHttp')
  assertBoolean(allowHttp, 'allowHttp')
  if (fetch !== undefined) assertFunction(fetch, 'fetch')
  if (ca !== undefined) assertTrustAnchors(ca, fetch)
  const connections = fetch === undefined ? pooledConnections({ ca, clientCertificate, servername }) : undefined
  const dispatch: Dispatch = connections?.dispatch ?? (async (url, init) => (fetch as FetchFunction)(url, init))

  /** What every exchange has in common. Nothing is sent yet. */
  function begin(request: HttpRequest) {
    const { url, method, signal } = request
    signal.throwIfAborted()
    const target = `${method} ${withoutQuery(url)}`
    const failure = (code: HttpError['code'], reason: string, more: { cause?: unknown; retryable?: boolean } = {}) =>
      new HttpError({ code, message: `${target}: ${reason}`, method, url: withoutQuery(url), ...more })
    try {
      assertHttpsUrl(url, 'url', allowHttp ? 'anywhere' : allowLoopbackHttp)
    } catch {
      throw failure('ERR_HTTP_NETWORK', 'only https URLs without credentials and fragment are used', {
        retryable: false,
      })
    }
    const ms = request.timeoutMs ?? timeoutMs
    const onTimeout = (): Error => failure('ERR_HTTP_TIMEOUT', `no complete answer within ${String(ms)} ms`)
    const explain = (error: unknown): never => {
      const reason = networkReason(error, caSetting)
      throw failure('ERR_HTTP_NETWORK', reason.text, { cause: reason.cause })
    }
    const send = (until: AbortSignal): Promise<Response> =>
      dispatch(url, {
        method,
        // identity: what is counted against the limit is what is on the wire.
        headers: { 'user-agent': userAgent, 'accept-encoding': 'identity', ...request.headers },
        ...(request.body === undefined ? {} : { body: request.body as RequestInit['body'] & {} }),
        redirect: 'manual',
        signal: until,
      }).catch(explain)
    return { failure, explain, send, deadline: { clock: request.clock ?? clock, signal, ms, onTimeout } }
  }

  return {
    async request(request) {
      const exchange = begin(request)
      const limitBytes = request.maxBodyBytes ?? maxBodyBytes
      return withDeadline(exchange.deadline, async (inner) => {
        const response = await exchange.send(inner)
        const body = await readBody(response, limitBytes).catch(exchange.explain)
        if (body === undefined) {
          throw exchange.failure('ERR_HTTP_BODY', `the answer is longer than ${String(limitBytes)} bytes`)
        }
        await connections?.settle()
        return {
          status: response.status,
          headers: Object.fromEntries(response.headers),
          body,
          text: () => body.toString('utf8'),
          url: request.url,
        }
      })
    },
    async stream(request) {
      const exchange = begin(request)
      const { response, until } = await withDeadline(exchange.deadline, async (inner) => {
        // The deadline is over with the headers; what comes after them is ended by the signal of the request alone.
        const until = anySignal(request.signal, inner)
        try {
          return { response: await exchange.send(until.signal), until }
        } catch (error) {
          until.end()
          throw error
        }
      })
      if (response.body === null) until.end()
      return {
        status: response.status,
        headers: Object.fromEntries(response.headers),
        chunks: chunksOf(response, request.signal, exchange.explain, until.end),
        cancel() {
          until.end()
          void response.body?.cancel().catch(() => undefined)
        },
      }
    },
    async close() {
      await connections?.close()
    },
  }
}

/** undici is loaded by the first request: whoever only imports evercert, or brings a `fetch`, does not pay for it. */
function pooledConnections(tls: Pick<HttpClientOptions, 'ca' | 'clientCertificate' | 'servername'>): {
  readonly dispatch: Dispatch
  settle(): Promise<void>
  close(): Promise<void>
} {
  const { ca, clientCertificate, servername } = tls
  // Remembered with the module: resolving an import anew costs more than a request does.
  let opened: Promise<{ readonly fetch: typeof undiciFetch; readonly agent: Agent }> | undefined
  const open = async (): Promise<{ readonly fetch: typeof undiciFetch; readonly agent: Agent }> => {
    const undici = await import('undici')
    const agent = new undici.Agent({
      connections: 16,
      // Time limits are ours, by the injected clock.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: {
        timeout: 0,
        autoSelectFamily: true,
        ...(ca === undefined ? {} : { ca }),
        ...(servername === undefined ? {} : { servername }),
        ...(clientCertificate === undefined
          ? {}
          : { cert: clientCertificate.certificatePem, key: clientCertificate.privateKeyPem }),
      },
    })
    return { fetch: undici.fetch, agent }
  }
  return {
    async dispatch(url, init) {
      const { fetch, agent } = await (opened ??= open())
      // Same shapes, declared twice: by Node for its global fetch and by undici for its own.
      return fetch(url, { ...(init as unknown as UndiciRequestInit), dispatcher: agent })
    },
    /** undici frees a connection one turn after the answer: asked sooner, it opens a second one. */
    settle: () => new Promise((resolve) => setImmediate(resolve)),
    async close() {
      await (await opened)?.agent.close()
    },
  }
}

async function* chunksOf(
  response: Response,
  signal: AbortSignal,
  explain: (error: unknown) => never,
  onEnd: () => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (response.body === null) return
  const reader = response.body.getReader() as ReadableStreamDefaultReader<Uint8Array>
  // An injected fetch may have forgotten the signal by now; a read that is pending ends with the stream.
  const onAbort = (): void => void reader.cancel().catch(() => undefined)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    for (;;) {
      signal.throwIfAborted()
      const { done, value } = await reader.read().catch((error: unknown) => {
        signal.throwIfAborted()
        return explain(error)
      })
      signal.throwIfAborted()
      if (done) return
      yield value
    }
  } finally {
    signal.removeEventListener('abort', onAbort)
    onEnd()
    onAbort()
  }
}

/** The body, or `undefined` as soon as it is longer than `limit`; the connection is closed then. */
async function readBody(response: Response, limit: number): Promise<Buffer | undefined> {
  if (response.body === null) return Buffer.alloc(0)
  const reader = response.body.getReader() as ReadableStreamDefaultReader<Uint8Array>
  const chunks: Uint8Array[] = []
  let length = 0
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return Buffer.concat(chunks, length)
    length += value.byteLength
    if (length > limit) {
      void reader.cancel().catch(() => undefined)
      return undefined
    }
    chunks.push(value)
  }
}

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'the connection was refused; is the server running, and is the port right?',
  ECONNRESET: 'the connection was reset',
  EPIPE: 'the connection was closed',
  UND_ERR_SOCKET: 'the connection was closed before the answer was complete',
  ENOTFOUND: 'the host name is not known',
  EAI_AGAIN: 'the host name could not be looked up at the moment',
  ETIMEDOUT: 'the connection timed out',
  EHOSTUNREACH: 'there is no route to the host',
  ENETUNREACH: 'there is no route to the network',
  CERT_HAS_EXPIRED: 'the certificate of the server has expired',
  CERT_NOT_YET_VALID: 'the certificate of the server is not valid yet; is the clock of this machine right?',
  // Only a client certificate is read when a connection opens; roots are checked before.
  ERR_OSSL_PEM_NO_START_LINE: 'the client certificate and its key are no pair',
  ERR_OSSL_UNSUPPORTED: 'the client certificate and its key are no pair',
  ERR_OSSL_X509_KEY_VALUES_MISMATCH: 'the client certificate and its key are no pair',
  ERR_TLS_CERT_ALTNAME_INVALID: 'the certificate of the server is for another name',
}
const untrusted = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
])

/**
 * What a person can act on, from the innermost error that has a code. Only name and code of the original are kept: an
 * injected `fetch` may hang the request, headers and body included, on the errors it throws.
 */
function networkReason(error: unknown, caSetting: string): { readonly text: string; readonly cause: Error } {
  let code: string | undefined
  let name = 'Error'
  for (let at = error, depth = 0; at instanceof Error && depth < 8; depth += 1) {
    if (/^\w{1,60}$/.test(at.name)) name = at.name
    if ('code' in at && typeof at.code === 'string' && /^[A-Z][A-Z0-9_]{2,60}$/.test(at.code)) code = at.code
    // Several addresses were tried: the first failure stands for all.
    at = at instanceof AggregateError && at.errors.length > 0 ? (at.errors[0] as unknown) : at.cause
  }
  const known = code === undefined ? undefined : reasons[code]
  const trust = `the certificate of the server is not trusted; pass the root it ends in as ${caSetting}`
  const text = code !== undefined && untrusted.has(code) ? trust : (known ?? 'the request failed')
  const shown = `${text} (${code ?? name})`
  return { text: shown, cause: Object.assign(new Error(shown), code === undefined ? {} : { code }) }
}

function assertTrustAnchors(ca: string, fetch: FetchFunction | undefined): void {
  if (fetch !== undefined) throw new TypeError('"ca" option has no effect together with "fetch"; give only one of them')
  // Node passes over what it cannot read, and then trusts nobody.
  assertCertificates(ca, 'ca')
}

/** Origin and path: queries may hold secrets. */
function withoutQuery(url: string): string {
  if (!URL.canParse(url)) return 'an unreadable URL'
  const { protocol, host, pathname } = new URL(url)
  return `${protocol}//${host}${pathname.slice(0, 500)}`
}
