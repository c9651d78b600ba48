/**
 * "Something has changed, look again."
 */

export interface ChangeSignal {
  /** How many changes there have been. */
  readonly count: number
  /** Resolves when there have been more than so many. */
  after(count: number): Promise<void>
  notify(): void
}

export function changeSignal(): ChangeSignal {
  let count = 0
  let waiting: (() => void)[] = []
  return {
    get count() {
      return count
    },
    async after(seen) {
      while (count <= seen) await new Promise<void>((resolve) => void waiting.push(resolve))
    },
    notify() {
      count += 1
      const woken = waiting
      waiting = []
      for (const wake of woken) wake()
    },
  }
}
