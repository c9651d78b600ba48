/**
 * The contract of challenge solvers, as tests.
 *
 * @module
 */
import { deepStrictEqual, equal, ok, rejects } from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { OperationContext } from '../core/context.js'
import type { AnyChallengeSolver, Challenge, ChallengeSolver, ChallengeType } from '../solvers/challenge-solver.js'
import type { ContractLevel, ContractRunner } from './contract-runner.js'
import { fakeClock } from './fake-clock.js'
import { operationContext } from './operation-context.js'
import { assertNoSecrets, recordingLogger } from './recording-logger.js'

/** A solver under test, and the world it writes to. */
export interface SolverFixture {
  readonly solver: AnyChallengeSolver
  /**
   * What the CA would find for this challenge now: bodies at its path (none or one), values of its TXT record (any number),
   * or the digest in the certificate served for its name, as hex.
   */
  readPresented(challenge: Challenge): Promise<readonly string[]>
  /** Puts a value of somebody else where this challenge goes. Needed for `strict`. */
  plantForeign?(challenge: Challenge, value: string): Promise<void>
  /**
   * Ends the solver as a crash does, and makes it anew over the same world: nothing that was only in memory survives.
   * Needed for `strict`.
   */
  reopen?(): Promise<AnyChallengeSolver>
  dispose?(): Promise<void>
}

/** Options of {@link challengeSolverContract}. */
export interface SolverContractOptions {
  /** Called for each test: each has a world of its own. */
  createSolver(): Promise<SolverFixture>
  readonly level: ContractLevel
  /** A name the solver can prove. @defaultValue `'contract.example'` */
  readonly domain?: string | undefined
}

/**
 * Defines tests that hold a solver to {@link ChallengeSolver}'s contract. `basic`: present, visible, clean up, gone, all of
 * it repeatable and cancellable. `strict`: several challenges of one name, values of others, crashes.
 *
 * @example
 *
 * ```ts
 * import { describe, it } from 'node:test'
 * import { challengeSolverContract } from 'evercert/testing'
 * import { httpResponder } from 'evercert/solvers/http-responder'
 *
 * challengeSolverContract({ describe, it }, {
 *   async createSolver() {
 *     const solver = httpResponder()
 *     return {
 *       solver,
 *       async readPresented({ identifier, token }) {
 *         const url = `http://${identifier.value}/.well-known/acme-challenge/${token}`
 *         const response = solver.fetch(new Request(url))
 *         return response === undefined ? [] : [await response.text()]
 *       },
 *     }
 *   },
 *   level: 'basic',
 * })
 * ```
 *
 * @param runner - `describe` and `it` of any test runner
 */
