/**
 * Secrets and Leases of an API server in this process, as far as a store needs them: versions, merge patches, preconditions,
 * finalizers, lists in pages, watches. The real one is in the integration tests.
 */
import type { FetchFunction, KubernetesConfig } from '../../src/stores/kubernetes/index.js'

export interface FakeObject {
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace: string
    readonly uid: string
    readonly resourceVersion: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
    /** Keep it when it is deleted, until they are taken away. */
    readonly finalizers?: readonly string[]
    readonly deletionTimestamp?: string
  }
  readonly type?: string
  readonly data?: Readonly<Record<string, string>>
  readonly spec?: Readonly<Record<string, unknown>>
}

export interface FakeRequest {
  readonly method: string
  /** Without query. */
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: Readonly<Record<string, string>>
  readonly body: Readonly<Record<string, unknown>>
}

export interface FakeKubeObjects {
  readonly kubeConfig: KubernetesConfig
  readonly fetch: FetchFunction
  /** All requests so far. */
  readonly requests: FakeRequest[]
  /** Decides about each request before the server does; an answer takes its place. */
  onRequest: (request: FakeRequest) => Response | Promise<Response> | undefined
  /** Secrets, by name. */
  secrets(): Readonly<Record<string, FakeObject>>
  leases(): Readonly<Record<string, FakeObject>>
  /** As a person does it, with the object that is there. */
  edit(kind: 'secrets' | 'leases', name: string, change: object): void
  remove(kind: 'secrets' | 'leases', name: string): void
  /** What was before is forgotten: watches and lists from there get 410. */
  compact(): void
  /** Ends the watches that are open. */
  endWatches(how?: 'end' | 'break'): void
  /** Sends a line to the watches that are open. */
  tell(line: string): void
  readonly openWatches: number
}

export const fakeNamespace = 'certificates'

