/**
 * examples/replicas: workers as processes of their own, on the engines they share.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect as connectTcp, createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { startEdgeStandIn } from '../../examples/replicas/edge-stand-in.js'
import { edgeDeployer } from '../../examples/replicas/edge-deployer.js'
import { openStore } from '../../examples/replicas/open-store.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLogger } from '../../src/core/logger.js'
import { storeResponder } from '../../src/solvers/store-responder.js'
import { deployerContract, startTestCa } from '../../src/testing/index.js'
import { startKubeApiserver } from '../support/kube-apiserver.js'
import { startPostgres } from '../support/postgres.js'
import { freePorts, withFreePorts } from '../support/ports.js'
import { startRedis } from '../support/redis.js'
import { printed, runExample, runNode, type RunningExample } from '../support/run-example.js'
import { describeWith } from '../support/servers.js'
import { temporaryDirectory } from '../support/temporary-directory.js'
import { probeTls, startHandshakeLoad } from '../support/tls-probe.js'

const servername = 'www.replicas.example'
const storeKey = Buffer.alloc(32, 9).toString('base64')

/** Where an engine is, as the example's `STORE` says it. */
const engines = {
  async redis(): Promise<string> {
    const redis = await startRedis()
    onTestFinished(() => redis.stop())
    return `redis://127.0.0.1:${String(redis.port)}`
  },
  async postgres(): Promise<string> {
    const postgres = await startPostgres()
    onTestFinished(() => postgres.stop())
    return `postgres://postgres@127.0.0.1:${String(postgres.port)}/postgres`
  },
  async kubernetes(): Promise<string> {
    const kube = await startKubeApiserver()
    onTestFinished(() => kube.stop())
    return `kubernetes://default?kubeconfig=${encodeURIComponent(kube.adminKubeConfigPath)}`
  },
  async file(): Promise<string> {
    const directory = await temporaryDirectory()
    onTestFinished(() => directory.remove())
    return join(directory.path, 'store')
  },
} as const

