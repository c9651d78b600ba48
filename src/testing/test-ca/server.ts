/**
 * HTTP: sockets, bodies, the headers of every reply, and what faults do to them. RFC 8555 section 6.
 *
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { systemClock, type Clock } from '../../core/clock.js'
import { authenticate, badNonce } from './authenticate.js'
import type { DueFaults, FaultAction, FaultInjector } from './faults.js'
import type { RequestKind, RequestRecord } from './journal.js'
import type { Nonces } from './nonces.js'
import { malformed, notFound, Problem } from './problem.js'
import { problemReply, type QueryOperation, type Reply, type SignedOperation } from './reply.js'
import type { Resources, Urls } from './resources.js'
import type { IssuingAuthority } from './test-authority.js'

/** What the server answers with, by kind of request. */
export interface Operations {
  readonly queries: Readonly<Partial<Record<RequestKind, QueryOperation>>>
  readonly signed: Readonly<Partial<Record<RequestKind, SignedOperation>>>
}

/** A server that listens. */
export interface Listener {
  readonly server: Server
  readonly base: string
}

/** Key and certificate of the server itself. */
export interface ServerIdentity {
  readonly keyPem: string
  readonly certificatePem: string
}

/** What the plumbing works with. */
export interface ServerParts {
  readonly clock: Clock
  readonly urls: Urls
  readonly operations: Operations
  readonly resources: Resources
  readonly nonces: Nonces
  readonly faults: FaultInjector
  readonly authority: IssuingAuthority
  /** Grows with each request. */
  readonly journal: RequestRecord[]
  readonly closing: AbortSignal
}

/** The longest request body. An order of 100 names needs less than a tenth of it. */
const longestBody = 131_072

const kinds = new Map<string, RequestKind>([
  ['directory', 'directory'],
  ['new-nonce', 'newNonce'],
  ['new-account', 'newAccount'],
  ['new-order', 'newOrder'],
  ['authorization', 'authorization'],
  ['challenge', 'challenge'],
  ['order', 'order'],
  ['finalize', 'finalize'],
  ['certificate', 'certificate'],
  ['renewal-info', 'renewalInfo'],
  ['revoke-cert', 'revokeCert'],
  ['key-change', 'keyChange'],
  ['account', 'account'],
])

/** Listens on a free port of 127.0.0.1, whose number the URLs of the resources need. Nothing is answered yet. */
export async function listen(identity: ServerIdentity | undefined): Promise<Listener> {
  const server =
    identity === undefined ? createServer() : createTlsServer({ key: identity.keyPem, cert: identity.certificatePem })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      server.off('error', reject)
      resolve()
    })
  })
  // Longer than a test pauses: a connection that closes just as a client writes to it looks like a fault.
  server.keepAliveTimeout = 60_000
  const { port } = server.address() as AddressInfo
  return { server, base: `${identity === undefined ? 'http' : 'https'}://127.0.0.1:${String(port)}` }
}

/** Answers the requests of a server. */
export function serve(server: Server, parts: ServerParts): void {
  server.on('request', (request, response) => {
    answer(request, response, parts).catch(() => {
      // The client went away, or the CA is being closed.
      response.destroy()
    })
  })
}

async function answer(request: IncomingMessage, response: ServerResponse, parts: ServerParts): Promise<void> {
  const { faults, journal, clock, closing } = parts
  const { method = 'GET', url: path = '/' } = request
  const [name = '', ...segments] = path.slice(1).split('/')
  const kind = kinds.get(name) ?? 'unknown'
  const record: { -readonly [Name in keyof RequestRecord]: RequestRecord[Name] } = {
    method,
    path,
    kind,
    status: undefined,
    at: new Date(clock.now()),
  }
  journal.push(record)
  const { delays, action } = faults.due(record)
  for (const delay of delays) await realDelay(delay, closing)
  if (action?.type === 'drop-before') {
    request.socket.destroy()
    return
  }
  const reply = await replyTo(request, { method, path, kind, segments }, action, parts)
  if (action?.type === 'drop-after') {
    request.socket.destroy()
    return
  }
  record.status = reply.status
  await send(response, method, reply, action, parts)
}

interface RoutedRequest {
  readonly method: string
  readonly path: string
  readonly kind: RequestKind
  readonly segments: readonly string[]
}

async function replyTo(
  request: IncomingMessage,
  routed: RoutedRequest,
  action: DueFaults['action'],
  parts: ServerParts,
): Promise<Reply> {
  if (action?.type === 'status') {
    const { status, headers = {}, body = 'answered before the CA\n' } = action
    request.resume()
    return { status, headers: { 'content-type': 'text/plain', ...lowerCased(headers) }, body }
  }
  const reply = withFault(await perform(request, routed, action, parts), action, parts)
  const { kind, method } = routed
  const index = kind === 'directory' ? [] : [`<${parts.urls.directory}>;rel="index"`]
  const fresh = method === 'POST' || kind === 'newNonce' ? { 'replay-nonce': parts.nonces.next() } : {}
  const link = [reply.headers['link'] ?? [], index].flat()
  return {
    ...reply,
    headers: { 'cache-control': 'no-store', ...reply.headers, ...(link.length > 0 ? { link } : {}), ...fresh },
  }
}

