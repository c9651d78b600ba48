/**
 * How long a host's event loop stands still while certificates are made, keys included.
 */
import { hold, inArena, labels, type Arena, type ContestantName } from '../arena.js'
import type { Job, LeafKey } from '../peers/peer.js'
import { atMostVerdict, milliseconds, type RowReport, type Verdict } from '../report.js'
import { makeOrder, type Row } from '../row.js'
import { median } from '../statistics.js'

const contestants: readonly ContestantName[] = ['scheduler', 'tuned-auto']
const cases: readonly { readonly key: LeafKey; readonly certificates: number; readonly limitMs: number }[] = [
  { key: 'ecdsa-p256', certificates: 1, limitMs: 10 },
  { key: 'ecdsa-p256', certificates: 10, limitMs: 20 },
  { key: 'rsa-4096', certificates: 1, limitMs: 10 },
  { key: 'rsa-4096', certificates: 10, limitMs: 20 },
]

export const eventLoop: Row = ({ rounds }) => inArena((arena) => measureAll(arena, rounds))

async function measureAll(arena: Arena, rounds: number): Promise<readonly RowReport[]> {
  const lines: string[][] = []
  const verdicts: Verdict[] = []
  const add = (what: string, delays: readonly number[], idle: string, runs: number, limitMs: number): void => {
    lines.push([what, ...delays.map(milliseconds), idle, String(runs)])
    const [ours = NaN] = delays
    verdicts.push(atMostVerdict(`event loop max, ${what}`, ours, limitMs, milliseconds))
  }
  add(
    'ecdsa-p256, 1 certificate, the first of its process',
    await measureFirst(arena, Math.min(rounds, 3)),
    '-',
    Math.min(rounds, 3),
    10,
  )
  for (const { key, certificates, limitMs } of cases) {
    // An RSA key takes the machine a second or so.
    const few = key === 'rsa-4096' ? Math.min(rounds, certificates > 1 ? 2 : 5) : rounds
    const indexes = Array.from({ length: certificates }, (_, index) => index)
    const orders = await Promise.all(indexes.map((index) => makeOrder(`loop-${index}`, [`loop-${index}.test`])))
    const job: Job = { orders, concurrency: 10, cold: false, key }
    const what = `${key}, ${certificates === 1 ? '1 certificate' : `${certificates} at once`}`
    const measured = await measure(arena, job, few)
    add(what, measured.delays, milliseconds(measured.idleMs), few, limitMs)
  }
  const report: RowReport = {
    title: 'Longest event-loop delay while issuing, key and CSR included (median of the runs)',
    columns: ['', ...contestants.map((name) => labels[name]), 'a process that does nothing', 'runs'],
    lines,
    verdicts,
    notes: [
      'As monitorEventLoopDelay has it, its own tick of 1 ms included. What the idle process sees is the machine.',
    ],
  }
  return [report]
}

/** Before anything is compiled: for a host that renews every two months, this is how it always is. */
async function measureFirst(arena: Arena, rounds: number): Promise<readonly number[]> {
  const job: Job = {
    orders: [await makeOrder('first', ['first.test'])],
    concurrency: 1,
    cold: false,
    key: 'ecdsa-p256',
  }
  const delays = contestants.map((): number[] => [])
  for (let round = 0; round < rounds; round += 1) {
    for (const [index, name] of contestants.entries()) {
      const contestant = await arena.fresh(name)
      const { eventLoopMaxMs = NaN } = await contestant.run(job).finally(() => contestant.stop())
      delays[index]?.push(eventLoopMaxMs)
    }
  }
  return delays.map(median)
}

async function measure(
  arena: Arena,
  job: Job,
  rounds: number,
): Promise<{ readonly delays: readonly number[]; readonly idleMs: number }> {
  const idle = await arena.idle()
  const idleMs: number[] = []
  const absences: string[] = []
  const results = await hold({
    arena,
    job,
    contestants,
    rounds,
    // The first case has done it.
    warmUp: job.key === 'ecdsa-p256',
    onAbsence: (name, reason) => absences.push(`${name}: ${reason}`),
    around: async (run) => {
      const { result, eventLoopMaxMs } = await idle.during(run)
      idleMs.push(eventLoopMaxMs)
      return result
    },
  })
  if (absences.length > 0) throw new Error(absences.join('; '))
  return { delays: results.map(({ eventLoopMaxMs }) => eventLoopMaxMs), idleMs: median(idleMs) }
}
