import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer, type RequestOptions } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { describe, expect, it, vi } from 'vitest'
import {
  kubernetesSecretDeployer,
  type FetchFunction,
  type KubernetesConfig,
  type KubernetesSecretDeployerOptions,
} from '../../../../src/deployers/kubernetes-secret/index.js'
import { systemClock } from '../../../../src/core/clock.js'
import { CertError, DeployError, type AnyCertError } from '../../../../src/errors.js'
import { RenewalScheduler } from '../../../../src/scheduler/renewal-scheduler.js'
import { memoryStore } from '../../../../src/stores/memory.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { assertNoSecrets } from '../../../../src/testing/recording-logger.js'
import { createTestBundle } from '../../../../src/testing/test-bundle.js'
import { testAuthority } from '../../../support/certificates.js'
import { fakeKubeApi } from '../../../support/fake-kube-api.js'
import { kubeConfig as kubeConfigFile } from '../../../support/kube-apiserver.js'
import { scriptedIssuer } from '../../../support/scripted-issuer.js'
import { temporaryDirectory } from '../../../support/temporary-directory.js'

const token = 'token-that-must-not-be-shown'
const bundle = await createTestBundle()
const authority = await testAuthority()
const now = Date.parse('2026-01-01T00:00:00Z')

interface Parts {
  readonly server?: string
  readonly skipTLSVerify?: boolean
  readonly proxyUrl?: string
  readonly user?: { readonly authProvider?: unknown }
  readonly apply?: (options: RequestOptions) => void | Promise<void>
}

function configOf({ server = 'https://kube.test:6443/', user = {}, apply, ...cluster }: Parts = {}): KubernetesConfig {
  return {
    getCurrentCluster: () => ({ server, ...cluster }),
    getCurrentUser: () => user,
    async applyToHTTPSOptions(options) {
      options.headers = { Authorization: `Bearer ${token}` }
      await apply?.(options)
    },
  }
}

interface Sent {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
}

/** Answers by method; remembers what was asked. */
function scriptedFetch(answers: (sent: Sent, count: number) => Response | Promise<Response>) {
  const sent: Sent[] = []
  const fetch = (async (url: string, init: RequestInit) => {
    const request: Sent = {
      method: init.method!,
      url,
      headers: init.headers as Record<string, string>,
      body: init.body as string | undefined,
    }
    sent.push(request)
    return answers(request, sent.length)
  }) as FetchFunction
  return { fetch, sent }
}

const notFound = () => new Response('{}', { status: 404 })
/** As the API server stores what was applied. */
function stored({ body }: Sent, change: (secret: Record<string, unknown>) => void = () => undefined): Response {
  const manifest = JSON.parse(body!) as Record<string, unknown> & { metadata: object }
  const secret = { ...manifest, metadata: { ...manifest.metadata, resourceVersion: '1' } }
  change(secret)
  return new Response(JSON.stringify(secret), { status: 201 })
}

function deployerOf(options: Partial<KubernetesSecretDeployerOptions> = {}) {
  return kubernetesSecretDeployer({ secretName: 'www-tls', namespaces: ['web'], kubeConfig: configOf(), ...options })
}

async function failureOf(work: Promise<unknown>): Promise<AnyCertError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!CertError.isInstance(error)) throw new Error(`expected a CertError, got ${String(error)}`)
  assertNoSecrets(error, [token])
  return error
}

