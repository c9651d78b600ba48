/**
 * Replicas of a service on one store: what they do together is what one of them would have done, also when one is killed,
 * stopped for longer than its lease, or cut off, at any step.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream, readFileSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { build } from 'tsup'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { startTestCa, type TestCa } from '../../src/testing/test-ca/index.js'
import { startKubeApiserver, type KubeApiserver } from '../support/kube-apiserver.js'
import { startPostgres, type PostgresServer } from '../support/postgres.js'
import { startRedis, type RedisServer } from '../support/redis.js'
import { describeWith } from '../support/servers.js'
import { temporaryDirectory, type TemporaryDirectory } from '../support/temporary-directory.js'
import type { ReplicaInstructions } from './programs/replica-program.js'

/** Inside node_modules, so that the bundle finds its dependencies and git does not see it. */
const bundles = fileURLToPath(new URL('../../node_modules/.cache/evercert-replica-program', import.meta.url))
const engines = ['redis', 'ioredis', 'postgres', 'kubernetes', 'file'] as const
const shared = ['redis', 'postgres', 'kubernetes'] as const

type Engine = (typeof engines)[number]

interface Replica {
  readonly child: ChildProcess
  readonly said: Readonly<Record<string, unknown>>[]
  readonly stderr: () => string
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
}

