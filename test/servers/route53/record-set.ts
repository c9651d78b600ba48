/**
 * Resource record sets: what one is, which of two comes first, and when two are the same.
 */
import { sortKey, storedName } from './domain-name.js'

export interface RecordSet {
  /** As {@link storedName} gives it. */
  readonly name: string
  readonly type: string
  readonly setIdentifier?: string | undefined
  readonly multiValueAnswer?: boolean | undefined
  readonly weight?: number | undefined
  readonly ttl?: number | undefined
  /** In the form of the API: a TXT value has its quotation marks. Absent in an alias. */
  readonly values?: readonly string[] | undefined
  readonly aliasTarget?:
    { readonly hostedZoneId: string; readonly dnsName: string; readonly evaluateTargetHealth: boolean } | undefined
}

/** Where a set stands in a list: by name with the labels reversed, then type, then identifier, all in ASCII order. */
export type Position = readonly [nameKey: string, type: string, setIdentifier: string]

export function positionOf({ name, type, setIdentifier = '' }: RecordSet): Position {
  return [sortKey(name), type, setIdentifier]
}

export function comparePositions(left: Position, right: Position): number {
  const different = left.findIndex((part, index) => part !== right[index])
  return different === -1 ? 0 : left[different]! < right[different]! ? -1 : 1
}

export function sorted(recordSets: readonly RecordSet[]): RecordSet[] {
  return [...recordSets].sort((left, right) => comparePositions(positionOf(left), positionOf(right)))
}

export function isSameSet(left: RecordSet, right: RecordSet): boolean {
  return left.name === right.name && left.type === right.type && left.setIdentifier === right.setIdentifier
}

/** Whether a DELETE names what is there. The order of the values means nothing. */
export function hasSameContent(left: RecordSet, right: RecordSet): boolean {
  return content(left) === content(right)
}

function content({ ttl, values = [], aliasTarget, weight }: RecordSet): string {
  return JSON.stringify([ttl, [...values].sort(), aliasTarget, weight])
}

/** Name and spelling as the service keeps them, whatever the caller wrote. */
export function storedRecordSet(recordSet: RecordSet): RecordSet {
  return { ...recordSet, name: storedName(recordSet.name), type: recordSet.type.toUpperCase() }
}
