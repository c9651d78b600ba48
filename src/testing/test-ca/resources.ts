/**
 * Accounts, orders, authorizations and challenges: their states, and how they look in a reply. RFC 8555 section 7.1.
 *
 * @module
 */
import { randomBytes } from 'node:crypto'
import { baseName, identifierKey, isWildcard, type Identifier } from '../../core/identifier.js'
import type { PublicKey } from './jws.js'
import type { ResolvedOptions } from './options.js'
import type { ProblemDocument } from './problem.js'
import { notFound, unauthorized } from './problem.js'
import { timestamp } from './renewal-info.js'
import type { IssuedRecord } from './test-authority.js'

/** RFC 8555 section 7.1.2. */
export interface Account {
  readonly url: string
  publicKey: PublicKey
  contact: readonly string[]
  status: 'valid' | 'deactivated'
  readonly externalAccountKeyId: string | undefined
  readonly externalAccountBinding: unknown
}

/** RFC 8555 section 7.1.5. */
export interface Challenge {
  readonly url: string
  readonly type: string
  /** Absent on the challenge of unknown type. */
  readonly token: string | undefined
  readonly authorization: Authorization
  status: 'pending' | 'processing' | 'valid' | 'invalid'
  validatedAt: number | undefined
  error: ProblemDocument | undefined
}

/** RFC 8555 section 7.1.4. */
export interface Authorization {
  readonly url: string
  readonly account: Account
  /** Without `*.`. */
  readonly identifier: Identifier
  readonly wildcard: boolean
  readonly profile: string | undefined
  status: 'pending' | 'valid' | 'invalid' | 'deactivated'
  expiresAt: number
  challenges: readonly Challenge[]
}

/** RFC 8555 section 7.1.3. */
export interface Order {
  readonly id: string
  readonly url: string
  readonly account: Account
  readonly identifiers: readonly Identifier[]
  readonly authorizations: readonly Authorization[]
  readonly profile: string | undefined
  readonly replaces: string | undefined
  readonly expiresAt: number
  certificate: IssuedRecord | undefined
  /** How many more looks still say `processing`. */
  processingPolls: number
}

/** RFC 8555 section 7.1.6. */
export type OrderStatus = 'pending' | 'ready' | 'processing' | 'valid' | 'invalid'

/** RFC 8555 section 7.1.6; an authorization also expires. */
export type AuthorizationStatus = 'pending' | 'valid' | 'invalid' | 'deactivated' | 'expired'

/** Where the CA's resources are. */
export interface Urls {
  readonly base: string
  readonly directory: string
  /** @param path - from the root, e.g. `/new-order` */
  of(path: string): string
}

/** Everything the CA knows, and the rules by which it changes. */
export interface Resources {
  readonly accounts: ReadonlyMap<string, Account>
  readonly authorizations: ReadonlyMap<string, Authorization>
  readonly orders: ReadonlyMap<string, Order>
  addAccount(account: Omit<Account, 'url' | 'status'>): Account
  accountByKey(publicKey: PublicKey): Account | undefined
  /** Key rollover. RFC 8555 section 7.3.5. */
  changeKey(account: Account, publicKey: PublicKey): void
  /** Creates an order with new authorizations, or valid ones where the options allow reuse. */
  addOrder(order: Pick<Order, 'account' | 'identifiers' | 'profile' | 'replaces'>): Order
  /** Orders that name this certificate as their predecessor, by ARI identifier. */
  ordersReplacing(certificateId: string): readonly Order[]
  /** Ends an order with its certificate. */
  complete(order: Order, certificate: IssuedRecord): void
  /** For whom a certificate was issued. */
  ownerOf(certificate: IssuedRecord): Account | undefined
  orderStatus(order: Order): OrderStatus
  authorizationStatus(authorization: Authorization): AuthorizationStatus
  /** The verdict on a challenge. Comes too late when the authorization is no longer pending. */
  settle(challenge: Challenge, problem: ProblemDocument | undefined): void
  /** Looks a resource up for its owner. @throws `Problem` 404 or 403 */
  own<Resource extends { readonly account: Account }>(
    resources: ReadonlyMap<string, Resource>,
    url: string,
    account: Account,
  ): Resource
  challenge(url: string, account: Account): Challenge
  renderAccount(account: Account): object
  /** @param status - what to say instead of the present status */
  renderOrder(order: Order, status?: OrderStatus): object
  renderAuthorization(authorization: Authorization): object
  renderChallenge(challenge: Challenge): object
}