describe('requests of kubernetesSecretDeployer', () => {
  it('are one read and one server-side apply', async () => {
    const { fetch, sent } = scriptedFetch((request) => (request.method === 'GET' ? notFound() : stored(request)))
    const deployer = deployerOf({ fetch, fieldManager: 'ours & theirs', labels: { app: 'www' } })
    await deployer.deploy(bundle, operationContext())
    expect(sent.map(({ method, url }) => `${method} ${url}`)).toEqual([
      'GET https://kube.test:6443/api/v1/namespaces/web/secrets/www-tls',
      'PATCH https://kube.test:6443/api/v1/namespaces/web/secrets/www-tls?fieldManager=ours+%26+theirs',
    ])
    expect(sent[1]?.headers).toMatchObject({
      authorization: `Bearer ${token}`,
      'content-type': 'application/apply-patch+yaml',
    })
    expect(JSON.parse(sent[1]!.body!)).toEqual({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'www-tls', namespace: 'web', labels: { app: 'www' } },
      type: 'kubernetes.io/tls',
      data: {
        'tls.crt': Buffer.from(bundle.fullChainPem).toString('base64'),
        'tls.key': Buffer.from(bundle.privateKey.exportPem()).toString('base64'),
      },
    })
  })

  it('carry what the kubeconfig says about who asks', async () => {
    const { fetch, sent } = scriptedFetch((request) => (request.method === 'GET' ? notFound() : stored(request)))
    const apply = (options: RequestOptions): void => {
      options.headers = { 'Impersonate-User': 'somebody' }
      options.auth = 'user:pass'
    }
    await deployerOf({ fetch, kubeConfig: configOf({ apply }) }).deploy(bundle, operationContext())
    expect(sent[0]?.headers).toMatchObject({
      'impersonate-user': 'somebody',
      authorization: `Basic ${Buffer.from('user:pass').toString('base64')}`,
    })
  })

  it('are sent once more after 401, and then no more', async () => {
    const { fetch, sent } = scriptedFetch(() => new Response('', { status: 401 }))
    expect(await failureOf(deployerOf({ fetch }).deploy(bundle, operationContext()))).toMatchObject({
      code: 'ERR_DEPLOY_REJECTED',
      retryable: true,
    })
    expect(sent).toHaveLength(2)
  })
})

describe('a Secret that appears in the moment it is to be created', () => {
  it('is read, whatever fields it has, before anything is decided', async () => {
    const owned = {
      kind: 'Secret',
      metadata: { name: 'www-tls', namespace: 'web', resourceVersion: '9' },
      type: 'Opaque',
      data: { other: 'eA==' },
    }
    const cause = { reason: 'FieldManagerConflict', message: 'conflict with "helm" using v1', field: '.type' }
    const conflict = { kind: 'Status', code: 409, reason: 'Conflict', message: 'x', details: { causes: [cause] } }
    const { fetch, sent } = scriptedFetch((request, count) => {
      if (count === 1) return notFound()
      if (count === 2) return new Response(JSON.stringify(conflict), { status: 409 })
      return request.method === 'GET' ? new Response(JSON.stringify(owned)) : stored(request)
    })
    const clock = fakeClock({ now, autoAdvance: true })
    expect((await deployerOf({ fetch }).deploy(bundle, operationContext({ clock }))).status).toBe('deployed')
    expect(sent.map(({ method }) => method)).toEqual(['GET', 'PATCH', 'GET', 'PATCH'])
    expect(JSON.parse(sent[3]!.body!)).toMatchObject({ type: 'Opaque', metadata: { resourceVersion: '9' } })
  })
})

describe('answers that are none', () => {
  it.each<[string, () => Response, object]>([
    ['HTML', () => new Response('<html>'), { code: 'ERR_DEPLOY_UNAVAILABLE' }],
    ['null', () => new Response('null'), { code: 'ERR_DEPLOY_UNAVAILABLE' }],
    ['another kind', () => new Response('{"kind":"ConfigMap"}'), { code: 'ERR_DEPLOY_UNAVAILABLE' }],
    [
      'another Secret',
      () => new Response('{"kind":"Secret","metadata":{"name":"other","namespace":"web","resourceVersion":"1"}}'),
      { code: 'ERR_DEPLOY_UNAVAILABLE' },
    ],
    [
      'a Secret without a version',
      () => new Response('{"kind":"Secret","metadata":{"name":"www-tls","namespace":"web"}}'),
      { code: 'ERR_DEPLOY_UNAVAILABLE' },
    ],
    ['one without end', () => new Response('x'.repeat(5_000_000)), { code: 'ERR_DEPLOY_UNAVAILABLE' }],
    [
      'a redirect',
      () => new Response('', { status: 307, headers: { location: 'https://x' } }),
      { code: 'ERR_DEPLOY_REJECTED' },
    ],
  ])('%s', async (_, answer, expected) => {
    const { fetch, sent } = scriptedFetch(answer)
    expect(await failureOf(deployerOf({ fetch }).deploy(bundle, operationContext()))).toMatchObject(expected)
    expect(sent).toHaveLength(1)
  })

  it('and a Secret that a webhook has changed on its way is told', async () => {
    const { fetch } = scriptedFetch((request) =>
      request.method === 'GET'
        ? notFound()
        : stored(request, (secret) => (secret['data'] = { 'tls.crt': 'eA==', 'tls.key': 'eA==' })),
    )
    expect(await failureOf(deployerOf({ fetch }).deploy(bundle, operationContext()))).toMatchObject({
      code: 'ERR_DEPLOY_VERIFY_FAILED',
      retryable: true,
    })
  })
})

