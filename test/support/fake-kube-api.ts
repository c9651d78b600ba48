/**
 * Secrets of an API server in this process: versions, and server-side apply as far as one field manager sees it. The real
 * one is in the integration tests.
 */
import type { FetchFunction, KubernetesConfig } from '../../src/deployers/kubernetes-secret/index.js'

export interface FakeSecret {
  readonly type: string
  readonly data: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}

export interface FakeKubeApi {
  readonly kubeConfig: KubernetesConfig
  readonly fetch: FetchFunction
  secret(namespace: string, name: string): FakeSecret | undefined
  put(namespace: string, name: string, secret: FakeSecret): void
  /** Writes so far, refused ones included. */
  writes: number
  /** Decides about each write; an answer takes the place of the write. */
  onWrite: () => Response | undefined
}

export function fakeKubeApi(): FakeKubeApi {
  const secrets = new Map<string, FakeSecret & { readonly resourceVersion: string }>()
  let version = 0
  const store = (path: string, secret: FakeSecret): void => {
    secrets.set(path, { ...secret, resourceVersion: String((version += 1)) })
  }
  const pathOf = (namespace: string, name: string): string => `/api/v1/namespaces/${namespace}/secrets/${name}`
  const reply = (path: string): Response => {
    const secret = secrets.get(path)
    if (secret === undefined) return status(404, 'NotFound')
    const [, namespace, name] = /namespaces\/([^/]+)\/secrets\/([^/]+)/.exec(path)!
    const { type, data, annotations, resourceVersion } = secret
    const metadata = { name, namespace, resourceVersion, annotations }
    return Response.json({ kind: 'Secret', apiVersion: 'v1', type, data, metadata })
  }

  const api: FakeKubeApi = {
    kubeConfig: {
      getCurrentCluster: () => ({ server: 'https://kube.test' }),
      getCurrentUser: () => null,
      applyToHTTPSOptions: () => Promise.resolve(),
    },
    writes: 0,
    onWrite: () => undefined,
    fetch: (async (url: string, init: RequestInit) => {
      // A request takes a moment, and one that was given up is not answered.
      await new Promise((resolve) => setImmediate(resolve))
      init.signal?.throwIfAborted()
      const { pathname } = new URL(url)
      if (init.method === 'GET') return reply(pathname)
      api.writes += 1
      const refused = api.onWrite()
      if (refused !== undefined) return refused
      const applied = JSON.parse(init.body as string) as FakeSecret & { metadata: { resourceVersion?: string } }
      const before = secrets.get(pathname)
      if ((applied.metadata.resourceVersion ?? before?.resourceVersion) !== before?.resourceVersion) {
        return status(409, 'Conflict')
      }
      store(pathname, { ...before, type: applied.type, data: { ...before?.data, ...applied.data } })
      return reply(pathname)
    }) as FetchFunction,
    secret: (namespace, name) => secrets.get(pathOf(namespace, name)),
    put: (namespace, name, secret) => {
      store(pathOf(namespace, name), secret)
    },
  }
  return api
}

function status(code: number, reason: string): Response {
  return Response.json({ kind: 'Status', code, reason, message: reason }, { status: code })
}
