/**
 * A replica that is cut off from the store in the middle of a renewal, at every request: the connection breaks before or after
 * one, or nothing passes for three lives of the lease and what was sent meanwhile arrives then.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import {
  journalOf,
  startReplicaWorld,
  storedIn,
  sweepSteps,
  type Engine,
  type ReplicaScenario,
  type ReplicaWorld,
} from '../support/replica-world.js'
import { describeWith } from '../support/servers.js'
import { tcpProxy, type TcpFault, type TcpProxy } from '../support/tcp-proxy.js'
import { openStore, replicaScheduler, untilSettled, type Settled } from './programs/replica-scheduler.js'

const engines = ['redis', 'ioredis', 'postgres', 'kubernetes'] as const
/** Life of a lease. An API server takes longer for a write than the others. */
const lockTtls = { redis: 1_000, ioredis: 1_000, postgres: 1_000, kubernetes: 3_000, file: 1_000 } as const

/** What there is once the fault came to pass. */
interface Cut {
  readonly proxy: TcpProxy
  readonly replica: ReplicaScenario['replica']
  /** The work of the replica behind the proxy. */
  readonly cutOff: Promise<Settled>
  readonly label: string
}

const noSteps = { beforeWrite: () => undefined, atStep: () => undefined }

describeWith(
  ['redis-server', 'postgres', 'etcd', 'kube-apiserver'],
  'replicas, one of them cut off from their store',
  () => {
    let world: ReplicaWorld

    beforeAll(async () => {
      world = await startReplicaWorld()
    })
    afterAll(() => world.stop())

    /** Works as a replica does until nothing is left to do. */
    async function work(replica: ReplicaScenario['replica']): Promise<Settled> {
      const { store, close } = await openStore(replica)
      try {
        let aheadMs = 0
        const clock = { now: () => systemClock.now() + aheadMs, sleep: systemClock.sleep.bind(systemClock) }
        const skipTo = (instant: Date): void => {
          aheadMs += Math.max(0, instant.getTime() - clock.now())
        }
        const scheduler = replicaScheduler(store, replica, noSteps, clock)
        const settled = await untilSettled(scheduler, { skipTo })
        // A service goes on with its next pass.
        await untilSettled(scheduler)
        return settled
      } finally {
        await store.close?.()
        await close()
      }
    }

    /** @returns whether the fault came to pass; `meanwhile` is called once it did */
    async function renewThrough(
      engine: Engine,
      nth: number,
      fault: TcpFault,
      meanwhile: (cut: Cut) => Promise<void>,
    ): Promise<boolean> {
      const label = `${engine}, ${fault} at request ${String(nth)}`
      const lockTtlMs = lockTtls[engine]
      const { ca, replica } = await world.scenario(engine, { lockTtlMs })
      const proxy = await tcpProxy(replica.port)
      try {
        await work({ ...replica, node: 'two' })
        const [old] = await journalOf(replica)
        const renewing = { ...replica, key: 'ecdsa-p384' } as const
        proxy.arm(nth, fault)
        const cutOff = work({ ...renewing, port: proxy.port, timeoutMs: lockTtlMs })
        let over = false
        void cutOff.then(
          () => (over = true),
          () => (over = true),
        )
        await vi.waitUntil(() => over || proxy.fired, { timeout: 60_000, interval: 2 })
        const fired = proxy.disarm()
        if (fired) await meanwhile({ proxy, replica: renewing, cutOff, label })
        expect((await cutOff).tookMs, label).toBeLessThan(5 * lockTtlMs + 15_000)
        await work({ ...renewing, node: 'two' })

        // The old one and the renewal, whoever ended it.
        expect([ca.accounts.length, ca.certificates.length], label).toEqual([1, 2])
        expect(ca.orders.length, label).toBeLessThanOrEqual(2)
        const journal = await journalOf(replica)
        const newest = journal.at(-1)?.fingerprint
        expect(newest).not.toBe(old?.fingerprint)
        for (const target of ['one node', 'two node', 'cluster']) {
          const deployed = journal.filter((each) => `${each.node} ${each.target}`.includes(target))
          // The old one serves until the new one does, and never after it.
          expect(deployed.at(-1)?.fingerprint, `${label}: ${target}`).toBe(newest)
          const changes = deployed.filter((each, index) => each.fingerprint !== deployed[index - 1]?.fingerprint)
          expect(changes.length, `${label}: ${target}`).toBeLessThanOrEqual(2)
        }
        return fired
      } finally {
        await Promise.all([proxy.close(), ca.close()])
      }
    }

    // One engine after the other: all replicas are in this process, and a lease is lost where they get no turn.
    describe.each(engines)('%s', (engine) => {
      it.concurrent.each(['drop-before', 'drop-after'] as const)(
        'a connection that breaks (%s) at any request costs neither a certificate nor an account',
        { timeout: 600_000 },
        async (fault) => {
          const fired = await sweepSteps(4, (nth) => renewThrough(engine, nth, fault, () => Promise.resolve()))
          expect(fired).toBeGreaterThan(20)
          console.log(`${engine}: ${fault} at ${String(fired)} requests`)
        },
      )

      it.concurrent(
        'a replica that nothing reaches for three leases is replaced, and what it had sent changes nothing',
        async () => {
          const lockTtlMs = lockTtls[engine]
          let longest = 0
          const fired = await sweepSteps(6, (nth) =>
            renewThrough(engine, nth, 'freeze', async ({ proxy, replica, cutOff, label }) => {
              const frozenAt = performance.now()
              const { tookMs } = await work({ ...replica, node: 'two' })
              expect(tookMs, label).toBeLessThan(lockTtlMs + 15_000)
              longest = Math.max(longest, tookMs)
              await vi.waitUntil(() => performance.now() - frozenAt > 3 * lockTtlMs, { timeout: 60_000 })
              const before = await storedIn(replica)
              proxy.thaw()
              await cutOff
              expect(await storedIn(replica), label).toEqual(before)
            }),
          )
          expect(fired).toBeGreaterThan(20)
          console.log(`${engine}: frozen at ${String(fired)} requests, longest takeover ${String(longest)} ms`)
        },
        600_000,
      )
    })
  },
)