describe('several namespaces', () => {
  it('wait as long as the one that asks for most', async () => {
    const { fetch } = scriptedFetch(({ url }) => {
      const wait = /namespaces\/(\w+)/.exec(url)?.[1] === 'one' ? '10' : '60'
      return new Response('', { status: 503, headers: { 'retry-after': wait } })
    })
    const clock = fakeClock({ now })
    const error = await failureOf(
      deployerOf({ fetch, namespaces: ['one', 'two'] }).deploy(bundle, operationContext({ clock })),
    )
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true, retryAt: new Date(now + 60_000) })
    expect(error.message).toMatch(/2 of 2 namespaces failed: .*Secret one\/www-tls.*Secret two\/www-tls/)
  })

  it('are a few at once', async () => {
    let [running, most] = [0, 0]
    const { fetch, sent } = scriptedFetch(async () => {
      most = Math.max(most, (running += 1))
      await new Promise((resolve) => setImmediate(resolve))
      running -= 1
      return notFound()
    })
    const namespaces = Array.from({ length: 20 }, (_, index) => `n${String(index)}`)
    expect(await deployerOf({ fetch, namespaces }).inspect?.(bundle, operationContext())).toBe('absent')
    expect(sent).toHaveLength(20)
    expect(most).toBe(4)
  })
})

describe('a placeholder in several namespaces', () => {
  const theirs = { type: 'kubernetes.io/tls', data: { 'tls.crt': 'eA==', 'tls.key': 'eA==' } }
  const placeholder = createTestBundle({ placeholder: true })

  function twoNamespaces() {
    const api = fakeKubeApi()
    api.put('served', 'www-tls', theirs)
    const { kubeConfig, fetch } = api
    return { api, deployer: deployerOf({ namespaces: ['served', 'empty'], kubeConfig, fetch }) }
  }

  it('goes where there is no certificate, and nowhere else', async () => {
    const { api, deployer } = twoNamespaces()
    const bundle = await placeholder
    expect(await deployer.inspect?.(bundle, operationContext())).toBe('absent')
    expect(await deployer.deploy(bundle, operationContext())).toEqual({
      status: 'deployed',
      details: { served: 'kept', empty: 'deployed' },
    })
    expect(api.secret('served', 'www-tls')).toMatchObject(theirs)
    expect(api.secret('empty', 'www-tls')?.data['tls.crt']).toBe(Buffer.from(bundle.fullChainPem).toString('base64'))
    expect(await deployer.deploy(bundle, operationContext())).toEqual({ status: 'unchanged' })
    expect(await deployer.inspect?.(bundle, operationContext())).toBe('stale')
    expect(api.writes).toBe(1)
  })

  it('is refused where every namespace has a certificate', async () => {
    const { api, deployer } = twoNamespaces()
    api.put('empty', 'www-tls', theirs)
    const error = await failureOf(deployer.deploy(await placeholder, operationContext()))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED', retryable: true })
    expect(error.message).toMatch(/Secret www-tls holds a certificate already/)
    expect(api.writes).toBe(0)
  })

  it('comes by the scheduler, also where a namespace of the others may not even be read', async () => {
    const { api } = twoNamespaces()
    const fetch: FetchFunction = (url, init) =>
      (url as string).includes('/forbidden/')
        ? Promise.resolve(new Response('', { status: 403 }))
        : api.fetch(url, init)
    const { kubeConfig } = api
    const deployer = deployerOf({ namespaces: ['forbidden', 'served', 'empty'], kubeConfig, fetch })
    const clock = fakeClock({ now })
    const issuer = await scriptedIssuer({ clock })
    issuer.onIssue = () => {
      throw new Error('the CA is away')
    }
    const scheduler = new RenewalScheduler({
      store: memoryStore(),
      clock,
      certificates: [
        { name: 'www', identifiers: ['www.example.com'], issuers: [issuer], deployers: [deployer], placeholder: true },
      ],
    })
    const failures: string[] = []
    scheduler.on('deployment-failed', ({ error }) => failures.push(String(error)))
    await scheduler.reconcile()
    expect(api.secret('served', 'www-tls')).toMatchObject(theirs)
    expect(api.secret('empty', 'www-tls')?.data['tls.crt']).toBeDefined()
    expect(failures).toEqual([expect.stringMatching(/1 of 3 namespaces failed: cannot read Secret forbidden/)])
  })
})

