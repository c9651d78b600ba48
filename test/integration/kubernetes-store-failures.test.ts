/**
 * kubernetesStore when the API server cannot be reached, forgets its history, or takes rights and tokens away; and when
 * people edit what is stored.
 */
import { join } from 'node:path'
import { KubeConfig } from '@kubernetes/client-node'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import { silentLogger } from '../../src/core/logger.js'
import { CertError } from '../../src/errors.js'
import { RenewalScheduler } from '../../src/scheduler/renewal-scheduler.js'
import type { CertStore, StoreKey } from '../../src/stores/cert-store.js'
import { kubernetesStore, type KubernetesStoreOptions } from '../../src/stores/kubernetes/index.js'
import { objectNames } from '../../src/stores/kubernetes/object-names.js'
import { kubeAccount, type KubeAccount } from '../support/kube-account.js'
import { startKubeApiserver, writeTokenFile, type KubeApiserver, type KubeManifest } from '../support/kube-apiserver.js'
import { scriptedIssuer } from '../support/scripted-issuer.js'
import { describeWith } from '../support/servers.js'
import { countThrough } from '../support/store-faults.js'
import { tcpProxy, type TcpProxy } from '../support/tcp-proxy.js'
import { temporaryDirectory } from '../support/temporary-directory.js'

const key = 'certificates/www'
const context = { signal: new AbortController().signal, clock: systemClock, logger: silentLogger }
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))
/** On a machine that may be busy. */
const soon = (condition: () => boolean | Promise<boolean>) => vi.waitUntil(condition, { timeout: 30_000, interval: 20 })

async function valueOf(store: CertStore): Promise<string | undefined> {
  const stored = await store.get(key, context)
  return stored && Buffer.from(stored.value).toString()
}

/** What is told may be another thing at first: the server learns of changes a moment later. */
async function soonTold(attempt: () => Promise<unknown>, message: RegExp): Promise<void> {
  let told = ''
  try {
    await soon(async () => message.test((told = await messageOf(attempt()))))
  } catch {
    expect(told).toMatch(message)
  }
}

/** Empty when nothing was wrong. */
async function messageOf(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error === undefined) return ''
  if (!CertError.isInstance(error)) throw new Error('expected a CertError', { cause: error })
  expect(error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', retryable: true })
  return error.message
}

async function keysOf(store: CertStore): Promise<StoreKey[]> {
  const keys: StoreKey[] = []
  for await (const each of store.list('', context)) keys.push(each)
  return keys.sort()
}

