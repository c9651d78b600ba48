/**
 * What has to change so that a record set holds our values beside those of others. Pure.
 *
 * @module
 */
import type { RecordSet } from './route53-client.js'
import { quoteTxt, unquoteTxt } from './txt-value.js'

/** One element of a change batch. */
export interface RecordChange {
  readonly action: 'CREATE' | 'DELETE'
  readonly name: string
  /** Seconds. */
  readonly ttl: number
  /** Quoted. */
  readonly values: readonly string[]
}

/** What is wanted of one name. */
export interface WantedValues {
  readonly name: string
  /** Plain texts. */
  readonly present: readonly string[]
  readonly absent: readonly string[]
  /** Seconds; of a record set that is not there yet. One that is there keeps its own. */
  readonly ttl: number
  /** Write the record set even if it holds all values already, so that there is a change to wait for. */
  readonly rewrite: boolean
}

/** How to get there. */
export type ChangePlan =
  | { readonly status: 'change'; readonly changes: readonly RecordChange[] }
  | { readonly status: 'nothing' }
  /** What is there cannot hold our values. */
  | { readonly status: 'obstacle'; readonly obstacle: string }

/**
 * A record set is replaced: exactly what was read is deleted, exactly what is wanted is created. Route 53 does both or
 * neither, and refuses when somebody has changed the record set in between.
 *
 * @param found - every record set of the name
 */
export function planChange(found: readonly RecordSet[], wanted: WantedValues): ChangePlan {
  const { name, present, absent, ttl: newTtl, rewrite } = wanted
  const current = found.find(({ type }) => type === 'TXT')
  if (present.length > 0) {
    const obstacle = obstacleFor(name, found)
    if (obstacle !== undefined) return { status: 'obstacle', obstacle }
  }
  // What is no plain record set is not ours: we make none.
  if (current !== undefined && !isPlain(current)) return { status: 'nothing' }

  const values = current?.values ?? []
  const removed = new Set(absent.filter((text) => !present.includes(text)))
  const kept = values.filter((value) => !removed.has(unquoteTxt(value) ?? value))
  const there = new Set(kept.map((value) => unquoteTxt(value) ?? value))
  const missing = [...new Set(present)].filter((text) => !there.has(text))
  const unchanged = missing.length === 0 && kept.length === values.length
  if (unchanged && !(rewrite && present.length > 0)) return { status: 'nothing' }

  const ttl = current?.ttl ?? newTtl
  const next = [...kept, ...missing.map(quoteTxt)]
  const changes: RecordChange[] = []
  if (current !== undefined) changes.push({ action: 'DELETE', name, ttl, values })
  if (next.length > 0) changes.push({ action: 'CREATE', name, ttl, values: next })
  return { status: 'change', changes }
}

function isPlain({ routing, ttl, values }: RecordSet): boolean {
  return routing === undefined && ttl !== undefined && values.length > 0
}

function obstacleFor(name: string, found: readonly RecordSet[]): string | undefined {
  if (found.some(({ type }) => type === 'CNAME')) {
    return (
      `there is a CNAME record at ${name}, beside which no TXT record can be; leave "followCname" on, so that the ` +
      'challenge goes where it points, or remove it'
    )
  }
  const special = found.find((set) => set.type === 'TXT' && !isPlain(set))
  if (special === undefined) return undefined
  return (
    `the TXT record set at ${name} is not a simple one (${special.routing ?? 'alias'}), and Route 53 allows no simple one ` +
    'beside it; cert-manager writes multivalue answers: remove what it left behind, or let only one of the two prove this name'
  )
}

/** Limits of one request. */
export const batchLimits = { records: 1000, characters: 32_000 } as const

/** Changes that belong together, in as few batches as the API takes. What one plan holds is never torn apart. */
export function packBatches<Plan extends { readonly changes: readonly RecordChange[] }>(
  plans: readonly Plan[],
): readonly (readonly Plan[])[] {
  const batches: Plan[][] = []
  let [records, characters] = [0, 0]
  for (const plan of plans) {
    const size = sizeOf(plan.changes)
    const last = batches.at(-1)
    const fits = records + size.records <= batchLimits.records && characters + size.characters <= batchLimits.characters
    if (last !== undefined && fits) {
      last.push(plan)
      records += size.records
      characters += size.characters
    } else {
      batches.push([plan])
      records = size.records
      characters = size.characters
    }
  }
  return batches
}

/** What a list of changes counts for. */
export function sizeOf(changes: readonly RecordChange[]): { readonly records: number; readonly characters: number } {
  const values = changes.flatMap((change) => change.values)
  return { records: values.length, characters: values.reduce((sum, value) => sum + value.length, 0) }
}
