/**
 * Whether an order can be accepted. RFC 8555 section 7.4, RFC 9773 section 5, draft-ietf-acme-profiles.
 *
 * @module
 */
import { isIP } from 'node:net'
import { identifierKey, isWildcard, overlaps, sameIdentifiers, type Identifier } from '../../core/identifier.js'
import type { ResolvedOptions } from './options.js'
import { errorType, malformed, notFound, Problem, unauthorized } from './problem.js'
import { challengeFits, type Account, type Order, type Resources } from './resources.js'
import type { IssuingAuthority } from './test-authority.js'

/** What a client asks for, read and checked. */
export type OrderRequest = Pick<Order, 'account' | 'identifiers' | 'profile' | 'replaces'>

const mostNames = 100
const hostLabel = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

/** Reads the payload of newOrder. @throws `Problem` that says why not */
export function readOrderRequest(
  payload: Record<string, unknown>,
  account: Account,
  options: ResolvedOptions,
  authority: IssuingAuthority,
  resources: Resources,
): OrderRequest {
  if (payload['notBefore'] !== undefined || payload['notAfter'] !== undefined) {
    throw malformed('"notBefore" and "notAfter" are not supported')
  }
  const identifiers = readIdentifiers(payload['identifiers'])
  refuseBlocked(identifiers, options.blockedNames)
  const unreachable = identifiers.find((name) => !options.challengeTypes.some((type) => challengeFits(type, name)))
  if (unreachable !== undefined) {
    throw new Problem('rejectedIdentifier', 400, `no challenge is offered for ${unreachable.value}`)
  }
  return {
    account,
    identifiers,
    profile: readProfile(payload['profile'], authority),
    replaces: options.renewalInfo
      ? readReplaces(payload['replaces'], account, identifiers, authority, resources)
      : undefined,
  }
}

/** The order that Boulder would hand back instead of a new one. */
export function reusableOrder(request: OrderRequest, resources: Resources): Order | undefined {
  return [...resources.orders.values()].find((order) => {
    const status = resources.orderStatus(order)
    return (
      order.account === request.account &&
      order.profile === request.profile &&
      (status === 'pending' || status === 'ready') &&
      sameIdentifiers(order.identifiers, request.identifiers)
    )
  })
}

function readIdentifiers(value: unknown): readonly Identifier[] {
  if (!Array.isArray(value) || value.length === 0) throw malformed('"identifiers" must be a non-empty array')
  if (value.length > mostNames) throw malformed(`an order may have at most ${String(mostNames)} identifiers`)
  const identifiers = value.map(readIdentifier)
  const overlap = overlaps(identifiers)
  if (overlap !== undefined) throw malformed(`${overlap[1].value} is redundant with ${overlap[0].value}`)
  return [...new Map(identifiers.map((identifier) => [identifierKey(identifier), identifier])).values()]
}

function readIdentifier(item: unknown): Identifier {
  const { type, value } = (typeof item === 'object' && item !== null ? item : {}) as { type?: unknown; value?: unknown }
  if (typeof type !== 'string' || typeof value !== 'string') throw malformed('an identifier needs a type and a value')
  if (type === 'ip') {
    const canonical = isIP(value) === 6 ? new URL(`http://[${value.replace(/%.*/, '')}]/`).hostname.slice(1, -1) : value
    if (isIP(value) === 0 || canonical !== value)
      throw malformed(`${quote(value)} is not an IP address in canonical form`)
    return { type, value }
  }
  if (type !== 'dns') throw new Problem('unsupportedIdentifier', 400, `identifier type ${quote(type)} is not supported`)
  const name = value.toLowerCase()
  const identifier: Identifier = { type, value: name }
  const labels = (isWildcard(identifier) ? name.slice(2) : name).split('.')
  if (isIP(value) !== 0) throw malformed(`${quote(value)} is an IP address, not a DNS name`)
  if (name.length > 253 || labels.length > 10 || !labels.every((label) => hostLabel.test(label))) {
    throw malformed(`${quote(value)} is not a DNS name that can be certified`)
  }
  return identifier
}

function refuseBlocked(identifiers: readonly Identifier[], blockedNames: readonly string[]): void {
  const refused = identifiers.filter(({ value }) =>
    blockedNames.some((blocked) => value === blocked || value.endsWith(`.${blocked}`)),
  )
  if (refused.length === 0) return
  const detail = 'the CA will not issue for this identifier'
  const subproblems = refused.map((identifier) => ({ type: errorType('rejectedIdentifier'), detail, identifier }))
  const names = refused.map(({ value }) => value).join(', ')
  throw new Problem('rejectedIdentifier', 400, `the CA will not issue for ${names}`, { subproblems })
}

function readProfile(profile: unknown, { profiles }: IssuingAuthority): string | undefined {
  // An empty string is how Go clients leave the member out.
  if (profile === undefined || profile === '') return undefined
  if (typeof profile === 'string' && profiles.has(profile)) return profile
  throw new Problem('invalidProfile', 400, `profile ${JSON.stringify(profile).slice(0, 100)} is not offered`)
}

function readReplaces(
  replaces: unknown,
  account: Account,
  identifiers: readonly Identifier[],
  authority: IssuingAuthority,
  resources: Resources,
): string | undefined {
  if (replaces === undefined || replaces === '') return undefined
  if (typeof replaces !== 'string' || !/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(replaces)) {
    throw malformed('"replaces" is not a certificate identifier')
  }
  const predecessor = authority.recordOf(replaces)
  if (predecessor === undefined) throw notFound('"replaces" names a certificate that is not known')
  if (resources.ownerOf(predecessor) !== account) {
    throw unauthorized('"replaces" names a certificate of another account')
  }
  const names = new Set(predecessor.identifiers.map(identifierKey))
  if (!identifiers.some((identifier) => names.has(identifierKey(identifier)))) {
    throw malformed('"replaces" names a certificate for other identifiers')
  }
  if (resources.ordersReplacing(replaces).some((order) => resources.orderStatus(order) !== 'invalid')) {
    throw new Problem('alreadyReplaced', 409, 'an order for the replacement of this certificate exists already')
  }
  return replaces
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 260))
}
