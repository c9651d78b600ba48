/**
 * The examples, run as their READMEs say, against a test CA.
 */
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { loadAllYaml } from '@kubernetes/client-node'
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { route53Solver } from '../../src/solvers/route53/index.js'
import { startTestCa, type TestCa } from '../../src/testing/index.js'
import { startHaproxy } from '../support/haproxy.js'
import { collectionPath, kubeConfig, startKubeApiserver, type KubeManifest } from '../support/kube-apiserver.js'
import { freePorts } from '../support/processes.js'
import { pairOf } from '../support/read-pair.js'
import { printed, runExample, runNode } from '../support/run-example.js'
import { describeWith } from '../support/servers.js'
import { temporaryDirectory, type TemporaryDirectory } from '../support/temporary-directory.js'
import { probeTls } from '../support/tls-probe.js'

let work: TemporaryDirectory

beforeEach(async () => {
  work = await temporaryDirectory()
  // Called last, when the examples have ended.
  onTestFinished(() => work.remove())
})

async function acmeSettings(httpPort: number): Promise<{ ca: TestCa; env: Record<string, string> }> {
  const ca = await startTestCa({ httpPort })
  const caFile = join(work.path, 'ca.pem')
  await writeFile(caFile, ca.httpsCaPem)
  const env = {
    ACME_DIRECTORY: ca.directoryUrl,
    ACME_CA: caFile,
    HTTP_PORT: String(httpPort),
    STORE: join(work.path, 'store'),
  }
  return { ca, env }
}

