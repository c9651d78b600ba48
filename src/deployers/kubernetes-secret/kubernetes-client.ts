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
import type { OperationContext } from '../../core/context.js'
import { CertError, DeployError, HttpError } from '../../errors.js'
import { withDeadline } from '../../internal/deadline.js'
import { deployStep } from '../../internal/deploy-failure.js'
import { systemFiles } from '../../internal/file-system.js'
import { createHttpClient, type HttpClient, type HttpClientOptions, type HttpResponse } from '../../internal/http.js'
import { version } from '../../internal/version.js'
import { withoutSecrets } from './kubernetes-failure.js'
import type { KubernetesConfig, KubernetesSettings } from './kubernetes-options.js'
import { asObject } from './secret-resource.js'

/** One request to the API server. */
export interface ApiRequest {
  readonly method: 'GET' | 'PATCH'
  /** With query. */
  readonly path: string
  readonly body?: string | undefined
  readonly contentType?: string | undefined
}

/** Asks the API server; any status is an answer. */
export type AskApi = (request: ApiRequest) => Promise<HttpResponse>

/** A Secret is a megabyte at most, a third more in base64, and its metadata comes on top. */
const maxBodyBytes = 4_194_304

/**
 * Runs something with a connection to the API server, which is closed afterwards. Configuration is read anew each time, and
 * the token for each request: both are replaced under a running process.
 *
 * Rejects with `ERR_DEPLOY_UNAVAILABLE` when the server cannot be reached or does not answer in time, with
 * `ERR_DEPLOY_REJECTED` when there is no usable configuration.
 */
export async function withKubernetesApi<Result>(
  settings: KubernetesSettings,
  context: OperationContext,
  run: (ask: AskApi) => Promise<Result>,
): Promise<Result> {
  const { name, timeoutMs, fetch } = settings
  const { clock, signal } = context
  const config = settings.kubeConfig ?? (await loadConfig(settings))
  const server = serverOf(config, settings)
  const { tls } = await credentials(config, settings, context)
  const openClient = (options: HttpClientOptions): HttpClient => {
    try {
      return createHttpClient(options)
    } catch (cause) {
      throw rejected(name, '"certificate-authority-data" of the kubeconfig is not PEM of certificates', cause)
    }
  }
  const client = openClient({
    clock,
    userAgent: `evercert/${version}`,
    timeoutMs,
    maxBodyBytes,
    caSetting: '"certificate-authority-data" of the kubeconfig',
    ...(fetch === undefined ? tls : { fetch }),
  })

  const send = async (request: ApiRequest, headers: Readonly<Record<string, string>>): Promise<HttpResponse> => {
    const { method, path, body, contentType } = request
    try {
      return await client.request({
        url: server + path,
        method,
        body,
        signal,
        headers: {
          accept: 'application/json',
          ...(contentType === undefined ? {} : { 'content-type': contentType }),
          ...headers,
        },
      })
    } catch (error) {
      if (!(error instanceof HttpError)) throw error
      throw new DeployError({
        code: 'ERR_DEPLOY_UNAVAILABLE',
        message: `${name}: the Kubernetes API server cannot be asked: ${error.message}`,
        deployer: name,
        cause: error,
      })
    }
  }

  try {
    return await run(async (request) => {
      const answer = await send(request, (await credentials(config, settings, context)).headers)
      if (answer.status !== 401) return answer
      // The token may have been replaced in this moment.
      return await send(request, (await credentials(config, settings, context)).headers)
    })
  } finally {
    void client.close().catch(() => undefined)
  }
}

async function loadConfig({ name, kubeConfigFile }: KubernetesSettings): Promise<KubernetesConfig> {
  const { KubeConfig } = await importClient(name)
  const config = new KubeConfig()
  try {
    if (kubeConfigFile === undefined) config.loadFromDefault()
    else config.loadFromFile(kubeConfigFile)
  } catch (error) {
    // A YAML error quotes the lines around it, which may be a token.
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'not a kubeconfig'
    const file = kubeConfigFile ?? 'KUBECONFIG, or ~/.kube/config'
    throw rejected(name, `the kubeconfig cannot be read (${file}: ${code})`)
  }
  return config
}

