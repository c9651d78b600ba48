/**
 * A real Kubernetes API server with etcd behind it: RBAC, admission and server-side apply are the real ones. There are no
 * controllers and no nodes; nothing but the API is needed for a Secret.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { rename, writeFile } from 'node:fs/promises'
import { Agent, request } from 'node:https'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { loopbackCertificate } from './certificates.js'
import { withFreePorts } from './ports.js'
import { runningServers, spawnServer, type ServerProcess } from './processes.js'
import { requireServer } from './server-paths.js'
import { temporaryDirectory } from './temporary-directory.js'

export interface KubeApiserver {
  readonly url: string
  readonly caPem: string
  /** May do everything. */
  readonly admin: KubeClient
  client(token: string): KubeClient
  /** Makes namespace and account where they are missing. */
  createServiceAccount(namespace: string, name: string): Promise<void>
  /** A token as the kubelet asks for; valid for ten minutes, the shortest there is. */
  createToken(namespace: string, account: string): Promise<string>
  /** A kubeconfig file for `kubectl`, and the library, with the rights of the administrator. */
  readonly adminKubeConfigPath: string
  stop(): Promise<void>
}

export interface KubeClient {
  /** Any request; rejects unless the answer is 2xx. */
  call(method: string, path: string, body?: unknown, contentType?: string): Promise<KubeObject>
  /** The object at a path, or `undefined` where there is none. */
  find(path: string): Promise<KubeObject | undefined>
  /** Creates the object, or replaces what there is. */
  put(manifest: KubeManifest): Promise<KubeObject>
  /** Server-side apply in the name of some field manager. */
  apply(path: string, manifest: unknown, fieldManager: string): Promise<KubeObject>
}

/** As much of an object of the API as the tests look at. */
export interface KubeObject {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly uid?: string
    readonly resourceVersion?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
    readonly ownerReferences?: readonly object[]
    readonly managedFields?: readonly { readonly manager: string; readonly operation: string }[]
  }
  readonly type?: string
  readonly data?: Readonly<Record<string, string>>
  readonly immutable?: boolean
  readonly status?: { readonly token?: string }
}

/** Something to create. */
export type KubeManifest = KubeObject & {
  readonly apiVersion: string
  readonly kind: string
  readonly [field: string]: unknown
}

/** What the kubelet does with a token in a volume: a file that is replaced as a whole. */
export async function writeTokenFile(path: string, token: string): Promise<void> {
  // With a line end, as people's editors leave one.
  await writeFile(`${path}.new`, `${token}\n`)
  await rename(`${path}.new`, path)
}

