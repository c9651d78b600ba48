/**
 * Challenges put up by the hooks that acmetool's users have, exported from `evercert/solvers/acmetool-hooks`.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { CertError, ChallengeError } from '../errors.js'
import {
  acmetoolHooksOption,
  runHooks,
  UnsafeHooks,
  type AcmetoolHooks,
  type AcmetoolHooksOptions,
  type HookOutcomes,
} from '../internal/acmetool-hooks.js'
import { assertText } from '../internal/options.js'
import type { Challenge, ChallengeSolver, Dns01Challenge, Http01Challenge } from './challenge-solver.js'
import { isChallengeToken } from './http-challenge.js'
import { parseZones } from './zones.js'

export type { AcmetoolHooksOptions } from '../internal/acmetool-hooks.js'

/** Options of {@link acmetoolHttpSolver} and {@link acmetoolDnsSolver}. */
export interface AcmetoolSolverOptions extends AcmetoolHooksOptions {
  /** File name of the target in acmetool's `desired/`, for hooks that look at it. @defaultValue '' */
  readonly targetFile?: string | undefined
  /** DNS zones this solver is for. @defaultValue every name */
  readonly zones?: readonly string[] | undefined
  /** @defaultValue `http-01/acmetool-hooks`, `dns-01/acmetool-hooks` */
  readonly name?: string | undefined
  /** Limit for each hook, milliseconds. @defaultValue 60_000 (one minute) for http-01, 600_000 for dns-01 */
  readonly timeoutMs?: number | undefined
}

/**
 * An http-01 solver that runs acmetool's `challenge-http-start` and `challenge-http-stop` hooks: host name, target file and
 * token are their arguments, the key authorization is their standard input.
 *
 * At least one hook must say that it has done something. acmetool leaves that to its self-test alone; evercert looks at the
 * challenge as well before the CA does, but does not wait for one that nobody has put up.
 *
 * @example
 *
 * ```ts
 * import { acmetoolHttpSolver } from 'evercert/solvers/acmetool-hooks'
 *
 * const solver = acmetoolHttpSolver({ directories: ['/usr/lib/acme/hooks'] })
 * ```
 *
 * @remarks
 * What is run, and how, is said at `acmetoolHooks` of `evercert/deployers/acmetool-hooks`. Rejects with
 * `ERR_CHALLENGE_FAILED`; `retryable` unless everybody may write into a directory of hooks.
 *
 * @throws `TypeError` that names the option
 * @see {@link https://github.com/hlandau/acmetool/blob/master/_doc/SCHEMA.md#challenge-hooks | acmetool's hooks}
 */
export function acmetoolHttpSolver(options: AcmetoolSolverOptions = {}): ChallengeSolver<'http-01'> {
  const { hooks, targetFile, zones, name } = checkOptions(options, 'acmetoolHttpSolver', 'http-01', 60_000)
  const tell = (event: 'start' | 'stop', challenge: Http01Challenge, context: OperationContext) => {
    const { identifier, token, keyAuthorization } = challenge
    return runHooks(
      hooks,
      {
        name: `challenge-http-${event}`,
        args: [identifier.value, targetFile, token],
        input: keyAuthorization,
        secrets: [keyAuthorization],
      },
      context,
    )
  }
  return {
    name,
    type: 'http-01',
    ...(zones === undefined ? {} : { zones }),
    async present(challenge, context) {
      if (!isChallengeToken(challenge.token)) {
        throw failure(name, 'present', challenge, 'the CA sent a token that must not become an argument')
      }
      await putUp(name, challenge, context, () => tell('start', challenge, context))
    },
    async cleanUp(challenge, context) {
      if (!isChallengeToken(challenge.token)) return
      await takeDown(name, challenge, context, () => tell('stop', challenge, context))
    },
  }
}

