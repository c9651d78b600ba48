/**
 * What one pass works with: the scheduler's options, resolved.
 *
 * @module
 */
import type { Clock } from '../core/clock.js'
import type { OperationContext } from '../core/context.js'
import { boundLogger, type LogFields, type Logger } from '../core/logger.js'
import type { Random } from '../core/random.js'
import type { CertStore } from '../stores/cert-store.js'
import type { RenewalEventMap } from './events.js'
import type { Handshake, ResolveHost } from './verify-endpoint.js'

/** Shared by all passes of one scheduler. */
export interface Environment {
  readonly store: CertStore
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Whose ledger entries are ours. */
  readonly node: string
  readonly renewAtRemainingRatio: number | undefined
  readonly issuanceTimeoutMs: number
  readonly deploymentTimeoutMs: number
  readonly lockTtlMs: number
  readonly resolve: ResolveHost
  readonly handshake: Handshake
  announce<Name extends keyof RenewalEventMap>(name: Name, event: RenewalEventMap[Name][0]): void
}

/** How long a plug-in that was stopped may still clean up before its lock is given to somebody else. */
export const cleanUpGraceMs = 45_000

/** A context whose logger knows what it is about. */
export function operationContext(environment: Environment, signal: AbortSignal, fields: LogFields): OperationContext {
  return { signal, clock: environment.clock, logger: boundLogger(environment.logger, fields) }
}
