import { execFile } from 'node:child_process'
import { getEventListeners, once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { http, HttpResponse } from 'msw'
import { setupServer } from 'msw/node'
import { afterEach, describe, expect, it } from 'vitest'
import type { HttpError } from '../../../src/errors.js'
import {
  createHttpClient,
  type HttpClient,
  type HttpClientOptions,
  type HttpStream,
} from '../../../src/internal/http.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { assertNoSecrets } from '../../../src/testing/recording-logger.js'
import { testAuthority } from '../../support/certificates.js'
import { freePort } from '../../support/ports.js'

const cleanUps: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

const clock = fakeClock()
const signal = new AbortController().signal

function client(options: Partial<HttpClientOptions> = {}): HttpClient {
  const made = createHttpClient({ clock, userAgent: 'evercert-test/1', allowLoopbackHttp: true, ...options })
  cleanUps.push(() => made.close())
  return made
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanUps.push(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return (server.address() as AddressInfo).port
}

async function serve(listener: RequestListener): Promise<string> {
  return `http://127.0.0.1:${String(await listen(createServer(listener)))}`
}

async function failure(work: Promise<unknown>): Promise<HttpError> {
  const error: unknown = await work.then(
    () => 'it succeeded',
    (reason: unknown) => reason,
  )
  expect(error).toMatchObject({ name: 'HttpError' })
  return error as HttpError
}

describe('an answer', () => {
  it('has status, lower-case headers and body, whatever the status', async () => {
    const seen: unknown[] = []
    const origin = await serve((request, response) => {
      seen.push(
        request.method,
        request.url,
        request.headers['user-agent'],
        request.headers['accept-encoding'],
        request.headers['content-type'],
      )
      request.setEncoding('utf8').on('data', (chunk) => seen.push(chunk))
      request.on('end', () => {
        response.writeHead(429, { 'Retry-After': '7', Link: ['<a>;rel="up"', '<b>;rel="alternate"'] }).end('slow down')
      })
    })
    const answer = await client().request({
      url: `${origin}/path?query`,
      method: 'POST',
      headers: { 'content-type': 'application/jose+json' },
      body: '{}',
      signal,
    })
    expect(seen).toEqual(['POST', '/path?query', 'evercert-test/1', 'identity', 'application/jose+json', '{}'])
    expect(answer).toMatchObject({ status: 429, url: `${origin}/path?query` })
    expect(answer.headers['retry-after']).toBe('7')
    expect(answer.headers['link']).toBe('<a>;rel="up", <b>;rel="alternate"')
    expect(answer.text()).toBe('slow down')
    expect(answer.body).toEqual(Buffer.from('slow down'))
  })

  it('may be a redirect, which is not followed', async () => {
    const paths: (string | undefined)[] = []
    const origin = await serve((request, response) => {
      paths.push(request.url)
      response.writeHead(307, { location: '/elsewhere' }).end()
    })
    const answer = await client().request({ url: `${origin}/`, method: 'GET', signal })
    expect([answer.status, answer.headers['location'], answer.body.length]).toEqual([307, '/elsewhere', 0])
    expect(paths).toEqual(['/'])
  })

  it.each(['GET', 'HEAD'] as const)('may be empty (%s)', async (method) => {
    const origin = await serve((_, response) =>
      response.writeHead(method === 'GET' ? 204 : 200, { 'replay-nonce': 'n' }).end(),
    )
    const answer = await client().request({ url: `${origin}/`, method, signal })
    expect([answer.body.length, answer.headers['replay-nonce']]).toEqual([0, 'n'])
  })
})

describe('connections', () => {
  it('are kept alive, and there are at most 16 of them', async () => {
    const sockets = new Set<Socket>()
    let open = 0
    let most = 0
    const origin = await serve((request, response) => {
      sockets.add(request.socket)
      most = Math.max(most, ++open)
      setImmediate(() => {
        open -= 1
        response.end('x')
      })
    })
    const one = client()
    for (let n = 0; n < 5; n += 1) await one.request({ url: origin, method: 'GET', signal })
    expect(sockets.size).toBe(1)
    await Promise.all(Array.from({ length: 100 }, () => one.request({ url: origin, method: 'GET', signal })))
    expect(most).toBeLessThanOrEqual(16)
    expect(sockets.size).toBeLessThanOrEqual(16)
    expect(sockets.size).toBeGreaterThan(1)
  })

  it('do not keep an idle process alive', async () => {
    const origin = await serve((_, response) => response.setHeader('keep-alive', 'timeout=600').end('x'))
    const source = (path: string): string =>
      JSON.stringify(fileURLToPath(new URL(`../../../src/${path}`, import.meta.url)))
    const script = `
      import { createHttpClient } from ${source('internal/http.ts')}
      import { systemClock } from ${source('core/clock.ts')}
      const client = createHttpClient({ clock: systemClock, userAgent: 'x', allowLoopbackHttp: true })
      const { status } = await client.request({ url: ${JSON.stringify(origin)}, method: 'GET', signal: new AbortController().signal })
      console.log(status)`
    const started = performance.now()
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '--eval', script],
      { timeout: 14_000 },
    )
    expect(stdout.trim()).toBe('200')
    // Not the 600 s of the server, nor undici's own keep-alive, nor our 30 s deadline.
    expect(performance.now() - started).toBeLessThan(14_000)
  })
})

