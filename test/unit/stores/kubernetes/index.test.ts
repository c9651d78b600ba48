import { describe, expect, it, vi } from 'vitest'
import type { OperationContext } from '../../../../src/core/context.js'
import { CertError, type AnyCertError } from '../../../../src/errors.js'
import type { FoundValue, Revision, StoreKey } from '../../../../src/stores/cert-store.js'
import { kubernetesStore, type KubernetesStoreOptions } from '../../../../src/stores/kubernetes/index.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { assertNoSecrets } from '../../../../src/testing/recording-logger.js'
import { fakeKubeObjects, fakeNamespace, status, type FakeRequest } from '../../../support/fake-kube-objects.js'
import { encodeObjectList } from '../../../support/object-list.js'

const key = 'certificates/www'
const secret = 'value-that-must-not-be-shown-'.repeat(3)
/** In real time, on a machine that may be busy. */
const soon = (condition: () => boolean | Promise<boolean>) => vi.waitUntil(condition, { timeout: 20_000, interval: 2 })
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))
const now = Date.parse('2026-01-01T00:00:00Z')

function setUp(options: KubernetesStoreOptions = {}) {
  const api = fakeKubeObjects()
  const open = () => kubernetesStore({ kubeConfig: api.kubeConfig, fetch: api.fetch, ...options })
  return { api, open, store: open(), context: operationContext({ clock: fakeClock({ now }) }) }
}

async function failureOf(work: Promise<unknown>): Promise<AnyCertError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!CertError.isInstance(error)) throw new Error(`expected a CertError, got ${String(error)}`)
  assertNoSecrets(error, [secret, Buffer.from(secret).toString('base64')])
  return error
}

async function keysOf(store: { list: ReturnType<typeof kubernetesStore>['list'] }, prefix = ''): Promise<StoreKey[]> {
  const keys: StoreKey[] = []
  for await (const each of store.list(prefix, operationContext())) keys.push(each)
  return keys
}

async function readMany(
  store: ReturnType<typeof kubernetesStore>,
  keys: readonly StoreKey[],
  context: OperationContext,
): Promise<FoundValue[]> {
  const found: FoundValue[] = []
  for await (const part of store.getMany!(keys, context)) found.push(...part)
  return found
}

const textsOf = (found: readonly FoundValue[]): Map<StoreKey, string> =>
  new Map(found.map(({ key, stored }) => [key, Buffer.from(stored!.value).toString()]))
const onlySecret = (api: ReturnType<typeof fakeKubeObjects>) => Object.values(api.secrets())[0]!
const isWrite = ({ method }: FakeRequest): boolean => method !== 'GET'

describe('options of kubernetesStore', () => {
  it.each<[string, object, RegExp]>([
    ['an unknown one', { table: 'x' }, /unknown option "table"/],
    ['a namespace that is none', { namespace: 'A' }, /"namespace"/],
    ['a prefix that no name can begin with', { prefix: 'a_b' }, /"prefix"/],
    ['a prefix that ends with a dash', { prefix: 'a-' }, /"prefix"/],
    ['a prefix that is too long', { prefix: 'a'.repeat(41) }, /"prefix"/],
    ['a time limit of nothing', { timeoutMs: 0 }, /"timeoutMs"/],
    ['two configurations', { kubeConfigFile: '/x', kubeConfig: fakeKubeObjects().kubeConfig }, /exclude each other/],
  ])('refuse %s', (_, options, message) => {
    expect(() => kubernetesStore(options)).toThrow(message)
  })

  it('may be left out', () => {
    expect(kubernetesStore().name).toBe('kubernetes')
  })
})

