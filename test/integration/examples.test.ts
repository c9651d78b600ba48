/**
 * The examples, run as their READMEs say, against a test CA.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { startTestCa, type TestCa } from '../../src/testing/index.js'
import { startHaproxy } from '../support/haproxy.js'
import { freePorts } from '../support/processes.js'
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

  it('mesos-private-ca writes files with which two nodes of one CA authenticate each other', async () => {
    const node = async (name: string) => {
      const directory = join(work.path, name)
      const restarted = join(work.path, `${name}-restarted`)
      const running = run(example('mesos-private-ca/main.ts'), {
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
