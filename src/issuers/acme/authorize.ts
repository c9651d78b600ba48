/**
 * Proves the names of an order: present everything, wait until it is visible, tell the CA, look at the order. RFC 8555
 * section 7.5.
 *
 * @module
 */
import { identifierKey, type Identifier } from '../../core/identifier.js'
import { AuthorizationFailedError, type FailedAuthorization } from '../../errors.js'
import { boundedMap } from '../../internal/bounded-map.js'
import { withDeadline } from '../../internal/deadline.js'
import type { AnyChallengeSolver } from '../../solvers/challenge-solver.js'
import { selectSolver } from '../../solvers/select-solver.js'
import type { IssuerContext } from '../issuer.js'
import type { AcmeReply } from './acme-transport.js'
import type { OrderCalls } from './order-calls.js'
import { DeadEnd, foreignNames, invalidOrder, isLost } from './order-errors.js'
import type { PresentedChallenge } from './order-journal.js'
import type { Presentations } from './presentations.js'
import { describeProblem, isProblem } from './problem.js'
import type { AcmeAuthorization, AcmeChallenge, AcmeOrder } from './resources.js'
import type { ValidationGuard } from './validation-guard.js'

/** What {@link authorize} works with. */
export interface AuthorizeParts {
  readonly calls: OrderCalls
  readonly presentations: Presentations
  readonly guard: ValidationGuard
  readonly solvers: readonly AnyChallengeSolver[]
  readonly identifiers: readonly Identifier[]
  /** Of the account's key. */
  readonly thumbprint: string
  readonly what: string
  readonly observe: (step: string) => Promise<void>
  readonly context: IssuerContext
}

/** A name and its authorization. */
interface NamedAuthorization {
  readonly url: string
  /** As asked for: a wildcard with its `*.`. */
  readonly identifier: Identifier
  readonly authorization: AcmeAuthorization
}

/** An authorization that needs us. */
interface ValidationTask extends NamedAuthorization {
  readonly challenge: AcmeChallenge
  readonly presented: PresentedChallenge
  /** The CA is at it already: an earlier run has answered. */
  readonly answered: boolean
}

/** Requests of one order in flight. */
const parallelism = 10
/** How long an abort may be held up by a validation under way. */
const lookOnMs = 3000

/**
 * Takes a pending order as far as it goes: `ready`, or beyond when another process is at it too.
 *
 * @throws {@link DeadEnd} when the order is of no use any more
 */
