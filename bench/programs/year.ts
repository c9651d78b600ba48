/**
 * A year of renewals on a clock that does not wait. Sends a {@link YearMeasurement} to its parent.
 */
import { RenewalScheduler } from 'evercert'
import { selfSignedIssuer } from 'evercert/issuers/self-signed'
import { memoryStore } from 'evercert/stores/memory'
import { fakeClock, seededRandom } from 'evercert/testing'

export interface YearMeasurement {
  readonly certificates: number
  readonly passes: number
  readonly issued: number
  readonly seconds: number
}

const day = 86_400_000
const certificates = 20
const clock = fakeClock()
const end = clock.now() + 365 * day
const issuer = selfSignedIssuer({ lifetimeMs: 90 * day })
const scheduler = new RenewalScheduler({
  store: memoryStore(),
  certificates: Array.from({ length: certificates }, (_, index) => ({
    name: `year-${index}`,
    identifiers: [`year-${index}.test`],
    issuers: [issuer] as const,
  })),
  clock,
  random: seededRandom(1),
  node: 'bench',
})
let issued = 0
scheduler.on('certificate-issued', () => (issued += 1))

let passes = 0
const started = performance.now()
const due = new Map(Array.from({ length: certificates }, (_, index) => [`year-${index}`, clock.now()]))
for (;;) {
  const [name, at] = [...due].reduce((first, one) => (one[1] < first[1] ? one : first))
  if (at > end) break
  await clock.setTime(Math.max(at, clock.now()))
  const { nextRunAt } = await scheduler.renew(name)
  // The scheduler itself looks at everything once a day.
  due.set(name, Math.min(nextRunAt.getTime(), clock.now() + day))
  passes += 1
}
const measurement: YearMeasurement = { certificates, passes, issued, seconds: (performance.now() - started) / 1000 }
process.send?.(measurement)
