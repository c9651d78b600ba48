/**
 * The pages of the API's lists.
 */
import { sortKey } from './domain-name.js'
import type { HostedZone } from './hosted-zones.js'
import { comparePositions, positionOf, type Position, type RecordSet } from './record-set.js'

export interface Page<Item> {
  readonly items: readonly Item[]
  /** Where the next page begins. */
  readonly next: Item | undefined
}

export function page<Item>(items: readonly Item[], maxItems: number): Page<Item> {
  return { items: items.slice(0, maxItems), next: items[maxItems] }
}

/** Zones by name with the labels reversed, then by id. */
export function zonesByName(
  zones: readonly HostedZone[],
  start: { readonly name: string | undefined; readonly id: string | undefined },
): HostedZone[] {
  const place = ({ name, id }: { readonly name: string; readonly id: string }): Position => [sortKey(name), id, '']
  const { name, id = '' } = start
  return zones
    .filter((zone) => name === undefined || comparePositions(place(zone), place({ name, id })) >= 0)
    .sort((left, right) => comparePositions(place(left), place(right)))
}

/** `recordSets` come sorted. */
export function recordSetsFrom(recordSets: readonly RecordSet[], start: Position | undefined): readonly RecordSet[] {
  if (start === undefined) return recordSets
  return recordSets.filter((recordSet) => comparePositions(positionOf(recordSet), start) >= 0)
}
