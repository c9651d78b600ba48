import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { httpResponder } from '../../../src/solvers/http-responder.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { assertNoSecrets } from '../../../src/testing/recording-logger.js'
import { httpChallenge } from './challenges.js'

const context = operationContext()
const challenge = httpChallenge()
const { path, token, keyAuthorization } = challenge

/** What a raw request gets; the host's own application answers 418. */
describe('beside an application of its own', () => {
  const responder = httpResponder()
  const server = createServer((request, response) => {
    if (responder.requestListener(request, response)) return
    response.writeHead(418, { 'content-length': 11 }).end('application')
  })
  beforeAll(async () => {
    await responder.present(challenge, context)
    await responder.present(httpChallenge('192.0.2.7', 'four'), context)
    await responder.present(httpChallenge('2001:db8::7', 'six'), context)
    await responder.present(httpChallenge('other.example.com', 'other'), context)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
  afterAll(() => new Promise((resolve) => server.close(resolve)))

  async function raw(
    line: string,
    host: string | undefined,
    body = '',
  ): Promise<{ head: string; body: string; status: number }> {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
    const hostLine = host === undefined ? '' : `Host: ${host}\r\n`
    socket.end(
      `${line} HTTP/1.1\r\n${hostLine}Connection: close\r\nContent-Length: ${String(body.length)}\r\n\r\n${body}`,
    )
    const chunks: Buffer[] = []
    for await (const chunk of socket) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString('latin1')
    const [head = '', ...rest] = text.split('\r\n\r\n')
    return { head: head.toLowerCase(), body: rest.join('\r\n\r\n'), status: Number(head.split(' ')[1]) }
  }

  it.each([
    ['the name', `GET ${path}`, 'www.example.com'],
    ['the name with a port', `GET ${path}`, 'www.example.com:80'],
    ['the name in capitals with a final dot', `GET ${path}`, 'WWW.Example.COM.'],
    ['the absolute form', `GET http://www.example.com${path}`, 'www.example.com'],
    ['the absolute form, which wins over Host', `GET http://www.example.com:80${path}`, 'evil.example'],
  ])('answers for %s', async (_, line, host) => {
    const answer = await raw(line, host)
    expect(answer.status).toBe(200)
    expect(answer.body).toBe(keyAuthorization)
    expect(answer.head).toContain('content-type: application/octet-stream')
    expect(answer.head).toContain('x-content-type-options: nosniff')
    expect(answer.head).toContain(`content-length: ${String(keyAuthorization.length)}`)
  })

  it.each([
    ['192.0.2.7:80', 'four'],
    ['[2001:db8::7]', 'six'],
    ['[2001:DB8:0::7]:80', 'six'],
  ])('answers for the IP address %s', async (host, name) => {
    expect((await raw(`GET /.well-known/acme-challenge/${name}`, host)).body).toMatch(new RegExp(`^${name}\\.`))
  })

  it('answers HEAD without a body', async () => {
    const answer = await raw(`HEAD ${path}`, 'www.example.com')
    expect([answer.status, answer.body]).toEqual([200, ''])
    expect(answer.head).toContain(`content-length: ${String(keyAuthorization.length)}`)
  })

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS'])('refuses %s', async (method) => {
    const answer = await raw(`${method} ${path}`, 'www.example.com', 'ignored')
    expect(answer.status).toBe(405)
    expect(answer.head).toContain('allow: get, head')
    expect(answer.head).toContain('connection: close')
    expect(answer.body).toBe('')
  })

  it.each([
    ['another path', 'GET /', 'www.example.com'],
    ['an unknown token', 'GET /.well-known/acme-challenge/unknown', 'www.example.com'],
    ['an empty token', 'GET /.well-known/acme-challenge/', 'www.example.com'],
    ['the prefix itself', 'GET /.well-known/acme-challenge', 'www.example.com'],
    ['a slash at the end', `GET ${path}/`, 'www.example.com'],
    ['a query', `GET ${path}?x=1`, 'www.example.com'],
    ['a doubled slash', `GET /${path}`, 'www.example.com'],
    ['a doubled slash before the token', `GET /.well-known/acme-challenge//${token}`, 'www.example.com'],
    ['dots', `GET /.well-known/acme-challenge/./${token}`, 'www.example.com'],
    ['encoded dots', `GET /.well-known/%2e/acme-challenge/${token}`, 'www.example.com'],
    ['an encoded slash', `GET /.well-known/acme-challenge%2f${token}`, 'www.example.com'],
    ['another case', `GET ${path.toUpperCase()}`, 'www.example.com'],
    ['a NUL', `GET ${path}%00`, 'www.example.com'],
    ['a prototype name', 'GET /.well-known/acme-challenge/__proto__', 'www.example.com'],
    ['the name of another order', `GET ${path}`, 'other.example.com'],
    ['a name that was rebound to us', `GET ${path}`, 'evil.example'],
    ['the address', `GET ${path}`, '127.0.0.1'],
    ['a Host with a user', `GET ${path}`, 'www.example.com@evil.example'],
    ['a Host that looks like a path', `GET ${path}`, `www.example.com/${token}`],
    ['an empty Host', `GET ${path}`, ''],
    ['an absolute form with a user', `GET http://a@www.example.com${path}`, 'www.example.com'],
    ['an absolute form of another name', `GET http://evil.example${path}`, 'www.example.com'],
    ['an absolute form of another scheme', `GET ftp://www.example.com${path}`, 'www.example.com'],
    ['the asterisk form', 'OPTIONS *', 'www.example.com'],
  ])('leaves %s to the application', async (_, line, host) => {
    const answer = await raw(line, host)
    expect([answer.status, answer.body]).toEqual([418, 'application'])
  })
})

