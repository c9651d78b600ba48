/**
 * The comparison in compare-and-set.
 *
 * @module
 */
import { StoreError } from '../errors.js'
import type { PutOptions, Revision } from './cert-store.js'

/**
 * Throws unless `current` is what the caller expects. A store calls this where nobody else can write in between.
 *
 * @param current - revision of the stored value, `null` when there is none
 * @param expected - see {@link PutOptions.ifRevision}
 * @throws {@link StoreError} `ERR_STORE_CONFLICT`
 */
export function compareRevision(
  place: { readonly store: string; readonly key: string },
  current: Revision | null,
  expected: PutOptions['ifRevision'],
): void {
  if (expected === undefined || expected === current) return
  throw conflict(place, current === null ? 'deleted' : expected === null ? 'created' : 'changed')
}

/** What a writer is told who was not the first. */
export function conflict(place: { readonly store: string; readonly key: string }, what: string): StoreError {
  return new StoreError({
    code: 'ERR_STORE_CONFLICT',
    message: `${place.store}: ${place.key} was ${what} by someone else; read it again`,
    ...place,
  })
}
