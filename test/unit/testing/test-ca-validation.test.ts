import { createServer as createTlsServer } from 'node:https'
import { once } from 'node:events'
import { createServer as createNetServer, type AddressInfo } from 'node:net'
import { createSocket } from 'node:dgram'
import { createServer, type RequestListener } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createTestAuthority, type TestCaOptions } from '../../../src/testing/test-ca/index.js'
import { freePort } from '../../support/ports.js'
import { digest, rawClient, startCa, startHttp, type Challenge } from './raw-acme-client.js'

const path = '/.well-known/acme-challenge/'

/** What the CA says of one challenge, once it has said it. `setUp` learns the key authorization before. */
async function verdict(
  options: TestCaOptions,
  setUp: (keyAuthorization: string) => void = () => {},
  name = 'a.example',
  type = 'http-01',
): Promise<Challenge> {
  const ca = await startCa(options)
  const client = await rawClient(ca)
  await client.register()
  const order = await client.order([name])
  const [url] = order.json.authorizations as [string]
  let { json } = await client.post(url, '')
  const challenge = json.challenges!.find((offered) => offered.type === type)!
  setUp(`${challenge.token!}.${client.thumbprint}`)
  await client.post(challenge.url, {})
  while (json.status === 'pending') {
    await sleep(5)
    json = (await client.post(url, '')).json
  }
  return json.challenges![0]!
}

const failure = (type: string, detail: RegExp): object => ({
  status: 'invalid',
  error: { type: `urn:ietf:params:acme:error:${type}`, detail: expect.stringMatching(detail) as string },
})