describe('requiredPermissions', () => {
  const rules = [
    { apiGroups: [''], resources: ['secrets'], verbs: ['get', 'list', 'watch', 'create', 'patch', 'delete'] },
    { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get', 'create', 'patch'] },
  ]
  it('is one Role, and a binding where an account is given', () => {
    const store = kubernetesStore({ namespace: 'web' })
    expect(store.requiredPermissions()).toMatchObject([
      { kind: 'Role', metadata: { name: 'evercert-store', namespace: 'web' }, rules },
    ])
    const serviceAccount = { namespace: 'apps', name: 'evercert' }
    expect(store.requiredPermissions({ serviceAccount })).toMatchObject([
      { kind: 'Role', metadata: { namespace: 'web' } },
      { kind: 'RoleBinding', metadata: { namespace: 'web' }, subjects: [{ namespace: 'apps', name: 'evercert' }] },
    ])
  })

  it('must know the namespace', () => {
    const store = kubernetesStore({ prefix: 'other' })
    expect(() => store.requiredPermissions()).toThrow(/must know the namespace/)
    expect(store.requiredPermissions({ namespace: 'web' })[0]?.metadata).toEqual({
      name: 'other-store',
      namespace: 'web',
    })
    const serviceAccount = { namespace: 'apps', name: 'evercert' }
    expect(store.requiredPermissions({ serviceAccount })[0]?.metadata.namespace).toBe('apps')
    expect(() => store.requiredPermissions({ namespace: 'No' })).toThrow(/"namespace"/)
  })
})

describe('the Secret of an entry', () => {
  it('keeps what others have added, when the entry is replaced', async () => {
    const { api, store, context } = setUp()
    const first = await store.put(key, bytes('one'), context, { ifRevision: null })
    const { metadata, type } = onlySecret(api)
    expect(type).toBe('evercert.dev/entry')
    expect(metadata.labels).toEqual({
      'app.kubernetes.io/managed-by': 'evercert',
      'evercert.dev/store': 'evercert',
      'evercert.dev/space': 'certificates',
    })
    expect(metadata.annotations).toEqual({ 'evercert.dev/key': key })
    api.edit('secrets', metadata.name, {
      metadata: { labels: { team: 'web' }, annotations: { note: 'theirs' } },
      data: { theirs: 'eA==' },
    })
    const second = await store.put(key, bytes('two'), context, { ifRevision: first })
    await store.put(key, bytes('three'), context)
    expect(second).not.toBe(first)
    expect(onlySecret(api)).toMatchObject({
      metadata: { labels: { team: 'web' }, annotations: { note: 'theirs', 'evercert.dev/key': key } },
      data: { theirs: 'eA==' },
    })
    expect(Buffer.from((await store.get(key, context))!.value).toString()).toBe('three')
  })

  it('is neither read nor written nor gone while a finalizer keeps what was deleted', async () => {
    const { api, store, context } = setUp()
    const revision = await store.put(key, bytes('one'), context)
    const { name } = onlySecret(api).metadata
    api.edit('secrets', name, { metadata: { finalizers: ['backup.test/keep'] } })
    const attempts: (() => Promise<unknown>)[] = [
      () => store.delete(key, context, { ifRevision: revision }),
      () => store.delete(key, context),
      () => store.get(key, context),
      () => store.put(key, bytes('two'), context),
      () => store.put(key, bytes('two'), context, { ifRevision: revision }),
    ]
    for (const attempt of attempts) {
      const failure = await failureOf(attempt())
      expect(failure.code).toBe('ERR_STORE_UNAVAILABLE')
      expect(failure.message).toContain(`Secret ${fakeNamespace}/${name}: it is deleted, but a finalizer keeps it`)
    }
    api.edit('secrets', name, { metadata: { finalizers: null } })
    expect(await store.get(key, context)).toBeUndefined()
    await store.put(key, bytes('two'), context, { ifRevision: null })
    await store.delete(key, context)
    expect(api.secrets()).toEqual({})
  })

  it('is not gone when the server has only accepted that it shall go', async () => {
    const { api, store, context } = setUp()
    await store.put(key, bytes('one'), context)
    api.onRequest = ({ method }) =>
      method === 'DELETE' ? Response.json({ kind: 'Status', status: 'Success' }, { status: 202 }) : undefined
    expect((await failureOf(store.delete(key, context))).message).toMatch(/a finalizer keeps it/)
  })

  it('that holds no entry is damaged, and can be replaced', async () => {
    const { api, store, context } = setUp()
    await store.put(key, bytes('one'), context)
    api.edit('secrets', onlySecret(api).metadata.name, { data: { entry: null, other: 'eA==' } })
    const error = await failureOf(store.get(key, context))
    expect(error).toMatchObject({
      code: 'ERR_STORE_CORRUPT',
      message: expect.stringMatching(/holds no "entry"/) as string,
    })
    const { damaged } = error as { damaged?: { value: Uint8Array; revision: string } }
    await store.put(key, bytes('two'), context, { ifRevision: damaged!.revision as Revision })
    expect(Buffer.from((await store.get(key, context))!.value).toString()).toBe('two')
  })

  it('of another key, copied under this name, is damaged', async () => {
    const { api, store, context } = setUp()
    await store.put(key, bytes('one'), context)
    const { data } = onlySecret(api)
    await store.put('certificates/other', bytes('two'), context)
    const other = Object.values(api.secrets()).find(({ metadata }) => metadata.name.includes('other'))!
    api.edit('secrets', other.metadata.name, { data })
    expect((await failureOf(store.get('certificates/other', context))).message).toMatch(/belongs to another key/)
  })

  it('is not taken for an entry when it is a copy with another name', async () => {
    const { api, store, context } = setUp()
    await store.put(key, bytes('one'), context)
    const path = `/api/v1/namespaces/${fakeNamespace}/secrets`
    const copy = onlySecret(api)
    await api.fetch(`https://kube.test${path}`, {
      method: 'POST',
      body: JSON.stringify({ ...copy, metadata: { ...copy.metadata, name: 'copy' } }),
    })
    expect(Object.keys(api.secrets())).toHaveLength(2)
    expect(await keysOf(store)).toEqual([key])
  })

  it('holds a mebibyte, and not more', async () => {
    const { store, context } = setUp()
    await store.put(key, new Uint8Array(1_047_000), context)
    expect((await store.get(key, context))?.value).toHaveLength(1_047_000)
    await expect(store.put(key, new Uint8Array(1_048_000), context)).rejects.toThrow(/is too large for a Secret/)
    await expect(store.put(`certificates/${'x'.repeat(2000)}`, bytes('x'), context)).rejects.toThrow(TypeError)
  })
})

describe('compare-and-set', () => {
  type Store = ReturnType<typeof kubernetesStore>
  function writeLate(store: Store, what: 'put' | 'delete', ifRevision: Revision, context: OperationContext) {
    if (what === 'put') return store.put(key, bytes('late'), context, { ifRevision })
    return store.delete(key, context, { ifRevision })
  }

  it('looks again after each change of a label, and writes once', async () => {
    const { api, store, context } = setUp()
    const first = await store.put(key, bytes('one'), context)
    const { name } = onlySecret(api).metadata
    for (let edits = 1; edits <= 3; edits += 1) {
      let left = edits
      api.onRequest = (request) => {
        if (isWrite(request) && left > 0) {
          left -= 1
          api.edit('secrets', name, { metadata: { labels: { edited: String(left) } } })
        }
        return undefined
      }
      const current = (await store.get(key, context))!.revision
      await store.put(key, bytes(`after ${edits}`), context, { ifRevision: current })
      expect(left).toBe(0)
      expect(Buffer.from((await store.get(key, context))!.value).toString()).toBe(`after ${edits}`)
    }
    expect(await failureOf(store.put(key, bytes('late'), context, { ifRevision: first }))).toMatchObject({
      code: 'ERR_STORE_CONFLICT',
    })
  })

  it.each(['put', 'delete'] as const)('%s refuses when the value changes between reading and writing', async (what) => {
    const { api, store, open, context } = setUp()
    const revision = await store.put(key, bytes('one'), context)
    let changed: Promise<unknown> | undefined
    api.onRequest = async (request) => {
      if (isWrite(request) && changed === undefined) await (changed = open().put(key, bytes('theirs'), context))
      return undefined as never
    }
    const late = writeLate(store, what, revision, context)
    expect(await failureOf(late)).toMatchObject({ code: 'ERR_STORE_CONFLICT' })
    expect(Buffer.from((await store.get(key, context))!.value).toString()).toBe('theirs')
  })

  it('does not replace, or delete, what was deleted and made anew between reading and writing', async () => {
    for (const what of ['put', 'delete'] as const) {
      const { api, store, context } = setUp()
      const revision = await store.put(key, bytes('one'), context)
      const { metadata, data } = onlySecret(api)
      let changed = false
      api.onRequest = async (request) => {
        if (!isWrite(request) || changed) return undefined as never
        changed = true
        api.remove('secrets', metadata.name)
        await kubernetesStore({ kubeConfig: api.kubeConfig, fetch: api.fetch }).put(key, bytes('theirs'), context)
        return undefined as never
      }
      const late = writeLate(store, what, revision, context)
      expect(await failureOf(late)).toMatchObject({ code: 'ERR_STORE_CONFLICT' })
      expect(onlySecret(api).data).not.toEqual(data)
    }
  })

  it('a write without a revision gets through when the Secret comes and goes', async () => {
    const { api, store, open, context } = setUp()
    await store.put(key, bytes('old'), context)
    let turns = 0
    api.onRequest = async (request) => {
      if (!isWrite(request) || turns === 3) return undefined as never
      turns += 1
      const other = open()
      const wasThere = Object.keys(api.secrets()).length > 0
      const save = api.onRequest
      api.onRequest = () => undefined
      if (wasThere) await other.delete(key, context)
      else await other.put(key, bytes('theirs'), context)
      api.onRequest = save
      return undefined as never
    }
    await store.put(key, bytes('ours'), context)
    expect(turns).toBe(3)
    expect(Buffer.from((await store.get(key, context))!.value).toString()).toBe('ours')
  })

  it('gives up when others never stop, and says so', async () => {
    const { api, store, context } = setUp()
    const ifRevision = await store.put(key, bytes('one'), context)
    api.onRequest = (request) => (isWrite(request) ? status(409, 'Conflict', 'changed') : undefined)
    const before = api.requests.length
    const error = await failureOf(store.put(key, bytes('two'), context, { ifRevision }))
    expect(error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', retryable: true })
    expect(error.message).toMatch(/others change it at the same time/)
    expect(api.requests.length - before).toBe(20)
  })
})

describe('refusals', () => {
  const denied =
    'secrets "x" is forbidden: User "system:serviceaccount:web:x" cannot patch resource "secrets" in API group ""'
  it.each<[string, Response, RegExp]>([
    ['401', status(401, 'Unauthorized', 'Unauthorized'), /does not accept the credentials/],
    ['403', status(403, 'Forbidden', denied), /PATCH Secret certificates\/.*may not patch secrets in namespace certif/],
    ['a quota', status(403, 'Forbidden', 'exceeded quota: secrets'), /refuses it \(403 Forbidden: exceeded quota/],
    ['a namespace on its way out', status(403, 'Forbidden', 'because it is being terminated'), /is being deleted/],
    [
      'no namespace',
      status(404, 'NotFound', 'namespaces "x" not found'),
      /create it, or correct the option "namespace"/,
    ],
    [
      'an immutable Secret',
      status(422, 'Invalid', 'field is immutable when `immutable` is set'),
      /422 Invalid: .*immutable/,
    ],
    ['a webhook', status(400, 'BadRequest', `admission webhook denied ${secret}`), /webhook denied \[removed\]/],
    [
      'an API that is not there',
      status(404, 'NotFound', 'the server could not find the requested resource'),
      /404 NotFound/,
    ],
    ['a proxy', new Response('<html>', { status: 404 }), /not that of a Kubernetes API server/],
    ['nonsense', new Response('<html>', { status: 200 }), /the answer is no such Secret/],
    ['another Secret', Response.json({ metadata: { name: 'x', uid: 'x', resourceVersion: '1' } }), /no such Secret/],
  ])('%s is told, of a write', async (_, answer, message) => {
    const { api, store, context } = setUp()
    await store.put(key, bytes('old'), context)
    api.onRequest = () => answer.clone()
    const error = await failureOf(store.put(key, bytes(secret), context))
    expect(error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', retryable: true, store: 'kubernetes', key })
    expect(error.message).toMatch(message)
    expect(error.message).toMatch(/^kubernetes: cannot write certificates\/www: /)
    api.onRequest = () => undefined
    expect(Buffer.from((await store.get(key, context))!.value).toString()).toBe('old')
  })

  it.each([429, 503])('%i with Retry-After says when', async (code) => {
    const { api, store, context } = setUp()
    api.onRequest = () =>
      new Response(JSON.stringify({ kind: 'Status', message: 'slow down' }), {
        status: code,
        headers: { 'retry-after': '7' },
      })
    expect(await failureOf(store.get(key, context))).toMatchObject({
      code: 'ERR_STORE_UNAVAILABLE',
      retryAt: new Date(now + 7_000),
    })
  })

  it('of a proxy that says 404 are never taken for "there is none"', async () => {
    const { api, store, context } = setUp()
    const ifRevision = await store.put(key, bytes('one'), context)
    api.onRequest = () => new Response('not found', { status: 404 })
    for (const work of [
      () => store.get(key, context),
      () => store.delete(key, context),
      () => store.delete(key, context, { ifRevision }),
      () => keysOf(store),
      () => store.lock!('www', context, { ttlMs: 60_000 }),
    ]) {
      expect(await failureOf(work())).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE' })
    }
  })

  it('a namespace is asked for where there is none, and stays what it was', async () => {
    const { api, context } = setUp()
    let namespace: string | undefined
    const store = kubernetesStore({
      kubeConfig: { ...api.kubeConfig, getContextObject: () => (namespace === undefined ? {} : { namespace }) },
      fetch: api.fetch,
    })
    expect((await failureOf(store.get(key, context))).message).toMatch(/has a namespace; set "namespace"/)
    namespace = fakeNamespace
    await store.put(key, bytes('one'), context)
    namespace = 'elsewhere'
    expect(await store.get(key, context)).toBeDefined()
  })

  it('a server that is silent is given up, and so is a call that is aborted', async () => {
    const { api, store } = setUp({ timeoutMs: 5_000 })
    api.onRequest = () => new Promise<Response>(() => undefined)
    const clock = fakeClock({ now })
    const waiting = failureOf(store.get(key, operationContext({ clock })))
    await soon(() => api.requests.length === 1)
    await clock.advance(5_000)
    expect((await waiting).message).toMatch(/no (complete )?answer within 5000 ms/)

    const controller = new AbortController()
    const reason = new Error('stop')
    const context = operationContext({ clock, signal: controller.signal })
    const work = [
      store.get(key, context),
      store.put(key, bytes('x'), context),
      store.delete(key, context),
      store.lock!('www', context, { ttlMs: 60_000 }),
    ]
    await soon(() => api.requests.length === 5)
    controller.abort(reason)
    for (const each of work) await expect(each).rejects.toBe(reason)
    expect(clock.sleeping).toBe(0)
  })
})

describe('lists', () => {
  const many = async (count: number) => {
    const made = setUp()
    const keys = Array.from({ length: count }, (_, index): StoreKey => `renewals/n${String(index)}`)
    for (const each of keys) await made.store.put(each, bytes(each), made.context)
    made.api.requests.length = 0
    return { ...made, keys: keys.sort() }
  }

  it('come in pages, without what the Secrets hold', async () => {
    const { api, store, keys } = await many(4_001)
    expect((await keysOf(store, 'renewals/')).sort()).toEqual(keys)
    expect(api.requests.map(({ query }) => query.get('limit'))).toEqual(['2000', '2000', '2000'])
    for (const { headers } of api.requests) expect(headers['accept']).toContain('as=PartialObjectMetadataList')
  })

  it('lose nothing and repeat nothing when a page is too old to go on from', async () => {
    const { api, store, keys } = await many(4_001)
    for (const token of [true, false]) {
      api.requests.length = 0
      let expired = false
      api.onRequest = (request) => {
        if (!request.query.has('continue') || expired) return undefined
        expired = true
        if (!token) return status(410, 'Expired', 'too old')
        api.compact()
        return undefined
      }
      const listed = await keysOf(store, 'renewals/')
      expect(expired).toBe(true)
      expect(listed.sort()).toEqual(keys)
    }
    api.onRequest = ({ query }) => (query.has('continue') ? status(410, 'Expired', 'too old') : undefined)
    expect((await failureOf(keysOf(store, 'renewals/'))).message).toMatch(/became too old again and again/)
  })

  it('ask for fewer at once where a page is too long', async () => {
    const { api, store, keys } = await many(70)
    api.onRequest = ({ query }) => (Number(query.get('limit')) > 8 ? new Response('x'.repeat(17_000_000)) : undefined)
    expect((await keysOf(store, 'renewals/')).sort()).toEqual(keys)
    api.onRequest = () => new Response('x'.repeat(17_000_000))
    expect((await failureOf(keysOf(store))).message).toMatch(/longer than/)
  })

  it('answer many reads', async () => {
    const { api, store, context, keys } = await many(1_001)
    const found = await readMany(store, [...keys, 'renewals/none'], context)
    expect(found.pop()).toEqual({ key: 'renewals/none', stored: undefined })
    expect(textsOf(found)).toEqual(new Map(keys.map((each) => [each, each])))
    // Three pages, and one look at what they did not show.
    expect(api.requests).toHaveLength(4)
  })

  it('answer for several spaces at the same time, and a few keys of another one are read by themselves', async () => {
    const { api, store, context, keys } = await many(600)
    const others = keys.map((each): StoreKey => `certificates/${each.slice('renewals/'.length)}`)
    const few: StoreKey[] = ['deployments/a/one', 'deployments/a/two']
    for (const each of [...others, ...few]) await store.put(each, bytes(each), context)
    api.requests.length = 0
    const found = await readMany(store, [...keys, ...others, ...few], context)
    expect(textsOf(found)).toEqual(new Map([...keys, ...others, ...few].map((each) => [each, each])))
    const lists = api.requests.filter(({ query }) => query.has('limit'))
    expect(lists.map(({ query }) => query.has('continue'))).toEqual([false, false, true, true])
    expect(api.requests).toHaveLength(6)
  })

  it('come in Protocol Buffers where the server has them, and refusals in JSON', async () => {
    const { api, store, context, keys } = await many(200)
    const protobuf = (body: Uint8Array<ArrayBuffer>, status = 200): Response =>
      new Response(body, { status, headers: { 'content-type': 'application/vnd.kubernetes.protobuf' } })
    const listed = Object.values(api.secrets()).map(({ metadata, data = {} }) => ({ ...metadata, data }))
    const half = [encodeObjectList(listed.slice(0, 120), { next: 'more' }), encodeObjectList(listed.slice(120))]
    let answer = (index: number): Response => protobuf(new Uint8Array(half[index]!))
    api.onRequest = ({ query, headers }) => {
      if (headers['accept'] === 'application/json') return undefined
      expect(headers['accept']).toBe('application/vnd.kubernetes.protobuf,application/json')
      return answer(query.get('continue') === 'more' ? 1 : 0)
    }
    expect(textsOf(await readMany(store, keys, context))).toEqual(new Map(keys.map((each) => [each, each])))
    expect(api.requests).toHaveLength(2)

    answer = () => protobuf(new Uint8Array(half[0]!.subarray(0, 1_000)))
    expect((await failureOf(readMany(store, keys, context))).message).toMatch(/the answer is no list/)

    // A Status in Protocol Buffers is asked for once more.
    api.requests.length = 0
    answer = () => protobuf(new Uint8Array(Buffer.from('k8s\0')), 403)
    expect(textsOf(await readMany(store, keys, context)).size).toBe(200)
    expect(api.requests.map(({ headers }) => headers['accept']!.includes('protobuf'))).toEqual([true, false])
  })

  it('that are refused are never asked for with more in them, and an overloaded server is not asked again', async () => {
    const { api, store } = await many(10)
    const refuse = (code: number) => {
      const headers = { 'content-type': 'application/vnd.kubernetes.protobuf', 'retry-after': '5' }
      api.onRequest = ({ headers: { accept = '' } }) =>
        accept.includes('protobuf') ? new Response('k8s\0', { status: code, headers }) : undefined
      api.requests.length = 0
    }
    refuse(403)
    expect(await keysOf(store, 'renewals/')).toHaveLength(10)
    expect(api.requests.map(({ headers }) => headers['accept'])).toEqual([
      expect.stringMatching(/^application\/vnd.kubernetes.protobuf;as=PartialObjectMetadataList/),
      expect.stringMatching(/^application\/json;as=PartialObjectMetadataList/),
    ])
    for (const code of [429, 503]) {
      refuse(code)
      const failure = await failureOf(keysOf(store, 'renewals/'))
      expect(failure.retryAt).toBeInstanceOf(Date)
      expect(api.requests).toHaveLength(1)
    }
  })

  it('ask for a page while the one before is looked at, and for none that nobody needs', async () => {
    const { api, store, context, keys } = await many(1_400)
    const shown = Object.values(api.secrets()).sort((one, other) => (one.metadata.name < other.metadata.name ? -1 : 1))
    const first = new Set(shown.slice(0, 900).map(({ metadata }) => metadata.annotations?.['evercert.dev/key']))
    const wanted = keys.filter((each) => first.has(each))
    let pages = 0
    for await (const part of store.getMany!(wanted, context)) {
      pages += 1
      expect(part.length).toBeGreaterThan(0)
      await soon(() => api.requests.length === 2)
    }
    expect(pages).toBe(2)
    expect(api.requests).toHaveLength(2)
  })

  it('may be left in the middle, also when the next page fails', async () => {
    const { api, store, context, keys } = await many(1_001)
    api.onRequest = ({ query }) => (query.has('continue') ? status(503, 'ServiceUnavailable', 'later') : undefined)
    for await (const part of store.getMany!(keys, context)) {
      expect(part).toHaveLength(500)
      break
    }
    await soon(() => api.requests.length === 2)
    await new Promise((resolve) => setImmediate(resolve))
    expect(await store.get(keys[0]!, context)).toBeDefined()
  })

  it('answer also for a Secret whose labels were taken away', async () => {
    const { api, store, context, keys } = await many(101)
    const name = Object.keys(api.secrets())[50]!
    api.edit('secrets', name, { metadata: { labels: null } })
    expect(await keysOf(store, 'renewals/')).toHaveLength(100)
    expect(textsOf(await readMany(store, keys, context))).toEqual(new Map(keys.map((each) => [each, each])))
  })

  it('hand out nothing that a finalizer keeps: whoever wants it is told', async () => {
    const { api, store, context, keys } = await many(101)
    const name = Object.keys(api.secrets())[50]!
    const deletionTimestamp = '2026-01-01T00:00:00Z'
    api.edit('secrets', name, { metadata: { finalizers: ['backup.test/keep'], deletionTimestamp } })
    const refused = await failureOf(readMany(store, keys, context))
    expect(refused.message).toMatch(/a finalizer keeps it/)
  })

  it('are left for requests of their own where they hold little of what is wanted', async () => {
    const { api, store, context } = await many(2_500)
    const wanted = Array.from({ length: 100 }, (_, index): StoreKey => `renewals/none${String(index)}`)
    expect(await readMany(store, wanted, context)).toEqual(wanted.map((each) => ({ key: each, stored: undefined })))
    expect(api.requests.filter(({ query }) => query.has('limit'))).toHaveLength(2)
    expect(api.requests).toHaveLength(102)
  })

  it('end for whoever aborts, and for nobody else', async () => {
    const { api, store, context, keys } = await many(300)
    const controller = new AbortController()
    const reason = new Error('stop')
    const aborted = operationContext({ signal: controller.signal })
    let release = (): void => undefined
    const held = new Promise<void>((resolve) => (release = resolve))
    api.onRequest = () => held.then(() => undefined as never)
    const ours = readMany(store, keys, aborted)
    const theirs = readMany(store, keys, context)
    await soon(() => api.requests.length === 2)
    controller.abort(reason)
    await expect(ours).rejects.toBe(reason)
    release()
    expect(textsOf(await theirs).size).toBe(300)
  })

  it('tell what is wrong with one value beside the others, and what is wrong with all', async () => {
    const { api, store, context, keys } = await many(200)
    const [first] = keys
    const name = Object.values(api.secrets()).find(
      ({ metadata }) => metadata.annotations?.['evercert.dev/key'] === first,
    )!
    api.edit('secrets', name.metadata.name, { data: { entry: 'eA==' } })
    const found = await readMany(store, keys, context)
    expect(found).toHaveLength(200)
    expect(found.filter(({ error }) => error !== undefined)).toMatchObject([
      { key: first, error: { code: 'ERR_STORE_CORRUPT', key: first } },
    ])
    api.onRequest = () => status(503, 'ServiceUnavailable', 'later')
    expect(await failureOf(readMany(store, keys, context))).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE' })
  })
})

describe('the Lease of a lock', () => {
  const ttlMs = 30_000
  async function locked() {
    const made = setUp()
    const clock = fakeClock({ now })
    const context = operationContext({ clock })
    const lock = (await made.store.lock!('www', context, { ttlMs }))!
    const lease = () => Object.values(made.api.leases())[0]!
    return { ...made, clock, context, lock, lease, name: lease().metadata.name }
  }
  const untilLost = async (clock: ReturnType<typeof fakeClock>, lock: { signal: AbortSignal }): Promise<unknown> => {
    await soon(async () => {
      await clock.advance(1_000)
      return lock.signal.aborted
    })
    return lock.signal.reason
  }

  it('shows people who holds it, since when, and how often it changed hands', async () => {
    const { clock, context, lock, lease, store } = await locked()
    expect(lease().spec).toEqual({
      holderIdentity: expect.stringMatching(/./) as string,
      leaseDurationSeconds: 30,
      acquireTime: '2026-01-01T00:00:00.000000Z',
      renewTime: '2026-01-01T00:00:00.000000Z',
      leaseTransitions: 0,
    })
    await soon(async () => {
      await clock.advance(1_000)
      return lease().spec?.['renewTime'] !== '2026-01-01T00:00:00.000000Z'
    })
    expect(lease().spec).toMatchObject({ acquireTime: '2026-01-01T00:00:00.000000Z', leaseTransitions: 0 })
    await lock.release()
    expect(lease().spec).not.toHaveProperty('holderIdentity')
    const next = (await store.lock!('www', context, { ttlMs }))!
    expect(lease().spec).toMatchObject({ leaseTransitions: 1 })
    await next.release()
  })

  it.each<[string, object]>([
    ['its holder cleared', { spec: { holderIdentity: null } }],
    ['its holder replaced', { spec: { holderIdentity: 'me' } }],
    ['its value removed', { metadata: { annotations: { 'evercert.dev/lease': null } } }],
    ['its value damaged', { metadata: { annotations: { 'evercert.dev/lease': 'eA==' } } }],
  ])('with %s by a person makes the holder let go, and is free again after one life', async (_, change) => {
    const { api, clock, lock, name, open } = await locked()
    api.edit('leases', name, change)
    expect(await untilLost(clock, lock)).toMatchObject({ code: 'ERR_STORE_LOCK_LOST' })
    const waiter = fakeClock({ now })
    const other = open()
    let next: Awaited<ReturnType<NonNullable<typeof other.lock>>>
    let looks = 0
    while (next === undefined && looks < 10) {
      next = await other.lock!('www', operationContext({ clock: waiter }), { ttlMs })
      await waiter.advance(ttlMs / 4)
      looks += 1
    }
    expect(looks).toBeLessThanOrEqual(5)
    expect(BigInt(next!.fencingToken)).toBeGreaterThan(BigInt(lock.fencingToken))
    await next!.release()
  })

  it('deleted while it is held makes the holder let go, and the next token is larger', async () => {
    const { api, clock, lock, name, store } = await locked()
    api.remove('leases', name)
    const next = (await store.lock!('www', operationContext({ clock: fakeClock({ now: now + 1_000 }) }), { ttlMs }))!
    expect(await untilLost(clock, lock)).toMatchObject({ code: 'ERR_STORE_LOCK_LOST' })
    expect(BigInt(next.fencingToken)).toBeGreaterThan(BigInt(lock.fencingToken))
    await lock.release()
    expect(next.signal.aborted).toBe(false)
    await next.release()
  })

  it('with a label of somebody else stays held', async () => {
    const { api, clock, lock, name } = await locked()
    for (let step = 0; step < 12; step += 1) {
      api.edit('leases', name, { metadata: { labels: { step: String(step) } } })
      const before = api.requests.length
      await clock.advance(ttlMs / 3)
      await soon(() => api.requests.length >= before + 2)
    }
    expect(lock.signal.aborted).toBe(false)
    await lock.release()
  })

  it('is let go when the API server is away for longer than it is trusted', async () => {
    const { api, clock, lock } = await locked()
    api.onRequest = () => status(503, 'ServiceUnavailable', 'later')
    expect(await untilLost(clock, lock)).toMatchObject({ code: 'ERR_STORE_LOCK_LOST' })
    expect(clock.now() - now).toBeLessThanOrEqual(ttlMs)
  })
})
