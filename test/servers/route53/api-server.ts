/**
 * The API over HTTP: who may ask, how often, what goes wrong on the way, and a record of it all.
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Clock } from '../../../src/core/clock.js'
import { countedRules, type FaultRuleHandle } from '../../support/counted-rules.js'
import { ApiError, commonError, errorDocument, type CommonErrorCode } from './api-error.js'
import { parseChangeRequest, parseRequest, type ChangeRequest, type Operation } from './api-request.js'
import type { Change } from './change-batch.js'
import type { HostedZones } from './hosted-zones.js'
import { carryOut } from './operations.js'
import { checkAccess } from './policy.js'
import { accessKeyIdOf, authenticate, type Principal } from './signature.js'
import { tokenBucket, type RateLimit, type TokenBucket } from './token-bucket.js'

export interface ApiFault {
  readonly match: {
    /** @defaultValue any */
    readonly operation?: Operation | undefined
    readonly zoneId?: string | undefined
    readonly accessKeyId?: string | undefined
    /** Only the nth such request since the fault was added, from 1. @defaultValue all of them */
    readonly nth?: number | undefined
  }
  readonly action: ApiFaultAction
}

export type ApiFaultAction =
  /** Refused; with `afterEffect` it is carried out nevertheless. */
  | { readonly error: CommonErrorCode | ApiError; readonly afterEffect?: boolean | undefined }
  /** Somebody in between answers. */
  | { readonly status: number; readonly contentType: string; readonly body: string }
  /** The connection is cut before anything is done. */
  | 'drop-before'
  /** Carried out, but the connection is cut instead of the reply. */
  | 'drop-after'
  /** Carried out, but the connection is cut in the middle of the reply. */
  | 'truncate'
  /** Not carried out, and not answered. */
  | 'hang'

export interface RecordedRequest {
  readonly operation: Operation
  /** Of the zone or the change; `''` for lists of zones. */
  readonly id: string
  readonly query: Readonly<Record<string, string>>
  /** Of ChangeResourceRecordSets; `[]` for the others and for a body that is not understood. */
  readonly changes: readonly Change[]
  readonly comment: string | undefined
  readonly accessKeyId: string | undefined
  readonly requestId: string
  /** By the clock of the emulator. */
  readonly at: number
  /** What the client was told, or would have been told had the reply not been lost. */
  status: number | undefined
  /** Of the refusal. */
  code: string | undefined
  fault: ApiFaultAction | undefined
}

/** Two buckets, as AWS has them: requests, and single changes of records. */
export interface RateLimits {
  readonly requests?: RateLimit | undefined
  readonly changes?: RateLimit | undefined
}

/** May be set at any time. */
export interface ApiSettings {
  /** Who may sign requests; with none, anybody may do anything. */
  principals: Principal[]
  /** For so long after a change the zone refuses the next with PriorRequestNotComplete. */
  processingMs: number
  /** Awaited before a request is carried out: the moment in which somebody else gets in between. */
  beforeRequest: ((request: RecordedRequest) => void | Promise<void>) | undefined
}

export interface ApiServer {
  readonly endpoint: string
  readonly requests: RecordedRequest[]
  addFault(fault: ApiFault): FaultRuleHandle
  /** Full buckets; `undefined` for no limit. */
  limitRate(limits: RateLimits | undefined): void
  close(): Promise<void>
}

