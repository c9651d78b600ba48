/**
 * Certificates from an ACME CA.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { readCertificates } from '../../core/certificate-bundle.js'
import { overlaps, type Identifier } from '../../core/identifier.js'
import { importPrivateKey, keyAlgorithms, type KeyAlgorithm } from '../../core/private-key.js'
import { CertError } from '../../errors.js'
import type { FetchFunction } from '../../internal/http.js'
import {
  assertBoolean,
  assertDuration,
  assertFunction,
  assertHttpsUrl,
  assertNumber,
  assertOneOf,
  assertOptions,
  assertText,
} from '../../internal/options.js'
import type { AnyChallengeSolver, ChallengeType } from '../../solvers/challenge-solver.js'
import { createPreflight, type PreflightOptions } from '../../solvers/preflight.js'
import { selectSolver } from '../../solvers/select-solver.js'
import type { Issuer, IssuerContext } from '../issuer.js'
import { revocationReasonCodes } from '../revocation-reason-codes.js'
import { accountKeeper, type AcmeAccount } from './account.js'
import { accountKey } from './account-key.js'
import { acmeTransport } from './acme-transport.js'
import { obtainCertificate, type OrderServices } from './order-flow.js'
import { isProblem, protocolError } from './problem.js'
import type { ProfileChoice } from './profile.js'
import { fetchRenewalInfo } from './renewal-info.js'
import { validationGuard } from './validation-guard.js'

/** Options of {@link acmeIssuer}. */
export interface AcmeIssuerOptions {
  /** Directory URL of the CA, e.g. `letsEncrypt.staging`. https only. */
  readonly directory: string
  /** That you have read the CA's terms of service and agree to them. RFC 8555 section 7.3. */
  readonly termsOfServiceAgreed: true
  /**
   * Who proves that the names are yours. For each name the solver with the closest `zones` is used, then the first in the
   * list, among those of a type that the CA offers.
   */
  readonly solvers: readonly AnyChallengeSolver[]
  /**
   * Where the CA may write to: `mailto:` URLs. Let's Encrypt does not keep them; some CAs insist on one.
   *
   * @defaultValue none
   */
  readonly contact?: readonly string[] | undefined
  /** Key id and HMAC key (base64url) that some CAs hand out on their web site. RFC 8555 section 7.3.4. @defaultValue none */
  readonly externalAccountBinding?: { readonly kid: string; readonly hmacKey: string } | undefined
  /** Type of the account's key. It is made once and kept in the store. @defaultValue 'ecdsa-p256' */
  readonly accountKeyAlgorithm?: KeyAlgorithm | undefined
  /**
   * The account's key (PEM), when you keep it yourself. It is then not written to the store. MUST NOT be the key of a
   * certificate. Not together with `accountKeyAlgorithm`.
   *
   * @defaultValue one that is made and kept in the store
   */
  readonly accountKey?: string | undefined
  /**
   * Profile of certificates that do not ask for one themselves. `prefer` falls back to the CA's default where the CA does
   * not offer it, `require` fails then.
   *
   * @defaultValue the CA's default
   */
  readonly profile?: ProfileChoice | undefined
  /**
   * Which chain, when the CA has several: common name of the root, or SHA-256 fingerprint (hexadecimal) of a certificate
   * in the chain. Without a match the default chain is used, with a warning in the log.
   *
   * @defaultValue the CA's default
   */
  readonly preferredChain?: string | undefined
  /** Roots (PEM) that the issued chains must end at. @defaultValue no particular ones */
  readonly trustedRoots?: string | undefined
  /** PEM certificates to trust for the connection to the CA, instead of those of Node: for private CAs. */
  readonly ca?: string | undefined
  /** Sends the requests: for proxies and for tests. Not together with `ca`. @defaultValue `fetch` of undici */
  readonly fetch?: FetchFunction | undefined
  /**
   * A look at each http-01 challenge before the CA looks, which costs no quota when it fails. `false` turns it off.
   *
   * @defaultValue on, failing the attempt
   */
  readonly preflight?: PreflightOptions | false | undefined
  /** Accepts `http:` URLs to loopback addresses: for tests. @defaultValue false */
  readonly allowLoopbackHttp?: boolean | undefined
  /** Put before evercert's own `User-Agent`: your product and a contact. @defaultValue nothing */
  readonly userAgent?: string | undefined
  /** For each request, milliseconds. @defaultValue 30_000 (30 seconds) */
  readonly requestTimeoutMs?: number | undefined
  /** For each call of `issue`, milliseconds. What is not finished then is resumed by the next call. @defaultValue 900_000 (15 minutes) */
  readonly orderTimeoutMs?: number | undefined
  /**
   * Names this configuration in the store. Give issuers of one directory ids of their own when they are to have accounts
   * of their own. Letters, digits, `.`, `_` and `-`, at most 100.
   *
   * @defaultValue host and path of the directory
   */
  readonly id?: string | undefined
  /** Called between the steps of an order, for crash tests. @internal */
  readonly observe?: ((step: string) => void | Promise<void>) | undefined
}