/** An empty CA. */
export function createResources(options: ResolvedOptions, urls: Urls): Resources {
  const { clock, random } = options
  const accounts = new Map<string, Account>()
  const accountsByThumbprint = new Map<string, Account>()
  const authorizations = new Map<string, Authorization>()
  const challenges = new Map<string, Challenge>()
  const orders = new Map<string, Order>()
  const replacing = new Map<string, readonly Order[]>()
  const owners = new Map<IssuedRecord, Account>()

  const shuffled = <Item>(items: readonly Item[]): Item[] => {
    if (!options.shuffle) return [...items]
    return items
      .map((item) => ({ item, rank: random() }))
      .sort((one, other) => one.rank - other.rank)
      .map(({ item }) => item)
  }

  const authorizationStatus = (authorization: Authorization): AuthorizationStatus => {
    const { status, expiresAt } = authorization
    if (expiresAt > clock.now()) return status
    if (status === 'valid') return 'expired'
    return status === 'pending' ? 'invalid' : status
  }

  const orderStatus = (order: Order): OrderStatus => {
    if (order.certificate !== undefined) return order.processingPolls > 0 ? 'processing' : 'valid'
    if (order.expiresAt <= clock.now()) return 'invalid'
    const statuses = order.authorizations.map(authorizationStatus)
    if (statuses.every((status) => status === 'valid')) return 'ready'
    return statuses.every((status) => status === 'valid' || status === 'pending') ? 'pending' : 'invalid'
  }

  const offeredTypes = (identifier: Identifier): string[] =>
    shuffled(options.challengeTypes).filter((type) => challengeFits(type, identifier))

  const addChallenge = (authorization: Authorization, type: string, token: string | undefined): Challenge => {
    const url = urls.of(`/challenge/${String(challenges.size + 1)}`)
    const challenge: Challenge = {
      url,
      type,
      token,
      authorization,
      status: 'pending',
      validatedAt: undefined,
      error: undefined,
    }
    challenges.set(url, challenge)
    return challenge
  }

  const addAuthorization = (account: Account, identifier: Identifier, profile: string | undefined): Authorization => {
    const authorization: Authorization = {
      url: urls.of(`/authorization/${String(authorizations.size + 1)}`),
      account,
      identifier: { type: identifier.type, value: baseName(identifier) },
      wildcard: isWildcard(identifier),
      profile,
      status: 'pending',
      expiresAt: clock.now() + options.authorizationLifetimeMs,
      challenges: [],
    }
    const unknown = options.offerUnknownChallenge ? [addChallenge(authorization, 'dns-persist-01', undefined)] : []
    const known = offeredTypes(identifier).map((type) =>
      addChallenge(authorization, type, randomBytes(32).toString('base64url')),
    )
    authorization.challenges = [...unknown, ...known]
    authorizations.set(authorization.url, authorization)
    return authorization
  }

  const reusable = (
    account: Account,
    identifier: Identifier,
    profile: string | undefined,
  ): Authorization | undefined => {
    if (!options.reuseAuthorizations) return undefined
    const wanted = identifierKey({ type: identifier.type, value: baseName(identifier) })
    return [...authorizations.values()].find(
      (authorization) =>
        authorization.account === account &&
        authorization.wildcard === isWildcard(identifier) &&
        // Let's Encrypt keeps the authorizations of one profile from the others.
        authorization.profile === profile &&
        identifierKey(authorization.identifier) === wanted &&
        authorizationStatus(authorization) === 'valid',
    )
  }

  const renderChallenge = (challenge: Challenge): object => {
    const { url, type, token, status, validatedAt, error } = challenge
    return {
      type,
      url,
      status,
      ...(token === undefined ? { 'issuer-domain-names': ['test-ca.invalid'] } : { token }),
      ...(validatedAt === undefined ? {} : { validated: timestamp(new Date(validatedAt)) }),
      ...(error === undefined ? {} : { error }),
    }
  }

  return {
    accounts,
    authorizations,
    orders,
    orderStatus,
    authorizationStatus,
    addAccount(members) {
      const account: Account = {
        ...members,
        url: urls.of(`/account/${String(accounts.size + 1)}`),
        status: 'valid',
      }
      accounts.set(account.url, account)
      accountsByThumbprint.set(account.publicKey.thumbprint, account)
      return account
    },
    accountByKey: ({ thumbprint }) => accountsByThumbprint.get(thumbprint),
    changeKey(account, publicKey) {
      accountsByThumbprint.delete(account.publicKey.thumbprint)
      account.publicKey = publicKey
      accountsByThumbprint.set(publicKey.thumbprint, account)
    },
    addOrder({ account, identifiers, profile, replaces }) {
      const granted = identifiers.map(
        (identifier) => reusable(account, identifier, profile) ?? addAuthorization(account, identifier, profile),
      )
      const id = String(orders.size + 1)
      const order: Order = {
        id,
        url: urls.of(`/order/${id}`),
        account,
        identifiers,
        authorizations: granted,
        profile,
        replaces,
        expiresAt: Math.min(clock.now() + options.orderLifetimeMs, ...granted.map(({ expiresAt }) => expiresAt)),
        certificate: undefined,
        processingPolls: 0,
      }
      orders.set(order.url, order)
      if (replaces !== undefined) replacing.set(replaces, [...(replacing.get(replaces) ?? []), order])
      return order
    },
    ordersReplacing: (certificateId) => replacing.get(certificateId) ?? [],
    complete(order, certificate) {
      order.certificate = certificate
      order.processingPolls = options.processingPolls
      owners.set(certificate, order.account)
    },
    ownerOf: (certificate) => owners.get(certificate),
    settle(challenge, problem) {
      const { authorization } = challenge
      if (authorizationStatus(authorization) !== 'pending') return
      challenge.status = problem === undefined ? 'valid' : 'invalid'
      challenge.error = problem
      if (problem === undefined) {
        challenge.validatedAt = clock.now()
        authorization.expiresAt = clock.now() + options.authorizationLifetimeMs
      }
      authorization.status = challenge.status
      // RFC 8555 section 7.1.4: once decided, only the challenge that decided it is listed.
      authorization.challenges = [challenge]
    },
    own(resources, url, account) {
      const resource = resources.get(url)
      if (resource === undefined) throw notFound('there is nothing at this URL')
      if (resource.account !== account) throw unauthorized('the resource belongs to another account')
      return resource
    },
    challenge(url, account) {
      const challenge = challenges.get(url)
      if (challenge === undefined) throw notFound('there is nothing at this URL')
      if (challenge.authorization.account !== account) throw unauthorized('the resource belongs to another account')
      return challenge
    },
    renderAccount(account) {
      const { contact, externalAccountBinding } = account
      return {
        status: account.status,
        contact,
        termsOfServiceAgreed: true,
        orders: `${account.url}/orders`,
        ...(externalAccountBinding === undefined ? {} : { externalAccountBinding }),
      }
    },
    renderOrder(order, status = orderStatus(order)) {
      const { profile, replaces, certificate } = order
      return {
        status,
        expires: timestamp(new Date(order.expiresAt)),
        identifiers: shuffled(order.identifiers),
        authorizations: shuffled(order.authorizations).map(({ url }) => url),
        finalize: urls.of(`/finalize/${order.id}`),
        ...(profile === undefined ? {} : { profile }),
        ...(replaces === undefined ? {} : { replaces }),
        ...(status === 'valid' && certificate !== undefined ? { certificate: certificateUrl(urls, certificate) } : {}),
      }
    },
    renderAuthorization(authorization) {
      const { identifier, wildcard } = authorization
      const listed = authorization.challenges
      return {
        identifier,
        status: authorizationStatus(authorization),
        expires: timestamp(new Date(authorization.expiresAt)),
        ...(wildcard ? { wildcard } : {}),
        challenges: shuffledAfterUnknown(listed, shuffled).map(renderChallenge),
      }
    },
    renderChallenge,
  }
}

/** Where a certificate is downloaded. */
export function certificateUrl(urls: Urls, { certificateId }: IssuedRecord): string {
  return urls.of(`/certificate/${certificateId}`)
}

/** RFC 8555 section 7.1.3 (wildcards need DNS), RFC 8738 section 4 (addresses cannot use it). */
export function challengeFits(type: string, identifier: Identifier): boolean {
  if (type === 'dns-01') return identifier.type === 'dns'
  return !isWildcard(identifier)
}

/** The challenge of unknown type stays first: a client that just takes the first one must fail every time. */
function shuffledAfterUnknown(
  challenges: readonly Challenge[],
  shuffle: (items: readonly Challenge[]) => readonly Challenge[],
): readonly Challenge[] {
  const unknown = challenges.filter(({ token }) => token === undefined)
  return [...unknown, ...shuffle(challenges.filter(({ token }) => token !== undefined))]
}
