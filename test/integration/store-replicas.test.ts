/**
 * Replicas of a service on one store: what they do together is what one of them would have done, also when one is killed,
 * stopped for longer than its lease, or cut off, at any step.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { bundleProgram } from '../support/bundle-program.js'
import {
  journalOf,
  startReplicaWorld,
  storedIn,
  sweepSteps,
  type ReplicaScenario,
  type ReplicaWorld,
} from '../support/replica-world.js'
import { describeWith } from '../support/servers.js'
import type { ReplicaInstructions } from './programs/replica-program.js'

const engines = ['redis', 'ioredis', 'postgres', 'kubernetes', 'file'] as const
const shared = ['redis', 'postgres', 'kubernetes'] as const

interface Replica {
  readonly child: ChildProcess
  readonly said: Readonly<Record<string, unknown>>[]
  readonly stderr: () => string
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
}

describeWith(['redis-server', 'postgres', 'etcd', 'kube-apiserver'], 'replicas on one store', () => {
  let world: ReplicaWorld
  let program: string
  const started = new Set<ChildProcess>()
  const defaults = { mode: 'passes', endAtStep: 0, signal: 'SIGKILL' } as const

  beforeAll(async () => {
    world = await startReplicaWorld()
    program = await bundleProgram('replica-program', { withDependencies: false })
  })

  afterAll(async () => {
    for (const child of started) child.kill('SIGKILL')
    await world.stop()
  })

  function run(replica: ReplicaScenario['replica'], change: Partial<ReplicaInstructions> = {}): Replica {
    const instructions: ReplicaInstructions = { ...replica, ...defaults, ...change }
    const child = spawn(process.execPath, [program, JSON.stringify(instructions)], {
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

  describe.each(engines)('%s: processes that start in the same moment on an empty store', (engine) => {
    it.each([1, 3, 10])('%i of them: one account, one order, one certificate, all deployed', async (replicas) => {
      const { ca, replica } = await world.scenario(engine)
      const all = Array.from({ length: replicas }, (_, index) =>
        run(replica, { mode: 'start', node: `node-${String(index)}` }),
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
      const deployed = await journalOf(replica)
      expect(new Set(deployed.map(({ fingerprint }) => fingerprint)).size).toBe(1)
      const nodes = deployed.filter(({ target }) => target === 'node').map(({ node }) => node)
      expect(nodes.sort()).toEqual(all.map((_, index) => `node-${String(index)}`).sort())
      expect(deployed.filter(({ target }) => target === 'cluster')).toHaveLength(1)
      await ca.close()
    })
  })

  // One engine after the other: a lease is lost where processes get no turn, and the time of a takeover counts here.
  describe.each(shared)('%s: a process that is killed', (engine) => {
    it(
      'at every step is followed within lease and 15 s by one that ends the same order',
      { timeout: 600_000 },
      async () => {
        const lockTtlMs = 3_000
        let longest = 0
        const fired = await sweepSteps(3, async (endAtStep) => {
          const { ca, replica } = await world.scenario(engine, { lockTtlMs })
          const first = run(replica, { endAtStep })
          const { signal } = await first.ended
          if (signal !== 'SIGKILL') {
            expect(first.said.at(-1), first.stderr()).toMatchObject({ status: 'renewed' })
            await ca.close()
            return false
          }
          const label = `killed at step ${String(endAtStep)}`
          const second = run(replica, { node: 'two' })
          expect(await second.ended, `${label}: ${second.stderr()}`).toEqual({ code: 0, signal: null })
          const tookMs = Number(second.said.at(-1)?.['tookMs'])
          expect(tookMs, `${label}: ${JSON.stringify(second.said)}`).toBeLessThan(lockTtlMs + 15_000)
          longest = Math.max(longest, tookMs)
          expect([ca.accounts.length, ca.orders.length, ca.certificates.length], label).toEqual([1, 1, 1])
          const deployed = await journalOf(replica)
          expect(new Set(deployed.map(({ fingerprint }) => fingerprint)).size, label).toBe(1)
          expect(
            deployed.map(({ node, target }) => `${node} ${target}`),
            label,
          ).toContain('two node')
          await ca.close()
          return true
        })
        expect(fired).toBeGreaterThan(20)
        expect(longest).toBeGreaterThan(lockTtlMs / 2)
        console.log(
          `${engine}: killed at ${String(fired)} steps, lease ${String(lockTtlMs)} ms, longest takeover ${String(longest)} ms`,
        )
      },
    )
  })

  describe.concurrent.each(shared)('%s: a process that is stopped for three lives of its lease', (engine) => {
    it('at any step writes nothing and deploys nothing old when it goes on', { timeout: 600_000 }, async () => {
      const lockTtlMs = 2_000
      const fired = await sweepSteps(4, async (endAtStep) => {
        const { ca, replica } = await world.scenario(engine, { lockTtlMs })
        const label = `stopped at step ${String(endAtStep)}`
        const sleeper = run(replica, { endAtStep, signal: 'SIGSTOP' })
        let over = false
        void sleeper.ended.then(() => (over = true))
        await waitFor(() => over || isStopped(sleeper.child.pid!), [sleeper])
        if (over) {
          expect(sleeper.said.at(-1), sleeper.stderr()).toMatchObject({ status: 'renewed' })
          await ca.close()
          return false
        }
        const stoppedAt = performance.now()
        const next = run(replica, { node: 'two', renewAgain: true })
        expect(await next.ended, `${label}: ${next.stderr()}`).toEqual({ code: 0, signal: null })
        await vi.waitUntil(() => performance.now() - stoppedAt > 3 * lockTtlMs, { timeout: 60_000 })
        const [stored, before] = [await storedIn(replica), await journalOf(replica)]
        const newest = before.at(-1)?.fingerprint
        sleeper.child.kill('SIGCONT')
        expect(await sleeper.ended, `${label}: ${sleeper.stderr()}`).toEqual({ code: 0, signal: null })

        // The renewal that was under way, whoever ended it, and the forced one.
        const said = JSON.stringify([sleeper.said, next.said])
        expect([ca.accounts.length, ca.certificates.length], `${label}: ${said}`).toEqual([1, 2])
        expect(ca.orders.length, label).toBeLessThanOrEqual(2)
        const after = (await journalOf(replica)).slice(before.length)
        expect(
          after.filter(({ fingerprint }) => fingerprint !== newest),
          `${label}: old, after it went on`,
        ).toEqual([])
        expect(await storedIn(replica), label).toEqual(stored)
        // Its own target has the newest, too: it went on with its next pass.
        const own = (await journalOf(replica)).filter(({ node, target }) => node === 'one' && target === 'node')
        expect(own.at(-1)?.fingerprint, label).toBe(newest)
        await ca.close()
        return true
      })
      expect(fired).toBeGreaterThan(20)
      console.log(`${engine}: stopped at ${String(fired)} steps for three times ${String(lockTtlMs)} ms`)
    })
  })
})

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