/** One port before those of several workers, each asked in turn; one that is away is passed over. */
async function startBalancer(ports: readonly number[]): Promise<number> {
  let turn = 0
  const open = new Set<Socket>()
  const server = createServer((client) => {
    open.add(client)
    client.on('error', () => undefined).on('close', () => open.delete(client))
    const first = (turn += 1)
    const pass = (tries: number): void => {
      const upstream = connectTcp(ports[(first + tries) % ports.length]!, '127.0.0.1')
      let connected = false
      upstream.once('connect', () => {
        connected = true
        client.pipe(upstream).pipe(client)
        client.once('close', () => upstream.destroy())
      })
      upstream.on('error', () => {
        if (!connected && tries + 1 < ports.length) pass(tries + 1)
        else client.destroy()
      })
    }
    pass(0)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    for (const client of open) client.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

/** A client that stays: what it is told over the one connection that it has. */
async function persistentClient(port: number): Promise<{ ask(): Promise<string>; readonly socket: TLSSocket }> {
  const socket = connectTls({ host: '127.0.0.1', port, servername, rejectUnauthorized: false }).setEncoding('utf8')
  await once(socket, 'secureConnect')
  onTestFinished(() => void socket.destroy())
  return {
    socket,
    async ask() {
      socket.write(`GET / HTTP/1.1\r\nHost: ${servername}\r\n\r\n`)
      const [answer] = (await once(socket, 'data')) as [string]
      return answer
    },
  }
}

/** A CA, an edge, and what workers are told. */
async function prepareService(engine: keyof typeof engines, ports: readonly number[]) {
  const place = await engines[engine]()
  const [http, https] = [ports.slice(0, 3), ports.slice(3)]
  const validationPort = await startBalancer(http)
  const ca = await startTestCa({ httpPort: validationPort })
  onTestFinished(() => ca.close())
  const edge = await startEdgeStandIn()
  onTestFinished(() => edge.close())
  const work = await temporaryDirectory()
  onTestFinished(() => work.remove())
  const caFile = join(work.path, 'ca.pem')
  await writeFile(caFile, ca.httpsCaPem)
  const settings = (index: number): Record<string, string> => ({
    NAMES: servername,
    STORE: place,
    STORE_KEY: storeKey,
    HTTP_PORT: String(http[index]),
    HTTPS_PORT: String(https[index]),
    VALIDATION_PORT: String(validationPort),
    ACME_DIRECTORY: ca.directoryUrl,
    ACME_CA: caFile,
    EDGE: edge.url,
    EDGE_TOKEN: edge.token,
  })
  const startWorker = (index: number): RunningExample =>
    runNode(['--import', 'tsx', 'examples/replicas/worker.ts'], {
      ...settings(index),
      TSX_TSCONFIG_PATH: 'tsconfig.check.json',
      WORKER: `worker-${String(index + 1)}`,
    })
  const served = async (indices: readonly number[]): Promise<ReadonlySet<string>> => {
    const probes = await Promise.all(
      indices.map((index) => probeTls({ port: https[index]!, servername, caPem: ca.rootPem })),
    )
    for (const { authorized, authorizationError } of probes) expect(authorized, authorizationError).toBe(true)
    return new Set(probes.map(({ fingerprintSha256 }) => fingerprintSha256))
  }
  return { place, ca, edge, http, https, settings, startWorker, served }
}

describeWith(['redis-server', 'postgres', 'etcd', 'kube-apiserver'], 'examples/replicas', () => {
  it.each(['redis', 'postgres', 'kubernetes', 'file'] as const)(
    '%s: three workers place one order, and all follow a renewal, also the one that was killed before',
    async (engine) => {
      const { place, ca, edge, http, https, startWorker, served, workers } = await withFreePorts(
        6,
        async (...ports) => {
          const service = await prepareService(engine, ports)
          const started = [0, 1, 2].map(service.startWorker)
          await Promise.all(started.map((worker) => printed(worker, 'listens')))
          return { ...service, workers: started }
        },
      )
      const [first, ...others] = await served([0, 1, 2])
      expect(others).toEqual([])
      await vi.waitUntil(() => edge.fingerprintSha256 === first, { timeout: 30_000 })
      expect([ca.accounts.length, ca.orders.length, ca.certificates.length, edge.uploads]).toEqual([1, 1, 1, 1])

      // A challenge that none of them has put there: the CA may come to any of them.
      const { store, close } = await openStore(place, storeKey)
      const context = {
        signal: new AbortController().signal,
        clock: systemClock,
        logger: silentLogger,
        random: Math.random,
      }
      const token = 'a-token-of-somebody'
      const keyAuthorization = `${token}.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs`
      await storeResponder({ store }).present(
        { type: 'http-01', identifier: { type: 'dns', value: servername }, token, keyAuthorization } as never,
        context,
      )
      for (const port of http) {
        // `fetch` does not take a Host of one's own.
        const socket = connectTcp(port, '127.0.0.1').setEncoding('utf8')
        socket.write(`GET /.well-known/acme-challenge/${token} HTTP/1.0\r\nHost: ${servername}\r\n\r\n`)
        let answer = ''
        for await (const chunk of socket) answer += chunk as string
        expect(answer).toContain(keyAuthorization)
      }
      await store.close?.()
      await close()

      const [one, , killed] = workers as [RunningExample, RunningExample, RunningExample]
      killed.child.kill('SIGKILL')
      await once(killed.child, 'exit')
      const staying = await Promise.all([0, 1].map((index) => persistentClient(https[index]!)))
      const loads = [0, 1].map((index) => startHandshakeLoad({ port: https[index]!, servername, perSecond: 50 }))
      one.child.kill('SIGUSR2')
      const renewed = async (): Promise<boolean> => {
        const now = await served([0, 1])
        return now.size === 1 && !now.has(first!)
      }
      await vi.waitUntil(renewed, { timeout: 60_000, interval: 50 })
      const [second] = await served([0, 1])
      for (const load of loads) {
        const { failures, fingerprints } = await load.stop()
        expect(failures).toEqual([])
        expect([...fingerprints.keys()].sort()).toEqual([first, second].sort())
      }
      for (const client of staying) expect(await client.ask()).toContain('200 OK')

      const replacement = startWorker(2)
      await printed(replacement, 'listens')
      expect(await served([0, 1, 2])).toEqual(new Set([second]))
      expect(replacement.output()).not.toContain(first)
      await vi.waitUntil(() => edge.fingerprintSha256 === second, { timeout: 30_000 })
      expect([ca.accounts.length, ca.orders.length, ca.certificates.length, edge.uploads]).toEqual([1, 2, 2, 2])

      // By one of them, and for the others it was in place: nobody found out for itself.
      const said = [...workers, replacement].flatMap(({ output }) => output().match(/\S+ (to|at) edge:/g) ?? [])
      expect(said.sort()).toEqual([`${first!} to edge:`, `${second!} to edge:`].sort())

      for (const client of staying) client.socket.destroy()
      for (const worker of [workers[0]!, workers[1]!, replacement]) {
        worker.child.kill('SIGTERM')
        expect(await once(worker.child, 'exit'), worker.output()).toEqual([0, null])
        expect(worker.output()).not.toMatch(/PRIVATE KEY|failed/)
      }
    },
  )
})

describe('examples/replicas on one machine', () => {
  it('shows a start, a worker that is replaced and a renewal, in one command', async () => {
    const ran = runExample('replicas/demo.ts')
    const [code] = (await once(ran.child, 'close')) as [number | null]
    expect(code, ran.output()).toBe(0)
    expect(ran.output()).toContain('1 order, 1 upload')
    expect(ran.output()).toContain('worker-2 has ended: SIGKILL')
    expect(ran.output()).toContain('1 order still')
    expect(ran.output()).toContain('2 orders, 2 uploads')
    expect(ran.output()).toMatch(/[1-9]\d* requests were answered, 0 failed/)
  })

  it('main.ts runs as many workers as it is told, on one port, and ends with all of them', async () => {
    const { ca, edge, settings, served } = await prepareService('file', await freePorts(6))
    const running = runExample('replicas/main.ts', { ...settings(0), WORKERS: '2' })
    await printed(running, 'worker-1 listens')
    await printed(running, 'worker-2 listens')
    await vi.waitUntil(() => edge.uploads > 0, { timeout: 30_000 })
    expect(await served([0])).toEqual(new Set([edge.fingerprintSha256]))
    expect([ca.orders.length, edge.uploads]).toEqual([1, 1])
    running.child.kill('SIGTERM')
    expect(await once(running.child, 'exit'), running.output()).toEqual([0, null])
  })

  deployerContract(
    { describe, it },
    {
      level: 'strict',
      clock: systemClock,
      async createDeployer() {
        const edge = await startEdgeStandIn()
        return {
          deployer: edgeDeployer(edge),
          readDeployed() {
            const { pair, fingerprintSha256 } = edge
            if (pair === undefined || fingerprintSha256 === undefined) return Promise.resolve(undefined)
            const keyMatches = new X509Certificate(pair.chain).checkPrivateKey(createPrivateKey(pair.key))
            return Promise.resolve({ fingerprintSha256, keyMatches })
          },
          failNextWrite: () => edge.failNextUpload(),
          writes: () => edge.uploads,
          dispose: () => edge.close(),
        }
      },
    },
  )
})
