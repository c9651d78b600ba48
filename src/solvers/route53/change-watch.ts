/**
 * Waits until a change is on all name servers of Route 53.
 *
 * @see {@link https://docs.aws.amazon.com/Route53/latest/APIReference/API_GetChange.html | GetChange}
 *
 * @module
 */
import type { OperationContext } from '../../core/context.js'
import type { Receipt } from './change-queue.js'
import type { Route53Calls } from './route53-calls.js'
import { Route53Failure } from './route53-failure.js'

const firstPollMs = 1_000
const longestPollMs = 10_000

/**
 * One wait for everybody who is in the change.
 *
 * @returns Whether it is in sync; `false` when the time was not enough.
 */
export function untilInSync(
  { changeId, untilInSync: shared }: Receipt,
  calls: Route53Calls,
  timeoutMs: number,
  context: OperationContext,
): Promise<boolean> {
  const { clock } = context
  return shared(context.signal, async (signal) => {
    const until = clock.now() + timeoutMs
    for (let waitMs = firstPollMs; ; waitMs = Math.min(waitMs * 1.5, longestPollMs)) {
      if (await isInSync(changeId, { ...context, signal })) return true
      if (clock.now() + waitMs > until) return false
      await clock.sleep(waitMs, { signal })
    }
  })

  async function isInSync(id: string, polling: OperationContext): Promise<boolean> {
    try {
      return await calls.isInSync(id, polling)
    } catch (error) {
      // Changes are forgotten after a while, when they have long been in sync.
      if (error instanceof Route53Failure && error.kind === 'no-change') return true
      throw error
    }
  }
}
