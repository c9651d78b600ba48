/**
 * The contract of certificate stores: bytes with revisions.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'

/** First part of every key; the rest is chosen by evercert. */
export type StoreKeySpace =
  'certificates' | 'renewals' | 'accounts' | 'orders' | 'challenges' | 'deployments' | 'placeholders' | 'quarantine'

/**
 * A key: slash-separated components, each percent-encoded by evercert, so that a key is always printable ASCII. Stores
 * MUST treat it as an opaque string and MUST NOT let it become a path.
 */
export type StoreKey = `${StoreKeySpace}/${string}`

/** Identifies one version of one value. Opaque; a value written twice has two revisions. */
export type Revision = string & { readonly __brand: 'Revision' }

/** A value and the revision it was read at. */
export interface StoredValue {
  readonly value: Uint8Array
  readonly revision: Revision
}

/** What {@link CertStore.getMany} found under one key: what `get` resolves, or what it rejects with because of this one value. */
export type FoundValue =
  | { readonly key: StoreKey; readonly stored: StoredValue | undefined; readonly error?: undefined }
  | { readonly key: StoreKey; readonly stored?: undefined; readonly error: Error }

/** Options of {@link CertStore.put}. */
export interface PutOptions {
  /** `null`: only create; a revision: only replace that one; omitted: overwrite. */
  readonly ifRevision?: Revision | null | undefined
}

/** Options of {@link CertStore.delete}. */
export interface DeleteOptions {
  /** Only delete this revision. @defaultValue any */
  readonly ifRevision?: Revision | undefined
}

/** Options of {@link CertStore.lock}. */
export interface LockOptions {
  /** Life of the lease, milliseconds. The store renews it well before it ends. */
  readonly ttlMs: number
}

/**
 * Holds what must survive a restart. Bytes in, bytes out: the record format, the key names and encryption belong to
 * evercert, so that a new back end is about 60 lines.
 *
 * - `put` MUST be atomic and durable once it resolves: a reader sees the old value or the new one, never a mixture, and a
 *   crash afterwards does not lose it. A revision that does not match rejects with {@link StoreError}
 *   `ERR_STORE_CONFLICT` and changes nothing.
 * - `get` of an absent key resolves `undefined`; `delete` of an absent key resolves.
 * - `list` yields every key that starts with the prefix, in any order.
 * - A back end that cannot be reached rejects with `ERR_STORE_UNAVAILABLE`.
 * - A value that is damaged rejects `get` with `ERR_STORE_CORRUPT`, and SHOULD come with {@link StoreError.damaged}: the
 *   bytes as found, and a revision by which they can be replaced.
 * - An aborted signal rejects with its reason; a write that was aborted before it began changes nothing.
 *
 * Correctness never rests on the lock alone: evercert writes every record with `ifRevision`.
 *
 * Test yours with `certStoreContract` from `evercert/testing`.
 */
export interface CertStore {
  /** Appears in logs and errors: `file`. */
  readonly name: string
  get(key: StoreKey, context: OperationContext): Promise<StoredValue | undefined>
  /**
   * Reads many values as `get` does each, in parts as they come: every key once, in any order. `keys` are distinct, tens of
   * thousands of them. Offered by stores that have something better than a request for each. A damaged value is told of as its
   * own {@link FoundValue}, and the others go on; what concerns all of them, such as a server that is away, rejects. A part
   * comes within 60 seconds, if need be an empty one.
   *
   * @defaultValue evercert calls `get`, 64 at once
   */
  getMany?(keys: readonly StoreKey[], context: OperationContext): AsyncIterable<readonly FoundValue[]>
  put(key: StoreKey, value: Uint8Array, context: OperationContext, options?: PutOptions): Promise<Revision>
  delete(key: StoreKey, context: OperationContext, options?: DeleteOptions): Promise<void>
  list(prefix: string, context: OperationContext): AsyncIterable<StoreKey>
  /**
   * Takes a named lease, or resolves `undefined` at once when another holder has it. Offered by stores that several
   * processes share. A holder that died is replaced after `ttlMs` at the latest.
   */
  lock?(name: string, context: OperationContext, options: LockOptions): Promise<StoreLock | undefined>
  /**
   * Calls back after a key below the prefix may have changed, until the signal aborts. SHOULD do so for every key once it has
   * begun, and again after a connection broke: what was stored before is noticed at the next poll otherwise.
   *
   * @defaultValue evercert polls
   */
  watch?(prefix: string, onChange: (key: StoreKey) => void, context: OperationContext): Promise<void>
  close?(): Promise<void>
}

/** A lease that is held. Disposing of it releases it; a lease that was lost is left alone. */
export interface StoreLock extends AsyncDisposable {
  /**
   * Aborts with a {@link StoreError} `ERR_STORE_LOCK_LOST` once the lease cannot be trusted any more. SHOULD look at the clock
   * when it is asked, and not only abort by a timer.
   */
  readonly signal: AbortSignal
  /** Grows with every holder of this name: a number in decimal. */
  readonly fencingToken: string
  release(): Promise<void>
}

/** Joins components to a key; every component is percent-encoded. */
export function storeKey(space: StoreKeySpace, ...components: readonly string[]): StoreKey {
  return `${space}/${components.map(encodeURIComponent).join('/')}`
}
