import { once } from 'node:events'
import { createServer, request as httpRequest, type IncomingMessage, type Server } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import {
  challengeGateway,
  type ChallengeGateway,
  type ChallengeGatewayOptions,
  type ChallengeSource,
} from '../../../../src/solvers/challenge-gateway/index.js'
import { httpResponder } from '../../../../src/solvers/http-responder.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { recordingLogger } from '../../../../src/testing/recording-logger.js'
import { httpChallenge, thumbprint } from '../challenges.js'

const context = operationContext()
const closing: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function listening(server: Server, host = '127.0.0.1'): Promise<number> {
  await once(server.listen(0, host), 'listening')
  closing.push(() => {
    server.closeAllConnections()
    return once(server.close(), 'close')
  })
  return (server.address() as AddressInfo).port
}

function gatewayOf(options: ChallengeGatewayOptions): ChallengeGateway {
  const gateway = challengeGateway(options)
  closing.push(() => gateway.close())
  return gateway
}

/** A balancer: a responder, its gateway, both servers. */
async function balancer(peers: readonly string[] = [], more: Partial<ChallengeGatewayOptions> = {}) {
  const responder = httpResponder()
  const gateway = gatewayOf({ challenges: responder, peers, ...more })
  const port = await listening(gateway.createServer())
  const peerPort = await listening(gateway.createPeerServer())
  return { responder, gateway, port, peer: `127.0.0.1:${String(peerPort)}` }
}

interface Seen {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}

async function ask(port: number, path: string, host = 'www.example.com', method = 'GET'): Promise<Seen> {
  const sent = httpRequest({ port, host: '127.0.0.1', path, method, headers: { host }, agent: false }).end()
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() }
}

const challenge = httpChallenge()

describe('a gateway', () => {
  it('serves its own challenge, and 404 for what it does not know', async () => {
    const { responder, port } = await balancer()
    await responder.present(challenge, context)
    const seen = await ask(port, challenge.path)
    expect([seen.status, seen.body]).toEqual([200, challenge.keyAuthorization])
    expect(seen.headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
    })
    expect((await ask(port, '/.well-known/acme-challenge/unknown')).status).toBe(404)
    expect((await ask(port, challenge.path, 'other.example.com')).status).toBe(404)
    expect((await ask(port, challenge.path, 'www.example.com', 'POST')).headers).toMatchObject({ allow: 'GET, HEAD' })
    const head = await ask(port, challenge.path, 'www.example.com', 'HEAD')
    expect([head.status, head.headers['content-length'], head.body]).toEqual([
      200,
      String(challenge.keyAuthorization.length),
      '',
    ])
  })

  it('serves the challenge of any of its peers', async () => {
    const [two, three] = [await balancer(), await balancer()]
    const one = await balancer([two.peer, three.peer])
    for (const { responder } of [two, three]) {
      await responder.present(challenge, context)
      expect((await ask(one.port, challenge.path)).body).toBe(challenge.keyAuthorization)
      await responder.cleanUp(challenge, context)
      expect((await ask(one.port, challenge.path)).status).toBe(404)
    }
  })

  it('redirects everything else, or leaves it to the caller', async () => {
    const { port } = await balancer()
    const seen = await ask(port, '/a?b=c', 'www.example.com:80')
    expect([seen.status, seen.headers['location']]).toEqual([301, 'https://www.example.com/a?b=c'])
    const leaving = await balancer([], { elsewhere: 'leave' })
    expect((await ask(leaving.port, '/')).status).toBe(404)
    const own = await listening(
      createServer((request, response) => {
        leaving.gateway.requestListener(request, response, () => {
          response.writeHead(418).end()
        })
      }),
    )
    expect((await ask(own, '/')).status).toBe(418)
  })

  it('answers in the manner of fetch', async () => {
    const { responder, gateway } = await balancer([], { elsewhere: 'leave' })
    await responder.present(challenge, context)
    const url = `http://www.example.com${challenge.path}`
    expect(await (await gateway.fetch(new Request(url)))?.text()).toBe(challenge.keyAuthorization)
    expect((await gateway.fetch(new Request(`${url}x`)))?.status).toBe(404)
    expect(await gateway.fetch(new Request('http://www.example.com/'))).toBeUndefined()
    expect(await (await gateway.fetch(new Request(url, { method: 'HEAD' })))?.text()).toBe('')
  })

  it('serves accounts of the list only, wherever their challenges are', async () => {
    const logger = recordingLogger()
    const foreign = { ...challenge, token: 'foreign', keyAuthorization: `foreign.${'A'.repeat(43)}` }
    const two = await balancer()
    const one = await balancer([two.peer], { accountThumbprints: [thumbprint], logger })
    for (const { responder } of [one, two]) {
      await responder.present(challenge, context)
      await responder.present(foreign, context)
      expect((await ask(one.port, challenge.path)).status).toBe(200)
      expect((await ask(one.port, '/.well-known/acme-challenge/foreign')).status).toBe(404)
      await responder.cleanUp(challenge, context)
      await responder.cleanUp(foreign, context)
    }
    expect(logger.entries.map(({ message }) => message)).toContain('challenge of a foreign account is not served')
  })

  it('asks its peers when its own challenges hang', async () => {
    const two = await balancer()
    await two.responder.present(challenge, context)
    const hanging: ChallengeSource = {
      findChallenge: () => new Promise(() => undefined),
      listChallenges: () => Promise.resolve([]),
    }
    const port = await listening(gatewayOf({ challenges: hanging, peers: [two.peer] }).createServer())
    expect((await ask(port, challenge.path)).body).toBe(challenge.keyAuthorization)
  })

  it('logs what goes wrong with every request once in a while', async () => {
    const logger = recordingLogger()
    const broken: ChallengeSource = {
      findChallenge: () => Promise.reject(new Error('EIO')),
      listChallenges: () => Promise.resolve([]),
    }
    const port = await listening(gatewayOf({ challenges: broken, logger }).createServer())
    for (let count = 0; count < 5; count += 1) await ask(port, challenge.path)
    const foreign = await balancer([], { accountThumbprints: ['A'.repeat(43)], logger })
    await foreign.responder.present(challenge, context)
    for (let count = 0; count < 5; count += 1) expect((await ask(foreign.port, challenge.path)).status).toBe(404)
    expect(logger.entries.map(({ message }) => message)).toEqual([
      'challenges of this machine cannot be read',
      'challenge of a foreign account is not served',
    ])
  })

  it('does not fail when its own challenges cannot be read', async () => {
    const logger = recordingLogger()
    const two = await balancer()
    await two.responder.present(challenge, context)
    const broken: ChallengeSource = {
      findChallenge: () => Promise.reject(new Error('disk')),
      listChallenges: () => Promise.reject(new Error('disk')),
    }
    const gateway = gatewayOf({ challenges: broken, peers: [two.peer], logger })
    expect((await ask(await listening(gateway.createServer()), challenge.path)).status).toBe(200)
    expect((await ask(await listening(gateway.createPeerServer()), '/open-challenges')).status).toBe(500)
    expect(logger.entries.map(({ message }) => message)).toEqual([
      'challenges of this machine cannot be read',
      'request failed',
    ])
  })
})