describe('an abort', () => {
  it('passes its reason on as it is, also when that is an error of ours', async () => {
    const controller = new AbortController()
    const { fetch, sent } = scriptedFetch(() => new Promise<Response>(() => undefined))
    const deployer = deployerOf({ fetch, namespaces: ['one', 'two', 'three', 'four', 'five'] })
    const outcome = deployer.deploy(bundle, operationContext({ signal: controller.signal }))
    const reason = new DeployError({ code: 'ERR_DEPLOY_UNAVAILABLE', message: 'too late', deployer: 'scheduler' })
    await vi.waitUntil(() => sent.length === 4, { timeout: 50_000 })
    controller.abort(reason)
    await expect(outcome).rejects.toBe(reason)
    expect(sent).toHaveLength(4)
  })
})

describe('configurations that are refused before anything is sent', () => {
  it.each<[string, Parts, RegExp]>([
    ['http', { server: 'http://kube.test' }, /only to a server that proves who it is/],
    ['no check of the server', { skipTLSVerify: true }, /only to a server that proves who it is/],
    [
      'no check, from an authenticator',
      { apply: (options) => void (options.rejectUnauthorized = false) },
      /no check of the server/,
    ],
    ['nothing found', { server: 'http://localhost:8080' }, /no Kubernetes cluster is configured/],
    ['a PKCS#12 client certificate', { apply: (options) => void (options.pfx = 'x') }, /PKCS#12 client certificate/],
    [
      'a token with a line end in it',
      { apply: (options) => void (options.headers = { Authorization: `Bearer ${token}\nx` }) },
      /characters that no header can/,
    ],
  ])('%s', async (_, parts, message) => {
    const { fetch, sent } = scriptedFetch(notFound)
    const error = await failureOf(deployerOf({ fetch, kubeConfig: configOf(parts) }).deploy(bundle, operationContext()))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED', retryable: false })
    expect(error.message).toMatch(message)
    expect(sent).toHaveLength(0)
  })

  it.each<[string, Parts, RegExp]>([
    ['a proxy', { proxyUrl: 'http://proxy' }, /"proxy-url"/],
    ['a root that is none', { apply: (options) => void (options.ca = 'garbage') }, /"certificate-authority-data"/],
  ])('%s, without a fetch that could', async (_, parts, message) => {
    const error = await failureOf(deployerOf({ kubeConfig: configOf(parts) }).deploy(bundle, operationContext()))
    expect(error.message).toMatch(message)
  })

  it('a kubeconfig that does not exist, or is none', async () => {
    const directory = await temporaryDirectory()
    try {
      const file = join(directory.path, 'config')
      const deployer = kubernetesSecretDeployer({ secretName: 'www-tls', namespaces: ['web'], kubeConfigFile: file })
      expect((await failureOf(deployer.deploy(bundle, operationContext()))).message).toMatch(
        /cannot be read \(.*ENOENT\)/,
      )
      await writeFile(file, `{ users: [{ token: ${token}`)
      expect((await failureOf(deployer.deploy(bundle, operationContext()))).message).toMatch(/not a kubeconfig/)
    } finally {
      await directory.remove()
    }
  })
})

describe('credentials', () => {
  it('that fail are told without what they hold', async () => {
    const secret = 'x'.repeat(64)
    const apply = () => {
      throw Object.assign(new Error(`login failed for ${secret}`), { config: { token } })
    }
    const error = await failureOf(deployerOf({ kubeConfig: configOf({ apply }) }).deploy(bundle, operationContext()))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
    expect(error.message).toMatch(/gives no credentials: login failed for \[removed\]/)
  })

  it.each<[string, object, RegExp]>([
    ['prints the bare token', { command: 'echo', args: [token] }, /its program printed no ExecCredential/],
    ['says nothing', { command: 'false', args: [] }, /its program failed without a word/],
    ['is not there', { command: 'no-such-program', args: [] }, /spawn no-such-program ENOENT/],
  ])('of a program that %s are told without them', async (_, exec, message) => {
    const directory = await temporaryDirectory()
    try {
      const file = join(directory.path, 'config')
      await writeFile(file, JSON.stringify(kubeConfigFile('https://kube.test', authority.certificatePem, { exec })))
      const deployer = kubernetesSecretDeployer({ secretName: 'www-tls', namespaces: ['web'], kubeConfigFile: file })
      const error = await failureOf(deployer.deploy(bundle, operationContext({ clock: systemClock })))
      expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
      expect(error.message).toMatch(message)
      expect(error.message).not.toContain(token.slice(0, 10))
    } finally {
      await directory.remove()
    }
  })

  it('that never come end with the time limit, or with an abort', async () => {
    const kubeConfig = configOf({ apply: () => new Promise<void>(() => undefined) })
    const clock = fakeClock({ now })
    const waiting = failureOf(deployerOf({ kubeConfig, timeoutMs: 5_000 }).deploy(bundle, operationContext({ clock })))
    await clock.advance(5_000)
    const error = await waiting
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE' })
    expect(error.message).toMatch(/no credentials within 5000 ms/)

    const controller = new AbortController()
    const reason = new Error('stop')
    const outcome = deployerOf({ kubeConfig }).deploy(
      bundle,
      operationContext({ clock: fakeClock({ now }), signal: controller.signal }),
    )
    controller.abort(reason)
    await expect(outcome).rejects.toBe(reason)
  })

  it('in a file that is missing name the file', async () => {
    const user = { authProvider: { config: { tokenFile: '/nowhere/token' } } }
    const error = await failureOf(deployerOf({ kubeConfig: configOf({ user }) }).deploy(bundle, operationContext()))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED' })
    expect(error.message).toMatch(/token of the service account, \/nowhere\/token: there is no such file/)
  })
})

describe('KubeConfig of @kubernetes/client-node', () => {
  it('gives server, trust, name and client certificate of a kubeconfig file', async () => {
    const [certificate, own] = [
      await authority.issue(['kubernetes.default.svc']),
      await authority.issue(['administrator'], 'clientAuth'),
    ]
    const seen: string[] = []
    const server = createServer(
      {
        cert: certificate.certificatePem,
        key: certificate.privateKeyPem,
        ca: authority.certificatePem,
        requestCert: true,
        rejectUnauthorized: true,
      },
      (incoming, response) => {
        seen.push(String((incoming.socket as TLSSocket).getPeerCertificate().subject.CN))
        response.statusCode = 404
        response.end()
      },
    )
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const directory = await temporaryDirectory()
    try {
      const { port } = server.address() as AddressInfo
      const encode = (pem: string): string => Buffer.from(pem).toString('base64')
      await writeFile(join(directory.path, 'ca.pem'), authority.certificatePem)
      const cluster = {
        server: `https://127.0.0.1:${String(port)}`,
        // Relative to the file, as kubectl has it.
        'certificate-authority': 'ca.pem',
        'tls-server-name': 'kubernetes.default.svc',
      }
      const user = {
        'client-certificate-data': encode(own.certificatePem),
        'client-key-data': encode(own.privateKeyPem),
      }
      const kubeConfigFile = join(directory.path, 'config')
      const contexts = [{ name: 'c', context: { cluster: 'c', user: 'u' } }]
      const file = {
        clusters: [{ name: 'c', cluster }],
        users: [{ name: 'u', user }],
        contexts,
        'current-context': 'c',
      }
      await writeFile(kubeConfigFile, JSON.stringify(file))
      const deployer = kubernetesSecretDeployer({ secretName: 'www-tls', namespaces: ['web'], kubeConfigFile })
      expect(await deployer.inspect?.(bundle, operationContext())).toBe('absent')
      expect(seen).toEqual(['administrator'])
    } finally {
      server.closeAllConnections()
      await once(server.close(), 'close')
      await directory.remove()
    }
  })
})
