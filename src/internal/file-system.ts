/**
 * The file system as evercert uses it, so that a test can make the n-th call fail.
 *
 * @module
 */
import * as node from 'node:fs/promises'

/** The part of `node:fs/promises` that evercert calls. */
export type FileSystem = Pick<
  typeof node,
  | 'chmod'
  | 'link'
  | 'lstat'
  | 'mkdir'
  | 'open'
  | 'readFile'
  | 'readdir'
  | 'readlink'
  | 'realpath'
  | 'rename'
  | 'rm'
  | 'rmdir'
  | 'stat'
  | 'symlink'
  | 'unlink'
>

/** `node:fs/promises`. */
export const systemFiles: FileSystem = node