export async function startApiServer(options: {
  readonly zones: HostedZones
  readonly nameServerNames: readonly string[]
  readonly clock: Clock
  readonly settings: ApiSettings
}): Promise<ApiServer> {
  const { zones, nameServerNames, clock, settings } = options
  const requests: RecordedRequest[] = []
  const busyUntil = new Map<string, number>()
  let requestBucket: TokenBucket | undefined
  let changeBucket: TokenBucket | undefined
  const faults = countedRules<ApiFault, RecordedRequest>(
    (match, { operation, id, accessKeyId }) =>
      (match.operation ?? operation) === operation &&
      (match.zoneId ?? id) === id &&
      (match.accessKeyId ?? accessKeyId) === accessKeyId,
  )

  /** Throws an `ApiError`. */
  const answer = (incoming: IncomingMessage, url: URL, body: string, recorded: RecordedRequest): string => {
    const { operation, id, changes } = recorded
    const now = clock.now()
    if (requestBucket?.take(now) === false) throw commonError('Throttling')
    if (settings.principals.length > 0) {
      const signed = { method: incoming.method ?? '', url, headers: incoming.headers, body }
      const {
        accessKeyId,
        policy,
        arn = `arn:aws:iam::123456789012:user/${accessKeyId}`,
      } = authenticate(signed, settings.principals)
      if (policy !== undefined) checkAccess(policy, arn, { operation, id, changes })
    }
    let changeRequest: ChangeRequest | undefined
    if (operation === 'ChangeResourceRecordSets') {
      if ((busyUntil.get(id) ?? -Infinity) > now) throw commonError('PriorRequestNotComplete')
      if (changeBucket?.take(now, changes.length) === false) throw commonError('Throttling')
      changeRequest = parseChangeRequest(body)
    }
    const document = carryOut(zones, nameServerNames, { operation, id, query: url.searchParams }, changeRequest)
    if (changeRequest !== undefined) busyUntil.set(id, now + settings.processingMs)
    return document
  }

  const handle = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await readAll(incoming)
    const url = new URL(incoming.url ?? '/', 'http://route53.amazonaws.com')
    const requestId = randomUUID()
    const request = parseRequest(incoming.method ?? '', url)
    if (request === undefined) {
      send(response, 404, requestId, errorDocument(new ApiError('UnknownOperationException', 404, ''), requestId))
      return
    }
    const recorded: RecordedRequest = {
      operation: request.operation,
      id: request.id,
      query: Object.fromEntries(request.query),
      ...understood(request.operation, body),
      accessKeyId: accessKeyIdOf(incoming.headers),
      requestId,
      at: clock.now(),
      status: undefined,
      code: undefined,
      fault: undefined,
    }
    requests.push(recorded)
    await settings.beforeRequest?.(recorded)
    const action = (recorded.fault = faults.ruleFor(recorded)?.action)

    if (action === 'drop-before') {
      incoming.socket.destroy()
      return
    }
    if (action === 'hang') return
    if (typeof action === 'object' && 'contentType' in action) {
      recorded.status = action.status
      send(response, action.status, requestId, action.body, action.contentType)
      return
    }

    let document: string
    let status = 200
    try {
      if (typeof action !== 'object') document = answer(incoming, url, body, recorded)
      else {
        if (action.afterEffect === true) answer(incoming, url, body, recorded)
        throw typeof action.error === 'string' ? commonError(action.error) : action.error
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      document = errorDocument(error, requestId)
      status = error.status
      recorded.code = error.code
    }
    recorded.status = status
    if (action === 'drop-after') incoming.socket.destroy()
    else if (action === 'truncate') {
      response.writeHead(status, { 'content-type': 'text/xml', 'content-length': Buffer.byteLength(document) })
      response.write(document.slice(0, document.length / 2), () => incoming.socket.destroy())
    } else send(response, status, requestId, document)
  }

  const server = createServer((incoming, response) => {
    handle(incoming, response).catch((error: unknown) => {
      console.error('route53 emulator:', error)
      incoming.socket.destroy()
    })
  })
  // Only the faults asked for: a client's idle connection must not be closed just as it is used again.
  server.keepAliveTimeout = 120_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')

  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    addFault: faults.add,
    limitRate(limits) {
      requestBucket = limits?.requests && tokenBucket(limits.requests)
      changeBucket = limits?.changes && tokenBucket(limits.changes)
    },
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

/** A request is recorded, throttled and refused before its body is checked. */
function understood(operation: Operation, body: string): { changes: readonly Change[]; comment: string | undefined } {
  if (operation === 'ChangeResourceRecordSets') {
    try {
      const { changes, comment } = parseChangeRequest(body)
      return { changes, comment }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
    }
  }
  return { changes: [], comment: undefined }
}

async function readAll(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

function send(
  response: ServerResponse,
  status: number,
  requestId: string,
  body: string,
  contentType = 'text/xml',
): void {
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'x-amzn-requestid': requestId,
  })
  response.end(body)
}
