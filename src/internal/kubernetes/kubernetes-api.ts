/**
 * Requests to the API server: cluster and credentials from `@kubernetes/client-node`, transport by our own bounded client.
 *
 * That package's own requests cannot be aborted or limited, its errors carry whole answers, and 1.4 and 2.x send them by
 * different libraries. What is used here is the same in both: the current cluster, the current user, and
 * `applyToHTTPSOptions`.
 *
 * @module
 */
import type { RequestOptions } from 'node:https'
import type * as kubernetes from '@kubernetes/client-node'
import type { Clock } from '../../core/clock.js'
import { HttpError } from '../../errors.js'
import { withDeadline } from '../deadline.js'
import { fileFailure } from '../deploy-failure.js'
import { systemFiles } from '../file-system.js'
import { createHttpClient, type HttpClient, type HttpRequest, type HttpResponse, type HttpStream } from '../http.js'
import { version } from '../version.js'
import { asObject } from './api-object.js'
import { withoutSecrets, type FailureKind } from './api-status.js'
import type { KubernetesConfig, KubernetesConnection } from './kubernetes-config.js'

/** One request to the API server. */
export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** With query. */
  readonly path: string
  readonly body?: string | undefined
  readonly contentType?: string | undefined
  /** @defaultValue `application/json` */
  readonly accept?: string | undefined
  /** Longest answer. @defaultValue that of a Secret: 4 MiB */
  readonly maxBodyBytes?: number | undefined
}

/** On whose behalf something is asked. */
export interface ApiScope {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** The error for a request that got no answer; `why` holds no secrets. */
  readonly tell: (why: string, kind: FailureKind, cause?: unknown) => Error
}

/** The API server. Connections are kept open from one request to the next, and do not keep the process alive. */
export interface KubernetesApi {
  /** Reads configuration and credentials, which is done by the first request otherwise. Sends nothing. */
  open(scope: ApiScope): Promise<void>
  /** The namespace of the Pod, or of the current context. */
  namespace(scope: ApiScope): Promise<string | undefined>
  /** Any status is an answer. Whatever else happens is an error of the scope's. */
  ask(request: ApiRequest, scope: ApiScope): Promise<HttpResponse>
  /** As `ask`; the answer is read while it comes, until the signal aborts. */
  stream(request: ApiRequest, scope: ApiScope): Promise<HttpStream>
  /** Lets connections and configuration go, once what is under way has ended. A later request begins anew. */
  close(): void
}

/** A Secret is a megabyte at most, a third more in base64, and its metadata comes on top. */
const largestSecretBytes = 4_194_304

/**
 * Tokens and certificates are replaced under a running process: who asks is looked up for each request, and the configuration
 * is read anew after an answer of 401, after a connection that failed, and after a request that was aborted.
 */
