import { createPrivateKey, X509Certificate } from 'node:crypto'
import { Agent } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import acme from 'acme-client'
import * as x509 from '@peculiar/x509'
import { describe, expect, it, onTestFinished } from 'vitest'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { seededRandom } from '../../../src/testing/seeded-random.js'
import { startTestCa, type TestCaOptions } from '../../../src/testing/test-ca/index.js'
import {
  csrFor,
  externalBinding,
  newKey,
  publicJwk,
  rawClient,
  send,
  signJws,
  startCa,
  startHttp,
  webCryptoKeys,
  type Answer,
  type PostOptions,
  type RawClient,
} from './raw-acme-client.js'

const day = 86_400_000
const hour = 3_600_000
const epoch = Date.UTC(2026, 0, 1)

const problem = (type: string, status: number): object => ({
  status,
  json: { type: `urn:ietf:params:acme:error:${type}`, status },
})

describe('with acme-client 5.4.0', () => {
  /** acme-client has one axios for the whole process; each test file is a process of its own. */
  const trust = (caPem: string): void => {
    acme.axios.defaults.httpsAgent = new Agent({ ca: caPem, keepAlive: false })
  }
  const polling = { backoffAttempts: 50, backoffMin: 5, backoffMax: 20 }

  it('issues by http-01 from account to revocation, with an alternate chain', async () => {
    const answers = new Map<string, string>()
    const seen: string[] = []
    const httpPort = await startHttp((request, response) => {
      seen.push(`${request.headers.host ?? ''}${request.url ?? ''}`)
      response.end(answers.get(request.url ?? ''))
    })
    const ca = await startCa({ httpPort, alternateChains: 1, intermediates: 2 })
    trust(ca.httpsCaPem)
    const client = new acme.Client({
      directoryUrl: ca.directoryUrl,
      accountKey: await acme.crypto.createPrivateEcdsaKey(),
      ...polling,
    })

    const account = await client.createAccount({ termsOfServiceAgreed: true, contact: ['mailto:someone@example.com'] })
    expect(account.status).toBe('valid')
    const names = ['www.example.com', 'example.com']
    const order = await client.createOrder({ identifiers: names.map((value) => ({ type: 'dns', value })) })
    for (const authorization of await client.getAuthorizations(order)) {
      const challenge = authorization.challenges.find(({ type }) => type === 'http-01')!
      const path = `/.well-known/acme-challenge/${challenge.token}`
      answers.set(path, `${await client.getChallengeKeyAuthorization(challenge)}\r\n`)
      await client.completeChallenge(challenge)
      await client.waitForValidStatus(authorization)
    }
    // Three requests for each name, at the port that the CA was given.
    expect(seen).toHaveLength(6)
    expect(seen.filter((line) => line.startsWith(`www.example.com:${String(httpPort)}/`))).toHaveLength(3)

    const [key, csr] = await acme.crypto.createCsr({ altNames: names })
    const finalized = await client.finalizeOrder(order, csr)
    expect(finalized.status).toBe('processing')
    const pem = await client.getCertificate({ ...order, ...finalized })
    const [leaf, ...chain] = certificatesIn(pem)
    expect(leaf!.subjectAltName!.split(', ').sort()).toEqual(['DNS:example.com', 'DNS:www.example.com'])
    expect(leaf!.checkPrivateKey(createPrivateKey(key))).toBe(true)
    expectChain([leaf!, ...chain, new X509Certificate(ca.rootPem)])
    expect(chain).toHaveLength(2)

    const alternateRoot = new X509Certificate(ca.alternateRootPems[0]!)
    const alternateName = alternateRoot.subject.replace('CN=', '')
    const alternate = certificatesIn(await client.getCertificate({ ...order, ...finalized }, alternateName))
    expect(alternate[0]!.raw).toEqual(leaf!.raw)
    expectChain([...alternate, alternateRoot])

    await client.revokeCertificate(pem)
    expect(ca.certificates[0]!.revoked?.reason).toBe(0)
    await expect(client.revokeCertificate(pem)).rejects.toThrow(/revoked already/)
  })

  it('changes the account: contact, key, deactivation', async () => {
    const ca = await startCa()
    trust(ca.httpsCaPem)
    const accountKey = await acme.crypto.createPrivateEcdsaKey()
    const client = new acme.Client({ directoryUrl: ca.directoryUrl, accountKey })
    await client.createAccount({ termsOfServiceAgreed: true })
    await client.updateAccount({ contact: ['mailto:new@example.com'] })
    expect(ca.accounts[0]).toMatchObject({ contact: ['mailto:new@example.com'], status: 'valid' })

    const before = ca.accounts[0]!.thumbprint
    await client.updateAccountKey(await acme.crypto.createPrivateEcdsaKey())
    expect(ca.accounts).toHaveLength(1)
    expect(ca.accounts[0]!.thumbprint).not.toBe(before)
    await client.updateAccount({ status: 'deactivated' })
    expect(ca.accounts[0]!.status).toBe('deactivated')
    await expect(client.createOrder({ identifiers: [{ type: 'dns', value: 'a.example' }] })).rejects.toThrow(
      /deactivated/,
    )
  })
})

