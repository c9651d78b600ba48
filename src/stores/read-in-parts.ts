/**
 * Many values of a server, by few requests.
 *
 * @module
 */
import type { StoreKey } from './cert-store.js'

/** Keys per request: enough to be fast, few enough that neither side holds much at once. */
const largestPart = 256

/** Asks for one part after the other. `what` says which keys, for messages. */
export async function* readInParts<Found>(
  keys: readonly StoreKey[],
  read: (part: readonly StoreKey[], what: string) => Promise<readonly Found[]>,
): AsyncGenerator<readonly Found[]> {
  for (let first = 0; first < keys.length; first += largestPart) {
    const part = keys.slice(first, first + largestPart)
    const others = part.length === 1 ? '' : ` and ${String(part.length - 1)} more`
    yield await read(part, `${part[0] ?? ''}${others}`)
  }
}
