/**
 * The pool of `pg` that the caller brings, as far as it is used.
 *
 * @module
 */

/** What a query resolves. */
export interface PostgresResult {
  readonly rows: readonly unknown[]
}

/** A `Pool` of `pg`, or anything that runs one statement. */
export interface PostgresPool {
  query(text: string, values?: unknown[]): Promise<PostgresResult>
}

/** A `Pool` of `pg` whose connections lead to the server itself, not to a transaction pooler. */
export interface PostgresListenerPool {
  connect(): Promise<PostgresListenerClient>
}

/** A client of `pg` that was taken out of its pool. */
export interface PostgresListenerClient {
  query(text: string): Promise<unknown>
  on(event: 'notification', listener: (message: { readonly payload?: string | undefined }) => void): unknown
  on(event: 'error' | 'end', listener: (error?: Error) => void): unknown
  release(destroy: boolean): void
  /** Lets the process end although the connection is open. */
  unref?(): void
}
