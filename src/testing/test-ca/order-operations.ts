/**
 * newOrder, order, authorization, challenge, finalize. RFC 8555 sections 7.4 and 7.5.
 *
 * @module
 */
import { sameIdentifiers } from '../../core/identifier.js'
import { signedBy } from './account-operations.js'
import { CertificateRequestError, parseCertificateRequest, type CertificateRequest } from './certificate-request.js'
import { base64url, jsonObject } from './jws.js'
import { readOrderRequest, reusableOrder } from './new-order.js'
import type { ResolvedOptions } from './options.js'
import { malformed, notFound, Problem } from './problem.js'
import { jsonReply, type Reply, type SignedOperation, type SignedQuery } from './reply.js'
import type { Challenge, Order, OrderStatus, Resources, Urls } from './resources.js'
import type { IssuingAuthority } from './test-authority.js'
import type { Validator } from './validation.js'
import { createPublicKey } from 'node:crypto'

/** The operations on orders. */
export type OrderOperations = Readonly<
  Record<'newOrder' | 'order' | 'authorization' | 'challenge' | 'finalize', SignedOperation>
>

/** What a client does from its order to its certificate. */
export function orderOperations(
  options: ResolvedOptions,
  resources: Resources,
  urls: Urls,
  authority: IssuingAuthority,
  validator: Validator,
): OrderOperations {
  const { clock, random } = options

  /** `Retry-After`, in one of the two forms that RFC 9110 section 10.2.3 allows. */
  const retryAfter = (): Record<string, string> => {
    const { retryAfterSeconds: seconds, retryAfterFormat: format } = options
    if (seconds === undefined) return {}
    const asDate = format === 'date' || (format === 'either' && random() < 0.5)
    return { 'retry-after': asDate ? new Date(clock.now() + seconds * 1000).toUTCString() : String(seconds) }
  }

  const orderReply = (order: Order, status: OrderStatus): Reply => {
    const waiting = status === 'pending' || status === 'processing'
    return jsonReply(200, resources.renderOrder(order, status), waiting ? retryAfter() : {})
  }

  const startValidation = (challenge: Challenge, token: string): void => {
    const { authorization, type } = challenge
    const keyAuthorization = `${token}.${authorization.account.publicKey.thumbprint}`
    challenge.status = 'processing'
    void validator
      .validate({
        type: type === 'dns-01' ? 'dns-01' : 'http-01',
        identifier: authorization.identifier,
        token,
        keyAuthorization,
      })
      .then((problem) => {
        resources.settle(challenge, problem)
      })
  }

  return {
    newOrder(query) {
      const account = signedBy(query)
      const payload = jsonObject(query.payload.toString('utf8'), 'the payload')
      const request = readOrderRequest(payload, account, options, authority, resources)
      const order = (options.reuseOrders ? reusableOrder(request, resources) : undefined) ?? resources.addOrder(request)
      return jsonReply(201, resources.renderOrder(order), { location: order.url })
    },

    order(query) {
      const order = resources.own(resources.orders, query.url, signedBy(query))
      expectEmpty(query)
      const status = resources.orderStatus(order)
      if (status === 'processing') order.processingPolls -= 1
      return orderReply(order, status)
    },

    authorization(query) {
      const authorization = resources.own(resources.authorizations, query.url, signedBy(query))
      if (query.payload.length > 0) {
        const { status } = jsonObject(query.payload.toString('utf8'), 'the payload')
        if (status !== 'deactivated') throw malformed('the only change of an authorization is its deactivation')
        const present = resources.authorizationStatus(authorization)
        if (present !== 'pending' && present !== 'valid') throw malformed(`the authorization is ${present}`)
        authorization.status = status
      }
      const waiting = resources.authorizationStatus(authorization) === 'pending'
      return jsonReply(200, resources.renderAuthorization(authorization), waiting ? retryAfter() : {})
    },

    challenge(query) {
      const challenge = resources.challenge(query.url, signedBy(query))
      const { authorization, token } = challenge
      if (query.payload.length > 0) {
        const members = Object.keys(jsonObject(query.payload.toString('utf8'), 'the payload'))
        if (members.length > 0) throw malformed('the response to a challenge must be {}')
        if (token === undefined) throw malformed(`challenge type ${challenge.type} is offered only to be ignored`)
        const status = resources.authorizationStatus(authorization)
        // A client may answer for a name that it need not prove any more; Boulder lets that pass too.
        if (status !== 'valid') {
          if (status !== 'pending') throw malformed(`the authorization is ${status}`)
          if (challenge.status !== 'pending') throw malformed(`the challenge is ${challenge.status}`)
          startValidation(challenge, token)
        }
      }
      const link = [`<${authorization.url}>;rel="up"`]
      const waiting = challenge.status === 'pending' || challenge.status === 'processing'
      return jsonReply(200, resources.renderChallenge(challenge), { link, ...(waiting ? retryAfter() : {}) })
    },

    finalize(query) {
      const [id = ''] = query.segments
      const order = resources.own(resources.orders, urls.of(`/order/${id}`), signedBy(query))
      if (query.url !== urls.of(`/finalize/${order.id}`)) throw notFound('there is nothing at this URL')
      const { csr } = jsonObject(query.payload.toString('utf8'), 'the payload')
      const status = resources.orderStatus(order)
      if (status !== 'ready') throw new Problem('orderNotReady', 403, `the order is ${status}`)
      if (typeof csr !== 'string') throw malformed('"csr" must be a string')
      const { publicKeyInfo } = readRequest(base64url(csr, 'csr'), order)
      const { identifiers, profile, replaces } = order
      resources.complete(order, authority.issueNow({ publicKeyInfo, identifiers, profile, replaces }))
      // No Location: Pebble dropped it, so a client must keep the order's URL.
      return orderReply(order, options.asyncFinalize ? 'processing' : resources.orderStatus(order))
    },
  }
}

function readRequest(der: Buffer, order: Order): CertificateRequest {
  const refuse = (detail: string): never => {
    throw new Problem('badCSR', 400, detail)
  }
  let request: CertificateRequest
  try {
    request = parseCertificateRequest(der)
  } catch (error) {
    if (error instanceof CertificateRequestError) return refuse(error.message)
    throw error
  }
  if (!sameIdentifiers(request.identifiers, order.identifiers)) {
    refuse('the certificate request does not name exactly the identifiers of the order')
  }
  const key = createPublicKey({ key: request.publicKeyInfo, format: 'der', type: 'spki' })
  if (key.equals(order.account.publicKey.key)) refuse('the certificate key must not be the account key')
  return request
}

function expectEmpty({ payload }: SignedQuery): void {
  if (payload.length > 0) throw malformed('POST-as-GET must have an empty payload')
}
