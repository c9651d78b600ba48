/**
 * An ACME client that does exactly as it is told, mistakes included: for what a well-behaved client never sends.
 */
import {
  constants,
  createHash,
  createHmac,
  createPublicKey,
  generateKeyPairSync,
  sign,
  webcrypto,
  type JsonWebKey,
  type KeyObject,
} from 'node:crypto'
import { once } from 'node:events'
import { Agent, createServer, request as httpRequest, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import { Agent as TlsAgent, request as httpsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import * as x509 from '@peculiar/x509'
import { expect, onTestFinished } from 'vitest'
import { startTestCa, type TestCa, type TestCaOptions } from '../../../src/testing/test-ca/index.js'

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  /** The body as JSON, `{}` when it is none. */
  readonly json: Body
}

/** Any member of any ACME object. */
export interface Body {
  readonly [name: string]: unknown
  readonly type?: string
  readonly status?: string
  readonly detail?: string
  readonly authorizations?: string[]
  readonly challenges?: Challenge[]
  readonly finalize?: string
  readonly certificate?: string
}

export interface Challenge {
  readonly type: string
  readonly url: string
  readonly status: string
  readonly token?: string
  readonly error?: { readonly type: string; readonly detail: string }
}

export interface PostOptions {
  readonly key?: KeyObject
  /** Replaces members of the protected header; `undefined` takes one away. */
  readonly header?: Readonly<Record<string, unknown>>
  readonly headers?: Readonly<Record<string, string>>
  /** Changes the finished body. */
  readonly tamper?: (jws: Record<string, unknown>) => unknown
  /** Signs with the key itself instead of the account. */
  readonly useJwk?: boolean
}

export interface RawClient {
  readonly key: KeyObject
  readonly directory: Body &
    Readonly<Record<'newNonce' | 'newAccount' | 'newOrder' | 'revokeCert' | 'keyChange', string>>
  readonly thumbprint: string
  accountUrl: string
  send(method: string, url: string, body?: string, headers?: Readonly<Record<string, string>>): Promise<Answer>
  /** `payload`: an object, `''` for POST-as-GET, or a string as it is. */
  post(url: string, payload: object | string, options?: PostOptions): Promise<Answer>
  nonce(): Promise<string>
  register(extra?: object): Promise<Answer>
  order(names: readonly string[], extra?: object): Promise<Answer & { readonly url: string }>
  /** Answers one challenge of each pending authorization and waits for the verdicts. */
  authorize(order: Answer, type?: string): Promise<Body[]>
  finalize(order: Answer & { readonly url: string }, csr: Buffer): Promise<Answer>
  /** From order to certificate, by dns-01 with the records of {@link startCa}. */
  obtain(names: readonly string[], extra?: object): Promise<{ order: Answer & { readonly url: string }; pem: string }>
}

/** A test CA that is closed with the test. dns-01 looks into `records`; by default any name is answered correctly. */
export async function startCa(
  options: TestCaOptions = {},
): Promise<TestCa & { readonly records: Map<string, string[]> }> {
  const records = new Map<string, string[]>()
  const ca = await startTestCa({
    resolveTxt: (name) =>
      records.has(name)
        ? Promise.resolve(records.get(name)!)
        : Promise.reject(Object.assign(new Error(), { code: 'ENOTFOUND' })),
    ...options,
  })
  onTestFinished(() => ca.close())
  return Object.assign(ca, { records })
}

export function newKey(kind: 'P-256' | 'P-384' | 'P-521' | 'rsa-1024' | 'rsa-2048' = 'P-256'): KeyObject {
  return kind.startsWith('rsa')
    ? generateKeyPairSync('rsa', { modulusLength: Number(kind.slice(4)) }).privateKey
    : generateKeyPairSync('ec', { namedCurve: kind }).privateKey
}

export function publicJwk(key: KeyObject): JsonWebKey {
  const { kty, crv, x, y, n, e } = createPublicKey(key).export({ format: 'jwk' })
  return JSON.parse(JSON.stringify({ kty, crv, x, y, n, e })) as JsonWebKey
}

function thumbprintOf(key: KeyObject): string {
  const { kty, crv, x, y, n, e } = publicJwk(key)
  return digest(JSON.stringify({ crv, e, kty, n, x, y }))
}

export function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

function algorithmOf(key: KeyObject): string {
  if (key.asymmetricKeyType === 'rsa') return 'RS256'
  return key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'ES384' : 'ES256'
}

/** A flattened JWS with these members; those that are `undefined` are left out. */
export function signJws(key: KeyObject, header: object, payload: string): Record<string, string> {
  const encodedHeader = Buffer.from(JSON.stringify({ alg: algorithmOf(key), ...header })).toString('base64url')
  const encodedPayload = Buffer.from(payload).toString('base64url')
  const input = Buffer.from(`${encodedHeader}.${encodedPayload}`)
  const how =
    key.asymmetricKeyType === 'rsa'
      ? { key, padding: constants.RSA_PKCS1_PADDING }
      : ({ key, dsaEncoding: 'ieee-p1363' } as const)
  const signature = sign(algorithmOf(key) === 'ES384' ? 'sha384' : 'sha256', input, how)
  return { protected: encodedHeader, payload: encodedPayload, signature: signature.toString('base64url') }
}

export function externalBinding(key: KeyObject, header: object, hmacKey: string): Record<string, string> {
  const encodedHeader = Buffer.from(JSON.stringify(header)).toString('base64url')
  const payload = Buffer.from(JSON.stringify(publicJwk(key))).toString('base64url')
  const signature = createHmac('sha256', Buffer.from(hmacKey, 'base64url'))
    .update(`${encodedHeader}.${payload}`)
    .digest('base64url')
  return { protected: encodedHeader, payload, signature }
}

export function send(
  method: string,
  url: string,
  options: { ca: string; headers: Readonly<Record<string, string>>; body?: string | undefined; agent?: Agent },
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = (url.startsWith('https:') ? httpsRequest : httpRequest)(
      url,
      { method, ca: options.ca, headers: options.headers, agent: options.agent ?? false },
      (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          text += chunk
        })
        response.on('error', reject)
        response.on('end', () => {
          const isJson = /json/.test(response.headers['content-type'] ?? '')
          const json = (isJson ? JSON.parse(text) : {}) as Body
          resolve({ status: response.statusCode!, headers: response.headers, text, json })
        })
      },
    )
    request.on('error', reject)
    request.end(options.body)
  })
}

