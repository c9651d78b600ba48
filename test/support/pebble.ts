/**
 * Pebble, the ACME test CA of Let's Encrypt, with pebble-challtestsrv as its DNS. Ports, HTTPS certificate and
 * configuration are made anew for every start.
 */
import { writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import { loopbackCertificate } from './certificates.js'
import { startChallengeTestServer, type ChallengeTestServer } from './challtestsrv.js'
import { withFreePorts } from './ports.js'
import { spawnServer } from './processes.js'
import { requireServer } from './server-paths.js'
import { temporaryDirectory } from './temporary-directory.js'

export interface PebbleProfile {
  readonly description: string
  /** Seconds. @defaultValue 7776000 (90 days) */
  readonly validityPeriod?: number | undefined
  readonly promoteCommonName?: boolean | undefined
}

export interface PebbleOptions {
  /** @defaultValue true */
  readonly strict?: boolean | undefined
  /** Percentage of good nonces that are refused. @defaultValue 0 */
  readonly nonceReject?: number | undefined
  /** Percentage of identifiers whose valid authorization is reused. @defaultValue 0 */
  readonly authzReuse?: number | undefined
  /** Validates at once instead of after a random 0 to 4 seconds. @defaultValue true */
  readonly vaNoSleep?: boolean | undefined
  /** Every challenge succeeds without being looked at. @defaultValue false */
  readonly vaAlwaysValid?: boolean | undefined
  /** Where http-01 is validated. @defaultValue the responder of challtestsrv */
  readonly httpPort?: number | undefined
  /** Where tls-alpn-01 is validated. @defaultValue the responder of challtestsrv */
  readonly tlsPort?: number | undefined
  /** `address:port` of the DNS server that validation asks. @defaultValue challtestsrv */
  readonly dnsServer?: string | undefined
  /** Where Pebble's own endpoints, and the DNS of challtestsrv, are reached. @defaultValue '127.0.0.1' */
  readonly listenAddress?: string | undefined
  /** External account binding keys: key id to base64url MAC key. */
  readonly eabKeys?: Readonly<Record<string, string>> | undefined
  /** @defaultValue false */
  readonly eabRequired?: boolean | undefined
  /**
   * An order without a profile gets a random one of these.
   *
   * @defaultValue one profile `default` of 90 days
   */
  readonly profiles?: Readonly<Record<string, PebbleProfile>> | undefined
  /** Seconds; 0 sends no header. @defaultValue 0 for both */
  readonly retryAfter?: { readonly authz?: number | undefined; readonly order?: number | undefined } | undefined
  /** Further chains with a root of their own. @defaultValue 0 */
  readonly alternateRoots?: number | undefined
  /** Intermediates per chain. @defaultValue 1 */
  readonly chainLength?: number | undefined
  readonly domainBlocklist?: readonly string[] | undefined
  readonly caaIdentities?: readonly string[] | undefined
  /** Of the CA's keys. @defaultValue 'ecdsa' */
  readonly keyAlgorithm?: 'rsa' | 'ecdsa' | undefined
}

/** What Pebble knows about a certificate. */
export interface CertificateStatus {
  readonly Status: 'Valid' | 'Revoked'
  readonly Serial: string
  readonly Certificate: string
  readonly Reason?: number
  readonly RevokedAt?: string
}

export interface Pebble {
  readonly directoryUrl: string
  readonly managementUrl: string
  /** Signs the HTTPS certificate of Pebble's own endpoints, not what Pebble issues. */
  readonly caPem: string
  /** Where http-01 and tls-alpn-01 are validated. */
  readonly httpPort: number
  readonly tlsPort: number
  readonly challtestsrv: ChallengeTestServer
  /** The root of the default chain. */
  rootPem(): Promise<string>
  /** The roots of the default chain and of all alternates. */
  rootPems(): Promise<string[]>
  /** The issuing intermediate of each chain: one key and name, signed by each root. */
  intermediatePems(): Promise<string[]>
  /** Replaces the renewal information of a certificate; a string is sent as it is, `''` restores Pebble's own. */
  setRenewalInfo(certificatePem: string, window: { readonly start: Date; readonly end: Date } | string): Promise<void>
  /** `undefined` when Pebble has issued no such certificate. */
  certificateStatus(serialHex: string): Promise<CertificateStatus | undefined>
  /** Requests so far, keyed by method and Pebble's path, as in `POST /order-plz`. */
  requestCounts(): Readonly<Record<string, number>>
  output(): string
  stop(): Promise<void>
}

export async function startPebble(options: PebbleOptions = {}): Promise<Pebble> {
  const { listenAddress = '127.0.0.1' } = options
  const [directory, certificate, challtestsrv] = await Promise.all([
    temporaryDirectory(),
    loopbackCertificate(listenAddress),
    startChallengeTestServer({ dnsAddress: listenAddress }),
  ])
  const stopDependencies = async (): Promise<void> => {
    await challtestsrv.stop()
    await directory.remove()
  }
  const { httpPort = challtestsrv.httpPort, tlsPort = challtestsrv.tlsPort, alternateRoots = 0 } = options
  const { dnsServer = `${listenAddress}:${challtestsrv.dnsPort}` } = options
  const requestCounts: Record<string, number> = {}
  const certificatePath = join(directory.path, 'certificate.pem')
  const privateKeyPath = join(directory.path, 'key.pem')
  const configPath = join(directory.path, 'pebble.json')

  const launch = async (port: number, managementPort: number) => {
    const config = {
      listenAddress: `${listenAddress}:${port}`,
      managementListenAddress: `${listenAddress}:${managementPort}`,
      certificate: certificatePath,
      privateKey: privateKeyPath,
      httpPort,
      tlsPort,
      externalAccountBindingRequired: options.eabRequired ?? false,
      externalAccountMACKeys: options.eabKeys,
      domainBlocklist: options.domainBlocklist,
      retryAfter: options.retryAfter,
      keyAlgorithm: options.keyAlgorithm ?? 'ecdsa',
      profiles: options.profiles ?? { default: { description: 'ninety days' } },
      caaIdentities: options.caaIdentities,
    }
    await writeFile(configPath, JSON.stringify({ pebble: config }))
    const server = await spawnServer({
      command: requireServer('pebble'),
      args: [...['-config', configPath, '-dnsserver', dnsServer], `-strict=${String(options.strict ?? true)}`],
      env: environment(options),
      ready: [port, managementPort].map((each) => ({ port: each, host: listenAddress })),
      onLine: (line) => {
        const call = /^Pebble \S+ \S+ (\w+ \S+) -> calling handler/.exec(line)?.[1]
        if (call !== undefined) requestCounts[call] = (requestCounts[call] ?? 0) + 1
      },
    })
    return {
      server,
      origin: `https://${listenAddress}:${port}`,
      managementUrl: `https://${listenAddress}:${managementPort}`,
    }
  }

  let launched: Awaited<ReturnType<typeof launch>>
  try {
    await writeFile(certificatePath, certificate.certificatePem)
    await writeFile(privateKeyPath, certificate.privateKeyPem)
    launched = await withFreePorts(2, launch)
  } catch (error) {
    await stopDependencies()
    throw error
  }
  const { server, origin, managementUrl } = launched

  const management = managementClient(managementUrl, certificate.caPem)
  const chains = Array.from({ length: 1 + alternateRoots }, (_, chain) => chain)
  return {
    directoryUrl: `${origin}/dir`,
    managementUrl,
    caPem: certificate.caPem,
    httpPort,
    tlsPort,
    challtestsrv,
    rootPem: () => management.read('/roots/0'),
    rootPems: () => Promise.all(chains.map((chain) => management.read(`/roots/${chain}`))),
    intermediatePems: () => Promise.all(chains.map((chain) => management.read(`/intermediates/${chain}`))),
    async setRenewalInfo(Certificate, window) {
      const ARIResponse = typeof window === 'string' ? window : JSON.stringify({ suggestedWindow: window })
      await management.read('/set-renewal-info/', JSON.stringify({ Certificate, ARIResponse }))
    },
    async certificateStatus(serialHex) {
      const { status, body } = await management.call(`/cert-status-by-serial/${serialHex}`)
      return status === 404 ? undefined : (JSON.parse(body) as CertificateStatus)
    },
    requestCounts: () => ({ ...requestCounts }),
    output: server.output,
    async stop() {
      await server.stop()
      await stopDependencies()
    },
  }
}

function environment(options: PebbleOptions): Record<string, string> {
  return {
    PEBBLE_WFE_NONCEREJECT: String(options.nonceReject ?? 0),
    PEBBLE_AUTHZREUSE: String(options.authzReuse ?? 0),
    PEBBLE_VA_NOSLEEP: (options.vaNoSleep ?? true) ? '1' : '0',
    PEBBLE_VA_ALWAYS_VALID: (options.vaAlwaysValid ?? false) ? '1' : '0',
    PEBBLE_ALTERNATE_ROOTS: String(options.alternateRoots ?? 0),
    PEBBLE_CHAIN_LENGTH: String(options.chainLength ?? 1),
  }
}

interface ManagementClient {
  call(path: string, body?: string): Promise<{ status: number; body: string }>
  /** The body of a 200. */
  read(path: string, body?: string): Promise<string>
}

function managementClient(url: string, ca: string): ManagementClient {
  const call: ManagementClient['call'] = (path, body) =>
    new Promise((resolve, reject) => {
      const outgoing = request(new URL(path, url), {
        method: body === undefined ? 'GET' : 'POST',
        ca,
        agent: false,
        headers: { 'user-agent': 'evercert-tests' },
        signal: AbortSignal.timeout(5_000),
      })
      outgoing.on('error', reject)
      outgoing.on('response', (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => (text += chunk))
        response.on('error', reject)
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }))
      })
      outgoing.end(body)
    })
  return {
    call,
    async read(path, body) {
      const response = await call(path, body)
      if (response.status !== 200) throw new Error(`Pebble ${path}: ${response.status} ${response.body}`)
      return response.body
    },
  }
}
