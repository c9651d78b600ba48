/**
 * Work that rests on what was read a moment ago, in a process that can be stopped at any point (SIGSTOP, a suspended machine,
 * an event loop that somebody blocks) and then goes on as if nothing had been.
 *
 * @module
 */
import type { Clock } from '../core/clock.js'
import { anySignal } from '../internal/any-signal.js'
import { checkedSignal } from '../internal/checked-signal.js'

/** Parts of {@link whileAwake}. */
export interface Wakefulness {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** How long the process may stand still, milliseconds. */
  readonly limitMs: number
}

/** Why nobody waits for the next look any more. */
const over = 'over'

/** Runs something with a signal that aborts once the process has stood still for too long. Resolves `undefined` then. */
export async function whileAwake<Result>(
  { clock, signal, limitMs }: Wakefulness,
  run: (signal: AbortSignal) => Promise<Result>,
): Promise<Result | undefined> {
  const overslept = new AbortController()
  const ended = new AbortController()
  let awakeAt = clock.now()
  const look = (): void => {
    const now = clock.now()
    const stillMs = now - awakeAt
    if (stillMs < limitMs) return
    overslept.abort(new DOMException(`the process stood still for ${String(stillMs)} ms`, 'AbortError'))
  }
  const lookUntilEnded = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(limitMs / 3, { signal: ended.signal, background: true })
      look()
      awakeAt = clock.now()
    }
  }
  lookUntilEnded().catch(() => undefined)
  const awake = anySignal(signal, checkedSignal(overslept.signal, look))
  try {
    return await run(awake.signal)
  } catch (error) {
    if (signal.aborted || !overslept.signal.aborted) throw error
    return undefined
  } finally {
    awake.end()
    ended.abort(over)
  }
}
