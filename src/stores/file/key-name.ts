/**
 * File names for keys: flat, bounded, and the same on file systems that ignore case.
 *
 * @module
 */
import { createHash } from 'node:crypto'

/** Leaves room for a suffix: file systems take 255 bytes. */
const longestName = 180

/**
 * `certificates/www.example.com` becomes `certificates+www.example.com`. Whatever is not a lower-case letter, digit, dot
 * or hyphen is written as `_` and two hex digits per byte, so no key becomes a path and no two keys differ in case only.
 * A key that is too long becomes `~` and its hash.
 */
export function keyName(key: string): string {
  const name = key
    .replaceAll(/^[.-]|[^a-z0-9./-]/gu, (character) => {
      return [...Buffer.from(character)].map((byte) => `_${byte.toString(16).padStart(2, '0')}`).join('')
    })
    .replaceAll('/', '+')
  return name.length > longestName ? `~${createHash('sha256').update(key).digest('hex')}` : name
}

/** Whether the name is a hash: the key is then only known to the file's content. */
export function isHashedName(name: string): boolean {
  return /^~[0-9a-f]{64}$/.test(name)
}

/** The key of a name that is not hashed; `undefined` when {@link keyName} did not make it. */
export function nameKey(name: string): string | undefined {
  const key = name
    .replaceAll('+', '/')
    .replaceAll(/(?:_[0-9a-f]{2})+/g, (bytes) => Buffer.from(bytes.replaceAll('_', ''), 'hex').toString())
  return keyName(key) === name ? key : undefined
}
