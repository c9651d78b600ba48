import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createServer as createTcpServer, type AddressInfo, type Server as TcpServer } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { ChallengeError } from '../../../src/errors.js'
import { createPreflight, type PreflightOptions, type PreflightReport } from '../../../src/solvers/preflight.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { assertNoSecrets, recordingLogger } from '../../../src/testing/recording-logger.js'
import { testAuthority } from '../../support/certificates.js'
import { withFreePorts } from '../../support/ports.js'
import { httpChallenge } from './challenges.js'

const challenge = httpChallenge()
const { path, token, keyAuthorization } = challenge
const right: RequestListener = (_, response) => response.end(keyAuthorization)

const cleanUps: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

async function listen<S extends Server | TcpServer>(server: S, port: number, host: string): Promise<S> {
  server.listen(port, host)
  await once(server, 'listening')
  cleanUps.push(async () => {
    if ('closeAllConnections' in server) server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return server
}

/** One server for each loopback address, all on one port, as the addresses of a name are. */
async function serve(listeners: Readonly<Record<string, RequestListener>>, secure?: RequestListener) {
  const authority = await testAuthority()
  const { certificatePem, privateKeyPem } = await authority.issue(['unrelated.example'])
  const requests: IncomingMessage[] = []
  const visited: (string | undefined)[] = []
  const recorded =
    (listener: RequestListener): RequestListener =>
    (request, response) => {
      requests.push(request)
      visited.push(request.socket.localAddress)
      listener(request, response)
    }
  const ports = await withFreePorts(2, async (httpPort = 0, httpsPort = 0) => {
    for (const [address, listener] of Object.entries(listeners))
      await listen(createServer(recorded(listener)), httpPort, address)
    if (secure !== undefined) {
      const server = createHttpsServer({ cert: certificatePem, key: privateKeyPem }, recorded(secure))
      await listen(server, httpsPort, '127.0.0.1')
    }
    return { httpPort, httpsPort }
  })
  return { ...ports, requests, visited, resolve: () => Promise.resolve(Object.keys(listeners)) }
}

async function check(options: PreflightOptions, of = challenge): Promise<PreflightReport> {
  return createPreflight(options).check(of, operationContext())
}

async function failure(work: Promise<unknown>): Promise<ChallengeError> {
  const error: unknown = await work.then(
    () => 'it succeeded',
    (reason: unknown) => reason,
  )
  expect(error).toMatchObject({
    name: 'ChallengeError',
    code: 'ERR_CHALLENGE_PREFLIGHT',
    phase: 'preflight',
    retryable: true,
  })
  assertNoSecrets(error, [keyAuthorization])
  return error as ChallengeError
}

/** What {@link serve} returns has more than the options. */
function optionsOf({ httpPort, httpsPort, resolve }: Awaited<ReturnType<typeof serve>>): PreflightOptions {
  return { httpPort, httpsPort, resolve }
}

describe('a challenge that is visible', () => {
  it('is seen through every address, IPv4 and IPv6, by name', async () => {
    const world = await serve({ '127.0.0.1': right, '127.0.0.2': right, '::1': right })
    const report = await check(optionsOf(world))
    expect(report).toEqual({
      status: 'ready',
      observations: ['127.0.0.1', '127.0.0.2', '::1'].map((address) => ({
        address,
        outcome: 'ready',
        detail: 'ready',
      })),
    })
    expect(world.requests.map(({ method, url, headers }) => [method, url, headers.host])).toEqual(
      Array.from({ length: 3 }, () => ['GET', path, 'www.example.com']),
    )
    expect(world.visited.sort()).toEqual(['127.0.0.1', '127.0.0.2', '::1'])
  })

  it('may have white space after it, and no more', async () => {
    const world = await serve({ '127.0.0.1': (_, response) => response.end(`${keyAuthorization} \r\n\t\n`) })
    expect((await check(optionsOf(world))).status).toBe('ready')
  })

  it.each([
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '[::1]'],
  ])('of an address needs no DNS (%s)', async (address, host) => {
    const own = httpChallenge(address)
    const world = await serve({ [address]: right })
    const resolve = (): never => {
      throw new Error('asked DNS')
    }
    expect((await check({ ...optionsOf(world), resolve }, own)).status).toBe('ready')
    expect(world.requests[0]?.headers.host).toBe(host)
  })
})

describe('redirects', () => {
  const to =
    (location: string | ((request: IncomingMessage) => string), status = 302): RequestListener =>
    (request, response) =>
      response.writeHead(status, { location: typeof location === 'string' ? location : location(request) }).end('moved')

  it.each([301, 302, 307, 308])('%i to https with any certificate is followed', async (status) => {
    const world = await serve({ '127.0.0.1': to(`https://www.example.com${path}`, status) }, right)
    const report = await check(optionsOf(world))
    expect(report).toMatchObject({
      status: 'ready',
      observations: [{ detail: 'ready (redirected to https://www.example.com)' }],
    })
    expect(world.requests[1]?.headers.host).toBe('www.example.com')
  })

  it.each([300, 303, 305, 399])('%i is not followed, as CAs do not', async (status) => {
    const world = await serve({ '127.0.0.1': to('/elsewhere', status) })
    expect((await failure(check(optionsOf(world)))).message).toContain(
      `status ${String(status)} is a redirect that CAs do not follow`,
    )
    expect(world.requests.length).toBe(1)
  })

  it('ten are followed, eleven are not', async () => {
    const chain = (length: number): RequestListener => {
      let count = 0
      return (request, response) => {
        if (count === length) right(request, response)
        else to(path)(request, response)
        count += 1
      }
    }
    const short = await serve({ '127.0.0.1': chain(10) })
    expect((await check(optionsOf(short))).status).toBe('ready')
    const long = await serve({ '127.0.0.1': chain(11) })
    expect((await failure(check(optionsOf(long)))).message).toContain('more than 10 redirects')
    expect(long.requests.length).toBe(11)
  })

  it('to the same name stay with the address that is looked through', async () => {
    const world = await serve({
      '127.0.0.1': to(`http://www.example.com${path}`),
      '127.0.0.2': to(`http://www.example.com${path}`),
    })
    await failure(check(optionsOf(world)))
    expect(world.visited.filter((address) => address === '127.0.0.1').length).toBe(11)
    expect(world.visited.filter((address) => address === '127.0.0.2').length).toBe(11)
  })

  it.each([
    ['another name', 'http://meta.example/latest/meta-data', 'its address is not a public one'],
    ['another name with the same path', `http://meta.example${path}`, 'its address is not a public one'],
    ['another path', '/latest/meta-data', 'another path at an address that is not a public one'],
    ['the same path with a query', `${path}?action=drop`, 'another path at an address that is not a public one'],
  ])(
    'to %s do not lead to a private address of the name itself, which others may have chosen',
    async (_, location, why) => {
      const world = await serve({
        '127.0.0.1': (request, response) => {
          if (request.url === path && request.headers.host === 'www.example.com') to(location)(request, response)
          else response.end('secret of the machine')
        },
      })
      const asked: string[] = []
      const resolve = async (hostname: string): Promise<string[]> => {
        asked.push(hostname)
        return ['127.0.0.1']
      }
      const { message } = await failure(check({ ...optionsOf(world), resolve }))
      expect(message).toContain(why)
      expect(message).not.toContain('secret of the machine')
      expect(world.requests.length).toBe(1)
      expect(asked).toEqual(['www.example.com', ...(location.startsWith('/') ? [] : ['meta.example'])])
    },
  )

  it.each(['169.254.7.7', '::ffff:169.254.7.7', '64:ff9b::a9fe:707', 'fe80::1'])(
    'or none, nothing is asked of the link-local address %s',
    async (address) => {
      const world = await serve({ '127.0.0.1': right })
      const { message } = await failure(
        check({ ...optionsOf(world), resolve: () => Promise.resolve(['127.0.0.1', address]) }),
      )
      expect(message).toContain(`${address}: a link-local address, which no CA can reach`)
    },
  )

  it.each([
    ['a loopback address', 'http://127.0.0.9/', []],
    ['a loopback address in disguise', 'http://0x7f.9/', []],
    ['a mapped address', 'http://[::ffff:169.254.169.254]/', []],
    ['the metadata service', 'http://169.254.169.254/latest/meta-data/', []],
    ['a private network', 'http://10.0.0.1/', []],
    ['a private address behind NAT64', 'http://[64:ff9b::7f00:9]/', []],
    ['a private address behind 6to4', 'http://[2002:7f00:9::1]/', []],
    ['a site-local address', 'http://[fec0::1]/', []],
    ['a unique local address', 'http://[fd00::1]/', []],
    ['a name of a private address', 'http://internal.example/', ['10.1.2.3']],
    ['a name of a public and a private address', 'http://rebound.example/', ['192.0.2.1', '127.0.0.9']],
    ['a name of a mapped address', 'https://mapped.example/', ['::ffff:127.0.0.9']],
  ])('to %s are not followed', async (_, location, addresses) => {
    const world = await serve({ '127.0.0.1': to(location) })
    const resolve = async (hostname: string): Promise<string[]> =>
      hostname === 'www.example.com' ? ['127.0.0.1'] : addresses
    const error = await failure(check({ ...optionsOf(world), resolve }))
    expect(error.message).toContain('is not followed: its address is not a public one')
    expect(world.requests.length).toBe(1)
  })

  it.each([
    ['ftp://www.example.com/', 'CAs follow http and https only'],
    ['javascript:alert(1)', 'CAs follow http and https only'],
    ['http://www.example.com:22/', 'CAs follow to ports 80 and 443 only'],
    ['http://', 'it is not a URL'],
    [`/${'x'.repeat(2_000)}`, 'longer than 2000 characters'],
    ['http://nowhere.example/', 'its name has no address'],
    ['http://broken.example/', 'its name could not be looked up (ESERVFAIL)'],
  ])('to %s are not followed', async (location, why) => {
    const world = await serve({ '127.0.0.1': to(location) })
    const resolve = async (hostname: string): Promise<string[]> => {
      if (hostname === 'broken.example') throw Object.assign(new Error('x'), { code: 'ESERVFAIL' })
      return hostname === 'www.example.com' ? ['127.0.0.1'] : []
    }
    expect((await failure(check({ ...optionsOf(world), resolve }))).message).toContain(why)
  })
})

describe('a challenge that is not visible', () => {
  it.each<[string, RequestListener, RegExp]>([
    [
      'a page that is missing',
      (_, response) => response.writeHead(404).end('<h1>Not "found"\r\n\u0007</h1>'),
      /status 404, a body that begins with "<h1>Not \\x22found\\x22\\x0d\\x0a\\x07<\/h1>"/,
    ],
    [
      'the right body with another status',
      (_, response) => response.writeHead(201).end(keyAuthorization),
      /status 201, a body that begins with "\[key authorization\]"/,
    ],
    ['a password', (_, response) => response.writeHead(401).end(), /status 401, an empty body/],
    ['an empty body', (_, response) => response.end(), /status 200, but an empty body/],
    [
      'a byte order mark',
      (_, response) => response.end(`\ufeff${keyAuthorization}`),
      /something before or after it \(a byte order mark\?\), a body that begins with "\\xef\\xbb\\xbf\[key authorization\]"/,
    ],
    ['a space before it', (_, response) => response.end(` ${keyAuthorization}`), /something before or after it/],
    [
      'a no-break space after it',
      (_, response) => response.end(Buffer.from(`${keyAuthorization}\u00a0`, 'latin1')),
      /something before or after it/,
    ],
    [
      'another account',
      (_, response) => response.end(`${token}.someone-else`),
      /the key authorization of another ACME account/,
    ],
    [
      'half of it',
      (_, response) => response.end(keyAuthorization.slice(0, -10)),
      /another ACME account, or a part of ours/,
    ],
    ['a long page', (_, response) => response.end('x'.repeat(100_000)), /begins with "x{64}\.\.\."/],
    [
      'a cut connection',
      (_, response) => void response.writeHead(200, { 'content-length': 50 }).write('x', () => response.destroy()),
      /ECONNRESET/,
    ],
    ['a reset connection', (request) => request.socket.resetAndDestroy(), /ECONNRESET/],
  ])('because of %s is told', async (_, listener, message) => {
    const world = await serve({ '127.0.0.1': listener })
    const error = await failure(check(optionsOf(world)))
    expect(error.message).toMatch(message)
    expect(error.message).toContain('http-01 pre-flight for www.example.com: 127.0.0.1: ')
    // eslint-disable-next-line no-control-regex -- nothing from outside may reach a terminal
    expect(error.message).not.toMatch(/[\u0000-\u001f\u007f-\uffff]/)
  })

  it('at one address of several fails, and names that one alone', async () => {
    const world = await serve({
      '127.0.0.1': right,
      '127.0.0.2': (_, response) => response.writeHead(404).end(),
      '::1': right,
    })
    const { message } = await failure(check(optionsOf(world)))
    expect(message).toContain('127.0.0.2: status 404')
    expect(message).not.toContain('127.0.0.1')
    expect(message).not.toContain('::1')
  })

  it('at an AAAA address alone fails too: that is where the CA goes first', async () => {
    const world = await serve({ '127.0.0.1': right })
    const { message } = await failure(check({ ...optionsOf(world), resolve: async () => ['127.0.0.1', '::1'] }))
    expect(message).toContain('::1: the connection was refused (ECONNREFUSED)')
  })

  it('because something else than HTTP answers is told', async () => {
    const server = await listen(
      createTcpServer((socket) =>
        socket
          .on('error', () => undefined)
          .resume()
          .end('SSH-2.0-x\r\n'),
      ),
      0,
      '127.0.0.1',
    )
    const { port } = server.address() as AddressInfo
    expect((await failure(check({ httpPort: port, resolve: async () => ['127.0.0.1'] }))).message).toContain(
      'what came back is not HTTP (HPE_',
    )
  })

  it.each<[string, RequestListener]>([
    ['nothing', () => undefined],
    ['a body without end', (_, response) => void response.writeHead(200).write('x')],
  ])('because of a server that sends %s is told after the time limit', async (_, listener) => {
    const clock = fakeClock()
    let arrived = (): void => undefined
    const arrival = new Promise<void>((resolve) => (arrived = resolve))
    const world = await serve({
      '127.0.0.1': (request, response) => {
        listener(request, response)
        arrived()
      },
    })
    const work = failure(createPreflight(optionsOf(world)).check(challenge, operationContext({ clock })))
    await arrival
    await clock.advance(9_999)
    expect(clock.sleeping).toBe(1)
    await clock.advance(1)
    expect((await work).message).toContain('127.0.0.1: no complete answer within 10000 ms')
    expect(clock.sleeping).toBe(0)
  })

  it('because the name has no address is told', async () => {
    expect((await failure(check({ resolve: async () => [] }))).message).toContain(
      'it has no address, neither A nor AAAA',
    )
  })

  it.each([
    [
      'fails',
      async () => Promise.reject(Object.assign(new Error('queryA ESERVFAIL www.example.com'), { code: 'ESERVFAIL' })),
      'could not be looked up: queryA ESERVFAIL',
    ],
    ['answers with a name', async () => ['evil.example'], 'something that is no IP address'],
    ['answers with nonsense', async () => 'x' as never, 'something that is no IP address'],
    [
      'answers with too much',
      async () => Array.from({ length: 33 }, (_, n) => `192.0.2.${String(n)}`),
      'it has 33 addresses, more than 32',
    ],
  ])('because DNS %s is told', async (_, resolve, message) => {
    expect((await failure(check({ resolve }))).message).toContain(message)
  })

  it('because DNS hangs is told after the time limit', async () => {
    const clock = fakeClock()
    const work = failure(
      createPreflight({ resolve: () => new Promise(() => undefined) }).check(challenge, operationContext({ clock })),
    )
    await clock.advance(10_000)
    expect((await work).message).toContain('DNS did not answer within 10000 ms')
  })
})

describe('an address that this machine has no route to', () => {
  // TCP has no route to the broadcast address, on every machine.
  const nowhere = '255.255.255.255'

  it('is noted, and does not fail what others show', async () => {
    const world = await serve({ '127.0.0.1': right })
    const report = await check({ ...optionsOf(world), resolve: async () => ['127.0.0.1', nowhere] })
    expect(report).toMatchObject({
      status: 'ready',
      observations: [{ outcome: 'ready' }, { address: nowhere, outcome: 'unreachable' }],
    })
  })

  it('is a failure when there is no other', async () => {
    const error = await failure(check({ resolve: async () => [nowhere] }))
    expect(error.message).toContain('this machine has no route to it')
    expect(error.message).toContain("{ onFailure: 'warn' }")
  })
})

describe("onFailure: 'warn'", () => {
  it('logs and reports instead of throwing', async () => {
    const world = await serve({ '127.0.0.1': (_, response) => response.writeHead(404).end(keyAuthorization) })
    const logger = recordingLogger()
    const report = await createPreflight({ ...optionsOf(world), onFailure: 'warn' }).check(
      challenge,
      operationContext({ logger }),
    )
    expect(report).toMatchObject({
      status: 'failed',
      observations: [{ address: '127.0.0.1', outcome: 'failed' }],
      error: { code: 'ERR_CHALLENGE_PREFLIGHT' },
    })
    expect(logger.entries.filter(({ level }) => level === 'warn')).toMatchObject([
      { message: 'pre-flight failed', fields: { identifier: 'www.example.com' } },
    ])
    assertNoSecrets(logger.entries, [keyAuthorization])
  })
})

it('an abort rejects with its reason as it is, also where a failure would only warn', async () => {
  for (const onFailure of ['stop', 'warn'] as const) {
    const controller = new AbortController()
    const reason = { stopped: 'by a test' }
    const world = await serve({
      '127.0.0.1': () => {
        controller.abort(reason)
      },
    })
    const work = createPreflight({ ...optionsOf(world), onFailure }).check(
      challenge,
      operationContext({ signal: controller.signal }),
    )
    await expect(work).rejects.toBe(reason)
    await expect(createPreflight().check(challenge, operationContext({ signal: controller.signal }))).rejects.toBe(
      reason,
    )
  }
})

it('other challenges, and everything when turned off, are skipped', async () => {
  const dns = { ...challenge, type: 'dns-01', recordName: '_acme-challenge.www.example.com', recordValue: 'x' } as const
  expect(await createPreflight().check(dns, operationContext())).toEqual({
    status: 'skipped',
    reason: 'challenge-type',
  })
  expect(await createPreflight(false).check(challenge, operationContext())).toEqual({
    status: 'skipped',
    reason: 'turned-off',
  })
})

describe('DNS', () => {
  /** A and AAAA, or a response code, by name. Nothing but questions of one name is understood. */
  async function dnsServer(
    zone: Readonly<Record<string, { a?: number[]; aaaa?: number[]; code?: number }>>,
  ): Promise<string> {
    const socket = createSocket('udp4')
    socket.on('message', (query, from) => {
      const labels: string[] = []
      let at = 12
      for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
        labels.push(query.toString('latin1', at + 1, at + 1 + length))
        at += length + 1
      }
      const question = query.subarray(12, at + 5)
      const type = query.readUInt16BE(at + 1)
      const { a, aaaa, code } = zone[labels.join('.').toLowerCase()] ?? { code: 3 }
      const data = code === undefined ? (type === 1 ? a : type === 28 ? aaaa : undefined) : undefined
      const header = Buffer.from([
        query[0] ?? 0,
        query[1] ?? 0,
        0x81,
        0x80 | (code ?? 0),
        0,
        1,
        0,
        data === undefined ? 0 : 1,
        0,
        0,
        0,
        0,
      ])
      const answer =
        data === undefined ? [] : [Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 60, 0, data.length, ...data])]
      socket.send(Buffer.concat([header, question, ...answer]), from.port, from.address)
    })
    socket.bind(0, '127.0.0.1')
    await once(socket, 'listening')
    cleanUps.push(async () => {
      socket.close()
      await once(socket, 'close')
    })
    return `127.0.0.1:${String(socket.address().port)}`
  }

  it('is asked for A and AAAA; one of them may be missing or fail', async () => {
    const server = await dnsServer({
      'www.example.com': { a: [127, 0, 0, 1], aaaa: [...Array.from({ length: 15 }, () => 0), 1] },
      'only4.example.com': { a: [127, 0, 0, 1] },
    })
    const { httpPort } = await serve({ '127.0.0.1': right, '::1': right })
    const both = await check({ httpPort, servers: [server] })
    expect(both).toMatchObject({ status: 'ready', observations: [{ address: '::1' }, { address: '127.0.0.1' }] })
    expect(await check({ httpPort, servers: [server] }, { ...httpChallenge('only4.example.com'), path })).toMatchObject(
      {
        observations: [{ address: '127.0.0.1' }],
      },
    )
  })

  it('without the name, or broken, is told', async () => {
    const server = await dnsServer({ 'broken.example.com': { code: 2 } })
    const missing = await failure(check({ servers: [server] }))
    expect(missing.message).toContain('it has no address, neither A nor AAAA')
    const broken = await failure(check({ servers: [server] }, httpChallenge('broken.example.com')))
    expect(broken.message).toMatch(/could not be looked up: query(A|Aaaa) ESERVFAIL/)
  })

  it('that does not answer is left when aborted', async () => {
    const socket = createSocket('udp4')
    socket.bind(0, '127.0.0.1')
    await once(socket, 'listening')
    const asked = once(socket, 'message')
    const controller = new AbortController()
    const reason = new Error('stopped')
    const work = createPreflight({ servers: [`127.0.0.1:${String(socket.address().port)}`] }).check(
      challenge,
      operationContext({ signal: controller.signal }),
    )
    const seen = expect(work).rejects.toBe(reason)
    await asked
    controller.abort(reason)
    await seen
    socket.close()
  })
})

it.each([
  [{ httpPort: 0 }, '"preflight.httpPort" option'],
  [{ httpsPort: 70_000 }, '"preflight.httpsPort" option'],
  [{ timeoutMs: -1 }, '"preflight.timeoutMs" option'],
  [{ onFailure: 'ignore' }, '"preflight.onFailure" option'],
  [{ servers: ['dns.example'] }, '"preflight.servers" option'],
  [{ servers: [] }, '"preflight.servers" option'],
  [{ servers: ['1.1.1.1'], resolve: async () => [] }, 'no effect together'],
  [{ resolve: 'x' }, '"preflight.resolve" option'],
  [{ onfailure: 'warn' }, 'unknown option "onfailure"'],
])('options %j are refused', (options, message) => {
  expect(() => createPreflight(options as PreflightOptions)).toThrow(TypeError)
  expect(() => createPreflight(options as PreflightOptions)).toThrow(message)
})
