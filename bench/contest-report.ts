/**
 * A contest as a table: medians, and ratios to the bare sequence.
 */
import { hold, labels, type Contest, type ContestantName, type Result } from './arena.js'
import { atMostVerdict, count, milliseconds, times, type RowReport, type Verdict } from './report.js'

export interface ContestReport extends Omit<Contest, 'onAbsence'> {
  readonly title: string
  readonly judge: (result: (name: ContestantName) => Result | undefined) => readonly Verdict[]
  readonly notes?: readonly string[]
}

export async function contestReport({ title, judge, notes = [], ...contest }: ContestReport): Promise<RowReport> {
  const absent: string[][] = []
  const results = await hold({
    ...contest,
    onAbsence: (name, reason) => absent.push([labels[name], `did not take part: ${reason}`]),
  })
  const { wallMs: floor = NaN, cpuMs: cpuFloor = NaN } = results.find(({ name }) => name === 'bare') ?? {}
  return {
    title,
    columns: ['', 'requests', 'HEAD newNonce', 'wall time', 'to bare', 'CPU', 'to bare', 'event loop max', 'runs'],
    lines: results.map(({ name, requests, newNonces, wallMs, cpuMs, eventLoopMaxMs, runs }) => [
      labels[name],
      count(requests),
      count(newNonces),
      milliseconds(wallMs),
      times(wallMs / floor),
      milliseconds(cpuMs),
      times(cpuMs / cpuFloor),
      milliseconds(eventLoopMaxMs),
      String(runs),
    ]),
    verdicts: judge((name) => results.find((result) => result.name === name)),
    notes: [...notes, ...absent.map((line) => line.join(' '))],
  }
}

/** Judges evercert's requests and its wall time against the bare sequence. */
export function judgeIssuer(
  what: string,
  limits: {
    readonly requests?: number
    readonly newNonces?: number
    readonly ratio?: number
    readonly eventLoopMs?: number
  },
): ContestReport['judge'] {
  return (result) => {
    const [ours, bare] = [result('issuer'), result('bare')]
    if (ours === undefined) return []
    const { requests, newNonces, ratio, eventLoopMs } = limits
    return [
      ...(requests === undefined ? [] : [atMostVerdict(`requests, ${what}`, ours.requests, requests, count)]),
      ...(newNonces === undefined ? [] : [atMostVerdict(`HEAD newNonce, ${what}`, ours.newNonces, newNonces, count)]),
      ...(ratio === undefined || bare === undefined
        ? []
        : [atMostVerdict(`wall time to bare, ${what}`, ours.wallMs / bare.wallMs, ratio, times)]),
      ...(eventLoopMs === undefined
        ? []
        : [atMostVerdict(`event loop max, ${what}`, ours.eventLoopMaxMs, eventLoopMs, milliseconds)]),
    ]
  }
}