/** An {@link Issuer} with what only ACME has. */
export interface AcmeIssuer extends Issuer {
  supports(identifiers: readonly Identifier[]): true | string
  renewalInfo: NonNullable<Issuer['renewalInfo']>
  revoke: NonNullable<Issuer['revoke']>
  /** The account: found in the store, or made. Its URL is what a CAA record's `accounturi` names. */
  account(context: IssuerContext): Promise<AcmeAccount>
  /**
   * Gives the account a new key. The new one is stored before the CA hears of it; after a crash in between, the next use
   * of the account finds out which of the two is valid. RFC 8555 section 7.3.5.
   */
  rollOverAccountKey(context: IssuerContext): Promise<AcmeAccount>
  /** Closes connections. Idle ones do not keep the process alive, so this is for tests and short-lived issuers. */
  close(): Promise<void>
}

const optionNames = [
  ...['directory', 'termsOfServiceAgreed', 'solvers', 'contact', 'externalAccountBinding', 'accountKeyAlgorithm'],
  ...['accountKey', 'profile', 'preferredChain', 'trustedRoots', 'ca', 'fetch', 'preflight', 'allowLoopbackHttp'],
  ...['userAgent', 'requestTimeoutMs', 'orderTimeoutMs', 'id', 'observe'],
]
const allTypes: readonly ChallengeType[] = ['http-01', 'dns-01', 'tls-alpn-01']

/**
 * An issuer that obtains certificates from an ACME CA such as Let's Encrypt.
 *
 * The account is made at the first use and kept in the store; processes that share the store share it. An order that is
 * interrupted, by a crash or a time limit, is resumed by the next call with the same idempotency key, so that it never
 * leads to a second certificate. What was put up for validation is taken down again, also by the next process.
 *
 * @example
 *
 * ```ts
 * import { acmeIssuer, letsEncrypt } from 'evercert/issuers/acme'
 * import { webrootSolver } from 'evercert/solvers/webroot'
 *
 * const issuer = acmeIssuer({
 *   directory: letsEncrypt.staging,
 *   termsOfServiceAgreed: true,
 *   solvers: [webrootSolver({ directory: '/var/www/acme' })],
 * })
 * ```
 *
 * @remarks
 * `issue` rejects with `ERR_ACME_RATE_LIMITED` (the CA's limit, or four failed validations of a name within an hour),
 * `ERR_ACME_USER_ACTION_REQUIRED`, `ERR_ACME_AUTHORIZATION_FAILED`, `ERR_ACME_ORDER_TIMEOUT`,
 * `ERR_ACME_PROFILE_UNAVAILABLE`, `ERR_ACME_PROBLEM` or `ERR_ACME_PROTOCOL`; with `ERR_CHALLENGE_*` when a challenge could
 * not be put up; with `ERR_STORE_*` and `ERR_HTTP_*`.
 *
 * @param options - See {@link AcmeIssuerOptions}. Validated and copied; later changes have no effect.
 * @throws `TypeError` if an option is missing, unknown or out of range.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555 | RFC 8555, ACME}
 * @see {@link https://www.rfc-editor.org/rfc/rfc9773 | RFC 9773, ARI}
 */
