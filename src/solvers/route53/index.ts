/**
 * A dns-01 solver for Amazon Route 53.
 *
 * Sub-path export `'evercert/solvers/route53'`.
 *
 * @module
 */
import type { OperationContext } from '../../core/context.js'
import { CertError, ChallengeError } from '../../errors.js'
import type { ChallengeSolver, Dns01Challenge } from '../challenge-solver.js'
import { dnsPropagation } from '../dns-propagation.js'
import { changeQueue, type Receipt, type ValueRequest } from './change-queue.js'
import { untilInSync } from './change-watch.js'
import { hostedZones } from './hosted-zones.js'
import { requiredPermissions, type IamPolicy, type PermissionOptions } from './permissions.js'
import { route53Calls } from './route53-calls.js'
import { route53Api } from './route53-client.js'
import { explainFailure } from './explain-failure.js'
import { NoPlace, Obstacle, Route53Failure } from './route53-failure.js'
import { checkRoute53Options, type Route53SolverOptions } from './route53-options.js'

export type { DnsPropagationOptions } from '../dns-propagation.js'
export type { IamPolicy, IamStatement, PermissionOptions } from './permissions.js'
export type { Route53Client } from './route53-client.js'
export type { Route53Failure, Route53FailureKind } from './route53-failure.js'
export type { Route53SolverOptions } from './route53-options.js'

/** A dns-01 solver, and what it must be allowed to do. */
export interface Route53Solver extends ChallengeSolver<'dns-01'> {
  waitUntilReady: NonNullable<ChallengeSolver<'dns-01'>['waitUntilReady']>
  /** The IAM policy for this configuration: these calls, on these zones, for TXT records of these names, and no others. */
  requiredPermissions(options?: PermissionOptions): IamPolicy
}

/** Where a challenge's value is, or is about to be. */
interface Placement {
  readonly zoneId: string
  /** Of the record set: the end of a CNAME chain. */
  readonly name: string
  readonly receipt?: Receipt | undefined
}

/**
 * A dns-01 solver that writes TXT records to Amazon Route 53.
 *
 * Values of others stay: a record set is read, and replaced in one batch that deletes exactly what was read and creates what
 * is wanted, which Route 53 refuses when somebody has changed the record set in between; then it is read again. Everything
 * that is wanted of one zone at about the same moment goes into one batch, so a certificate for a hundred names, `example.com`
 * and `*.example.com` among them, takes one change to put up and one to take down.
 *
 * @example
 *
 * ```ts
 * import { route53Solver } from 'evercert/solvers/route53'
 *
 * const solver = route53Solver() // default credentials, hosted zone found by name
 * console.log(JSON.stringify(solver.requiredPermissions(), null, 2)) // the policy they need
 * ```
 *
 * @example
 *
 * ```ts
 * import { Route53Client } from '@aws-sdk/client-route-53'
 * import { route53Solver } from 'evercert/solvers/route53'
 *
 * const solver = route53Solver({
 *   client: new Route53Client({ region: 'us-east-1', maxAttempts: 1 }),
 *   hostedZoneId: 'Z1D633PJN98FT9',
 *   zones: ['example.com'],
 * })
 * ```
 *
 * @remarks
 * Needs the package `@aws-sdk/client-route-53`, which is loaded at the first use, and what {@link Route53Solver.requiredPermissions}
 * returns. Give one solver to all issuers of a process: rate limits and batches are per solver.
 *
 * `present` resolves when Route 53 has accepted the change, `waitUntilReady` when all its name servers have it. A record set
 * that is not a simple one, as cert-manager makes them, is refused with an explanation. Once started, a change is not cut off
 * by an abort: the caller is let go at once, and the clean-up that follows waits for it.
 *
 * Rejects with `ChallengeError`: `ERR_CHALLENGE_FAILED`, or `ERR_CHALLENGE_PROPAGATION_TIMEOUT` when Route 53 has not
 * brought the change to its name servers in time. Its `cause` is a {@link Route53Failure} where Route 53 has failed.
 *
 * @param options - See {@link Route53SolverOptions}. Validated and copied; later changes have no effect.
 * @returns A solver named `dns-01/route53`.
 * @throws `TypeError` if an option is unknown or out of range.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555.html#section-8.4 | RFC 8555 section 8.4, DNS Challenge}
 * @see {@link https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html | ChangeResourceRecordSets}
 */
