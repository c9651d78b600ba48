/**
 * What a change batch makes of the record sets of a zone, or why it is refused: all of it or nothing.
 *
 * @see https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html
 */
import { isWithin, nameProblem } from './domain-name.js'
import { hasSameContent, isSameSet, positionOf, sorted, type RecordSet } from './record-set.js'
import { recordTypes, valueProblem } from './record-values.js'

export interface Change {
  readonly action: 'CREATE' | 'DELETE' | 'UPSERT'
  readonly recordSet: RecordSet
}

export type BatchResult =
  | { readonly recordSets: readonly RecordSet[] }
  /** The request has not the right form: `InvalidInput`. */
  | { readonly invalidInput: string }
  /** The request cannot be carried out on this zone: `InvalidChangeBatch`. */
  | { readonly messages: readonly string[] }

const mostRecords = 1_000
const mostCharacters = 32_000
const mostRecordsInASet = 400

/** Names in `changes` are stored names. */
export function applyBatch(
  zoneName: string,
  recordSets: readonly RecordSet[],
  changes: readonly Change[],
): BatchResult {
  const invalidInput = changes.map(inputProblem).find((problem) => problem !== undefined)
  if (invalidInput !== undefined) return { invalidInput }

  const messages = [
    ...limitProblems(changes),
    ...repeatedSets(changes),
    ...changes.flatMap((change) => contentProblems(change, zoneName)),
  ]
  if (messages.length > 0) return { messages }

  // In the order given: a DELETE makes room for the CREATE after it, not for the one before.
  let result = recordSets
  for (const change of changes) {
    const problem = conflict(change, result, zoneName)
    if (problem !== undefined) messages.push(problem)
    else result = applied(change, result)
  }
  if (messages.length > 0) return { messages }
  const apexProblems = apexRecordProblems(zoneName, result)
  return apexProblems.length > 0 ? { messages: apexProblems } : { recordSets: sorted(result) }
}

function inputProblem({ action, recordSet }: Change): string | undefined {
  const { name, type, setIdentifier, multiValueAnswer, weight, ttl, values, aliasTarget } = recordSet
  const where = `in Change with [Action=${action}, Name=${name}, Type=${type}, SetIdentifier=${setIdentifier ?? 'null'}]`
  if (!(recordTypes as readonly string[]).includes(type))
    return `Invalid request: The record type ${type} is not one that this emulator knows ${where}`
  const plain = ttl !== undefined && values !== undefined && values.length > 0
  const kinds = 'Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId]'
  if (aliasTarget === undefined && !plain) return `Invalid request: ${kinds}, but found none ${where}`
  if (aliasTarget !== undefined && (ttl !== undefined || values !== undefined))
    return `Invalid request: ${kinds}, but found more than one ${where}`
  const policies = [multiValueAnswer, weight].filter((policy) => policy !== undefined).length
  if (policies > 0 && setIdentifier === undefined) return `Invalid request: Missing field 'SetIdentifier' ${where}`
  if (policies !== 1 && setIdentifier !== undefined) {
    const found = policies === 0 ? 'none' : 'more than one'
    return `Invalid request: Expected exactly one of [Weight, Region, Failover, GeoLocation, or MultiValueAnswer], but found ${found} ${where}`
  }
  return undefined
}

/** An UPSERT counts twice, as it may be a DELETE and a CREATE. */
function limitProblems(changes: readonly Change[]): string[] {
  let records = 0
  let characters = 0
  let longest = 0
  for (const { action, recordSet } of changes) {
    const values = recordSet.values ?? []
    const weight = action === 'UPSERT' ? 2 : 1
    records += weight * values.length
    characters += weight * values.reduce((sum, value) => sum + value.length, 0)
    longest = Math.max(longest, values.length)
  }
  return [
    ...(records > mostRecords ? [`Number of records limit of ${mostRecords} exceeded.`] : []),
    ...(characters > mostCharacters ? [`RDATA character limit of ${mostCharacters} exceeded.`] : []),
    ...(longest > mostRecordsInASet ? [`Cannot have more than ${mostRecordsInASet} records in a RRSet.`] : []),
  ]
}

