import { once } from 'node:events'
import { createSecureServer, connect as connectHttp2 } from 'node:http2'
import { createServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import type { CertificateBundle } from '../../../src/core/certificate-bundle.js'
import { nodeTlsDeployer, sniCertificates, type NodeTlsDeployerOptions } from '../../../src/deployers/node-tls.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { createTestBundle } from '../../../src/testing/test-bundle.js'
import { createTestAuthority } from '../../../src/testing/test-ca/index.js'
import { probeTls, startHandshakeLoad } from '../../support/tls-probe.js'

const authority = createTestAuthority()
const newBundle = (name: string, ...identifiers: string[]): Promise<CertificateBundle> =>
  createTestBundle({ name, identifiers, authority })
const context = operationContext()

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  await Promise.all(closers.splice(0).map((close) => close()))
})

async function listen(server: TlsServer): Promise<number> {
  server.on('tlsClientError', () => undefined)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => new Promise((resolve) => server.close(resolve)))
  return (server.address() as AddressInfo).port
}
const served = async (port: number, servername?: string): Promise<string> =>
  (await probeTls({ port, servername })).fingerprintSha256

describe('the certificate of running servers', () => {
  it('is changed in all of them; a server can be started without one', async () => {
    const servers = [createServer(), createTlsServer((socket) => socket.end())]
    const ports = [await listen(servers[0]!), await listen(servers[1]!)]
    await expect(served(ports[0]!)).rejects.toThrow()
    const deployer = nodeTlsDeployer({ servers })
    for (let round = 0; round < 3; round += 1) {
      const bundle = await newBundle('www', 'www.example.com')
      expect((await deployer.deploy(bundle, context)).status).toBe('deployed')
      for (const port of ports) expect(await served(port)).toBe(bundle.fingerprintSha256)
    }
  })

  it('is changed for http2', async () => {
    const server = createSecureServer()
    server.on('stream', (stream) => {
      stream.respond({ ':status': 200 })
      stream.end('h2')
    })
    const port = await listen(server)
    const bundle = await newBundle('www', 'localhost')
    await nodeTlsDeployer({ servers: [server] }).deploy(bundle, context)
    const client = connectHttp2(`https://localhost:${String(port)}`, { ca: authority.rootPem })
    const [headers] = (await once(client.request({ ':path': '/' }), 'response')) as [Record<string, unknown>]
    expect(headers[':status']).toBe(200)
    client.destroy()
  })

  it("keeps the caller's TLS settings", async () => {
    const server = createServer({ maxVersion: 'TLSv1.2' })
    const port = await listen(server)
    const bundle = await newBundle('www', 'www.example.com')
    await nodeTlsDeployer({ servers: [server], tls: { maxVersion: 'TLSv1.2' } }).deploy(bundle, context)
    expect((await probeTls({ port })).protocol).toBe('TLSv1.2')
    await nodeTlsDeployer({ servers: [server] }).deploy(bundle, context)
    expect((await probeTls({ port })).protocol).toBe('TLSv1.3')
  })

  it('changes without a failed handshake, and open connections go on', async () => {
    const server = createServer((incoming, response) => incoming.resume().on('end', () => response.end('ok')))
    const port = await listen(server)
    const deployer = nodeTlsDeployer({ servers: [server] })
    await deployer.deploy(await newBundle('www', 'localhost'), context)
    const client = request({ port, host: '127.0.0.1', servername: 'localhost', ca: authority.rootPem, method: 'POST' })
    client.write('begun')
    await once(client, 'socket')
    const load = startHandshakeLoad({ port, servername: 'localhost', perSecond: 200 })
    for (let round = 0; round < 30; round += 1) {
      await deployer.deploy(await newBundle('www', 'localhost'), context)
      await new Promise((resolve) => setImmediate(resolve))
    }
    const { failures, handshakes } = await load.stop()
    expect(failures).toEqual([])
    expect(handshakes).toBeGreaterThan(0)
    client.end('ended')
    const [response] = (await once(client, 'response')) as [{ statusCode: number; resume(): void }]
    response.resume()
    expect(response.statusCode).toBe(200)
    client.destroy()
  })

  it('stays what it was when OpenSSL refuses the new one', async () => {
    const server = createServer()
    const port = await listen(server)
    const [one, two] = [await newBundle('www', 'www.example.com'), await newBundle('www', 'www.example.com')]
    await nodeTlsDeployer({ servers: [server] }).deploy(one, context)
    const strict = nodeTlsDeployer({ servers: [server], tls: { ciphers: 'NO-SUCH-CIPHER' } })
    await expect(strict.deploy(two, context)).rejects.toMatchObject({ code: 'ERR_DEPLOY_REJECTED' })
    await expect(
      nodeTlsDeployer({ servers: [server] }).deploy(Object.freeze({ ...two, privateKey: one.privateKey }), context),
    ).rejects.toMatchObject({ code: 'ERR_CERT_KEY_MISMATCH' })
    expect(await served(port)).toBe(one.fingerprintSha256)
  })
})

