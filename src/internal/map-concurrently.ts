/**
 * One task for many items, a few of them at once.
 *
 * @module
 */

/**
 * Results in the order of the items. The first failure is the outcome, and no further item is begun after it. The event
 * loop has its turn between items, also when tasks never wait.
 */
export async function mapConcurrently<Item, Result>(
  items: readonly Item[],
  limit: number,
  task: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results = new Array<Result>(items.length)
  const rest = items.entries()
  let failed = false
  async function takeUntilDone(): Promise<void> {
    // One iterator for all: each of them takes what comes next.
    for (const [index, item] of rest) {
      try {
        results[index] = await task(item)
        await new Promise((resolve) => setImmediate(resolve))
      } catch (error) {
        failed = true
        throw error
      }
      if (failed) return
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, takeUntilDone))
  return results
}