describeWith(['redis-server', 'postgres', 'etcd', 'kube-apiserver'], 'replicas on one store', () => {
  let work: TemporaryDirectory
  let web: Server
  let webroot: string
  let httpPort: number
  let redis: RedisServer
  let postgres: PostgresServer
  let kube: KubeApiserver
  let count = 0
  const started = new Set<ChildProcess>()

  beforeAll(async () => {
    work = await temporaryDirectory()
    webroot = join(work.path, 'webroot')
    await mkdir(webroot)
    web = createServer((request, response) => {
      createReadStream(join(webroot, request.url ?? ''))
        .on('error', () => response.writeHead(404).end())
        .pipe(response)
    }).listen(0, '127.0.0.1')
    await once(web, 'listening')
    httpPort = (web.address() as AddressInfo).port
    ;[redis, postgres, kube] = await Promise.all([startRedis(), startPostgres(), startKubeApiserver()])
    await build({
      entry: { program: fileURLToPath(new URL('programs/replica-program.ts', import.meta.url)) },
      outDir: bundles,
      format: 'esm',
      target: 'node20',
      config: false,
      silent: true,
      splitting: false,
      skipNodeModulesBundle: true,
      outExtension: () => ({ js: '.mjs' }),
    })
  })

  afterAll(async () => {
    for (const child of started) child.kill('SIGKILL')
    web.close()
    await Promise.all([redis.stop(), postgres.stop(), kube.stop()])
    await work.remove()
  })

  function run(instructions: ReplicaInstructions): Replica {
    const child = spawn(process.execPath, [join(bundles, 'program.mjs'), JSON.stringify(instructions)], {
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    started.add(child)
    const said: Readonly<Record<string, unknown>>[] = []
    createInterface(child.stdout).on('line', (line) => said.push(JSON.parse(line) as Record<string, unknown>))
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const ended = once(child, 'close').then(([code, signal]) => {
      started.delete(child)
      return { code: code as number | null, signal: signal as NodeJS.Signals | null }
    })
    return { child, said, stderr: () => stderr, ended }
  }

  async function scenario(
    engine: Engine,
    change: Partial<ReplicaInstructions> = {},
  ): Promise<{ ca: TestCa; instructions: ReplicaInstructions }> {
    // As Let's Encrypt does: a reply to newOrder that was lost costs nothing, the same order comes back.
    const ca = await startTestCa({ httpPort, reuseOrders: true })
    const name = `replicas_${String((count += 1))}`
    return {
      ca,
      instructions: {
        engine,
        port: engine === 'postgres' ? postgres.port : redis.port,
        place: engine === 'file' ? join(work.path, name) : name,
        kubeConfigFile: kube.adminKubeConfigPath,
        directoryUrl: ca.directoryUrl,
        caPem: ca.httpsCaPem,
        httpPort,
        webroot,
        node: 'one',
        journal: join(work.path, `${name}.journal`),
        lockTtlMs: 60_000,
        key: 'ecdsa-p256',
        mode: 'passes',
        steps: 'all',
        endAtStep: 0,
        signal: 'SIGKILL',
        ...change,
      },
    }
  }

  interface Deployed {
    readonly node: string
    readonly target: string
    readonly fingerprint: string
  }

  async function journalOf({ journal }: ReplicaInstructions): Promise<Deployed[]> {
    const text = await readFile(journal, 'utf8').catch(() => '')
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split(' '))
      .map(([node = '', target = '', fingerprint = '']) => ({ node, target, fingerprint }))
  }

  describe.each(engines)('%s: processes that start in the same moment on an empty store', (engine) => {
    it.each([1, 3, 10])('%i of them: one account, one order, one certificate, all deployed', async (replicas) => {
      const { ca, instructions } = await scenario(engine, { mode: 'start' })
      const all = Array.from({ length: replicas }, (_, index) =>
        run({ ...instructions, node: `node-${String(index)}` }),
      )
      await waitFor(() => all.every(({ said }) => said.length > 0), all)
      for (const { child } of all) child.stdin?.write('start\n')
      await waitFor(() => all.every(({ said }) => said.some(({ target }) => target === 'node')), all)
      const cluster = () => all.flatMap(({ said }) => said.filter(({ target }) => target === 'cluster'))
      await waitFor(() => cluster().length > 0, all)
      for (const { child } of all) child.stdin?.end('stop\n')
      for (const replica of all) expect(await replica.ended, replica.stderr()).toEqual({ code: 0, signal: null })

      expect(ca.accounts).toHaveLength(1)
      expect(ca.orders).toHaveLength(1)
      expect(ca.certificates).toHaveLength(1)
      const deployed = await journalOf(instructions)
      expect(new Set(deployed.map(({ fingerprint }) => fingerprint)).size).toBe(1)
      const nodes = deployed.filter(({ target }) => target === 'node').map(({ node }) => node)
      expect(nodes.sort()).toEqual(all.map((_, index) => `node-${String(index)}`).sort())
      expect(deployed.filter(({ target }) => target === 'cluster')).toHaveLength(1)
      await ca.close()
    })
  })

  describe.concurrent.each(shared)('%s: a process that is killed', (engine) => {
    it('at every step is followed by one that ends the same order', { timeout: 600_000 }, async () => {
      const lockTtlMs = 900
      let longest = 0
      const fired = await sweep(4, async (endAtStep) => {
        const { ca, instructions } = await scenario(engine, { lockTtlMs, endAtStep })
        const first = run(instructions)
        const { signal } = await first.ended
        if (signal !== 'SIGKILL') {
          expect(first.said.at(-1), first.stderr()).toMatchObject({ status: 'renewed' })
          await ca.close()
          return false
        }
        const label = `killed at step ${String(endAtStep)}`
        const second = run({ ...instructions, node: 'two', endAtStep: 0 })
        expect(await second.ended, `${label}: ${second.stderr()}`).toEqual({ code: 0, signal: null })
        longest = Math.max(longest, Number(second.said.at(-1)?.['tookMs']))
        expect([ca.accounts.length, ca.orders.length, ca.certificates.length], label).toEqual([1, 1, 1])
        const deployed = await journalOf(instructions)
        expect(new Set(deployed.map(({ fingerprint }) => fingerprint)).size, label).toBe(1)
        expect(
          deployed.map(({ node, target }) => `${node} ${target}`),
          label,
        ).toContain('two node')
        await ca.close()
        return true
      })
      expect(fired).toBeGreaterThan(20)
      console.log(
        `${engine}: killed at ${String(fired)} steps, lease ${String(lockTtlMs)} ms, longest takeover ${String(longest)} ms`,
      )
    })
  })

  describe.concurrent.each(shared)('%s: a process that is stopped for three lives of its lease', (engine) => {
    it(
      'before any write costs no certificate, and every target ends with the newest',
      { timeout: 600_000 },
      async () => {
        const lockTtlMs = 900
        const fired = await sweep(3, async (endAtStep) => {
          const { ca, instructions } = await scenario(engine, {
            lockTtlMs,
            endAtStep,
            steps: 'writes',
            signal: 'SIGSTOP',
          })
          const label = `stopped at step ${String(endAtStep)}`
          const sleeper = run(instructions)
          let over = false
          void sleeper.ended.then(() => (over = true))
          await waitFor(() => over || isStopped(sleeper.child.pid!), [sleeper])
          if (over) {
            expect(sleeper.said.at(-1), sleeper.stderr()).toMatchObject({ status: 'renewed' })
            await ca.close()
            return false
          }
          const stoppedAt = performance.now()
          const next = run({ ...instructions, node: 'two', endAtStep: 0, renewAgain: true })
          expect(await next.ended, `${label}: ${next.stderr()}`).toEqual({ code: 0, signal: null })
          await vi.waitUntil(() => performance.now() - stoppedAt > 3 * lockTtlMs, { timeout: 60_000 })
          const newest = (await journalOf(instructions)).at(-1)?.fingerprint
          sleeper.child.kill('SIGCONT')
          expect(await sleeper.ended, `${label}: ${sleeper.stderr()}`).toEqual({ code: 0, signal: null })

          // The order that was under way and the forced renewal, and nothing of the sleeper's own.
          expect([ca.accounts.length, ca.certificates.length], label).toEqual([1, 2])
          expect(ca.orders.length, label).toBeLessThanOrEqual(2)
          // A target cannot tell an old certificate from a new one: what goes out in the very moment of waking is put right.
          const shared = (await journalOf(instructions)).filter(({ target }) => target === 'cluster')
          expect(shared.at(-1)?.fingerprint, `${label}: on the shared target`).toBe(newest)
          // A service goes on with its next pass, which brings the newest to its own target, and orders nothing.
          const later = run({ ...instructions, endAtStep: 0 })
          expect(await later.ended, `${label}: ${later.stderr()}`).toEqual({ code: 0, signal: null })
          expect(ca.certificates.length, label).toBe(2)
          const own = (await journalOf(instructions)).filter(({ node, target }) => node === 'one' && target === 'node')
          expect(own.at(-1)?.fingerprint, label).toBe(newest)
          await ca.close()
          return true
        })
        expect(fired).toBeGreaterThan(5)
        console.log(`${engine}: stopped before ${String(fired)} writes for three times ${String(lockTtlMs)} ms`)
      },
    )
  })
})

/**
 * At step 1, 2, ... until a step is not reached any more; a few at once, because most of the time is waiting (for a minute
 * where the ACME account was locked), and each of them has a CA and a place in the store of its own. `at` tells whether the
 * step was reached.
 *
 * @returns how many were
 */
async function sweep(atOnce: number, at: (step: number) => Promise<boolean>): Promise<number> {
  let next = 1
  let fired = 0
  let ended = false
  const takeSteps = async (): Promise<void> => {
    while (!ended) {
      const reached = await at(next++)
      if (reached) fired += 1
      else ended = true
    }
  }
  await Promise.all(Array.from({ length: atOnce }, takeSteps))
  return fired
}

/** Real processes: what they say is waited for, and what they said is shown when it does not come. */
async function waitFor(condition: () => boolean, replicas: readonly Replica[]): Promise<void> {
  await vi.waitUntil(condition, { timeout: 60_000, interval: 10 }).catch((error: unknown) => {
    const said = replicas.map(({ said, stderr }) => `${JSON.stringify(said)} ${stderr()}`)
    throw new Error(`waited in vain: ${said.join('\n')}`, { cause: error })
  })
}

function isStopped(pid: number): boolean {
  const status = readFileSync(`/proc/${String(pid)}/stat`, 'latin1')
  return status.slice(status.lastIndexOf(')') + 2).startsWith('T')
}
