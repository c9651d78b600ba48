/**
 * What the credentials must be allowed to do, and nothing more. Pure.
 *
 * @module
 */
import { assertArray, assertOneOf, assertOptions } from '../../internal/options.js'
import type { Route53SolverSettings } from './route53-options.js'

/** A policy of AWS IAM, as `JSON.stringify` prints it. */
export interface IamPolicy {
  readonly Version: '2012-10-17'
  readonly Statement: readonly IamStatement[]
}

/** One permission of an {@link IamPolicy}. */
export interface IamStatement {
  readonly Sid: string
  readonly Effect: 'Allow'
  readonly Action: readonly string[]
  readonly Resource: readonly string[]
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> | undefined
}

/** What `requiredPermissions()` cannot know from the configuration. */
export interface PermissionOptions {
  /**
   * Names of the records, to allow these only: `_acme-challenge.example.com`. Where one is a CNAME: the name it points at. A
   * `*` stands for any number of characters.
   *
   * @defaultValue `_acme-challenge.*`, or those below the `zones` of the solver
   */
  readonly recordNames?: readonly string[] | undefined
  /** @defaultValue `'aws'` */
  readonly partition?: 'aws' | 'aws-cn' | 'aws-us-gov' | undefined
}

/**
 * The policy for one configuration.
 *
 * @see {@link https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/specifying-conditions-route53.html | Conditions of Route 53}
 */
export function requiredPermissions(
  { hostedZoneId, zones }: Pick<Route53SolverSettings, 'hostedZoneId' | 'zones'>,
  options: PermissionOptions = {},
): IamPolicy {
  assertOptions(options, ['recordNames', 'partition'], 'requiredPermissions')
  const { recordNames = zones?.flatMap(namesBelow) ?? ['_acme-challenge.*'], partition = 'aws' } = options
  assertArray(recordNames, 'recordNames')
  // AWS takes a condition without values in ways of its own.
  if (recordNames.length === 0) throw new TypeError('"recordNames" option must have at least one name')
  assertOneOf(partition, 'partition', ['aws', 'aws-cn', 'aws-us-gov'])
  const arn = (resource: string): string => `arn:${partition}:route53:::${resource}`
  const zone = [arn(`hostedzone/${hostedZoneId ?? '*'}`)]
  const list: IamStatement = {
    Sid: 'FindHostedZone',
    Effect: 'Allow',
    Action: ['route53:ListHostedZones'],
    Resource: ['*'],
  }
  return {
    Version: '2012-10-17',
    Statement: [
      ...(hostedZoneId === undefined ? [list] : []),
      { Sid: 'ReadRecordSets', Effect: 'Allow', Action: ['route53:ListResourceRecordSets'], Resource: zone },
      {
        Sid: 'ChangeChallenges',
        Effect: 'Allow',
        Action: ['route53:ChangeResourceRecordSets'],
        Resource: zone,
        Condition: {
          'ForAllValues:StringEquals': {
            'route53:ChangeResourceRecordSetsRecordTypes': ['TXT'],
            'route53:ChangeResourceRecordSetsActions': ['CREATE', 'DELETE'],
          },
          'ForAllValues:StringLike': {
            'route53:ChangeResourceRecordSetsNormalizedRecordNames': recordNames.map(checkName),
          },
        },
      },
      { Sid: 'FollowChanges', Effect: 'Allow', Action: ['route53:GetChange'], Resource: [arn('change/*')] },
    ],
  }
}

function namesBelow(zone: string): readonly string[] {
  return [`_acme-challenge.${zone}`, `_acme-challenge.*.${zone}`]
}

/** As the condition key wants it: lower case, no final dot. */
function checkName(name: unknown): string {
  const normal = typeof name === 'string' ? name.toLowerCase().replace(/\.$/, '') : ''
  if (!/^[a-z0-9_.*-]{1,255}$/.test(normal)) {
    throw new TypeError('"recordNames" option must be a list of names in A-labels, such as _acme-challenge.example.com')
  }
  return normal
}
