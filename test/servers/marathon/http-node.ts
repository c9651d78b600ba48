/**
 * One Marathon process on its own port: the leader answers, a standby passes on. Faults come between the client and
 * either of them. Marathon's LeaderProxyFilter.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { text as readText } from 'node:stream/consumers'
import type { Clock } from '../../../src/core/clock.js'
import { faultRules, type FaultRules, type NamedAction } from '../../support/fault-rules.js'
import type { Access } from './access.js'
import type { ApiRequest } from './api.js'
import type { EventStream } from './event-stream.js'
import type { Features } from './features.js'
import type { Login } from './login.js'
import { redactedHeaders, redactedLogin, type RecordedRequest } from './recorded-request.js'
import { htmlPage, Refusal, type Reply } from './reply.js'

/** Which requests a fault is for. What is left out matches everything. */
export interface RequestMatch {
  readonly method?: string | undefined
  /** The whole path without the query, or a pattern for it. */
  readonly path?: string | RegExp | undefined
  readonly node?: number | undefined
}

export type RequestFaults = FaultRules<RequestMatch, Pick<RecordedRequest, 'method' | 'path' | 'node'>>

export interface NodeParts {
  readonly api: (request: ApiRequest) => Reply
  readonly access: Access
  readonly login: Login | undefined
  readonly events: EventStream
  readonly features: Features
  readonly faults: RequestFaults
  readonly clock: Clock
  readonly requests: RecordedRequest[]
  /** Before every path, as Admin Router has it; empty without. */
  readonly basePath: string
  /** What a standby does with requests that it could proxy. */
  readonly standby: 'proxy' | 'redirect'
  readonly leader: () => HttpNode | undefined
}

export interface HttpNode {
  readonly index: number
  /** As in `http://127.0.0.1:8080`. */
  readonly origin: string
  readonly isListening: boolean
  /** Connections are refused from now on, as when the process is gone. */
  stop(): Promise<void>
  /** On the same port again. */
  start(): Promise<void>
}

export interface TlsIdentity {
  readonly certificatePem: string
  readonly privateKeyPem: string
}

const loginPath = '/acs/api/v1/auth/login'

export function requestFaults(): RequestFaults {
  return faultRules((match, request) => {
    const { method = request.method, path = request.path, node = request.node } = match
    const isPath = typeof path === 'string' ? path === request.path : path.test(request.path)
    return method === request.method && isPath && node === request.node
  })
}

