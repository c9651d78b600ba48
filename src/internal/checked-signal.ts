/**
 * Abort signals that look at the clock when they are asked.
 *
 * A process that was stopped goes on exactly where it was, before any timer has its turn. Whoever asks its signal before it
 * acts must get to know then that a lease is over, and not a turn of the event loop later.
 *
 * @module
 */

/**
 * Makes a signal call `check` whenever it is asked whether, or why, it is aborted. `check` aborts the signal's controller when
 * it is time to, and what it returns does not matter; who listens for the abort hears of it then as of any other.
 *
 * @param signal - of a controller of the caller's own, and not made checked before
 */
export function checkedSignal(signal: AbortSignal, check: () => unknown): AbortSignal {
  const ask = (member: 'aborted' | 'reason'): unknown => {
    check()
    return Reflect.get(Object.getPrototypeOf(signal) as object, member, signal)
  }
  return Object.defineProperties(signal, {
    aborted: { get: () => ask('aborted') },
    reason: { get: () => ask('reason') },
    throwIfAborted: {
      value: () => {
        if (signal.aborted) throw signal.reason
      },
    },
  })
}

/** Makes a signal that follows another one by listening to it ask that one, too. */
export function followedSignal(signal: AbortSignal, followed: AbortSignal): AbortSignal {
  return checkedSignal(signal, () => followed.aborted)
}