export function acmeIssuer(options: AcmeIssuerOptions): AcmeIssuer {
  const checked = checkOptions(options)
  const { id, directory, solvers } = checked
  const observe = async (step: string): Promise<void> => checked.observe?.(step)
  const transport = acmeTransport({
    directoryUrl: directory,
    externalAccountBinding: checked.externalAccountBinding,
    fetch: checked.fetch,
    ca: checked.ca,
    userAgent: checked.userAgent,
    requestTimeoutMs: checked.requestTimeoutMs,
    allowLoopbackHttp: checked.allowLoopbackHttp,
  })
  const accounts = accountKeeper(
    {
      issuerId: id,
      directoryUrl: directory,
      contact: checked.contact,
      bindExternalAccount: checked.externalAccountBinding !== undefined,
      keyAlgorithm: checked.accountKeyAlgorithm,
      ownKey: checked.ownKey,
      observe,
    },
    transport,
  )
  const services: OrderServices = {
    issuerId: id,
    transport,
    guard: validationGuard(id),
    solvers,
    preflight: createPreflight(checked.preflight),
    profile: checked.profile,
    preferredChain: checked.preferredChain,
    trustedRoots: checked.trustedRoots,
    orderTimeoutMs: checked.orderTimeoutMs,
    observe,
  }
  const shown = ({ url, thumbprint }: AcmeAccount): AcmeAccount => ({ url, thumbprint })

  return {
    id,
    settingsDigest: settingsDigest(checked),
    supports(identifiers) {
      const overlapping = overlaps(identifiers)
      if (overlapping !== undefined) {
        const [wildcard, name] = overlapping
        return `${name.value} is covered by ${wildcard.value} already, and CAs refuse to certify both`
      }
      try {
        for (const identifier of identifiers) selectSolver(identifier, allTypes, solvers)
        return true
      } catch (error) {
        if (!CertError.isInstance(error)) throw error
        return error.message
      }
    },
    issue: (request, context) =>
      accounts.use(context, (session) => obtainCertificate(request, session, services, context)),
    renewalInfo: (certificatePem, context) => fetchRenewalInfo(certificatePem, transport, context),
    async revoke(certificatePem, reason, context) {
      const [leaf] = readCertificates(certificatePem)
      if (leaf === undefined) return
      const what = `revocation of the certificate for ${leaf.subject}`
      const { revokeCert: url } = await transport.directory(context)
      if (url === undefined) throw protocolError(what, 'the CA offers no revocation')
      const payload = { certificate: leaf.der.toString('base64url'), reason: revocationReasonCodes[reason] }
      try {
        await accounts.use(context, (session) =>
          session.signer.send({ url, what, payload, account: session.url, repeatable: true, answer: 'any' }, context),
        )
      } catch (error) {
        if (!isProblem(error, 'alreadyRevoked')) throw error
      }
    },
    account: async (context) => shown(await accounts.session(context)),
    rollOverAccountKey: async (context) => shown(await accounts.rollOver(context)),
    close: () => transport.close(),
  }
}

function settingsDigest(settings: ReturnType<typeof checkOptions>): string {
  const { contact, externalAccountBinding, profile, preferredChain, solvers } = settings
  const proofs = solvers.map(({ name, type, zones }) => [name, type, zones])
  const all = [contact, externalAccountBinding, profile, preferredChain, proofs]
  return createHash('sha256').update(JSON.stringify(all)).digest('base64url')
}

/** Everything copied, with defaults. */
function checkOptions(options: AcmeIssuerOptions) {
  assertOptions(options, optionNames, 'acmeIssuer')
  const { accountKeyAlgorithm = 'ecdsa-p256', allowLoopbackHttp = false, solvers } = options
  const { requestTimeoutMs = 30_000, orderTimeoutMs = 900_000, preflight = {} } = options
  const { userAgent, preferredChain, trustedRoots, fetch, ca, observe } = options
  assertBoolean(allowLoopbackHttp, 'allowLoopbackHttp')
  assertHttpsUrl(options.directory, 'directory', allowLoopbackHttp)
  if ((options.termsOfServiceAgreed as unknown) !== true) {
    throw new TypeError('"termsOfServiceAgreed" option must be true: read the terms of service of the CA first')
  }
  assertOneOf(accountKeyAlgorithm, 'accountKeyAlgorithm', keyAlgorithms)
  if (userAgent !== undefined) assertText(userAgent, 'userAgent', 100)
  if (preferredChain !== undefined) assertText(preferredChain, 'preferredChain', 200)
  assertDuration(requestTimeoutMs, 'requestTimeoutMs')
  assertDuration(orderTimeoutMs, 'orderTimeoutMs')
  if (observe !== undefined) assertFunction(observe, 'observe')
  return {
    id: checkId(options.id ?? defaultId(options.directory)),
    directory: options.directory,
    solvers: checkSolvers(solvers),
    contact: checkContact(options.contact ?? []),
    externalAccountBinding: checkBinding(options.externalAccountBinding),
    accountKeyAlgorithm,
    ownKey: checkAccountKey(options),
    profile: checkProfile(options.profile),
    preferredChain,
    trustedRoots: checkRoots(trustedRoots),
    ca,
    fetch,
    preflight: preflight === false ? preflight : { ...preflight },
    allowLoopbackHttp,
    userAgent,
    requestTimeoutMs,
    orderTimeoutMs,
    observe,
  }
}

