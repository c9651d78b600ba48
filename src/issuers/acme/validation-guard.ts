/**
 * Stops before the CA has to: at most four failed validations an hour for each identifier. Let's Encrypt allows five, and
 * then refuses orders for the name.
 *
 * @module
 */
import { identifierKey, type Identifier } from '../../core/identifier.js'
import { recordCodec, type RecordCodec } from '../../core/record.js'
import { RateLimitedError } from '../../errors.js'
import { storeKey, type StoreKey } from '../../stores/cert-store.js'
import type { IssuerContext } from '../issuer.js'
import { changeRecord, readSound } from '../stored-record.js'

/** Remembers failed validations of one issuer, in the store. */
export interface ValidationGuard {
  /** @throws {@link RateLimitedError} when one of the identifiers has failed too often; `retryAt` says when it may go on */
  check(identifiers: readonly Identifier[], context: IssuerContext): Promise<void>
  recordFailures(identifiers: readonly Identifier[], context: IssuerContext): Promise<void>
}

interface FailureRecord {
  readonly entries: readonly FailureEntry[]
}

interface FailureEntry {
  readonly identifier: string
  /** Epoch milliseconds, oldest first. */
  readonly at: readonly number[]
}

const codec: RecordCodec<FailureRecord> = recordCodec('acme-failed-validations', (fields) => ({
  entries: fields.objects('entries', (entry) => ({
    identifier: entry.text('identifier'),
    at: entry.list('at', Number),
  })),
}))

const maxFailures = 4
const windowMs = 3_600_000

/** Makes a {@link ValidationGuard}. */
export function validationGuard(issuerId: string): ValidationGuard {
  const key: StoreKey = storeKey('challenges', issuerId, 'failed-validations')
  return {
    async check(identifiers, context) {
      const { value: record } = await readSound(key, codec, context)
      if (record === undefined) return
      const now = context.clock.now()
      const blocked = identifiers.flatMap((identifier) => {
        const recent = recentFailures(record, identifierKey(identifier), now)
        const oldest = recent.at(-maxFailures)
        return oldest === undefined ? [] : [{ identifier, until: oldest + windowMs }]
      })
      if (blocked.length === 0) return
      const names = blocked.slice(0, 10).map(({ identifier }) => identifier.value)
      throw new RateLimitedError({
        message:
          `validation of ${names.join(', ')} has failed ${String(maxFailures)} times within an hour; ` +
          'the CA is not asked again before it would refuse. Find out why with the last error, then wait',
        retryAt: new Date(Math.max(...blocked.map(({ until }) => until))),
      })
    },
    async recordFailures(identifiers, context) {
      const stored = await readSound(key, codec, context)
      const now = context.clock.now()
      const failed = new Set(identifiers.map(identifierKey))
      const change = (record: FailureRecord | undefined): FailureRecord => {
        const others = (record?.entries ?? []).filter(({ identifier }) => !failed.has(identifier))
        const kept = others.filter(({ identifier }) => recentFailures(record, identifier, now).length > 0)
        const added = [...failed].map((identifier) => ({
          identifier,
          at: [...recentFailures(record, identifier, now), now].slice(-maxFailures),
        }))
        return { entries: [...kept, ...added] }
      }
      await changeRecord(key, codec, change, context, stored)
    },
  }
}

/** Within the last hour. What lies in the future comes from a clock that has been put right since. */
function recentFailures(record: FailureRecord | undefined, name: string, now: number): readonly number[] {
  const entry = record?.entries.find(({ identifier }) => identifier === name)
  return (entry?.at ?? []).filter((at) => at > now - windowMs && at <= now)
}
