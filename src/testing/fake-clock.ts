/**
 * A clock that moves when told to.
 *
 * @module
 */
import type { Clock, SleepOptions } from '../core/clock.js'

/** A {@link Clock} under the test's control. */
export interface FakeClock extends Clock {
  /** Moves time forward and wakes every sleeper that is due, in order, giving each a turn of the event loop. */
  advance(ms: number): Promise<void>
  /**
   * Moves time to an instant; backwards too, as a clock step does: then nobody wakes, and who sleeps has as
   * long to sleep as before.
   */
  setTime(instant: number | Date): Promise<void>
  /** How many sleepers there are, deadlines included. */
  readonly sleeping: number
}

/** Options of {@link fakeClock}. */
export interface FakeClockOptions {
  /** @defaultValue 2026-01-01T00:00:00Z */
  readonly now?: number | Date | undefined
  /**
   * Ordinary sleeps end by themselves in the next turn of the event loop, moving time forward as far as they asked;
   * deadlines and background waits only end by `advance`.
   *
   * @defaultValue false
   */
  readonly autoAdvance?: boolean | undefined
}

interface Sleeper {
  at: number
  /** Whether it ends by itself. */
  readonly automatic: boolean
  wake(): void
}

function earliest(sleepers: Iterable<Sleeper>): Sleeper | undefined {
  let first: Sleeper | undefined
  for (const sleeper of sleepers) if (first === undefined || sleeper.at < first.at) first = sleeper
  return first
}

/** Makes a {@link FakeClock}. */
export function fakeClock(options: FakeClockOptions = {}): FakeClock {
  let time = Number(options.now ?? Date.UTC(2026, 0, 1))
  const sleepers = new Set<Sleeper>()
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

  const runUntil = async (target: number): Promise<void> => {
    for (;;) {
      await turn()
      const next = earliest(sleepers)
      if (next === undefined || next.at > target) break
      time = Math.max(time, next.at)
      next.wake()
    }
    time = Math.max(time, target)
  }

  return {
    now: () => time,
    get sleeping() {
      return sleepers.size
    },
    sleep: (ms: number, { signal, background = false, deadline = false }: SleepOptions = {}) =>
      new Promise<void>((resolve, reject) => {
        if (signal?.aborted === true) {
          reject(signal.reason)
          return
        }
        if (Number.isNaN(ms)) {
          reject(new TypeError('"ms" of a sleep must be a number'))
          return
        }
        const onAbort = (): void => {
          sleepers.delete(sleeper)
          reject(signal?.reason)
        }
        const sleeper: Sleeper = {
          at: time + ms,
          automatic: options.autoAdvance === true && !background && !deadline,
          wake() {
            sleepers.delete(sleeper)
            signal?.removeEventListener('abort', onAbort)
            resolve()
          },
        }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', onAbort, { once: true })
        if (sleeper.automatic) {
          // One turn per sleeper, and the earliest goes first: two that run side by side end in the right order.
          setImmediate(() => {
            const next = earliest([...sleepers].filter(({ automatic }) => automatic))
            if (next === undefined) return
            time = Math.max(time, next.at)
            next.wake()
          })
        }
      }),
    async advance(ms) {
      await runUntil(time + ms)
    },
    async setTime(instant) {
      const target = Number(instant)
      if (target < time) {
        for (const sleeper of sleepers) sleeper.at -= time - target
        time = target
      } else await runUntil(target)
    },
  }
}
