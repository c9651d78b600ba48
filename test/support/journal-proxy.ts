/**
 * A TLS proxy in front of an ACME server. It keeps a journal of all requests and breaks those that a rule names.
 */
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Agent, createServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { loopbackCertificate } from './certificates.js'
import { faultRules, type FaultRule, type FaultRuleHandle } from './fault-rules.js'

export type RequestKind =
  | 'directory'
  | 'newNonce'
  | 'newAccount'
  | 'newOrder'
  | 'authorization'
  | 'challenge'
  | 'order'
  | 'finalize'
  | 'certificate'
  | 'renewalInfo'
  | 'revoke'
  | 'keyChange'
  | 'other'

/** Which requests of an ACME client a rule is for. What is left out matches everything. */
export interface AcmeRequestMatch {
  readonly kind?: RequestKind | undefined
  readonly method?: string | undefined
}

/** What the client signed. */
export interface SignedBody {
  readonly protectedHeader: Readonly<Record<string, unknown>>
  /** `undefined` for a POST-as-GET. */
  readonly payload: unknown
}

export interface JournalEntry {
  readonly kind: RequestKind
  readonly method: string
  /** With query. */
  readonly path: string
  /** Milliseconds since the epoch when the request had arrived. */
  readonly at: number
  readonly signed: SignedBody | undefined
  /** What the client was told, or would have been told had the reply not been lost; `undefined` without a reply. */
  status: number | undefined
  responseHeaders: Readonly<Partial<Record<(typeof keptHeaders)[number], string>>>
  durationMs: number | undefined
  /** The rule that was applied: `reply`, `delay`, `replace-body` or the name of the cut. */
  fault: string | undefined
}

export interface JournalProxyOptions {
  /** The server behind; its host and port are used. */
  readonly upstreamUrl: string
  /** The CA that signs the upstream's certificate. */
  readonly upstreamCaPem: string
  /** Of this proxy, with the CA that clients must trust. @defaultValue one of its own */
  readonly certificate?:
    { readonly certificatePem: string; readonly privateKeyPem: string; readonly caPem: string } | undefined
  /** Tells what a path is for. @defaultValue Pebble's paths */
  readonly kindOf?: ((path: string) => RequestKind) | undefined
}

export interface JournalProxy {
  /** The upstream URL's path at the proxy. */
  readonly directoryUrl: string
  readonly caPem: string
  /** In order of arrival. */
  readonly journal: readonly JournalEntry[]
  /** Entries of a kind, of a method, or all. */
  count(match?: AcmeRequestMatch): number
  clearJournal(): void
  /** The first rule that applies to a request is used. */
  addRule(rule: FaultRule<AcmeRequestMatch>): FaultRuleHandle
  stop(): Promise<void>
}

const keptHeaders = ['content-type', 'link', 'location', 'replay-nonce', 'retry-after'] as const

/** Pebble's paths (wfe/wfe.go). Those that end in a slash are followed by an id. */
const pebblePaths: Readonly<Record<string, RequestKind>> = {
  '/dir': 'directory',
  '/nonce-plz': 'newNonce',
  '/sign-me-up': 'newAccount',
  '/order-plz': 'newOrder',
  '/authZ/': 'authorization',
  '/chalZ/': 'challenge',
  '/my-order/': 'order',
  '/finalize-order/': 'finalize',
  '/certZ/': 'certificate',
  '/draft-ietf-acme-ari-03/renewalInfo/': 'renewalInfo',
  '/revoke-cert': 'revoke',
  '/rollover-account-key': 'keyChange',
}

function pebbleKindOf(path: string): RequestKind {
  const known = Object.keys(pebblePaths).find((prefix) =>
    prefix.endsWith('/') ? path.startsWith(prefix) : path === prefix,
  )
  return known === undefined ? 'other' : pebblePaths[known]!
}

