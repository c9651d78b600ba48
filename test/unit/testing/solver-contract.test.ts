import { describe, expect, it } from 'vitest'
import type { ChallengeSolver } from '../../../src/solvers/challenge-solver.js'
import { challengeSolverContract, type SolverFixture } from '../../../src/testing/solver-contract.js'

type Records = Map<string, string[]>
type DnsSolver = ChallengeSolver<'dns-01'>

/** A right dns-01 solver over a shared zone; each broken one changes one thing. */
function zoneSolver(zone: Records): DnsSolver {
  return {
    name: 'dns-01/zone',
    type: 'dns-01',
    async present({ recordName, recordValue }, { signal }) {
      signal.throwIfAborted()
      const values = zone.get(recordName) ?? []
      if (!values.includes(recordValue)) zone.set(recordName, [...values, recordValue])
    },
    async waitUntilReady({ recordName, recordValue }, { signal, clock }) {
      for (let attempt = 0; attempt < 200; attempt += 1) {
        signal.throwIfAborted()
        if (zone.get(recordName)?.includes(recordValue) === true) return
        await clock.sleep(1_000, { signal })
      }
    },
    async cleanUp({ recordName, recordValue }, { signal }) {
      signal.throwIfAborted()
      zone.set(
        recordName,
        (zone.get(recordName) ?? []).filter((value) => value !== recordValue),
      )
    },
  }
}

/** Runs the kit with a runner of its own; returns the names of the failed tests. */
async function failures(make: (zone: Records) => DnsSolver, level: 'basic' | 'strict' = 'strict'): Promise<string[]> {
  const cases: { name: string; run: () => Promise<void> }[] = []
  challengeSolverContract(
    {
      describe: (_, define) => {
        define()
      },
      it: (name, run) => cases.push({ name, run }),
    },
    {
      level,
      async createSolver(): Promise<SolverFixture> {
        const zone: Records = new Map()
        return {
          solver: make(zone),
          readPresented: async (challenge) =>
            challenge.type === 'dns-01' ? [...(zone.get(challenge.recordName) ?? [])] : [],
          plantForeign: async (challenge, value) => {
            if (challenge.type === 'dns-01')
              zone.set(challenge.recordName, [...(zone.get(challenge.recordName) ?? []), value])
          },
          reopen: async () => make(zone),
        }
      },
    },
  )
  expect(cases.length).toBe(level === 'basic' ? 6 : 13)
  const failed: string[] = []
  for (const { name, run } of cases) await run().catch(() => failed.push(name))
  return failed
}

const lifeCycle = 'a challenge is visible once presented, and gone once cleaned up'
const twice = 'presenting and cleaning up twice is the same as once'
const together = 'two challenges of one name are visible together, and go one by one'