describe('the directory', () => {
  it('lists resources, profiles and one member that nobody knows', async () => {
    const ca = await startCa({ profiles: { classic: { description: 'the usual' } }, externalAccountRequired: true })
    const { directory } = await rawClient(ca)
    const known = ['newNonce', 'newAccount', 'newOrder', 'revokeCert', 'keyChange', 'renewalInfo', 'meta']
    expect(Object.keys(directory).filter((name) => !known.includes(name))).toHaveLength(1)
    expect(directory).toMatchObject({ meta: { profiles: { classic: 'the usual' }, externalAccountRequired: true } })
  })

  it('leaves renewal information out when it is not offered', async () => {
    const ca = await startCa({ renewalInfo: false })
    const client = await rawClient(ca)
    expect(client.directory).not.toHaveProperty('renewalInfo')
    expect(await client.send('GET', `${origin(client)}/renewal-info/a.b`)).toMatchObject({ status: 404 })
    await client.register()
    expect((await client.order(['a.example'], { replaces: 'not an id' })).status).toBe(201)
  })

  it('can be had by POST-as-GET, as can a nonce', async () => {
    const client = await registered(await startCa())
    const { status, json } = await client.post(`${origin(client)}/directory`, '')
    expect([status, json['newOrder']]).toEqual([200, client.directory.newOrder])
    expect((await client.post(client.directory.newNonce, '')).status).toBe(204)
  })

  it('speaks plain http when told to', async () => {
    const ca = await startCa({ tls: false })
    expect(ca.httpsCaPem).toBe('')
    expect(ca.directoryUrl).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/directory$/)
    expect((await (await registered(ca)).obtain(['a.example'])).pem).toContain('BEGIN CERTIFICATE')
  })
})

describe('every request', () => {
  it('gets its nonce and its index link', async () => {
    const client = await registered(await startCa())
    const head = await client.send('HEAD', client.directory.newNonce)
    expect(head).toMatchObject({ status: 200, headers: { 'cache-control': 'no-store' } })
    expect(await client.send('GET', client.directory.newNonce)).toMatchObject({ status: 204, text: '' })
    const index = `<${origin(client)}/directory>;rel="index"`
    const order = await client.order(['a.example'])
    const failed = await client.order([])
    for (const { headers } of [head, order, failed]) {
      expect(headers['replay-nonce']).toMatch(/^[A-Za-z0-9_-]+$/)
      expect(headers['link']).toContain(index)
    }
    expect(failed.headers['content-type']).toBe('application/problem+json')
  })

  interface Case {
    readonly what: string
    readonly options: PostOptions
    readonly expected: object
  }
  const cases: Case[] = [
    { what: 'without User-Agent', options: { headers: { 'user-agent': '' } }, expected: problem('malformed', 400) },
    {
      what: 'of another content type',
      options: { headers: { 'content-type': 'application/json' } },
      expected: problem('malformed', 415),
    },
    { what: 'that is not JSON', options: { tamper: () => '{' }, expected: problem('malformed', 400) },
    {
      what: 'with an unprotected header',
      options: { tamper: (jws) => ({ ...jws, header: { kid: 'x' } }) },
      expected: problem('malformed', 400),
    },
    {
      what: 'with padded base64url',
      options: { tamper: (jws) => ({ ...jws, signature: `${String(jws['signature'])}==` }) },
      expected: problem('malformed', 400),
    },
    {
      what: 'with another payload than was signed',
      options: { tamper: (jws) => ({ ...jws, payload: Buffer.from('{"a":1}').toString('base64url') }) },
      expected: problem('malformed', 400),
    },
    { what: 'with both jwk and kid', options: { header: { jwk: {} } }, expected: problem('malformed', 400) },
    { what: 'with neither jwk nor kid', options: { header: { kid: undefined } }, expected: problem('malformed', 400) },
    { what: 'signed with jwk', options: { useJwk: true }, expected: problem('malformed', 400) },
    {
      what: 'of an unknown account',
      options: { header: { kid: 'https://127.0.0.1/account/9' } },
      expected: problem('accountDoesNotExist', 400),
    },
    { what: 'signed with another key', options: { key: newKey() }, expected: problem('malformed', 400) },
    {
      what: 'for another URL',
      options: { header: { url: 'https://127.0.0.1/' } },
      expected: problem('malformed', 400),
    },
    { what: 'without nonce', options: { header: { nonce: undefined } }, expected: problem('badNonce', 400) },
    { what: 'with an invented nonce', options: { header: { nonce: 'abcd' } }, expected: problem('badNonce', 400) },
    {
      what: 'with an HMAC',
      options: { header: { alg: 'HS256' } },
      expected: {
        status: 400,
        json: {
          type: 'urn:ietf:params:acme:error:badSignatureAlgorithm',
          algorithms: ['ES256', 'ES384', 'RS256'],
        },
      },
    },
    {
      what: 'of an algorithm of another key',
      options: { header: { alg: 'ES384' } },
      expected: problem('badSignatureAlgorithm', 400),
    },
  ]
  it.each(cases)('is refused $what', async ({ options, expected }) => {
    const client = await registered(await startCa())
    const { newOrder } = client.directory
    const payload = { identifiers: [{ type: 'dns', value: 'a.example' }] }
    expect(await client.post(newOrder, payload, options)).toMatchObject(expected)
    expect((await client.post(newOrder, payload)).status).toBe(201)
  })

  it('spends its nonce', async () => {
    const client = await registered(await startCa())
    const nonce = await client.nonce()
    const order = (): Promise<Answer> =>
      client.post(
        client.directory.newOrder,
        { identifiers: [{ type: 'dns', value: 'a.example' }] },
        { header: { nonce } },
      )
    expect((await order()).status).toBe(201)
    const again = await order()
    expect(again).toMatchObject(problem('badNonce', 400))
    expect(again.headers['replay-nonce']).toBeDefined()
  })

  it('is refused when GET is not for this resource, too long, or for nothing', async () => {
    const client = await registered(await startCa())
    const { url } = await client.order(['a.example'])
    expect(await client.send('GET', url)).toMatchObject({ status: 405, headers: { allow: 'POST' } })
    expect(await client.send('GET', `${origin(client)}/nothing`)).toMatchObject(problem('malformed', 404))
    expect(await client.post(`${origin(client)}/order/99`, '')).toMatchObject(problem('malformed', 404))
    expect(await client.post(url, ' '.repeat(200_000))).toMatchObject(problem('malformed', 413))
    expect(await client.post(url, {})).toMatchObject(problem('malformed', 400))
  })

  it.each(['P-256', 'P-384', 'rsa-2048'] as const)('may be signed with %s', async (kind) => {
    const client = await rawClient(await startCa(), newKey(kind))
    expect((await client.register()).status).toBe(201)
    expect((await client.order(['a.example'])).status).toBe(201)
  })

  it('is recorded', async () => {
    const clock = fakeClock({ now: epoch })
    const ca = await startCa({ clock })
    const client = await registered(ca)
    await client.order(['a.example'])
    expect(ca.requests.map(({ kind, method, status }) => `${method} ${kind} ${String(status)}`)).toEqual([
      'GET directory 200',
      'HEAD newNonce 200',
      'POST newAccount 201',
      'HEAD newNonce 200',
      'POST newOrder 201',
    ])
    expect(ca.requests[0]).toMatchObject({ path: '/directory', at: new Date(epoch) })
    expect([ca.countRequests(), ca.countRequests('newNonce'), ca.countRequests('finalize')]).toEqual([5, 2, 0])
  })
})