export async function authorize(parts: AuthorizeParts, url: string, pending: AcmeOrder): Promise<AcmeOrder> {
  const { calls, presentations, guard, solvers, thumbprint, what, observe, context } = parts
  const { signal, clock } = context
  const named = await readAll(pending.authorizations)
  const unusable = named.filter(isUnusable)
  if (unusable.length > 0) throw await failed(unusable, pending)
  const tasks = named.filter(({ authorization }) => authorization.status === 'pending').map(toTask)
  const unanswered = tasks.filter(({ answered }) => !answered).map(({ identifier }) => identifier)
  await guard.check(unanswered, context)

  const challenges = tasks.map(({ presented }) => presented)
  await presentations.present(challenges, context)
  await presentations.waitUntilReady(challenges, context)
  const order = await presentations.whileNeeded(async () => {
    try {
      const replies = await boundedMap(tasks, parallelism, signal, async (task) => {
        const reply = task.answered ? undefined : await answer(task)
        await observe('challenge.answered')
        return reply
      })
      const firstWaitMs = calls.firstWait(replies.filter((reply) => reply !== undefined))
      return await calls.poll(url, firstWaitMs, isSettled, lookForFailures)
    } catch (error) {
      if (signal.aborted) await lookOn()
      throw error
    }
  })
  if (order.status === 'invalid') {
    await lookForFailures(order)
    throw invalidOrder(what, url, order, clock.now())
  }
  return order

  /** All authorizations, if they are for exactly the names asked for. */
  async function readAll(urls: readonly string[]): Promise<readonly NamedAuthorization[]> {
    if (urls.length > parts.identifiers.length) throw foreignNames(what, 'more authorizations than names')
    const wanted = new Map(parts.identifiers.map((identifier) => [identifierKey(identifier), identifier]))
    const authorizations = await boundedMap(urls, parallelism, signal, (each) => calls.readAuthorization(url, each))
    const all = urls.flatMap((each, index): NamedAuthorization[] => {
      const authorization = authorizations[index]
      return authorization === undefined
        ? []
        : [{ url: each, authorization, identifier: fullIdentifier(authorization) }]
    })
    for (const { identifier } of all) {
      if (!wanted.delete(identifierKey(identifier)))
        throw foreignNames(what, `an authorization for ${identifier.value}`)
    }
    if (wanted.size > 0) throw foreignNames(what, `no authorization for ${[...wanted.keys()].slice(0, 5).join(', ')}`)
    return all
  }

  function toTask(entry: NamedAuthorization): ValidationTask {
    const { identifier: base, wildcard, challenges: all } = entry.authorization
    // What an earlier run has answered is being looked at now: it must be there, and no other will do.
    const underWay = all.filter(({ status }) => status === 'processing')
    const offered = underWay.length > 0 ? underWay : all.filter(({ status }) => status === 'pending')
    const types = offered.map(({ type }) => type)
    const { type, name: solver } = selectSolver(entry.identifier, types, solvers)
    const challenge = offered.find((each) => each.type === type)
    if (challenge === undefined) throw foreignNames(what, `no ${type} challenge`)
    const presented = { type, solver, identifier: base, wildcard, token: challenge.token, thumbprint }
    return { ...entry, challenge, presented, answered: underWay.length > 0 }
  }

  /** A lost or refused answer is compared with the authorization before it is repeated. */
  async function answer({
    challenge,
    identifier,
    url: authorizationUrl,
  }: ValidationTask): Promise<AcmeReply | undefined> {
    const send = (): Promise<AcmeReply> =>
      calls.answer(url, challenge.url, `${challenge.type} challenge for ${identifier.value}`)
    try {
      return await send()
    } catch (error) {
      if (signal.aborted || !(isLost(error) || isProblem(error, 'malformed'))) throw error
      const known = await calls.readAuthorization(url, authorizationUrl)
      const now = known.challenges.find((each) => each.url === challenge.url)
      if (known.status !== 'pending' || now?.status !== 'pending') return undefined
      if (!isLost(error)) throw error
      await calls.pause()
      return send()
    }
  }

  /** Has one of the validations failed? Orders of some CAs are slow to show it, or do not say which. */
  async function lookForFailures(invalid?: AcmeOrder): Promise<void> {
    const known = await boundedMap(tasks, parallelism, signal, async (task) => ({
      ...task,
      authorization: await calls.readAuthorization(url, task.url),
    }))
    const failures = known.filter(isUnusable)
    if (failures.length > 0) throw await failed(failures, invalid)
  }

  /** Remembers the failures, so that the next attempts keep below the CA's limit. */
  async function failed(failures: readonly NamedAuthorization[], invalid: AcmeOrder | undefined): Promise<DeadEnd> {
    const validated = failures.filter(({ authorization: { status } }) => status === 'invalid')
    try {
      await guard.recordFailures(
        validated.map(({ identifier }) => identifier),
        context,
      )
    } catch (error) {
      if (signal.aborted) throw error
      // What the CA said matters more than that it could not be noted.
      context.logger.warn('failed validations could not be recorded', { error })
    }
    const authorizations = failures.map(({ identifier, authorization }): FailedAuthorization => {
      const challenge = authorization.challenges.find(({ error }) => error !== undefined)
      return { identifier, challengeType: challenge?.type, problem: challenge?.error }
    })
    const reasons = authorizations.slice(0, 20).map(({ identifier, challengeType, problem }) => {
      const over = challengeType === undefined ? '' : ` over ${challengeType}`
      return `${identifier.value}${over}: ${problem === undefined ? 'no reason given' : describeProblem(problem)}`
    })
    return new DeadEnd(
      new AuthorizationFailedError({
        message: `the CA could not validate ${reasons.join('; ')}`,
        authorizations,
        orderUrl: url,
        problem: invalid?.error ?? authorizations.find(({ problem }) => problem !== undefined)?.problem,
      }),
    )
  }

  /**
   * After an abort the CA may be validating: taking the challenges down under its eyes would count as a failure, and spoil
   * the order. So they stay for a moment.
   */
  async function lookOn(): Promise<void> {
    const until = clock.now() + lookOnMs
    const { signal: unaborted } = new AbortController()
    const onTimeout = (): Error => new Error('the CA has not finished')
    await withDeadline({ clock, signal: unaborted, ms: lookOnMs, onTimeout }, async (inner) => {
      for (let waitMs = 50; clock.now() + waitMs < until; waitMs *= 2) {
        await clock.sleep(waitMs, { signal: inner })
        if (isSettled((await calls.read(url, inner)).order)) return
      }
    }).catch(() => undefined)
  }
}

function isSettled({ status }: AcmeOrder): boolean {
  return status !== 'pending'
}

function isUnusable({ authorization: { status } }: NamedAuthorization): boolean {
  return status !== 'pending' && status !== 'valid'
}

/** Authorizations name a wildcard without its `*.`. RFC 8555 section 7.1.4. */
function fullIdentifier({ identifier, wildcard }: AcmeAuthorization): Identifier {
  return wildcard ? { ...identifier, value: `*.${identifier.value}` } : identifier
}
