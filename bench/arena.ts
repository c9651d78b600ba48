/**
 * One Pebble and those who talk to it, one after the other.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { startPebble, type Pebble } from '../test/support/pebble.js'
import { freePort } from '../test/support/ports.js'
import { startIdleProcess, startPeer, type Contestant, type IdleProcess } from './contestant.js'
import type { Job, Measurement, PeerWorld } from './peers/peer.js'
import { startCertbot, startLego } from './peers/command-line.js'
import type { PeerName } from './programs/peer-process.js'
import { median } from './statistics.js'

export interface Arena {
  /** Starts it at the first call. Throws with the reason when it cannot take part. */
  contestant(name: ContestantName): Promise<Contestant>
  /** One in a new process, that nobody else uses; the caller stops it. */
  fresh(name: ContestantName): Promise<Contestant>
  idle(): Promise<IdleProcess>
  /** What a run costs the CA, by method and path. */
  counted<Result>(run: () => Promise<Result>): Promise<{ readonly result: Result; readonly requests: RequestCount }>
}

export interface RequestCount {
  readonly total: number
  readonly newNonce: number
}

export type ContestantName = Exclude<PeerName, 'idle'> | 'lego' | 'certbot'

export const labels: Readonly<Record<ContestantName, string>> = {
  bare: 'bare sequence',
  issuer: 'evercert',
  preflight: 'evercert, preflight on',
  scheduler: 'evercert, RenewalScheduler',
  auto: 'acme-client auto()',
  'tuned-auto': 'acme-client auto(), 10 ms polls',
  lego: 'lego',
  certbot: 'certbot',
}

/**
 * Runs something against a Pebble that validates at once (`PEBBLE_VA_NOSLEEP=1`), reuses no authorization, refuses no
 * nonce and sends no Retry-After. Each row has its own: Pebble reads through all authorizations it has ever made for
 * each name of an order, so that a later row would meet a slower CA.
 */
export async function inArena<Reported>(run: (arena: Arena) => Promise<Reported>): Promise<Reported> {
  const arena = await openArena()
  try {
    return await run(arena)
  } finally {
    await arena.stop()
  }
}

async function openArena(): Promise<Arena & { stop(): Promise<void> }> {
  const httpPort = await freePort()
  const pebble = await startPebble({ httpPort })
  const world: PeerWorld = { directoryUrl: pebble.directoryUrl, caPem: pebble.caPem, httpPort }
  const contestants = new Map<ContestantName, Promise<Contestant>>()
  let idle: Promise<IdleProcess> | undefined
  return {
    contestant(name) {
      let starting = contestants.get(name)
      if (starting === undefined) {
        starting = start(name, world)
        starting.catch(() => undefined)
        contestants.set(name, starting)
      }
      return starting
    },
    fresh: (name) => start(name, world),
    idle: () => (idle ??= startIdleProcess(world)),
    async counted(run) {
      const before = await settledCounts(pebble)
      const result = await run()
      const after = await settledCounts(pebble)
      const total = sum(after) - sum(before)
      return { result, requests: { total, newNonce: newNonces(after) - newNonces(before) } }
    },
    async stop() {
      const started = await Promise.allSettled([...contestants.values(), idle])
      for (const outcome of started) if (outcome.status === 'fulfilled') await outcome.value?.stop()
      await pebble.stop()
    },
  }
}

async function start(name: ContestantName, world: PeerWorld): Promise<Contestant> {
  if (name === 'lego' || name === 'certbot') {
    const contestant = await (name === 'lego' ? startLego(world) : startCertbot(world))
    if (contestant === undefined) throw new Error('not installed')
    return contestant
  }
  return startPeer(labels[name], name, world)
}

/** Pebble's log arrives a moment after its answers. */
async function settledCounts(pebble: Pebble): Promise<Readonly<Record<string, number>>> {
  for (let before = pebble.requestCounts(); ;) {
    await sleep(25)
    const counts = pebble.requestCounts()
    if (sum(counts) === sum(before)) return counts
    before = counts
  }
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, one) => total + one, 0)
}

