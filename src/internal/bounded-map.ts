/**
 * Parallel work with a limit.
 *
 * @module
 */

/**
 * Runs `run` for every item, `limit` at a time, results in the order of the items. After a failure or an abort nothing
 * new is started; what runs is waited for, then the first failure is thrown.
 */
export async function boundedMap<Item, Result>(
  items: readonly Item[],
  limit: number,
  signal: AbortSignal,
  run: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = []
  const failures: { readonly error: unknown }[] = []
  const queue = items.entries()
  const work = async (): Promise<void> => {
    for (const [index, item] of queue) {
      if (signal.aborted || failures.length > 0) return
      try {
        results[index] = await run(item)
      } catch (error) {
        failures.push({ error })
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, work))
  const [failure] = failures
  signal.throwIfAborted()
  if (failure !== undefined) throw failure.error
  return results
}
