/**
 * Our marathon-lb: a real HAProxy as its entry point starts it, alone and as a task of our Marathon.
 */
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { browse } from '../support/browse.js'
import { testAuthority, type TestAuthority, type TestCertificate } from '../support/certificates.js'
import { freePorts } from '../support/ports.js'
import { runningServers } from '../support/processes.js'
import { describeWith } from '../support/servers.js'
import { probeTls } from '../support/tls-probe.js'
import { startMarathon } from '../servers/marathon/marathon.js'
import {
  marathonLbRunner,
  routedApps,
  startMarathonLb,
  type MarathonLb,
  type MarathonLbOptions,
} from '../servers/marathon-lb/marathon-lb.js'
import type { RoutedApp } from '../servers/marathon-lb/routing.js'

const [www, shop] = ['www.example.com', 'shop.example.com'] as const

let authority: TestAuthority
let certificates: Readonly<Record<'first' | 'second' | 'shop', TestCertificate>>
beforeAll(async () => {
  authority = await testAuthority()
  const [first, second, other] = await Promise.all([
    authority.issue([www]),
    authority.issue([www]),
    authority.issue([shop]),
  ])
  certificates = { first, second, shop: other }
})
afterAll(() => expect(runningServers()).toEqual([]))

async function started(options: MarathonLbOptions): Promise<MarathonLb> {
  const balancer = await startMarathonLb(options)
  onTestFinished(() => balancer.stop())
  return balancer
}

/** The fingerprint of what a client gets. */
async function served({ host, ports }: MarathonLb, servername: string = www): Promise<string> {
  return (await probeTls({ host, port: ports.https, servername })).fingerprintSha256
}

/** An app that answers with its name; resolves with its address. */
async function startApp(name: string): Promise<string> {
  const server = createServer((request, response) => response.end(`${name} ${String(request.url)}`))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return `127.0.0.1:${String((server.address() as AddressInfo).port)}`
}

async function get(url: string): Promise<[status: number, text: string]> {
  const response = await fetch(url)
  return [response.status, await response.text()]
}

describeWith(['haproxy', 'openssl'], 'the certificates of marathon-lb', () => {
  it('come from the environment, with real or with written new lines', async () => {
    const { bundlePem, fingerprintSha256 } = certificates.first
    for (const value of [bundlePem, bundlePem.replaceAll('\n', String.raw`\n`), bundlePem.trimEnd()]) {
      expect(await served(await started({ env: { HAPROXY_SSL_CERT: value } }))).toBe(fingerprintSha256)
    }
  })

  it('can be more than one, the first being for unknown names', async () => {
    const balancer = await started({
      env: { HAPROXY_SSL_CERT: certificates.first.bundlePem, HAPROXY_SSL_CERT7: certificates.shop.bundlePem },
    })
    expect(await served(balancer)).toBe(certificates.first.fingerprintSha256)
    expect(await served(balancer, shop)).toBe(certificates.shop.fingerprintSha256)
    expect(await served(balancer, 'other.example')).toBe(certificates.first.fingerprintSha256)
  })

  it('are not looked for in HAPROXY_SSL_CERT0 alone: one is made up', async () => {
    const balancer = await started({ env: { HAPROXY_SSL_CERT: '', HAPROXY_SSL_CERT0: certificates.first.bundlePem } })
    const { peerCertificate } = await probeTls({ port: balancer.ports.https, servername: www })
    expect([peerCertificate.subject, peerCertificate.issuer]).toEqual(['CN=*', 'CN=*'])
  })

  it('can be files, which come before the environment', async () => {
    const given = await started({ env: { HAPROXY_SSL_CERT: certificates.shop.bundlePem } })
    const [path] = given.certificatePaths
    const balancer = await started({
      env: { HAPROXY_SSL_CERT: certificates.first.bundlePem },
      sslCerts: [path!],
    })
    expect(await served(balancer, 'other.example')).toBe(certificates.shop.fingerprintSha256)
    expect(await served(balancer)).toBe(certificates.first.fingerprintSha256)
  })

  it.each([
    ['whose new lines have been removed', (pem: string) => pem.replaceAll('\n', '')],
    ['without a key', () => certificates.first.certificatePem],
    ['with the key of another one', () => certificates.first.certificatePem + certificates.second.privateKeyPem],
  ])('keep it from starting when there is one %s', async (_, value) => {
    const env = { HAPROXY_SSL_CERT: value(certificates.first.bundlePem) }
    await expect(startMarathonLb({ env })).rejects.toThrow(/exited with 1 before it was ready/)
    expect(runningServers()).toEqual([])
  })

  it('are loaded again from their files by usr1, not by hup', async () => {
    const balancer = await started({ env: { HAPROXY_SSL_CERT: certificates.first.bundlePem } })
    const [path] = balancer.certificatePaths
    await writeFile(path!, certificates.second.bundlePem)
    expect(await get(`${balancer.adminUrl}/_mlb_signal/hup`)).toEqual([200, 'Sent SIGHUP signal to marathon-lb'])
    expect(await balancer.signals()).toEqual(['unchanged'])
    expect(await served(balancer)).toBe(certificates.first.fingerprintSha256)
    expect(await get(`${balancer.adminUrl}/_mlb_signal/usr1`)).toEqual([200, 'Sent SIGUSR1 signal to marathon-lb'])
    expect(await balancer.signals()).toEqual(['unchanged', 'reloaded'])
    expect(await served(balancer)).toBe(certificates.second.fingerprintSha256)
  })

  it('stay as they are when a file is no good, though the signal is answered as ever', async () => {
    const balancer = await started({ env: { HAPROXY_SSL_CERT: certificates.first.bundlePem } })
    await writeFile(balancer.certificatePaths[0]!, 'x')
    expect((await get(`${balancer.adminUrl}/_mlb_signal/usr1`))[0]).toBe(200)
    expect(await balancer.signals()).toEqual(['refused'])
    expect(await served(balancer)).toBe(certificates.first.fingerprintSha256)
    expect((await get(`${balancer.adminUrl}/_haproxy_health_check`))[0]).toBe(200)
  })
})

