/**
 * kubernetesSecretDeployer and a real API server, with nothing but the Role that requiredPermissions() returns.
 */
import { execFile } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { createSecureContext } from 'node:tls'
import { promisify } from 'node:util'
import { KubeConfig } from '@kubernetes/client-node'
import { Agent, fetch as undiciFetch } from 'undici'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { CertificateBundle } from '../../src/core/certificate-bundle.js'
import { systemClock } from '../../src/core/clock.js'
import {
  kubernetesSecretDeployer,
  type FetchFunction,
  type KubernetesSecretDeployer,
  type KubernetesSecretDeployerOptions,
} from '../../src/deployers/kubernetes-secret/index.js'
import { CertError, type AnyCertError } from '../../src/errors.js'
import { RenewalScheduler } from '../../src/scheduler/renewal-scheduler.js'
import { memoryStore } from '../../src/stores/memory.js'
import { deployerContract } from '../../src/testing/deployer-contract.js'
import { operationContext } from '../../src/testing/operation-context.js'
import { assertNoSecrets, recordingLogger } from '../../src/testing/recording-logger.js'
import { createTestBundle } from '../../src/testing/test-bundle.js'
import { createTestAuthority } from '../../src/testing/test-ca/index.js'
import { loopbackCertificate } from '../support/certificates.js'
import { startJournalProxy, type JournalProxy } from '../support/journal-proxy.js'
import {
  kubeConfig,
  startKubeApiserver,
  writeTokenFile,
  type KubeApiserver,
  type KubeManifest,
  type KubeObject,
} from '../support/kube-apiserver.js'
import { pairOf } from '../support/read-pair.js'
import { scriptedIssuer } from '../support/scripted-issuer.js'
import { describeWith, requireServer } from '../support/servers.js'
import { temporaryDirectory } from '../support/temporary-directory.js'
import { probeTls } from '../support/tls-probe.js'

const authority = createTestAuthority()
const logger = recordingLogger()
const secretName = 'www-tls'
const account = 'evercert'

function newBundle(): Promise<CertificateBundle> {
  return createTestBundle({ name: 'www', identifiers: ['www.example.com'], authority })
}

function context(signal?: AbortSignal) {
  return operationContext({ clock: systemClock, logger, ...(signal === undefined ? {} : { signal }) })
}

const decode = (encoded: string | undefined): string => Buffer.from(encoded ?? '', 'base64').toString('utf8')
const encode = (plain: string): string => Buffer.from(plain).toString('base64')