export function fakeKubeObjects(): FakeKubeObjects {
  const objects = new Map<string, FakeObject>()
  const watches = new Set<{ readonly collection: string; controller: ReadableStreamDefaultController<Uint8Array> }>()
  const events: {
    readonly version: number
    readonly type: string
    readonly path: string
    readonly object: FakeObject
  }[] = []
  let version = 100
  let oldest = 0

  const collectionOf = (path: string): string => path.slice(0, path.lastIndexOf('/'))
  const line = (value: object): Uint8Array => Buffer.from(`${JSON.stringify(value)}\n`)
  function store(path: string, object: FakeObject | undefined): FakeObject {
    version += 1
    const before = objects.get(path)
    const resourceVersion = String(version)
    const next = { ...(object ?? before!), metadata: { ...(object ?? before!).metadata, resourceVersion } }
    if (object === undefined) objects.delete(path)
    else objects.set(path, next)
    const type = object === undefined ? 'DELETED' : before === undefined ? 'ADDED' : 'MODIFIED'
    events.push({ version, type, path, object: next })
    for (const { collection, controller } of watches) {
      if (collection === collectionOf(path)) controller.enqueue(line({ type, object: next }))
    }
    return next
  }

  function merge(target: unknown, change: unknown): unknown {
    if (typeof change !== 'object' || change === null || Array.isArray(change)) return change
    const before = (typeof target === 'object' ? target : {}) as Readonly<Record<string, unknown>>
    const changed = Object.entries(change).map(([key, value]) => [key, merge(before[key], value)] as const)
    const merged = Object.entries({ ...before, ...Object.fromEntries(changed) })
    return Object.fromEntries(merged.filter(([, value]) => value !== null))
  }

  function list(request: FakeRequest): Response {
    const { path, query } = request
    const [from, after = ''] = (query.get('continue') ?? '').split(':')
    if (from !== '' && Number(from) < oldest) {
      return status(410, 'Expired', 'the continue token is too old', {}, { continue: `${String(version)}:${after}` })
    }
    const wanted = (query.get('labelSelector') ?? '').split(',').map((pair) => pair.split('='))
    const found = [...objects]
      .filter(([each]) => collectionOf(each) === path && each > after)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .filter(([, { metadata }]) => wanted.every(([label = '', value]) => metadata.labels?.[label] === value))
    const page = found.slice(0, Number(query.get('limit') ?? Infinity))
    const more = page.length < found.length ? { continue: `${String(version)}:${page.at(-1)?.[0] ?? ''}` } : {}
    return Response.json({
      kind: 'List',
      metadata: { resourceVersion: String(version), ...more },
      items: page.length === 0 ? null : page.map(([, object]) => shown(object, request)),
    })
  }

  function watch(request: FakeRequest, signal: AbortSignal | null | undefined): Response {
    const from = Number(request.query.get('resourceVersion'))
    if (from < oldest) return status(410, 'Expired', 'too old resource version')
    const collection = request.path
    let watching: { readonly collection: string; controller: ReadableStreamDefaultController<Uint8Array> }
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        watching = { collection, controller }
        watches.add(watching)
        for (const event of events) {
          if (event.version <= from || collectionOf(event.path) !== collection) continue
          controller.enqueue(line({ type: event.type, object: event.object }))
        }
        signal?.addEventListener('abort', () => {
          if (watches.delete(watching)) controller.error(signal.reason)
        })
      },
      cancel: () => void watches.delete(watching),
    })
    return new Response(stream)
  }

  function answer(request: FakeRequest, signal: AbortSignal | null | undefined): Response {
    const { method, path, query, body } = request
    const [, namespace = '', plural = '', name] =
      /\/namespaces\/([^/]+)\/(secrets|leases)(?:\/([^/]+))?$/.exec(path) ?? []
    if (namespace !== fakeNamespace) return status(404, 'NotFound', `namespaces "${namespace}" not found`)
    if (name === undefined && method === 'GET') return query.has('watch') ? watch(request, signal) : list(request)
    if (method === 'POST') {
      const { metadata } = body as unknown as FakeObject
      const target = `${path}/${metadata.name}`
      if (objects.has(target)) return status(409, 'AlreadyExists', `${plural} "${metadata.name}" already exists`)
      const uid = `uid-${String(version)}`
      const created = store(target, { ...(body as unknown as FakeObject), metadata: { ...metadata, namespace, uid } })
      return Response.json(shown(created, request), { status: 201 })
    }
    const object = objects.get(path)
    if (object === undefined) return status(404, 'NotFound', `${plural} "${name!}" not found`, { name, kind: plural })
    if (method === 'GET') return Response.json(shown(object, request))
    const { resourceVersion, uid } = (
      method === 'DELETE' ? ((body['preconditions'] as object | undefined) ?? {}) : body['metadata']
    ) as Partial<FakeObject['metadata']>
    const isOther = (uid ?? object.metadata.uid) !== object.metadata.uid
    if (isOther || (resourceVersion ?? object.metadata.resourceVersion) !== object.metadata.resourceVersion) {
      return status(409, 'Conflict', `Operation cannot be fulfilled on ${plural} "${name!}"`)
    }
    if (method === 'DELETE') {
      if (isKept(object)) {
        const deletionTimestamp = object.metadata.deletionTimestamp ?? '2026-01-01T00:00:00Z'
        return Response.json(store(path, { ...object, metadata: { ...object.metadata, deletionTimestamp } }))
      }
      store(path, undefined)
      return Response.json({ kind: 'Status', status: 'Success' })
    }
    return Response.json(shown(store(path, merge(object, body) as FakeObject), request))
  }

  const byName = (plural: string): Readonly<Record<string, FakeObject>> =>
    Object.fromEntries(
      [...objects].flatMap(([path, object]) => (path.includes(`/${plural}/`) ? [[object.metadata.name, object]] : [])),
    )
  const pathOf = (plural: 'secrets' | 'leases', name: string): string =>
    [...objects.keys()].find((path) => path.endsWith(`/${plural}/${name}`))!

  const api: FakeKubeObjects = {
    kubeConfig: {
      getCurrentCluster: () => ({ server: 'https://kube.test' }),
      getCurrentUser: () => null,
      applyToHTTPSOptions: () => Promise.resolve(),
      getCurrentContext: () => 'test',
      getContextObject: () => ({ namespace: fakeNamespace }),
    },
    requests: [],
    onRequest: () => undefined,
    fetch: (async (url: string, init: RequestInit) => {
      // A request takes a moment, and one that was given up is not answered.
      await new Promise((resolve) => setImmediate(resolve))
      init.signal?.throwIfAborted()
      const { pathname, searchParams } = new URL(url)
      const request: FakeRequest = {
        method: init.method!,
        path: pathname,
        query: searchParams,
        headers: (init.headers ?? {}) as Record<string, string>,
        body: JSON.parse((init.body as string | undefined) ?? '{}') as Record<string, unknown>,
      }
      api.requests.push(request)
      return (await api.onRequest(request)) ?? answer(request, init.signal)
    }) as FetchFunction,
    secrets: () => byName('secrets'),
    leases: () => byName('leases'),
    edit(kind, name, change) {
      const path = pathOf(kind, name)
      const edited = merge(objects.get(path), change) as FakeObject
      store(path, edited.metadata.deletionTimestamp === undefined || isKept(edited) ? edited : undefined)
    },
    remove(kind, name) {
      store(pathOf(kind, name), undefined)
    },
    compact() {
      version += 1
      oldest = version
    },
    endWatches(how = 'end') {
      for (const { controller } of watches) {
        if (how === 'end') controller.close()
        else controller.error(new TypeError('terminated'))
      }
      watches.clear()
    },
    tell(text) {
      for (const { controller } of watches) controller.enqueue(Buffer.from(`${text}\n`))
    },
    get openWatches() {
      return watches.size
    },
  }
  return api
}

function isKept({ metadata }: FakeObject): boolean {
  return (metadata.finalizers ?? []).length > 0
}

function shown(object: FakeObject, { headers }: FakeRequest): object {
  if (headers['accept']?.includes('as=PartialObjectMetadata') !== true) return object
  return { kind: 'PartialObjectMetadata', metadata: object.metadata }
}

/** A refusal, as the API server writes one. */
export function status(
  code: number,
  reason: string,
  message: string,
  details: object = {},
  metadata: object = {},
): Response {
  return Response.json({ kind: 'Status', code, reason, message, details, metadata }, { status: code })
}