describe('an account', () => {
  it('is found again by its key', async () => {
    const ca = await startCa()
    const client = await rawClient(ca)
    const { newAccount } = client.directory
    const lookUp = (): Promise<Answer> => client.post(newAccount, { onlyReturnExisting: true }, { useJwk: true })
    expect(await lookUp()).toMatchObject(problem('accountDoesNotExist', 400))
    const created = await client.register({ contact: ['mailto:a@example.com'] })
    expect(created).toMatchObject({ status: 201, json: { status: 'valid', contact: ['mailto:a@example.com'] } })
    const again = await client.register({ contact: ['mailto:other@example.com'] })
    expect(again).toMatchObject({ status: 200, json: { contact: ['mailto:a@example.com'] } })
    for (const { headers } of [again, await lookUp()]) expect(headers.location).toBe(created.headers.location)
    expect((await client.post(client.accountUrl, '')).json).toMatchObject({ status: 'valid' })
  })

  it('lists its orders', async () => {
    const client = await registered(await startCa())
    const { url } = await client.order(['a.example'])
    const { json } = await client.post(client.accountUrl, '')
    expect((await client.post(json['orders'] as string, '')).json).toEqual({ orders: [url] })
  })

  it.each([
    ['no agreement', { termsOfServiceAgreed: false }, 'userActionRequired', 403],
    ['a telephone number', { contact: ['tel:1'] }, 'unsupportedContact', 400],
    ['a broken address', { contact: ['mailto:nobody'] }, 'invalidContact', 400],
    ['two addresses in one', { contact: ['mailto:a@example.com,b@example.com'] }, 'invalidContact', 400],
  ])('is refused with %s', async (_, payload, type, status) => {
    const client = await rawClient(await startCa())
    expect(await client.register(payload)).toMatchObject(problem(type, status))
  })

  it.each(['P-521', 'rsa-1024'] as const)('is refused with a key of %s', async (kind) => {
    const client = await rawClient(await startCa(), newKey(kind))
    expect(await client.register()).toMatchObject(problem('badPublicKey', 400))
  })

  it('is dead once deactivated', async () => {
    const client = await registered(await startCa())
    expect((await client.post(client.accountUrl, { status: 'deactivated' })).json.status).toBe('deactivated')
    expect(await client.order(['a.example'])).toMatchObject(problem('unauthorized', 403))
    expect(await client.register()).toMatchObject(problem('unauthorized', 403))
  })

  it('is refused the resources of another', async () => {
    const ca = await startCa()
    const [one, other] = [await registered(ca), await registered(ca)]
    const { order } = await one.obtain(['a.example'])
    const { json } = await one.post(order.url, '')
    const urls = [order.url, json.certificate!, one.accountUrl, ...order.json.authorizations!]
    for (const url of urls) expect(await other.post(url, '')).toMatchObject(problem('unauthorized', 403))
  })

  it('binds to an external account', async () => {
    const hmacKey = Buffer.from('a secret of at least 32 octets...').toString('base64url')
    const ca = await startCa({ externalAccountRequired: true, externalAccountKeys: { kid1: hmacKey } })
    const client = await rawClient(ca)
    const url = client.directory.newAccount
    const attempt = (header: object, key = hmacKey, boundKey = client.key): Promise<Answer> =>
      client.register({ externalAccountBinding: externalBinding(boundKey, { alg: 'HS256', url, ...header }, key) })

    expect(await client.register()).toMatchObject(problem('externalAccountRequired', 403))
    expect(await attempt({ kid: 'kid2' })).toMatchObject(problem('unauthorized', 403))
    expect(await attempt({ kid: 'kid1' }, 'b3RoZXI')).toMatchObject(problem('unauthorized', 403))
    expect(await attempt({ kid: 'kid1', url: 'https://other' })).toMatchObject(problem('malformed', 400))
    expect(await attempt({ kid: 'kid1', nonce: 'a' })).toMatchObject(problem('malformed', 400))
    expect(await attempt({ kid: 'kid1', alg: 'ES256' })).toMatchObject(problem('malformed', 400))
    expect(await attempt({ kid: 'kid1' }, hmacKey, newKey())).toMatchObject(problem('malformed', 400))
    expect(ca.accounts).toEqual([])
    ca.addExternalAccountKey('kid2', hmacKey)
    expect((await attempt({ kid: 'kid2' })).status).toBe(201)
    expect(ca.accounts).toMatchObject([{ externalAccountKeyId: 'kid2' }])
    // A known key needs no binding any more.
    expect((await client.register()).status).toBe(200)
  })

  it('changes its key', async () => {
    const ca = await startCa()
    const [client, other] = [await registered(ca), await registered(ca)]
    const { keyChange } = client.directory
    const key = newKey()
    const change = (innerKey: typeof key, payload: object = {}, header: object = {}): Promise<Answer> => {
      const inner = { account: client.accountUrl, oldKey: publicJwk(client.key), ...payload }
      const innerHeader = { jwk: publicJwk(innerKey), url: keyChange, ...header }
      return client.post(keyChange, signJws(innerKey, innerHeader, JSON.stringify(inner)))
    }
    expect(await change(key, { account: other.accountUrl })).toMatchObject(problem('malformed', 400))
    expect(await change(key, { oldKey: publicJwk(key) })).toMatchObject(problem('malformed', 400))
    expect(await change(key, {}, { nonce: await client.nonce() })).toMatchObject(problem('malformed', 400))
    expect(await change(key, {}, { url: client.accountUrl })).toMatchObject(problem('malformed', 400))
    const taken = await change(other.key)
    expect(taken).toMatchObject(problem('conflict', 409))
    expect(taken.headers.location).toBe(other.accountUrl)
    expect((await change(key)).status).toBe(200)
    expect(await client.order(['a.example'])).toMatchObject(problem('malformed', 400))
    const successor = await rawClient(ca, key)
    successor.accountUrl = client.accountUrl
    expect((await successor.order(['a.example'])).status).toBe(201)
    // The old key is free for a new account.
    expect((await client.register()).status).toBe(201)
  })
})

