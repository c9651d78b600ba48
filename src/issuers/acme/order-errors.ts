/**
 * What a failure means for the order it happened to. Pure.
 *
 * @module
 */
import { AcmeError, CertError } from '../../errors.js'
import { isProblem, problemError, protocolError } from './problem.js'
import type { AcmeOrder } from './resources.js'

/** The order is of no use any more: the next attempt has to begin with a new one. Never leaves the order flow. */
export class DeadEnd extends Error {
  override readonly name = 'DeadEnd'
  /** What the caller gets. */
  readonly error: CertError

  constructor(error: CertError) {
    super(error.message)
    this.error = error
  }
}

/** The order does not fit the names asked for. */
export function foreignNames(what: string, found: string): DeadEnd {
  return new DeadEnd(protocolError(what, `the order does not fit the names asked for: ${found}`))
}

/** The CA has made the order invalid. */
export function invalidOrder(what: string, orderUrl: string, { error: problem }: AcmeOrder, now: number): DeadEnd {
  if (problem !== undefined) {
    const status = problem.status ?? 403
    return new DeadEnd(problemError({ what, status, problem, retryAt: undefined, now, orderUrl }))
  }
  return new DeadEnd(
    new AcmeError({
      code: 'ERR_ACME_PROBLEM',
      message: `${what}: the CA has made the order invalid without saying why`,
      retryable: true,
      orderUrl,
    }),
  )
}

/** The time for one attempt is over; the order is not. */
export function orderTimeout(what: string, limitMs: number, orderUrl: string | undefined, retryAt: Date): AcmeError {
  return new AcmeError({
    code: 'ERR_ACME_ORDER_TIMEOUT',
    message: `${what} was not finished within ${String(Math.round(limitMs / 1000))} s; it will be resumed`,
    retryable: true,
    retryAt,
    orderUrl,
  })
}

/** No reply, or one that does not say whether the request was carried out. */
export function isLost(error: unknown): boolean {
  if (!CertError.isInstance(error) || error.retryAt !== undefined || !error.retryable) return false
  return error.code === 'ERR_HTTP_NETWORK' || (error.code === 'ERR_ACME_PROBLEM' && statusOf(error) >= 500)
}

/** No reply in time: as lost, but there is no time for another try. */
export function isTimeout(error: unknown): boolean {
  return CertError.isInstance(error) && error.code === 'ERR_HTTP_TIMEOUT'
}

/** The CA has no such order: it has expired, or the CA has lost its memory. */
export function isGone(error: unknown): boolean {
  return isProblem(error, 'malformed', 'unauthorized') || [404, 410].includes(statusOf(error))
}

/**
 * Any failed check of the predecessor makes a CA refuse the whole order; Pebble does not find one serial in 256, and calls that
 * an internal error, every time.
 */
export function refusesReplaces(error: unknown): boolean {
  return (
    isProblem(error, 'alreadyReplaced', 'malformed', 'unauthorized', 'conflict', 'serverInternal') ||
    [404, 409].includes(statusOf(error))
  )
}

function statusOf(error: unknown): number {
  return CertError.isInstance(error) && 'problem' in error ? (error.problem?.status ?? 0) : 0
}