export async function rawClient(
  ca: TestCa & { readonly records?: Map<string, string[]> },
  key = newKey(),
): Promise<RawClient> {
  const agent = new (ca.directoryUrl.startsWith('https:') ? TlsAgent : Agent)({ keepAlive: true })
  onTestFinished(() => {
    agent.destroy()
  })
  const sendTo: RawClient['send'] = (method, url, body, headers = {}) =>
    send(method, url, { ca: ca.httpsCaPem, body, agent, headers: { 'user-agent': 'raw-test-client', ...headers } })
  const directory = (await sendTo('GET', ca.directoryUrl)).json as RawClient['directory']

  const client: RawClient = {
    key,
    directory,
    thumbprint: thumbprintOf(key),
    accountUrl: '',
    send: sendTo,
    async nonce() {
      const { headers } = await sendTo('HEAD', directory.newNonce)
      return headers['replay-nonce'] as string
    },
    async post(url, payload, options = {}) {
      const signer = options.key ?? key
      const identity = options.useJwk === true ? { jwk: publicJwk(signer) } : { kid: client.accountUrl }
      const header = { nonce: await client.nonce(), url, ...identity, ...options.header }
      const jws = signJws(signer, header, typeof payload === 'string' ? payload : JSON.stringify(payload))
      const body = options.tamper === undefined ? jws : options.tamper(jws)
      return sendTo('POST', url, typeof body === 'string' ? body : JSON.stringify(body), {
        'content-type': 'application/jose+json',
        ...options.headers,
      })
    },
    async register(extra = {}) {
      const answer = await client.post(directory.newAccount, { termsOfServiceAgreed: true, ...extra }, { useJwk: true })
      if (answer.status < 300) client.accountUrl = answer.headers.location!
      return answer
    },
    async order(names, extra = {}) {
      const identifiers = names.map((value) => ({ type: /^[\d.]+$|:/.test(value) ? 'ip' : 'dns', value }))
      const answer = await client.post(directory.newOrder, { identifiers, ...extra })
      return { ...answer, url: answer.headers.location ?? '' }
    },
    async authorize(order, type = 'dns-01') {
      const authorizations: Body[] = []
      for (const url of order.json.authorizations!) {
        let { json } = await client.post(url, '')
        if (json.status === 'pending') {
          const challenge = json.challenges!.find((offered) => offered.type === type)!
          const { value } = json['identifier'] as { value: string }
          const name = `_acme-challenge.${value}`
          const keyAuthorization = `${challenge.token!}.${client.thumbprint}`
          ca.records?.set(name, [...(ca.records.get(name) ?? []), digest(keyAuthorization)])
          expect((await client.post(challenge.url, {})).status).toBe(200)
          while (json.status === 'pending') {
            await sleep(5)
            json = (await client.post(url, '')).json
          }
        }
        authorizations.push(json)
      }
      return authorizations
    },
    finalize: (order, csr) => client.post(order.json.finalize!, { csr: csr.toString('base64url') }),
    async obtain(names, extra) {
      const order = await client.order(names, extra)
      expect(order.text).not.toContain('error')
      await client.authorize(order)
      expect((await client.finalize(order, await csrFor(names))).status).toBe(200)
      const { json } = await client.post(order.url, '')
      const { text: pem } = await client.post(json.certificate!, '')
      return { order, pem }
    },
  }
  return client
}