/**
 * A dns-01 solver that runs acmetool's `challenge-dns-start` and `challenge-dns-stop` hooks: host name, target file, the
 * value of the TXT record, and `wildcard` or an empty text are their arguments.
 *
 * At least one hook must succeed, and it must do so only when all authoritative servers have the record, as acmetool asks.
 *
 * @example
 *
 * ```ts
 * import { acmetoolDnsSolver } from 'evercert/solvers/acmetool-hooks'
 *
 * const solver = acmetoolDnsSolver({ zones: ['example.com'], timeoutMs: 300_000 })
 * ```
 *
 * @remarks
 * What is run, and how, is said at `acmetoolHooks` of `evercert/deployers/acmetool-hooks`. Rejects with
 * `ERR_CHALLENGE_FAILED`; `retryable` unless everybody may write into a directory of hooks.
 *
 * @throws `TypeError` that names the option
 * @see {@link https://github.com/hlandau/acmetool/blob/master/_doc/SCHEMA.md#challenge-hooks | acmetool's hooks}
 */
export function acmetoolDnsSolver(options: AcmetoolSolverOptions = {}): ChallengeSolver<'dns-01'> {
  const { hooks, targetFile, zones, name } = checkOptions(options, 'acmetoolDnsSolver', 'dns-01', 600_000)
  const tell = (event: 'start' | 'stop', challenge: Dns01Challenge, context: OperationContext) => {
    const { identifier, recordValue, wildcard, keyAuthorization } = challenge
    const args = [identifier.value, targetFile, recordValue, wildcard ? 'wildcard' : '']
    return runHooks(hooks, { name: `challenge-dns-${event}`, args, input: '', secrets: [keyAuthorization] }, context)
  }
  return {
    name,
    type: 'dns-01',
    ...(zones === undefined ? {} : { zones }),
    async present(challenge, context) {
      await putUp(name, challenge, context, () => tell('start', challenge, context))
    },
    async cleanUp(challenge, context) {
      await takeDown(name, challenge, context, () => tell('stop', challenge, context))
    },
  }
}

function checkOptions(options: AcmetoolSolverOptions, of: string, type: string, timeoutMs: number) {
  const hooks: AcmetoolHooks = acmetoolHooksOption(options, of, { timeoutMs, more: ['targetFile', 'zones', 'name'] })
  const { targetFile = '', name = `${type}/acmetool-hooks` } = options
  if (targetFile !== '') assertText(targetFile, 'targetFile', 255)
  assertText(name, 'name', 100)
  return { hooks, targetFile, zones: parseZones(options.zones), name }
}

/** At least one hook has to have done it. */
async function putUp(
  name: string,
  challenge: Challenge,
  context: OperationContext,
  run: () => Promise<HookOutcomes>,
): Promise<void> {
  const { done, failures } = await attempt(name, 'present', challenge, context, run)
  if (done.length > 0) return
  const why = failures.length > 0 ? failures.join('; ') : 'no hook knows the event; look into the "directories"'
  throw failure(name, 'present', challenge, why)
}

/** It failed where a hook said so and none did anything: then something may have been left up. */
async function takeDown(
  name: string,
  challenge: Challenge,
  context: OperationContext,
  run: () => Promise<HookOutcomes>,
): Promise<void> {
  const { done, failures } = await attempt(name, 'clean-up', challenge, context, run)
  if (done.length === 0 && failures.length > 0) throw failure(name, 'clean-up', challenge, failures.join('; '))
}

async function attempt(
  name: string,
  phase: 'present' | 'clean-up',
  challenge: Challenge,
  { signal }: OperationContext,
  run: () => Promise<HookOutcomes>,
): Promise<HookOutcomes> {
  try {
    return await run()
  } catch (error) {
    signal.throwIfAborted()
    if (CertError.isInstance(error)) throw error
    throw failure(name, phase, challenge, error instanceof Error ? error.message : 'unexpected error', error)
  }
}

function failure(
  name: string,
  phase: 'present' | 'clean-up',
  { identifier }: Challenge,
  why: string,
  cause?: unknown,
): ChallengeError {
  const what = phase === 'present' ? 'cannot put up a challenge' : 'cannot take down a challenge'
  return new ChallengeError({
    code: 'ERR_CHALLENGE_FAILED',
    message: `${name}: ${what} for ${identifier.value}: ${why}`,
    // As for deployers: what anybody may have written is not run until a person has looked.
    retryable: !(cause instanceof UnsafeHooks),
    solver: name,
    identifier,
    phase,
    cause,
  })
}
