/**
 * Reads the record sets of many names in few pages.
 *
 * @module
 */
import { compareNames } from './record-names.js'
import type { Page, RecordSet } from './route53-client.js'

/**
 * A page begins at a name and answers for every name before the next page, so that all challenges of a small zone take one
 * request, and those of a large one never more than one each.
 *
 * @param list - one page, from a name on
 */
export async function readRecordSets(
  names: readonly string[],
  list: (start: string) => Promise<Page<RecordSet, string>>,
): Promise<ReadonlyMap<string, readonly RecordSet[]>> {
  const found = new Map<string, RecordSet[]>(names.map((name) => [name, []]))
  let unread = [...found.keys()].sort(compareNames)
  while (unread.length > 0) {
    const [start = '', ...others] = unread
    // The page before may have ended in the middle of this name.
    found.set(start, [])
    const { items, next } = await list(start)
    for (const item of items) found.get(item.name)?.push(item)
    if (next === undefined) break
    unread = others.filter((name) => compareNames(name, next) >= 0)
  }
  return found
}
