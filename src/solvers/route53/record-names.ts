/**
 * Domain names as Route 53 writes and sorts them. Pure.
 *
 * @module
 */

/** Lower case, `\052` and the like resolved, without the trailing dot. */
export function unescapeName(name: string): string {
  return name
    .replace(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
    .replace(/\.$/, '')
    .toLowerCase()
}

/**
 * The order of `ListResourceRecordSets`: labels reversed, a dot behind the last one, then by ASCII.
 *
 * @see {@link https://docs.aws.amazon.com/Route53/latest/APIReference/API_ListResourceRecordSets.html | ListResourceRecordSets}
 */
export function compareNames(one: string, other: string): number {
  const [left, right] = [sortKey(one), sortKey(other)]
  return left < right ? -1 : left > right ? 1 : 0
}

function sortKey(name: string): string {
  return `${name.split('.').reverse().join('.')}.`
}

/** Whether `name` is `zone` or below it. */
export function isWithin(name: string, zone: string): boolean {
  return name === zone || name.endsWith(`.${zone}`)
}