describe('an order', () => {
  it('goes from pending to valid', async () => {
    const clock = fakeClock({ now: epoch })
    const ca = await startCa({ clock })
    const client = await registered(ca)
    const names = ['a.example', '*.b.example', 'b.example']
    const order = await client.order(names)
    expect(order).toMatchObject({ status: 201, json: { status: 'pending', expires: '2026-01-08T00:00:00Z' } })
    expect(order.json['identifiers']).toEqual(expect.arrayContaining(names.map((value) => ({ type: 'dns', value }))))

    const authorizations = await client.authorize(order)
    const wildcards = authorizations.filter(({ wildcard }) => wildcard === true)
    expect(wildcards).toMatchObject([{ status: 'valid', identifier: { type: 'dns', value: 'b.example' } }])
    expect(authorizations.filter(({ wildcard }) => wildcard === undefined)).toHaveLength(2)
    expect(ca.orders).toMatchObject([{ status: 'ready', url: order.url }])

    const finalized = await client.finalize(order, await csrFor(names))
    expect(finalized).toMatchObject({ status: 200, json: { status: 'processing' } })
    expect(finalized.headers.location).toBeUndefined()
    const { json } = await client.post(order.url, '')
    expect(json.status).toBe('valid')
    const certificate = await client.post(json.certificate!, '')
    expect(certificate.headers['content-type']).toBe('application/pem-certificate-chain')
    const [leaf, intermediate] = certificatesIn(certificate.text)
    expectChain([leaf!, intermediate!, new X509Certificate(ca.rootPem)])
    expect(ca.certificates).toMatchObject([
      {
        pem: leaf!.toString(),
        chainPem: intermediate!.toString(),
        serial: leaf!.serialNumber,
        notBefore: new Date(epoch - hour),
        notAfter: new Date(epoch - hour + 90 * day - 1000),
        identifiers: names.map((value) => ({ type: 'dns', value })),
      },
    ])
    expect(new Date(leaf!.validTo)).toEqual(ca.certificates[0]!.notAfter)
    expect(await client.finalize(order, await csrFor(names))).toMatchObject(problem('orderNotReady', 403))
  })

  it('is valid at once, or only after some looks', async () => {
    const at = async (options: TestCaOptions): Promise<string[]> => {
      const client = await registered(await startCa(options))
      const order = await client.order(['a.example'])
      await client.authorize(order)
      const answers = [await client.finalize(order, await csrFor(['a.example']))]
      for (let look = 0; look < 3; look += 1) answers.push(await client.post(order.url, ''))
      return answers.map(({ json, headers }) => `${json.status!} ${headers['retry-after'] ?? '-'}`)
    }
    expect(await at({ asyncFinalize: false })).toEqual(['valid -', 'valid -', 'valid -', 'valid -'])
    expect(await at({ processingPolls: 2, retryAfterSeconds: 7 })).toEqual([
      'processing 7',
      'processing 7',
      'processing 7',
      'valid -',
    ])
  })

  it('says when to come back, also as a date', async () => {
    const clock = fakeClock({ now: epoch })
    const ca = await startCa({ clock, retryAfterSeconds: 60, retryAfterFormat: 'date' })
    const client = await registered(ca)
    const order = await client.order(['a.example'])
    expect(order.headers['retry-after']).toBeUndefined()
    const { headers } = await client.post(order.url, '')
    expect(headers['retry-after']).toBe('Thu, 01 Jan 2026 00:01:00 GMT')
    expect(headers.date).toBe('Thu, 01 Jan 2026 00:00:00 GMT')
  })

  it.each([
    ['nothing', {}, 'malformed'],
    ['no names', { identifiers: [] }, 'malformed'],
    ['an odd type', { identifiers: [{ type: 'email', value: 'a@b' }] }, 'unsupportedIdentifier'],
    ['a malformed name', { identifiers: [{ type: 'dns', value: 'a_b.example' }] }, 'malformed'],
    ['a Unicode name', { identifiers: [{ type: 'dns', value: 'bücher.example' }] }, 'malformed'],
    ['a trailing dot', { identifiers: [{ type: 'dns', value: 'a.example.' }] }, 'malformed'],
    ['a wildcard within', { identifiers: [{ type: 'dns', value: 'a.*.example' }] }, 'malformed'],
    ['an address as name', { identifiers: [{ type: 'dns', value: '192.0.2.1' }] }, 'malformed'],
    ['a name as address', { identifiers: [{ type: 'ip', value: 'a.example' }] }, 'malformed'],
    ['an address written at length', { identifiers: [{ type: 'ip', value: '2001:DB8:0::1' }] }, 'malformed'],
    [
      'a name that its wildcard covers',
      { identifiers: ['*.a.example', 'b.a.example'].map((value) => ({ type: 'dns', value })) },
      'malformed',
    ],
    ['notAfter', { identifiers: [{ type: 'dns', value: 'a.example' }], notAfter: '2026-01-01T00:00:00Z' }, 'malformed'],
    ['a profile that is not', { identifiers: [{ type: 'dns', value: 'a.example' }], profile: 'x' }, 'invalidProfile'],
    [
      'too many names',
      { identifiers: Array.from({ length: 101 }, (_, index) => ({ type: 'dns', value: `n${String(index)}.example` })) },
      'malformed',
    ],
  ])('is refused with %s', async (_, payload, type) => {
    const client = await registered(await startCa({ profiles: { classic: { description: '' } } }))
    expect(await client.post(client.directory.newOrder, payload)).toMatchObject(problem(type, 400))
  })

  it('is refused for blocked names, with a subproblem for each', async () => {
    const client = await registered(await startCa({ blockedNames: ['blocked.example'] }))
    const { json } = await client.order(['www.blocked.example', 'fine.example', 'blocked.example'])
    const type = 'urn:ietf:params:acme:error:rejectedIdentifier'
    expect(json).toMatchObject({
      type,
      subproblems: [
        { type, identifier: { type: 'dns', value: 'www.blocked.example' } },
        { type, identifier: { type: 'dns', value: 'blocked.example' } },
      ],
    })
  })

  it('is refused where no challenge could be offered', async () => {
    const client = await registered(await startCa({ challengeTypes: ['http-01'] }))
    expect(await client.order(['*.a.example'])).toMatchObject(problem('rejectedIdentifier', 400))
  })

  it('gets the life of its profile', async () => {
    const clock = fakeClock({ now: epoch })
    const profiles = { classic: { description: 'c' }, shortlived: { description: 's', lifetimeMs: 160 * hour } }
    const ca = await startCa({ clock, profiles, lifetimeMs: 45 * day })
    const client = await registered(ca)
    const { order } = await client.obtain(['a.example'], { profile: 'shortlived' })
    expect(order.json['profile']).toBe('shortlived')
    await client.obtain(['a.example'], { profile: 'classic' })
    await client.obtain(['a.example'])
    const start = epoch - hour - 1000
    expect(ca.certificates.map(({ profile, notAfter }) => [profile, notAfter.getTime() - start])).toEqual([
      ['shortlived', 160 * hour],
      ['classic', 45 * day],
      [undefined, 45 * day],
    ])
  })

  it('expires, and so does an authorization', async () => {
    const clock = fakeClock({ now: epoch })
    const ca = await startCa({ clock, orderLifetimeMs: 8 * hour, authorizationLifetimeMs: 7 * hour })
    const client = await registered(ca)
    const order = await client.order(['a.example'])
    await client.authorize(order)
    expect((await client.post(order.url, '')).json).toMatchObject({ status: 'ready', expires: '2026-01-01T07:00:00Z' })
    await clock.advance(7 * hour)
    expect((await client.post(order.url, '')).json.status).toBe('invalid')
    expect(await client.finalize(order, await csrFor(['a.example']))).toMatchObject(problem('orderNotReady', 403))
    expect(ca.authorizations).toMatchObject([{ status: 'expired' }])
    const next = await client.order(['a.example'])
    await clock.advance(7 * hour)
    expect((await client.post(next.json.authorizations![0]!, '')).json.status).toBe('invalid')
  })

  it('dies with an authorization that fails or is deactivated', async () => {
    const ca = await startCa()
    const client = await registered(ca)
    const order = await client.order(['a.example'])
    const url = order.json.authorizations![0]!
    expect((await client.post(url, { status: 'deactivated' })).json.status).toBe('deactivated')
    expect(await client.post(url, { status: 'deactivated' })).toMatchObject(problem('malformed', 400))
    expect((await client.post(order.url, '')).json.status).toBe('invalid')

    const second = await client.order(['a.example'])
    ca.records.set('_acme-challenge.a.example', ['wrong'])
    const { json } = await client.post(second.json.authorizations![0]!, '')
    const challenge = json.challenges!.find(({ type }) => type === 'dns-01')!
    await client.post(challenge.url, {})
    const failed = await settled(client, second.json.authorizations![0]!)
    expect(failed.challenges).toMatchObject([
      { type: 'dns-01', status: 'invalid', error: { type: 'urn:ietf:params:acme:error:unauthorized', status: 403 } },
    ])
    expect((await client.post(second.url, '')).json.status).toBe('invalid')
    expect(await client.post(challenge.url, {})).toMatchObject(problem('malformed', 400))
  })

  it('is not finalized before it is ready', async () => {
    const client = await registered(await startCa())
    const order = await client.order(['a.example'])
    expect(await client.finalize(order, await csrFor(['a.example']))).toMatchObject(problem('orderNotReady', 403))
  })

  const keyOfAccount = newKey()
  it.each([
    ['a missing name', () => csrFor(['a.example'])],
    ['an extra name', () => csrFor(['a.example', 'b.example', 'c.example'])],
    ['an extra common name', () => csrFor(['a.example', 'b.example'], { commonName: 'c.example' })],
    ['an e-mail address', () => csrFor(['a.example', 'b.example'], { email: 'a@b.example' })],
    ['a weak key', () => csrFor(['a.example', 'b.example'], { algorithm: 'rsa-1024' })],
    ['an odd curve', () => csrFor(['a.example', 'b.example'], { algorithm: 'P-521' })],
    ['the account key', async () => csrFor(['a.example', 'b.example'], { keys: await webCryptoKeys(keyOfAccount) })],
    [
      'a broken signature',
      async () => {
        const csr = await csrFor(['a.example', 'b.example'])
        csr[csr.length - 1]! ^= 1
        return csr
      },
    ],
    ['octets after it', async () => Buffer.concat([await csrFor(['a.example', 'b.example']), Buffer.from([0])])],
    ['nothing of a request', () => Promise.resolve(Buffer.from('3000', 'hex'))],
  ])('refuses a certificate request with %s, and stays ready', async (_, makeCsr) => {
    const names = ['a.example', 'b.example']
    const ca = await startCa()
    const client = await registered(ca, keyOfAccount)
    const order = await client.order(names)
    await client.authorize(order)
    expect(await client.finalize(order, await makeCsr())).toMatchObject(problem('badCSR', 400))
    expect((await client.post(order.url, '')).json.status).toBe('ready')
    expect((await client.finalize(order, await csrFor(names))).status).toBe(200)
  })

  it.each(['P-384', 'rsa-2048'] as const)(
    'certifies a key of %s, with the first name as common name',
    async (algorithm) => {
      const ca = await startCa()
      const client = await registered(ca)
      const order = await client.order(['a.example'])
      await client.authorize(order)
      const csr = await csrFor(['A.example'], { algorithm, commonName: 'a.example' })
      expect((await client.finalize(order, csr)).status).toBe(200)
      const usage = new x509.X509Certificate(ca.certificates[0]!.pem).getExtension(x509.KeyUsagesExtension)!.usages
      const { digitalSignature, keyEncipherment } = x509.KeyUsageFlags
      expect(usage).toBe(algorithm === 'rsa-2048' ? digitalSignature | keyEncipherment : digitalSignature)
    },
  )

  it('comes back while it is open, when the CA reuses orders', async () => {
    const client = await registered(await startCa({ reuseOrders: true }))
    const first = await client.order(['a.example', 'b.example'])
    expect(await client.order(['b.example', 'a.example'])).toMatchObject({ status: 201, url: first.url })
    expect((await client.order(['a.example'])).url).not.toBe(first.url)
    await client.authorize(first)
    expect(await client.order(['b.example', 'a.example'])).toMatchObject({ url: first.url, json: { status: 'ready' } })
    await client.finalize(first, await csrFor(['a.example', 'b.example']))
    expect((await client.order(['a.example', 'b.example'])).url).not.toBe(first.url)
  })

  it('starts with valid authorizations, when the CA reuses them', async () => {
    const clock = fakeClock({ now: epoch })
    const profiles = { other: { description: '' } }
    const ca = await startCa({ clock, reuseAuthorizations: true, profiles, authorizationLifetimeMs: 7 * hour })
    const client = await registered(ca)
    await client.obtain(['a.example'])
    expect((await client.order(['a.example'])).json.status).toBe('ready')
    expect((await client.order(['*.a.example'])).json.status).toBe('pending')
    expect((await client.order(['a.example'], { profile: 'other' })).json.status).toBe('pending')
    expect((await (await registered(ca)).order(['a.example'])).json.status).toBe('pending')
    await clock.advance(7 * hour)
    expect((await client.order(['a.example'])).json.status).toBe('pending')
  })

  it('has its lists in an order that the given randomness decides', async () => {
    const listsOf = async (options: TestCaOptions): Promise<string> => {
      const client = await registered(await startCa(options))
      const order = await client.order(['a.example', 'b.example', 'c.example', 'd.example'])
      const lists = []
      for (let look = 0; look < 5; look += 1) lists.push((await client.post(order.url, '')).json['identifiers'])
      return JSON.stringify(lists)
    }
    const shuffled = await listsOf({ random: seededRandom(1) })
    expect(await listsOf({ random: seededRandom(1) })).toBe(shuffled)
    expect(await listsOf({ random: seededRandom(2) })).not.toBe(shuffled)
    expect(await listsOf({ shuffle: false })).not.toBe(shuffled)
  })
})

