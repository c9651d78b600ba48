/**
 * Anti-replay nonces. RFC 8555 section 6.5.
 *
 * @module
 */
import { randomBytes } from 'node:crypto'

/** Hands out nonces and takes each back once. */
export interface Nonces {
  next(): string
  /** Whether the nonce was good; it is spent either way. */
  spend(nonce: string): boolean
}

/** Clients that drop their nonces must not make the CA grow. */
const capacity = 10_000

/** An empty set of nonces. */
export function createNonces(): Nonces {
  const open = new Set<string>()
  return {
    next() {
      const nonce = randomBytes(12).toString('base64url')
      open.add(nonce)
      const [oldest] = open
      if (open.size > capacity && oldest !== undefined) open.delete(oldest)
      return nonce
    },
    spend: (nonce) => open.delete(nonce),
  }
}
