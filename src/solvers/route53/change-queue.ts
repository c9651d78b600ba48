/**
 * Turns what many callers want of one zone at about the same moment into one change batch. One change of a zone is in flight
 * at a time.
 *
 * @module
 */
import type { Clock } from '../../core/clock.js'
import type { OperationContext } from '../../core/context.js'
import type { Random } from '../../core/random.js'
import { allowManyListeners } from '../../internal/deadline.js'
import { singleFlight, type SingleFlight } from '../../internal/single-flight.js'
import { packBatches, planChange, type RecordChange } from './plan-change.js'
import type { Route53Calls } from './route53-calls.js'
import { Obstacle, Route53Failure } from './route53-failure.js'

/** A change that Route 53 has accepted. Everybody who is in it shares one. */
export interface Receipt {
  readonly changeId: string
  /** The wait for its name servers, shared too. */
  readonly untilInSync: SingleFlight<boolean>
}

/** One value of one record set. */
export interface ValueRequest {
  readonly zoneId: string
  /** Of the record set. */
  readonly name: string
  readonly text: string
  readonly want: 'present' | 'absent'
  /** The change that has put it there, as far as this process knows. */
  readonly receipt?: Receipt | undefined
}

/** The changes of all zones. */
export interface ChangeQueue {
  /**
   * Resolves once Route 53 has accepted it. When the signal aborts, a request that has not been sent is forgotten; one that
   * has goes on for the others, and whatever is asked for next waits behind it.
   *
   * @throws `Route53Failure`, `Obstacle`, or the reason of the signal
   */
  submit(request: ValueRequest, context: OperationContext): Promise<Receipt | undefined>
  /** Says that somebody is about to submit, and is worth a moment's wait. Call what it returns when that is over. */
  expectOne(): () => void
}

/** What {@link changeQueue} works with. */
export interface ChangeQueueParts {
  readonly calls: Route53Calls
  /** Seconds; of record sets that are made. */
  readonly ttl: number
  readonly random: Random
}

interface Entry extends ValueRequest {
  readonly context: OperationContext
  settled: boolean
  resolve(receipt: Receipt | undefined): void
  reject(error: unknown): void
  /** Called when the caller has left. */
  onLeave(): void
}

/** One name of a batch. */
interface NamePlan {
  readonly changes: readonly RecordChange[]
  readonly entries: readonly Entry[]
}

/** Long enough for everybody who was called in the same moment. */
const gatherMs = 50
/** Whoever needs longer to find out where its record goes is left for the next batch. */
const patienceMs = 10_000
/** Each time another process was faster, so together we do get on. */
const mostAttempts = 10

