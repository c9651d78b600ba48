/**
 * The floor: the requests of one certificate and nothing else. No journal, no checks, no limits, no retries, and polls
 * without a pause.
 */
import { createHash, generateKeyPairSync, sign, type JsonWebKey } from 'node:crypto'
import { Agent, request } from 'undici'
import { atMost, type CertificateOrder, type MakePeer } from './peer.js'

/** As evercert's: connections to the CA, and requests of one order in flight. */
const connections = 16
const parallelism = 10

interface Answer {
  readonly location: string
  readonly text: string
}
interface Order {
  readonly status: string
  readonly authorizations: readonly string[]
  readonly finalize: string
  readonly certificate: string
}
interface Authorization {
  readonly status: string
  readonly challenges: readonly { readonly type: string; readonly url: string; readonly token: string }[]
}
type Directory = Readonly<Record<'newNonce' | 'newAccount' | 'newOrder', string>>

export const makeBarePeer: MakePeer = async (world, challenges) => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { crv, kty, x, y } = publicKey.export({ format: 'jwk' })
  const jwk: JsonWebKey = { crv, kty, x, y } as JsonWebKey
  const thumbprint = createHash('sha256').update(JSON.stringify(jwk)).digest('base64url')
  let dispatcher = open()
  let directory: Directory | undefined
  let nonces: string[] = []

  function open(): Agent {
    return new Agent({ connections, connect: { ca: world.caPem } })
  }

  async function send(method: 'GET' | 'HEAD' | 'POST', url: string, body?: string): Promise<Answer> {
    const answer = await request(url, {
      method,
      dispatcher,
      headers: { 'user-agent': 'bare', ...(body === undefined ? {} : { 'content-type': 'application/jose+json' }) },
      ...(body === undefined ? {} : { body }),
    })
    const text = await answer.body.text()
    if (answer.statusCode >= 300) throw new Error(`${method} ${url}: ${answer.statusCode} ${text}`)
    const { 'replay-nonce': nonce, location = '' } = answer.headers
    if (typeof nonce === 'string') nonces.push(nonce)
    return { location: String(location), text }
  }

  async function post(url: string, payload: object | null, kid?: string): Promise<Answer> {
    const { newNonce } = await knownDirectory()
    while (nonces.length === 0) await send('HEAD', newNonce)
    const header = { alg: 'ES256', ...(kid === undefined ? { jwk } : { kid }), nonce: nonces.pop(), url }
    const encoded = payload === null ? '' : base64url(JSON.stringify(payload))
    const input = `${base64url(JSON.stringify(header))}.${encoded}`
    const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' })
    const [protectedHeader] = input.split('.')
    const jws = { protected: protectedHeader, payload: encoded, signature: signature.toString('base64url') }
    return send('POST', url, JSON.stringify(jws))
  }

  async function knownDirectory(): Promise<Directory> {
    return (directory ??= JSON.parse((await send('GET', world.directoryUrl)).text) as Directory)
  }

  const { newAccount } = await knownDirectory()
  const { location: kid } = await post(newAccount, { termsOfServiceAgreed: true })

  async function read<Resource>(url: string): Promise<Resource> {
    return JSON.parse((await post(url, null, kid)).text) as Resource
  }

  async function pollWhile(url: string, ...statuses: readonly string[]): Promise<Order> {
    for (;;) {
      const order = await read<Order>(url)
      if (!statuses.includes(order.status)) return order
    }
  }

  async function obtain({ names, csr }: CertificateOrder): Promise<string> {
    const { newOrder } = await knownDirectory()
    const identifiers = names.map((value) => ({ type: 'dns', value }))
    const { location: url, text } = await post(newOrder, { identifiers }, kid)
    const placed = JSON.parse(text) as Order
    const toProve = await atMost(parallelism, placed.authorizations, async (authorization) => {
      const { status, challenges: offered } = await read<Authorization>(authorization)
      // Pebble reuses one in a hundred even when told to reuse none.
      if (status === 'valid') return undefined
      const challenge = offered.find(({ type }) => type === 'http-01')
      if (challenge === undefined) throw new Error('no http-01 challenge')
      challenges.set(challenge.token, `${challenge.token}.${thumbprint}`)
      return challenge
    })
    const pending = toProve.filter((challenge) => challenge !== undefined)
    await atMost(parallelism, pending, (challenge) => post(challenge.url, {}, kid))
    const ready = await pollWhile(url, 'pending')
    await post(ready.finalize, { csr: Buffer.from(csr, 'base64').toString('base64url') }, kid)
    const valid = await pollWhile(url, 'ready', 'processing')
    const chain = await post(valid.certificate, null, kid)
    for (const { token } of pending) challenges.delete(token)
    return chain.text
  }

  return {
    obtain: ({ orders, concurrency }) => atMost(concurrency, orders, obtain),
    async forget() {
      await dispatcher.close()
      dispatcher = open()
      directory = undefined
      nonces = []
    },
  }
}

function base64url(text: string): string {
  return Buffer.from(text).toString('base64url')
}
