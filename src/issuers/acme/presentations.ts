/**
 * What is put up for validation, and its removal: whatever was tried, by whichever process, is taken down in the end.
 *
 * @module
 */
import type { OperationContext } from '../../core/context.js'
import { CertError, ChallengeError } from '../../errors.js'
import { boundedMap } from '../../internal/bounded-map.js'
import { withDeadline } from '../../internal/deadline.js'
import type { AnyChallengeSolver, Challenge, ChallengeSolver } from '../../solvers/challenge-solver.js'
import type { IssuerContext } from '../issuer.js'
import { buildChallenge } from './challenge.js'
import type { OrderJournal, PresentedChallenge } from './order-journal.js'

/** The challenges of one order. */
export interface Presentations {
  /** Puts them up, all at once, after the journal knows of them. */
  present(challenges: readonly PresentedChallenge[], context: IssuerContext): Promise<void>
  /** Waits until they are visible. */
  waitUntilReady(challenges: readonly PresentedChallenge[], context: IssuerContext): Promise<void>
  /** Runs something during which nothing may be taken down, even after an abort. */
  whileNeeded<T>(run: () => Promise<T>): Promise<T>
  /** Takes down what this and earlier runs have put up. Ignores the caller's signal, has a time limit, never fails. */
  cleanUp(context: IssuerContext): Promise<void>
}

/** How many challenges a solver takes at once, unless it says so itself. */
const usualConcurrency = 10
/** A provider that throttles needs some patience, a process that stops has little. What is left is for the next run. */
const cleanUpTimeoutMs = 60_000

/** Makes {@link Presentations}. */
export function createPresentations(
  journal: OrderJournal,
  solvers: readonly AnyChallengeSolver[],
  afterEach: () => Promise<void>,
  check: (challenge: Challenge, context: OperationContext) => Promise<unknown>,
): Presentations {
  // A call that outlives an abort must have ended before its challenge is taken down.
  const calls = new Map<string, Promise<unknown>>()
  const needed = new Set<Promise<unknown>>()
  /** Solvers by name: whether they have put anything up. Why they could not, is in the error of the order. */
  const able = new Map<string, boolean>()
  const solverOf = ({ solver: name, type }: PresentedChallenge): ChallengeSolver | undefined =>
    // Its challenge is built with the same type.
    solvers.find((solver) => solver.name === name && solver.type === type) as ChallengeSolver | undefined

  return {
    async present(challenges, context) {
      if (challenges.length === 0) return
      const keys = new Set(challenges.map(keyOf))
      await journal.update(
        (record) => ({
          ...record,
          presented: [...record.presented.filter((earlier) => !keys.has(keyOf(earlier))), ...challenges],
        }),
        context,
      )
      await forEachBySolver(challenges, context.signal, async (presented) => {
        const solver = solverOf(presented)
        const call = guarded(presented, 'present', context, () => solver?.present(buildChallenge(presented), context))
        calls.set(keyOf(presented), call)
        await call.catch((error: unknown) => {
          if (!context.signal.aborted) able.set(presented.solver, able.get(presented.solver) ?? false)
          throw error
        })
        able.set(presented.solver, true)
        await afterEach()
      })
    },
    async waitUntilReady(challenges, context) {
      await forEachBySolver(challenges, context.signal, async (presented) => {
        const challenge = buildChallenge(presented)
        const solver = solverOf(presented)
        await guarded(presented, 'wait', context, () => solver?.waitUntilReady?.(challenge, context))
        await check(challenge, context)
      })
    },
    async whileNeeded(run) {
      const running = run()
      const settled = running.catch(() => undefined)
      needed.add(settled)
      return running.finally(() => needed.delete(settled))
    },
    async cleanUp(context) {
      const presented = journal.record?.presented ?? []
      if (presented.length === 0) return
      const { clock, logger } = context
      const { signal } = new AbortController()
      const onTimeout = (): Error => new Error(`clean-up took longer than ${String(cleanUpTimeoutMs)} ms`)
      const left = new Set(presented)
      const takeDown = async (entry: PresentedChallenge, inner: AbortSignal): Promise<void> => {
        try {
          await calls.get(keyOf(entry))?.catch(() => undefined)
          const solver = solverOf(entry)
          if (solver === undefined) throw new Error(`there is no solver ${entry.solver} any more`)
          await solver.cleanUp(buildChallenge(entry), { ...context, signal: inner })
          left.delete(entry)
        } catch (error) {
          // One fault, one warning: who could put nothing up can take nothing down.
          const level = able.get(entry.solver) === false ? 'debug' : 'warn'
          const { solver, identifier } = entry
          logger[level]('challenge could not be cleaned up', { solver, identifier: identifier.value, error })
        }
      }
      try {
        await withDeadline({ clock, signal, ms: cleanUpTimeoutMs, onTimeout }, async (inner) => {
          await Promise.all(needed)
          await forEachBySolver(presented, inner, (entry) => takeDown(entry, inner))
        })
      } catch (error) {
        logger.warn('challenges could not be cleaned up in time', { left: left.size, error })
      }
      try {
        const done = new Set(presented.filter((entry) => !left.has(entry)).map(keyOf))
        await withDeadline({ clock, signal, ms: cleanUpTimeoutMs, onTimeout }, (inner) =>
          journal.update(
            (record) => ({ ...record, presented: record.presented.filter((entry) => !done.has(keyOf(entry))) }),
            { ...context, signal: inner },
          ),
        )
      } catch (error) {
        logger.warn('order journal could not be written', { error })
      }
    },
  }

  /** Side by side, for each solver as many as it takes. After a failure or an abort nothing new is started anywhere. */
  async function forEachBySolver(
    challenges: readonly PresentedChallenge[],
    signal: AbortSignal,
    run: (challenge: PresentedChallenge) => Promise<void>,
  ): Promise<void> {
    const bySolver = new Map<string, PresentedChallenge[]>()
    for (const each of challenges) bySolver.set(each.solver, [...(bySolver.get(each.solver) ?? []), each])
    const failures: { readonly error: unknown }[] = []
    const work = [...bySolver.values()].map(async (group) => {
      const [first] = group
      const { concurrency = usualConcurrency } = (first && solverOf(first)) ?? {}
      await boundedMap(group, concurrency, signal, async (challenge) => {
        if (failures.length > 0) return
        await run(challenge).catch((error: unknown) => {
          failures.push({ error })
          throw error
        })
      })
    })
    await Promise.allSettled(work)
    const [failure] = failures
    signal.throwIfAborted()
    if (failure !== undefined) throw failure.error
  }
}

function keyOf({ solver, type, token, thumbprint, identifier }: PresentedChallenge): string {
  return [solver, type, token, thumbprint, identifier.value].join(' ')
}

/** Errors of a solver as they are when they are ours or the abort reason; others with what a person needs to know. */
async function guarded(
  { identifier, solver, type }: PresentedChallenge,
  phase: 'present' | 'wait',
  { signal }: OperationContext,
  call: () => Promise<void> | undefined,
): Promise<void> {
  try {
    signal.throwIfAborted()
    await call()
  } catch (cause) {
    if (signal.aborted || CertError.isInstance(cause)) throw cause
    const doing = phase === 'present' ? 'present' : 'make visible'
    throw new ChallengeError({
      code: 'ERR_CHALLENGE_FAILED',
      message: `${solver} could not ${doing} the ${type} challenge for ${identifier.value}; see the cause`,
      retryable: true,
      cause,
      solver,
      identifier,
      phase,
    })
  }
}