/** `parts` may refer to this node, hence a function: it is not called before a request comes in. */
export async function startNode(
  index: number,
  tls: TlsIdentity | undefined,
  parts: () => NodeParts,
): Promise<HttpNode> {
  const server: Server =
    tls === undefined ? createServer() : createTlsServer({ cert: tls.certificatePem, key: tls.privateKeyPem })
  // Only the faults asked for: a client's idle connection must not be closed just as it is used again.
  server.keepAliveTimeout = 120_000
  let closing = new AbortController()
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    handle(request, response, node, parts(), closing.signal).catch((error: unknown) => {
      // Otherwise the client has left.
      if (!closing.signal.aborted && !response.destroyed)
        console.warn(`marathon: ${String(request.method)} ${String(request.url)}:`, error)
      response.destroy()
    })
  })
  const listen = async (port: number): Promise<number> => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
  const port = await listen(0)
  const node: HttpNode = {
    index,
    origin: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${String(port)}`,
    get isListening() {
      return server.listening
    },
    async start() {
      closing = new AbortController()
      await listen(port)
    },
    async stop() {
      if (!server.listening) return
      closing.abort()
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
  return node
}

async function handle(
  incoming: IncomingMessage,
  response: ServerResponse,
  node: HttpNode,
  parts: NodeParts,
  closing: AbortSignal,
): Promise<void> {
  const { requests, basePath, faults, clock } = parts
  const { pathname, searchParams } = new URL(incoming.url ?? '/', node.origin)
  const path = pathname.startsWith(`${basePath}/`) ? pathname.slice(basePath.length) : pathname
  const body = await readText(incoming)
  const request: ApiRequest = {
    method: incoming.method ?? 'GET',
    path,
    query: searchParams,
    headers: incoming.headers,
    body,
  }
  const record: { -readonly [Field in keyof RecordedRequest]: RecordedRequest[Field] } = {
    node: node.index,
    method: request.method,
    path,
    query: Object.fromEntries(searchParams),
    headers: redactedHeaders(incoming.headers),
    body: path === loginPath ? redactedLogin(body) : body,
    status: undefined,
    fault: undefined,
  }
  requests.push(record)
  const action = faults.actionFor(record)
  record.fault = action?.name

  if (action?.name === 'reply') {
    const { status, headers = {}, body: text = '' } = action.reply
    record.status = status
    send(response, { status, headers, body: text }, undefined)
    return
  }
  if (action?.name === 'drop-before') {
    incoming.socket.destroy()
    return
  }
  if (action?.name === 'first') await action.first()
  if (action?.name === 'delay' && action.delayMs === Infinity) {
    await once(response, 'close')
    return
  }
  if (action?.name === 'delay') await clock.sleep(action.delayMs, { signal: closing })

  const reply = replyTo(request, incoming, node, parts)
  record.status = reply === 'event-stream' ? 200 : reply.status
  if (action?.name === 'drop-after') incoming.socket.destroy()
  else if (reply === 'event-stream') attach(request, incoming, response, parts)
  else send(response, reply, action)
}

/** What the client gets, wherever it has asked. */
function replyTo(
  request: ApiRequest,
  incoming: IncomingMessage,
  node: HttpNode,
  { api, access, login, basePath, standby, leader }: NodeParts,
): Reply | 'event-stream' {
  if (request.path === loginPath && login !== undefined) {
    return request.method === 'POST' ? login.handle(request.body) : htmlPage(405, 'Method Not Allowed')
  }
  const current = leader()
  if (current === undefined) return htmlPage(502, 'Could not determine the current leader')
  const isEventStream = request.path.startsWith('/v2/events')
  // Admin Router knows the leader itself.
  const isStandby = current !== node && basePath === ''
  if (isStandby && (isEventStream || standby === 'redirect')) {
    return { status: 302, headers: { location: `${current.origin}${incoming.url ?? '/'}` }, body: '' }
  }
  if (!current.isListening) return htmlPage(502, 'Failed to connect to Marathon leader')
  const leaderHeaders = { 'x-marathon-leader': current.origin, ...(isStandby ? { 'x-marathon-via': node.origin } : {}) }
  try {
    access.authenticate(request.headers)
    if (isEventStream) {
      access.authorize('view-events')
      if (request.method === 'GET' && (request.headers.accept ?? '').includes('text/event-stream')) {
        return 'event-stream'
      }
      return htmlPage(405, `HTTP method ${request.method} is not supported by this URL`)
    }
    const reply = api(request)
    return { ...reply, headers: { ...leaderHeaders, ...reply.headers } }
  } catch (error) {
    if (error instanceof Refusal) return error.reply
    throw error
  }
}

function attach(
  { query }: ApiRequest,
  incoming: IncomingMessage,
  response: ServerResponse,
  { events, features: { eventFilter, heavyPlans } }: NodeParts,
): void {
  events.subscribe(
    {
      eventTypes: eventFilter ? query.getAll('event_type') : [],
      heavyPlans: heavyPlans && query.get('plan-format') !== 'light',
      remoteAddress: incoming.socket.remoteAddress ?? '',
    },
    response,
  )
}

function send(response: ServerResponse, reply: Reply, action: NamedAction | undefined): void {
  const body = Buffer.from(action?.name === 'replace-body' ? action.replaceBody(reply.body) : reply.body)
  response.writeHead(reply.status, { ...reply.headers, 'content-length': body.length })
  if (action?.name === 'truncate') {
    response.write(body.subarray(0, Math.floor(body.length / 2)), () => response.destroy())
  } else {
    response.end(body)
  }
}
