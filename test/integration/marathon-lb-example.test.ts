/**
 * examples/marathon-lb end to end: Pebble, Marathon, and HAProxy as marathon-lb starts it.
 */
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { assertNoSecrets } from '../../src/testing/index.js'
import type { AppDefinition } from '../servers/marathon/app.js'
import { startMarathon, type Marathon } from '../servers/marathon/marathon.js'
import { marathonLbRunner, routedApps } from '../servers/marathon-lb/marathon-lb.js'
import { browse } from '../support/browse.js'
import { startPebble } from '../support/pebble.js'
import { freePorts } from '../support/processes.js'
import { printed, runExample } from '../support/run-example.js'
import { describeWith } from '../support/servers.js'
import { temporaryDirectory } from '../support/temporary-directory.js'
import { probeTls } from '../support/tls-probe.js'

const balancer: AppDefinition = {
  id: '/marathon-lb',
  args: ['sse', '--group', 'external'],
  env: { HAPROXY_SSL_CERT: '', HAPROXY_SYSCTL_PARAMS: 'net.ipv4.tcp_fin_timeout=30' },
  networks: [{ mode: 'host' }],
  portDefinitions: [{ port: 80 }, { port: 443 }, { port: 9090 }],
  requirePorts: true,
  healthChecks: [{ protocol: 'MESOS_HTTP', path: '/_haproxy_health_check' }],
  // One public agent: the old one has to go before the new one can come.
  upgradeStrategy: { minimumHealthCapacity: 0, maximumOverCapacity: 0 },
}
const website: AppDefinition = {
  id: '/website',
  cmd: 'site',
  labels: {
    HAPROXY_GROUP: 'external',
    HAPROXY_0_VHOST: 'www.example.com,example.com,shop.example.com',
    HAPROXY_0_REDIRECT_TO_HTTPS: 'true',
    HAPROXY_0_USE_HSTS: 'true',
  },
}
const evercert: AppDefinition = {
  id: '/evercert',
  cmd: 'node main.ts',
  labels: {
    HAPROXY_GROUP: 'external',
    HAPROXY_0_VHOST: 'WWW.Example.com, example.com',
    HAPROXY_0_PATH: '/.well-known/acme-challenge',
    HAPROXY_1_VHOST: 'shop.example.com,www.example.com',
    HAPROXY_1_PATH: '/.well-known/acme-challenge',
  },
}

/** Everything that letsencrypt-dcos would have found, and nothing of ours. */
async function startCluster() {
  const [http = 0, https = 0, admin = 0, listen = 0] = await freePorts(4)
  const site = createServer((request, response) => response.end(`the site at ${request.url ?? ''}`))
  site.listen(0, '127.0.0.1')
  await once(site, 'listening')
  onTestFinished(() => void site.close())
  const siteAddress = `127.0.0.1:${String((site.address() as AddressInfo).port)}`
  const exampleAddress = `127.0.0.1:${String(listen)}`
  const pebble = await startPebble({ httpPort: http, tlsPort: https })
  onTestFinished(() => pebble.stop())

  const keys = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const publicKeyPem = keys.publicKey.export({ type: 'spki', format: 'pem' }).toString()
  const servers = { '/website': [[siteAddress]], '/evercert': [[exampleAddress], [exampleAddress]] }
  const ports = { http, https, admin }
  const marathon: Marathon = await startMarathon({
    agents: 1,
    authentication: { type: 'dcos', accounts: [{ uid: 'evercert', publicKeyPem }] },
    runners: { '/marathon-lb': marathonLbRunner({ ports, apps: () => routedApps(marathon.apps(), servers) }) },
  })
  onTestFinished(() => marathon.close())
  for (const app of [website, evercert, balancer]) await marathon.setApp(app)

  const directory = await temporaryDirectory()
  onTestFinished(() => directory.remove())
  const caFile = join(directory.path, 'pebble.pem')
  await writeFile(caFile, pebble.caPem)
  const accountKey = keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const credential = { uid: 'evercert', private_key: accountKey, login_endpoint: marathon.loginUrl, scheme: 'RS256' }
  const settings = {
    MARATHON_URL: `${marathon.url}/`,
    MARATHON_APP_ID: '/evercert',
    MARATHON_LB_ID: 'marathon-lb',
    MARATHON_LB_CERT_ENV: 'HAPROXY_SSL_CERT',
    MARATHON_LB_ENDPOINTS: `127.0.0.1:${String(https)}`,
    LETSENCRYPT_EMAIL: 'admin@example.com',
    // As DC/OS's own UI leaves what was emptied.
    MARATHON_LB_URL: '',
    MARATHON_CA_FILE: '',
    LETSENCRYPT_SERVER_URL: pebble.directoryUrl,
    DCOS_SERVICE_ACCOUNT_CREDENTIAL: JSON.stringify(credential),
    STATE_DIRECTORY: join(directory.path, 'state'),
    LISTEN_PORT: String(listen),
    ACME_CA_FILE: caFile,
    CHALLENGE_PORTS: `${String(http)},${String(https)}`,
  }
  return { marathon, pebble, http, https, settings, accountKey }
}