async function importClient(name: string): Promise<typeof kubernetes> {
  try {
    return await import('@kubernetes/client-node')
  } catch (cause) {
    const hint = 'install it (1.4 for Node 20, 2.x for Node 22 and newer), or pass the option "kubeConfig"'
    throw rejected(name, `the package @kubernetes/client-node cannot be loaded; ${hint}`, cause)
  }
}

/** The server's URL, without a slash at its end. */
function serverOf(config: KubernetesConfig, { name, fetch }: KubernetesSettings): string {
  const cluster = config.getCurrentCluster()
  if (cluster === null || cluster.server === 'http://localhost:8080') {
    const hint = 'neither a kubeconfig with a current context nor the account of a Pod was found'
    throw rejected(name, `no Kubernetes cluster is configured: ${hint}`)
  }
  if (!/^https:\/\//i.test(cluster.server) || cluster.skipTLSVerify === true) {
    const hint = 'set an https URL and "certificate-authority-data" in the kubeconfig'
    throw rejected(name, `private keys are sent only to a server that proves who it is; ${hint}`)
  }
  if (cluster.proxyUrl !== undefined && fetch === undefined) {
    throw rejected(name, 'the kubeconfig has a "proxy-url", which is not supported; pass a "fetch" that uses the proxy')
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
  { name, timeoutMs }: KubernetesSettings,
  { clock, signal }: OperationContext,
): Promise<Credentials> {
  const onTimeout = (): DeployError =>
    new DeployError({
      code: 'ERR_DEPLOY_UNAVAILABLE',
      message: `${name}: the kubeconfig gave no credentials within ${String(timeoutMs)} ms`,
      deployer: name,
    })
  const applied: RequestOptions = { headers: {} }
  // A program, or a login server, may be asked for them.
  await withDeadline({ clock, signal, ms: timeoutMs, onTimeout }, () => config.applyToHTTPSOptions(applied)).catch(
    (error: unknown) => {
      signal.throwIfAborted()
      if (CertError.isInstance(error)) throw error
      throw new DeployError({
        code: 'ERR_DEPLOY_UNAVAILABLE',
        message: `${name}: the kubeconfig gives no credentials: ${credentialReason(error)}`,
        deployer: name,
      })
    },
  )
  if (applied.pfx !== undefined || applied.rejectUnauthorized === false) {
    throw rejected(
      name,
      'the kubeconfig asks for a PKCS#12 client certificate, or for no check of the server; neither is supported',
    )
  }
  const headers = headersOf(applied, await readToken(config, name), name)
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
async function readToken(config: KubernetesConfig, name: string): Promise<string | undefined> {
  const { tokenFile } = asObject(asObject(config.getCurrentUser()?.authProvider)['config'])
  if (typeof tokenFile !== 'string') return undefined
  const read = deployStep(name, `read the token of the service account, ${tokenFile}`, () =>
    systemFiles.readFile(tokenFile, 'utf8'),
  )
  return (await read).trim()
}

function headersOf(applied: RequestOptions, token: string | undefined, name: string): Readonly<Record<string, string>> {
  const headers: Record<string, string> = {}
  for (const [key, value] of Object.entries(asObject(applied.headers))) {
    if (typeof value === 'string') headers[key.toLowerCase()] = value.trim()
  }
  if (typeof applied.auth === 'string')
    headers['authorization'] = `Basic ${Buffer.from(applied.auth).toString('base64')}`
  if (token !== undefined) headers['authorization'] = `Bearer ${token}`
  if (Object.values(headers).some((value) => !/^[\x20-\x7e]*$/.test(value))) {
    throw rejected(name, 'the credentials of the kubeconfig hold characters that no header can')
  }
  return headers
}

function textOf(value: RequestOptions['ca'] | RequestOptions['key']): string | undefined {
  return typeof value === 'string' || Buffer.isBuffer(value) ? value.toString() : undefined
}

function rejected(name: string, why: string, cause?: unknown): DeployError {
  return new DeployError({ code: 'ERR_DEPLOY_REJECTED', message: `${name}: ${why}`, deployer: name, cause })
}