describe('the port for peers', () => {
  it('never asks anybody: gateways that name each other, and themselves, go in no circle', async () => {
    const asked: string[] = []
    const gateways: Awaited<ReturnType<typeof balancer>>[] = []
    // Ports are known only once they listen, so the address is looked up when it is asked.
    const through: typeof globalThis.fetch = (input, init) => {
      const url = new URL(input)
      asked.push(url.pathname)
      const to = gateways[Number(url.port)]
      return globalThis.fetch(`http://${to?.peer ?? ''}${url.pathname}`, init)
    }
    const peers = ['127.0.0.1:1', '127.0.0.1:2', '[::1]:3']
    for (let index = 0; index < 3; index += 1) {
      gateways.push(await balancer(peers, { fetch: through }))
    }
    gateways.unshift(gateways[0]!)
    expect((await ask(gateways[1]!.port, '/.well-known/acme-challenge/unknown')).status).toBe(404)
    expect(asked).toEqual(['/open-challenges', '/open-challenges', '/open-challenges'])
  })

  it('reads its challenges once for all who ask meanwhile', async () => {
    let reads = 0
    const slow: ChallengeSource = {
      findChallenge: () => Promise.resolve(undefined),
      async listChallenges() {
        reads += 1
        await new Promise((resolve) => setTimeout(resolve, 50))
        return []
      },
    }
    const port = await listening(gatewayOf({ challenges: slow }).createPeerServer())
    const lists = await Promise.all(Array.from({ length: 20 }, () => ask(port, '/open-challenges')))
    expect(lists.map(({ body }) => body)).toEqual(lists.map(() => '{"challenges":[]}'))
    expect(reads).toBeLessThan(6)
  })

  it('serves local challenges, for a person with curl, and nothing else', async () => {
    const { responder, peer } = await balancer()
    const port = Number(peer.split(':')[1])
    await responder.present(challenge, context)
    expect((await ask(port, challenge.path)).body).toBe(challenge.keyAuthorization)
    expect((await ask(port, '/.well-known/acme-challenge/unknown')).status).toBe(404)
    expect((await ask(port, '/')).status).toBe(404)
    expect((await ask(port, '/open-challenges', 'any', 'POST')).status).toBe(405)
    expect(JSON.parse((await ask(port, '/open-challenges', 'any')).body)).toEqual({
      challenges: [{ host: 'www.example.com', token: challenge.token, keyAuthorization: challenge.keyAuthorization }],
    })
  })
})