export function challengeSolverContract(runner: ContractRunner, options: SolverContractOptions): void {
  const { level, domain = 'contract.example' } = options

  const test = (name: string, run: (subject: Subject) => Promise<void>): void => {
    runner.it(name, async () => {
      const fixture = await options.createSolver()
      try {
        await run(subjectOf(fixture, domain))
      } finally {
        await fixture.dispose?.()
      }
    })
  }

  runner.describe(`challenge solver contract, ${level}`, () => {
    test('a challenge is visible once presented, and gone once cleaned up', async ({
      solver,
      challenge,
      visible,
      context,
    }) => {
      const one = challenge(1)
      deepStrictEqual(await visible(one), [], 'nothing must be visible before present()')
      await solver.present(one, context())
      await solver.waitUntilReady?.(one, context())
      deepStrictEqual(
        await visible(one),
        [valueOf(one)],
        'after present() exactly the value of the challenge must be visible',
      )
      await solver.cleanUp(one, context())
      deepStrictEqual(await visible(one), [], 'after cleanUp() nothing must be visible')
    })

    test('presenting and cleaning up twice is the same as once', async ({ solver, challenge, visible, context }) => {
      const one = challenge(1)
      await solver.present(one, context())
      await solver.present(one, context())
      deepStrictEqual(await visible(one), [valueOf(one)], 'a second present() must not add a second value')
      await solver.cleanUp(one, context())
      await solver.cleanUp(one, context())
      deepStrictEqual(await visible(one), [], 'one cleanUp() must undo any number of present()')
    })

    test('cleaning up what was never presented succeeds', async ({ solver, challenge, context }) => {
      await solver.cleanUp(challenge(1), context())
    })

    test('a challenge can be presented again after clean-up', async ({ solver, challenge, visible, context }) => {
      const one = challenge(1)
      await solver.present(one, context())
      await solver.cleanUp(one, context())
      await solver.present(one, context())
      deepStrictEqual(await visible(one), [valueOf(one)])
    })

    test('an aborted present rejects with the reason and presents nothing', async ({
      solver,
      challenge,
      visible,
      context,
    }) => {
      const one = challenge(1)
      const reason = new Error('stopped by the contract')
      await rejectsWith(() => solver.present(one, context(AbortSignal.abort(reason))), reason)
      deepStrictEqual(await visible(one), [], 'an aborted present() must not leave anything')
    })

    test('key authorizations do not get into the log', async ({ solver, challenge, context, logger }) => {
      const one = challenge(1)
      await solver.present(one, context())
      await solver.waitUntilReady?.(one, context())
      await solver.cleanUp(one, context())
      assertNoSecrets(logger.entries, [one.keyAuthorization])
    })

    if (level === 'basic') return

    test('two challenges of one name are visible together, and go one by one', async ({
      solver,
      challenge,
      visible,
      context,
    }) => {
      const [one, other] = [challenge(1), challenge(2)]
      await solver.present(one, context())
      await solver.present(other, context())
      ok((await visible(one)).includes(valueOf(one)), 'the second present() must not take the first value away')
      ok((await visible(other)).includes(valueOf(other)), 'the second value must be visible')
      await solver.cleanUp(one, context())
      ok(!(await visible(one)).includes(valueOf(one)), 'the cleaned up value must be gone')
      ok((await visible(other)).includes(valueOf(other)), 'cleanUp() of one must not take the other away')
      await solver.cleanUp(other, context())
      deepStrictEqual(await visible(other), [])
    })

    test('twenty challenges at once do not lose one another', async ({ solver, challenge, visible, context }) => {
      const challenges = Array.from({ length: 20 }, (_, index) => challenge(index + 1))
      await Promise.all(challenges.map((one) => solver.present(one, context())))
      for (const one of challenges) ok((await visible(one)).includes(valueOf(one)), 'a value was lost')
      await Promise.all(challenges.map((one) => solver.cleanUp(one, context())))
      for (const one of challenges) deepStrictEqual(await visible(one), [], 'a value was left behind')
    })

    test('values of others are left alone', async ({ solver, challenge, visible, context, plantForeign }) => {
      const [one, foreign] = [challenge(1), 'someone-elses.value']
      await plantForeign(one, foreign)
      deepStrictEqual(await visible(one), [foreign], 'the fixture must show what it planted')
      await solver.cleanUp(one, context())
      deepStrictEqual(await visible(one), [foreign], 'cleanUp() without present() must not take a foreign value away')
      // Where there is room for one value only, present() has to fail.
      const presented = await solver.present(one, context()).then(
        () => true,
        () => false,
      )
      deepStrictEqual(
        [...(await visible(one))].sort(),
        presented ? [foreign, valueOf(one)].sort() : [foreign],
        'present() must keep the foreign value, and must fail when its own is not visible beside it',
      )
      await solver.cleanUp(one, context())
      deepStrictEqual(await visible(one), [foreign], 'cleanUp() must only take its own value away')
    })

    test('a new instance cleans up after a crash', async ({ solver, challenge, visible, context, reopen }) => {
      const [one, other] = [challenge(1), challenge(2)]
      await solver.present(one, context())
      await solver.present(other, context())
      const successor = await reopen()
      await successor.cleanUp(one, context())
      await successor.cleanUp(other, context())
      deepStrictEqual(await visible(one), [], 'cleanUp() of a new instance must remove what the old one presented')
      deepStrictEqual(await visible(other), [])
    })

    test('a new instance presents again what the crashed one had presented', async ({
      solver,
      challenge,
      visible,
      context,
      reopen,
    }) => {
      const one = challenge(1)
      await solver.present(one, context())
      const successor = await reopen()
      await successor.present(one, context())
      deepStrictEqual(await visible(one), [valueOf(one)])
      await successor.cleanUp(one, context())
      deepStrictEqual(await visible(one), [])
    })

    test('aborted at any moment, clean-up leaves nothing behind', async ({ solver, challenge, visible, context }) => {
      for (let moment = 0; moment < 10; moment += 1) {
        const one = challenge(moment + 1)
        const controller = new AbortController()
        const reason = new Error('stopped by the contract')
        const work = solver.present(one, context(controller.signal))
        const settled = work.then(
          () => undefined,
          (error: unknown) => {
            equal(error, reason, 'present() must reject with the reason of the signal as it is')
          },
        )
        for (let turn = 0; turn < moment; turn += 1) await nextTurn()
        controller.abort(reason)
        await settled
        await solver.cleanUp(one, context())
        deepStrictEqual(await visible(one), [])
      }
    })

    test('an aborted wait rejects promptly', async ({ solver, challenge, visible, context }) => {
      const [one, absent] = [challenge(1), challenge(2)]
      const reason = new Error('stopped by the contract')
      await solver.present(one, context())
      if (solver.waitUntilReady !== undefined) {
        await rejectsWith(async () => solver.waitUntilReady?.(one, context(AbortSignal.abort(reason))), reason)
        // In the middle: what was never presented has a reason to wait.
        const controller = new AbortController()
        const wait = solver.waitUntilReady(absent, context(controller.signal))
        const settled = wait.then(
          () => true,
          () => true,
        )
        if (!(await Promise.race([settled, nextTurn()]))) {
          controller.abort(reason)
          await rejectsWith(() => wait, reason)
        }
      }
      await solver.cleanUp(one, context())
      deepStrictEqual(await visible(one), [])
    })
  })
}

