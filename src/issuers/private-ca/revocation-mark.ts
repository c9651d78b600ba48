/**
 * The mark that something was revoked, apart from the record that says what: when that is lost, it is noticed.
 *
 * It lies with the issuance journal, so that whoever clears away what is damaged below `accounts/` leaves it.
 *
 * @module
 */
import { recordCodec, type RecordCodec } from '../../core/record.js'
import { storeKey, type StoreKey } from '../../stores/cert-store.js'
import { isConflict, writeRecord, type RecordContext } from '../stored-record.js'

const codec: RecordCodec<{ readonly since: number }> = recordCodec('private-ca-revocation-mark', (fields) => ({
  since: fields.number('since'),
}))

/** Where it is. Certificates of the journal have one component after the issuer, this has two. */
export function revocationMarkKey(issuerId: string): StoreKey {
  return storeKey('orders', issuerId, 'revocations', 'begun')
}

/** Whether something was ever revoked. A mark that is damaged is one. */
export async function hasRevoked(issuerId: string, context: RecordContext): Promise<boolean> {
  const key = revocationMarkKey(issuerId)
  for await (const found of context.store.list(key, context)) if (found === key) return true
  return false
}

/** Leaves the mark; one that is there stays as it is. */
export async function markRevoked(issuerId: string, context: RecordContext): Promise<void> {
  const key = revocationMarkKey(issuerId)
  try {
    await writeRecord(key, codec, { since: context.clock.now() }, null, context)
  } catch (error) {
    if (!isConflict(error)) throw error
  }
}
