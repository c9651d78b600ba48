/**
 * A process that stands still at any step of a renewal, for longer than its lease lives, while another one takes over and even
 * renews once more: what it does when it goes on, before any of its timers has had a turn.
 */
import { describe, expect, it, vi } from 'vitest'
import type { Deployer } from '../../../src/deployers/deployer.js'
import type { Issuer } from '../../../src/issuers/issuer.js'
import { lookAgainMs } from '../../../src/scheduler/look-again.js'
import { RenewalScheduler, type ReconcileReport } from '../../../src/scheduler/renewal-scheduler.js'
import type { CertStore } from '../../../src/stores/cert-store.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { fakeClock, type FakeClock } from '../../../src/testing/fake-clock.js'
import { recordingLogger } from '../../../src/testing/recording-logger.js'
import { seededRandom } from '../../../src/testing/seeded-random.js'
import { scriptedIssuer, type ScriptedIssuer } from '../../support/scripted-issuer.js'
import { stoppableClock } from '../../support/stoppable-clock.js'

/** Everything a process does passes through here. */
interface Steps {
  /** Comes to its end when the process may go on. */
  step(): Promise<void>
  readonly stopped: boolean
  goOn(): void
}

function stepsUntil(last: number): Steps {
  let count = 0
  let open = (): void => undefined
  const gate = new Promise<void>((resolve) => (open = resolve))
  const steps = {
    stopped: false,
    async step() {
      count += 1
      if (count === last) steps.stopped = true
      // Also what else is under way in a process that is stopped.
      if (steps.stopped) await gate
    },
    goOn: () => {
      open()
    },
  }
  return steps
}

const noSteps: Steps = { step: () => Promise.resolve(), stopped: false, goOn: () => undefined }

interface Effect {
  readonly node: string
  /** `issue`, `put <key>`, `delete <key>`, `deploy node`, `deploy cluster` */
  readonly what: string
  readonly fingerprint?: string
}

function world(lockTtlMs: number, issuer: ScriptedIssuer) {
  const store = memoryStore()
  const effects: Effect[] = []

  function scheduler(node: string, clock: FakeClock, { step }: Steps): RenewalScheduler {
    const stepping: CertStore = {
      ...store,
      get: (...args) => step().then(() => store.get(...args)),
      async put(key, ...rest) {
        await step()
        const revision = await store.put(key, ...rest)
        effects.push({ node, what: `put ${key}` })
        return revision
      },
      async delete(key, ...rest) {
        await step()
        await store.delete(key, ...rest)
        effects.push({ node, what: `delete ${key}` })
      },
      lock: (...args) => step().then(() => store.lock?.(...args)),
    }
    const ordering: Issuer = {
      id: issuer.id,
      async issue(request, context) {
        await step()
        context.signal.throwIfAborted()
        effects.push({ node, what: 'issue' })
        return issuer.issue(request, context)
      },
    }
    const deployer = (scope: 'node' | 'cluster'): Deployer => ({
      name: scope,
      scope,
      async deploy({ fingerprintSha256 }, { signal }) {
        await step()
        signal.throwIfAborted()
        effects.push({ node, what: `deploy ${scope}`, fingerprint: fingerprintSha256 })
        return { status: 'deployed' }
      },
    })
    return new RenewalScheduler({
      store: stepping,
      ...{ node, clock, lockTtlMs, random: seededRandom(1), logger: recordingLogger() },
      certificates: [
        {
          name: 'www',
          identifiers: ['www.example.com'],
          issuers: [ordering],
          deployers: [deployer('node'), deployer('cluster')],
        },
      ],
    })
  }
  return { scheduler, effects }
}

function isSettled({ outcomes }: ReconcileReport): boolean {
  return outcomes.every(
    ({ status, deployments }) =>
      status !== 'busy' && status !== 'failed' && deployments.every((outcome) => outcome.status !== 'waiting'),
  )
}

/** Works as a started scheduler does, on its own. @returns how long it took until nothing was left to do */
async function untilSettled(scheduler: RenewalScheduler, clock: FakeClock): Promise<number> {
  const startedAt = clock.now()
  for (;;) {
    const report = await scheduler.reconcile({ waitForOthers: false })
    if (isSettled(report)) return clock.now() - startedAt
    await clock.advance(Math.max(100, report.nextRunAt.getTime() - clock.now()))
  }
}

describe.each([900, 60_000])('with a lease of %i ms', (lockTtlMs) => {
  it('a process that was stopped at any step is replaced in time, and does nothing old when it goes on', async () => {
    const issuer = await scriptedIssuer({ clock: fakeClock() })
    let fired = 0
    let longestMs = 0
    for (let last = 1; ; last += 1) {
      const { scheduler, effects } = world(lockTtlMs, issuer)
      const issuedBefore = issuer.issued.size
      const steps = stepsUntil(last)
      const sleeperClock = stoppableClock()
      const sleeper = scheduler('one', sleeperClock, steps)
      let over = false
      const pass = sleeper.reconcile().finally(() => (over = true))
      await vi.waitUntil(() => over || steps.stopped, { interval: 1, timeout: 30_000 })
      if (over) {
        expect((await pass).outcomes).toMatchObject([{ status: 'renewed' }])
        break
      }
      fired += 1
      const where = `stopped at step ${String(last)}, after ${JSON.stringify(effects.at(-1))}`
      const clock = fakeClock()
      const successor = scheduler('two', clock, noSteps)
      const tookMs = await untilSettled(successor, clock)
      longestMs = Math.max(longestMs, tookMs)
      while ((await successor.renew('www', { force: true })).status === 'busy')
        await clock.advance(lookAgainMs(lockTtlMs))
      await untilSettled(successor, clock)
      const newest = effects.at(-1)?.fingerprint ?? effects.findLast(({ fingerprint }) => fingerprint)?.fingerprint

      const before = effects.length
      sleeperClock.stop(3 * lockTtlMs)
      steps.goOn()
      await pass
      await untilSettled(sleeper, sleeperClock)
      const after = effects.slice(before)
      const deployed = after.filter(({ fingerprint }) => fingerprint !== undefined)
      expect(
        deployed.filter(({ fingerprint }) => fingerprint !== newest),
        where,
      ).toEqual([])
      // What it has on its own target it may well write down.
      const rest = after.filter(({ what }) => !what.startsWith('deploy ') && what !== 'put deployments/www/one')
      expect(rest, where).toEqual([])
      // The renewal that was under way, whoever ended it, and the forced one.
      expect(issuer.issued.size - issuedBefore, where).toBe(2)
      const own = effects.findLast(({ node, what }) => node === 'one' && what === 'deploy node')
      expect(own?.fingerprint, where).toBe(newest)
    }
    expect(fired).toBeGreaterThan(15)
    expect(longestMs).toBeGreaterThanOrEqual(lockTtlMs)
    expect(longestMs).toBeLessThanOrEqual(lockTtlMs + 15_000)
  }, 60_000)
})