export function kubernetesApi(connection: KubernetesConnection): KubernetesApi {
  let configuring: Promise<KubernetesConfig> | undefined
  let current: { readonly client: HttpClient; readonly identity: string } | undefined

  function close(): void {
    configuring = undefined
    const client = current?.client
    current = undefined
    // A turn later: somebody may have got it in this one, and not sent anything yet.
    setImmediate(() => void client?.close().catch(() => undefined))
  }

  async function configure(scope: ApiScope): Promise<KubernetesConfig> {
    if (connection.kubeConfig !== undefined) return connection.kubeConfig
    const loading = (configuring ??= loadConfig(connection, scope))
    return loading.catch((error: unknown) => {
      if (configuring === loading) configuring = undefined
      throw error
    })
  }

  /** Connections are shared by all who ask with the same trust and the same client certificate. */
  function clientWith(tls: Credentials['tls'], { clock, tell }: ApiScope): HttpClient {
    const identity = JSON.stringify(tls)
    if (current?.identity === identity) return current.client
    void current?.client.close().catch(() => undefined)
    try {
      const client = createHttpClient({
        clock,
        userAgent: `evercert/${version}`,
        timeoutMs: connection.timeoutMs,
        maxBodyBytes: largestSecretBytes,
        caSetting: '"certificate-authority-data" of the kubeconfig',
        ...(connection.fetch === undefined ? tls : { fetch: connection.fetch }),
      })
      current = { client, identity }
      return client
    } catch (cause) {
      throw tell('"certificate-authority-data" of the kubeconfig is not PEM of certificates', 'rejected', cause)
    }
  }

  async function prepare(scope: ApiScope) {
    const config = await configure(scope)
    const server = serverOf(config, connection, scope)
    const { headers, tls } = await credentials(config, connection, scope)
    return { client: clientWith(tls, scope), headers, server }
  }

  async function exchange<Answer extends { readonly status: number; cancel?(): void }>(
    { path, contentType, accept = 'application/json', ...request }: ApiRequest,
    scope: ApiScope,
    send: (client: HttpClient, request: HttpRequest) => Promise<Answer>,
    again: boolean,
  ): Promise<Answer> {
    const { client, headers, server } = await prepare(scope)
    const { clock, signal, tell } = scope
    const type = contentType === undefined ? {} : { 'content-type': contentType }
    signal.throwIfAborted()
    let answer: Answer
    try {
      answer = await send(client, {
        ...request,
        url: server + path,
        clock,
        signal,
        headers: { accept, ...type, ...headers },
      })
    } catch (error) {
      const isAnswered = error instanceof HttpError && error.code === 'ERR_HTTP_BODY'
      // Also when it was aborted: a limit of the caller's may have come first, and nobody may be there any more.
      if (!isAnswered && current?.client === client) close()
      if (!(error instanceof HttpError)) throw error
      throw tell(`the Kubernetes API server cannot be asked: ${error.message}`, 'unavailable', error)
    }
    if (answer.status !== 401 || !again) return answer
    // The token may have been replaced in this moment, or the whole configuration.
    answer.cancel?.()
    configuring = undefined
    return exchange({ path, contentType, accept, ...request }, scope, send, false)
  }

  return {
    async open(scope) {
      await prepare(scope)
    },
    async namespace(scope) {
      const config = await configure(scope)
      return config.getContextObject?.(config.getCurrentContext?.() ?? '')?.namespace?.trim()
    },
    ask: (request, scope) => exchange(request, scope, (client, sent) => client.request(sent), true),
    stream: (request, scope) => exchange(request, scope, (client, sent) => client.stream(sent), true),
    close,
  }
}

async function loadConfig({ kubeConfigFile }: KubernetesConnection, { tell }: ApiScope): Promise<KubernetesConfig> {
  const { KubeConfig } = await importClient(tell)
  const config = new KubeConfig()
  try {
    if (kubeConfigFile === undefined) config.loadFromDefault()
    else config.loadFromFile(kubeConfigFile)
  } catch (error) {
    // A YAML error quotes the lines around it, which may be a token.
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'not a kubeconfig'
    const file = kubeConfigFile ?? 'KUBECONFIG, or ~/.kube/config'
    throw tell(`the kubeconfig cannot be read (${file}: ${code})`, 'rejected')
  }
  return config
}

async function importClient(tell: ApiScope['tell']): Promise<typeof kubernetes> {
  try {
    return await import('@kubernetes/client-node')
  } catch (cause) {
    const hint = 'install it (1.4 for Node 20, 2.x for Node 22 and newer), or pass the option "kubeConfig"'
    throw tell(`the package @kubernetes/client-node cannot be loaded; ${hint}`, 'rejected', cause)
  }
}

/** The server's URL, without a slash at its end. */
function serverOf(config: KubernetesConfig, { fetch }: KubernetesConnection, { tell }: ApiScope): string {
  const cluster = config.getCurrentCluster()
  if (cluster === null || cluster.server === 'http://localhost:8080') {
    const hint = 'neither a kubeconfig with a current context nor the account of a Pod was found'
    throw tell(`no Kubernetes cluster is configured: ${hint}`, 'rejected')
  }
  if (!/^https:\/\//i.test(cluster.server) || cluster.skipTLSVerify === true) {
    const hint = 'set an https URL and "certificate-authority-data" in the kubeconfig'
    throw tell(`private keys are sent only to a server that proves who it is; ${hint}`, 'rejected')
  }
  if (cluster.proxyUrl !== undefined && fetch === undefined) {
    const hint = 'pass a "fetch" that uses the proxy'
    throw tell(`the kubeconfig has a "proxy-url", which is not supported; ${hint}`, 'rejected')
  }
  return cluster.server.replace(/\/+$/, '')
}

