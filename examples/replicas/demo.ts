/** Three workers, a test CA and an edge, all on this machine: start, a worker that is killed, and a renewal under load. */
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import { startTestCa } from 'evercert/testing'
import { startEdgeStandIn } from './edge-stand-in.js'
import { startWorkers } from './workers.js'

const names = ['worker-1', 'worker-2', 'worker-3']
const servername = 'www.demo.example'
const patienceMs = 60_000

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** Who answers on the shared port, and with which certificate. */
async function ask(port: number, ca: string): Promise<{ readonly worker: string; readonly fingerprint: string }> {
  const asking = request({ host: '127.0.0.1', port, servername, ca, agent: false, headers: { host: servername } })
  asking.end()
  const [response] = (await once(asking, 'response')) as [IncomingMessage]
  const { fingerprint256 } = (response.socket as TLSSocket).getPeerCertificate()
  const worker = (await text(response)).replace('hello from ', '').trim()
  return { worker, fingerprint: fingerprint256.replaceAll(':', '').toLowerCase() }
}

const directory = await mkdtemp(join(tmpdir(), 'evercert-replicas-'))
const [httpPort, httpsPort] = await Promise.all([freePort(), freePort()])
const ca = await startTestCa({ httpPort })
const edge = await startEdgeStandIn()
const caFile = join(directory, 'ca.pem')
await writeFile(caFile, ca.httpsCaPem)

/** Asks until every worker serves one certificate, and not `previous`. */
async function allServeOne(previous?: string): Promise<string> {
  const served = new Map<string, string>()
  const end = Date.now() + patienceMs
  while (Date.now() < end) {
    const answer = await ask(httpsPort, ca.rootPem).catch(() => undefined)
    if (answer !== undefined) served.set(answer.worker, answer.fingerprint)
    const [first] = served.values()
    const isOne = new Set(served.values()).size === 1 && edge.fingerprintSha256 === first
    if (first !== undefined && first !== previous && isOne && names.every((name) => served.has(name))) return first
    await sleep(20)
  }
  throw new Error('the workers do not serve one certificate')
}

console.log('\n1. Three workers start in the same moment, on an empty store')
const workers = startWorkers(names.length, {
  NAMES: servername,
  STORE: process.env['STORE'] ?? join(directory, 'store'),
  HTTP_PORT: String(httpPort),
  HTTPS_PORT: String(httpsPort),
  VALIDATION_PORT: String(httpPort),
  ACME_DIRECTORY: ca.directoryUrl,
  ACME_CA: caFile,
  EDGE: edge.url,
  EDGE_TOKEN: edge.token,
})
let loading = true
try {
  const first = await allServeOne()
  console.log(`all serve ${first}: ${String(ca.orders.length)} order, ${String(edge.uploads)} upload to the edge`)

  console.log('\n2. worker-2 is killed, and replaced')
  await workers.kill('worker-2')
  await allServeOne()
  console.log(`all serve ${first}: ${String(ca.orders.length)} order still`)

  console.log('\n3. A renewal while clients come and go')
  let answered = 0
  const failures: unknown[] = []
  const load = (async () => {
    while (loading) {
      await ask(httpsPort, ca.rootPem).then(
        () => {
          answered += 1
        },
        (error: unknown) => {
          failures.push(error)
        },
      )
    }
  })()
  workers.renewAt('worker-1')
  const second = await allServeOne(first)
  loading = false
  await load
  console.log(`all serve ${second}: ${String(ca.orders.length)} orders, ${String(edge.uploads)} uploads to the edge`)
  console.log(`meanwhile ${String(answered)} requests were answered, ${String(failures.length)} failed`)
  if (failures.length > 0) process.exitCode = 1
} finally {
  loading = false
  await workers.stop()
  await Promise.all([ca.close(), edge.close()])
  await rm(directory, { recursive: true })
}