export interface CsrOptions {
  readonly commonName?: string
  readonly keys?: webcrypto.CryptoKeyPair
  readonly algorithm?: 'P-256' | 'P-384' | 'P-521' | 'rsa-1024' | 'rsa-2048'
  /** Adds an e-mail address to the names. */
  readonly email?: string
}

/** A request for these names, DER. */
export async function csrFor(names: readonly string[], options: CsrOptions = {}): Promise<Buffer> {
  const { algorithm = 'P-256' } = options
  const { parameters, signing } = webCryptoAlgorithm(algorithm)
  const keys = options.keys ?? (await webcrypto.subtle.generateKey(parameters, true, ['sign', 'verify']))
  const alternativeNames: x509.JsonGeneralNames = names.map((value) => ({
    type: /^[\d.]+$|:/.test(value) ? 'ip' : 'dns',
    value,
  }))
  if (options.email !== undefined) alternativeNames.push({ type: 'email', value: options.email })
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    ...(options.commonName === undefined ? {} : { name: `CN=${options.commonName}` }),
    keys,
    signingAlgorithm: signing,
    extensions: alternativeNames.length > 0 ? [new x509.SubjectAlternativeNameExtension(alternativeNames)] : [],
  })
  return Buffer.from(request.rawData)
}

/** A key pair of `node:crypto` for {@link csrFor}. */
export async function webCryptoKeys(key: KeyObject): Promise<webcrypto.CryptoKeyPair> {
  const { parameters } = webCryptoAlgorithm('P-256')
  const format = { type: 'pkcs8', format: 'der' } as const
  return {
    privateKey: await webcrypto.subtle.importKey('pkcs8', key.export(format), parameters, true, ['sign']),
    publicKey: await webcrypto.subtle.importKey('jwk', publicJwk(key), parameters, true, ['verify']),
  }
}

function webCryptoAlgorithm(algorithm: string): {
  parameters: webcrypto.EcKeyGenParams & webcrypto.RsaHashedKeyGenParams
  signing: { name: string; hash: string }
} {
  if (algorithm.startsWith('rsa')) {
    const parameters = {
      name: 'RSASSA-PKCS1-v1_5',
      hash: 'SHA-256',
      modulusLength: Number(algorithm.slice(4)),
      publicExponent: new Uint8Array([1, 0, 1]),
    }
    return { parameters: { namedCurve: '', ...parameters }, signing: { name: parameters.name, hash: 'SHA-256' } }
  }
  const parameters = { name: 'ECDSA', namedCurve: algorithm }
  return {
    parameters: parameters as webcrypto.EcKeyGenParams & webcrypto.RsaHashedKeyGenParams,
    signing: { name: 'ECDSA', hash: algorithm === 'P-384' ? 'SHA-384' : 'SHA-256' },
  }
}

/** A plain HTTP server on a free port that is closed with the test. */
export async function startHttp(listener: RequestListener, host = '127.0.0.1'): Promise<number> {
  const server = createServer(listener).listen(0, host)
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}