interface Credentials {
  readonly headers: Readonly<Record<string, string>>
  readonly tls: {
    readonly ca?: string
    readonly servername?: string
    readonly clientCertificate?: { readonly certificatePem: string; readonly privateKeyPem: string }
  }
}

async function credentials(
  config: KubernetesConfig,
  { timeoutMs }: KubernetesConnection,
  { clock, signal, tell }: ApiScope,
): Promise<Credentials> {
  const onTimeout = (): Error =>
    tell(`the kubeconfig gave no credentials within ${String(timeoutMs)} ms`, 'unavailable')
  const applied: RequestOptions = { headers: {} }
  // A program, or a login server, may be asked for them.
  const applying = async (): Promise<void> => {
    try {
      await config.applyToHTTPSOptions(applied)
    } catch (error) {
      throw tell(`the kubeconfig gives no credentials: ${credentialReason(error)}`, 'unavailable')
    }
  }
  await withDeadline({ clock, signal, ms: timeoutMs, onTimeout }, applying)
  if (applied.pfx !== undefined || applied.rejectUnauthorized === false) {
    const what = 'a PKCS#12 client certificate, or for no check of the server'
    throw tell(`the kubeconfig asks for ${what}; neither is supported`, 'rejected')
  }
  const headers = headersOf(applied, await readToken(config, tell))
  if (Object.values(headers).some((value) => !/^[\x20-\x7e]*$/.test(value))) {
    throw tell('the credentials of the kubeconfig hold characters that no header can', 'rejected')
  }
  const { ca, servername } = applied
  const [certificatePem, privateKeyPem] = [textOf(applied.cert), textOf(applied.key)]
  return {
    headers,
    tls: {
      ...(ca === undefined ? {} : { ca: textOf(ca) ?? '' }),
      ...(servername === undefined ? {} : { servername }),
      ...(certificatePem === undefined || privateKeyPem === undefined
        ? {}
        : { clientCertificate: { certificatePem, privateKeyPem } }),
    },
  }
}

function credentialReason(error: unknown): string {
  // What does not parse is quoted by JSON.parse, and may be the bare token.
  if (error instanceof SyntaxError) return 'its program printed no ExecCredential, or its login server no JSON'
  const said = error instanceof Error ? withoutSecrets(error.message, []).slice(0, 300).trim() : ''
  return said === '' ? 'its program failed without a word' : said
}

/** `@kubernetes/client-node` keeps a token for a minute, line end included: the file is what counts. */
async function readToken(config: KubernetesConfig, tell: ApiScope['tell']): Promise<string | undefined> {
  const { tokenFile } = asObject(asObject(config.getCurrentUser()?.authProvider)['config'])
  if (typeof tokenFile !== 'string') return undefined
  try {
    return (await systemFiles.readFile(tokenFile, 'utf8')).trim()
  } catch (error) {
    const failure = fileFailure(error)
    if (failure === undefined) throw error
    const why = `cannot read the token of the service account, ${tokenFile}: ${failure.why}`
    throw tell(why, failure.passing ? 'unavailable' : 'rejected', error)
  }
}

function headersOf(applied: RequestOptions, token: string | undefined): Readonly<Record<string, string>> {
  const headers: Record<string, string> = {}
  for (const [key, value] of Object.entries(asObject(applied.headers))) {
    if (typeof value === 'string') headers[key.toLowerCase()] = value.trim()
  }
  if (typeof applied.auth === 'string')
    headers['authorization'] = `Basic ${Buffer.from(applied.auth).toString('base64')}`
  if (token !== undefined) headers['authorization'] = `Bearer ${token}`
  return headers
}

function textOf(value: RequestOptions['ca'] | RequestOptions['key']): string | undefined {
  return typeof value === 'string' || Buffer.isBuffer(value) ? value.toString() : undefined
}
