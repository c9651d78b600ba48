/**
 * From what went wrong with Route 53 to what a person needs to know.
 *
 * @module
 */
import { ChallengeError } from '../../errors.js'
import type { Dns01Challenge } from '../challenge-solver.js'
import { Obstacle, Route53Failure } from './route53-failure.js'

/** Where it went wrong. */
export interface FailurePlace {
  readonly solver: string
  readonly challenge: Dns01Challenge
  readonly phase: 'present' | 'wait' | 'clean-up'
  readonly zoneId: string | undefined
}

const doing = { present: 'cannot write', wait: 'cannot follow the change of', 'clean-up': 'cannot remove' } as const

/** An error that reads the same for the same mistake. */
export function explainFailure(error: unknown, { solver, challenge, phase, zoneId }: FailurePlace): ChallengeError {
  const { recordName, identifier } = challenge
  return new ChallengeError({
    code: 'ERR_CHALLENGE_FAILED',
    message: `${solver}: ${doing[phase]} the TXT record ${recordName}: ${reasonOf(error, zoneId)}`,
    retryable: true,
    solver,
    identifier,
    phase,
    cause: error,
  })
}

function reasonOf(error: unknown, zoneId: string | undefined): string {
  if (error instanceof Obstacle) return error.message
  if (!(error instanceof Route53Failure)) return 'unexpected error, see the cause'
  const { kind, action, awsCode, message } = error
  const call = `route53:${action}`
  const zone =
    zoneId === undefined || action === 'ListHostedZones' || action === 'GetChange' ? '' : ` on hosted zone ${zoneId}`
  switch (kind) {
    case 'denied':
      return `the AWS credentials may not ${call}${zone}; give them the policy that requiredPermissions() returns (${awsCode})`
    case 'expired':
      return `the AWS credentials have expired (${awsCode}); renew them, or use a client whose credential provider does`
    case 'credentials':
      return `there are no valid AWS credentials (${awsCode}); check where this process gets them from`
    case 'throttled':
      return `Route 53 throttles ${call} and did not stop in time; the limit is for the whole account, so see who else is busy, or lower "requestsPerSecond"`
    case 'busy':
      return `hosted zone${zoneId === undefined ? '' : ` ${zoneId}`} was busy with other changes all the time (${awsCode})`
    case 'unavailable':
      return `Route 53 did not answer ${call}${zone} in time; the last error was ${message}`
    case 'no-zone':
      return `hosted zone${zoneId === undefined ? '' : ` ${zoneId}`} does not exist; correct "hostedZoneId", or create the zone (${awsCode})`
    case 'moved':
      return `other processes kept changing the record set${zone}; the last refusal was ${message}`
    case 'no-change':
    case 'refused':
      return `Route 53 refused ${call}${zone}: ${message}`
  }
}