/** @param flags - more of the server's own */
export async function startKubeApiserver(...flags: readonly string[]): Promise<KubeApiserver> {
  const directory = await temporaryDirectory()
  const running: ServerProcess[] = []
  const stop = async (): Promise<void> => {
    for (const server of running.splice(0).reverse()) await server.stop()
    await directory.remove()
  }
  try {
    const certificate = await loopbackCertificate()
    const adminToken = randomBytes(24).toString('hex')
    const path = (name: string): string => join(directory.path, name)
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    await writeFile(path('account.key'), privateKey.export({ type: 'sec1', format: 'pem' }))
    await writeFile(path('server.crt'), certificate.certificatePem)
    await writeFile(path('server.key'), certificate.privateKeyPem)
    await writeFile(path('tokens.csv'), `${adminToken},admin,admin,system:masters\n`)

    const etcdUrl = await withFreePorts(2, async (client, peer) => {
      const [clientUrl, peerUrl] = [client, peer].map((port) => `http://127.0.0.1:${port}`) as [string, string]
      running.push(
        await spawnServer({
          command: requireServer('etcd'),
          args: [
            ...['--name', 'test', '--data-dir', path('etcd'), '--initial-cluster', `test=${peerUrl}`],
            ...['--listen-client-urls', clientUrl, '--advertise-client-urls', clientUrl],
            ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
            // Nothing here has to survive a power cut.
            '--unsafe-no-fsync',
          ],
          ready: [{ log: /ready to serve client requests/ }],
          readyTimeoutMs: 60_000,
        }),
      )
      return clientUrl
    })
    const url = await withFreePorts(1, async (port) => {
      running.push(
        await spawnServer({
          command: requireServer('kube-apiserver'),
          args: [
            `--etcd-servers=${etcdUrl}`,
            '--bind-address=127.0.0.1',
            '--advertise-address=127.0.0.1',
            `--secure-port=${port}`,
            `--tls-cert-file=${path('server.crt')}`,
            `--tls-private-key-file=${path('server.key')}`,
            '--authorization-mode=RBAC',
            `--token-auth-file=${path('tokens.csv')}`,
            '--service-account-issuer=https://kubernetes.default.svc',
            `--service-account-key-file=${path('account.key')}`,
            `--service-account-signing-key-file=${path('account.key')}`,
            '--service-cluster-ip-range=10.0.0.0/24',
            `--cert-dir=${path('certificates')}`,
            // Waits for a namespace's account before Pods; there are none of either.
            '--disable-admission-plugins=ServiceAccount',
            '--profiling=false',
            '--shutdown-delay-duration=0s',
            ...flags,
          ],
          ready: [{ port }],
          readyTimeoutMs: 60_000,
          stopTimeoutMs: 10_000,
        }),
      )
      return `https://127.0.0.1:${port}`
    })

    const client = (token: string): KubeClient => kubeClient(url, certificate.caPem, token)
    const admin = client(adminToken)
    await untilReady(admin, running)
    const adminKubeConfigPath = path('admin.kubeconfig')
    await writeFile(adminKubeConfigPath, JSON.stringify(kubeConfig(url, certificate.caPem, { token: adminToken })))

    return {
      url,
      caPem: certificate.caPem,
      admin,
      client,
      adminKubeConfigPath,
      async createServiceAccount(namespace, name) {
        await admin.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
        await admin.put({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } })
      },
      async createToken(namespace, account) {
        const answer = await admin.call('POST', `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenRequest',
          spec: { expirationSeconds: 600 },
        })
        return answer.status!.token!
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/** A kubeconfig, as an object: JSON is YAML. */
export function kubeConfig(server: string, caPem: string, user: Readonly<Record<string, unknown>>): object {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      { name: 'test', cluster: { server, 'certificate-authority-data': Buffer.from(caPem).toString('base64') } },
    ],
    users: [{ name: 'test', user }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
    'current-context': 'test',
  }
}

/** The API path of a kind the tests use. */
export function collectionPath({ apiVersion, kind, metadata }: KubeManifest): string {
  const plural = kind.endsWith('y') ? `${kind.slice(0, -1)}ies` : `${kind}${kind.endsWith('s') ? 'es' : 's'}`
  const prefix = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`
  const namespace = metadata.namespace === undefined ? '' : `/namespaces/${metadata.namespace}`
  return `${prefix}${namespace}/${plural.toLowerCase()}`
}

function kubeClient(url: string, ca: string, token: string): KubeClient {
  const agent = new Agent({ ca, keepAlive: true })
  const send = (method: string, path: string, body: unknown, contentType: string) =>
    new Promise<{ status: number; text: string; body: KubeObject }>((resolve, reject) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': contentType, accept: 'application/json' }
      const outgoing = request(url + path, { method, agent, headers }, (incoming) => {
        let text = ''
        incoming.setEncoding('utf8').on('data', (part: string) => (text += part))
        incoming.on('error', reject)
        incoming.on('end', () => {
          const isJson = /json/.test(incoming.headers['content-type'] ?? '')
          resolve({ status: incoming.statusCode!, text, body: (isJson ? JSON.parse(text) : {}) as KubeObject })
        })
      })
      outgoing.on('error', reject)
      outgoing.end(body === undefined ? undefined : JSON.stringify(body))
    })
  const client: KubeClient = {
    async call(method, path, body, contentType = 'application/json') {
      const answer = await send(method, path, body, contentType)
      if (answer.status >= 300) {
        throw Object.assign(new Error(`${method} ${path}: ${answer.status} ${answer.text}`), answer)
      }
      return answer.body
    },
    async find(path) {
      const answer = await send('GET', path, undefined, 'application/json')
      return answer.status === 404 ? undefined : answer.body
    },
    async put(manifest) {
      const collection = collectionPath(manifest)
      const answer = await send('POST', collection, manifest, 'application/json')
      if (answer.status === 409) return client.call('PUT', `${collection}/${manifest.metadata.name}`, manifest)
      if (answer.status >= 300) throw new Error(`POST ${collection}: ${answer.status} ${answer.text}`)
      return answer.body
    },
    apply: (path, manifest, fieldManager) =>
      client.call('PATCH', `${path}?fieldManager=${fieldManager}`, manifest, 'application/apply-patch+yaml'),
  }
  return client
}

/** Listening is not serving: the API answers 403 and 500 until its own start-up hooks have run. */
async function untilReady(admin: KubeClient, servers: readonly ServerProcess[]): Promise<void> {
  const isReady = async (): Promise<boolean> => {
    try {
      await admin.call('GET', '/readyz')
      return (await admin.find('/api/v1/namespaces/default')) !== undefined
    } catch {
      return false
    }
  }
  for (let attempt = 0; !(await isReady()); attempt += 1) {
    const gone = servers.some(({ pid }) => !runningServers().includes(pid))
    if (attempt === 600 || gone)
      throw new Error(`kube-apiserver is not ready:\n${servers.at(-1)?.output().slice(-4000) ?? ''}`)
    await sleep(100)
  }
}
