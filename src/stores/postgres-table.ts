/**
 * The table of a PostgreSQL store: its statements, how it is made, and which format it has.
 *
 * @module
 */

/** Format of the table that this version makes and works with. */
export const tableFormat = 1

/** The statements of one table. Each is complete by itself, so that a transaction pooler may stand in between. */
export interface TableStatements {
  /** As it is written in SQL. */
  readonly name: string
  /** Channel on which changed keys are announced. */
  readonly channel: string
  /** No parameters: `exists`, `format` (`null`: not a table of ours), `synchronous`. */
  readonly inspect: string
  /** Several statements, one implicit transaction: safe for any number of processes at once, and to repeat. */
  readonly create: string
  /** lease, keys: `key`, `revision`, `entry` of each that is there. */
  readonly read: string
  /** lease, key, revision, entry: one row when it was written. */
  readonly overwrite: string
  /** lease, key, revision, entry: one row when there was none. */
  readonly insert: string
  /** lease, key, revision, entry, expected revision: one row when that was the one. */
  readonly replace: string
  /** lease, key. */
  readonly remove: string
  /** lease, key, expected revision: `removed` and `found`, both numbers. */
  readonly removeRevision: string
  /** prefix, end of the prefix, key to start after, rows: `key`. */
  readonly list: string
  /** Not for a pooler: belongs to a connection. */
  readonly listen: string
}

/** Any number that nobody else is likely to lock: "evercert" in ASCII. */
const creationLock = '6576657263657274'

/** @param schema - valid, `undefined`: the first one in the server's search path */
export function tableStatements(table: string, schema: string | undefined): TableStatements {
  const name = schema === undefined ? `"${table}"` : `"${schema}"."${table}"`
  const channel = table
  // A damaged entry is known by what it holds.
  const isRevision = (parameter: string): string =>
    `(t.revision = ${parameter} OR 'damaged-' || encode(sha256(t.entry), 'hex') = ${parameter})`
  // Leases change often and are nobody's news. A function in a WITH that is read is called once per row.
  const announced = (change: string): string =>
    `WITH changed AS (${change}) SELECT CASE WHEN lease THEN NULL ELSE pg_notify('${channel}', key)::text END FROM changed`
  const insert = `INSERT INTO ${name} AS t (lease, key, revision, entry) VALUES ($1, $2, $3, $4) ON CONFLICT (lease, key)`
  return {
    name,
    channel,
    inspect: `SELECT relation IS NOT NULL AS "exists",
      substring(obj_description(relation, 'pg_class') FROM '^evercert store, format (\\d{1,6})') AS format,
      current_setting('synchronous_commit') <> 'off' AS synchronous
      FROM (SELECT to_regclass('${name}') AS relation) AS found`,
    create: `SELECT pg_advisory_xact_lock(x'${creationLock}'::bigint);
      CREATE TABLE IF NOT EXISTS ${name} (
        lease boolean NOT NULL,
        key text COLLATE "C" NOT NULL,
        revision text NOT NULL,
        entry bytea NOT NULL,
        PRIMARY KEY (lease, key)
      );
      COMMENT ON TABLE ${name} IS 'evercert store, format ${String(tableFormat)}';`,
    read: `SELECT key, revision, entry FROM ${name} WHERE lease = $1 AND key = ANY($2)`,
    overwrite: announced(
      `${insert} DO UPDATE SET revision = excluded.revision, entry = excluded.entry RETURNING lease, key`,
    ),
    insert: announced(`${insert} DO NOTHING RETURNING lease, key`),
    replace: announced(
      `UPDATE ${name} AS t SET revision = $3, entry = $4 WHERE lease = $1 AND key = $2 AND ${isRevision('$5')} RETURNING lease, key`,
    ),
    remove: announced(`DELETE FROM ${name} WHERE lease = $1 AND key = $2 RETURNING lease, key`),
    // What is found is what was there before, whoever else changes it at the same time.
    removeRevision: `WITH changed AS (
        DELETE FROM ${name} AS t WHERE lease = $1 AND key = $2 AND ${isRevision('$3')} RETURNING key
      ), announced AS (SELECT pg_notify('${channel}', key) FROM changed)
      SELECT (SELECT count(*) FROM announced)::int AS removed,
        (SELECT count(*) FROM ${name} WHERE lease = $1 AND key = $2)::int AS found`,
    list: `SELECT key FROM ${name} WHERE NOT lease AND key >= $1 AND key < $2 AND key > $3 ORDER BY key LIMIT $4`,
    listen: `LISTEN "${channel}"`,
  }
}
