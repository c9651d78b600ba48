/**
 * An ACME CA in the test's own process. Exported from `evercert/testing`.
 *
 * @module
 */
import { randomBytes } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { systemClock } from '../../core/clock.js'
import type { Identifier } from '../../core/identifier.js'
import { encodePem } from '../../core/pem.js'
import { accountOperations } from './account-operations.js'
import { certificateOperations } from './certificate-operations.js'
import { createSigner, randomSerial, signCertificate, type Signer } from './certificate.js'
import { createFaultInjector, type TestCaFaults } from './faults.js'
import type { RequestKind, RequestRecord } from './journal.js'
import { createNonces } from './nonces.js'
import { resolveOptions, type ResolvedOptions, type TestCaOptions } from './options.js'
import { orderOperations } from './order-operations.js'
import { jsonReply } from './reply.js'
import type { RenewalSuggestion } from './renewal-info.js'
import { createResources, type AuthorizationStatus, type OrderStatus, type Urls } from './resources.js'
import { listen, serve, type Operations, type ServerIdentity } from './server.js'
import { createIssuingAuthority, type IssuingAuthority, type TestCertificate } from './test-authority.js'
import { createValidator } from './validation.js'

/** An account as the CA sees it. */
export interface TestCaAccount {
  readonly url: string
  readonly status: 'valid' | 'deactivated'
  readonly contact: readonly string[]
  /** RFC 7638 thumbprint of its present key. */
  readonly thumbprint: string
  /** The external account it is bound to. */
  readonly externalAccountKeyId: string | undefined
}

/** An order as the CA sees it. */
export interface TestCaOrder {
  readonly url: string
  readonly accountUrl: string
  readonly status: OrderStatus
  readonly identifiers: readonly Identifier[]
  readonly authorizationUrls: readonly string[]
  readonly profile: string | undefined
  /** ARI identifier of the certificate that it renews. */
  readonly replaces: string | undefined
  readonly expires: Date
  readonly certificate: TestCertificate | undefined
}

/** An authorization as the CA sees it. */
export interface TestCaAuthorization {
  readonly url: string
  readonly accountUrl: string
  readonly status: AuthorizationStatus
  /** Without `*.`. */
  readonly identifier: Identifier
  readonly wildcard: boolean
  readonly expires: Date
}

/** A running test CA. */
export interface TestCa extends AsyncDisposable {
  /** Where an ACME client starts. */
  readonly directoryUrl: string
  /** Trust anchor of the CA's own https; empty without `tls`. Not the root of the certificates it issues. */
  readonly httpsCaPem: string
  /** Root of the certificates it issues. */
  readonly rootPem: string
  /** Roots of the alternate chains. */
  readonly alternateRootPems: readonly string[]
  /** Every request, in order of arrival. Grows as they come. */
  readonly requests: readonly RequestRecord[]
  /** How many requests there have been, of one kind or altogether. */
  countRequests(kind?: RequestKind): number
  /** A snapshot, oldest first. */
  readonly accounts: readonly TestCaAccount[]
  /** A snapshot, oldest first. */
  readonly orders: readonly TestCaOrder[]
  /** A snapshot, oldest first. */
  readonly authorizations: readonly TestCaAuthorization[]
  /** Everything issued, oldest first. Grows as it is. */
  readonly certificates: readonly TestCertificate[]
  /** Makes the CA or the network before it misbehave. */
  readonly faults: TestCaFaults
  /**
   * Overrides what renewal information says of one certificate, until it is revoked.
   *
   * @throws `TypeError` if the certificate is not from this CA.
   */
  setRenewalWindow(certificatePem: string, suggestion: RenewalSuggestion): void
  /**
   * Revokes of the CA's own accord, as in an incident.
   *
   * @param reason - RFC 5280 section 5.3.1; 0 when left out
   * @throws `TypeError` if the certificate is not from this CA.
   */
  revokeCertificate(certificatePem: string, reason?: number): void
  /** From now on accounts can be bound with this key. @param key - HMAC key, base64url */
  addExternalAccountKey(keyId: string, key: string): void
  /** Breaks every connection and ends validations. Can be called more than once. */
  close(): Promise<void>
}

/**
 * Starts an ACME CA (RFC 8555) on a free port of 127.0.0.1, as strict as `pebble -strict`, that validates http-01 and
 * dns-01 for real. Time comes from the clock it is given, so that a year passes as fast as a test can ask for
 * certificates; nothing but requested delays and the deadline of a hanging validation waits in real time.
 *
 * @example
 *
 * ```ts
 * import { startTestCa } from 'evercert/testing'
 *
 * await using ca = await startTestCa({ httpPort: 5002 })
 * ca.faults.add({
 *   match: { kind: 'newOrder' },
 *   action: { type: 'problem', problemType: 'rateLimited', status: 429, retryAfter: 60 },
 * })
 * ```
 *
 * @remarks
 * It does not offer tls-alpn-01, check CAA records, or limit rates (add faults for that).
 *
 * @param options - See {@link TestCaOptions}. Validated and copied; later changes have no effect.
 * @throws `TypeError` (as rejection) if an option is unknown or out of range.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555 | RFC 8555, ACME}
 * @see {@link https://www.rfc-editor.org/rfc/rfc9773 | RFC 9773, ARI}
 */
