/**
 * Calls of Route 53 within its rate limits, repeated where that helps, each of them bounded.
 *
 * @module
 */
import type { OperationContext } from '../../core/context.js'
import type { Random } from '../../core/random.js'
import { withDeadline } from '../../internal/deadline.js'
import type { RecordChange } from './plan-change.js'
import { readRecordSets } from './read-record-sets.js'
import { Route53Failure } from './route53-failure.js'
import type { HostedZone, RecordSet, Route53Api } from './route53-client.js'
import { tokenBucket } from './token-bucket.js'

/** What {@link route53Calls} works with. */
export interface Route53CallsParts {
  readonly api: Route53Api
  readonly requestsPerSecond: number
  readonly changesPerSecond: number
  /** For one request. */
  readonly requestTimeoutMs: number
  /** For one call with all its repetitions. */
  readonly timeoutMs: number
  readonly random: Random
}

/** What the solver asks of Route 53. Each of them rejects with `Route53Failure`, or the reason of the signal. */
export interface Route53Calls {
  /** All of them, over all pages. */
  listHostedZones(context: OperationContext): Promise<readonly HostedZone[]>
  /** Every record set of each name, by name. */
  readRecordSets(
    zoneId: string,
    names: readonly string[],
    context: OperationContext,
  ): Promise<ReadonlyMap<string, readonly RecordSet[]>>
  /**
   * Resolves with the id of the change. A request that is under way is waited for whatever the signal says: cut off, nobody
   * would know whether it was made.
   */
  change(zoneId: string, changes: readonly RecordChange[], context: OperationContext): Promise<string>
  isInSync(changeId: string, context: OperationContext): Promise<boolean>
}

/** More hosted zones than any account has; a server that pages for ever must not keep us. */
const mostPages = 1000
const longestWaitMs = 10_000
/** Whoever renews credentials does it at once, or not soon. */
const attemptsWithExpired = 3

/** Makes {@link Route53Calls}. */
export function route53Calls(parts: Route53CallsParts): Route53Calls {
  const { api, requestTimeoutMs, timeoutMs, random } = parts
  const requests = tokenBucket({ capacity: parts.requestsPerSecond, perSecond: parts.requestsPerSecond })
  const changed = tokenBucket({ capacity: parts.changesPerSecond, perSecond: parts.changesPerSecond })

  async function call<T>(
    action: string,
    context: OperationContext,
    run: (signal: AbortSignal) => Promise<T>,
    changes?: number,
  ): Promise<T> {
    const { clock, signal, logger } = context
    const until = clock.now() + timeoutMs
    for (let attempt = 1; ; attempt += 1) {
      await requests.take(1, context)
      if (changes !== undefined) await changed.take(changes, context)
      try {
        const request = changes === undefined ? signal : new AbortController().signal
        const onTimeout = (): Error => timedOut(action, requestTimeoutMs)
        return await withDeadline({ clock, signal: request, ms: requestTimeoutMs, onTimeout }, run)
      } catch (error) {
        signal.throwIfAborted()
        if (!(error instanceof Route53Failure)) throw error
        if (error.kind === 'throttled') for (const bucket of [requests, changed]) bucket.drain(clock)
        if (error.kind === 'expired' || error.kind === 'credentials') api.renewCredentials()
        const waitMs = waitBefore(error, attempt)
        if (waitMs === undefined || clock.now() + waitMs > until) throw error
        logger.debug('request to route 53 is repeated', { action, awsCode: error.awsCode, attempt, waitMs })
        await clock.sleep(waitMs, { signal })
      }
    }
  }

  /** `undefined`: no further attempt. */
  function waitBefore({ kind }: Route53Failure, attempt: number): number | undefined {
    const patient = kind === 'throttled' || kind === 'busy' || kind === 'unavailable'
    if (!patient && !(kind === 'expired' && attempt < attemptsWithExpired)) return undefined
    return Math.min(250 * 2 ** attempt, longestWaitMs) * (1 + random())
  }

  return {
    async listHostedZones(context) {
      const zones: HostedZone[] = []
      let start: string | undefined
      for (let page = 0; page < mostPages; page += 1) {
        const from = start
        const { items, next } = await call('ListHostedZones', context, (signal) => api.listHostedZones(from, signal))
        zones.push(...items)
        if (next === undefined) break
        start = next
      }
      return zones
    },
    readRecordSets: (zoneId, names, context) =>
      readRecordSets(names, (start) =>
        call('ListResourceRecordSets', context, (signal) => api.listRecordSets(zoneId, start, signal)),
      ),
    change: (zoneId, changes, context) =>
      call(
        'ChangeResourceRecordSets',
        context,
        (signal) => api.changeRecordSets(zoneId, changes, signal),
        changes.length,
      ),
    isInSync: (changeId, context) => call('GetChange', context, (signal) => api.isInSync(changeId, signal)),
  }
}

function timedOut(action: string, ms: number): Route53Failure {
  const text = `no answer within ${String(ms)} ms`
  return new Route53Failure({ kind: 'unavailable', action, awsCode: 'Timeout', text })
}
