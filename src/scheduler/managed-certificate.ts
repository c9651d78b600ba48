/**
 * What a caller wants: names, issuers, targets, and where clients see the result.
 *
 * @module
 */
import { isIP } from 'node:net'
import { overlaps, parseIdentifiers, type Identifier } from '../core/identifier.js'
import { keyAlgorithms, type KeyAlgorithm } from '../core/private-key.js'
import type { Deployer } from '../deployers/deployer.js'
import {
  assertArray,
  assertBoolean,
  assertMethod,
  assertNumber,
  assertOneOf,
  assertOptions,
  assertText,
} from '../internal/options.js'
import type { Issuer } from '../issuers/issuer.js'

/** Where clients connect. After a deployment every address of it is checked by a fresh TLS handshake. */
export interface Endpoint {
  /** DNS name or IP address. */
  readonly host: string
  /** @defaultValue 443 */
  readonly port?: number | undefined
  /** Name sent in SNI. @defaultValue `host`, or none when that is an IP address */
  readonly servername?: string | undefined
}

/** One certificate to keep valid. */
export interface ManagedCertificate {
  /** Key in the store: 1 to 200 characters, stable when the identifiers change. */
  readonly name: string
  /** `example.com`, `*.example.com`, `bücher.example`, `192.0.2.7`, `2001:db8::1`. Order and case do not matter. */
  readonly identifiers: readonly string[]
  /** Tried in this order, each with its own memory of failures. */
  readonly issuers: readonly [Issuer, ...Issuer[]]
  /** @defaultValue 'ecdsa-p256' */
  readonly key?: KeyAlgorithm | undefined
  /** Keep the key at renewal instead of making a new one. @defaultValue false */
  readonly reuseKey?: boolean | undefined
  readonly deployers?: readonly Deployer[] | undefined
  readonly endpoints?: readonly Endpoint[] | undefined
  /**
   * While nothing is stored yet, deploy a marked, short-lived self-signed certificate, so that a server that needs some
   * certificate can start. Goes only to deployers that can `inspect` and find nothing there.
   *
   * @defaultValue false
   */
  readonly placeholder?: boolean | undefined
  /** Profile to ask the CA for. @defaultValue the issuer's */
  readonly profile?: string | undefined
}

/** An {@link Endpoint} with its defaults filled in; `servername` is empty when no SNI is sent. @internal */
export interface EndpointSpec {
  readonly host: string
  readonly port: number
  readonly servername: string
}

/** A {@link ManagedCertificate} that was checked and copied. @internal */
export interface CertificateSpec {
  readonly name: string
  readonly identifiers: readonly Identifier[]
  readonly issuers: readonly [Issuer, ...Issuer[]]
  readonly key: KeyAlgorithm
  readonly reuseKey: boolean
  readonly deployers: readonly Deployer[]
  readonly endpoints: readonly EndpointSpec[]
  readonly placeholder: boolean
  readonly profile: string | undefined
}

const known = [
  'name',
  'identifiers',
  'issuers',
  'key',
  'reuseKey',
  'deployers',
  'endpoints',
  'placeholder',
  'profile',
] as const

/** Checks and copies. @throws `TypeError` that names the certificate and the member. @internal */
export function parseManagedCertificate(certificate: ManagedCertificate): CertificateSpec {
  assertOptions(certificate, known, 'certificates[]')
  const { name, key = 'ecdsa-p256', reuseKey = false, placeholder = false, profile } = certificate
  assertText(name, 'certificates[].name', 200)
  if (/\p{Surrogate}/u.test(name)) throw new TypeError('"certificates[].name" option must be well-formed Unicode')
  const at = `certificates[${JSON.stringify(name)}]`
  if (!Array.isArray(certificate.identifiers)) throw new TypeError(`"${at}.identifiers" option must be an array`)
  let identifiers: readonly Identifier[]
  try {
    identifiers = parseIdentifiers(certificate.identifiers)
  } catch (cause) {
    throw new TypeError(`"${at}.identifiers" option: ${cause instanceof Error ? cause.message : 'invalid'}`, { cause })
  }
  const overlap = overlaps(identifiers)
  if (overlap !== undefined) {
    const [wildcard, covered] = overlap
    throw new TypeError(
      `"${at}.identifiers" option: ${wildcard.value} already covers ${covered.value}; CAs refuse both`,
    )
  }
  const issuers = parseIssuers(certificate.issuers, identifiers, at)
  assertOneOf(key, `${at}.key`, keyAlgorithms)
  assertBoolean(reuseKey, `${at}.reuseKey`)
  assertBoolean(placeholder, `${at}.placeholder`)
  if (profile !== undefined) assertText(profile, `${at}.profile`, 100)
  return Object.freeze({
    name,
    identifiers,
    issuers,
    key,
    reuseKey,
    deployers: parseDeployers(certificate.deployers ?? [], at),
    endpoints: parseEndpoints(certificate.endpoints ?? [], at),
    placeholder,
    profile,
  })
}

function parseIssuers(issuers: unknown, identifiers: readonly Identifier[], at: string): CertificateSpec['issuers'] {
  const list: readonly Issuer[] = Array.isArray(issuers) ? (issuers as readonly Issuer[]) : []
  const [first, ...rest] = list
  if (first === undefined) throw new TypeError(`"${at}.issuers" option must be an array of at least one issuer`)
  const ids = new Set<string>()
  for (const issuer of list) {
    assertMethod(issuer, 'issue', `${at}.issuers[]`)
    assertText(issuer.id, `${at}.issuers[].id`, 200)
    if (ids.has(issuer.id)) throw new TypeError(`"${at}.issuers" option lists ${JSON.stringify(issuer.id)} twice`)
    ids.add(issuer.id)
    const supported = issuer.supports?.(identifiers) ?? true
    if (supported !== true) throw new TypeError(`"${at}.issuers" option: ${issuer.id} cannot be used: ${supported}`)
  }
  return [first, ...rest]
}

function parseDeployers(deployers: readonly Deployer[], at: string): readonly Deployer[] {
  assertArray(deployers, `${at}.deployers`)
  const names = new Set<string>()
  for (const deployer of deployers) {
    assertMethod(deployer, 'deploy', `${at}.deployers[]`)
    assertText(deployer.name, `${at}.deployers[].name`, 500)
    if (names.has(deployer.name)) {
      throw new TypeError(`"${at}.deployers" option holds two deployers named ${JSON.stringify(deployer.name)}`)
    }
    names.add(deployer.name)
  }
  return [...deployers]
}

function parseEndpoints(endpoints: readonly Endpoint[], at: string): readonly EndpointSpec[] {
  assertArray(endpoints, `${at}.endpoints`)
  return endpoints.map((endpoint) => parseEndpoint(endpoint, at))
}

function parseEndpoint(endpoint: Endpoint, at: string): EndpointSpec {
  assertOptions(endpoint, ['host', 'port', 'servername'], `${at}.endpoints[]`)
  const { host, port = 443, servername = isIP(endpoint.host) === 0 ? endpoint.host : '' } = endpoint
  assertText(host, `${at}.endpoints[].host`, 253)
  assertNumber(port, `${at}.endpoints[].port`, { min: 1, max: 65_535, integer: true })
  if (servername !== '') assertText(servername, `${at}.endpoints[].servername`, 253)
  return { host, port, servername }
}

/** What a person changes to mend a failure: a permanent one of other settings is no reason to wait. */
export function settingsOf({ profile, key }: CertificateSpec, { settingsDigest }: Issuer): string {
  return JSON.stringify([settingsDigest, profile, key])
}