describeWith(['pebble', 'pebble-challtestsrv', 'haproxy', 'openssl'], 'examples/marathon-lb', () => {
  it('takes the place of letsencrypt-dcos, from the labels to the visitor, and orders once', async () => {
    const { marathon, pebble, http, https, settings, accountKey } = await startCluster()
    expect((await probeTls({ port: https, servername: 'www.example.com' })).peerCertificate.subject).toBe('CN=*')
    const first = runExample('marathon-lb/main.ts', settings)
    await printed(first, 'served')
    expect(first.output()).toContain('names www.example.com example.com shop.example.com')
    expect(first.output()).toContain('deployed marathon:/marathon-lb:HAPROXY_SSL_CERT deployed')

    const caPem = await pebble.rootPem()
    const serials = new Set<string>()
    for (const servername of ['www.example.com', 'example.com', 'shop.example.com']) {
      const probe = await probeTls({ port: https, servername, caPem })
      expect(probe).toMatchObject({ authorized: true })
      serials.add(probe.peerCertificate.serialNumber)
      // What `curl -L` does with the address that everybody types.
      const pages = await browse(`http://${servername}:${String(http)}/shoes?size=43`)
      expect(pages).toMatchObject([
        { status: 301, headers: { location: `https://${servername}:${String(https)}/shoes?size=43` } },
        { status: 200, body: 'the site at /shoes?size=43' },
      ])
      expect(pages[1]?.headers).toMatchObject({ 'strict-transport-security': 'max-age=15768000' })
    }
    expect(serials.size).toBe(1)
    const { env = {} } = marathon.app('/marathon-lb')!.definition
    expect(env).toMatchObject({ HAPROXY_SYSCTL_PARAMS: 'net.ipv4.tcp_fin_timeout=30' })

    first.child.kill('SIGTERM')
    expect(await once(first.child, 'exit'), first.output()).toEqual([0, null])
    const looked = marathon.count('GET', '/v2/apps/marathon-lb')
    const second = runExample('marathon-lb/main.ts', settings)
    await printed(second, 'names')
    // It looks at what is deployed when it has decided that there is nothing to order.
    const hasLooked = (): boolean => marathon.count('GET', '/v2/apps/marathon-lb') > looked
    await vi.waitUntil(hasLooked, { timeout: 30_000, interval: 20 })
    second.child.kill('SIGTERM')
    expect(await once(second.child, 'exit'), second.output()).toEqual([0, null])
    expect(pebble.requestCounts()['POST /order-plz']).toBe(1)
    expect(marathon.deployments.all.map(({ outcome }) => outcome)).toEqual(['succeeded'])

    const value = env['HAPROXY_SSL_CERT'] as string
    const secrets = [value.slice(value.indexOf('PRIVATE KEY')), accountKey]
      .flatMap((pem) => pem.split('\n').slice(2, -2))
      .filter((line) => line.length > 8)
    for (const { output } of [first, second]) assertNoSecrets(output(), secrets)
  })
})

describe('examples/marathon-lb', () => {
  it.each<[string, Readonly<Record<string, string>>, readonly string[]]>([
    [
      'of one Marathon',
      { MARATHON_URL: 'https://cluster.example/service/marathon' },
      [
        'dcos:adminrouter:service:marathon full',
        'dcos:service:marathon:marathon:services:/marathon-lb read',
        'dcos:service:marathon:marathon:services:/marathon-lb update',
        'dcos:service:marathon:marathon:admin:events read',
        'dcos:service:marathon:marathon:services:/evercert read',
      ],
    ],
    [
      'of two, the apps being on a Marathon of their own',
      {
        MARATHON_URL: 'https://cluster.example/service/marathon-user,https://other.example/service/marathon-user',
        MARATHON_LB_URL: 'https://marathon.mesos:8443',
      },
      [
        'dcos:service:marathon:marathon:services:/marathon-lb read',
        'dcos:service:marathon:marathon:services:/marathon-lb update',
        'dcos:service:marathon:marathon:admin:events read',
        'dcos:adminrouter:service:marathon-user full',
        'dcos:service:marathon:marathon-user:services:/evercert read',
      ],
    ],
  ])('prints the permissions that it needs %s', async (_, env, expected) => {
    const ran = runExample('marathon-lb/permissions.ts', env)
    const [code] = (await once(ran.child, 'close')) as [number | null]
    expect(code, ran.output()).toBe(0)
    const granted = ran.output().trim().split('\n')
    expect(granted.map((line) => line.split(' ').slice(6, 8).join(' '))).toEqual(expected)
  })
})
