/**
 * Objects of one kind in one namespace: read, created, changed, removed and listed. What the API server answers is told
 * apart; what is no answer to the question is an error.
 *
 * @module
 */
import type { Clock } from '../../core/clock.js'
import { HttpError, StoreError } from '../../errors.js'
import type { HttpResponse, HttpStream } from '../../internal/http.js'
import { asObject, parseObject, resourceVersionOf, strings } from '../../internal/kubernetes/api-object.js'
import { explainStatus, readStatus } from '../../internal/kubernetes/api-status.js'
import type { ApiRequest, ApiScope, KubernetesApi } from '../../internal/kubernetes/kubernetes-api.js'
import { parseRetryAfter } from '../../internal/retry-after.js'
import type { TellUnavailable } from '../server-operation.js'
import { protobufType, readObjectList } from './object-list.js'

/** One operation of the store. */
export interface Step {
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly unavailable: TellUnavailable
}

/** What is used of an object. */
export interface KubernetesObject {
  readonly name: string
  readonly uid: string
  readonly resourceVersion: string
  /** It has a deletionTimestamp, and stays until others take their finalizers away. */
  readonly isDeleted: boolean
  readonly annotations: Readonly<Record<string, string>>
  /** Of a Secret. */
  readonly data: ReadonlyMap<string, Buffer>
  /** Of a Lease. */
  readonly spec: Readonly<Record<string, unknown>>
}

/** What is written of an object; the rest stays as others left it. */
export interface ObjectContent {
  readonly metadata: object
  readonly data?: object
  readonly spec?: object
}

/** A part of a list. */
export interface ObjectPage {
  readonly items: readonly KubernetesObject[]
  /** Of the whole list. */
  readonly resourceVersion: string
  /** Leads to the next page. @defaultValue this is the last one */
  readonly next: string | undefined
}

/**
 * A kind of objects in a namespace. An object that was deleted and is kept by a finalizer is an error, except in lists: it
 * is no longer there for long, and whatever is written into it goes with it.
 */
export interface KubernetesObjects {
  read(name: string, step: Step): Promise<KubernetesObject | undefined>
  /** Resolves `undefined` when there is one already. */
  create(name: string, content: ObjectContent, step: Step): Promise<KubernetesObject | undefined>
  /** `version`: only that one. */
  change(
    name: string,
    content: ObjectContent,
    version: string | undefined,
    step: Step,
  ): Promise<KubernetesObject | 'absent' | 'changed'>
  /** `version`: only that one. Resolves also when there is none. */
  remove(
    name: string,
    version: Pick<KubernetesObject, 'uid' | 'resourceVersion'> | undefined,
    step: Step,
  ): Promise<'removed' | 'changed'>
  /** `expired`: the list has become too old to go on from there; `too long`: fewer objects at once may do. */
  page(
    query: ListQuery,
    step: Step,
  ): Promise<ObjectPage | 'too long' | { readonly expired: true; readonly next: string }>
  /** `api`: with connections of its own. */
  watch(query: WatchQuery, api: KubernetesApi, step: Step): Promise<HttpStream>
}

/** Which objects are listed. */
export interface ListQuery {
  readonly selector: string
  readonly limit: number
  readonly next: string | undefined
  /** Leaves out what the objects hold. */
  readonly metadataOnly: boolean
}

/** What is watched. */
export interface WatchQuery {
  readonly selector: string
  readonly resourceVersion: string
  /** After this time the server ends the watch. */
  readonly timeoutSeconds: number
}

/** Parts of {@link kubernetesObjects}. */
export interface KubernetesObjectsOptions {
  readonly api: KubernetesApi
  readonly namespace: (scope: ApiScope) => Promise<string>
  readonly kind: 'Secret' | 'Lease'
  /** Of a Secret. */
  readonly type?: string
}

const kinds = {
  Secret: { apiVersion: 'v1', base: '/api/v1', plural: 'secrets' },
  Lease: { apiVersion: 'coordination.k8s.io/v1', base: '/apis/coordination.k8s.io/v1', plural: 'leases' },
}

/** Objects without what they hold; servers that do not know this send all of it. */
const asMetadata = (list: 'List' | ''): string => `as=PartialObjectMetadata${list};g=meta.k8s.io;v=v1`
const metadataType = `application/json;${asMetadata('')},application/json`

/** Lists of Secrets, with what they hold and without. */
const listType = `${protobufType},application/json`
const metadataJson = `application/json;${asMetadata('List')},application/json`
const metadataListType = `${protobufType};${asMetadata('List')},${metadataJson}`

/** As whom the API server records our fields. */
const fieldManager = 'fieldManager=evercert'

