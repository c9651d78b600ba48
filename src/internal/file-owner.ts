/**
 * Whose a file is to be.
 *
 * @module
 */
import { assertNumber, assertOptions } from './options.js'

/** Numeric user and group id: names are a matter of the machine's directory service. */
export interface FileOwner {
  readonly uid: number
  readonly gid: number
}

/** Checks and copies the option `owner`. @throws `TypeError` */
export function ownerOption(value: FileOwner | undefined): FileOwner | undefined {
  if (value === undefined) return undefined
  assertOptions(value, ['uid', 'gid'], '"owner" option')
  const { uid, gid } = value
  assertNumber(uid, 'owner.uid', { min: 0, max: 0xffff_fffe, integer: true })
  assertNumber(gid, 'owner.gid', { min: 0, max: 0xffff_fffe, integer: true })
  return { uid, gid }
}
