/**
 * One record of an issuer in the store, changed by compare-and-set.
 *
 * @module
 */
import type { RecordCodec } from '../core/record.js'
import { CertError, StoreError } from '../errors.js'
import { storeKey, type Revision, type StoreKey } from '../stores/cert-store.js'
import type { IssuerContext } from './issuer.js'

/** What reading and writing a record takes. */
export type RecordContext = Omit<IssuerContext, 'random'>

/** A record as it was read. */
export interface Stored<Value> {
  /** `undefined`: there is none. */
  readonly value: Value | undefined
  /** To be given to the next write; `null` when there is nothing to replace. */
  readonly revision: Revision | null
}

const maxConflicts = 20

/** Reads a record. @throws {@link StoreError} */
export async function readRecord<Value>(
  key: StoreKey,
  codec: RecordCodec<Value>,
  context: RecordContext,
): Promise<Stored<Value>> {
  const stored = await context.store.get(key, context)
  if (stored === undefined) return { value: undefined, revision: null }
  try {
    return { value: codec.decode(stored.value, { store: context.store.name, key }), revision: stored.revision }
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'ERR_STORE_CORRUPT') throw error
    const { code, message, store } = error
    throw new StoreError({ code, message, store, key, damaged: stored, cause: error.cause })
  }
}

/** Writes a record over the one that was read. @throws {@link StoreError} `ERR_STORE_CONFLICT` when there is another by now */
export async function writeRecord<Value>(
  key: StoreKey,
  codec: RecordCodec<Value>,
  value: Value,
  revision: Revision | null,
  context: RecordContext,
): Promise<Stored<Value>> {
  return { value, revision: await context.store.put(key, codec.encode(value), context, { ifRevision: revision }) }
}

/**
 * Changes a record; after a conflict, what is there by then. `change` returns its argument, or `undefined`, to leave
 * everything as it is.
 */
export async function changeRecord<Value>(
  key: StoreKey,
  codec: RecordCodec<Value>,
  change: (value: Value | undefined) => Value | undefined,
  context: RecordContext,
  known?: Stored<Value>,
): Promise<Stored<Value>> {
  let stored = known ?? (await readRecord(key, codec, context))
  for (let conflicts = 0; ; conflicts += 1) {
    const changed = change(stored.value)
    if (changed === undefined || changed === stored.value) return stored
    try {
      return await writeRecord(key, codec, changed, stored.revision, context)
    } catch (error) {
      if (!isConflict(error) || conflicts === maxConflicts) throw error
      stored = await readRecord(key, codec, context)
    }
  }
}

/** Whether somebody else has written in between. */
export function isConflict(error: unknown): boolean {
  return CertError.isInstance(error) && error.code === 'ERR_STORE_CONFLICT'
}

/**
 * Reads a record. A damaged one is put aside, for a person to look at, and there is none then; one that cannot be kept
 * is left where it is. One written by a newer evercert is not damaged.
 *
 * @throws {@link StoreError}
 */
export async function readSound<Value>(
  key: StoreKey,
  codec: RecordCodec<Value>,
  context: RecordContext,
): Promise<Stored<Value>> {
  try {
    return await readRecord(key, codec, context)
  } catch (error) {
    if (!CertError.isInstance(error) || error.code !== 'ERR_STORE_CORRUPT' || error.damaged === undefined) throw error
    await quarantine(key, error.damaged, context)
    return { value: undefined, revision: null }
  }
}

async function quarantine(
  key: StoreKey,
  damaged: NonNullable<StoreError['damaged']>,
  context: RecordContext,
): Promise<void> {
  const copy = storeKey('quarantine', key, String(context.clock.now()))
  await context.store.put(copy, damaged.value, context)
  try {
    await context.store.delete(key, context, { ifRevision: damaged.revision as Revision })
  } catch (error) {
    // Somebody else has replaced it: the next write, which only creates, will find out.
    if (!isConflict(error)) throw error
  }
  context.logger.error('damaged record was put aside', { key, quarantine: copy })
}
