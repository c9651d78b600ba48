/**
 * Records in the store: read, changed by compare-and-set, and set aside when they cannot be read.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import type { RecordCodec } from '../core/record.js'
import { CertError } from '../errors.js'
import { storeKey, type Revision, type StoreKey, type StoredValue } from '../stores/cert-store.js'
import type { Environment } from './environment.js'

/** A record and the revision it was read at. */
export interface Loaded<Value> {
  readonly value: Value
  readonly revision: Revision
}

/** How often a change is tried again when somebody else was faster. */
const maxConflicts = 8

/** How a record is read. */
export type ReadRecord = <Value>(
  codec: RecordCodec<Value>,
  key: StoreKey,
  certificate: string,
  environment: Environment,
  context: OperationContext,
) => Promise<Loaded<Value> | 'corrupt' | undefined>

/** Reads a record; one that cannot be read is set aside, announced, and `'corrupt'`. */
export const loadRecord: ReadRecord = async (codec, key, certificate, environment, context) => {
  const { record, stored, error } = await read(codec, key, environment, context)
  if (record !== 'corrupt') return record
  // What cannot be copied is not deleted: somebody may still be able to read it.
  if (stored === undefined) throw error
  await setAside(key, stored, error, certificate, environment, context)
  return 'corrupt'
}

/** Copies a value to `quarantine/` and deletes it, unless somebody has replaced it meanwhile. */
export async function setAside(
  key: StoreKey,
  stored: StoredValue,
  error: unknown,
  certificate: string,
  environment: Environment,
  context: OperationContext,
): Promise<void> {
  const { store, clock } = environment
  const copiedTo = storeKey('quarantine', key, String(clock.now()))
  await store.put(copiedTo, stored.value, context)
  await store.delete(key, context, { ifRevision: stored.revision })
  context.logger.error('record set aside', { key, copiedTo, error })
  environment.announce('record-quarantined', { certificate, key, copiedTo, error })
}

/** Reads a record and changes nothing, whatever is found. */
export const peekRecord: ReadRecord = async (codec, key, _certificate, environment, context) =>
  (await read(codec, key, environment, context)).record

async function read<Value>(
  codec: RecordCodec<Value>,
  key: StoreKey,
  { store }: Environment,
  context: OperationContext,
): Promise<{
  readonly record: Loaded<Value> | 'corrupt' | undefined
  readonly stored: StoredValue | undefined
  readonly error?: unknown
}> {
  let stored: StoredValue | undefined
  try {
    stored = await store.get(key, context)
    if (stored === undefined) return { record: undefined, stored }
    const value = codec.decode(stored.value, { store: store.name, key })
    return { record: { value, revision: stored.revision }, stored }
  } catch (error) {
    if (!CertError.isInstance(error) || error.code !== 'ERR_STORE_CORRUPT') throw error
    const { damaged } = error
    return {
      record: 'corrupt',
      stored: stored ?? (damaged && { value: damaged.value, revision: damaged.revision as Revision }),
      error,
    }
  }
}

/** Changes a record: reads, applies `change`, writes if nobody else wrote meanwhile, else starts over. */
export async function updateRecord<Value>(
  record: { readonly codec: RecordCodec<Value>; readonly key: StoreKey; readonly empty: Value },
  certificate: string,
  environment: Environment,
  context: OperationContext,
  change: (current: Value) => Value | Promise<Value>,
): Promise<Value> {
  const { codec, key, empty } = record
  for (let conflicts = 0; ; conflicts += 1) {
    const loaded = await loadRecord(codec, key, certificate, environment, context)
    const current = loaded === undefined || loaded === 'corrupt' ? undefined : loaded
    const before = current?.value ?? empty
    const next = await change(before)
    if (next === before) return next
    try {
      await environment.store.put(key, codec.encode(next), context, { ifRevision: current?.revision ?? null })
      return next
    } catch (error) {
      const conflict = CertError.isInstance(error) && error.code === 'ERR_STORE_CONFLICT'
      if (!conflict || conflicts === maxConflicts) throw error
    }
  }
}
