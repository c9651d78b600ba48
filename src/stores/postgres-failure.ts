/**
 * What PostgreSQL, a pooler, or the way to them says when it does not do what is asked; and what a person does about it.
 *
 * @module
 * @see [PostgreSQL error codes](https://www.postgresql.org/docs/current/errcodes-appendix.html)
 */

/** By SQLSTATE, or by its class. */
const reasons: Readonly<Record<string, string>> = {
  '08': 'the connection to the server broke',
  '22': 'the server did not understand a value',
  '25006': 'this server is a read-only standby; let the pool connect to the primary (target_session_attrs)',
  '28': 'the server refuses the user or password of the pool',
  '3D000': 'there is no such database; create it, or correct the pool',
  '3F000': 'there is no such schema; create it, or correct the "schema" option',
  '40': 'other transactions were in the way each time it was tried; it will be tried again',
  '42501': 'the user of the pool may not do this; it needs SELECT, INSERT, UPDATE and DELETE on the table',
  '42P01': 'the table was removed while it was in use; it is made anew, empty, at the next attempt',
  '42703': 'the table has other columns than the store needs; is it another program’s?',
  '53100': 'the disk of the server is full, nothing was written',
  '53200': 'the server is out of memory, nothing was written',
  '53300': 'the server has no connection left; make pools smaller, or put a pooler before it',
  '54': 'the value or the key is too large for the server',
  '57014': 'the server cancelled the statement (statement_timeout, or a person)',
  '57': 'the server is shutting down, or somebody ended the connection; a write may have been carried out',
  '57P03': 'the server is starting or recovering; wait',
  '58': 'the server has trouble with its files; look at its log',
  XX: 'the server reports an internal error or damaged data; look at its log',
}

/** Whether nothing was done and the same statement may well succeed: serialization failure, deadlock. */
export function isTransient(error: unknown): boolean {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
  return code === '40001' || code === '40P01'
}

/** Continues "cannot write certificates/www: ". */
export function postgresFailure({ message, code = '' }: Error & { readonly code?: string | undefined }): string {
  const isSqlState = /^[0-9A-Z]{5}$/.test(code) && /\d/.test(code)
  const reason = isSqlState ? (reasons[code] ?? reasons[code.slice(0, 2)]) : undefined
  if (reason !== undefined) return `${reason} (${code}: ${message})`
  if (isSqlState) return `${message} (${code})`
  return `the connection to the server failed, a write may have been carried out: ${message}${code === '' ? '' : ` (${code})`}`
}