describe('peers that are not well', () => {
  it('are dead, garbled, failing or lying, and the sound one is heard', async () => {
    const answering = (status: number, body: string): Promise<number> =>
      listening(createServer((_request, response) => response.writeHead(status).end(body)))
    const lie = { challenges: [{ token: challenge.token, keyAuthorization: `${challenge.token}.${'A'.repeat(43)}` }] }
    const ports = [
      await answering(200, '<html>'),
      await answering(500, ''),
      await answering(302, ''),
      await answering(200, JSON.stringify(lie)),
      await answering(200, 'x'.repeat(2_000_000)),
    ]
    const silent = await listening(createServer(() => undefined))
    const gone = await listening(createServer())
    await closing.pop()?.()
    const sound = await balancer()
    await sound.responder.present(challenge, context)
    const all = [...ports, silent, gone].map((port) => `127.0.0.1:${String(port)}`)
    const { port } = await balancer([...all, sound.peer], { accountThumbprints: [thumbprint] })
    expect((await ask(port, challenge.path)).body).toBe(challenge.keyAuthorization)
  })

  it('are never sent what the client sent', async () => {
    const heads: string[] = []
    const peer = await listening(
      createServer((request, response) => {
        heads.push(JSON.stringify([request.method, request.url, request.headers]))
        response.end('{"challenges":[]}')
      }),
    )
    const { port } = await balancer([`127.0.0.1:${String(peer)}`])
    for (const path of ['/.well-known/acme-challenge/secret-token', '/.well-known/acme-challenge/a.b', '/', '/x?y']) {
      await ask(port, path, 'secret-host.example')
    }
    expect(heads).toHaveLength(1)
    expect(heads[0]).toContain('/open-challenges')
    expect(heads[0]).not.toMatch(/secret/)
  })
})

describe('the server', () => {
  const opened: Socket[] = []
  afterEach(() => {
    for (const socket of opened.splice(0)) socket.destroy()
  })

  it('makes room for a new connection by closing the oldest', async () => {
    const responder = httpResponder()
    await responder.present(challenge, context)
    const gateway = gatewayOf({ challenges: responder, maxConnections: 20 })
    const port = await listening(gateway.createServer())
    const held: Socket[] = []
    for (let index = 0; index < 40; index += 1) {
      const socket = connect(port, '127.0.0.1')
      socket.on('error', () => undefined)
      await once(socket, 'connect')
      socket.write('GET / HT')
      opened.push(socket)
      held.push(socket)
    }
    expect((await ask(port, challenge.path)).status).toBe(200)
    await Promise.all(held.slice(0, 20).map(async (socket) => socket.closed || once(socket, 'close')))
  })

  it('takes no endless row of requests on one connection', async () => {
    const looked = new Set<string>()
    const hanging: ChallengeSource = {
      findChallenge(_host, token) {
        looked.add(token)
        return new Promise(() => undefined)
      },
      listChallenges: () => Promise.resolve([]),
    }
    const port = await listening(gatewayOf({ challenges: hanging }).createServer())
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => undefined)
    const closed = once(socket, 'close')
    for (let count = 0; count < 100; count += 1) {
      socket.write(`GET /.well-known/acme-challenge/t${String(count)} HTTP/1.1\r\nHost: www.example.com\r\n\r\n`)
    }
    await closed
    expect(looked.size).toBe(10)
  })

  it('refuses large headers, and does not keep a connection that sends a body', async () => {
    const { port } = await balancer()
    const raw = async (text: string): Promise<string> => {
      const socket = connect(port, '127.0.0.1')
      opened.push(socket)
      socket.write(text)
      const chunks: Buffer[] = []
      for await (const chunk of socket) chunks.push(chunk as Buffer)
      return Buffer.concat(chunks).toString()
    }
    expect(await raw(`GET / HTTP/1.1\r\nHost: a.example\r\nX: ${'x'.repeat(9_000)}\r\n\r\n`)).toMatch(/^HTTP\/1.1 431/)
    const body = await raw('POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\n')
    expect(body).toMatch(/^HTTP\/1.1 308[^]*connection: close/i)
  })
})

it.each([
  [{}, /challenges/],
  [{ challenges: {} }, /"challenges.findChallenge"/],
  [{ peers: ['peer.example:80'] }, /"peers" option must hold IP addresses with ports/],
  [{ peers: ['192.0.2.1'] }, /"peers"/],
  [{ peers: ['192.0.2.1:0'] }, /"peers"/],
  [{ peers: ['http://192.0.2.1:80'] }, /"peers"/],
  [{ peers: '192.0.2.1:80' }, /"peers" option must be an array/],
  [{ accountThumbprints: [] }, /"accountThumbprints"/],
  [{ accountThumbprints: ['short'] }, /"accountThumbprints"/],
  [{ elsewhere: 'proxy' }, /"elsewhere"/],
  [{ httpsPort: 0 }, /"httpsPort"/],
  [{ maxConnections: 0 }, /"maxConnections"/],
  [{ timeoutMs: -1 }, /"timeoutMs"/],
  [{ peer: [] }, /unknown option "peer"/],
])('refuses %j', (options, message) => {
  const challenges = 'challenges' in options || Object.keys(options).length === 0 ? {} : { challenges: httpResponder() }
  expect(() => challengeGateway({ ...challenges, ...options } as never)).toThrow(message)
})
