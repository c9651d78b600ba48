import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { accountKey } from '../../../../src/issuers/acme/account-key.js'
import {
  acmeTransport,
  type AcmeTransport,
  type AcmeTransportOptions,
} from '../../../../src/issuers/acme/acme-transport.js'
import { silentLogger } from '../../../../src/core/logger.js'
import type { Clock } from '../../../../src/core/clock.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'

const origin = 'https://ca.example'
const directory = { newNonce: `${origin}/nonce`, newAccount: `${origin}/account`, newOrder: `${origin}/order` }
const key = accountKey(
  generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
)

interface Sent {
  readonly url: string
  readonly method: string
  readonly headers: Headers
  readonly nonce: unknown
  readonly at: number
}

interface Scripted {
  readonly transport: AcmeTransport
  readonly sent: readonly Sent[]
  readonly context: { signal: AbortSignal; clock: Clock; logger: typeof silentLogger; random: () => number }
}

/** A CA that answers POSTs from a script; a directory and nonces it always has. */
function scripted(
  answers: readonly (Response | Error | 'hang')[],
  options: Partial<AcmeTransportOptions> & { readonly clock?: Clock } = {},
): Scripted {
  const { clock = fakeClock({ autoAdvance: true }), ...rest } = options
  const sent: Sent[] = []
  const queue = [...answers]
  let nonces = 0
  const fetch = async (input: unknown, init: RequestInit = {}): Promise<Response> => {
    const url = String(input)
    const body = typeof init.body === 'string' ? (JSON.parse(init.body) as { protected: string }) : undefined
    const header = body === undefined ? '{}' : Buffer.from(body.protected, 'base64url').toString()
    const { nonce } = JSON.parse(header) as { nonce?: string }
    sent.push({ url, method: init.method ?? 'GET', headers: new Headers(init.headers), nonce, at: clock.now() })
    nonces += 1
    const replayNonce = { 'replay-nonce': `nonce-${String(nonces)}` }
    if (init.method === 'GET') return json(200, directory)
    if (init.method === 'HEAD') return new Response(null, { status: 200, headers: replayNonce })
    const answer = queue.shift() ?? json(200, {})
    if (answer instanceof Error) throw answer
    if (answer === 'hang') {
      return new Promise((_, reject) => {
        init.signal?.addEventListener('abort', () => {
          reject(init.signal?.reason as Error)
        })
      })
    }
    if (!answer.headers.has('replay-nonce')) answer.headers.set('replay-nonce', replayNonce['replay-nonce'])
    return answer
  }
  const transport = acmeTransport({
    directoryUrl: `${origin}/dir`,
    externalAccountBinding: undefined,
    fetch,
    ca: undefined,
    userAgent: undefined,
    requestTimeoutMs: 30_000,
    allowLoopbackHttp: false,
    ...rest,
  })
  const { signal } = new AbortController()
  return { transport, sent, context: { signal, clock, logger: silentLogger, random: () => 0.5 } }
}

function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  const type = status < 400 ? 'application/json' : 'application/problem+json; charset=utf-8'
  return new Response(JSON.stringify(body), { status, headers: { 'content-type': type, ...headers } })
}

const problem = (type: string): object => ({ type: `urn:ietf:params:acme:error:${type}` })

function post({ transport, context }: Scripted, repeatable: boolean): Promise<unknown> {
  const request = {
    url: directory.newOrder,
    what: 'new order',
    payload: {},
    account: 'https://ca.example/a/1',
    repeatable,
  }
  return transport.signer(key).send(request, context)
}

const posts = ({ sent }: Scripted): readonly Sent[] => sent.filter(({ method }) => method === 'POST')

