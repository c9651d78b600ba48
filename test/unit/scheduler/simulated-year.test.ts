import { describe, expect, it } from 'vitest'
import { DueQueue } from '../../../src/scheduler/due-queue.js'
import { RenewalScheduler } from '../../../src/scheduler/renewal-scheduler.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { seededRandom } from '../../../src/testing/seeded-random.js'
import type { ParsedCertificate } from '../../../src/core/x509.js'
import type { RenewalInfo } from '../../../src/core/renewal-info.js'
import { scriptedIssuer } from '../../support/scripted-issuer.js'

const day = 86_400_000

/** Lives of certificates, and how many there are of each. */
const fleet = [
  { days: 90, count: 110 },
  { days: 45, count: 80 },
  { days: 6, count: 10 },
]

describe('a simulated year of 200 certificates', () => {
  it.each([
    ['by the share of life that is left', false],
    ['by the window of the CA', true],
  ])('renews every one on time and none twice, %s', { timeout: 300_000 }, async (_, withWindow) => {
    const seed = 20_260_101
    const clock = fakeClock()
    const start = clock.now()
    const issuances = new Map<string, { at: number; notBefore: number; notAfter: number }[]>()
    const alarms: string[] = []
    const issuers = await Promise.all(
      fleet.map(async ({ days }) => {
        const issuer = await scriptedIssuer({ clock, id: `ca-${String(days)}`, lifetimeMs: days * day })
        if (!withWindow) return { id: issuer.id, issue: issuer.issue }
        issuer.window = (leaf) => letsEncryptWindow(leaf, clock.now())
        return issuer
      }),
    )
    const certificates = fleet.flatMap(({ days, count }, index) =>
      Array.from({ length: count }, (__, number) => ({
        name: `${String(days)}-${String(number)}`,
        identifiers: [`n${String(number)}.example`],
        issuers: [issuers[index] ?? never()] as const,
        // Keys are not what is simulated, and making thousands of them would be most of the time.
        reuseKey: true,
      })),
    )
    const scheduler = new RenewalScheduler({
      store: memoryStore({ clock }),
      certificates,
      clock,
      random: seededRandom(seed),
    })
    scheduler.on('certificate-issued', ({ certificate, notAfter }) => {
      const life = Number(certificate.split('-')[0]) * day
      const list = issuances.get(certificate) ?? []
      list.push({ at: clock.now(), notBefore: notAfter.getTime() - life, notAfter: notAfter.getTime() })
      issuances.set(certificate, list)
    })
    scheduler.on('expiry-imminent', ({ certificate, level }) => alarms.push(`${certificate} ${level}`))

    // The scheduler's own loop, driven by hand: nothing sleeps, and every pass ends before time moves.
    const queue = new DueQueue()
    for (const { name } of certificates) queue.set(name, start)
    let passes = 0
    while (queue.nextAt() < start + 365 * day) {
      await clock.setTime(queue.nextAt())
      const name = queue.takeDue(clock.now()) ?? never()
      const outcome = await scheduler.renew(name)
      expect(outcome.status, `seed ${String(seed)}, ${name}`).not.toBe('failed')
      queue.set(name, outcome.nextRunAt.getTime())
      passes += 1
    }

    expect(alarms, `seed ${String(seed)}`).toEqual([])
    let total = 0
    for (const { name } of certificates) {
      const list = issuances.get(name) ?? []
      total += list.length
      for (const [index, current] of list.entries()) {
        const next = list[index + 1]
        const life = current.notAfter - current.notBefore
        const ratio = life < 10 * day ? 1 / 2 : 1 / 3
        const renewPoint = current.notAfter - life * ratio
        if (next === undefined) {
          expect(current.notAfter, `seed ${String(seed)}, ${name}`).toBeGreaterThan(start + 365 * day)
          continue
        }
        // P10: by the renew point and 1 % of the life; and never so early that one life holds two renewals.
        expect(next.at, `seed ${String(seed)}, ${name}`).toBeLessThanOrEqual(renewPoint + life * 0.011)
        expect(next.at, `seed ${String(seed)}, ${name}`).toBeGreaterThanOrEqual(renewPoint - life * 0.03)
      }
    }
    // Nobody orders who need not: each certificate about as often as its renew points fit into the year.
    const expected = fleet.reduce(
      (sum, { days, count }) => sum + (count * 365) / (days * (days < 10 ? 1 / 2 : 2 / 3)),
      0,
    )
    expect(total).toBeGreaterThan(expected * 0.95)
    expect(total).toBeLessThan(expected * 1.1)
    expect(passes).toBeGreaterThanOrEqual(total)
  })
})

/** As Boulder computes it: 2 % of the life around 2/3 of it, around half for short-lived ones. */
function letsEncryptWindow(leaf: ParsedCertificate, now: number): RenewalInfo {
  const life = leaf.notAfter.getTime() - leaf.notBefore.getTime()
  const ideal = leaf.notBefore.getTime() + life * (life < 10 * day ? 1 / 2 : 2 / 3)
  return {
    windowStart: new Date(ideal - life * 0.01),
    windowEnd: new Date(ideal + life * 0.01),
    // Let's Encrypt says six hours; a day makes a quarter of the passes, and the window is the same.
    retryAt: new Date(now + day),
  }
}

function never(): never {
  throw new Error('unreachable')
}