/** Every error becomes a problem document here. */
async function perform(
  request: IncomingMessage,
  routed: RoutedRequest,
  action: DueFaults['action'],
  parts: ServerParts,
): Promise<Reply> {
  const { kind, method, path, segments } = routed
  const url = parts.urls.of(path)
  try {
    const body = method === 'POST' ? await readBody(request) : ''
    // RFC 8555 section 6.1: clients MUST send one.
    if (!request.headers['user-agent']) throw malformed('there is no User-Agent')
    const query = parts.operations.queries[kind]
    const signed = parts.operations.signed[kind]
    if (query === undefined && signed === undefined) throw notFound('there is nothing at this URL')
    if (query !== undefined && (method === 'GET' || method === 'HEAD')) {
      refuseBy(action)
      return query({ method, url, segments })
    }
    // RFC 8555 section 6.3: these two can be had by GET and by POST-as-GET.
    const answer = signed ?? (kind === 'directory' || kind === 'newNonce' ? query : undefined)
    if (method !== 'POST' || answer === undefined) {
      const headers = { allow: signed === undefined ? 'GET, HEAD' : 'POST' }
      throw new Problem('malformed', 405, `${method} is not possible here`, { headers })
    }
    if (request.headers['content-type'] !== 'application/jose+json') {
      throw new Problem('malformed', 415, 'the content type must be application/jose+json')
    }
    const authenticated = authenticate(body, { kind, url, segments }, parts.resources, parts.nonces)
    refuseBy(action)
    if (signed === undefined && authenticated.payload.length > 0) {
      throw malformed('POST-as-GET must have an empty payload')
    }
    return answer(authenticated)
  } catch (error) {
    if (error instanceof Problem) return problemReply(error)
    if (request.destroyed && !request.complete) throw error
    return problemReply(new Problem('serverInternal', 500, `the test CA failed: ${String(error)}`))
  }
}

/** Faults in the name of the CA itself. */
function refuseBy(action: DueFaults['action']): void {
  if (action?.type === 'bad-nonce') throw badNonce()
  if (action?.type !== 'problem') return
  const { problemType, status, detail = 'the test asked for this problem', retryAfter, subproblems } = action
  const headers = {
    ...lowerCased(action.headers ?? {}),
    ...(retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }),
  }
  throw new Problem(problemType, status, detail, { headers, subproblems })
}

function withFault(reply: Reply, action: DueFaults['action'], { authority }: ServerParts): Reply {
  if (action?.type === 'replace-body') {
    const { body, contentType } = action
    return { ...reply, body, headers: { ...reply.headers, ...(contentType ? { 'content-type': contentType } : {}) } }
  }
  if (action?.type === 'wrong-certificate' && reply.certificate !== undefined) {
    const { body, contentType } = authority.wrongDownload(action.variant, reply.certificate)
    return { ...reply, body, headers: { ...reply.headers, 'content-type': contentType } }
  }
  return reply
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    length += chunk.length
    if (length <= longestBody) continue
    request.resume()
    throw new Problem('malformed', 413, 'the request body is too long', { headers: { connection: 'close' } })
  }
  return Buffer.concat(chunks).toString('utf8')
}

async function send(
  response: ServerResponse,
  method: string,
  reply: Reply,
  action: FaultAction | undefined,
  { clock, closing }: ServerParts,
): Promise<void> {
  const body = Buffer.from(reply.body)
  for (const [name, value] of Object.entries(reply.headers)) response.setHeader(name, value)
  // Retry-After dates are by the CA's clock; a Date by another one would make nonsense of them.
  response.setHeader('date', new Date(clock.now()).toUTCString())
  response.statusCode = reply.status
  if (reply.status !== 204) response.setHeader('content-length', body.length)
  if (method === 'HEAD') {
    response.end()
  } else if (action?.type === 'truncate') {
    response.write(body.subarray(0, action.bytes), () => response.destroy())
  } else if (action?.type === 'slow') {
    await trickle(response, body, action.bytesPerSecond, closing)
  } else {
    response.end(body)
  }
}

async function trickle(
  response: ServerResponse,
  body: Buffer,
  bytesPerSecond: number,
  closing: AbortSignal,
): Promise<void> {
  const step = Math.max(1, Math.floor(bytesPerSecond / 20))
  for (let sent = 0; sent < body.length; sent += step) {
    if (response.destroyed) return
    response.write(body.subarray(sent, sent + step))
    await realDelay((step / bytesPerSecond) * 1000, closing)
  }
  response.end()
}

/** Real time, because the client on the other end has a real socket. Rejects when the CA closes. */
function realDelay(ms: number, closing: AbortSignal): Promise<void> {
  return systemClock.sleep(ms, { signal: closing })
}

function lowerCased(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
}
