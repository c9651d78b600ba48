/**
 * Reads what `cfssl gencert -initca` prints.
 *
 * @module
 */
import type { RootPair } from './root.js'

/**
 * The root in cfssl's JSON (`{"cert": ..., "key": ...}`, or the same below `result` as its API answers), for
 * `importRoot` or `roots`.
 *
 * @example
 *
 * ```ts
 * import { readFile } from 'node:fs/promises'
 * import { cfsslRoot, privateCaIssuer } from 'evercert/issuers/private-ca'
 *
 * const issuer = privateCaIssuer({ importRoot: cfsslRoot(await readFile('/etc/cfssl/ca.json', 'utf8')) })
 * ```
 *
 * @throws `TypeError` when it is not such JSON; the message never quotes it, since it holds the key
 */
export function cfsslRoot(json: string): RootPair {
  const wrong = new TypeError('cfssl\'s JSON must be an object with the PEM texts "cert" and "key"')
  let data: unknown
  try {
    data = JSON.parse(json)
  } catch {
    throw wrong
  }
  const inner = member(data, 'result') ?? data
  const [certificatePem, privateKeyPem] = [member(inner, 'cert') ?? member(inner, 'certificate'), member(inner, 'key')]
  if (typeof certificatePem !== 'string') throw wrong
  const key = privateKeyPem ?? member(inner, 'private_key')
  if (typeof key !== 'string') throw wrong
  return { certificatePem, privateKeyPem: key }
}

function member(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
  return (value as Readonly<Record<string, unknown>>)[name]
}