describe('a challenge', () => {
  it('takes {} and nothing else', async () => {
    const ca = await startCa()
    const client = await registered(ca)
    const order = await client.order(['a.example'])
    const { json } = await client.post(order.json.authorizations![0]!, '')
    const { url } = json.challenges![0]!
    expect(await client.post(url, { keyAuthorization: 'x' })).toMatchObject(problem('malformed', 400))
    expect(await client.post(url, [])).toMatchObject(problem('malformed', 400))
    const looked = await client.post(url, '')
    expect(looked.json.status).toBe('pending')
    expect(looked.headers['link']).toContain(`<${order.json.authorizations![0]!}>;rel="up"`)
  })

  it('is validated once, and needs no answer for a name that has been proved', async () => {
    const ca = await startCa({ resolveTxt: async () => (await sleep(50), ['x']) })
    const client = await registered(ca)
    const order = await client.order(['a.example'])
    const { json } = await client.post(order.json.authorizations![0]!, '')
    const { url } = json.challenges!.find(({ type }) => type === 'dns-01')!
    expect((await client.post(url, {})).json.status).toBe('processing')
    expect(await client.post(url, {})).toMatchObject(problem('malformed', 400))

    const good = await startCa()
    const other = await registered(good)
    const [authorization] = await other.authorize(await other.order(['a.example']))
    expect(authorization!.challenges).toHaveLength(1)
    expect((await other.post(authorization!.challenges![0]!.url, {})).json.status).toBe('valid')
  })

  it('of unknown type comes first and has no token', async () => {
    const client = await registered(await startCa({ offerUnknownChallenge: true }))
    const order = await client.order(['a.example'])
    const { json } = await client.post(order.json.authorizations![0]!, '')
    expect(json.challenges!.map(({ type }) => type).sort()).toEqual(['dns-01', 'dns-persist-01', 'http-01'])
    const [first] = json.challenges!
    expect(first).toEqual({
      type: 'dns-persist-01',
      url: first!.url,
      status: 'pending',
      'issuer-domain-names': ['test-ca.invalid'],
    })
    expect(await client.post(first!.url, {})).toMatchObject(problem('malformed', 400))
    await client.authorize(order)
    expect((await client.post(order.url, '')).json.status).toBe('ready')
  })
})

