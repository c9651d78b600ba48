/**
 * A `fetch` that answers as Marathon's documentation says, for one app whose changes the test decides on.
 */
import type { FetchFunction } from '../../../../src/internal/http.js'

export interface SentRequest {
  readonly method: string
  readonly url: string
  /** Path and query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
}

export interface ScriptedReply {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  /** JSON, unless it is a text. */
  readonly body?: unknown
}

export type Answer = ScriptedReply | Error | ReadableStream<Uint8Array>

export interface ScriptedFetch {
  readonly fetch: FetchFunction
  readonly sent: readonly SentRequest[]
  /** `PATCH /v2/apps/lb` for each request but those for events. */
  calls(): readonly string[]
}

/** A `fetch` that asks `answer` and keeps what was sent. */
export function scriptedFetch(answer: (request: SentRequest) => Answer | Promise<Answer>): ScriptedFetch {
  const sent: SentRequest[] = []
  const fetch = async (input: unknown, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(String(input))
    const body = typeof init.body === 'string' ? (JSON.parse(init.body) as unknown) : undefined
    const request: SentRequest = {
      method: init.method ?? 'GET',
      url: url.href,
      path: url.pathname + url.search,
      headers: Object.fromEntries(new Headers(init.headers)),
      body,
    }
    init.signal?.throwIfAborted()
    sent.push(request)
    const reply = await answer(request)
    if (reply instanceof Error) throw reply
    if (reply instanceof ReadableStream)
      return new Response(reply, { headers: { 'content-type': 'text/event-stream' } })
    const { status = 200, headers = {}, body: content = {} } = reply
    const isText = typeof content === 'string'
    const type = { 'content-type': isText ? 'text/html' : 'application/json' }
    return new Response(isText ? content : JSON.stringify(content), { status, headers: { ...type, ...headers } })
  }
  return {
    fetch: fetch,
    sent,
    calls: () => sent.map(({ method, path }) => `${method} ${path}`).filter((call) => !call.includes('/v2/events')),
  }
}

/** An error as undici throws it. */
export function networkError(code: string): Error {
  return new TypeError('fetch failed', { cause: Object.assign(new Error('socket'), { code }) })
}

export const secondInstant = (second: number): string => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString()

/** Marathon with one app `/lb`, whose deployments end when the test says so. */
export interface ScriptedMarathon extends ScriptedFetch {
  /** The app as `GET` shows it. Change it at will. */
  app: Record<string, unknown>
  /** The list of deployments. */
  deployments: Record<string, unknown>[]
  /** Answers before anything else when it returns something. */
  intercept: (request: SentRequest) => Answer | Promise<Answer | undefined> | undefined
  /** What happens at each look at the list while a deployment is under way. @defaultValue it succeeds at the second one */
  onLook: (look: number) => void
  /** The deployment succeeds: new tasks, and it is gone. */
  succeed(): void
  /** How often the app was changed. */
  changes: number
}

/** Defaults of an app with two instances, so that nothing is refused. */
export function scriptedMarathon(app: Record<string, unknown> = {}): ScriptedMarathon {
  let second = 1
  let looks = 0
  const marathon = {
    app: {
      id: '/lb',
      instances: 1,
      upgradeStrategy: { minimumHealthCapacity: 0, maximumOverCapacity: 0 },
      tasksRunning: 1,
      tasksStaged: 0,
      tasksHealthy: 0,
      tasks: [{ id: 'old', version: secondInstant(0), state: 'TASK_RUNNING' }],
      deployments: [],
      version: secondInstant(0),
      versionInfo: { lastConfigChangeAt: secondInstant(0) },
      ...app,
    },
    deployments: [] as Record<string, unknown>[],
    intercept: () => undefined,
    onLook: (look: number): void => {
      if (look === 2) marathon.succeed()
    },
    succeed(): void {
      const { version, instances } = marathon.app as { version: string; instances: number }
      marathon.deployments = []
      marathon.app['deployments'] = []
      marathon.app['tasks'] = Array.from({ length: instances }, (_, index) => ({
        id: `new-${index}`,
        version,
        state: 'TASK_RUNNING',
      }))
    },
    changes: 0,
  } as Omit<ScriptedMarathon, keyof ScriptedFetch>

  const begin = (changed: Record<string, unknown>): ScriptedReply => {
    second += 1
    looks = 0
    const [version, deploymentId] = [secondInstant(second), `deployment-${second}`]
    marathon.changes += 1
    Object.assign(marathon.app, changed, { version, versionInfo: { lastConfigChangeAt: version } })
    marathon.app['deployments'] = [{ id: deploymentId }]
    marathon.deployments = [
      { id: deploymentId, currentStep: 1, totalSteps: 1, currentActions: [{ action: 'RestartApplication' }] },
    ]
    return { body: { version, deploymentId } }
  }
  const scripted = scriptedFetch(async (request) => {
    const { method, path, body } = request
    const intercepted = await marathon.intercept(request)
    if (intercepted !== undefined) return intercepted
    if (path.startsWith('/v2/events')) return { status: 405, body: '<html>' }
    if (path === '/v2/deployments') {
      looks += 1
      if (marathon.deployments.length > 0) marathon.onLook(looks)
      return { body: marathon.deployments }
    }
    if (method === 'GET' && path === '/v2/apps/lb') return { body: { app: marathon.app } }
    const changesApp = (method === 'PATCH' || method === 'PUT') && path.startsWith('/v2/apps/lb')
    if (changesApp) return begin(body as Record<string, unknown>)
    if (method === 'POST' && path === '/v2/apps/lb/restart') return begin({})
    if (method === 'DELETE') return { body: { deploymentId: 'roll-back', version: secondInstant(99) } }
    return { status: 404, body: { message: `App '${path}' does not exist` } }
  })
  return Object.assign<Omit<ScriptedMarathon, keyof ScriptedFetch>, ScriptedFetch>(marathon, scripted)
}

/** A server-sent event stream that the test feeds. */
export function eventSource(): {
  readonly stream: ReadableStream<Uint8Array>
  send(event: object): void
  close(): void
} {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined
  const stream = new ReadableStream<Uint8Array>({ start: (started) => void (controller = started) })
  return {
    stream,
    send: (event) => controller?.enqueue(new TextEncoder().encode(`event: x\ndata: ${JSON.stringify(event)}\n\n`)),
    close: () => controller?.close(),
  }
}
