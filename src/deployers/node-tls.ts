/**
 * A deployer for TLS servers of this very process: `https`, `tls`, `http2`.
 *
 * Published as `evercert/deployers/node-tls`.
 *
 * @module
 */
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls'
import type { CertificateBundle } from '../core/certificate-bundle.js'
import { DeployError } from '../errors.js'
import { assertArray, assertMethod, assertOptions, assertText } from '../internal/options.js'
import { checkedLeaf, renderPem } from '../internal/pem-layout.js'
import type { Deployer, DeploymentState } from './deployer.js'

/** What is needed of a server: `tls.Server`, `https.Server` and `http2.Http2SecureServer` have it. */
export interface SecureServer {
  setSecureContext(options: SecureContextOptions): void
}

/** Options of {@link nodeTlsDeployer}. */
export interface NodeTlsDeployerOptions {
  /**
   * Servers that get the certificate as their own, for clients that ask for no name or for one that nothing else is known
   * for. They can be started without any.
   *
   * @defaultValue none
   */
  readonly servers?: readonly SecureServer[] | undefined
  /** Where the certificate is put for clients that ask for one of its names. @defaultValue none */
  readonly certificates?: SniCertificates | undefined
  /**
   * Your TLS settings: `minVersion`, `ciphers`, `honorCipherOrder`, ... Repeat here what the server was made with; a new
   * certificate comes with a new context. Certificate and key do not belong here.
   *
   * @defaultValue Node's defaults
   */
  readonly tls?: Omit<SecureContextOptions, 'cert' | 'key' | 'pfx' | 'passphrase'> | undefined
  /** @defaultValue `'node-tls'` */
  readonly name?: string | undefined
}

/**
 * A deployer that changes the certificate of running servers: no restart, no connection lost, sessions that exist go on.
 *
 * @example
 *
 * ```ts
 * import { createServer } from 'node:https'
 * import { nodeTlsDeployer } from 'evercert/deployers/node-tls'
 *
 * const server = createServer({ minVersion: 'TLSv1.2' }, (_, response) => response.end('hello'))
 * const deployer = nodeTlsDeployer({ servers: [server], tls: { minVersion: 'TLSv1.2' } })
 * ```
 *
 * @remarks
 * Until the first deployment handshakes with a server without certificate fail; a `placeholder` bridges that. Worker
 * threads and cluster workers have servers of their own: each needs a deployer.
 *
 * Rejects with `ERR_CERT_KEY_MISMATCH` or `ERR_DEPLOY_REJECTED` when the pair cannot be used; every server then keeps
 * what it has.
 *
 * @param options - See {@link NodeTlsDeployerOptions}. Validated and copied; at least one of `servers`, `certificates`.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 *
 * @see {@link https://nodejs.org/api/tls.html#serversetsecurecontextoptions | Node: server.setSecureContext}
 */
export function nodeTlsDeployer(options: NodeTlsDeployerOptions): Deployer {
  const { servers, certificates, tls, name } = checkOptions(options)
  let current: string | undefined

  function stateOf(bundle: CertificateBundle): DeploymentState {
    const byName = certificates?.fingerprintOf(bundle.name)
    const seen = [...(servers.length > 0 ? [current] : []), ...(certificates === undefined ? [] : [byName])]
    if (seen.every((fingerprint) => fingerprint === bundle.fingerprintSha256)) return 'current'
    return seen.every((fingerprint) => fingerprint === undefined) ? 'absent' : 'stale'
  }

  return {
    name,
    scope: 'node',
    deploy: (bundle, { signal }) =>
      new Promise((resolve) => {
        signal.throwIfAborted()
        checkedLeaf(bundle)
        if (stateOf(bundle) === 'current') {
          resolve({ status: 'unchanged' })
          return
        }
        const pair = { ...tls, cert: renderPem(bundle, ['fullchain']), key: renderPem(bundle, ['key']) }
        // Made before any server is touched: what OpenSSL refuses, it refuses here.
        const context = secureContext(pair, name, bundle)
        certificates?.put(bundle, context)
        for (const server of servers) server.setSecureContext(pair)
        current = bundle.fingerprintSha256
        resolve({ status: 'deployed' })
      }),
    inspect: (bundle, { signal }) =>
      new Promise((resolve) => {
        signal.throwIfAborted()
        resolve(stateOf(bundle))
      }),
  }
}