const broken: { fault: string; fails: string; make: (zone: Records) => DnsSolver }[] = [
  {
    fault: 'presents a value that is not the right one',
    fails: lifeCycle,
    make: (zone) => ({
      ...zoneSolver(zone),
      present: async ({ recordName, recordValue }) => void zone.set(recordName, [`${recordValue}\n`]),
    }),
  },
  {
    fault: 'adds a second value when called twice',
    fails: twice,
    make: (zone) => ({
      ...zoneSolver(zone),
      present: async ({ recordName, recordValue }) =>
        void zone.set(recordName, [...(zone.get(recordName) ?? []), recordValue]),
    }),
  },
  {
    fault: 'replaces the values of the record',
    fails: together,
    make: (zone) => ({
      ...zoneSolver(zone),
      present: async ({ recordName, recordValue }) => void zone.set(recordName, [recordValue]),
    }),
  },
  {
    fault: 'removes the whole record',
    fails: 'values of others are left alone',
    make: (zone) => ({ ...zoneSolver(zone), cleanUp: async ({ recordName }) => void zone.delete(recordName) }),
  },
  {
    fault: 'loses updates when called in parallel',
    fails: 'twenty challenges at once do not lose one another',
    make: (zone) => ({
      ...zoneSolver(zone),
      async present({ recordName, recordValue }, { signal, clock }) {
        signal.throwIfAborted()
        const values = zone.get(recordName) ?? []
        await clock.sleep(10, { signal })
        if (!values.includes(recordValue)) zone.set(recordName, [...values, recordValue])
      },
    }),
  },
  {
    fault: 'fails when there is nothing to clean up',
    fails: 'cleaning up what was never presented succeeds',
    make: (zone) => ({
      ...zoneSolver(zone),
      async cleanUp(challenge, context) {
        if (zone.get(challenge.recordName)?.includes(challenge.recordValue) !== true) throw new Error('no such record')
        await zoneSolver(zone).cleanUp(challenge, context)
      },
    }),
  },
  {
    fault: 'knows what it presented only from memory',
    fails: 'a new instance cleans up after a crash',
    make(zone) {
      const presented = new Set<string>()
      const right = zoneSolver(zone)
      return {
        ...right,
        async present(challenge, context) {
          await right.present(challenge, context)
          presented.add(challenge.recordValue)
        },
        async cleanUp(challenge, context) {
          if (presented.delete(challenge.recordValue)) await right.cleanUp(challenge, context)
        },
      }
    },
  },
  {
    fault: 'cannot present again what a crashed instance left',
    fails: 'a new instance presents again what the crashed one had presented',
    make(zone) {
      const mine = new Set<string>()
      const right = zoneSolver(zone)
      return {
        ...right,
        async present(challenge, context) {
          const taken = zone.get(challenge.recordName)?.includes(challenge.recordValue) === true
          if (taken && !mine.has(challenge.recordValue)) throw new Error('record exists')
          await right.present(challenge, context)
          mine.add(challenge.recordValue)
        },
      }
    },
  },
  {
    fault: 'ignores an aborted signal',
    fails: 'an aborted present rejects with the reason and presents nothing',
    make: (zone) => ({
      ...zoneSolver(zone),
      present: (challenge, context) =>
        zoneSolver(zone).present(challenge, { ...context, signal: new AbortController().signal }),
    }),
  },
  {
    fault: 'wraps the reason of the signal',
    fails: 'an aborted present rejects with the reason and presents nothing',
    make: (zone) => ({
      ...zoneSolver(zone),
      present: (challenge, context) =>
        zoneSolver(zone)
          .present(challenge, context)
          .catch((cause: unknown) => {
            throw new Error('could not present', { cause })
          }),
    }),
  },
  {
    fault: 'hangs in an aborted wait',
    fails: 'an aborted wait rejects promptly',
    make: (zone) => ({
      ...zoneSolver(zone),
      async waitUntilReady({ recordName, recordValue }, { signal }) {
        signal.throwIfAborted()
        if (zone.get(recordName)?.includes(recordValue) !== true) await new Promise(() => undefined)
      },
    }),
  },
  {
    fault: 'logs the key authorization',
    fails: 'key authorizations do not get into the log',
    make: (zone) => ({
      ...zoneSolver(zone),
      async present(challenge, context) {
        context.logger.debug('presenting', { challenge })
        await zoneSolver(zone).present(challenge, context)
      },
    }),
  },
  {
    fault: 'changes its challenge',
    fails: lifeCycle,
    make: (zone) => ({
      ...zoneSolver(zone),
      async present(challenge, context) {
        Object.assign(challenge, { recordName: `${challenge.recordName}.` })
        await zoneSolver(zone).present(challenge, context)
      },
    }),
  },
]

describe('challengeSolverContract', () => {
  it.each(['basic', 'strict'] as const)('passes a right solver (%s)', async (level) => {
    expect(await failures(zoneSolver, level)).toEqual([])
  })

  it.each(broken)('fails a solver that $fault', async ({ make, fails }) => {
    expect(await failures(make)).toContain(fails)
  })

  it('says what a strict fixture lacks', async () => {
    const messages: string[] = []
    const cases: (() => Promise<void>)[] = []
    challengeSolverContract(
      {
        describe: (_, define) => {
          define()
        },
        it: (_, run) => cases.push(run),
      },
      { level: 'strict', createSolver: async () => ({ solver: zoneSolver(new Map()), readPresented: async () => [] }) },
    )
    for (const run of cases) await run().catch((error: unknown) => messages.push(String(error)))
    expect(messages.join('\n')).toContain('needs plantForeign()')
    expect(messages.join('\n')).toContain('needs reopen()')
  })
})
