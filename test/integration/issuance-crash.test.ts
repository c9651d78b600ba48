/**
 * kill -9 at every step of an issuance and of a renewal, then a new process: same order, same key, one certificate.
 */
import { spawn } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startTestCa, type TestCa } from '../../src/testing/test-ca/index.js'
import type { Instructions } from './programs/issue-program.js'
import { bundleProgram } from '../support/bundle-program.js'
import { temporaryDirectory, type TemporaryDirectory } from '../support/temporary-directory.js'

let work: TemporaryDirectory
let server: Server
let httpPort: number
let webroot: string
let program: string

beforeAll(async () => {
  work = await temporaryDirectory()
  webroot = join(work.path, 'webroot')
  await mkdir(webroot)
  server = createServer((request, response) => {
    createReadStream(join(webroot, request.url ?? ''))
      .on('error', () => response.writeHead(404).end())
      .pipe(response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  httpPort = (server.address() as AddressInfo).port
  program = await bundleProgram('issue-program')
})

afterAll(async () => {
  server.close()
  await work.remove()
})

async function run(instructions: Instructions): Promise<{ killed: boolean; said: string; stderr: string }> {
  const child = spawn(process.execPath, [program, JSON.stringify(instructions)], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  return { killed: signal === 'SIGKILL', said, stderr }
}

/** What is deployed: always a key with its own certificate, never half a file. */
async function deployed(pemPath: string): Promise<X509Certificate | undefined> {
  const pem = await readFile(pemPath, 'utf8').catch(() => undefined)
  if (pem === undefined) return undefined
  const certificate = new X509Certificate(pem)
  const key = createPrivateKey(pem.slice(pem.indexOf('-----BEGIN PRIVATE KEY-----')))
  expect(certificate.checkPrivateKey(key)).toBe(true)
  return certificate
}

async function scenario(name: string): Promise<{ ca: TestCa; instructions: Instructions }> {
  // As Let's Encrypt does: a reply to newOrder that was lost costs nothing, the same order comes back.
  const ca = await startTestCa({ httpPort, reuseOrders: true })
  const directory = join(work.path, name)
  await mkdir(directory)
  return {
    ca,
    instructions: {
      directoryUrl: ca.directoryUrl,
      caPem: ca.httpsCaPem,
      httpPort,
      storeDirectory: join(directory, 'store'),
      webroot,
      pemPath: join(directory, 'pem', 'www.pem'),
      killAtStep: 0,
      key: 'ecdsa-p256',
    },
  }
}

it.each([
  ['the first issuance', false],
  ['a renewal', true],
])(
  '%s killed at every step leads to one order, one key and one certificate',
  { timeout: 300_000 },
  async (title, renewal) => {
    let fired = 0
    for (let step = 1; ; step += 1) {
      const label = `${title}, step ${String(step)}`
      const { ca, instructions: initial } = await scenario(`${renewal ? 'renewal' : 'first'}-${String(step)}`)
      if (renewal) await run(initial)
      const instructions: Instructions = renewal ? { ...initial, key: 'ecdsa-p384' } : initial
      const before = { orders: ca.orders.length, certificates: ca.certificates.length }
      const serving = await deployed(instructions.pemPath)
      const first = await run({ ...instructions, killAtStep: step })
      if (!first.killed) {
        expect(JSON.parse(first.said), first.stderr).toMatchObject({ status: 'renewed' })
        await ca.close()
        break
      }
      fired += 1
      const between = await deployed(instructions.pemPath)
      const second = await run(instructions)
      expect(second.killed, second.stderr).toBe(false)
      const third = await run(instructions)
      expect(JSON.parse(third.said), `${label}: ${third.stderr}`).toMatchObject({ status: 'unchanged' })

      expect(ca.orders.length - before.orders, label).toBe(1)
      expect(ca.certificates.length - before.certificates, label).toBe(1)
      expect(ca.accounts.length, label).toBe(1)
      const now = await deployed(instructions.pemPath)
      expect(now?.raw, label).toEqual(new X509Certificate(ca.certificates.at(-1)?.pem ?? '').raw)
      if (renewal) expect([serving?.fingerprint256, now?.fingerprint256], label).toContain(between?.fingerprint256)
      else if (between !== undefined && between.fingerprint256 !== now?.fingerprint256) {
        expect(between.subject, label).toContain('evercert placeholder')
      }
      expect(await readdir(join(webroot, '.well-known', 'acme-challenge')).catch(() => []), label).toEqual([])
      await ca.close()
    }
    expect(fired).toBeGreaterThan(20)
  },
)
