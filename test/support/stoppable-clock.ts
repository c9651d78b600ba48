/** A fake clock of a process that can be stopped: time goes on, and no timer has its turn. */
import { fakeClock, type FakeClock } from '../../src/testing/fake-clock.js'

export interface StoppableClock extends FakeClock {
  /** The process stood still for so long, and goes on where it was. */
  stop(ms: number): void
}

export function stoppableClock(): StoppableClock {
  const clock = fakeClock()
  let stoppedMs = 0
  const stoppable: Pick<StoppableClock, 'now' | 'stop'> = {
    now: () => clock.now() + stoppedMs,
    stop(ms) {
      stoppedMs += ms
    },
  }
  return Object.assign(Object.create(clock) as FakeClock, stoppable)
}