describe('fetch', () => {
  it('answers, and leaves the rest', async () => {
    const responder = httpResponder()
    await responder.present(challenge, context)
    const answer = responder.fetch(new Request(`http://www.example.com${path}`))
    expect(await answer?.text()).toBe(keyAuthorization)
    expect(answer?.headers.get('x-content-type-options')).toBe('nosniff')
    expect(responder.fetch(new Request(`http://www.example.com${path}`, { method: 'POST' }))?.status).toBe(405)
    expect(await responder.fetch(new Request(`http://www.example.com${path}`, { method: 'HEAD' }))?.text()).toBe('')
    for (const url of [
      `http://evil.example${path}`,
      `http://www.example.com${path}/`,
      `http://www.example.com${path}?a`,
      'http://www.example.com/',
    ]) {
      expect(responder.fetch(new Request(url)), url).toBeUndefined()
    }
  })
})

describe('what it keeps', () => {
  const ask = (responder: ReturnType<typeof httpResponder>, url: string): boolean => {
    let answered = false
    const response = { writeHead: () => response, end: () => (answered = true) } as unknown as ServerResponse
    const request = { method: 'GET', url, headers: { host: 'www.example.com' } } as unknown as IncomingMessage
    return responder.requestListener(request, response) && answered
  }

  it('is bounded', async () => {
    const responder = httpResponder({ maxChallenges: 2 })
    await responder.present(httpChallenge('www.example.com', 'a'), context)
    await responder.present(httpChallenge('www.example.com', 'b'), context)
    await responder.present(httpChallenge('www.example.com', 'b'), context)
    const third = httpChallenge('www.example.com', 'c')
    const error: unknown = await responder.present(third, context).catch((reason: unknown) => reason)
    expect(error).toMatchObject({
      code: 'ERR_CHALLENGE_FAILED',
      phase: 'present',
      solver: 'http-01/http-responder',
      retryable: true,
    })
    expect(String(error)).toContain('2 challenges are open already')
    assertNoSecrets(error, [third.keyAuthorization])
    await responder.cleanUp(httpChallenge('www.example.com', 'a'), context)
    await responder.present(third, context)
  })

  it('is not changed by another account with the same token', async () => {
    const responder = httpResponder()
    await responder.present(challenge, context)
    const other = { ...challenge, keyAuthorization: `${token}.other-thumbprint` }
    await expect(responder.present(other, context)).rejects.toMatchObject({ code: 'ERR_CHALLENGE_FAILED' })
    await responder.cleanUp(other, context)
    expect(await responder.fetch(new Request(`http://www.example.com${path}`))?.text()).toBe(keyAuthorization)
  })

  it('serves one token for two names with two values', async () => {
    const responder = httpResponder()
    const other = { ...httpChallenge('b.example.com', token), keyAuthorization: `${token}.b` }
    await responder.present(challenge, context)
    await responder.present(other, context)
    expect(await responder.fetch(new Request(`http://b.example.com${path}`))?.text()).toBe(`${token}.b`)
    expect(await responder.fetch(new Request(`http://www.example.com${path}`))?.text()).toBe(keyAuthorization)
  })

  it('does not grow with 100,000 unknown tokens, which are refused as fast as known ones are served', async () => {
    const responder = httpResponder()
    for (let n = 0; n < 5_000; n += 1)
      await responder.present(httpChallenge('www.example.com', `open-${String(n)}`), context)
    const run = (url: (n: number) => string): number => {
      const start = performance.now()
      for (let n = 0; n < 100_000; n += 1) ask(responder, url(n))
      return performance.now() - start
    }
    const unknown = (n: number): string => `/.well-known/acme-challenge/unknown-${String(n)}`
    run(unknown)
    const unknownMs = run(unknown)
    const knownMs = run((n) => `/.well-known/acme-challenge/open-${String(n % 5_000)}`)
    // Both are one look-up; the factor only keeps a busy machine from failing the test.
    expect(unknownMs).toBeLessThan(10 * knownMs + 100)
    setFlagsFromString('--expose-gc')
    const collectGarbage = runInNewContext('gc') as () => void
    collectGarbage()
    const heapBefore = process.memoryUsage().heapUsed
    run((n) => unknown(n + 100_000))
    collectGarbage()
    expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(2 * 1_048_576)
    expect(ask(responder, '/.well-known/acme-challenge/unknown-1')).toBe(false)
    expect(ask(responder, '/.well-known/acme-challenge/open-1')).toBe(true)
  })

  it.each(['../x', '', 'a/b', 'a b', 'a\r\nb'])('refuses the token %j', async (bad) => {
    await expect(httpResponder().present(httpChallenge('www.example.com', bad), context)).rejects.toMatchObject({
      code: 'ERR_CHALLENGE_FAILED',
    })
  })
})

it.each([
  [{ maxChallenges: 0 }, '"maxChallenges" option'],
  [{ port: 80 }, 'unknown option "port"'],
  [{ zones: 'example.com' }, '"zones" option'],
])('options %j are refused', (options, message) => {
  expect(() => httpResponder(options as never)).toThrow(TypeError)
  expect(() => httpResponder(options as never)).toThrow(message)
})