describeWith(['haproxy', 'openssl'], 'the routes of marathon-lb', () => {
  const site = { HAPROXY_GROUP: 'external', HAPROXY_0_VHOST: `${www},Shop.Example.com` }
  const challenges = { ...site, HAPROXY_0_PATH: '/.well-known/acme-challenge' }

  async function routed(...apps: readonly RoutedApp[]): Promise<MarathonLb> {
    return started({ env: { HAPROXY_SSL_CERT: certificates.first.bundlePem }, apps: () => apps })
  }

  it('go by host on http and by server name on https, and a longer path goes first', async () => {
    const balancer = await routed(
      { id: '/site', labels: site, servers: [[await startApp('site')]] },
      { id: '/web/challenges', labels: challenges, servers: [[await startApp('challenges')]] },
    )
    const { http, https } = balancer.ports
    for (const origin of [`http://${www}:${String(http)}`, `https://${shop}:${String(https)}`]) {
      expect((await browse(`${origin}/a`)).at(-1)).toMatchObject({ status: 200, body: 'site /a' })
      const path = '/.well-known/acme-challenge/token'
      expect((await browse(origin + path)).at(-1)).toMatchObject({ status: 200, body: `challenges ${path}` })
    }
    expect((await browse(`http://other.example:${String(http)}/`))[0]).toMatchObject({ status: 503 })
    expect((await browse(`https://other.example:${String(https)}/`))[0]).toMatchObject({ status: 503 })
  })

  it('redirect to https, where they say so for half a year; the path of another app too', async () => {
    const labels = { ...site, HAPROXY_0_REDIRECT_TO_HTTPS: 'true', HAPROXY_0_USE_HSTS: 'true' }
    const balancer = await routed(
      { id: '/site', labels, servers: [[await startApp('site')]] },
      { id: '/challenges', labels: challenges, servers: [[await startApp('challenges')]] },
    )
    const { http, https } = balancer.ports
    const pages = await browse(`http://${www}:${String(http)}/a?b=c`)
    expect(pages).toMatchObject([
      { status: 301, headers: { location: `https://${www}:${String(https)}/a?b=c` } },
      { status: 200, body: 'site /a?b=c', headers: { 'strict-transport-security': 'max-age=15768000' } },
    ])
    expect(pages[0]!.headers).not.toHaveProperty('strict-transport-security')

    const path = '/.well-known/acme-challenge/token'
    const [redirect, challenge] = await browse(`http://${www}:${String(http)}${path}`)
    expect(redirect).toMatchObject({ status: 301, headers: { location: `https://${www}:${String(https)}${path}` } })
    expect(challenge).toMatchObject({ status: 200, body: `challenges ${path}` })
    expect(challenge!.headers).not.toHaveProperty('strict-transport-security')
  })

  it('are those of the group, of each port by itself', async () => {
    const labels = {
      HAPROXY_GROUP: 'internal',
      HAPROXY_0_VHOST: www,
      HAPROXY_1_VHOST: shop,
      HAPROXY_1_GROUP: 'external',
      HAPROXY_2_VHOST: 'off.example',
      HAPROXY_2_GROUP: 'external',
      HAPROXY_2_ENABLED: 'false',
    }
    const [zero, one, two] = [await startApp('zero'), await startApp('one'), await startApp('two')]
    const balancer = await routed({ id: '/app', labels, servers: [[zero], [one], [two]] })
    const status = async (name: string) => (await browse(`http://${name}:${String(balancer.ports.http)}/`))[0]!.status
    expect([await status(www), await status(shop), await status('off.example')]).toEqual([503, 200, 503])
  })

  it('change with the labels on hup', async () => {
    const apps: RoutedApp[] = []
    const balancer = await started({ env: {}, apps: () => apps })
    const status = async () => (await browse(`http://${www}:${String(balancer.ports.http)}/`))[0]!.status
    expect(await status()).toBe(503)
    apps.push({ id: '/site', labels: site, servers: [[await startApp('site')]] })
    expect(await balancer.signal('hup')).toBe('reloaded')
    expect(await status()).toBe(200)
  })
})