/** `acme-v02.api.letsencrypt.org-directory` */
function defaultId(directory: string): string {
  const { host, pathname } = new URL(directory)
  return `${host}${pathname}`
    .toLowerCase()
    .replace(/[^a-z0-9.]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 100)
}

function checkId(id: string): string {
  if (typeof id !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(id)) {
    throw new TypeError('"id" option must be 1 to 100 letters, digits, ".", "_" and "-"')
  }
  return id
}

function checkSolvers(solvers: readonly AnyChallengeSolver[]): readonly AnyChallengeSolver[] {
  if (!Array.isArray(solvers) || solvers.length === 0) {
    throw new TypeError('"solvers" option must be a list with at least one solver')
  }
  const names = new Set<string>()
  for (const solver of solvers as readonly Partial<AnyChallengeSolver>[]) {
    assertText(solver.name, 'solvers[].name', 200)
    assertOneOf(solver.type, 'solvers[].type', allTypes)
    assertFunction(solver.present, 'solvers[].present')
    assertFunction(solver.cleanUp, 'solvers[].cleanUp')
    if (solver.concurrency !== undefined) {
      assertNumber(solver.concurrency, 'solvers[].concurrency', { min: 1, max: 10_000, integer: true })
    }
    if (names.has(solver.name)) {
      throw new TypeError(`"solvers" option has two solvers named ${solver.name}; give each a name of its own`)
    }
    names.add(solver.name)
  }
  return [...(solvers as readonly AnyChallengeSolver[])]
}

function checkContact(contact: readonly string[]): readonly string[] {
  const isContact = (url: unknown): boolean => /^mailto:[^\s@,?:]+@[^\s@,?:]+$/.test(String(url))
  if (Array.isArray(contact) && contact.every(isContact)) return contact.map(String)
  throw new TypeError('"contact" option must be a list of mailto: URLs with one address each')
}

function checkBinding(
  binding: AcmeIssuerOptions['externalAccountBinding'],
): { readonly kid: string; readonly hmacKey: string } | undefined {
  if (binding === undefined) return undefined
  assertOptions(binding, ['kid', 'hmacKey'], 'externalAccountBinding')
  const { kid, hmacKey } = binding
  assertText(kid, 'externalAccountBinding.kid', 500)
  if (typeof hmacKey !== 'string' || !/^[A-Za-z0-9_+/-]{16,1000}=*$/.test(hmacKey)) {
    throw new TypeError('"externalAccountBinding.hmacKey" option must be the base64url key that the CA gave you')
  }
  return { kid, hmacKey }
}

function checkAccountKey({
  accountKey: pem,
  accountKeyAlgorithm,
}: AcmeIssuerOptions): ReturnType<typeof accountKey> | undefined {
  if (pem === undefined) return undefined
  if (accountKeyAlgorithm !== undefined) {
    throw new TypeError('"accountKeyAlgorithm" option has no effect together with "accountKey"; give only one of them')
  }
  try {
    return accountKey(importPrivateKey(pem).exportPem())
  } catch (cause) {
    throw new TypeError(`"accountKey" option: ${cause instanceof TypeError ? cause.message : 'unreadable'}`, { cause })
  }
}

function checkProfile(profile: ProfileChoice | undefined): ProfileChoice | undefined {
  if (profile === undefined) return undefined
  assertOptions(profile, ['prefer', 'require'], 'profile')
  const entries = Object.entries(profile)
  const [entry] = entries
  if (entry === undefined || entries.length > 1) {
    throw new TypeError('"profile" option must be either { prefer: name } or { require: name }')
  }
  assertText(entry[1], `profile.${entry[0]}`, 200)
  return entry[0] === 'prefer' ? { prefer: entry[1] } : { require: entry[1] }
}

function checkRoots(trustedRoots: string | undefined): string | undefined {
  if (trustedRoots === undefined) return undefined
  try {
    readCertificates(trustedRoots)
  } catch {
    throw new TypeError('"trustedRoots" option must be PEM with one or more certificates, and nothing else')
  }
  return trustedRoots
}
