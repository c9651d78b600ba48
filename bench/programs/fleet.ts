/**
 * A scheduler with many certificates, all of them stored and none due: its first pass, and then single ticks.
 *
 * Arguments: how many certificates. Sends a {@link FleetMeasurement} to its parent.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { RenewalScheduler, storeKey, type CertStore, type Issuer } from 'evercert'
import { selfSignedIssuer } from 'evercert/issuers/self-signed'
import { memoryStore } from 'evercert/stores/memory'
import { fakeClock, operationContext } from 'evercert/testing'
import { median } from '../statistics.js'

export interface FleetMeasurement {
  readonly certificates: number
  readonly firstPassMs: number
  readonly firstPassEventLoopMaxMs: number
  /** From the tick until the last write of the pass. Medians. */
  readonly oneDueMs: number
  readonly hundredDueMs: number
  /** Of the scheduler alone, after the first pass; the records in the store not included. */
  readonly schedulerHeapBytes: number
  readonly storeBytes: number
  readonly residentBytes: number
  /** The most there ever was, garbage included. */
  readonly peakResidentBytes: number
}

const minute = 60_000
const hour = 60 * minute
const oneDueTicks = 21
const hundredDueTicks = 7
const size = Number(process.argv[2])
const clock = fakeClock()
const begin = clock.now()
const names = Array.from({ length: size }, (_, index) => `certificate-${index}`)

const store = memoryStore()
const selfSigned = selfSignedIssuer({ lifetimeMs: 90 * 24 * hour })
const issuer: Issuer = {
  id: selfSigned.id,
  issue: (request, context) => selfSigned.issue(request, context),
  renewalInfo: () =>
    Promise.resolve({
      windowStart: new Date(begin + 59 * 24 * hour),
      windowEnd: new Date(begin + 61 * 24 * hour),
      retryAt: new Date(clock.now() + 20 * hour),
    }),
}

const beforeStore = usedMemory()
await fillStore()
const storeBytes = usedMemory() - beforeStore
const heapBefore = process.memoryUsage().heapUsed

let operations = 0
let lastOperationAt = 0
const watched: CertStore = {
  ...store,
  get: (...args) => noted(store.get(...args)),
  put: (...args) => noted(store.put(...args)),
}
const scheduler = new RenewalScheduler({
  store: watched,
  certificates: names.map((name) => ({ name, identifiers: ['www.example.test'], issuers: [issuer] })),
  clock,
  node: 'bench',
})

const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
// Recorded is the time between two ticks: without one before, a loop blocked from the start would go unseen.
await sleep(5)
globalThis.gc?.()
const firstPassMs = await quietAfter(() => {
  scheduler.start()
})
await sleep(2)
delay.disable()
const residentBytes = process.memoryUsage().rss
usedMemory()
const schedulerHeapBytes = process.memoryUsage().heapUsed - heapBefore

const ticks: number[] = []
for (let tick = 0; tick < oneDueTicks + hundredDueTicks; tick += 1) {
  const before = operations
  ticks.push(await quietAfter(() => clock.setTime(dueAt(tick))))
  const expected = tick < oneDueTicks ? 1 : 100
  // Two reads and the write of the plan at least, for each that is due; and nobody else is looked at.
  const done = operations - before
  if (done < 3 * expected || done > 8 * expected) throw new Error(`tick ${tick}: ${done} operations for ${expected}`)
}
await scheduler.stop()

const measurement: FleetMeasurement = {
  certificates: size,
  firstPassMs,
  firstPassEventLoopMaxMs: delay.max / 1e6,
  oneDueMs: median(ticks.slice(0, oneDueTicks)),
  hundredDueMs: median(ticks.slice(oneDueTicks)),
  schedulerHeapBytes,
  storeBytes,
  residentBytes,
  peakResidentBytes: process.resourceUsage().maxRSS * 1024,
}
process.send?.(measurement)

/** One real certificate, and as many records of it as there are names; they are asked about at {@link dueAt}. */
async function fillStore(): Promise<void> {
  const context = operationContext({ clock })
  const template = 'template'
  const first = new RenewalScheduler({
    store,
    certificates: [{ name: template, identifiers: ['www.example.test'], issuers: [issuer] }],
    clock,
    node: 'bench',
  })
  await first.reconcile()
  const read = async (space: 'certificates' | 'renewals'): Promise<string> => {
    const stored = await store.get(storeKey(space, template), context)
    return Buffer.from(stored?.value ?? []).toString()
  }
  const certificate = JSON.parse(await read('certificates')) as object
  const renewal = JSON.parse(await read('renewals')) as { readonly plan: object }
  const write = (key: ReturnType<typeof storeKey>, record: object): Promise<unknown> =>
    store.put(key, Buffer.from(JSON.stringify(record)), context)
  for (const [index, name] of names.entries()) {
    const plan = { ...renewal.plan, checkAgainAt: dueAt(tickOf(index)) }
    await write(storeKey('certificates', name), { ...certificate, name })
    await write(storeKey('renewals', name), { ...renewal, plan })
  }
}

/** The tick at which a certificate is due; all the others are due after the last one. */
function tickOf(index: number): number {
  if (index < oneDueTicks) return index
  return Math.min(oneDueTicks + Math.floor((index - oneDueTicks) / 100), oneDueTicks + hundredDueTicks)
}

function dueAt(tick: number): number {
  return tick < oneDueTicks + hundredDueTicks ? begin + hour + tick * 10 * minute : begin + 23 * hour
}

async function noted<Result>(operation: Promise<Result>): Promise<Result> {
  operations += 1
  const result = await operation
  lastOperationAt = performance.now()
  return result
}

/** Milliseconds from `act` until the last operation on the store before it is quiet. */
async function quietAfter(act: () => unknown): Promise<number> {
  const started = performance.now()
  lastOperationAt = started
  await act()
  for (let before = -1; before !== operations;) {
    before = operations
    await sleep(30)
  }
  return lastOperationAt - started
}

function usedMemory(): number {
  globalThis.gc?.()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}
