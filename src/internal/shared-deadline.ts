/**
 * One deadline for many short operations: thousands of reads of a store would each pay more for a deadline of their own
 * than for the read.
 *
 * @module
 */
import type { Clock } from '../core/clock.js'
import { withDeadline } from './deadline.js'

/** Work that is waited for with others. */
interface Waiting {
  readonly onTimeout: () => Error
  readonly fail: (error: unknown) => void
}

/** What began in one turn of the event loop under one signal. */
interface Group {
  readonly waiting: Set<Waiting>
  /** Nothing is waited for any more. */
  onEmpty: () => void
}

/** Waits for `work` until the signal aborts or time runs out; `onTimeout` is called only then. */
export type WaitInTime = <Result>(work: Promise<Result>, signal: AbortSignal, onTimeout: () => Error) => Promise<Result>

/**
 * Waits for each operation `ms` milliseconds at most, as {@link withDeadline} does for one: what begins in the same turn of
 * the event loop shares one wait of the clock, and what ends in that turn costs none. A signal that aborts meanwhile is
 * noticed at the end of the turn.
 */
export function sharedDeadline({ clock, ms }: { readonly clock: Clock; readonly ms: number }): WaitInTime {
  /** Those of this turn. */
  const groups = new Map<AbortSignal, Group>()

  function begin(signal: AbortSignal): Group {
    const group: Group = { waiting: new Set(), onEmpty: () => undefined }
    groups.set(signal, group)
    setImmediate(() => {
      groups.delete(signal)
      if (group.waiting.size > 0) void watch(group, signal)
    })
    return group
  }

  async function watch(group: Group, signal: AbortSignal): Promise<void> {
    const timedOut = new Error('time has run out')
    const empty = new Promise<void>((resolve) => {
      group.onEmpty = resolve
    })
    try {
      await withDeadline({ clock, signal, ms, onTimeout: () => timedOut }, () => empty)
    } catch (error) {
      for (const { onTimeout, fail } of group.waiting) fail(error === timedOut ? onTimeout() : error)
    }
  }

  return (work, signal, onTimeout) =>
    new Promise((resolve, fail) => {
      const group = groups.get(signal) ?? begin(signal)
      const waiting: Waiting = { onTimeout, fail }
      group.waiting.add(waiting)
      const end = (): void => {
        group.waiting.delete(waiting)
        if (group.waiting.size === 0) group.onEmpty()
      }
      // A plug-in without types may return something that is no promise.
      Promise.resolve(work).then(
        (result) => {
          resolve(result)
          end()
        },
        (error: unknown) => {
          fail(error)
          end()
        },
      )
    })
}
