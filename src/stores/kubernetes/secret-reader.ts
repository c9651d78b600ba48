/**
 * Reads entries: a few by a request for each, many that are asked for in one turn of the event loop by lists.
 *
 * @module
 */
import type { OperationContext } from '../../core/context.js'
import { allowManyListeners } from '../../internal/deadline.js'
import { Semaphore } from '../../internal/semaphore.js'
import type { StoreKey } from '../cert-store.js'
import type { Entry } from '../entry-format.js'
import type { ServerOperation } from '../server-operation.js'
import type { KubernetesObject, KubernetesObjects } from './kubernetes-objects.js'
import { listObjects } from './list-pages.js'
import { spaceOf, type ObjectNames } from './object-names.js'

/** Parts of {@link secretReader}. */
export interface SecretReaderOptions {
  readonly objects: KubernetesObjects
  readonly names: ObjectNames
  readonly operation: ServerOperation
  readonly entryOf: (object: KubernetesObject, key: string) => Entry
}

interface Read {
  readonly key: StoreKey
  readonly context: OperationContext
  readonly resolve: (entry: Entry | undefined) => void
  readonly reject: (error: unknown) => void
}

/** From so many on a list is worth its while. */
const listedFrom = 100

/** A list is read for as long as it shows one of those that are wanted among so many. */
const listedPerWanted = 10

/** Requests at once. */
const concurrency = 16

/** Makes the function that reads one entry; `undefined` when there is none. */
export function secretReader(
  options: SecretReaderOptions,
): (key: StoreKey, context: OperationContext) => Promise<Entry | undefined> {
  const { objects, names, operation, entryOf } = options
  const slots = new Semaphore(concurrency)
  let gathered: Read[] = []

  /** All of one space, and until one signal aborts. */
  async function readGroup(reads: readonly Read[], { signal, clock, logger }: OperationContext): Promise<void> {
    const onAbort = (): void => {
      for (const { reject } of reads) reject(signal.reason)
    }
    allowManyListeners(signal)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      const waiting = new Map<string, Read[]>()
      for (const read of reads) {
        const name = names.nameOf(read.key)
        waiting.set(name, [...(waiting.get(name) ?? []), read])
      }
      if (waiting.size >= listedFrom) await readListed(waiting, { signal, clock, logger })
      // Also what no list has shown: somebody may have taken a label away.
      await Promise.all([...waiting.values()].map((same) => slots.run(() => readOne(same), signal)))
    } catch (error) {
      // Whoever has got an answer does not hear of this.
      for (const { reject } of reads) reject(error)
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  async function readListed(waiting: Map<string, Read[]>, context: OperationContext): Promise<void> {
    const [[first] = []] = waiting.values()
    if (first === undefined) return
    const prefix = `${spaceOf(first.key)}/`
    let left = waiting.size * listedPerWanted
    const listing = { objects, selector: names.selectorOf(prefix), metadataOnly: false }
    const attempt: Parameters<typeof listObjects>[0]['attempt'] = (run) =>
      operation('read', `${prefix}*`, context, (signal, unavailable) =>
        run({ signal, unavailable, clock: context.clock }),
      )
    for await (const object of listObjects({ ...listing, attempt })) {
      left -= 1
      // One that a finalizer keeps is left for a request of its own, which tells what is wrong.
      if (object.deletionTimestamp === undefined) {
        for (const { key, resolve } of waiting.get(object.name) ?? []) resolve(entryOf(object, key))
        waiting.delete(object.name)
      }
      if (left === 0 || waiting.size === 0) return
    }
  }

  /** All of them are for one key. */
  async function readOne(same: readonly Read[]): Promise<void> {
    const [first] = same
    if (first === undefined) return
    const { key, context } = first
    try {
      const object = await operation('read', key, context, (signal, unavailable) =>
        objects.read(names.nameOf(key), { signal, unavailable, clock: context.clock }),
      )
      for (const { resolve } of same) resolve(object && entryOf(object, key))
    } catch (error) {
      for (const { reject } of same) reject(error)
    }
  }

  function flush(): void {
    const groups = new Map<AbortSignal, Map<string, Read[]>>()
    for (const read of gathered) {
      const { signal } = read.context
      const spaces = groups.get(signal) ?? new Map<string, Read[]>()
      groups.set(signal, spaces)
      const space = spaceOf(read.key)
      spaces.set(space, spaces.get(space) ?? [])
      spaces.get(space)?.push(read)
    }
    gathered = []
    for (const spaces of groups.values()) {
      for (const reads of spaces.values()) if (reads[0] !== undefined) void readGroup(reads, reads[0].context)
    }
  }

  return (key, context) =>
    new Promise((resolve, reject) => {
      context.signal.throwIfAborted()
      gathered.push({ key, context, resolve, reject })
      if (gathered.length === 1) setImmediate(flush)
    })
}