/** Certificates by the name a client asks for (SNI). Make one per server, and one deployer per certificate. */
export interface SniCertificates {
  /** For the `SNICallback` option of a server. Names without certificate get the server's own. */
  readonly sniCallback: (servername: string, callback: (error: Error | null, context?: SecureContext) => void) => void
  /** Puts a certificate in the place of the one with the same `bundle.name`. Called by {@link nodeTlsDeployer}. */
  put(bundle: CertificateBundle, context: SecureContext): void
  /** SHA-256 of the leaf under a name of a managed certificate, lower-case hex. */
  fingerprintOf(name: string): string | undefined
}

/**
 * Certificates by the name a client asks for: the exact name wins over a wildcard, and of two certificates for one name
 * the one deployed last.
 *
 * @example
 *
 * ```ts
 * import { createServer } from 'node:https'
 * import { nodeTlsDeployer, sniCertificates } from 'evercert/deployers/node-tls'
 *
 * const certificates = sniCertificates()
 * const server = createServer({ SNICallback: certificates.sniCallback })
 * const shop = nodeTlsDeployer({ certificates, servers: [server] }) // also the default
 * const blog = nodeTlsDeployer({ certificates })
 * ```
 */
export function sniCertificates(): SniCertificates {
  const entries = new Map<string, { readonly bundle: CertificateBundle; readonly context: SecureContext }>()
  let byName = new Map<string, SecureContext>()
  return {
    sniCallback(servername, callback) {
      const name = servername.toLowerCase().replace(/\.$/, '')
      // RFC 6125 section 6.4.3: a wildcard stands for one label.
      callback(null, byName.get(name) ?? byName.get(`*${name.slice(name.indexOf('.'))}`))
    },
    put(bundle, context) {
      entries.delete(bundle.name)
      entries.set(bundle.name, { bundle, context })
      const names = new Map<string, SecureContext>()
      for (const entry of entries.values()) {
        for (const { value } of entry.bundle.identifiers) names.set(value, entry.context)
      }
      byName = names
    },
    fingerprintOf: (name) => entries.get(name)?.bundle.fingerprintSha256,
  }
}

function secureContext(pair: SecureContextOptions, name: string, bundle: CertificateBundle): SecureContext {
  try {
    return createSecureContext(pair)
  } catch (cause) {
    throw new DeployError({
      code: 'ERR_DEPLOY_REJECTED',
      message: `${name}: OpenSSL does not accept ${bundle.name} with these TLS settings: ${String(cause)}`,
      deployer: name,
      cause,
    })
  }
}

function checkOptions(options: NodeTlsDeployerOptions) {
  assertOptions(options, ['servers', 'certificates', 'tls', 'name'], 'nodeTlsDeployer')
  const { servers = [], certificates, tls = {}, name = 'node-tls' } = options
  assertArray(servers, 'servers')
  for (const server of servers as readonly Partial<SecureServer>[]) {
    assertMethod(server, 'setSecureContext', 'servers[]')
  }
  if (certificates !== undefined) assertMethod(certificates, 'put', 'certificates')
  if (servers.length === 0 && certificates === undefined) {
    throw new TypeError('nodeTlsDeployer needs the option "servers" or "certificates"')
  }
  assertText(name, 'name', 200)
  const foreign = ['cert', 'key', 'pfx', 'passphrase'].find((option) => option in tls)
  if (foreign !== undefined) throw new TypeError(`"tls" option must not hold "${foreign}": it comes by deployment`)
  return { servers: [...servers], certificates, tls: { ...tls }, name }
}