describe('revocation', () => {
  const revoke = (client: RawClient, pem: string, extra: object = {}, options: PostOptions = {}): Promise<Answer> => {
    const certificate = new X509Certificate(pem).raw.toString('base64url')
    return client.post(client.directory.revokeCert, { certificate, ...extra }, options)
  }

  it('works for the account that got the certificate', async () => {
    const clock = fakeClock({ now: epoch })
    const ca = await startCa({ clock })
    const client = await registered(ca)
    const { pem } = await client.obtain(['a.example'])
    expect(await revoke(client, pem, { reason: 2 })).toMatchObject(problem('badRevocationReason', 400))
    expect(await revoke(client, ca.rootPem)).toMatchObject(problem('malformed', 404))
    expect((await revoke(client, pem, { reason: 4 })).status).toBe(200)
    expect(ca.certificates[0]!.revoked).toEqual({ at: new Date(epoch), reason: 4 })
    expect(await revoke(client, pem)).toMatchObject(problem('alreadyRevoked', 400))
  })

  it('works for another account once it has proved all names', async () => {
    const ca = await startCa()
    const names = ['a.example', '*.a.example']
    const { pem } = await (await registered(ca)).obtain(names)
    const other = await registered(ca)
    expect(await revoke(other, pem)).toMatchObject(problem('unauthorized', 403))
    await other.authorize(await other.order(['a.example']))
    expect(await revoke(other, pem)).toMatchObject(problem('unauthorized', 403))
    await other.authorize(await other.order(['*.a.example']))
    expect((await revoke(other, pem)).status).toBe(200)
  })

  it('works with the key of the certificate, which then counts as compromised', async () => {
    const ca = await startCa()
    const client = await registered(ca)
    const order = await client.order(['a.example'])
    await client.authorize(order)
    const key = newKey()
    await client.finalize(order, await csrFor(['a.example'], { keys: await webCryptoKeys(key) }))
    const { pem } = ca.certificates[0]!
    expect(await revoke(client, pem, {}, { useJwk: true, key: newKey() })).toMatchObject(problem('unauthorized', 403))
    expect((await revoke(client, pem, { reason: 4 }, { useJwk: true, key })).status).toBe(200)
    expect(ca.certificates[0]!.revoked?.reason).toBe(1)
  })
})

