/**
 * Contexts for calling plug-ins by hand.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { silentLogger } from '../core/logger.js'
import { fakeClock } from './fake-clock.js'

/** An {@link OperationContext} for tests: fake clock, silent logger and a signal that never aborts, unless given. */
export function operationContext(parts: Partial<OperationContext> = {}): OperationContext {
  return {
    signal: parts.signal ?? new AbortController().signal,
    clock: parts.clock ?? fakeClock(),
    logger: parts.logger ?? silentLogger,
  }
}
