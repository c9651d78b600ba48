/**
 * Notices what other replicas store, where the store can tell.
 *
 * @module
 */
import { storeKey } from '../stores/cert-store.js'
import { operationContext, type Environment } from './environment.js'
import { scheduledWait } from './retry-schedule.js'

/** Waits after watches that failed. Without them changes are noticed at the next pass. */
const failedWatchSchedule: readonly number[] = [5_000, 15_000, 60_000, 300_000]

/** Calls back when the stored certificate of a name may have changed, until the signal aborts. Never rejects. */
export async function watchCertificates(
  environment: Environment,
  onChange: (certificate: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock, random, logger } = environment
  if (store.watch === undefined) return
  const prefix = storeKey('certificates', '')
  const context = operationContext(environment, signal, {})
  for (let attempt = 1; !signal.aborted; attempt += 1) {
    const startedAt = clock.now()
    try {
      await store.watch(
        prefix,
        (key) => {
          const name = decoded(key.slice(prefix.length))
          if (name !== undefined) onChange(name)
        },
        context,
      )
    } catch (error) {
      if (signal.aborted) return
      logger.warn('store cannot be watched', { store: store.name, attempt, error })
    }
    // One that worked for a while begins anew.
    if (clock.now() - startedAt > 300_000) attempt = 1
    const wait = scheduledWait(failedWatchSchedule, attempt) * (1 + random() * 0.1)
    await clock.sleep(wait, { signal, background: true }).catch(() => undefined)
  }
}

/** `undefined` for a key that is not of our making. */
function decoded(component: string): string | undefined {
  try {
    return decodeURIComponent(component)
  } catch {
    return undefined
  }
}
