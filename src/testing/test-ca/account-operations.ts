/**
 * newAccount, account updates, keyChange. RFC 8555 section 7.3.
 *
 * @module
 */
import { importJwk, jsonObject, parseJws, checkAlgorithm, verifyExternalBinding, verifyJws } from './jws.js'
import type { ResolvedOptions } from './options.js'
import { malformed, notFound, Problem, unauthorized } from './problem.js'
import { jsonReply, type SignedOperation, type SignedQuery } from './reply.js'
import type { Account, Resources, Urls } from './resources.js'

/** The operations on accounts. */
export type AccountOperations = Readonly<Record<'newAccount' | 'account' | 'keyChange', SignedOperation>>

/** @param externalAccountKeys - by key identifier; may grow */
export function accountOperations(
  options: ResolvedOptions,
  resources: Resources,
  urls: Urls,
  externalAccountKeys: ReadonlyMap<string, Buffer>,
): AccountOperations {
  const termsOfService = `<${urls.of('/terms')}>;rel="terms-of-service"`

  const readExternalAccount = (payload: Record<string, unknown>, query: SignedQuery): string | undefined => {
    const binding = payload['externalAccountBinding']
    if (binding !== undefined) {
      const { publicKey: accountKey, url: newAccountUrl } = query
      return verifyExternalBinding({ binding, accountKey, newAccountUrl, keys: externalAccountKeys })
    }
    if (!options.externalAccountRequired) return undefined
    throw new Problem('externalAccountRequired', 403, 'accounts must be bound to an external account')
  }

  return {
    newAccount(query) {
      if (query.account !== undefined) throw malformed('newAccount must be signed with "jwk"')
      const payload = jsonObject(query.payload.toString('utf8'), 'the payload')
      const existing = resources.accountByKey(query.publicKey)
      if (existing !== undefined) {
        if (existing.status !== 'valid') throw unauthorized('the account of this key is deactivated')
        return jsonReply(200, resources.renderAccount(existing), { location: existing.url, link: [termsOfService] })
      }
      if (payload['onlyReturnExisting'] === true) {
        throw new Problem('accountDoesNotExist', 400, 'there is no account with this key')
      }
      if (payload['termsOfServiceAgreed'] !== true) {
        const headers = { link: termsOfService }
        throw new Problem('userActionRequired', 403, 'the terms of service must be agreed to', { headers })
      }
      const contact = readContact(payload['contact'])
      const externalAccountKeyId = readExternalAccount(payload, query)
      const account = resources.addAccount({
        publicKey: query.publicKey,
        contact,
        externalAccountKeyId,
        externalAccountBinding: payload['externalAccountBinding'],
      })
      return jsonReply(201, resources.renderAccount(account), { location: account.url, link: [termsOfService] })
    },

    account(query) {
      const account = signedBy(query)
      const [, list] = query.segments
      const url = list === 'orders' ? query.url.slice(0, -'/orders'.length) : query.url
      if (!resources.accounts.has(url)) throw notFound('there is nothing at this URL')
      if (account.url !== url) throw unauthorized('the account is another one')
      if (list === 'orders') {
        const orders = [...resources.orders.values()].filter((order) => order.account === account)
        return jsonReply(200, { orders: orders.map((order) => order.url) })
      }
      if (query.payload.length > 0) {
        const payload = jsonObject(query.payload.toString('utf8'), 'the payload')
        const { status } = payload
        if (status !== undefined && status !== 'deactivated') throw malformed('"status" can only become "deactivated"')
        if (payload['contact'] !== undefined) account.contact = readContact(payload['contact'])
        if (status === 'deactivated') account.status = status
      }
      return jsonReply(200, resources.renderAccount(account))
    },

    keyChange(query) {
      const account = signedBy(query)
      const inner = parseJws(query.payload.toString('utf8'))
      if (inner.jwk === undefined) throw malformed('the inner JWS must be signed with "jwk"')
      if (inner.nonce !== undefined) throw malformed('the inner JWS must not have a nonce')
      if (inner.url !== query.url) throw malformed('the inner JWS is for another URL')
      checkAlgorithm(inner)
      const newKey = importJwk(inner.jwk)
      verifyJws(inner, newKey)
      const change = jsonObject(inner.payload.toString('utf8'), 'the key change')
      if (change['account'] !== account.url) throw malformed('the key change is for another account')
      const { oldKey } = change
      if (typeof oldKey !== 'object' || oldKey === null) throw malformed('"oldKey" must be a JWK')
      if (importJwk(oldKey).thumbprint !== account.publicKey.thumbprint) throw malformed('"oldKey" is another key')
      const holder = resources.accountByKey(newKey)
      if (holder !== undefined) {
        const headers = { location: holder.url }
        throw new Problem('conflict', 409, 'the new key is in use by an account', { headers })
      }
      resources.changeKey(account, newKey)
      return jsonReply(200, resources.renderAccount(account))
    },
  }
}

/** The account that signed. @throws `Problem` when the request carries a bare key */
export function signedBy({ account }: SignedQuery): Account {
  if (account === undefined) throw malformed('this request must be signed with "kid"')
  return account
}

function readContact(contact: unknown): readonly string[] {
  if (contact === undefined || contact === null) return []
  if (!Array.isArray(contact)) throw malformed('"contact" must be an array')
  return contact.map((item: unknown) => {
    if (typeof item !== 'string') throw malformed('"contact" must be an array of strings')
    if (!item.startsWith('mailto:')) throw new Problem('unsupportedContact', 400, 'only mailto: contacts are supported')
    if (/^mailto:[^@\s,?]+@[^@\s,?]+\.[^@\s,?.]+$/.test(item)) return item
    throw new Problem('invalidContact', 400, 'the contact is not one e-mail address')
  })
}