describe('renewal information', () => {
  const ask = async (client: RawClient, id: string): Promise<Answer> =>
    client.send('GET', `${String(client.directory['renewalInfo'])}/${id}`)

  it.each([
    [90 * day, 2 / 3],
    [160 * hour, 1 / 2],
  ])('of a life of %d ms is centred at %d of it', async (lifetimeMs, ratio) => {
    const ca = await startCa({ clock: fakeClock({ now: epoch }), lifetimeMs, backdateMs: 0 })
    const client = await registered(ca)
    const { pem } = await client.obtain(['a.example'])
    const answer = await ask(client, certificateIdOf(pem))
    expect(answer).toMatchObject({ status: 200, headers: { 'retry-after': '21600' } })
    const { start, end } = answer.json['suggestedWindow'] as { start: string; end: string }
    expect(start).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
    expect((Date.parse(start) + Date.parse(end)) / 2).toBeCloseTo(epoch + lifetimeMs * ratio, -4)
    expect(Date.parse(end) - Date.parse(start)).toBeCloseTo(lifetimeMs * 0.02, -4)
  })

  it('knows serials with and without a sign octet', async () => {
    const ca = await startCa()
    const client = await registered(ca)
    const ids = new Set<boolean>()
    for (let tries = 0; tries < 40 && ids.size < 2; tries += 1) {
      const { pem } = await client.obtain(['a.example'])
      const id = certificateIdOf(pem)
      expect(ca.certificates.at(-1)!.certificateId).toBe(id)
      ids.add(Buffer.from(id.split('.')[1]!, 'base64url')[0] === 0)
      expect((await ask(client, id)).status).toBe(200)
    }
    expect(ids.size).toBe(2)
    expect(await ask(client, 'AAAA.AAAA')).toMatchObject(problem('malformed', 404))
    expect(await ask(client, 'nonsense')).toMatchObject(problem('malformed', 404))
    const url = `${String(client.directory['renewalInfo'])}/AAAA.AAAA`
    expect(await send('GET', url, { ca: ca.httpsCaPem, headers: {} })).toMatchObject(problem('malformed', 400))
  })

  it('can be overridden, and is past once the certificate is revoked', async () => {
    const clock = fakeClock({ now: epoch })
    const ca = await startCa({ clock })
    const client = await registered(ca)
    const { pem } = await client.obtain(['a.example'])
    const window = { start: new Date(epoch + day), end: new Date(epoch + 2 * day) }
    ca.setRenewalWindow(pem, { ...window, explanationUrl: 'https://example.com/why', retryAfterSeconds: 60 })
    expect(await ask(client, certificateIdOf(pem))).toMatchObject({
      headers: { 'retry-after': '60' },
      json: {
        suggestedWindow: { start: '2026-01-02T00:00:00Z', end: '2026-01-03T00:00:00Z' },
        explanationURL: 'https://example.com/why',
      },
    })
    ca.revokeCertificate(pem)
    expect((await ask(client, certificateIdOf(pem))).json).toEqual({
      suggestedWindow: { start: '2025-12-31T23:00:00Z', end: '2025-12-31T23:30:00Z' },
    })
    expect(() => ca.setRenewalWindow(ca.rootPem, window)).toThrow(TypeError)
  })

  it('ties a renewal to its predecessor', async () => {
    const ca = await startCa()
    const client = await registered(ca)
    const { pem } = await client.obtain(['a.example', 'b.example'])
    const replaces = certificateIdOf(pem)
    const other = await registered(ca)
    expect(await client.order(['a.example'], { replaces: 'x' })).toMatchObject(problem('malformed', 400))
    expect(await client.order(['a.example'], { replaces: 'AAAA.AAAA' })).toMatchObject(problem('malformed', 404))
    expect(await other.order(['a.example'], { replaces })).toMatchObject(problem('unauthorized', 403))
    expect(await client.order(['c.example'], { replaces })).toMatchObject(problem('malformed', 400))
    const first = await client.order(['b.example', 'c.example'], { replaces })
    expect(first).toMatchObject({ status: 201, json: { replaces } })
    expect(await client.order(['a.example'], { replaces })).toMatchObject(problem('alreadyReplaced', 409))
    // A dead order gives its predecessor free again.
    await client.post(first.json.authorizations![0]!, { status: 'deactivated' })
    await client.obtain(['a.example'], { replaces })
    expect(ca.certificates.at(-1)).toMatchObject({ replaces })
    expect(ca.orders.at(-1)).toMatchObject({ replaces, certificate: { replaces } })
    expect(await client.order(['a.example'], { replaces })).toMatchObject(problem('alreadyReplaced', 409))
  })
})

