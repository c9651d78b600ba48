/**
 * The examples, run as their READMEs say, against a test CA.
 */
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { startTestCa, type TestCa } from '../../src/testing/index.js'
import { startHaproxy } from '../support/haproxy.js'
import { freePorts } from '../support/processes.js'
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
