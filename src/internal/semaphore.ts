/**
 * Bounded concurrency.
 *
 * @module
 */
import { allowManyListeners } from './deadline.js'

/** Lets `limit` tasks run at once; the others wait in order. */
export class Semaphore {
  #free: number
  readonly #waiting = new Set<() => void>()

  constructor(limit: number) {
    this.#free = limit
  }

  /** Runs a task when there is room. A task whose signal aborts before its turn is not run, and stops waiting at once. */
  async run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted()
    if (this.#free > 0) this.#free -= 1
    else await this.#turn(signal)
    try {
      signal?.throwIfAborted()
      return await task()
    } finally {
      this.#release()
    }
  }

  /** Resolves when a task that ended hands its place over. */
  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting.delete(take)
        reject(signal?.reason)
      }
      const take = (): void => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      }
      this.#waiting.add(take)
      if (signal !== undefined) allowManyListeners(signal)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  #release(): void {
    const [next] = this.#waiting
    if (next === undefined) {
      this.#free += 1
      return
    }
    this.#waiting.delete(next)
    next()
  }
}
