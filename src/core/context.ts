/**
 * What every plug-in operation receives after its data.
 *
 * @module
 */
import type { Clock } from './clock.js'
import type { Logger } from './logger.js'

/** Passed to every plug-in operation. */
export interface OperationContext {
  /**
   * Aborts when the caller stops, a deadline passes, or a lock is lost. Rethrow `signal.reason` as it is. Ask it directly
   * before anything that others can see: it looks at the clock, also when the process was stopped and no timer had its turn.
   */
  readonly signal: AbortSignal
  readonly clock: Clock
  /** Already bound to the certificate and the plug-in's name. */
  readonly logger: Logger
}