describe('certificates by the name asked for', () => {
  it("prefer the exact name, then the wildcard of one label, then the server's own", async () => {
    const certificates = sniCertificates()
    const server = createServer({ SNICallback: certificates.sniCallback })
    const port = await listen(server)
    const [fallback, wildcard, exact] = [
      await newBundle('fallback', 'default.example'),
      await newBundle('wildcard', '*.example.com'),
      await newBundle('exact', 'www.example.com', 'example.com'),
    ]
    await nodeTlsDeployer({ servers: [server] }).deploy(fallback, context)
    const deployers = [
      nodeTlsDeployer({ certificates, name: 'exact' }),
      nodeTlsDeployer({ certificates, name: 'wildcard' }),
    ]
    expect(await deployers[0]!.inspect?.(exact, context)).toBe('absent')
    await deployers[0]!.deploy(exact, context)
    await deployers[1]!.deploy(wildcard, context)
    expect(await deployers[0]!.inspect?.(exact, context)).toBe('current')
    const expected: readonly [string | undefined, CertificateBundle][] = [
      ['www.example.com', exact],
      ['WWW.Example.COM', exact],
      ['example.com', exact],
      ['shop.example.com', wildcard],
      ['a.shop.example.com', fallback],
      ['other.test', fallback],
      [undefined, fallback],
    ]
    for (const [name, bundle] of expected) expect(await served(port, name), name).toBe(bundle.fingerprintSha256)

    // A renewal with fewer names gives the others up.
    const renewed = await newBundle('exact', 'www.example.com')
    await deployers[0]!.deploy(renewed, context)
    expect(await served(port, 'www.example.com')).toBe(renewed.fingerprintSha256)
    expect(await served(port, 'example.com')).toBe(fallback.fingerprintSha256)
  })

  it('are found as fast among a thousand names', async () => {
    const certificates = sniCertificates()
    const names = Array.from({ length: 1_000 }, (_, index) => `n${String(index)}.example.com`)
    const bundle = await newBundle('many', ...names)
    await nodeTlsDeployer({ certificates }).deploy(bundle, context)
    let found: unknown
    certificates.sniCallback('n999.example.com', (_, secureContext) => (found = secureContext))
    expect(found).toBeDefined()
    certificates.sniCallback('constructor', (_, secureContext) => (found = secureContext))
    expect(found).toBeUndefined()
  })
})

describe('options', () => {
  const servers = [{ setSecureContext: () => undefined }]
  it.each<[string, object]>([
    ['needs the option', {}],
    ['"servers"', { servers: createTlsServer() }],
    ['"servers[].setSecureContext"', { servers: [{}] }],
    ['"tls" option must not hold "key"', { servers, tls: { key: 'k' } }],
    ['unknown option "server"', { server: servers[0] }],
  ])('refuses with %s', (message, options) => {
    expect(() => nodeTlsDeployer(options as NodeTlsDeployerOptions)).toThrow(TypeError)
    expect(() => nodeTlsDeployer(options as NodeTlsDeployerOptions)).toThrow(message)
  })
})