describe('http-01', () => {
  /** A responder whose listener is told the key authorization. */
  async function responder(answer: (keyAuthorization: () => string) => RequestListener, host?: string) {
    let known = ''
    const port = await startHttp(
      answer(() => known),
      host,
    )
    return { port, setUp: (keyAuthorization: string) => void (known = keyAuthorization) }
  }

  it('asks three times at once, by name and port, and ignores white space at the end', async () => {
    const seen: unknown[] = []
    let waiting = 0
    const all: (() => void)[] = []
    const { port, setUp } = await responder((key) => (request, response) => {
      seen.push([request.method, request.headers.host, request.url?.startsWith(path)])
      all.push(() => response.end(`${key()} \r\n\t`))
      waiting += 1
      // Nobody is answered before all three have asked.
      if (waiting === 3) for (const go of all) go()
    })
    expect(await verdict({ httpPort: port }, setUp)).toMatchObject({ status: 'valid' })
    expect(seen).toEqual(Array(3).fill(['GET', `a.example:${String(port)}`, true]))
  })

  it('fails when one of the three requests does', async () => {
    let count = 0
    const { port, setUp } = await responder((key) => (_, response) => {
      count += 1
      if (count === 2) response.statusCode = 404
      response.end(key())
    })
    expect(await verdict({ httpPort: port }, setUp)).toMatchObject(failure('unauthorized', /Invalid response.*404/))
  })

  it.each([
    ['another key authorization', () => 'token.other', 'unauthorized', /did not match/],
    ['white space before it', (key: string) => ` ${key}`, 'unauthorized', /did not match/],
    ['nothing', () => '', 'unauthorized', /did not match/],
    ['a page', () => 'x'.repeat(5000), 'incorrectResponse', /too long/],
  ])('fails on %s', async (_, body, type, detail) => {
    const { port, setUp } = await responder((key) => (_request, response) => void response.end(body(key())))
    expect(await verdict({ httpPort: port }, setUp)).toMatchObject(failure(type, detail))
  })

  it('fails when nobody listens, nobody answers, or it is not HTTP', async () => {
    const closedPort = await freePort()
    expect(await verdict({ httpPort: closedPort })).toMatchObject(
      failure('connection', /127\.0\.0\.1: .*Connection refused/),
    )

    const silent = await startHttp(() => {})
    expect(await verdict({ httpPort: silent, validationTimeoutMs: 50 })).toMatchObject(failure('connection', /Timeout/))

    const server = createNetServer((socket) => socket.end('SSH-2.0-OpenSSH\r\n')).listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const { port } = server.address() as AddressInfo
    expect(await verdict({ httpPort: port })).toMatchObject(failure('incorrectResponse', /not HTTP/))
  })

  it('fails for a name that does not resolve', async () => {
    const resolve = (): never => {
      throw new Error('NXDOMAIN')
    }
    expect(await verdict({ resolve })).toMatchObject(failure('dns', /NXDOMAIN/))
    expect(await verdict({ resolve: () => [] })).toMatchObject(failure('dns', /No valid IP addresses/))
  })

  it('spreads over all addresses', async () => {
    const hosts = ['127.0.0.1', '127.0.0.2', '127.0.0.3']
    const [first, ...others] = hosts as [string, ...string[]]
    const seen = new Set<string>()
    const answering =
      (key: () => string): RequestListener =>
      (request, response) => {
        seen.add(request.socket.localAddress!)
        response.end(key())
      }
    const { port, setUp } = await responder(answering, first)
    let known = ''
    for (const host of others) {
      const server = createServer(answering(() => known)).listen(port, host)
      await once(server, 'listening')
      onTestFinished(() => void server.close())
    }
    const result = await verdict({ httpPort: port, resolve: () => Promise.resolve(hosts) }, (keyAuthorization) => {
      setUp(keyAuthorization)
      known = keyAuthorization
    })
    expect(result).toMatchObject({ status: 'valid' })
    expect([...seen].sort()).toEqual(hosts)
  })

  it('prefers IPv6, and falls back to IPv4 only when it cannot connect', async ({ skip }) => {
    const { port, setUp } = await responder((key) => (_, response) => void response.end(key()))
    const resolve = (): string[] => ['127.0.0.1', '::1']
    expect(await verdict({ httpPort: port, resolve }, setUp)).toMatchObject({ status: 'valid' })

    const wrong = createServer((_, response) => void response.end('wrong')).listen(port, '::1')
    const listens = await Promise.race([
      once(wrong, 'listening').then(() => true),
      once(wrong, 'error').then(() => false),
    ])
    if (!listens) skip('no IPv6 here')
    onTestFinished(() => void wrong.close())
    expect(await verdict({ httpPort: port, resolve }, setUp)).toMatchObject(failure('unauthorized', /^::1: /))
  })

  it.each(['192.0.2.7', '2001:db8::7'])('proves the address %s', async (address) => {
    const seen: unknown[] = []
    const { port, setUp } = await responder((key) => (request, response) => {
      seen.push(request.headers.host)
      response.end(key())
    })
    const asked: string[] = []
    const resolve = (hostname: string): string[] => {
      asked.push(hostname)
      return ['127.0.0.1']
    }
    expect(await verdict({ httpPort: port, resolve }, setUp, address)).toMatchObject({ status: 'valid' })
    const host = address.includes(':') ? `[${address}]` : address
    expect(seen).toEqual(Array(3).fill(`${host}:${String(port)}`))
    expect(asked).toEqual(Array(3).fill(address))
  })

  describe('follows redirects', () => {
    it.each([301, 302, 307, 308])('of status %d', async (status) => {
      const { port, setUp } = await responder((key) => (request, response) => {
        if (request.url?.startsWith(path)) response.writeHead(status, { location: '/elsewhere?x=1' }).end()
        else response.end(request.url === '/elsewhere?x=1' ? key() : '')
      })
      expect(await verdict({ httpPort: port }, setUp)).toMatchObject({ status: 'valid' })
    })

    it('but not of status 303', async () => {
      const { port, setUp } = await responder((key) => (request, response) => {
        if (request.url?.startsWith(path)) response.writeHead(303, { location: '/elsewhere' }).end()
        else response.end(key())
      })
      expect(await verdict({ httpPort: port }, setUp)).toMatchObject(failure('unauthorized', /303/))
    })

    it('to https, whose certificate nobody checks', async () => {
      const authority = createTestAuthority()
      const { certificatePem, privateKeyPem } = await authority.selfSigned({
        identifiers: [{ type: 'dns', value: 'other.invalid' }],
      })
      let known = ''
      const hosts: unknown[] = []
      const secure = createTlsServer({ cert: certificatePem, key: privateKeyPem }, (request, response) => {
        hosts.push(request.headers.host)
        response.end(known)
      }).listen(0, '127.0.0.1')
      await once(secure, 'listening')
      onTestFinished(() => {
        secure.closeAllConnections()
        secure.close()
      })
      const httpsPort = (secure.address() as AddressInfo).port
      const httpPort = await startHttp((request, response) => {
        const host = request.headers.host!.replace(/:.*/, '')
        response.writeHead(301, { location: `https://${host}${request.url!}` }).end()
      })
      const result = await verdict({ httpPort, httpsPort }, (keyAuthorization) => (known = keyAuthorization))
      expect(result).toMatchObject({ status: 'valid' })
      expect(hosts).toEqual(Array(3).fill('a.example'))
    })

    it('ten times, and not in circles', async () => {
      const after = async (hops: number): Promise<Challenge> => {
        const { port, setUp } = await responder((key) => (request, response) => {
          const hop = Number(/^\/hop(\d+)/.exec(request.url!)?.[1] ?? 0)
          if (hop < hops) response.writeHead(302, { location: `/hop${String(hop + 1)}` }).end()
          else response.end(key())
        })
        return verdict({ httpPort: port }, setUp)
      }
      expect(await after(10)).toMatchObject({ status: 'valid' })
      expect(await after(11)).toMatchObject(failure('connection', /Too many redirects/))
      const { port } = await responder(() => (request, response) => {
        response.writeHead(302, { location: request.url! }).end()
      })
      expect(await verdict({ httpPort: port })).toMatchObject(failure('connection', /loop/))
    })

    it.each([
      ['ftp://a.example/', /Invalid protocol scheme in redirect target: ftp/],
      [`/${'x'.repeat(2001)}`, /too long/],
      ['http://[', /Invalid redirect target/],
    ])('unless the target is like %j', async (location, detail) => {
      const { port } = await responder(() => (_, response) => void response.writeHead(302, { location }).end())
      expect(await verdict({ httpPort: port })).toMatchObject(failure('connection', detail))
    })
  })
})