/** A set may be named once in a batch, or twice to be replaced: DELETE, then CREATE. */
function repeatedSets(changes: readonly Change[]): string[] {
  const actionsOf = new Map<string, string[]>()
  for (const { action, recordSet } of changes) {
    const set = JSON.stringify(positionOf(recordSet))
    actionsOf.set(set, [...(actionsOf.get(set) ?? []), action])
  }
  return changes
    .filter(({ recordSet }) => {
      const set = JSON.stringify(positionOf(recordSet))
      const actions = actionsOf.get(set)
      // Each set is complained of once.
      actionsOf.delete(set)
      return actions !== undefined && actions.length > 1 && actions.join() !== 'DELETE,CREATE'
    })
    .map(
      ({ recordSet: { type, name } }) =>
        `The request contains an invalid set of changes for a resource record set '${type} ${name}'`,
    )
}

function contentProblems({ recordSet }: Change, zoneName: string): string[] {
  const { name, type, values = [] } = recordSet
  const badName = nameProblem(name)
  if (badName !== undefined) return [badName]
  if (!isWithin(name, zoneName)) return [`RRSet with DNS name ${name} is not permitted in zone ${zoneName}`]
  if (type === 'CNAME' && name === zoneName)
    return [`RRSet of type CNAME with DNS name ${name} is not permitted at apex in zone ${zoneName}`]
  return [
    ...values
      .map((value) => valueProblem(type, value))
      .filter((problem) => problem !== undefined)
      .map((problem) => `Invalid Resource Record: ${problem}`),
    ...values
      .filter((value, index) => values.indexOf(value) !== index)
      .map((value) => `Duplicate Resource Record: '${value}'`),
  ]
}

function conflict(
  { action, recordSet }: Change,
  recordSets: readonly RecordSet[],
  zoneName: string,
): string | undefined {
  const { name, type, setIdentifier } = recordSet
  const identifier = setIdentifier === undefined ? '' : `, set-identifier='${setIdentifier}'`
  const set = `resource record set [name='${name}', type='${type}'${identifier}]`
  const current = recordSets.find((other) => isSameSet(other, recordSet))

  if (action === 'DELETE') {
    if (current === undefined) return `Tried to delete ${set} but it was not found`
    return hasSameContent(current, recordSet)
      ? undefined
      : `Tried to delete ${set} but the values provided do not match the current values`
  }
  if (action === 'CREATE' && current !== undefined) return `Tried to create ${set} but it already exists`

  const neighbours = recordSets.filter((other) => other.name === name && other !== current)
  if (neighbours.some((other) => type === 'CNAME' && other.type !== 'CNAME'))
    return `RRSet of type CNAME with DNS name ${name} is not permitted as it conflicts with other records with the same DNS name in zone ${zoneName}`
  if (neighbours.some((other) => type !== 'CNAME' && other.type === 'CNAME'))
    return `RRSet of type ${type} with DNS name ${name} is not permitted because a conflicting RRSet of type  CNAME with the same DNS name already exists in zone ${zoneName}`
  return routingConflict(
    recordSet,
    neighbours.filter((other) => other.type === type),
  )
}

/** Sets of one name and type are one simple set, or several of one routing policy. */
function routingConflict(recordSet: RecordSet, alike: readonly RecordSet[]): string | undefined {
  const { name, type, setIdentifier, multiValueAnswer } = recordSet
  if (alike.length === 0) return undefined
  if (setIdentifier === undefined)
    return `RRSet with DNS name ${name}, type ${type} cannot be created as other RRSets exist with the same name and type.`
  const kind = multiValueAnswer === undefined ? 'weighted' : 'multivalue answer'
  const otherKind = alike.some((other) => (other.multiValueAnswer === undefined) !== (multiValueAnswer === undefined))
  return otherKind || alike.some((other) => other.setIdentifier === undefined)
    ? `RRSet with DNS name ${name}, type ${type}, SetIdentifier ${setIdentifier} cannot be created because a non ${kind} rrset exists with the same name and type.`
    : undefined
}

function applied({ action, recordSet }: Change, recordSets: readonly RecordSet[]): RecordSet[] {
  const others = recordSets.filter((other) => !isSameSet(other, recordSet))
  return action === 'DELETE' ? others : [...others, recordSet]
}

function apexRecordProblems(zoneName: string, recordSets: readonly RecordSet[]): string[] {
  const atApex = (type: string): readonly string[] =>
    recordSets.find((set) => set.name === zoneName && set.type === type)?.values ?? []
  return [
    ...(atApex('SOA').length === 1 ? [] : ['A HostedZone must contain exactly one SOA record.']),
    ...(atApex('NS').length > 0 ? [] : ['A HostedZone must contain at least one NS record for the zone itself.']),
  ]
}
