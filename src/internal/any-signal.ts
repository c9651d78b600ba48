/**
 * One signal for several, of our own make.
 *
 * `AbortSignal.any` leaves something behind on each of its sources for as long as that lives, and the signal of a scheduler
 * lives for years. Before Node 24 it also fails an assertion of its own when a checked signal aborts between two of its
 * questions, and its composites warn of a leak from the eleventh listener on.
 *
 * @module
 */
import { checkedSignal } from './checked-signal.js'
import { allowManyListeners } from './deadline.js'

/** A signal that follows others. */
export interface AnySignal {
  readonly signal: AbortSignal
  /** Stops listening to them. Whoever asks the signal still gets a true answer. */
  readonly end: () => void
}

/**
 * Makes a signal that aborts as soon as one of these does, and asks each of them when it is asked. Its reason is that of the
 * first in order that is aborted then, untouched.
 *
 * It is heard of by listeners, which stay on the others until it is aborted or `end` is called: one of the two must happen.
 */
export function anySignal(...followed: readonly AbortSignal[]): AnySignal {
  const own = new AbortController()
  const end = (): void => {
    for (const signal of followed) signal.removeEventListener('abort', look)
  }
  let isOver = false
  const look = (): void => {
    // Asked once more, a composite of composites would ask each of them twice.
    if (isOver) return
    const aborted = followed.find((signal) => signal.aborted)
    if (aborted === undefined) return
    isOver = true
    end()
    own.abort(aborted.reason)
  }
  allowManyListeners(own.signal)
  for (const signal of followed) {
    allowManyListeners(signal)
    signal.addEventListener('abort', look)
  }
  // Not before it listens: asking one may abort another.
  look()
  return { signal: checkedSignal(own.signal, look), end }
}
