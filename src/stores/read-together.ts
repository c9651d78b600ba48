/**
 * Reads that are asked for in the same turn of the event loop, sent to the server as one: thousands of certificates are
 * looked at in a fraction of the round trips.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { allowManyListeners } from '../internal/deadline.js'

/** Keys per request: enough to be fast, few enough that neither side holds much at once. */
const largestBatch = 64

interface Read<Found> {
  readonly key: string
  readonly context: OperationContext
  readonly resolve: (found: Found) => void
  readonly reject: (error: unknown) => void
}

/**
 * Reads one key by `readAll`, which answers in the order of the keys. What fails, fails for all that were read together. A
 * caller whose signal aborts is told so at once, and the others go on; the signal of a request aborts once nobody waits for
 * it any more.
 */
export function readTogether<Found>(
  readAll: (keys: readonly string[], context: OperationContext) => Promise<readonly Found[]>,
): (key: string, context: OperationContext) => Promise<Found> {
  let gathered: Read<Found>[] = []

  async function send(reads: readonly Read<Found>[], context: OperationContext): Promise<void> {
    const unwanted = new AbortController()
    // Most are asked for under one signal: a listener for each read would cost more than the read.
    const callers = new Set(reads.map((read) => read.context.signal))
    const leave = ({ currentTarget }: Event): void => {
      const signal = currentTarget as AbortSignal
      for (const { reject, context } of reads) if (context.signal === signal) reject(signal.reason)
      callers.delete(signal)
      if (callers.size === 0) unwanted.abort(signal.reason)
    }
    for (const signal of callers) {
      allowManyListeners(signal)
      signal.addEventListener('abort', leave, { once: true })
    }
    try {
      const keys = reads.map(({ key }) => key)
      const found = await readAll(keys, { ...context, signal: unwanted.signal })
      for (const [index, { resolve }] of reads.entries()) resolve(found[index] as Found)
    } catch (error) {
      for (const { reject } of reads) reject(error)
    } finally {
      for (const signal of callers) signal.removeEventListener('abort', leave)
    }
  }

  function flush(): void {
    const wanted: Read<Found>[] = []
    for (const read of gathered) {
      const { signal } = read.context
      if (signal.aborted) read.reject(signal.reason)
      else wanted.push(read)
    }
    gathered = []
    const [first] = wanted
    if (first !== undefined) void send(wanted, first.context)
  }

  return (key, context) =>
    new Promise((resolve, reject) => {
      gathered.push({ key, context, resolve, reject })
      if (gathered.length === 1) setImmediate(flush)
      if (gathered.length === largestBatch) flush()
    })
}