export function route53Solver(options: Route53SolverOptions = {}): Route53Solver {
  const settings = checkRoute53Options(options)
  const { name, zones, hostedZoneId, followCname, propagation, syncTimeoutMs } = settings
  const dns = dnsPropagation(propagation === false ? {} : propagation)
  const calls = route53Calls({ ...settings, api: route53Api(settings.client) })
  const zoneList = hostedZones((context) => calls.listHostedZones(context))
  const queue = changeQueue({ ...settings, calls })
  const placements = new Map<string, Placement>()

  return {
    name,
    type: 'dns-01',
    ...(zones === undefined ? {} : { zones }),
    // They come together in one batch.
    concurrency: 1000,
    supports: ({ type }) => type === 'dns',
    requiredPermissions: (permissions) => requiredPermissions(settings, permissions),

    present: (challenge, context) =>
      explained(challenge, 'present', context, async () => {
        placements.set(keyOf(challenge), await submit(challenge, 'present', context))
      }),

    waitUntilReady: (challenge, context) =>
      explained(challenge, 'wait', context, async () => {
        const receipt = placements.get(keyOf(challenge))?.receipt
        const inSync = receipt === undefined || (await untilInSync(receipt, calls, syncTimeoutMs, context))
        if (propagation !== false) await untilVisible(challenge, inSync, context)
        else if (!inSync) throw notInSync(challenge)
      }),

    cleanUp: (challenge, context) =>
      explained(challenge, 'clean-up', context, async () => {
        await submit(challenge, 'absent', context).catch((error: unknown) => {
          if (error instanceof NoPlace) return
          // With its zone the record is gone too.
          if (!(error instanceof Route53Failure && error.kind === 'no-zone')) throw error
          zoneList.forget()
        })
        placements.delete(keyOf(challenge))
      }),
  }

  async function submit(
    challenge: Dns01Challenge,
    want: ValueRequest['want'],
    context: OperationContext,
  ): Promise<Placement> {
    context.signal.throwIfAborted()
    const arrived = queue.expectOne()
    try {
      const placement = placements.get(keyOf(challenge)) ?? (await place(challenge.recordName, context))
      context.signal.throwIfAborted()
      // Before it is written: the clean-up must find it even if the CNAME is another one by then.
      placements.set(keyOf(challenge), placement)
      const submitted = queue.submit({ ...placement, text: challenge.recordValue, want }, context)
      arrived()
      return { ...placement, receipt: await submitted }
    } finally {
      arrived()
    }
  }

  async function place(recordName: string, context: OperationContext): Promise<Placement> {
    if (recordName.length > longestName)
      throw new NoPlace(`no DNS name is longer than ${String(longestName)} characters`)
    const target = followCname ? await dns.resolveTarget(recordName, context) : recordName.toLowerCase()
    return { name: target, zoneId: hostedZoneId ?? (await zoneOf(target, target !== recordName, context)) }
  }

  async function zoneOf(target: string, delegated: boolean, context: OperationContext): Promise<string> {
    try {
      return await zoneList.find(target, context)
    } catch (error) {
      if (!delegated || !(error instanceof Obstacle)) throw error
      const text = `it is a CNAME to ${target}, and ${error.message}`
      throw error instanceof NoPlace ? new NoPlace(text) : new Obstacle(text)
    }
  }

  /** Route 53's word counts; what this machine sees of DNS need not be what the CA sees. */
  async function untilVisible(challenge: Dns01Challenge, inSync: boolean, context: OperationContext): Promise<void> {
    const { logger, signal } = context
    try {
      await dns.waitUntilVisible(challenge, context)
    } catch (error) {
      signal.throwIfAborted()
      if (!inSync) throw error
      logger.warn('record is not visible at every name server, the CA is asked all the same', {
        recordName: challenge.recordName,
        error,
      })
    }
  }

  function notInSync({ recordName, identifier }: Dns01Challenge): ChallengeError {
    return new ChallengeError({
      code: 'ERR_CHALLENGE_PROPAGATION_TIMEOUT',
      message:
        `${name}: Route 53 has accepted the record ${recordName}, but not brought it to all its name servers within ` +
        `${String(syncTimeoutMs)} ms; it is tried again later. If that is usual, raise "syncTimeoutMs"`,
      retryable: true,
      solver: name,
      identifier,
      phase: 'wait',
    })
  }

  async function explained(
    challenge: Dns01Challenge,
    phase: 'present' | 'wait' | 'clean-up',
    { signal }: OperationContext,
    run: () => Promise<void>,
  ): Promise<void> {
    try {
      await run()
    } catch (error) {
      signal.throwIfAborted()
      if (CertError.isInstance(error)) throw error
      const zoneId = placements.get(keyOf(challenge))?.zoneId
      if (error instanceof Route53Failure && error.kind === 'no-zone') {
        zoneList.forget()
        placements.delete(keyOf(challenge))
      }
      throw explainFailure(error, { solver: name, challenge, phase, zoneId })
    }
  }
}

const longestName = 253

function keyOf({ recordName, recordValue }: Dns01Challenge): string {
  return `${recordName} ${recordValue}`
}