function newNonces(counts: Readonly<Record<string, number>>): number {
  return (counts['HEAD /nonce-plz'] ?? 0) + (counts['GET /nonce-plz'] ?? 0)
}

/** What one contestant did in one contest. */
export interface Result {
  readonly name: ContestantName
  /** Medians. */
  readonly wallMs: number
  readonly cpuMs: number
  readonly eventLoopMaxMs: number
  readonly requests: number
  readonly newNonces: number
  readonly runs: number
}

export interface Contest {
  readonly arena: Arena
  readonly job: Job
  readonly contestants: readonly ContestantName[]
  readonly rounds: number
  /** Rounds of those that take seconds, and whose noise does not matter. @defaultValue 1 for auto(), lego and certbot */
  readonly fewerRounds?: Partial<Record<ContestantName, number>>
  /** Told who could not take part, and why. */
  readonly onAbsence: (name: ContestantName, reason: string) => void
  /** Whether the first run is for the JIT compiler, and does not count. @defaultValue true */
  readonly warmUp?: boolean
  /** Watches a run that counts. @defaultValue nobody watches */
  readonly around?: <Watched>(run: () => Promise<Watched>) => Promise<Watched>
}

/**
 * Everybody does the same job, in turns, and each round begins with another.
 */
export async function hold(contest: Contest): Promise<readonly Result[]> {
  const { arena, job, contestants, onAbsence, warmUp = true, around = (run) => run() } = contest
  const limits: Contest['fewerRounds'] = { auto: 1, lego: 1, certbot: 1, ...contest.fewerRounds }
  const roundsOf = (contestant: Contestant): number =>
    Math.min(contest.rounds, limits[names.get(contestant) ?? 'bare'] ?? Infinity)
  const present: Contestant[] = []
  const names = new Map<Contestant, ContestantName>()
  const runs = new Map<Contestant, (Measurement & { readonly requests: RequestCount })[]>()
  const leave = (name: ContestantName, error: unknown): void => {
    onAbsence(name, error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error))
  }
  const turn = async (contestant: Contestant, counts: boolean): Promise<void> => {
    try {
      const run = (): Promise<Measurement> => contestant.run(job)
      const { result, requests } = await arena.counted(counts ? () => around(run) : run)
      if (counts) runs.get(contestant)?.push({ ...result, requests })
    } catch (error) {
      present.splice(present.indexOf(contestant), 1)
      runs.delete(contestant)
      leave(names.get(contestant) ?? 'bare', error)
    }
  }
  for (const name of contestants) {
    try {
      const contestant = await arena.contestant(name)
      names.set(contestant, name)
      runs.set(contestant, [])
      present.push(contestant)
    } catch (error) {
      leave(name, error)
    }
  }
  // Who runs only once is slow for other reasons.
  if (warmUp) for (const contestant of present.filter((one) => roundsOf(one) > 1)) await turn(contestant, false)
  for (let round = 0; round < contest.rounds; round += 1) {
    const running = present.filter((contestant) => round < roundsOf(contestant))
    const first = round % Math.max(running.length, 1)
    for (const contestant of [...running.slice(first), ...running.slice(0, first)]) await turn(contestant, true)
  }
  return [...runs].map(([contestant, measured]) => ({
    name: names.get(contestant) ?? 'bare',
    wallMs: median(measured.map(({ wallMs }) => wallMs)),
    cpuMs: median(measured.map(({ cpuMs = NaN }) => cpuMs)),
    eventLoopMaxMs: median(measured.map(({ eventLoopMaxMs = NaN }) => eventLoopMaxMs)),
    requests: median(measured.map(({ requests }) => requests.total)),
    newNonces: median(measured.map(({ requests }) => requests.newNonce)),
    runs: measured.length,
  }))
}