describeWith(['etcd', 'kube-apiserver'], 'kubernetesSecretDeployer and kube-apiserver', () => {
  let kube: KubeApiserver
  beforeAll(async () => {
    kube = await startKubeApiserver()
  }, 180_000)
  afterAll(async () => {
    await kube.stop()
  })

  let namespace: string
  let counted = 0
  async function newNamespace(): Promise<string> {
    const name = `web-${(counted += 1)}`
    await kube.createServiceAccount(name, account)
    return name
  }
  beforeEach(async () => {
    namespace = await newNamespace()
  })

  const pathOf = (name = secretName, where = namespace): string => `/api/v1/namespaces/${where}/secrets/${name}`
  const secret = (where = namespace): Promise<KubeObject | undefined> => kube.admin.find(pathOf(secretName, where))
  const served = (found: KubeObject | undefined) =>
    found?.data?.['tls.crt'] === undefined
      ? undefined
      : pairOf(decode(found.data['tls.crt']), decode(found.data['tls.key']))
  const expectServed = async (bundle: CertificateBundle, where = namespace): Promise<void> => {
    expect(served(await secret(where))).toEqual({ fingerprintSha256: bundle.fingerprintSha256, keyMatches: true })
  }
  const tlsSecret = (
    more: Partial<Omit<KubeObject, 'metadata'>> & { metadata?: Partial<KubeObject['metadata']> } = {},
  ): KubeManifest => ({
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'kubernetes.io/tls',
    data: { 'tls.crt': encode('somebody else'), 'tls.key': encode('somebody else') },
    ...more,
    metadata: { name: secretName, namespace, ...more.metadata },
  })

  function configOf(user: Readonly<Record<string, unknown>>, url = kube.url, caPem = kube.caPem): KubeConfig {
    const config = new KubeConfig()
    config.loadFromString(JSON.stringify(kubeConfig(url, caPem, user)))
    return config
  }

  type Options = Partial<KubernetesSecretDeployerOptions> & { readonly url?: string; readonly caPem?: string }

  /** A deployer that runs as the service account of the test's namespace, with no rights yet. */
  async function deployerOf({ url, caPem, ...options }: Options = {}): Promise<KubernetesSecretDeployer> {
    const token = await kube.createToken(namespace, account)
    return kubernetesSecretDeployer({
      secretName,
      namespaces: [namespace],
      kubeConfig: configOf({ token }, url, caPem),
      timeoutMs: 10_000,
      ...options,
    })
  }

  async function grant(deployer: KubernetesSecretDeployer): Promise<void> {
    for (const manifest of deployer.requiredPermissions({ serviceAccount: { namespace, name: account } })) {
      await kube.admin.put(manifest as unknown as KubeManifest)
    }
    await untilRbac(deployer, 'granted')
  }

  /** The authorizer learns of a change a moment later. */
  async function untilRbac(deployer: KubernetesSecretDeployer, state: 'granted' | 'denied'): Promise<void> {
    const bundle = await newBundle()
    await vi.waitUntil(
      async () => {
        const error = await deployer.inspect?.(bundle, context()).then(
          () => undefined,
          (thrown: unknown) => thrown as Error,
        )
        return /may not get/.test(error?.message ?? '') === (state === 'denied')
      },
      { timeout: 20_000, interval: 20 },
    )
  }

  async function readyDeployer(options: Options = {}): Promise<KubernetesSecretDeployer> {
    const deployer = await deployerOf(options)
    await grant(deployer)
    return deployer
  }

  async function failureOf(work: Promise<unknown>): Promise<AnyCertError> {
    const error = await work.then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    if (!CertError.isInstance(error)) throw new Error(`expected a CertError, got ${String(error)}`)
    return error
  }

  /** Every request passes through `hook`, over real connections. */
  function hookedFetch(hook: (method: string, send: () => Promise<Response>) => Promise<Response>): FetchFunction {
    const dispatcher = new Agent({ connect: { ca: kube.caPem } })
    return ((url: string, init: RequestInit) =>
      hook(init.method ?? 'GET', async () => {
        const answer = await undiciFetch(url, { ...(init as object), dispatcher })
        return answer
      })) as FetchFunction
  }

  describe('contract', () => {
    deployerContract(
      { describe, it },
      {
        level: 'strict',
        clock: systemClock,
        async createDeployer() {
          namespace = await newNamespace()
          const proxy = await startJournalProxy({ upstreamUrl: kube.url, upstreamCaPem: kube.caPem })
          const foreign = { metadata: { annotations: { owner: 'them' }, labels: { team: 'web' } } }
          await kube.admin.put(tlsSecret({ type: 'Opaque', data: { 'other.txt': encode('not ours') }, ...foreign }))
          const url = new URL(proxy.directoryUrl).origin
          return {
            deployer: await readyDeployer({ url, caPem: proxy.caPem, combinedPem: true, labels: { app: 'www' } }),
            readDeployed: async () => served(await secret()),
            failNextWrite: () => {
              proxy.addRule({
                match: { method: 'PATCH', nth: 1 },
                action: { status: 503, body: 'no healthy upstream' },
              })
            },
            writes: () => proxy.count({ method: 'PATCH' }),
            unrelatedState: async () => {
              const { data, metadata, type } = (await secret())!
              const { app: ours, ...labels } = metadata.labels ?? {}
              return JSON.stringify([type, data?.['other.txt'], metadata.annotations, labels])
            },
            dispose: () => proxy.stop(),
          }
        },
      },
    )
  })

  it('creates the Secret, renews it in one write, and leaves it alone otherwise', async () => {
    const deployer = await readyDeployer({ labels: { app: 'www' }, annotations: { note: 'a line\nand another' } })
    const [one, two] = [await newBundle(), await newBundle()]
    expect(await deployer.inspect?.(one, context())).toBe('absent')
    expect(await deployer.deploy(one, context())).toEqual({ status: 'deployed', details: { [namespace]: 'deployed' } })
    const created = (await secret())!
    expect(created.type).toBe('kubernetes.io/tls')
    expect(decode(created.data?.['tls.crt'])).toBe(one.fullChainPem)
    expect(decode(created.data?.['tls.key'])).toBe(one.privateKey.exportPem())
    expect(Object.keys(created.data ?? {}).sort()).toEqual(['tls.crt', 'tls.key'])
    expect(created.metadata).toMatchObject({ labels: { app: 'www' }, annotations: { note: 'a line\nand another' } })
    expect(created.metadata.managedFields).toMatchObject([{ manager: 'evercert', operation: 'Apply' }])

    expect(await deployer.deploy(one, context())).toEqual({ status: 'unchanged' })
    expect((await secret())?.metadata.resourceVersion).toBe(created.metadata.resourceVersion)
    expect(await deployer.deploy(two, context())).toMatchObject({ status: 'deployed' })
    await expectServed(two)
    expect(await deployer.inspect?.(two, context())).toBe('current')
  })

  it('keeps type, entries, labels, annotations and owners of others', async () => {
    const metadata = {
      labels: { team: 'web' },
      annotations: { 'example.com/owner': 'them' },
      ownerReferences: [
        { apiVersion: 'v1', kind: 'Namespace', name: namespace, uid: '11111111-2222-3333-4444-555555555555' },
      ],
    }
    await kube.admin.put(tlsSecret({ type: 'Opaque', data: { 'dhparam.pem': encode('theirs') }, metadata }))
    const deployer = await readyDeployer({ labels: { app: 'www' }, ca: authority.rootPem })
    for (const bundle of [await newBundle(), await newBundle()]) {
      await deployer.deploy(bundle, context())
      await expectServed(bundle)
      const { type, data, metadata: after } = (await secret())!
      expect(type).toBe('Opaque')
      expect(decode(data?.['dhparam.pem'])).toBe('theirs')
      expect(new X509Certificate(decode(data?.['ca.crt'])).ca).toBe(true)
      expect(after).toMatchObject({ ...metadata, labels: { team: 'web', app: 'www' } })
    }
  })

  it('removes what it has written and no longer wants, and only that', async () => {
    const bundle = await newBundle()
    await (await readyDeployer({ combinedPem: true, labels: { app: 'www' } })).deploy(bundle, context())
    await kube.admin.call('PATCH', pathOf(), { data: { other: encode('theirs') } }, 'application/merge-patch+json')
    const plain = await deployerOf()
    expect(await plain.inspect?.(bundle, context())).toBe('stale')
    expect(await plain.deploy(bundle, context())).toMatchObject({ status: 'deployed' })
    const after = (await secret())!
    expect(Object.keys(after.data ?? {}).sort()).toEqual(['other', 'tls.crt', 'tls.key'])
    expect(after.metadata.labels).toBeUndefined()
    expect(await plain.deploy(bundle, context())).toEqual({ status: 'unchanged' })
  })

  it('needs every right that requiredPermissions() asks for', async () => {
    const deployer = await deployerOf()
    const [role, binding] = deployer.requiredPermissions({
      serviceAccount: { namespace, name: account },
    }) as unknown as (KubeManifest & { rules: { verbs: string[] }[] })[]
    await kube.admin.put(binding!)
    const verbs = role!.rules.flatMap((rule) => rule.verbs)
    expect(verbs).toEqual(['get', 'patch', 'create'])
    // Never all of them, whenever the authorizer learns of a change; without "get" is what it starts from.
    for (const missing of [...verbs].reverse()) {
      const rules = role!.rules
        .map((rule) => ({ ...rule, verbs: rule.verbs.filter((verb) => verb !== missing) }))
        .filter((rule) => rule.verbs.length > 0)
      await kube.admin.put({ ...role!, rules })
      const pattern = new RegExp(
        `system:serviceaccount:${namespace}:evercert may not ${missing} secrets in namespace ${namespace} .*requiredPermissions`,
      )
      await vi.waitUntil(
        async () => pattern.test((await failureOf(deployer.deploy(await newBundle(), context()))).message),
        { timeout: 20_000, interval: 20 },
      )
      expect(await secret()).toBeUndefined()
    }
    await grant(deployer)
    const bundle = await newBundle()
    await deployer.deploy(bundle, context())
    await expectServed(bundle)
  })

  it('can create, read and change nothing but its Secret', async () => {
    const deployer = await deployerOf()
    await grant(deployer)
    const bundle = await newBundle()
    await deployer.deploy(bundle, context())
    await expectServed(bundle)
    await kube.admin.put(tlsSecret({ metadata: { name: 'theirs' } }))
    const own = kube.client(await kube.createToken(namespace, account))
    const other = tlsSecret({ metadata: { name: 'other' } })
    for (const refused of [
      () => own.apply(pathOf('other'), other, 'evercert'),
      () => own.call('POST', `/api/v1/namespaces/${namespace}/secrets`, other),
      () => own.apply(pathOf('theirs'), tlsSecret({ metadata: { name: 'theirs' } }), 'evercert'),
      () => own.call('GET', pathOf('theirs')),
      () => own.call('GET', `/api/v1/namespaces/${namespace}/secrets`),
      () => own.call('DELETE', pathOf()),
    ]) {
      await expect(refused()).rejects.toThrow(/ 403 /)
    }
  })

  it('takes an empty Secret that somebody has made beforehand', async () => {
    await kube.admin.put({ apiVersion: 'v1', kind: 'Secret', metadata: { name: secretName, namespace } })
    const deployer = await readyDeployer()
    const bundle = await newBundle()
    expect(await deployer.inspect?.(bundle, context())).toBe('absent')
    await deployer.deploy(bundle, context())
    await expectServed(bundle)
    expect((await secret())?.type).toBe('Opaque')
  })

  it('refuses entries of another field manager by name, and takes them over when told to', async () => {
    await kube.admin.apply(
      pathOf(),
      tlsSecret({ data: { 'tls.crt': encode('x'), 'tls.key': encode('x') } }),
      'terraform',
    )
    const before = await secret()
    const bundle = await newBundle()
    const deployer = await readyDeployer()
    const error = await failureOf(deployer.deploy(bundle, context()))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED', retryable: false })
    expect(error.message).toMatch(/\.data\.tls\.crt, \.data\.tls\.key were written by terraform; .*"takeOver"/)
    expect(await secret()).toEqual(before)
    await (await deployerOf({ takeOver: true })).deploy(bundle, context())
    await expectServed(bundle)
    // And stays with it, without the option.
    await deployer.deploy(await newBundle(), context())
  })

  it('looks first at what somebody else has written meanwhile, and loses nothing of it', async () => {
    const [one, two] = [await newBundle(), await newBundle()]
    await (await readyDeployer()).deploy(one, context())
    let edits = 0
    const deployer = await deployerOf({
      takeOver: true,
      fetch: hookedFetch(async (method, send) => {
        if (method === 'PATCH' && edits < 2) {
          edits += 1
          await kube.admin.call(
            'PATCH',
            pathOf(),
            { data: { [`edit-${edits}`]: encode('theirs') } },
            'application/merge-patch+json',
          )
        }
        return send()
      }),
    })
    await deployer.deploy(two, context())
    await expectServed(two)
    expect((await secret())?.data).toMatchObject({ 'edit-1': encode('theirs'), 'edit-2': encode('theirs') })

    // Somebody who never stops: bounded, and nothing is overwritten.
    edits = -1_000
    const error = await failureOf(deployer.deploy(await newBundle(), context()))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
    expect(error.message).toMatch(/others change it at the same time/)
    await expectServed(two)
  })

  it('never takes the place of a certificate that cert-manager brings in this moment', async () => {
    const deployer = await readyDeployer({
      takeOver: true,
      fetch: hookedFetch(async (method, send) => {
        if (method === 'PATCH' && (await secret()) === undefined) {
          await kube.admin.apply(
            pathOf(),
            tlsSecret({ metadata: { annotations: { 'cert-manager.io/certificate-name': 'www' } } }),
            'cert-manager-certificates-issuing',
          )
        }
        return send()
      }),
    })
    const error = await failureOf(deployer.deploy(await newBundle(), context()))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED', retryable: false })
    expect(error.message).toMatch(/belongs to cert-manager's Certificate "www".*delete that Certificate/)
    expect(decode((await secret())?.data?.['tls.crt'])).toBe('somebody else')
    // The way the message shows.
    await kube.admin.call(
      'PATCH',
      pathOf(),
      { metadata: { annotations: { 'cert-manager.io/certificate-name': null } } },
      'application/merge-patch+json',
    )
    const bundle = await newBundle()
    await deployer.deploy(bundle, context())
    await expectServed(bundle)
  })

  it('says so when its rights are taken away, and goes on when they are back', async () => {
    const deployer = await readyDeployer()
    const [one, two] = [await newBundle(), await newBundle()]
    await deployer.deploy(one, context())
    const binding = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/rolebindings/evercert-${secretName}`
    await kube.admin.call('DELETE', binding)
    await untilRbac(deployer, 'denied')
    const error = await failureOf(deployer.deploy(two, context()))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED', retryable: false })
    expect(error.message).toContain(
      `system:serviceaccount:${namespace}:evercert may not get secrets in namespace ${namespace}`,
    )
    await expectServed(one)
    await grant(deployer)
    await deployer.deploy(two, context())
    await expectServed(two)
  })

  it('reads the token of its Pod anew for each request', async () => {
    const directory = await temporaryDirectory()
    try {
      const tokenFile = join(directory.path, 'token')
      const config = new KubeConfig()
      config.loadFromOptions({
        clusters: [{ name: 'in', server: kube.url, caData: encode(kube.caPem), skipTLSVerify: false }],
        // As loadFromCluster() has it.
        users: [{ name: 'in', authProvider: { name: 'tokenFile', config: { tokenFile } } }],
        contexts: [{ name: 'in', cluster: 'in', user: 'in' }],
        currentContext: 'in',
      })
      await writeTokenFile(tokenFile, await kube.createToken(namespace, account))
      const deployer = await readyDeployer({ kubeConfig: config })
      await deployer.deploy(await newBundle(), context())

      // A new account of the same name: every token of the old one is worth nothing from now on.
      await kube.admin.call('DELETE', `/api/v1/namespaces/${namespace}/serviceaccounts/${account}`)
      await kube.createServiceAccount(namespace, account)
      const refused = await vi.waitUntil(
        async () => {
          const error = await deployer.deploy(await newBundle(), context()).then(
            () => undefined,
            (thrown: unknown) => thrown as AnyCertError,
          )
          return error
        },
        { timeout: 30_000, interval: 50 },
      )
      expect(refused.message).toMatch(/does not accept the credentials \(401 Unauthorized/)
      await writeTokenFile(tokenFile, await kube.createToken(namespace, account))
      const bundle = await newBundle()
      await deployer.deploy(bundle, context())
      await expectServed(bundle)
    } finally {
      await directory.remove()
    }
  })

  it('asks once more when the token has been replaced in the moment of the request', async () => {
    const directory = await temporaryDirectory()
    try {
      const tokenFile = join(directory.path, 'token')
      await writeTokenFile(tokenFile, 'e30.e30.expired')
      const config = configOf({})
      vi.spyOn(config, 'getCurrentUser').mockReturnValue({ name: 'pod', authProvider: { config: { tokenFile } } })
      const token = await kube.createToken(namespace, account)
      await readyDeployer()
      let refused = 0
      const rotating = await deployerOf({
        kubeConfig: config,
        fetch: hookedFetch(async (_, send) => {
          const answer = await send()
          if (answer.status === 401) {
            refused += 1
            await writeTokenFile(tokenFile, token)
          }
          return answer
        }),
      })
      await rotating.deploy(await newBundle(), context())
      expect(refused).toBe(1)
    } finally {
      await directory.remove()
    }
  })

  it('explains an immutable Secret, and a type that holds no certificates', async () => {
    const deployer = await readyDeployer()
    const bundle = await newBundle()
    await deployer.deploy(bundle, context())
    await kube.admin.call('PATCH', pathOf(), { immutable: true }, 'application/merge-patch+json')
    expect(await deployer.deploy(bundle, context())).toEqual({ status: 'unchanged' })
    const error = await failureOf(deployer.deploy(await newBundle(), context()))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED', retryable: false })
    expect(error.message).toMatch(/it is immutable.*delete it, and it is made anew/)
    await expectServed(bundle)
    await kube.admin.call('DELETE', pathOf())
    await deployer.deploy(bundle, context())

    await kube.admin.call('DELETE', pathOf())
    const data = { '.dockerconfigjson': encode('{"auths":{}}') }
    await kube.admin.put(tlsSecret({ type: 'kubernetes.io/dockerconfigjson', data }))
    const other = await failureOf(deployer.deploy(bundle, context()))
    expect(other.message).toMatch(/of type "kubernetes.io\/dockerconfigjson", which holds no certificates/)
    expect((await secret())?.data).toEqual(data)
  })

  it('passes on what the API server says about a Secret that is too large, without its content', async () => {
    const deployer = await readyDeployer({ annotations: { note: 'x'.repeat(300_000) } })
    const bundle = await newBundle()
    const error = await failureOf(deployer.deploy(bundle, context()))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED', retryable: false })
    expect(error.message).toMatch(/422 Invalid: .*annotations: Too long/)
  })

  it('names the namespaces that fail, and serves the others', async () => {
    const [first, second] = [namespace, await newNamespace()]
    const namespaces = [first, 'there-is-none', second, 'nor-there']
    // As somebody who may write anywhere: only the namespaces are missing then.
    const admin = new KubeConfig()
    admin.loadFromFile(kube.adminKubeConfigPath)
    const everywhere = kubernetesSecretDeployer({ secretName, namespaces, kubeConfig: admin })
    const bundle = await newBundle()
    const error = await failureOf(everywhere.deploy(bundle, context()))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED' })
    expect(error.message).toMatch(
      /2 of 4 namespaces failed: .*there is no namespace there-is-none.*no namespace nor-there/,
    )
    await expectServed(bundle, first)
    await expectServed(bundle, second)
    const two = kubernetesSecretDeployer({ secretName, namespaces: [first, second], kubeConfig: admin })
    expect(await two.deploy(bundle, context())).toEqual({ status: 'unchanged' })
    await kube.admin.call('DELETE', pathOf(secretName, second))
    expect(await two.inspect?.(bundle, context())).toBe('absent')
    expect(await two.deploy(bundle, context())).toEqual({
      status: 'deployed',
      details: { [first]: 'unchanged', [second]: 'deployed' },
    })
  })

  it('shows why a webhook refuses, and nothing of the key that the webhook prints', async () => {
    const certificate = await loopbackCertificate()
    let seen = 0
    const webhook = createServer(
      { cert: certificate.certificatePem, key: certificate.privateKeyPem },
      (incoming, response) => {
        void (async () => {
          const { request } = JSON.parse(await text(incoming)) as {
            request: { uid: string; object: { data: Record<string, string> } }
          }
          const key = request.object.data['tls.key']!
          seen += 1
          const message = `team label missing in ${decode(key)} ${key} ${[...Buffer.from(decode(key))].join(' ')}`
          response.setHeader('content-type', 'application/json')
          response.end(
            JSON.stringify({
              apiVersion: 'admission.k8s.io/v1',
              kind: 'AdmissionReview',
              response: { uid: request.uid, allowed: false, status: { code: 403, message } },
            }),
          )
        })()
      },
    )
    await once(webhook.listen(0, '127.0.0.1'), 'listening')
    const { port } = webhook.address() as AddressInfo
    const name = `policy-${namespace}`
    const path = `/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/${name}`
    const deployer = await readyDeployer()
    const bundle = await newBundle()
    try {
      await kube.admin.put({
        apiVersion: 'admissionregistration.k8s.io/v1',
        kind: 'ValidatingWebhookConfiguration',
        metadata: { name },
        webhooks: [
          {
            name: 'labels.policy.example',
            clientConfig: { url: `https://127.0.0.1:${port}/`, caBundle: encode(certificate.caPem) },
            rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE', 'UPDATE'], resources: ['secrets'] }],
            namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
            admissionReviewVersions: ['v1'],
            sideEffects: 'None',
          },
        ],
      })
      const error = await vi.waitUntil(
        async () => {
          await kube.admin.call('DELETE', pathOf()).catch(() => undefined)
          return deployer.deploy(bundle, context()).then(
            () => undefined,
            (thrown: unknown) => thrown as AnyCertError,
          )
        },
        { timeout: 30_000, interval: 100 },
      )
      expect(seen).toBeGreaterThan(0)
      expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED', retryable: false })
      expect(error.message).toMatch(
        /admission webhook "labels\.policy\.example" denied the request: team label missing/,
      )
      const key = bundle.privateKey.exportPem()
      const lines = key.split('\n').filter((line) => line !== '' && !line.startsWith('-'))
      assertNoSecrets(error, [...lines, encode(key)])
      // A webhook that is away is a matter of time.
      webhook.closeAllConnections()
      await once(webhook.close(), 'close')
      const away = await failureOf(deployer.deploy(bundle, context()))
      expect(away).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
      expect(away.message).toMatch(/failed calling webhook "labels\.policy\.example"/)
    } finally {
      await kube.admin.call('DELETE', path).catch(() => undefined)
      webhook.close()
    }
  })

  it('writes a keystore with the password of another Secret, once', async () => {
    const passwordSecret = { name: 'keystore-password', key: 'password' }
    const putPassword = (password: string) =>
      kube.admin.put({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: passwordSecret.name, namespace },
        data: { password: encode(password) },
      })
    const deployer = await readyDeployer({ keystore: { passwordSecret } })
    const bundle = await newBundle()
    expect((await failureOf(deployer.deploy(bundle, context()))).message).toMatch(/no entry password of Secret/)
    await putPassword('changeit\n')
    expect((await failureOf(deployer.deploy(bundle, context()))).message).toMatch(/--from-literal/)

    await putPassword('changeit')
    await deployer.deploy(bundle, context())
    const first = (await secret())!
    const pfx = Buffer.from(first.data!['keystore.p12']!, 'base64')
    expect(() => createSecureContext({ pfx, passphrase: 'changeit' })).not.toThrow()
    const directory = await temporaryDirectory()
    try {
      const file = join(directory.path, 'keystore.p12')
      await writeFile(file, pfx)
      const args = ['pkcs12', '-in', file, '-passin', 'pass:changeit', '-nodes', '-info']
      const { stdout, stderr } = await promisify(execFile)(requireServer('openssl'), args)
      expect(
        new X509Certificate(stdout.slice(stdout.indexOf('-----BEGIN CERT'))).checkPrivateKey(createPrivateKey(stdout)),
      ).toBe(true)
      expect(stdout.match(/BEGIN CERTIFICATE/g)).toHaveLength(2)
      expect(stderr).toMatch(/PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256/)
    } finally {
      await directory.remove()
    }

    expect(await deployer.deploy(bundle, context())).toEqual({ status: 'unchanged' })
    expect((await secret())?.metadata.resourceVersion).toBe(first.metadata.resourceVersion)
    await putPassword('another one')
    expect(await deployer.inspect?.(bundle, context())).toBe('stale')
    await deployer.deploy(bundle, context())
    const renewed = Buffer.from((await secret())!.data!['keystore.p12']!, 'base64')
    expect(() => createSecureContext({ pfx: renewed, passphrase: 'another one' })).not.toThrow()
  })

  describe('through a bad network', () => {
    let proxy: JournalProxy
    let through: Options
    beforeEach(async () => {
      proxy = await startJournalProxy({ upstreamUrl: kube.url, upstreamCaPem: kube.caPem })
      through = { url: new URL(proxy.directoryUrl).origin, caPem: proxy.caPem }
      return () => proxy.stop()
    })

    it.each([429, 503])('waits as long as the server asks after %i', async (status) => {
      const deployer = await readyDeployer(through)
      const rule = proxy.addRule({
        match: { method: 'PATCH' },
        action: { status, headers: { 'retry-after': '120' }, body: 'slow down' },
      })
      const before = Date.now()
      const error = await failureOf(deployer.deploy(await newBundle(), context()))
      expect(rule.fired).toBe(1)
      expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
      expect(error.retryAt!.getTime()).toBeGreaterThanOrEqual(before + 119_000)
    })

    it('gives up on a connection that is open and silent', async () => {
      const deployer = await readyDeployer({ ...through, timeoutMs: 2_000 })
      const rule = proxy.addRule({ match: { method: 'PATCH' }, action: { delayMs: Infinity } })
      const error = await failureOf(deployer.deploy(await newBundle(), context()))
      expect(rule.fired).toBe(1)
      expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
      expect(error.message).toMatch(/no complete answer within 2000 ms/)
    })

    it('says which setting of the kubeconfig makes a server trusted', async () => {
      const error = await failureOf(
        (await deployerOf({ ...through, caPem: kube.caPem })).deploy(await newBundle(), context()),
      )
      expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE' })
      expect(error.message).toMatch(
        /not trusted; pass the root it ends in as "certificate-authority-data" of the kubeconfig/,
      )
    })

    const faults = ['drop-before', 'drop-after', 'truncate'] as const
    it.each(faults)('loses nothing when a connection breaks, at any request: %s', async (action) => {
      const deployer = await readyDeployer(through)
      let previous = await newBundle()
      await deployer.deploy(previous, context())
      for (let nth = 1; ; nth += 1) {
        const next = await newBundle()
        const rule = proxy.addRule({ match: { nth }, action })
        const error = await deployer.deploy(next, context()).then(
          () => undefined,
          (thrown: unknown) => thrown,
        )
        rule.remove()
        if (rule.fired === 0) {
          expect(nth).toBe(3)
          break
        }
        expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
        assertNoSecrets(error)
        const now = served(await secret())
        expect(now?.keyMatches).toBe(true)
        expect([previous.fingerprintSha256, next.fingerprintSha256]).toContain(now?.fingerprintSha256)
        // The reply was lost, the write was not: nothing is written twice.
        const again = await deployer.deploy(next, context())
        expect(again.status).toBe(now?.fingerprintSha256 === next.fingerprintSha256 ? 'unchanged' : 'deployed')
        await expectServed(next)
        previous = next
      }
    })
  })

  it.each(['before', 'after'] as const)('stops at once when aborted %s any request', async (moment) => {
    let previous = await newBundle()
    await (await readyDeployer()).deploy(previous, context())
    for (let nth = 1; ; nth += 1) {
      const controller = new AbortController()
      const reason = new Error('stop')
      let requests = 0
      const deployer = await deployerOf({
        fetch: hookedFetch(async (_, send) => {
          requests += 1
          if (requests === nth && moment === 'before') controller.abort(reason)
          const answer = await send()
          if (requests === nth && moment === 'after') controller.abort(reason)
          return answer
        }),
      })
      const next = await newBundle()
      const outcome = await deployer.deploy(next, context(controller.signal)).catch((error: unknown) => error)
      if (!controller.signal.aborted) {
        expect(nth).toBe(3)
        return
      }
      expect(outcome).toBe(reason)
      expect(requests).toBe(nth)
      const now = served(await secret())
      expect([previous.fingerprintSha256, next.fingerprintSha256]).toContain(now?.fingerprintSha256)
      await deployer.deploy(next, context())
      await expectServed(next)
      previous = next
    }
  })

  it('brings a placeholder before the first certificate, and never after it', async () => {
    const issuer = await scriptedIssuer({ clock: systemClock })
    let broken = true
    issuer.onIssue = () => {
      if (broken) throw new Error('the CA is away')
    }
    const store = memoryStore()
    const deployer = await readyDeployer()
    const schedulerOf = () =>
      new RenewalScheduler({
        store,
        certificates: [
          {
            name: 'www',
            identifiers: ['www.example.com'],
            issuers: [issuer],
            deployers: [deployer],
            placeholder: true,
          },
        ],
      })
    await schedulerOf().reconcile()
    const placeholder = new X509Certificate(decode((await secret())?.data?.['tls.crt']))
    expect(placeholder.subject).toContain('placeholder')
    expect(served(await secret())?.keyMatches).toBe(true)
    broken = false
    await schedulerOf().renew('www', { force: true })
    const real = served(await secret())!.fingerprintSha256
    expect(new X509Certificate(decode((await secret())?.data?.['tls.crt'])).subject).not.toContain('placeholder')

    // A process that has lost its store does not put a placeholder in the place of what is served.
    broken = true
    await new RenewalScheduler({
      store: memoryStore(),
      certificates: [
        { name: 'www', identifiers: ['www.example.com'], issuers: [issuer], deployers: [deployer], placeholder: true },
      ],
    }).reconcile()
    expect(served(await secret())?.fingerprintSha256).toBe(real)
  })

  it('is served by a TLS server that the Secret is mounted into, and the next one after the renewal', async () => {
    const directory = await temporaryDirectory()
    const mount = join(directory.path, 'tls')
    const deployer = await readyDeployer()
    const server = createServer({
      SNICallback: (_, done) => {
        void Promise.all([readFile(join(mount, 'tls.crt')), readFile(join(mount, 'tls.key'))]).then(
          ([cert, key]) => {
            done(null, createSecureContext({ cert, key }))
          },
          (error: unknown) => {
            done(error as Error)
          },
        )
      },
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    try {
      const { port } = server.address() as AddressInfo
      for (const bundle of [await newBundle(), await newBundle()]) {
        await deployer.deploy(bundle, context())
        await projectSecret((await secret())!, mount)
        const probe = await probeTls({ port, servername: 'www.example.com', caPem: authority.rootPem })
        expect(probe).toMatchObject({ fingerprintSha256: bundle.fingerprintSha256, authorized: true })
      }
    } finally {
      server.closeAllConnections()
      await once(server.close(), 'close')
      await directory.remove()
    }
  })

  it('has shown no key in any log line', () => {
    assertNoSecrets(logger.text())
  })
})

/** As the kubelet does (AtomicWriter): the entries of one version in a directory, and one link that is switched. */
async function projectSecret({ data = {}, metadata }: KubeObject, mount: string): Promise<void> {
  const version = `..${metadata.resourceVersion!}`
  await mkdir(join(mount, version), { recursive: true })
  for (const [entry, value] of Object.entries(data)) {
    await writeFile(join(mount, version, entry), Buffer.from(value, 'base64'))
    await rm(join(mount, entry), { force: true })
    await symlink(join('..data', entry), join(mount, entry))
  }
  await symlink(version, join(mount, '..data_tmp'))
  await rename(join(mount, '..data_tmp'), join(mount, '..data'))
}