export async function startTestCa(options: TestCaOptions = {}): Promise<TestCa> {
  const resolved = resolveOptions(options)
  const externalAccountKeys = new Map<string, Buffer>()
  for (const [keyId, key] of Object.entries(resolved.externalAccountKeys)) {
    externalAccountKeys.set(keyId, hmacKey(key))
  }
  const authority = createIssuingAuthority(options)
  const identity = resolved.tls ? createServerIdentity() : undefined
  const { server, base } = await listen(identity)
  const urls: Urls = { base, directory: `${base}/directory`, of: (path) => base + path }

  const closing = new AbortController()
  // Every validation under way listens, and a hundred names may be validated at once.
  setMaxListeners(0, closing.signal)
  const journal: RequestRecord[] = []
  const faults = createFaultInjector(resolved.random)
  const resources = createResources(resolved, urls)
  const accounts = accountOperations(resolved, resources, urls, externalAccountKeys)
  const validator = createValidator(resolved, closing.signal)
  const orders = orderOperations(resolved, resources, urls, authority, validator)
  const { renewalInfo, ...certificates } = certificateOperations(resources, urls, authority)
  const operations: Operations = {
    queries: {
      directory: () => jsonReply(200, directory(resolved, urls, authority)),
      // RFC 8555 section 7.2.
      newNonce: ({ method }) => ({ status: method === 'HEAD' ? 200 : 204, headers: {}, body: '' }),
      ...(resolved.renewalInfo ? { renewalInfo } : {}),
    },
    signed: { ...accounts, ...orders, ...certificates },
  }
  serve(server, {
    clock: resolved.clock,
    urls,
    operations,
    resources,
    nonces: createNonces(),
    faults,
    authority,
    journal,
    closing: closing.signal,
  })

  let closed: Promise<void> | undefined
  const close = (): Promise<void> => {
    closed ??= new Promise((resolve) => {
      closing.abort()
      server.close(() => {
        resolve()
      })
      server.closeAllConnections()
    })
    return closed
  }

  return {
    directoryUrl: urls.directory,
    httpsCaPem: identity?.anchorPem ?? '',
    rootPem: authority.rootPem,
    alternateRootPems: authority.alternateRootPems,
    requests: journal,
    countRequests: (kind) =>
      kind === undefined ? journal.length : journal.filter((request) => request.kind === kind).length,
    get accounts() {
      return [...resources.accounts.values()].map(({ url, status, contact, publicKey, externalAccountKeyId }) => ({
        url,
        status,
        contact,
        thumbprint: publicKey.thumbprint,
        externalAccountKeyId,
      }))
    },
    get orders() {
      return [...resources.orders.values()].map((order) => ({
        url: order.url,
        accountUrl: order.account.url,
        status: resources.orderStatus(order),
        identifiers: order.identifiers,
        authorizationUrls: order.authorizations.map(({ url }) => url),
        profile: order.profile,
        replaces: order.replaces,
        expires: new Date(order.expiresAt),
        certificate: order.certificate,
      }))
    },
    get authorizations() {
      return [...resources.authorizations.values()].map((authorization) => ({
        url: authorization.url,
        accountUrl: authorization.account.url,
        status: resources.authorizationStatus(authorization),
        identifier: authorization.identifier,
        wildcard: authorization.wildcard,
        expires: new Date(authorization.expiresAt),
      }))
    },
    certificates: authority.certificates,
    faults,
    setRenewalWindow: (certificatePem, suggestion) => {
      authority.setRenewalWindow(certificatePem, suggestion)
    },
    revokeCertificate: (certificatePem, reason) => {
      authority.revokeCertificate(certificatePem, reason)
    },
    addExternalAccountKey: (keyId, key) => {
      externalAccountKeys.set(keyId, hmacKey(key))
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}

/** RFC 8555 section 7.1.1. */
function directory(options: ResolvedOptions, urls: Urls, { profiles }: IssuingAuthority): object {
  const descriptions = [...profiles].map(([name, { description }]) => [name, description] as const)
  return {
    // Let's Encrypt has a random member too, so that clients learn to pass over what they do not know.
    [randomBytes(8).toString('base64url')]: 'https://test-ca.invalid/clients-must-ignore-unknown-members',
    newNonce: urls.of('/new-nonce'),
    newAccount: urls.of('/new-account'),
    newOrder: urls.of('/new-order'),
    revokeCert: urls.of('/revoke-cert'),
    keyChange: urls.of('/key-change'),
    ...(options.renewalInfo ? { renewalInfo: urls.of('/renewal-info') } : {}),
    meta: {
      termsOfService: urls.of('/terms'),
      caaIdentities: ['test-ca.invalid'],
      externalAccountRequired: options.externalAccountRequired,
      ...(descriptions.length > 0 ? { profiles: Object.fromEntries(descriptions) } : {}),
    },
  }
}

/** By the machine's clock, not the test's: OpenSSL in the client knows no other. */
function createServerIdentity(): ServerIdentity & { readonly anchorPem: string } {
  const day = 86_400_000
  const anchor = createSigner('evercert test CA, trust anchor of its https')
  const server = createSigner('evercert test CA')
  const now = systemClock.now()
  const validity = { notBefore: now - day, notAfter: now + 3650 * day }
  const certify = (subject: Signer, identifiers: readonly Identifier[], ca: boolean): string => {
    const { name, publicKeyInfo } = subject
    const template = { subject: name, publicKeyInfo, serial: randomSerial(), identifiers, ca, ...validity }
    return encodePem('CERTIFICATE', signCertificate(template, anchor))
  }
  const names: readonly Identifier[] = [
    { type: 'ip', value: '127.0.0.1' },
    { type: 'dns', value: 'localhost' },
  ]
  return {
    keyPem: server.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificatePem: certify(server, names, false),
    anchorPem: certify(anchor, [], true),
  }
}

function hmacKey(key: string): Buffer {
  if (/^[A-Za-z0-9_-]+={0,2}$/.test(key)) return Buffer.from(key, 'base64url')
  throw new TypeError('"externalAccountKeys" option must hold base64url keys')
}
