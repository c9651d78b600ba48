/**
 * Names a certificate is for: DNS names (IDNA, wildcards) and IP addresses.
 *
 * @module
 */
import { isIP } from 'node:net'
import { domainToASCII, domainToUnicode } from 'node:url'

/** What a certificate is issued for. RFC 8555 section 9.7.7, RFC 8738. */
export type Identifier =
  | {
      readonly type: 'dns'
      /** Lower-case A-labels, a leading `*.` kept: `*.xn--bcher-kva.example`. */
      readonly value: string
    }
  | {
      readonly type: 'ip'
      /** Textual form, IPv6 compressed and lower-case as in RFC 5952. */
      readonly value: string
    }

const label = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/
/** What IDNA mapping would silently turn into something else, or a later sink would misread. */
// eslint-disable-next-line no-control-regex -- control characters are exactly what is refused
const forbidden = /[\u0000-\u0020\u007f"'`$;|&<>(){}\\/?#%@:[\]!,^=+~]/

/** Decomposed characters are shorter once mapped; mapping of a huge text takes seconds. */
const maxWrittenLength = 1000
const tooLong = 'is longer than 253 characters'

/**
 * Reads a name as a person writes it: `example.com`, `*.example.com`, `bücher.example`, `192.0.2.7`, `2001:db8::1`.
 *
 * @returns The identifier in its normal form: IDNA A-labels, lower case, no trailing dot.
 * @throws `TypeError` that quotes the name and says what is wrong with it.
 */
export function parseIdentifier(name: string): Identifier {
  if (typeof name !== 'string' || name === '') throw new TypeError('identifier must be a non-empty string')
  const refuse = (why: string): never => {
    throw new TypeError(`identifier ${JSON.stringify(name.slice(0, 300))} ${why}`)
  }
  if (name.length > maxWrittenLength) return refuse(tooLong)
  if (isIP(name) === 4) return { type: 'ip', value: name }
  const address = name.startsWith('[') && name.endsWith(']') ? name.slice(1, -1) : name
  if (isIP(address) === 6) {
    if (address.includes('%')) return refuse('must not have a zone index')
    return { type: 'ip', value: new URL(`http://[${address}]/`).hostname.slice(1, -1) }
  }
  if (forbidden.test(name)) return refuse('has a character that no host name may have')
  const wildcard = name.startsWith('*.')
  const base = (wildcard ? name.slice(2) : name).replace(/\.$/, '')
  if (base.includes('*')) return refuse('may have a wildcard only as its whole first label')
  const ascii = domainToASCII(base).toLowerCase()
  if (ascii === '') return refuse('is not a valid internationalised domain name')
  const labels = ascii.split('.')
  if (!labels.every(isSoundALabel)) return refuse('is not a valid internationalised domain name')
  if (!labels.every((part) => label.test(part))) return refuse('has an empty, too long or malformed label')
  // The URL standard reads "127.1" and "0x7f.1" as IPv4 addresses; as a domain name they are never issued.
  if (/^(?:[0-9]+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? '')) return refuse('ends in a number but is not an IP address')
  if (wildcard && labels.length < 2) return refuse('must not put a wildcard on a top-level domain')
  const value = wildcard ? `*.${ascii}` : ascii
  if (value.length > 253) return refuse(tooLong)
  return { type: 'dns', value }
}

/** Node 24 passes `xn--` labels on unread; Node 20 and 22 do not. One that is none stands for no name anybody can type. */
function isSoundALabel(part: string): boolean {
  if (!part.startsWith('xn--')) return true
  const unicode = domainToUnicode(part)
  return unicode !== '' && unicode !== part && domainToASCII(unicode) === part
}

/** Reads and deduplicates, first spelling first. @throws `TypeError` as {@link parseIdentifier}, or when the list is empty. */
export function parseIdentifiers(names: readonly string[]): readonly Identifier[] {
  const seen = new Map<string, Identifier>()
  for (const name of names) {
    const identifier = parseIdentifier(name)
    seen.set(identifierKey(identifier), identifier)
  }
  if (seen.size === 0) throw new TypeError('identifiers must name at least one DNS name or IP address')
  return [...seen.values()]
}

/** `dns:example.com`, `ip:192.0.2.7`: equal exactly when the identifiers are. */
export function identifierKey(identifier: Identifier): string {
  return `${identifier.type}:${identifier.value}`
}

/** Whether both lists name the same set; order does not matter. */
export function sameIdentifiers(one: readonly Identifier[], other: readonly Identifier[]): boolean {
  const keys = new Set(one.map(identifierKey))
  const otherKeys = new Set(other.map(identifierKey))
  return keys.size === otherKeys.size && [...keys].every((key) => otherKeys.has(key))
}

/** Whether the identifier is a wildcard DNS name. */
export function isWildcard(identifier: Identifier): boolean {
  return identifier.type === 'dns' && identifier.value.startsWith('*.')
}

/** The name without its `*.`: what an ACME authorization is for. RFC 8555 section 7.1.4. */
export function baseName(identifier: Identifier): string {
  return isWildcard(identifier) ? identifier.value.slice(2) : identifier.value
}

/** Wildcards cover one label; two names of one list may overlap, which CAs refuse: `[*.example.com, www.example.com]`. */
export function overlaps(identifiers: readonly Identifier[]): readonly [Identifier, Identifier] | undefined {
  const byKey = new Map(identifiers.map((identifier) => [identifierKey(identifier), identifier]))
  for (const identifier of identifiers) {
    if (identifier.type !== 'dns' || isWildcard(identifier)) continue
    const parent = identifier.value.slice(identifier.value.indexOf('.') + 1)
    const wildcard = byKey.get(`dns:*.${parent}`)
    if (wildcard !== undefined && identifier.value.includes('.')) return [wildcard, identifier]
  }
  return undefined
}