describe('trust', () => {
  async function secure(): Promise<{ url: string; authority: string }> {
    const authority = await testAuthority()
    const { certificatePem, privateKeyPem } = await authority.issue(['localhost', '127.0.0.1'])
    const port = await listen(
      createHttpsServer({ cert: certificatePem, key: privateKeyPem }, (_, response) => response.end('safe')),
    )
    return { url: `https://127.0.0.1:${String(port)}/`, authority: authority.certificatePem }
  }

  it('comes from the ca option, for this client only', async () => {
    const { url, authority } = await secure()
    expect((await client({ ca: authority }).request({ url, method: 'GET', signal })).text()).toBe('safe')
    const error = await failure(client().request({ url, method: 'GET', signal }))
    expect(error.code).toBe('ERR_HTTP_NETWORK')
    expect(error.message).toMatch(
      /certificate of the server is not trusted; pass the root it ends in as the "ca" option \([A-Z_]+\)/,
    )
    const other = await testAuthority('another')
    expect(
      (await failure(client({ ca: other.certificatePem }).request({ url, method: 'GET', signal }))).message,
    ).toContain('not trusted')
  })

  it('includes the name', async () => {
    const authority = await testAuthority()
    const { certificatePem, privateKeyPem } = await authority.issue(['elsewhere.example'])
    const port = await listen(
      createHttpsServer({ cert: certificatePem, key: privateKeyPem }, (_, response) => response.end()),
    )
    const work = client({ ca: authority.certificatePem }).request({
      url: `https://127.0.0.1:${String(port)}/`,
      method: 'GET',
      signal,
    })
    expect((await failure(work)).message).toContain('for another name (ERR_TLS_CERT_ALTNAME_INVALID)')
  })

  it('is for the name in "servername", and names the setting a person changes', async () => {
    const authority = await testAuthority()
    const { certificatePem, privateKeyPem } = await authority.issue(['kubernetes.default.svc'])
    const port = await listen(
      createHttpsServer({ cert: certificatePem, key: privateKeyPem }, (_, response) => response.end('safe')),
    )
    const request = { url: `https://127.0.0.1:${String(port)}/`, method: 'GET', signal } as const
    const named = client({ ca: authority.certificatePem, servername: 'kubernetes.default.svc' })
    expect((await named.request(request)).text()).toBe('safe')
    const error = await failure(client({ caSetting: '"ca-data" of the file' }).request(request))
    expect(error.message).toContain('pass the root it ends in as "ca-data" of the file')
  })

  it('goes both ways with a client certificate', async () => {
    const authority = await testAuthority()
    const server = await authority.issue(['127.0.0.1'])
    const own = await authority.issue(['somebody'], 'clientAuth')
    const port = await listen(
      createHttpsServer(
        {
          cert: server.certificatePem,
          key: server.privateKeyPem,
          ca: authority.certificatePem,
          requestCert: true,
          rejectUnauthorized: true,
        },
        (incoming, response) => response.end((incoming.socket as TLSSocket).getPeerCertificate().subject.CN),
      ),
    )
    const request = { url: `https://127.0.0.1:${String(port)}/`, method: 'GET', signal } as const
    const clientCertificate = { certificatePem: own.certificatePem, privateKeyPem: own.privateKeyPem }
    const known = client({ ca: authority.certificatePem, clientCertificate })
    expect((await known.request(request)).text()).toBe('somebody')
    const unknown = await failure(client({ ca: authority.certificatePem }).request(request))
    expect(unknown.code).toBe('ERR_HTTP_NETWORK')
    for (const unusable of ['garbage', server.privateKeyPem]) {
      const wrong = client({
        ca: authority.certificatePem,
        clientCertificate: { ...clientCertificate, privateKeyPem: unusable },
      })
      const error = await failure(wrong.request(request))
      expect(error.message).toContain('client certificate and its key are no pair')
      assertNoSecrets(error, [unusable])
    }
  })

  it.each([
    'http://acme.example/',
    'http://127.0.0.1.evil.example/',
    'ftp://127.0.0.1/',
    'https://user:secret@acme.example/',
    'data:text/plain,x',
    'x',
  ])('refuses %s without a request', async (url) => {
    const calls: string[] = []
    const one = client({
      fetch: async (input) => {
        calls.push(JSON.stringify(input))
        return new Response()
      },
    })
    const error = await failure(one.request({ url, method: 'GET', signal }))
    expect(error).toMatchObject({ code: 'ERR_HTTP_NETWORK', retryable: false })
    assertNoSecrets(error, ['secret'])
    expect(calls).toEqual([])
  })

  it('refuses plain http to a loopback address unless that is allowed', async () => {
    const error = await failure(
      client({ allowLoopbackHttp: false }).request({ url: 'http://127.0.0.1:1/', method: 'GET', signal }),
    )
    expect(error.message).toContain('only https')
  })
})