describe('acmeTransport', () => {
  it('says who it is, and sends what the protocol wants', async () => {
    const ca = scripted([], { userAgent: 'my-service/1.2 (ops@example.com)' })
    await post(ca, true)
    expect(ca.sent.map(({ method }) => method)).toEqual(['GET', 'HEAD', 'POST'])
    for (const { headers } of ca.sent) {
      expect(headers.get('user-agent')).toMatch(
        /^my-service\/1\.2 \(ops@example\.com\) evercert\/\d+\.\d+\.\d+ node\/\d/,
      )
      expect(headers.get('accept-language')).toBe('en')
    }
    expect(posts(ca)[0]?.headers.get('content-type')).toBe('application/jose+json')
  })

  it.each<[what: string, answer: Response | Error]>([
    ['a lost connection', new TypeError('fetch failed')],
    ['502', new Response('bad gateway', { status: 502 })],
    ['500 as a problem', json(500, problem('serverInternal'))],
  ])('repeats what may be repeated after %s, with a fresh nonce, three times in all', async (_, answer) => {
    const again = (): Response | Error => (answer instanceof Error ? answer : answer.clone())
    const good = scripted([again(), again()])
    await post(good, true)
    expect(posts(good)).toHaveLength(3)
    expect(new Set(posts(good).map(({ nonce }) => nonce)).size).toBe(3)
    const bad = scripted([again(), again(), again()])
    await expect(post(bad, true)).rejects.toMatchObject({ retryable: true })
    expect(posts(bad)).toHaveLength(3)
    const once = scripted([again(), again()])
    await expect(post(once, false)).rejects.toMatchObject({ retryable: true })
    expect(posts(once)).toHaveLength(1)
  })

  it.each([
    ['seconds', '3', 3000],
    ['a date', 'Thu, 01 Jan 2026 00:00:04 GMT', 4000],
    ['nothing to wait for', '0', 0],
    ['the past', 'Thu, 01 Jan 2015 00:00:00 GMT', 0],
  ])('waits at least as long as it is asked, in %s', async (_, retryAfter, leastMs) => {
    const ca = scripted([new Response('busy', { status: 503, headers: { 'retry-after': retryAfter } })])
    await post(ca, false)
    const [first, second] = posts(ca)
    const waited = Number(second?.at) - Number(first?.at)
    expect(waited).toBeGreaterThanOrEqual(Math.max(leastMs, 1))
    expect(waited).toBeLessThan(6000)
  })

  it.each([
    ['11', 11_000],
    ['86400', 86_400_000],
    ['9999999999', 7 * 86_400_000],
    ['Wed, 01 Jan 2031 00:00:00 GMT', 7 * 86_400_000],
  ])('passes a Retry-After of %s on', async (retryAfter, expectedMs) => {
    const ca = scripted([json(429, problem('rateLimited'), { 'retry-after': retryAfter })])
    const start = ca.context.clock.now()
    await expect(post(ca, true)).rejects.toMatchObject({
      code: 'ERR_ACME_RATE_LIMITED',
      retryAt: new Date(start + expectedMs),
    })
    expect(posts(ca)).toHaveLength(1)
  })

  it.each(['-1', 'soon', '1.5', ''])('takes a Retry-After of %j for none', async (retryAfter) => {
    const ca = scripted([json(429, problem('rateLimited'), { 'retry-after': retryAfter })])
    await expect(post(ca, true)).rejects.toMatchObject({ code: 'ERR_ACME_RATE_LIMITED', retryAt: undefined })
    expect(posts(ca)).toHaveLength(1)
  })

  it('gives up on nonces at some point', async () => {
    const refused = Array.from({ length: 200 }, () => json(400, problem('badNonce')))
    const ca = scripted(refused)
    await expect(post(ca, true)).rejects.toMatchObject({ code: 'ERR_ACME_PROBLEM', retryable: true })
    expect(posts(ca)).toHaveLength(61)
    expect(new Set(posts(ca).map(({ nonce }) => nonce)).size).toBe(61)
  })

  it('does not use a malformed nonce', async () => {
    const ca = scripted([json(200, {}, { 'replay-nonce': 'a b' })])
    await post(ca, true)
    await post(ca, true)
    expect(ca.sent.filter(({ method }) => method === 'HEAD')).toHaveLength(2)
  })

  it('ends a request that gets no answer in time, and does not wait for another', async () => {
    const clock = fakeClock()
    const ca = scripted(['hang'], { clock, requestTimeoutMs: 5000 })
    const outcome = post(ca, true).catch((error: unknown) => error)
    await expect.poll(() => posts(ca).length).toBe(1)
    await clock.advance(5001)
    expect(await outcome).toMatchObject({ code: 'ERR_HTTP_TIMEOUT', retryable: true })
    expect(posts(ca)).toHaveLength(1)
  })

  it('passes the reason of an abort through, in a request and in a wait', async () => {
    const reason = new Error('stop')
    for (const answer of ['hang', new Response('busy', { status: 503, headers: { 'retry-after': '5' } })] as const) {
      const controller = new AbortController()
      const ca = scripted([answer], { clock: fakeClock() })
      const outcome = post({ ...ca, context: { ...ca.context, signal: controller.signal } }, true).catch(
        (error: unknown) => error,
      )
      await expect.poll(() => posts(ca).length).toBe(1)
      controller.abort(reason)
      expect(await outcome).toBe(reason)
    }
  })

  it('asks for the directory once a day, and once for all who wait', async () => {
    const clock = fakeClock()
    const ca = scripted([], { clock })
    await Promise.all([1, 2, 3].map(() => ca.transport.directory(ca.context)))
    await clock.advance(23 * 3_600_000)
    await ca.transport.directory(ca.context)
    expect(ca.sent).toHaveLength(1)
    await clock.advance(2 * 3_600_000)
    await ca.transport.directory(ca.context)
    expect(ca.sent).toHaveLength(2)
  })

  it('asks for the directory again when one of its URLs is gone', async () => {
    const ca = scripted([json(404, problem('malformed'))])
    await expect(post(ca, true)).rejects.toMatchObject({ code: 'ERR_ACME_PROBLEM' })
    await ca.transport.directory(ca.context)
    expect(ca.sent.filter(({ method }) => method === 'GET')).toHaveLength(2)
  })

  it('lets one who waits for the directory leave without harm to the others', async () => {
    const controller = new AbortController()
    const ca = scripted([])
    const leaving = ca.transport
      .directory({ ...ca.context, signal: controller.signal })
      .catch((error: unknown) => error)
    const staying = ca.transport.directory(ca.context)
    const reason = new Error('stop')
    controller.abort(reason)
    expect(await leaving).toBe(reason)
    expect((await staying).newOrder).toBe(directory.newOrder)
    expect(ca.sent).toHaveLength(1)
  })
})