interface Subject {
  readonly solver: ChallengeSolver
  readonly logger: ReturnType<typeof recordingLogger>
  /** The n-th challenge of the name; frozen. */
  readonly challenge: (n: number) => Challenge
  readonly visible: (challenge: Challenge) => Promise<readonly string[]>
  readonly context: (signal?: AbortSignal) => OperationContext
  readonly plantForeign: (challenge: Challenge, value: string) => Promise<void>
  readonly reopen: () => Promise<ChallengeSolver>
}

function subjectOf(fixture: SolverFixture, domain: string): Subject {
  const logger = recordingLogger()
  const clock = fakeClock({ autoAdvance: true })
  return {
    // The challenges are of the solver's own type, which a union of solvers cannot express.
    solver: fixture.solver as ChallengeSolver,
    logger,
    challenge: (n) => contractChallenge(fixture.solver.type, domain, n),
    visible: (challenge) => fixture.readPresented(challenge),
    context: (signal) => operationContext({ clock, logger, ...(signal === undefined ? {} : { signal }) }),
    async plantForeign(challenge, value) {
      ok(fixture.plantForeign !== undefined, 'the strict level needs plantForeign() of the fixture')
      await fixture.plantForeign(challenge, value)
    },
    async reopen() {
      ok(fixture.reopen !== undefined, 'the strict level needs reopen() of the fixture')
      return (await fixture.reopen()) as ChallengeSolver
    },
  }
}

/** All challenges of one domain share its name, and for dns-01 its record. */
function contractChallenge(type: ChallengeType, domain: string, n: number): Challenge {
  const base64url = (text: string): string => createHash('sha256').update(text).digest('base64url')
  const token = base64url(`token ${String(n)}`)
  const keyAuthorization = `${token}.${base64url('account')}`
  const base = { identifier: { type: 'dns', value: domain }, wildcard: false, token, keyAuthorization } as const
  switch (type) {
    case 'http-01':
      return Object.freeze({ ...base, type, path: `/.well-known/acme-challenge/${token}` as const })
    case 'dns-01':
      return Object.freeze({
        ...base,
        type,
        recordName: `_acme-challenge.${domain}`,
        recordValue: base64url(keyAuthorization),
      })
    case 'tls-alpn-01':
      return Object.freeze({ ...base, type, digest: createHash('sha256').update(keyAuthorization).digest() })
  }
}

function valueOf(challenge: Challenge): string {
  switch (challenge.type) {
    case 'http-01':
      return challenge.keyAuthorization
    case 'dns-01':
      return challenge.recordValue
    case 'tls-alpn-01':
      return Buffer.from(challenge.digest).toString('hex')
  }
}

/** Within a thousand turns of the event loop: what hangs must not hang the test runner. */
async function rejectsWith(run: () => Promise<unknown>, reason: Error): Promise<void> {
  const work = run()
  work.catch(() => undefined)
  const hung = Symbol('hung')
  const patience = async (): Promise<unknown> => {
    for (let turn = 0; turn < 1_000; turn += 1) await nextTurn()
    return hung
  }
  const first = await Promise.race([work.catch((error: unknown) => error), patience()])
  ok(first !== hung, 'an aborted call must settle promptly')
  await rejects(
    work,
    (error: unknown) => error === reason,
    'an aborted call must reject with the reason of the signal as it is',
  )
}

function nextTurn(): Promise<false> {
  return new Promise((resolve) => {
    setImmediate(() => {
      resolve(false)
    })
  })
}