/** Makes a {@link ChangeQueue}. */
export function changeQueue({ calls, ttl, random }: ChangeQueueParts): ChangeQueue {
  const waiting = new Map<string, Entry[]>()
  const expected = new Set<symbol>()
  const onAllHere = new Set<() => void>()

  return {
    submit: (request, context) =>
      new Promise((resolve, reject) => {
        const { signal } = context
        signal.throwIfAborted()
        const onAbort = (): void => {
          entry.reject(signal.reason)
          entry.onLeave()
        }
        const settle = (report: () => void): void => {
          if (entry.settled) return
          entry.settled = true
          signal.removeEventListener('abort', onAbort)
          report()
        }
        const entry: Entry = {
          ...request,
          context,
          settled: false,
          resolve: (receipt) => settle(() => resolve(receipt)),
          reject: (error) => settle(() => reject(error)),
          onLeave: () => undefined,
        }
        allowManyListeners(signal)
        signal.addEventListener('abort', onAbort, { once: true })
        const line = waiting.get(request.zoneId)
        if (line !== undefined) line.push(entry)
        else {
          waiting.set(request.zoneId, [entry])
          void serve(request.zoneId, context.clock)
        }
      }),
    expectOne() {
      const one = Symbol('expected')
      expected.add(one)
      return () => {
        expected.delete(one)
        if (expected.size > 0) return
        for (const notify of onAllHere) notify()
      }
    },
  }

  /** One batch after the other, until nobody waits. Never rejects. */
  async function serve(zoneId: string, clock: Clock): Promise<void> {
    while (waiting.get(zoneId)?.some(({ settled }) => !settled) === true) {
      await gather(clock)
      const entries = (waiting.get(zoneId) ?? []).filter(({ settled }) => !settled)
      waiting.set(zoneId, [])
      await runBatch(zoneId, entries)
    }
    waiting.delete(zoneId)
  }

  async function gather(clock: Clock): Promise<void> {
    await clock.sleep(gatherMs)
    if (expected.size === 0) return
    const here = new AbortController()
    const notify = (): void => {
      here.abort()
    }
    onAllHere.add(notify)
    await clock.sleep(patienceMs, { signal: here.signal }).catch(() => undefined)
    onAllHere.delete(notify)
  }

  /** Settles every entry. Ends early when all callers have left. */
  async function runBatch(zoneId: string, entries: readonly Entry[]): Promise<void> {
    const [first] = entries
    if (first === undefined) return
    const controller = new AbortController()
    for (const entry of entries) {
      entry.onLeave = () => {
        if (entries.every(({ settled }) => settled)) controller.abort(entry.context.signal.reason)
      }
    }
    try {
      await carryOut(zoneId, entries, { ...first.context, signal: controller.signal })
    } catch (error) {
      for (const entry of entries) entry.reject(error)
    }
  }

  async function carryOut(zoneId: string, entries: readonly Entry[], context: OperationContext): Promise<void> {
    const { clock, signal } = context
    // A batch that is refused for one name, or not allowed because of one, must not fail the others.
    let oneByOne = false
    for (let attempt = 1; ; attempt += 1) {
      const byName = groupByName(entries.filter(({ settled }) => !settled))
      if (byName.size === 0) return
      const plans = await makePlans(zoneId, byName, context)
      let moved: Route53Failure | undefined
      for (const batch of oneByOne ? plans.map((plan) => [plan]) : packBatches(plans)) {
        try {
          const changes = batch.flatMap((plan) => plan.changes)
          const receipt = {
            changeId: await calls.change(zoneId, changes, context),
            untilInSync: singleFlight<boolean>(),
          }
          for (const entry of batch.flatMap((plan) => plan.entries)) entry.resolve(receipt)
        } catch (error) {
          if (!(error instanceof Route53Failure)) throw error
          if (error.kind === 'moved') moved = error
          else if (error.kind !== 'refused' && error.kind !== 'denied') throw error
          else if (batch.length > 1) oneByOne = true
          else for (const entry of batch.flatMap((plan) => plan.entries)) entry.reject(error)
        }
      }
      if (moved === undefined) continue
      if (attempt >= mostAttempts) throw moved
      await clock.sleep(Math.min(50 * 2 ** attempt, 2_000) * random(), { signal })
    }
  }

  /** Reads what is there. Settles who needs no change, and who cannot have one. */
  async function makePlans(
    zoneId: string,
    byName: ReadonlyMap<string, readonly Entry[]>,
    context: OperationContext,
  ): Promise<readonly NamePlan[]> {
    const found = await calls.readRecordSets(zoneId, [...byName.keys()], context)
    return [...byName].flatMap(([name, entries]): NamePlan[] => {
      const wants = new Map(entries.map(({ text, want }) => [text, want]))
      const texts = (want: Entry['want']): string[] => [...wants].flatMap(([text, each]) => (each === want ? text : []))
      const [present, absent] = [texts('present'), texts('absent')]
      const rewrite = entries.some(({ want, receipt }) => want === 'present' && receipt === undefined)
      const plan = planChange(found.get(name) ?? [], { name, present, absent, ttl, rewrite })
      switch (plan.status) {
        case 'change':
          return [{ changes: plan.changes, entries }]
        case 'nothing':
          for (const entry of entries) entry.resolve(entry.receipt)
          return []
        case 'obstacle':
          for (const entry of entries) if (entry.want === 'present') entry.reject(new Obstacle(plan.obstacle))
          return []
      }
    })
  }
}

function groupByName(entries: readonly Entry[]): ReadonlyMap<string, readonly Entry[]> {
  const groups = new Map<string, Entry[]>()
  for (const entry of entries) groups.set(entry.name, [...(groups.get(entry.name) ?? []), entry])
  return groups
}
