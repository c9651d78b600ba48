/**
 * Reads many entries: a few by a request for each, more than that by lists.
 *
 * @module
 */
import type { OperationContext } from '../../core/context.js'
import type { FoundValue, StoreKey } from '../cert-store.js'
import type { KubernetesObject, KubernetesObjects, ObjectPage, Step } from './kubernetes-objects.js'
import { listPages } from './list-pages.js'
import { spaceOf, type ObjectNames } from './object-names.js'

/** Parts of {@link readSecrets}. */
export interface ReadSecretsOptions {
  readonly objects: KubernetesObjects
  readonly names: ObjectNames
  /** Runs one request. */
  readonly attempt: <Result>(what: string, run: (step: Step) => Promise<Result>) => Promise<Result>
  readonly found: (object: KubernetesObject, key: StoreKey) => FoundValue
  readonly readOne: (key: StoreKey, context: OperationContext) => Promise<FoundValue>
}

/** A list of one space, of which only some objects may be wanted. */
interface Listing {
  /** By the names of their objects. */
  readonly wanted: Map<string, StoreKey>
  /** How many objects may still be looked at. */
  left: number
  readonly pages: AsyncIterator<ObjectPage, undefined>
}

/** From so many on a list is worth its while. */
const listedFrom = 100

/** A list is read for as long as it shows one of those that are wanted among so many. */
const listedPerWanted = 10

/** Requests at once for what no list shows. */
const concurrency = 16

/** The entries under all keys, as they come. Each space is listed by itself, at the same time as the others. */
export async function* readSecrets(
  keys: readonly StoreKey[],
  context: OperationContext,
  options: ReadSecretsOptions,
): AsyncGenerator<readonly FoundValue[]> {
  const alone: StoreKey[] = []
  const underWay = new Map<Listing, Promise<{ readonly listing: Listing; readonly page: ObjectPage | undefined }>>()
  const ask = (listing: Listing): void => {
    const asked = listing.pages.next().then(({ value }) => ({ listing, page: value }))
    // It may fail while nobody waits for it.
    asked.catch(() => undefined)
    underWay.set(listing, asked)
  }
  for (const [space, own] of bySpace(keys)) {
    if (own.length < listedFrom) alone.push(...own)
    else ask(beginListing(space, own, options))
  }
  while (underWay.size > 0) {
    const { listing, page } = await Promise.race(underWay.values())
    underWay.delete(listing)
    const shown = page === undefined ? [] : takeWanted(listing, page)
    // The next page comes while the caller is busy with this one.
    if (page !== undefined && listing.wanted.size > 0 && listing.left > 0) ask(listing)
    // Also what no list has shown is asked for: somebody may have taken a label away.
    else alone.push(...listing.wanted.values())
    context.signal.throwIfAborted()
    // Also a page that shows nothing of it: whoever waits knows that it goes on.
    yield shown.map(([object, key]) => options.found(object, key))
  }
  for (let first = 0; first < alone.length; first += concurrency) {
    yield await Promise.all(alone.slice(first, first + concurrency).map((key) => options.readOne(key, context)))
  }
}

function bySpace(keys: readonly StoreKey[]): ReadonlyMap<string, readonly StoreKey[]> {
  const spaces = new Map<string, StoreKey[]>()
  for (const key of keys) {
    const space = spaceOf(key)
    const own = spaces.get(space)
    if (own === undefined) spaces.set(space, [key])
    else own.push(key)
  }
  return spaces
}

function beginListing(space: string, keys: readonly StoreKey[], options: ReadSecretsOptions): Listing {
  const { objects, names, attempt } = options
  const prefix = `${space}/`
  const pages = listPages({
    ...{ objects, selector: names.selectorOf(prefix), metadataOnly: false },
    attempt: (run) => attempt(`${prefix}*`, run),
  })
  const wanted = new Map(keys.map((key) => [names.nameOf(key), key]))
  return { wanted, left: wanted.size * listedPerWanted, pages }
}

function takeWanted(listing: Listing, { items }: ObjectPage): (readonly [KubernetesObject, StoreKey])[] {
  const { wanted } = listing
  listing.left -= items.length
  const shown: (readonly [KubernetesObject, StoreKey])[] = []
  for (const object of items) {
    const key = wanted.get(object.name)
    // One that a finalizer keeps is left for a request of its own, which tells what is wrong.
    if (key === undefined || object.isDeleted) continue
    wanted.delete(object.name)
    shown.push([object, key])
  }
  return shown
}