describeWith(['etcd', 'kube-apiserver'], 'kubernetesStore and its server', () => {
  let kube: KubeApiserver
  let account: KubeAccount
  let count = 0
  beforeAll(async () => {
    // Watches and lists go to etcd, which forgets quickly.
    kube = await startKubeApiserver('--watch-cache=false', '--etcd-compaction-interval=2s')
    account = await kubeAccount(kube, 'certificates')
    await account.grant(kubernetesStore().requiredPermissions({ serviceAccount: account.serviceAccount }))
  }, 180_000)
  afterAll(() => kube.stop())

  const freshPrefix = (): string => `failures-${String((count += 1))}`
  async function open(options: KubernetesStoreOptions = {}, url?: string) {
    const { prefix = freshPrefix() } = options
    const { namespace } = account
    const store = kubernetesStore({ namespace, prefix, kubeConfig: await account.config(url), ...options })
    return { store, prefix, pathOf: (each: StoreKey) => secretPath(objectNames(prefix).nameOf(each)) }
  }
  const secretPath = (name: string): string => `/api/v1/namespaces/${account.namespace}/secrets/${name}`
  const through = (proxy: TcpProxy): string => `https://127.0.0.1:${String(proxy.port)}`
  const merge = (path: string, change: object) => kube.admin.call('PATCH', path, change, 'application/merge-patch+json')

  it('needs every right that requiredPermissions() asks for', async () => {
    const own = await kubeAccount(kube, 'little')
    const prefix = freshPrefix()
    const store = kubernetesStore({ namespace: own.namespace, prefix, kubeConfig: await own.config() })
    const manifests = store.requiredPermissions({ serviceAccount: own.serviceAccount })
    await own.grant(manifests)
    await store.put(key, bytes('old'), context)
    const attempts: Readonly<Record<string, () => Promise<unknown>>> = {
      'get secrets': () => store.get(key, context),
      'list secrets': () => keysOf(store),
      'watch secrets': async () => {
        // While it is allowed it goes on.
        const signal = AbortSignal.timeout(500)
        await store.watch!('', () => undefined, { ...context, signal }).catch((error: unknown) => {
          if (!signal.aborted) throw error
        })
      },
      'create secrets': () => store.put('certificates/new', bytes('new'), context, { ifRevision: null }),
      'patch secrets': () => store.put(key, bytes('new'), context),
      'delete secrets': () => store.delete(key, context),
      'get leases': () => store.lock!('www', context, { ttlMs: 60_000 }),
      'create leases': () => store.lock!('new', context, { ttlMs: 60_000 }),
      'patch leases': async () => (await store.lock!('again', context, { ttlMs: 300 }))?.release(),
    }
    await (await store.lock!('again', context, { ttlMs: 300 }))?.release()
    const role = manifests[0] as unknown as KubeManifest & { rules: { resources: string[]; verbs: string[] }[] }
    const asked = role.rules.flatMap(({ resources, verbs }) => verbs.map((verb) => `${verb} ${resources[0]!}`))
    expect(asked.sort()).toEqual(Object.keys(attempts).sort())
    for (const [right, attempt] of Object.entries(attempts)) {
      const [verb, resource] = right.split(' ')
      const rules = role.rules.map((rule) =>
        rule.resources[0] === resource ? { ...rule, verbs: rule.verbs.filter((each) => each !== verb) } : rule,
      )
      await kube.admin.put({ ...role, rules })
      const pattern = new RegExp(`evercert may not ${verb!} ${resource!} in namespace little .*requiredPermissions`)
      await soonTold(attempt, pattern)
    }
    await kube.admin.put(role)
    await soonTold(() => store.delete(key, context), /^$/)
    await store.close?.()
  })

  it('can do nothing elsewhere, and to nothing else', async () => {
    const own = kube.client(await kube.createToken(account.namespace, 'evercert'))
    for (const refused of [
      () => own.call('GET', '/api/v1/namespaces/default/secrets'),
      () => own.call('GET', `/api/v1/namespaces/${account.namespace}/configmaps`),
      () => own.call('GET', '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases'),
      () => own.call('DELETE', `/apis/coordination.k8s.io/v1/namespaces/${account.namespace}/leases`),
    ]) {
      await expect(refused()).rejects.toThrow(/ 403 /)
    }
  })

  it('counts every acknowledged change while its connections are cut', async () => {
    const proxy = await tcpProxy(Number(new URL(kube.url).port))
    const { store } = await open({ timeoutMs: 5_000 }, through(proxy))
    let working = true
    const cut = async (): Promise<number> => {
      let cuts = 0
      while (working) {
        proxy.cut()
        proxy.restore()
        cuts += 1
        await systemClock.sleep(60)
      }
      return cuts
    }
    const cutting = cut()
    const { acknowledged, unknown, value } = await countThrough(store, key, 40).finally(() => (working = false))
    expect(await cutting).toBeGreaterThan(3)
    console.log(`${String(acknowledged)} acknowledged, ${String(unknown)} unknown, ${String(value)} counted`)
    await store.close?.()
    await proxy.close()
  })

  it.each(['drop-before', 'drop-after'] as const)(
    'starts no order that it could not store, and obtains one certificate, also with %s at any request',
    { timeout: 300_000 },
    async (fault) => {
      const proxy = await tcpProxy(Number(new URL(kube.url).port))
      let fired = 0
      for (let nth = 1; ; nth += 1) {
        const { store, prefix } = await open({}, through(proxy))
        const { store: direct } = await open({ prefix })
        const issuer = await scriptedIssuer({ clock: systemClock })
        issuer.onIssue = async ({ idempotencyKey }) => {
          const stored = await direct.get('renewals/www', context)
          expect(Buffer.from(stored!.value).toString()).toContain(JSON.stringify(idempotencyKey))
        }
        const scheduler = new RenewalScheduler({
          ...{ store, lockTtlMs: 1_000 },
          certificates: [{ name: 'www', identifiers: ['www.example.com'], issuers: [issuer] }],
        })
        await store.get(key, context)
        proxy.arm(nth, fault)
        await soon(async () => {
          const { status } = await scheduler.renew('www')
          return status === 'renewed' || status === 'unchanged'
        })
        const happened = proxy.disarm()
        expect(issuer.issued.size, `${fault} at request ${String(nth)}`).toBe(1)
        expect(await direct.get(key, context)).toBeDefined()
        await store.close?.()
        await direct.close?.()
        if (!happened) break
        fired += 1
      }
      expect(fired).toBeGreaterThan(10)
      console.log(`kubernetes, ${fault}: ${String(fired)} requests of an issuance failed`)
      await proxy.close()
    },
  )

  it('lets go of a lock when the server is away, which another process has soon after', async () => {
    const proxy = await tcpProxy(Number(new URL(kube.url).port))
    const prefix = freshPrefix()
    const ttlMs = 2_000
    const { store } = await open({ prefix }, through(proxy))
    const { store: other } = await open({ prefix })
    const lock = (await store.lock!('www', context, { ttlMs }))!
    proxy.cut()
    const cutAt = performance.now()
    let lostAt = Infinity
    lock.signal.addEventListener('abort', () => (lostAt = performance.now()))
    let next: Awaited<ReturnType<NonNullable<CertStore['lock']>>>
    await soon(async () => (next = await other.lock!('www', context, { ttlMs })) !== undefined)
    const takenAt = performance.now()
    expect(lock.signal.reason).toMatchObject({ code: 'ERR_STORE_LOCK_LOST' })
    expect(lostAt).toBeLessThan(takenAt)
    expect(takenAt - cutAt).toBeLessThan(ttlMs + 15_000)
    proxy.restore()
    await lock.release()
    expect(next!.signal.aborted).toBe(false)
    await next!.release()
    await store.close?.()
    await proxy.close()
  })

  it('lets go of a lock whose Lease a person has edited or deleted', async () => {
    const { store, prefix } = await open()
    const path = `/apis/coordination.k8s.io/v1/namespaces/${account.namespace}/leases/${objectNames(prefix).nameOf('lock www')}`
    for (const interfere of [
      () => merge(path, { spec: { holderIdentity: null } }),
      () => merge(path, { spec: { renewTime: null } }),
      () => kube.admin.call('DELETE', path),
    ]) {
      const lock = await lockOf(store, 'www', 1_500)
      const { spec } = (await kube.admin.call('GET', path)) as unknown as { spec: object }
      expect(spec).toMatchObject({ holderIdentity: expect.any(String) as string, leaseDurationSeconds: 2 })
      await interfere()
      await soon(() => lock.signal.aborted)
      expect(lock.signal.reason).toMatchObject({ code: 'ERR_STORE_LOCK_LOST' })
    }
    await (await lockOf(store, 'www', 1_500)).release()
    await store.close?.()
  })

  async function lockOf(store: CertStore, name: string, ttlMs: number) {
    let lock: Awaited<ReturnType<NonNullable<CertStore['lock']>>>
    await soon(async () => (lock = await store.lock!(name, context, { ttlMs })) !== undefined)
    return lock!
  }

  it('says so when its rights are taken away, and goes on when they are back', async () => {
    const own = await kubeAccount(kube, 'revoked')
    const store = kubernetesStore({ namespace: own.namespace, kubeConfig: await own.config() })
    const manifests = store.requiredPermissions({ serviceAccount: own.serviceAccount })
    await own.grant(manifests)
    let revision = await store.put(key, bytes('old'), context)
    const lock = (await store.lock!('www', context, { ttlMs: 1_500 }))!
    const told: StoreKey[] = []
    const abort = new AbortController()
    const watching = store.watch!('', (each) => told.push(each), { ...context, signal: abort.signal })
    watching.catch(() => undefined)
    await soon(async () => {
      revision = await store.put(key, bytes('old'), context)
      return told.length > 0
    })
    await own.revoke()
    told.length = 0
    for (const work of [
      () => store.get(key, context),
      () => store.put(key, bytes('new'), context, { ifRevision: revision }),
      () => store.delete(key, context, { ifRevision: revision }),
      () => keysOf(store),
      () => store.lock!('other', context, { ttlMs: 60_000 }),
    ]) {
      await soonTold(work, /may not \w+ (secrets|leases) in namespace revoked/)
    }
    await soon(() => lock.signal.aborted)
    await own.grant(manifests)
    await soonTold(() => store.put(key, bytes('new'), context, { ifRevision: revision }), /^$/)
    expect(await valueOf(store)).toBe('new')
    await soon(() => told.includes(key))
    abort.abort()
    await store.close?.()
  })

  it('reads the token of its Pod anew for each request', async () => {
    const own = await kubeAccount(kube, 'rotated')
    const directory = await temporaryDirectory()
    try {
      const tokenFile = join(directory.path, 'token')
      const config = new KubeConfig()
      config.loadFromOptions({
        clusters: [
          { name: 'in', server: kube.url, caData: Buffer.from(kube.caPem).toString('base64'), skipTLSVerify: false },
        ],
        // As loadFromCluster() has it.
        users: [{ name: 'in', authProvider: { name: 'tokenFile', config: { tokenFile } } }],
        contexts: [{ name: 'in', cluster: 'in', user: 'in', namespace: 'rotated' }],
        currentContext: 'in',
      })
      const store = kubernetesStore({ kubeConfig: config })
      await own.grant(store.requiredPermissions({ serviceAccount: own.serviceAccount }))
      await writeTokenFile(tokenFile, await kube.createToken('rotated', 'evercert'))
      const revision = await store.put(key, bytes('old'), context)
      // A new account of the same name: every token of the old one is worth nothing from now on.
      await kube.admin.call('DELETE', '/api/v1/namespaces/rotated/serviceaccounts/evercert')
      await kube.createServiceAccount('rotated', 'evercert')
      await soonTold(() => store.get(key, context), /does not accept the credentials \(401/)
      await writeTokenFile(tokenFile, await kube.createToken('rotated', 'evercert'))
      await store.put(key, bytes('new'), context, { ifRevision: revision })
      expect(await valueOf(store)).toBe('new')
      await store.close?.()
    } finally {
      await directory.remove()
    }
  })

  it('keeps what others put on its Secrets, and says what is wrong with those that it cannot write', async () => {
    const { store, pathOf } = await open()
    const first = await store.put(key, bytes('one'), context, { ifRevision: null })
    const others = { metadata: { labels: { team: 'web' }, annotations: { note: 'theirs' } }, data: { theirs: 'eA==' } }
    await merge(pathOf(key), others)
    const second = await store.put(key, bytes('two'), context, { ifRevision: first })
    expect(await kube.admin.find(pathOf(key))).toMatchObject({ ...others, type: 'evercert.dev/entry' })

    await merge(pathOf(key), { data: { theirs: Buffer.alloc(1_000_000).toString('base64') } })
    const large = bytes('x'.repeat(100_000))
    expect(await messageOf(store.put(key, large, context, { ifRevision: second }))).toMatch(/422 Invalid: .*Too long/)
    await merge(pathOf(key), { data: { theirs: null }, immutable: true })
    expect(await messageOf(store.put(key, large, context, { ifRevision: second }))).toMatch(/422 Invalid: .*immutable/)
    expect(await valueOf(store)).toBe('two')
    await store.delete(key, context, { ifRevision: second })
    expect(await valueOf(store)).toBeUndefined()
    await store.close?.()
  })

  it('says that there is no namespace, or that it is on its way out', async () => {
    const admin = { kubeConfigFile: kube.adminKubeConfigPath }
    const nowhere = kubernetesStore({ ...admin, namespace: 'there-is-none' })
    expect(await messageOf(nowhere.put(key, bytes('x'), context))).toMatch(
      /there is no namespace there-is-none; create it/,
    )
    await kube.createServiceAccount('leaving', 'evercert')
    const leaving = kubernetesStore({ ...admin, namespace: 'leaving' })
    await leaving.put(key, bytes('x'), context)
    // No controller is there to end it.
    await kube.admin.call('DELETE', '/api/v1/namespaces/leaving')
    await soon(async () =>
      /namespace is being deleted/.test(
        await messageOf(leaving.put('certificates/new', bytes('x'), context, { ifRevision: null })),
      ),
    )
    expect(await valueOf(leaving)).toBe('x')
  })

  describe('that forgets its history', () => {
    /** The server answers 410 to whoever asks for what was at a version. */
    async function untilForgotten(version: string, direct: CertStore): Promise<void> {
      const then = `resourceVersion=${version}&resourceVersionMatch=Exact&limit=1`
      await soon(async () => {
        // What is compacted is always what was before something else.
        await direct.put('orders/passing', bytes('x'), context)
        const path = `/api/v1/namespaces/${account.namespace}/secrets?${then}`
        const answer = await kube.admin.call('GET', path).catch((error: unknown) => String(error))
        return typeof answer === 'string' && answer.includes(' 410 ')
      })
    }
    const versionNow = async (): Promise<string> => {
      const list = await kube.admin.call('GET', `/api/v1/namespaces/${account.namespace}/secrets?limit=1`)
      return list.metadata.resourceVersion!
    }

    it('tells a watch that was cut off of every key', { timeout: 120_000 }, async () => {
      const proxy = await tcpProxy(Number(new URL(kube.url).port))
      const { store: direct, prefix } = await open()
      const { store } = await open({ prefix }, through(proxy))
      const keys: StoreKey[] = ['certificates/a', 'certificates/b', 'certificates/c']
      for (const each of keys) await direct.put(each, bytes('x'), context)
      const told: StoreKey[] = []
      const abort = new AbortController()
      const ended = store.watch!('certificates/', (each) => told.push(each), { ...context, signal: abort.signal })
      await soon(async () => {
        await direct.put(key, bytes('x'), context)
        return told.length > 0
      })
      proxy.cut()
      await direct.delete(key, context)
      await untilForgotten(await versionNow(), direct)
      told.length = 0
      proxy.restore()
      await soon(() => told.length >= keys.length)
      expect([...told].sort()).toEqual(keys)
      abort.abort(new Error('stop'))
      await expect(ended).rejects.toThrow('stop')
      await proxy.close()
    })

    it('gives a list that takes long whole, and each key once', { timeout: 180_000 }, async () => {
      const kubeConfig = await account.config()
      // Who asks is looked up for each request.
      const applying = vi.spyOn(kubeConfig, 'applyToHTTPSOptions')
      const { store, prefix } = await open({ kubeConfig })
      const { store: direct } = await open({ prefix })
      const keys = Array.from({ length: 2_020 }, (_, index): StoreKey => `renewals/n${String(index)}`)
      for (let first = 0; first < keys.length; first += 20) {
        await Promise.all(keys.slice(first, first + 20).map((each) => store.put(each, bytes('x'), context)))
      }
      applying.mockClear()
      const listed: StoreKey[] = []
      for await (const each of store.list('renewals/', context)) {
        listed.push(each)
        if (listed.length === 1) await untilForgotten(await versionNow(), direct)
      }
      expect(listed.sort()).toEqual(keys.sort())
      // A page, the next one in vain, and from where the server says; more if it says so in Protocol Buffers.
      expect(applying.mock.calls.length).toBeGreaterThanOrEqual(3)
      await store.close?.()
    })
  })
})