describeWith(['haproxy', 'openssl'], 'marathon-lb as an app of Marathon', () => {
  const lb = {
    id: '/marathon-lb',
    args: ['sse', '--group', 'external'],
    env: { HAPROXY_SSL_CERT: '' },
    portDefinitions: [{ port: 80 }, { port: 443 }, { port: 9090 }],
    requirePorts: true,
    healthChecks: [{ protocol: 'MESOS_HTTP', path: '/_haproxy_health_check' }],
    upgradeStrategy: { minimumHealthCapacity: 0, maximumOverCapacity: 0 },
  }

  async function startCluster(agents: number, upgradeStrategy = lb.upgradeStrategy) {
    const [http, https, admin] = await freePorts(3)
    const site = await startApp('site')
    const ports = { http: http!, https: https!, admin: admin! }
    const runner = marathonLbRunner({
      ports,
      apps: () => routedApps(marathon?.apps() ?? [], { '/site': [[site]] }),
    })
    const labels = { HAPROXY_GROUP: 'external', HAPROXY_0_VHOST: www, HAPROXY_0_REDIRECT_TO_HTTPS: 'true' }
    const marathon: Awaited<ReturnType<typeof startMarathon>> | undefined = await startMarathon({
      agents,
      runners: { '/marathon-lb': runner },
    })
    onTestFinished(() => marathon.close())
    await marathon.setApp({ id: '/site', cmd: 'site', labels })
    await marathon.setApp({ ...lb, upgradeStrategy })
    return { marathon, runner, ports }
  }

  const patch = async (url: string, value: string) => {
    const body = JSON.stringify({ env: { HAPROXY_SSL_CERT: value } })
    expect((await fetch(`${url}/v2/apps/marathon-lb`, { method: 'PATCH', body })).status).toBe(200)
  }

  it('serves the certificate of its new environment once the deployment is over', async () => {
    const { marathon, runner, ports } = await startCluster(1)
    const { peerCertificate } = await probeTls({ port: ports.https, servername: www })
    expect(peerCertificate.subject).toBe('CN=*')
    await patch(marathon.url, certificates.first.bundlePem)
    await marathon.deployments.settled()
    expect(marathon.deployments.all).toMatchObject([{ outcome: 'succeeded' }])
    expect(runner.running).toHaveLength(1)
    expect(await served(runner.running[0]!)).toBe(certificates.first.fingerprintSha256)
    const pages = await browse(`http://${www}:${String(ports.http)}/a`)
    expect(pages).toMatchObject([{ status: 301 }, { status: 200, body: 'site /a' }])
  })

  it('moves to the other agent without an interruption where there is one', async () => {
    const { marathon, runner } = await startCluster(2, { minimumHealthCapacity: 1, maximumOverCapacity: 1 })
    const [before] = runner.running
    expect(before!.host).toBe('127.0.0.1')
    marathon.deployments.hold()
    await patch(marathon.url, certificates.first.bundlePem)
    while (runner.running.length < 2) await marathon.deployments.advance()
    const [old, fresh] = runner.running
    expect(fresh!.host).toBe('127.0.0.2')
    expect(await served(fresh!)).toBe(certificates.first.fingerprintSha256)
    expect(await served(old!)).not.toBe(certificates.first.fingerprintSha256)
    await marathon.deployments.finish()
    expect(runner.running).toEqual([fresh])
  })

  it('does not come up with a certificate that HAProxy refuses, and the deployment waits for ever', async () => {
    const { marathon, runner } = await startCluster(2, { minimumHealthCapacity: 1, maximumOverCapacity: 1 })
    await patch(marathon.url, certificates.first.certificatePem)
    await marathon.deployments.settled()
    expect(marathon.deployments.running).toMatchObject([{ waitingFor: 'a task that starts' }])
    expect(marathon.lastTaskFailure('marathon-lb')?.message).toMatch(/exited with 1 before it was ready/)
    expect(runner.running).toHaveLength(1)
    // Rolled back, it is as before.
    const [{ id } = { id: '' }] = marathon.deployments.running
    expect((await fetch(`${marathon.url}/v2/deployments/${id}`, { method: 'DELETE' })).status).toBe(200)
    await marathon.deployments.settled()
    expect(marathon.deployments.running).toEqual([])
    expect(runner.running).toHaveLength(1)
  })
})