describe('dns-01', () => {
  const dns = (resolveTxt: (name: string, right: string) => Promise<string[]>): Promise<Challenge> => {
    let right = ''
    return verdict(
      { resolveTxt: (name) => resolveTxt(name, right) },
      (keyAuthorization) => (right = digest(keyAuthorization)),
      'a.example',
      'dns-01',
    )
  }
  const rejecting = (code: string) => (): Promise<never> => Promise.reject(Object.assign(new Error(code), { code }))

  it('finds its value among others', async () => {
    const names: string[] = []
    const result = await dns((name, right) => {
      names.push(name)
      return Promise.resolve(['other', right])
    })
    expect(result).toMatchObject({ status: 'valid' })
    expect(names).toEqual(Array(3).fill('_acme-challenge.a.example'))
  })

  it.each([
    ['other values', () => Promise.resolve(['x', 'y']), 'unauthorized', /Incorrect TXT record "x" \(and 1 more\)/],
    ['no value', () => Promise.resolve([]), 'unauthorized', /No TXT record/],
    ['no record', rejecting('ENODATA'), 'unauthorized', /No TXT record/],
    ['no such name', rejecting('ENOTFOUND'), 'dns', /NXDOMAIN/],
    ['a failing server', rejecting('ESERVFAIL'), 'dns', /ESERVFAIL/],
  ])('fails on %s', async (_, resolveTxt, type, detail) => {
    expect(await dns(resolveTxt)).toMatchObject(failure(type, detail))
  })

  it('copes with many names at once', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error): void => void warnings.push(warning)
    process.on('warning', onWarning)
    onTestFinished(() => void process.off('warning', onWarning))
    const ca = await startCa({ resolveTxt: () => sleep(50, []) })
    const client = await rawClient(ca)
    await client.register()
    const order = await client.order(Array.from({ length: 20 }, (_, index) => `n${index}.example`))
    for (const url of order.json.authorizations!) {
      const { json } = await client.post(url, '')
      await client.post(json.challenges!.find(({ type }) => type === 'dns-01')!.url, {})
    }
    while (ca.authorizations.some(({ status }) => status === 'pending')) await sleep(5)
    expect(warnings).toEqual([])
  })

  it('asks a DNS server of its own accord', async () => {
    let right = ''
    const socket = createSocket('udp4')
    socket.bind(0, '127.0.0.1')
    await once(socket, 'listening')
    onTestFinished(() => void socket.close())
    socket.on('message', (query, { port, address }) => {
      // Header and question as they came; one answer that points to the question's name.
      const question = query.subarray(12, query.indexOf(0, 12) + 5)
      const header = Buffer.concat([query.subarray(0, 2), Buffer.from([0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])])
      // A value in two strings, which belong together.
      const strings = [right.slice(0, 10), right.slice(10)].map((text) =>
        Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]),
      )
      const data = Buffer.concat(strings)
      const answer = Buffer.from([0xc0, 0x0c, 0, 16, 0, 1, 0, 0, 0, 0, 0, data.length])
      socket.send(Buffer.concat([header, question, answer, data]), port, address)
    })
    const options = { dnsServer: `127.0.0.1:${String(socket.address().port)}`, resolveTxt: undefined }
    const result = await verdict(
      options,
      (keyAuthorization) => (right = digest(keyAuthorization)),
      'a.example',
      'dns-01',
    )
    expect(result).toMatchObject({ status: 'valid' })
  })
})
