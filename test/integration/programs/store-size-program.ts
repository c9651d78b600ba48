/**
 * Lists the certificates of a store and decides about them, as a process does that has just begun. Argument: JSON of
 * {@link StoreSizeInstructions}. Prints JSON of {@link StoreSizeFigures}.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { systemClock } from '../../../src/core/clock.js'
import { silentLogger } from '../../../src/core/logger.js'
import type { Issuer } from '../../../src/issuers/issuer.js'
import { RenewalScheduler } from '../../../src/scheduler/renewal-scheduler.js'
import type { CertStore } from '../../../src/stores/cert-store.js'
import { openStore, type ReplicaStore } from './replica-scheduler.js'

export interface StoreSizeInstructions extends ReplicaStore {
  readonly names: number
  readonly issuerId: string
}

export interface StoreSizeFigures {
  readonly listed: number
  readonly listedMs: number
  readonly waiting: number
  readonly decidedMs: number
  /** Of both. */
  readonly cpuMs: number
  readonly latestTurnMs: number
  /** Values that were read together, and by themselves. */
  readonly together: number
  readonly oneByOne: number
  /** Of the clock. */
  readonly waits: number
  readonly residentMB: number
}

const instructions = JSON.parse(process.argv[2] ?? '{}') as StoreSizeInstructions
const counts = { together: 0, oneByOne: 0, waits: 0 }
const clock: typeof systemClock = {
  ...systemClock,
  sleep: (ms, options) => {
    counts.waits += 1
    return systemClock.sleep(ms, options)
  },
}

function counted(store: CertStore): CertStore {
  const { getMany } = store
  if (getMany === undefined) throw new Error(`${store.name} reads one by one`)
  return {
    ...store,
    get: (key, context) => {
      counts.oneByOne += 1
      return store.get(key, context)
    },
    async *getMany(keys, context) {
      for await (const part of getMany(keys, context)) {
        counts.together += part.length
        yield part
      }
    },
  }
}

const issuer: Issuer = { id: instructions.issuerId, issue: () => Promise.reject(new Error('nothing is due')) }
const { store, close } = await openStore(instructions)
const names = Array.from({ length: instructions.names }, (_, index) => `name-${String(index)}`)
const scheduler = new RenewalScheduler({
  store: counted(store),
  clock,
  certificates: names.map((name) => ({ name, identifiers: ['www.example.com'], issuers: [issuer] })),
})

const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
const resident = process.memoryUsage().rss
const cpu = process.cpuUsage()
const begun = performance.now()
const listed = new Set<string>()
const context = { signal: new AbortController().signal, clock, logger: silentLogger }
for await (const key of store.list('certificates/', context)) listed.add(key)
const between = performance.now()
counts.waits = 0
const plan = await scheduler.plan()
const ended = performance.now()
const { user, system } = process.cpuUsage(cpu)

const figures: StoreSizeFigures = {
  listed: listed.size,
  listedMs: Math.round(between - begun),
  waiting: plan.filter(({ action }) => action === 'wait').length,
  decidedMs: Math.round(ended - between),
  cpuMs: Math.round((user + system) / 1000),
  latestTurnMs: Math.round(delay.max / 1e6),
  ...counts,
  residentMB: Math.round((process.memoryUsage().rss - resident) / 1e6),
}
console.log(JSON.stringify(figures))
await store.close?.()
await close()