describe('startTestCa()', () => {
  it.each([
    [{ lifeTimeMs: 1 }, '"lifeTimeMs" is not an option'],
    [{ lifetimeMs: 0 }, '"lifetimeMs" option'],
    [{ challengeTypes: ['tls-alpn-01'] }, '"challengeTypes" option'],
    [{ challengeTypes: [] }, '"challengeTypes" option'],
    [{ httpPort: 70_000 }, '"httpPort" option'],
    [{ externalAccountKeys: { a: 'not base64url!' } }, '"externalAccountKeys" option'],
    [{ profiles: { p: { description: '', lifetimeMs: -1 } } }, '"profiles.p.lifetimeMs" option'],
    [{ intermediates: 1.5 }, '"intermediates" option'],
    [{ validations: 0 }, '"validations" option'],
    [{ processingPolls: -1 }, '"processingPolls" option'],
  ])('refuses %j', async (options, message) => {
    const started = startTestCa(options as TestCaOptions)
    await expect(started).rejects.toThrow(TypeError)
    await expect(started).rejects.toThrow(message)
  })

  it('closes at once with requests and validations under way, and can be closed again', async () => {
    let reached = (): void => {}
    const validating = new Promise<void>((resolve) => (reached = resolve))
    const httpPort = await startHttp(() => {
      reached()
    })
    const ca = await startTestCa({ httpPort })
    onTestFinished(() => ca.close())
    const client = await registered(ca)
    const order = await client.order(['a.example'])
    const { json } = await client.post(order.json.authorizations![0]!, '')
    await client.post(json.challenges!.find(({ type }) => type === 'http-01')!.url, {})
    await validating
    ca.faults.add({ match: { kind: 'directory' }, action: { type: 'delay', ms: 60_000 } })
    const delayed = client.send('GET', ca.directoryUrl)
    delayed.catch(() => {})
    while (ca.countRequests('directory') < 2) await sleep(1)
    const begun = performance.now()
    await Promise.all([ca.close(), ca[Symbol.asyncDispose]()])
    await ca.close()
    await expect(delayed).rejects.toThrow()
    expect(performance.now() - begun).toBeLessThan(2000)
    await expect(client.send('GET', ca.directoryUrl)).rejects.toThrow('ECONNREFUSED')
  })
})

async function registered(ca: Parameters<typeof rawClient>[0], key = newKey()): Promise<RawClient> {
  const client = await rawClient(ca, key)
  expect((await client.register()).status).toBe(201)
  return client
}

async function settled(client: RawClient, authorizationUrl: string): Promise<Answer['json']> {
  for (;;) {
    const { json } = await client.post(authorizationUrl, '')
    if (json.status !== 'pending') return json
    await sleep(5)
  }
}

function origin({ directory }: RawClient): string {
  return new URL(directory.newOrder).origin
}

function certificatesIn(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/g) ?? []
  return blocks.map((block) => new X509Certificate(block))
}

function expectChain(chain: readonly X509Certificate[]): void {
  for (const [index, certificate] of chain.entries()) {
    const issuer = chain[index + 1] ?? certificate
    expect(certificate.checkIssued(issuer)).toBe(true)
    expect(certificate.verify(issuer.publicKey)).toBe(true)
    expect(certificate.ca).toBe(index > 0)
  }
}

/** RFC 9773 section 4.1, from the DER and not from what the CA says. */
function certificateIdOf(pem: string): string {
  const certificate = new x509.X509Certificate(pem)
  const authority = certificate.getExtension(x509.AuthorityKeyIdentifierExtension)!.keyId!
  const serial = /^[89a-f]/i.test(certificate.serialNumber) ? `00${certificate.serialNumber}` : certificate.serialNumber
  return [authority, serial].map((hex) => Buffer.from(hex, 'hex').toString('base64url')).join('.')
}
