/**
 * IAM policies, as far as Route 53 knows them. What is not understood is an error, never an allowance.
 *
 * @see https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/specifying-conditions-route53.html
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
 */
import { ApiError } from './api-error.js'
import type { Operation } from './api-request.js'
import type { Change } from './change-batch.js'

export interface PolicyDocument {
  readonly Version?: string | undefined
  readonly Statement: PolicyStatement | readonly PolicyStatement[]
}

export interface PolicyStatement {
  readonly Sid?: string | undefined
  readonly Effect: string
  readonly Action: OneOrMore
  readonly Resource: OneOrMore
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, OneOrMore>>>> | undefined
}

type OneOrMore = string | readonly string[]

export interface AccessRequest {
  readonly operation: Operation
  /** The id of the zone or of the change; of no meaning for lists of zones. */
  readonly id: string
  readonly changes: readonly Change[]
}

/** Throws AccessDenied in IAM's words. */
export function checkAccess(policy: PolicyDocument, principalArn: string, request: AccessRequest): void {
  checkPolicy(policy)
  const { operation } = request
  const statements = oneOrMore(policy.Statement).filter((statement) => applies(statement, request))
  const denied = statements.some((statement) => statement.Effect === 'Deny')
  if (!denied && statements.some((statement) => statement.Effect === 'Allow')) return
  const resource = resourceOf(request)
  const on = resource === '*' ? '' : ` on resource: ${resource}`
  const why = denied
    ? 'with an explicit deny in an identity-based policy'
    : `because no identity-based policy allows the route53:${operation} action`
  const what = `User: ${principalArn} is not authorized to perform: route53:${operation}${on} ${why}`
  throw new ApiError('AccessDenied', 403, what)
}

/** Throws a `TypeError` for a policy that cannot be evaluated here. */
export function checkPolicy(policy: PolicyDocument): void {
  const known = ['Sid', 'Effect', 'Action', 'Resource', 'Condition']
  for (const statement of oneOrMore(policy.Statement)) {
    const strange = Object.keys(statement).find((key) => !known.includes(key))
    if (strange !== undefined) throw new TypeError(`policy element ${strange} is not understood`)
    if (statement.Effect !== 'Allow' && statement.Effect !== 'Deny')
      throw new TypeError(`policy effect ${statement.Effect} is not understood`)
    for (const [operator, keys] of Object.entries(statement.Condition ?? {})) {
      parseOperator(operator)
      for (const key of Object.keys(keys))
        if (!conditionKeys.has(key.toLowerCase())) throw new TypeError(`policy condition key ${key} is not understood`)
    }
  }
}

function applies({ Action, Resource, Condition = {} }: PolicyStatement, request: AccessRequest): boolean {
  const action = `route53:${request.operation}`.toLowerCase()
  return (
    oneOrMore(Action).some((pattern) => isLike(action, pattern.toLowerCase())) &&
    oneOrMore(Resource).some((pattern) => isLike(resourceOf(request), pattern)) &&
    Object.entries(Condition).every(([operator, keys]) =>
      Object.entries(keys).every(([key, wanted]) =>
        holds(operator, conditionKeys.get(key.toLowerCase())!(request), oneOrMore(wanted)),
      ),
    )
  )
}

/** Lists of zones know no resource: only a policy for `*` allows them. */
function resourceOf({ operation, id }: AccessRequest): string {
  switch (operation) {
    case 'ListHostedZones':
    case 'ListHostedZonesByName':
      return '*'
    case 'GetChange':
      return `arn:aws:route53:::change/${id}`
    case 'GetHostedZone':
    case 'ListResourceRecordSets':
    case 'ChangeResourceRecordSets':
      return `arn:aws:route53:::hostedzone/${id}`
  }
}

/** Values of a request; `undefined` where the request does not have the key. */
const conditionKeys = new Map<string, (request: AccessRequest) => string[] | undefined>(
  Object.entries({
    // Lower case, without the final dot, escapes in octal: the stored name without its dot.
    'route53:ChangeResourceRecordSetsNormalizedRecordNames': ({ recordSet }: Change) =>
      recordSet.name.replace(/\.$/, ''),
    'route53:ChangeResourceRecordSetsRecordTypes': ({ recordSet }: Change) => recordSet.type,
    'route53:ChangeResourceRecordSetsActions': ({ action }: Change) => action,
  }).map(([key, valueOf]) => [
    key.toLowerCase(),
    ({ operation, changes }) => (operation === 'ChangeResourceRecordSets' ? changes.map(valueOf) : undefined),
  ]),
)

function holds(operator: string, values: string[] | undefined, wanted: readonly string[]): boolean {
  const { quantifier, test, ifExists } = parseOperator(operator)
  const passes = (value: string): boolean => test(value, wanted)
  if (values === undefined) return quantifier === 'ForAllValues' || ifExists
  return quantifier === 'ForAllValues' ? values.every(passes) : values.some(passes)
}

type Test = (value: string, wanted: readonly string[]) => boolean

const tests: Readonly<Record<string, Test>> = {
  StringEquals: (value, wanted) => wanted.includes(value),
  StringNotEquals: (value, wanted) => !wanted.includes(value),
  StringEqualsIgnoreCase: (value, wanted) => wanted.some((other) => other.toLowerCase() === value.toLowerCase()),
  StringLike: (value, wanted) => wanted.some((pattern) => isLike(value, pattern)),
  StringNotLike: (value, wanted) => !wanted.some((pattern) => isLike(value, pattern)),
}

function parseOperator(operator: string): { quantifier: string | undefined; test: Test; ifExists: boolean } {
  const [, quantifier, name, ifExists] = /^(?:(ForAllValues|ForAnyValue):)?(\w+?)(IfExists)?$/.exec(operator) ?? []
  const test = tests[name ?? '']
  if (test === undefined) throw new TypeError(`policy condition operator ${operator} is not understood`)
  return { quantifier, test, ifExists: ifExists !== undefined }
}

function isLike(value: string, pattern: string): boolean {
  const source = pattern.replace(/[^*?]/g, (character) => (/\w/.test(character) ? character : `\\${character}`))
  return new RegExp(`^${source.replaceAll('*', '.*').replaceAll('?', '.')}$`, 's').test(value)
}

function oneOrMore<T>(value: T | readonly T[]): readonly T[] {
  return Array.isArray(value) ? (value as readonly T[]) : [value as T]
}