describe('what goes wrong', () => {
  it('a refused connection is told with its reason, and without the query', async () => {
    const url = `http://127.0.0.1:${String(await freePort())}/path?token=secret`
    const error = await failure(
      client().request({ url, method: 'POST', headers: { authorization: 'secret' }, body: 'secret', signal }),
    )
    expect(error).toMatchObject({ code: 'ERR_HTTP_NETWORK', method: 'POST', url: url.split('?')[0], retryable: true })
    expect(error.message).toContain(
      'the connection was refused; is the server running, and is the port right? (ECONNREFUSED)',
    )
    expect(error.cause).toMatchObject({ code: 'ECONNREFUSED' })
    assertNoSecrets(error, ['secret'])
  })

  it('a connection that is cut in the middle of an answer is a network error', async () => {
    const origin = await serve((_, response) => {
      response.writeHead(200, { 'content-length': 100 })
      response.write('half', () => response.destroy())
    })
    expect((await failure(client().request({ url: origin, method: 'GET', signal }))).code).toBe('ERR_HTTP_NETWORK')
  })

  it('an answer that is no HTTP is a network error that does not show it', async () => {
    const server = createTcpServer((socket) =>
      socket
        .on('error', () => undefined)
        .resume()
        .end('canary-secret\r\n\r\n'),
    ).listen(0, '127.0.0.1')
    await once(server, 'listening')
    cleanUps.push(() => once(server.close(), 'close'))
    const url = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/`
    const error = await failure(client().request({ url, method: 'GET', signal }))
    expect(error.code).toBe('ERR_HTTP_NETWORK')
    assertNoSecrets(error, ['canary-secret'])
  })

  it('what an injected fetch hangs on its errors is not kept', async () => {
    const one = client({
      fetch: async () => {
        throw Object.assign(
          new TypeError('cannot send canary-secret', {
            cause: Object.assign(new Error('canary-secret'), { code: 'ENOTFOUND' }),
          }),
          {
            config: { headers: { authorization: 'canary-secret' }, data: 'canary-secret' },
          },
        )
      },
    })
    const error = await failure(one.request({ url: 'https://acme.example/', method: 'GET', signal }))
    expect(error.message).toContain('the host name is not known (ENOTFOUND)')
    assertNoSecrets(error, ['canary-secret'])
  })

  it.each([
    [
      'declared',
      (size: number): RequestListener =>
        (_, response) =>
          response.writeHead(200, { 'content-length': size }).end(Buffer.alloc(size)),
    ],
    [
      'chunked',
      (size: number): RequestListener =>
        (_, response) => {
          response.write(Buffer.alloc(size - 1))
          response.end('x')
        },
    ],
    [
      'compressed, though nobody asked for that',
      (size: number): RequestListener =>
        (_, response) => {
          response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(size)))
        },
    ],
  ])('a body up to the limit is read, one byte more is refused (%s)', async (_, listener) => {
    const limit = 100_000
    const right = await client({ maxBodyBytes: limit }).request({
      url: await serve(listener(limit)),
      method: 'GET',
      signal,
    })
    expect(right.body.length).toBe(limit)
    const error = await failure(
      client({ maxBodyBytes: limit }).request({ url: await serve(listener(limit + 1)), method: 'GET', signal }),
    )
    expect(error).toMatchObject({ code: 'ERR_HTTP_BODY', retryable: true })
    expect(error.message).toContain('longer than 100000 bytes')
  })

  it('an endless body ends at the limit of the request, and the connection with it', async () => {
    let closed: Promise<unknown> | undefined
    let sent = 0
    const origin = await serve((request, response) => {
      closed = new Promise((resolve) => request.socket.once('close', resolve))
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536))) sent += 65_536
        sent += 65_536
        response.once('drain', more)
      }
      more()
    })
    const error = await failure(client().request({ url: origin, method: 'GET', signal, maxBodyBytes: 1_000 }))
    expect(error.code).toBe('ERR_HTTP_BODY')
    await closed
    expect(sent).toBeLessThan(64 * 1_048_576)
  })

  it.each<[string, RequestListener]>([
    ['nothing', () => undefined],
    ['headers and then nothing', (_, response) => response.writeHead(200).flushHeaders()],
    ['half a body and then nothing', (_, response) => void response.write('half')],
  ])('a server that sends %s is left after the time limit', async (_, listener) => {
    const time = fakeClock()
    let arrived = (): void => undefined
    const arrival = new Promise<void>((resolve) => (arrived = resolve))
    let closed: Promise<unknown> | undefined
    const origin = await serve((request, response) => {
      closed = new Promise((resolve) => request.socket.once('close', resolve))
      listener(request, response)
      arrived()
    })
    const work = failure(
      client({ clock: time, timeoutMs: 5_000 }).request({ url: `${origin}/slow`, method: 'GET', signal }),
    )
    await arrival
    await time.advance(4_999)
    expect(time.sleeping).toBe(1)
    await time.advance(1)
    const error = await work
    expect(error).toMatchObject({ code: 'ERR_HTTP_TIMEOUT', retryable: true })
    expect(error.message).toBe(`GET ${origin}/slow: no complete answer within 5000 ms`)
    await closed
    expect(time.sleeping).toBe(0)
  })

  it('a request can have a time limit of its own', async () => {
    const time = fakeClock()
    const work = failure(
      client({ clock: time, fetch: () => new Promise(() => undefined) }).request({
        url: 'https://acme.example/',
        method: 'GET',
        signal,
        timeoutMs: 10,
      }),
    )
    await time.advance(10)
    expect((await work).code).toBe('ERR_HTTP_TIMEOUT')
  })

  it.each(['before', 'while waiting', 'in the middle of the body'])(
    'an abort %s rejects with its reason as it is',
    async (moment) => {
      const controller = new AbortController()
      const reason = { stopped: 'by a test' }
      let arrived = (): void => undefined
      const arrival = new Promise<void>((resolve) => (arrived = resolve))
      const origin = await serve((_, response) => {
        if (moment === 'in the middle of the body') response.write('half')
        arrived()
      })
      if (moment === 'before') controller.abort(reason)
      const work = client().request({ url: origin, method: 'GET', signal: controller.signal })
      const seen = expect(work).rejects.toBe(reason)
      if (moment !== 'before') {
        await arrival
        controller.abort(reason)
      }
      await seen
    },
  )

  it('leaves nothing behind: no listener on a signal that lives long, no sleeper', async () => {
    const time = fakeClock()
    const origin = await serve((_, response) => response.end('x'))
    const controller = new AbortController()
    let listeners = 0
    const { addEventListener, removeEventListener } = controller.signal
    controller.signal.addEventListener = function (...all: Parameters<typeof addEventListener>) {
      listeners += 1
      addEventListener.apply(this, all)
    }
    controller.signal.removeEventListener = function (...all: Parameters<typeof removeEventListener>) {
      listeners -= 1
      removeEventListener.apply(this, all)
    }
    const one = client({ clock: time })
    for (let n = 0; n < 20; n += 1) await one.request({ url: origin, method: 'GET', signal: controller.signal })
    expect([listeners, time.sleeping]).toEqual([0, 0])
  })
})

describe('an injected fetch', () => {
  const server = setupServer()
  afterEach(() => {
    server.close()
  })

  it('can be the global one, which msw intercepts', async () => {
    server.use(
      http.post('https://acme.example/new-order', async ({ request }) =>
        HttpResponse.json(
          { received: await request.text(), agent: request.headers.get('user-agent') },
          { status: 201, headers: { location: '/order/1' } },
        ),
      ),
    )
    server.listen({ onUnhandledRequest: 'error' })
    const answer = await client({ fetch: globalThis.fetch }).request({
      url: 'https://acme.example/new-order',
      method: 'POST',
      body: 'signed',
      signal,
    })
    expect([answer.status, answer.headers['location'], JSON.parse(answer.text())]).toEqual([
      201,
      '/order/1',
      { received: 'signed', agent: 'evercert-test/1' },
    ])
  })
})

it.each([
  [{ userAgent: '' }, '"userAgent" option'],
  [{ userAgent: 'a\r\nb: c' }, '"userAgent" option'],
  [{ timeoutMs: 0 }, '"timeoutMs" option'],
  [{ maxBodyBytes: 1.5 }, '"maxBodyBytes" option'],
  [{ ca: 'garbage' }, '"ca" option must be PEM'],
  [{ ca: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' }, '"ca" option must be PEM'],
  [{ ca: 'x', fetch: globalThis.fetch }, 'only one of them'],
  [{ allowLoopBackHttp: true }, 'unknown option "allowLoopBackHttp"'],
])('options %j are refused', (options, message) => {
  const make = (): unknown => createHttpClient({ clock, userAgent: 'x', ...options })
  expect(make).toThrow(TypeError)
  expect(make).toThrow(message)
})

describe('a stream', () => {
  const read = async ({ chunks }: HttpStream): Promise<void> => {
    for await (const chunk of chunks) expect(chunk.length).toBeGreaterThan(0)
  }

  it('is read while it comes, and ends with the answer', async () => {
    let more = (): void => undefined
    const origin = await serve((_, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.write('one')
      more = () => response.end('two')
    })
    const stream = await client().stream({ url: origin, method: 'GET', signal })
    expect(stream).toMatchObject({ status: 200, headers: { 'content-type': 'text/event-stream' } })
    const chunks: string[] = []
    for await (const chunk of stream.chunks) {
      chunks.push(Buffer.from(chunk).toString())
      more()
    }
    expect(chunks.join('')).toBe('onetwo')
  })

  it('ends with the signal, whose reason passes through, also long after the headers', async () => {
    const origin = await serve((request, response) => {
      response.writeHead(200).write('one')
      request.socket.on('close', () => response.destroy())
    })
    const controller = new AbortController()
    const reason = new Error('stop')
    const stream = await client().stream({ url: origin, method: 'GET', signal: controller.signal })
    const reading = (async () => {
      for await (const chunk of stream.chunks) if (chunk.length > 0) controller.abort(reason)
    })()
    await expect(reading).rejects.toBe(reason)
  })

  it('closes its connection when nobody wants it', async () => {
    let closed: Promise<unknown> = Promise.resolve()
    const origin = await serve((request, response) => {
      closed = once(request.socket, 'close')
      response.writeHead(200).write('one')
    })
    const stream = await client().stream({ url: origin, method: 'GET', signal })
    stream.cancel()
    await closed
  })

  it('whose headers do not come is a time-out; after them there is none', async () => {
    const time = fakeClock()
    const silent = await serve(() => undefined)
    const late = client({ clock: time }).stream({ url: silent, method: 'GET', signal, timeoutMs: 1_000 })
    const failed = failure(late)
    await time.advance(1_000)
    expect(await failed).toMatchObject({ code: 'ERR_HTTP_TIMEOUT' })

    let more = (): void => undefined
    const origin = await serve((_, response) => {
      response.writeHead(200).write('one')
      more = () => response.end('two')
    })
    const stream = await client({ clock: time }).stream({ url: origin, method: 'GET', signal, timeoutMs: 1_000 })
    await time.advance(3_600_000)
    const chunks: string[] = []
    for await (const chunk of stream.chunks) {
      chunks.push(Buffer.from(chunk).toString())
      more()
    }
    expect(chunks.join('')).toBe('onetwo')
  })

  it.each<[string, RequestListener, (stream: Promise<HttpStream>, controller: AbortController) => Promise<unknown>]>([
    ['is read to its end', (_, response) => response.end('one'), async (stream) => read(await stream)],
    ['has no body', (_, response) => response.writeHead(204).end(), (stream) => stream],
    ['has no body, and is read', (_, response) => response.writeHead(204).end(), async (stream) => read(await stream)],
    [
      'is left',
      (_, response) => response.write('one'),
      async (stream) => {
        for await (const chunk of (await stream).chunks) if (chunk.length > 0) break
      },
    ],
    [
      'is cancelled',
      (_, response) => response.write('one'),
      async (stream) => {
        ;(await stream).cancel()
      },
    ],
    [
      'is cut off',
      (_, response) => {
        response.write('one')
        setImmediate(() => response.destroy())
      },
      async (stream) => read(await stream),
    ],
    ['does not begin', (_, response) => response.destroy(), (stream) => stream],
    [
      'is aborted',
      (_, response) => response.write('one'),
      async (stream, controller) => {
        const reading = read(await stream)
        controller.abort()
        await reading
      },
    ],
    [
      'is aborted before it is read',
      (_, response) => response.write('one'),
      async (stream, controller) => {
        await stream
        controller.abort()
      },
    ],
    [
      'is aborted before it begins',
      () => undefined,
      async (stream, controller) => {
        setImmediate(() => {
          controller.abort()
        })
        await stream
      },
    ],
  ])('that %s leaves nothing on the signal', async (_, listener, use) => {
    const controller = new AbortController()
    const origin = await serve(listener)
    const stream = client().stream({ url: origin, method: 'GET', signal: controller.signal })
    expect(getEventListeners(controller.signal, 'abort').length).toBeGreaterThan(0)
    await use(stream, controller).catch(() => undefined)
    expect(getEventListeners(controller.signal, 'abort')).toEqual([])
  })

  it('that is cut off is an error of the network, without the request on it', async () => {
    const origin = await serve((_, response) => {
      response.writeHead(200).write('one')
      setImmediate(() => response.destroy())
    })
    const headers = { authorization: 'secret-header' }
    const stream = await client().stream({ url: origin, method: 'GET', signal, headers })
    const error = await failure(
      (async () => {
        for await (const chunk of stream.chunks) expect(chunk.length).toBeGreaterThan(0)
      })(),
    )
    expect(error).toMatchObject({ code: 'ERR_HTTP_NETWORK' })
    assertNoSecrets(error, ['secret-header'])
  })
})

describe('plain http', () => {
  const asked: string[] = []
  const fetch = (async (url: string) => {
    asked.push(url)
    return new Response('fine')
  }) as typeof globalThis.fetch

  it.each<[string, Partial<HttpClientOptions>, boolean]>([
    ['http://10.0.0.1/', { allowHttp: true }, true],
    ['http://10.0.0.1/', { allowHttp: false }, false],
    ['http://127.0.0.1/', { allowHttp: false, allowLoopbackHttp: true }, true],
    ['http://user:password@10.0.0.1/', { allowHttp: true }, false],
    ['ftp://10.0.0.1/', { allowHttp: true }, false],
  ])('to %s with %j', async (url, options, sent) => {
    const work = client({ fetch, ...options }).request({ url, method: 'GET', signal })
    if (sent) expect((await work).text()).toBe('fine')
    else expect(await failure(work)).toMatchObject({ code: 'ERR_HTTP_NETWORK', retryable: false })
    expect(asked.splice(0)).toEqual(sent ? [url] : [])
  })
})
