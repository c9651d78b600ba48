/**
 * Reads that are asked for in the same turn of the event loop, sent to the server as one: thousands of certificates are
 * looked at in a fraction of the round trips.
 *
 * @module
 */

/** Keys per request: enough to be fast, few enough that neither side holds much at once. */
const largestBatch = 64

interface Read<Found> {
  readonly key: string
  /** Aborts when the answer is not waited for any more. */
  readonly signal: AbortSignal
  readonly resolve: (found: Found) => void
  readonly reject: (error: unknown) => void
}

/**
 * Reads one key by `readAll`, which answers in the order of the keys. What fails, fails for all that were read together. The
 * signal of a request aborts once nobody waits for it any more.
 */
export function readTogether<Found>(
  readAll: (keys: readonly string[], signal: AbortSignal) => Promise<readonly Found[]>,
): (key: string, signal: AbortSignal) => Promise<Found> {
  let gathered: Read<Found>[] = []

  async function send(reads: readonly Read<Found>[]): Promise<void> {
    const unwanted = new AbortController()
    let waiting = reads.length
    for (const { signal } of reads) {
      signal.addEventListener('abort', () => {
        waiting -= 1
        if (waiting === 0) unwanted.abort(signal.reason)
      })
    }
    try {
      const found = await readAll(
        reads.map(({ key }) => key),
        unwanted.signal,
      )
      for (const [index, { resolve }] of reads.entries()) resolve(found[index] as Found)
    } catch (error) {
      for (const { reject } of reads) reject(error)
    }
  }

  function flush(): void {
    const reads = gathered.filter(({ signal }) => !signal.aborted)
    gathered = []
    if (reads.length > 0) void send(reads)
  }

  return (key, signal) =>
    new Promise((resolve, reject) => {
      gathered.push({ key, signal, resolve, reject })
      if (gathered.length === 1) setImmediate(flush)
      if (gathered.length === largestBatch) flush()
    })
}