/** Hundreds of objects in one answer. */
const largestPageBytes = 16 * 1024 * 1024

/** Makes {@link KubernetesObjects}. */
export function kubernetesObjects(options: KubernetesObjectsOptions): KubernetesObjects {
  const { api, kind, type } = options
  const { apiVersion, base, plural } = kinds[kind]
  // What a write returns holds the same once more; only of a Lease anybody wants to know.
  const accept = kind === 'Lease' ? undefined : metadataType

  /** `secrets`: what must not come back in an error. */
  async function ask<Answer = HttpResponse>(
    step: Step,
    name: string,
    request: Omit<ApiRequest, 'path'> & { readonly query?: string; readonly secrets?: readonly string[] },
    send: (sent: ApiRequest, scope: ApiScope) => Promise<Answer>,
  ) {
    const { clock, signal } = step
    const { query, secrets = [], ...sent } = request
    let where: string = kind
    const tell: ApiScope['tell'] = (why, _, cause) => step.unavailable(`${request.method} ${where}: ${why}`, cause)
    const scope: ApiScope = { clock, signal, tell }
    const namespace = await options.namespace(scope)
    where = name === '' ? `${plural} in namespace ${namespace}` : `${kind} ${namespace}/${name}`
    const path = `${base}/namespaces/${namespace}/${plural}${name === '' ? '' : `/${name}`}`
    const answer = await send({ ...sent, path: query === undefined ? path : `${path}?${query}` }, scope)
    const refused = (response: HttpResponse): Error => {
      const status = readStatus(response, secrets)
      const { why, kind: failed } = explainStatus(status, {
        namespace,
        otherNamespace: 'correct the option "namespace"',
      })
      const until = failed === 'unavailable' ? parseRetryAfter(response.headers['retry-after'], clock.now()) : undefined
      return step.unavailable(`${request.method} ${where}: ${why}`, undefined, until)
    }
    const kept = (): Error =>
      step.unavailable(
        `${request.method} ${where}: it is deleted, but a finalizer keeps it, and it will go with all that is written into it; remove "finalizers" from its metadata`,
      )
    const found = (response: HttpResponse): KubernetesObject => {
      if (response.status < 200 || response.status > 299) throw refused(response)
      const object = readObject(parseObject(response.text()))
      if (object?.name === name) {
        if (object.isDeleted) throw kept()
        return object
      }
      throw step.unavailable(`${request.method} ${where}: the answer is no such ${kind}`)
    }
    return { answer, refused, kept, found }
  }

  const send = (request: ApiRequest, scope: ApiScope): Promise<HttpResponse> => api.ask(request, scope)

  /** Of this object: a 404 of a proxy, or of an API that is not there, says nothing about it. */
  function isAbsent(response: HttpResponse, name: string): boolean {
    if (response.status !== 404) return false
    const { reason, details } = parseObject(response.text()) ?? {}
    return reason === 'NotFound' && asObject(details)['name'] === name && asObject(details)['kind'] === plural
  }

  function reasonOf(response: HttpResponse): unknown {
    return parseObject(response.text())?.['reason']
  }

  return {
    async read(name, step) {
      const { answer, found } = await ask(step, name, { method: 'GET' }, send)
      return isAbsent(answer, name) ? undefined : found(answer)
    },
    async create(name, { metadata, ...content }, step) {
      const body = {
        apiVersion,
        kind,
        metadata: { ...metadata, name },
        ...(type !== undefined && { type }),
        ...content,
      }
      const request = { method: 'POST', query: fieldManager, ...json(body, 'application/json'), accept } as const
      const { answer, found } = await ask(step, name, request, (sent, scope) =>
        send({ ...sent, path: sent.path.replace(`/${name}`, '') }, scope),
      )
      return answer.status === 409 && reasonOf(answer) === 'AlreadyExists' ? undefined : found(answer)
    },
    async change(name, { metadata, ...content }, version, step) {
      const body = { metadata: { ...metadata, ...(version !== undefined && { resourceVersion: version }) }, ...content }
      const patch = json(body, 'application/merge-patch+json')
      const { answer, found } = await ask(step, name, { method: 'PATCH', query: fieldManager, ...patch, accept }, send)
      if (isAbsent(answer, name)) return 'absent'
      return answer.status === 409 && reasonOf(answer) === 'Conflict' ? 'changed' : found(answer)
    },
    async remove(name, version, step) {
      const preconditions = version && { uid: version.uid, resourceVersion: version.resourceVersion }
      const body = { apiVersion: 'v1', kind: 'DeleteOptions', preconditions }
      const request = { method: 'DELETE', ...json(body, 'application/json') } as const
      const { answer, refused, kept } = await ask(step, name, request, send)
      if (answer.status === 409 && reasonOf(answer) === 'Conflict') return 'changed'
      if (isAbsent(answer, name)) return 'removed'
      if (answer.status !== 200 && answer.status !== 202) throw refused(answer)
      // What is gone is answered by a Status.
      const left = readObject(parseObject(answer.text()))
      if (answer.status === 202 || left?.isDeleted === true) throw kept()
      return 'removed'
    },
    async page({ selector, limit, next, metadataOnly }, step) {
      const query = new URLSearchParams({ labelSelector: selector, limit: String(limit) })
      if (next !== undefined) query.set('continue', next)
      const request = { method: 'GET', query: query.toString(), maxBodyBytes: largestPageBytes } as const
      const isProtobuf = ({ headers }: HttpResponse): boolean =>
        headers['content-type']?.startsWith(protobufType) === true
      let asked
      try {
        asked = await ask(step, '', { ...request, accept: metadataOnly ? metadataListType : listType }, send)
        // One form of refusals is enough to understand. An overloaded server is not asked twice: its status says all.
        const { answer, refused } = asked
        if (isProtobuf(answer) && answer.status !== 200) {
          if (answer.status === 429 || answer.status >= 500) throw refused({ ...answer, text: () => '' })
          asked = await ask(step, '', { ...request, accept: metadataOnly ? metadataJson : undefined }, send)
        }
      } catch (error) {
        // Whoever aborts may give any reason.
        const cause = error instanceof StoreError ? error.cause : undefined
        if (cause instanceof HttpError && cause.code === 'ERR_HTTP_BODY' && limit > 1) return 'too long'
        throw error
      }
      const { answer, refused } = asked
      const noList = (): Error => step.unavailable(`GET ${plural}: the answer is no list`)
      if (isProtobuf(answer)) {
        const page = readObjectList(answer.body)
        if (page === undefined) throw noList()
        return page
      }
      const body = parseObject(answer.text())
      const metadata = asObject(body?.['metadata'])
      const continued = typeof metadata['continue'] === 'string' ? metadata['continue'] : ''
      if (answer.status === 410) return { expired: true, next: continued }
      const resourceVersion = resourceVersionOf(metadata)
      if (answer.status !== 200) throw refused(answer)
      // An empty list may be written as null.
      const listed: unknown = body?.['items'] ?? []
      if (resourceVersion === undefined || !Array.isArray(listed) || !/List$/.test(String(body?.['kind']))) {
        throw noList()
      }
      const items = listed.map(readObject).filter((object) => object !== undefined)
      return { items, resourceVersion, next: continued === '' ? undefined : continued }
    },
    async watch({ selector, resourceVersion, timeoutSeconds }, watching, step) {
      const query = new URLSearchParams({ watch: '1', labelSelector: selector, allowWatchBookmarks: 'true' })
      query.set('resourceVersion', resourceVersion)
      query.set('timeoutSeconds', String(timeoutSeconds))
      const request = { method: 'GET', query: query.toString(), accept: metadataType } as const
      const { answer, refused } = await ask(step, '', request, (sent, scope) => watching.stream(sent, scope))
      if (answer.status === 200 || answer.status === 410) return answer
      throw refused(await wholeOf(answer))
    },
  }
}