export async function startJournalProxy(options: JournalProxyOptions): Promise<JournalProxy> {
  const { upstreamUrl, upstreamCaPem, certificate = await loopbackCertificate(), kindOf = pebbleKindOf } = options
  const upstream = new URL(upstreamUrl)
  const agent = new Agent({ keepAlive: true, ca: upstreamCaPem })
  const journal: JournalEntry[] = []
  const rules = faultRules(matches)

  /** The Host header stays as it is: Pebble makes its URLs from it, so that clients come back through the proxy. */
  const forward = async (incoming: IncomingMessage, body: Buffer): Promise<Reply> => {
    const outgoing = request(new URL(incoming.url ?? '/', upstream), {
      agent,
      method: incoming.method,
      headers: incoming.headers,
      servername: upstream.hostname === 'localhost' ? 'localhost' : '',
      signal: AbortSignal.timeout(30_000),
    })
    outgoing.end(body)
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
    return {
      status: response.statusCode ?? 0,
      headers: headerPairs(response.rawHeaders),
      body: await readAll(response),
    }
  }

  const handle = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const at = Date.now()
    const started = performance.now()
    const body = await readAll(incoming)
    const { method = 'GET', url = '/' } = incoming
    const entry: JournalEntry = {
      kind: kindOf(url.split('?')[0]!),
      method,
      path: url,
      at,
      signed: decodeSigned(body),
      status: undefined,
      responseHeaders: {},
      durationMs: undefined,
      fault: undefined,
    }
    journal.push(entry)
    const finish = (reply: Reply): void => {
      entry.status = reply.status
      entry.responseHeaders = pick(reply.headers)
      entry.durationMs = performance.now() - started
    }

    const action = rules.actionFor(entry)
    entry.fault = action?.name
    if (action?.name === 'reply') {
      const { status, headers = {}, body: text = '' } = action.reply
      const reply = { status, headers: Object.entries(headers), body: Buffer.from(text) }
      finish(reply)
      send(response, reply)
      return
    }
    if (action?.name === 'drop-before') {
      incoming.socket.destroy()
      return
    }
    if (action?.name === 'delay' && action.delayMs === Infinity) {
      await once(incoming.socket, 'close')
      return
    }
    if (action?.name === 'first') await action.first()
    if (action?.name === 'delay') await sleep(action.delayMs, undefined, { signal: closing.signal })

    let reply = await forward(incoming, body)
    if (action?.name === 'replace-body')
      reply = { ...reply, body: Buffer.from(action.replaceBody(reply.body.toString())) }
    finish(reply)
    if (action?.name === 'drop-after') {
      incoming.socket.destroy()
      return
    }
    if (action?.name === 'truncate') {
      response.writeHead(reply.status, endToEnd(reply))
      response.write(reply.body.subarray(0, Math.floor(reply.body.length / 2)), () => incoming.socket.destroy())
      return
    }
    send(response, reply)
  }

  const closing = new AbortController()
  const server = createServer(
    { cert: certificate.certificatePem, key: certificate.privateKeyPem },
    (incoming, response) => {
      handle(incoming, response).catch((error: unknown) => {
        if (closing.signal.aborted) return
        // Upstream is gone or the client has left: for the client the same as a lost connection.
        console.warn(`journal proxy: ${incoming.method ?? ''} ${incoming.url ?? ''}: ${String(error)}`)
        incoming.socket.destroy()
      })
    },
  )
  // Only the faults asked for: a client's idle connection must not be closed just as it is used again.
  server.keepAliveTimeout = 120_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo

  return {
    directoryUrl: `https://127.0.0.1:${port}${upstream.pathname}`,
    caPem: certificate.caPem,
    journal,
    count: (match = {}) => journal.filter((entry) => matches(match, entry)).length,
    clearJournal: () => void journal.splice(0),
    addRule: rules.add,
    async stop() {
      if (closing.signal.aborted) return
      closing.abort()
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      agent.destroy()
      await closed
    },
  }
}

function matches({ kind, method }: AcmeRequestMatch, request: Pick<JournalEntry, 'kind' | 'method'>): boolean {
  return (kind ?? request.kind) === request.kind && (method ?? request.method) === request.method
}

interface Reply {
  readonly status: number
  /** As pairs, because a header such as Link may come several times. */
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly body: Buffer
}

function headerPairs(rawHeaders: readonly string[]): [name: string, value: string][] {
  return Array.from({ length: rawHeaders.length / 2 }, (_, index) => [
    rawHeaders[2 * index]!,
    rawHeaders[2 * index + 1]!,
  ])
}

function send(response: ServerResponse, reply: Reply): void {
  response.writeHead(reply.status, endToEnd(reply))
  response.end(reply.body)
}

/** The body is sent in one piece, so the upstream's framing does not apply. */
function endToEnd({ status, headers, body }: Reply): string[] {
  const framing = ['connection', 'keep-alive', 'transfer-encoding', 'content-length']
  const kept = headers.filter(([name]) => !framing.includes(name.toLowerCase())).flat()
  return status === 204 || status === 304 ? kept : [...kept, 'content-length', String(body.length)]
}

function pick(headers: Reply['headers']): JournalEntry['responseHeaders'] {
  const picked: Partial<Record<(typeof keptHeaders)[number], string>> = {}
  for (const name of keptHeaders) {
    const values = headers.flatMap(([key, value]) => (key.toLowerCase() === name ? [value] : []))
    if (values.length > 0) picked[name] = values.join(', ')
  }
  return picked
}

async function readAll(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > 8 * 1024 * 1024) throw new Error('body of more than 8 MiB')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function decodeSigned(body: Buffer): SignedBody | undefined {
  try {
    const jws = JSON.parse(body.toString()) as { protected: string; payload: string }
    return {
      protectedHeader: decodeJson(jws.protected) as Record<string, unknown>,
      payload: jws.payload === '' ? undefined : decodeJson(jws.payload),
    }
  } catch {
    return undefined
  }
}

function decodeJson(base64url: string): unknown {
  return JSON.parse(Buffer.from(base64url, 'base64url').toString())
}
