/**
 * The examples, run as their READMEs say, against a test CA.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadAllYaml } from '@kubernetes/client-node'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { startTestCa, type TestCa } from '../../src/testing/index.js'
import { startHaproxy } from '../support/haproxy.js'
import { collectionPath, kubeConfig, startKubeApiserver, type KubeManifest } from '../support/kube-apiserver.js'
import { freePorts } from '../support/processes.js'
import { pairOf } from '../support/read-pair.js'
import { describeWith } from '../support/servers.js'
import { temporaryDirectory, type TemporaryDirectory } from '../support/temporary-directory.js'
import { probeTls } from '../support/tls-probe.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const tsx = join(root, 'node_modules/tsx/dist/cli.mjs')

let work: TemporaryDirectory
const children: ChildProcess[] = []

beforeEach(async () => {
  work = await temporaryDirectory()
})

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
  }
  await work.remove()
})

function run(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): { child: ChildProcess; output(): string } {
  const child = spawn(process.execPath, args, { cwd: root, env: { PATH: process.env['PATH'] ?? '', ...env } })
  children.push(child)
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  return { child, output: () => output }
}

const example = (path: string): string[] => [tsx, '--tsconfig', 'tsconfig.check.json', `examples/${path}`]

/** Waits until the text was printed; fails when the example ends before. */
async function printed({ child, output }: ReturnType<typeof run>, text: string): Promise<void> {
  await vi
    .waitUntil(
      () => {
        if (child.exitCode !== null) throw new Error(`ended with ${String(child.exitCode)}: ${output()}`)
        return output().includes(text)
      },
      { timeout: 30_000, interval: 20 },
    )
    .catch((error: unknown) => {
      throw new Error(`did not print ${text}: ${output()}`, { cause: error })
    })
}

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
    const tested = run(['--import', 'tsx', '--test', 'examples/custom-deployer/key-value-deployer.test.ts'], {
      TSX_TSCONFIG_PATH: 'tsconfig.check.json',
    })
    const [code] = (await once(tested.child, 'close')) as [number | null]
    expect(code, tested.output()).toBe(0)
    expect(tested.output()).toMatch(/pass [1-9]/)
  })

  it('custom-deployer issues and deploys', async () => {
    const ran = run(example('custom-deployer/main.ts'))
    const [code] = (await once(ran.child, 'close')) as [number | null]
    expect(code, ran.output()).toBe(0)
    expect(ran.output()).toContain('deployed to key-value:tls/www')
  })

  it('node-https obtains its own certificate and serves it', async () => {
    const [httpPort = 0, httpsPort = 0] = await freePorts(2)
    const { ca, env } = await acmeSettings(httpPort)
    const running = run(example('node-https/main.ts'), { ...env, NAME: 'self.example', HTTPS_PORT: String(httpsPort) })
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
    const first = run(example('webroot-haproxy/main.ts'), settings)
    await printed(first, 'deployment failed')
    first.child.kill('SIGTERM')
    const haproxy = await startHaproxy({ certificates: [pem], tlsPort: httpsPort })
    const second = run(example('webroot-haproxy/main.ts'), { ...settings, HAPROXY_SOCKET: haproxy.adminSocket ?? '' })
    await printed(second, 'served')
    const probe = await probeTls({ port: httpsPort, servername: 'www.example.com', caPem: ca.rootPem })
    expect(probe.authorized).toBe(true)
    await haproxy.stop()
    await ca.close()
    web.close()
  })
})

describeWith(['etcd', 'kube-apiserver'], 'examples with Kubernetes', () => {
  const folder = join(root, 'examples/kubernetes-emissary')
  const manifests = async (name: string): Promise<KubeManifest[]> =>
    loadAllYaml(await readFile(join(folder, 'manifests', `${name}.yaml`), 'utf8')) as KubeManifest[]

  it('kubernetes-emissary prints the permissions of its manifests', async () => {
    const printing = run(example('kubernetes-emissary/permissions.ts'))
    const [code] = (await once(printing.child, 'close')) as [number | null]
    expect(code, printing.output()).toBe(0)
    expect(printing.output()).toBe(await readFile(join(folder, 'manifests/permissions.yaml'), 'utf8'))
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
      const service = run(example('kubernetes-emissary/main.ts'), { ...env, KUBECONFIG: file })
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