describe('examples', () => {
  it('custom-deployer passes the contract kit under node:test', async () => {
    const tested = runNode(['--import', 'tsx', '--test', 'examples/custom-deployer/key-value-deployer.test.ts'], {
      TSX_TSCONFIG_PATH: 'tsconfig.check.json',
    })
    const [code] = (await once(tested.child, 'close')) as [number | null]
    expect(code, tested.output()).toBe(0)
    expect(tested.output()).toMatch(/pass [1-9]/)
  })

  it('custom-deployer issues and deploys', async () => {
    const ran = runExample('custom-deployer/main.ts')
    const [code] = (await once(ran.child, 'close')) as [number | null]
    expect(code, ran.output()).toBe(0)
    expect(ran.output()).toContain('deployed to key-value:tls/www')
  })

  it('mesos-private-ca writes files with which two nodes of one CA authenticate each other', async () => {
    const node = async (name: string) => {
      const directory = join(work.path, name)
      const restarted = join(work.path, `${name}-restarted`)
      const running = runExample('mesos-private-ca/main.ts', {
        NAMES: `${name}.cluster.example,localhost,127.0.0.1`,
        PERMITTED: 'cluster.example,localhost,127.0.0.0/8',
        DIRECTORY: directory,
        STORE: join(work.path, 'store'),
        STORE_KEY: Buffer.alloc(32, 7).toString('base64'),
        RESTART: `touch ${restarted}`,
      })
      await printed(running, `deployed ${name}.cluster.example`)
      running.child.kill('SIGTERM')
      const [code] = (await once(running.child, 'exit')) as [number | null]
      expect(code, running.output()).toBe(0)
      expect(running.output()).not.toContain('PRIVATE KEY')
      expect(await readFile(restarted, 'utf8')).toBe('')
      const lines = (await readFile(join(directory, 'mesos-tls.env'), 'utf8')).trimEnd().split('\n')
      const settings = Object.fromEntries(lines.map((line) => line.split('=', 2) as [string, string]))
      const file = (variable: string) => readFile(settings[`LIBPROCESS_SSL_${variable}`] ?? '')
      // As libprocess without LIBPROCESS_SSL_CIPHERS, and without ECDSA in any of them.
      const mesos = { ciphers: 'AES128-SHA:AES256-SHA', maxVersion: 'TLSv1.2' } as const
      return { cert: await file('CERT_FILE'), key: await file('KEY_FILE'), ca: await file('CA_FILE'), ...mesos }
    }
    // At once: one root comes of it.
    const [master, agent] = await Promise.all([node('master'), node('agent')])
    expect(agent.ca).toEqual(master.ca)
    const server = createTlsServer({ ...master, requestCert: true }, (socket) => {
      socket.end(String(socket.getPeerCertificate().subject.CN))
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const { port } = server.address() as AddressInfo
    const ask = async (as: object): Promise<string> => {
      const socket = connectTls({ host: '127.0.0.1', port, ca: master.ca, ...as }).setEncoding('utf8')
      let text = ''
      for await (const chunk of socket) text += chunk as string
      return text
    }
    expect(await ask(agent)).toBe('agent.cluster.example')
    await expect(ask({ maxVersion: 'TLSv1.2' })).rejects.toThrow()
    server.close()
  })

  it('node-https obtains its own certificate and serves it', async () => {
    const [httpPort = 0, httpsPort = 0] = await freePorts(2)
    const { ca, env } = await acmeSettings(httpPort)
    const running = runExample('node-https/main.ts', { ...env, NAME: 'self.example', HTTPS_PORT: String(httpsPort) })
    await printed(running, 'served')
    const probe = await probeTls({ port: httpsPort, servername: 'self.example', caPem: ca.rootPem })
    expect(probe.authorized).toBe(true)
    running.child.kill('SIGTERM')
    const [code] = (await once(running.child, 'exit')) as [number | null]
    expect(code, running.output()).toBe(0)
    await ca.close()
  })
})

describeWith(['haproxy'], 'examples with HAProxy', () => {
  it('webroot-haproxy writes the placeholder, then the certificate, and HAProxy serves it', async () => {
    const webroot = join(work.path, 'webroot')
    await mkdir(webroot)
    const web = createServer((request, response) => {
      createReadStream(join(webroot, request.url ?? ''))
        .on('error', () => response.writeHead(404).end())
        .pipe(response)
    })
    const [httpPort = 0, httpsPort = 0] = await freePorts(2)
    web.listen(httpPort, '127.0.0.1')
    await once(web, 'listening')
    const { ca, env } = await acmeSettings(httpPort)
    const certificates = join(work.path, 'certificates')
    await mkdir(certificates)
    const pem = join(certificates, 'www.pem')
    // HAProxy as it is before the service has run: it serves the placeholder until then.
    const socket = join(work.path, 'admin.sock')
    const settings = {
      ...env,
      NAMES: 'www.example.com',
      WEBROOT: webroot,
      PEM: pem,
      HAPROXY_SOCKET: socket,
      HTTPS_PORT: String(httpsPort),
    }
    const first = runExample('webroot-haproxy/main.ts', settings)
    await printed(first, 'deployment failed')
    first.child.kill('SIGTERM')
    const haproxy = await startHaproxy({ certificates: [pem], tlsPort: httpsPort })
    const second = runExample('webroot-haproxy/main.ts', { ...settings, HAPROXY_SOCKET: haproxy.adminSocket ?? '' })
    await printed(second, 'served')
    const probe = await probeTls({ port: httpsPort, servername: 'www.example.com', caPem: ca.rootPem })
    expect(probe.authorized).toBe(true)
    await haproxy.stop()
    await ca.close()
    web.close()
  })
})

describeWith(['etcd', 'kube-apiserver'], 'examples with Kubernetes', () => {
  const folder = fileURLToPath(new URL('../../examples/kubernetes-emissary', import.meta.url))
  const manifests = async (name: string): Promise<KubeManifest[]> =>
    loadAllYaml(await readFile(join(folder, 'manifests', `${name}.yaml`), 'utf8')) as KubeManifest[]

  it('kubernetes-emissary prints the permissions of its manifests', async () => {
    const printing = runExample('kubernetes-emissary/permissions.ts')
    const [code] = (await once(printing.child, 'close')) as [number | null]
    expect(code, printing.output()).toBe(0)
    expect(printing.output()).toBe(await readFile(join(folder, 'manifests/permissions.yaml'), 'utf8'))
  })

  it('kubernetes-emissary prints the policy for Route 53', async () => {
    const printing = runExample('kubernetes-emissary/permissions.ts', { HOSTED_ZONE_ID: 'Z1D633PJN98FT9' }, ['--iam'])
    const [code] = (await once(printing.child, 'close')) as [number | null]
    expect(code, printing.output()).toBe(0)
    expect(JSON.parse(printing.output())).toEqual(
      route53Solver({ hostedZoneId: 'Z1D633PJN98FT9' }).requiredPermissions(),
    )
  })

  it('kubernetes-emissary fills the Secret of its Host, with the account and the rights of its manifests', async () => {
    const [httpPort = 0] = await freePorts(1)
    const { ca, env } = await acmeSettings(httpPort)
    const kube = await startKubeApiserver()
    try {
      const create = (manifest: KubeManifest) =>
        kube.admin.call('POST', `${collectionPath(manifest)}?fieldValidation=Strict`, manifest)
      for (const name of ['emissary', 'web']) {
        await kube.admin.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
      }
      for (const name of ['account', 'permissions', 'deployment', 'ingress']) {
        for (const manifest of await manifests(name)) await create(manifest)
      }
      // Emissary's own kinds are not known here: only what they refer to is looked at.
      const host = (await manifests('emissary')).find(({ kind }) => kind === 'Host')
      const { name } = (host?.['spec'] as { tlsSecret: { name: string } }).tlsSecret
      const deployment = (await manifests('deployment')).find(({ kind }) => kind === 'Deployment')
      const text = JSON.stringify(deployment)
      expect(text).toContain(JSON.stringify({ name: 'SECRET', value: name }))
      expect(text).toContain(JSON.stringify({ name: 'NAMESPACES', value: host?.metadata.namespace }))

      const file = join(work.path, 'kubeconfig')
      const token = await kube.createToken('evercert', 'evercert')
      await writeFile(file, JSON.stringify(kubeConfig(kube.url, kube.caPem, { token })))
      const service = runExample('kubernetes-emissary/main.ts', {
        ...env,
        SOLVER: 'http-01',
        KUBECONFIG: file,
      })
      await printed(service, 'placeholder www is in')
      await printed(service, 'certificate www is in')
      const secret = await kube.admin.find(`/api/v1/namespaces/emissary/secrets/${name}`)
      const [chain, key] = ['tls.crt', 'tls.key'].map((entry) =>
        Buffer.from(secret!.data![entry]!, 'base64').toString(),
      )
      expect(pairOf(chain!, key!).keyMatches).toBe(true)
      expect(chain!.match(/BEGIN CERTIFICATE/g)).toHaveLength(2)
      service.child.kill('SIGTERM')
      const [code] = (await once(service.child, 'exit')) as [number | null]
      expect(code, service.output()).toBe(0)
      expect(service.output()).not.toMatch(/PRIVATE KEY/)
    } finally {
      await kube.stop()
      await ca.close()
    }
  })
})
