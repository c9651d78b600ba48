/**
 * When a lock that another process holds is tried again.
 *
 * @module
 */

/**
 * A holder that died is to be replaced within the life of its lease and 15 seconds. Part of these is what it may have
 * renewed just after a look; the rest is for what a successor waits for besides, and for slow servers.
 */
const longestPauseMs = 10_000

/** A waiter looks three times in the life of a lease at least: no step of its clock counts for more than a third of it. */
const fewestLooks = 3

/** The life of a lease ends at a look, and not in between. */
export function lookAgainMs(lockTtlMs: number): number {
  return Math.ceil(lockTtlMs / Math.max(fewestLooks, Math.ceil(lockTtlMs / longestPauseMs)))
}

/** How long a process that works once, and then ends, waits for others: in that time a dead one can be replaced. */
export function patienceMs(lockTtlMs: number): number {
  return lockTtlMs + 15_000
}