function json(body: object & { readonly data?: object }, contentType: string) {
  const secrets = Object.values(strings(body.data)).flatMap((encoded) => [
    encoded,
    Buffer.from(encoded, 'base64').toString(),
  ])
  return { body: JSON.stringify(body), contentType, secrets }
}

/** The object that an answer or a list holds. `undefined` when it is none. */
export function readObject(value: unknown): KubernetesObject | undefined {
  const { metadata, data, spec } = asObject(value)
  const { name, uid, annotations, deletionTimestamp } = asObject(metadata)
  const resourceVersion = resourceVersionOf(asObject(metadata))
  if (typeof name !== 'string' || typeof uid !== 'string' || resourceVersion === undefined) return undefined
  const isDeleted = typeof deletionTimestamp === 'string'
  const held = new Map(Object.entries(strings(data)).map(([key, text]) => [key, Buffer.from(text, 'base64')]))
  return { name, uid, resourceVersion, isDeleted, annotations: strings(annotations), data: held, spec: asObject(spec) }
}

/** A refusal is short. */
async function wholeOf({ status, headers, chunks }: HttpStream): Promise<HttpResponse> {
  const parts: Uint8Array[] = []
  let length = 0
  for await (const chunk of chunks) {
    length += chunk.length
    if (length > 65_536) break
    parts.push(chunk)
  }
  const body = Buffer.concat(parts)
  return { status, headers, body, text: () => body.toString('utf8'), url: '' }
}
