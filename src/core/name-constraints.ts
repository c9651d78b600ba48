/**
 * Name constraints: what a CA may certify, as every verifier of its certificates holds it to. RFC 5280 section 4.2.1.10.
 *
 * @module
 */
import { isIP, isIPv6 } from 'node:net'
import { isWildcard, parseIdentifier, type Identifier } from './identifier.js'

/** One subtree: a DNS name with everything below it, or a network. */
export type Subtree =
  | {
      readonly type: 'dns'
      /** Lower case; a leading dot leaves the name itself out; empty is every name. */
      readonly base: string
    }
  | { readonly type: 'ip'; readonly address: Buffer; readonly mask: Buffer }

/** What is permitted, of each type that appears; and what is excluded, which wins. */
export interface NameConstraints {
  readonly permitted: readonly Subtree[]
  readonly excluded: readonly Subtree[]
  /** Whether there are constraints on URIs or e-mail addresses, which are not read: such names cannot be judged. */
  readonly otherTypes: boolean
}

/**
 * Reads constraints as a person writes them: `internal.example` (and everything below), `10.0.0.0/8`, `fd00::/8`.
 *
 * What is permitted is meant as the whole: with DNS names only, all addresses are excluded, and the reverse; RFC 5280 alone
 * would leave a type that is not mentioned free.
 *
 * @throws `TypeError` that quotes the constraint
 */
export function parseNameConstraints(constraints: {
  readonly permitted?: readonly string[] | undefined
  readonly excluded?: readonly string[] | undefined
}): NameConstraints {
  const permitted = (constraints.permitted ?? []).map(parseSubtree)
  const excluded = (constraints.excluded ?? []).map(parseSubtree)
  if (permitted.length > 0) {
    if (!permitted.some(({ type }) => type === 'dns')) excluded.push({ type: 'dns', base: '' })
    for (const octets of [4, 16]) {
      const named = permitted.some((subtree) => subtree.type === 'ip' && subtree.address.length === octets)
      if (!named) excluded.push({ type: 'ip', address: Buffer.alloc(octets), mask: Buffer.alloc(octets) })
    }
  }
  return { permitted, excluded, otherTypes: false }
}

/** Why these names are outside the constraints, if they are. */
export function constraintViolation(
  { permitted, excluded }: NameConstraints,
  identifiers: readonly Identifier[],
): string | undefined {
  for (const identifier of identifiers) {
    if (excluded.some((subtree) => overlaps(subtree, identifier))) return `${identifier.value} is excluded`
    const relevant = permitted.filter((subtree) => sameType(subtree, identifier))
    if (relevant.length > 0 && !relevant.some((subtree) => contains(subtree, identifier))) {
      return `${identifier.value} is not among what is permitted`
    }
  }
  return undefined
}

/** DER value of the extension. */
export function encodeNameConstraints({ permitted, excluded }: NameConstraints): Buffer {
  const list = (tag: number, subtrees: readonly Subtree[]): Buffer =>
    subtrees.length === 0 ? Buffer.alloc(0) : element(tag, ...subtrees.map((one) => element(0x30, generalName(one))))
  return element(0x30, list(0xa0, permitted), list(0xa1, excluded))
}

/** Reads the DER value of the extension. @throws `SyntaxError` when it holds a kind of constraint that is not understood */
export function decodeNameConstraints(der: Uint8Array): NameConstraints {
  const [sequence, ...more] = elements(Buffer.from(der))
  if (sequence?.tag !== 0x30 || more.length > 0) throw new SyntaxError('name constraints are malformed')
  const found = { permitted: [] as Subtree[], excluded: [] as Subtree[], otherTypes: false }
  for (const { tag, content } of elements(sequence.content)) {
    const list = tag === 0xa0 ? found.permitted : tag === 0xa1 ? found.excluded : undefined
    if (list === undefined) throw new SyntaxError('name constraints are malformed')
    for (const subtree of elements(content)) {
      const [name, ...limits] = elements(subtree.content)
      if (name === undefined || limits.length > 0) throw new SyntaxError('name constraints have minimum or maximum')
      // rfc822Name and uniformResourceIdentifier.
      if (name.tag === 0x81 || name.tag === 0x86) found.otherTypes = true
      else list.push(readSubtree(name))
    }
  }
  return found
}

function parseSubtree(text: unknown): Subtree {
  const wrong = (why: string): TypeError =>
    new TypeError(`name constraint ${JSON.stringify(String(text).slice(0, 300))} ${why}`)
  if (typeof text !== 'string') throw wrong('is not a string')
  const [address = '', length, ...more] = text.split('/')
  if (isIP(address) !== 0) {
    const octets = addressOctets(address)
    const bits = octets.length * 8
    if (length === undefined || more.length > 0 || !/^\d{1,3}$/.test(length) || Number(length) > bits) {
      throw wrong(`must be a network with its prefix length, such as ${address}/${String(bits)}`)
    }
    const mask = Buffer.from(octets.map((_, index) => prefixOctet(Number(length) - 8 * index)))
    if (octets.some((octet, index) => (octet & ~(mask[index] ?? 0)) !== 0)) {
      throw wrong(`has address bits beyond its prefix length`)
    }
    return { type: 'ip', address: octets, mask }
  }
  let identifier: Identifier
  try {
    identifier = parseIdentifier(text)
  } catch (cause) {
    throw wrong(`is no DNS name: ${cause instanceof Error ? cause.message : ''}`)
  }
  if (isWildcard(identifier)) throw wrong('covers all names below it without a wildcard')
  return { type: 'dns', base: identifier.value }
}

/** One octet of a mask of which `bits` ones are left. */
function prefixOctet(bits: number): number {
  return (0xff << (8 - Math.min(Math.max(bits, 0), 8))) & 0xff
}

/** IPv4 and IPv6 constraints are told apart by their length only, and say nothing about each other. */
function sameType(subtree: Subtree, { type, value }: Identifier): boolean {
  if (subtree.type === 'dns') return type === 'dns'
  return type === 'ip' && subtree.address.length === (isIPv6(value) ? 16 : 4)
}

function contains(subtree: Subtree, identifier: Identifier): boolean {
  if (!sameType(subtree, identifier)) return false
  if (subtree.type === 'dns') return isBelow(identifier.value.replace(/^\*\./, ''), subtree.base, identifier)
  const { mask, address } = subtree
  return addressOctets(identifier.value).every((octet, at) => (octet & (mask[at] ?? 0)) === (address[at] ?? 0))
}

/** Also a wildcard that reaches into the subtree: a verifier sees the pattern only, and would let it pass. */
function overlaps(subtree: Subtree, identifier: Identifier): boolean {
  if (contains(subtree, identifier)) return true
  if (subtree.type !== 'dns' || !isWildcard(identifier)) return false
  const [first, ...above] = subtree.base.split('.')
  return first !== '' && above.join('.') === identifier.value.slice(2)
}

function isBelow(name: string, base: string, identifier: Identifier): boolean {
  if (base === '') return true
  if (base.startsWith('.')) return name.endsWith(base) || (isWildcard(identifier) && `.${name}` === base)
  return name === base || name.endsWith(`.${base}`)
}

function generalName(subtree: Subtree): Buffer {
  return subtree.type === 'dns'
    ? element(0x82, Buffer.from(subtree.base, 'ascii'))
    : element(0x87, subtree.address, subtree.mask)
}

function readSubtree({ tag, content }: { readonly tag: number; readonly content: Buffer }): Subtree {
  if (tag === 0x82) return { type: 'dns', base: content.toString('latin1').toLowerCase() }
  if (tag === 0x87 && (content.length === 8 || content.length === 32)) {
    const half = content.length / 2
    const [address, mask] = [content.subarray(0, half), content.subarray(half)]
    return { type: 'ip', address: Buffer.from(address.map((octet, at) => octet & (mask[at] ?? 0))), mask }
  }
  throw new SyntaxError('name constraints are of a type that is not understood')
}

function addressOctets(address: string): Buffer {
  if (!isIPv6(address)) return Buffer.from(address.split('.').map(Number))
  // The URL parser writes an embedded IPv4 part as hexadecimal groups.
  const [head = '', tail = ''] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split('::')
  const [before, after] = [head, tail].map((part) => part.split(':').filter(Boolean))
  const groups = [...(before ?? []), ...(after ?? [])]
  const zeros = Array<string>(8 - groups.length).fill('0')
  const all = [...(before ?? []), ...zeros, ...(after ?? [])]
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex')
}

function element(tag: number, ...content: readonly Buffer[]): Buffer {
  const body = Buffer.concat(content)
  if (body.length > 0xffff) throw new TypeError('name constraints are too long')
  const long = body.length < 0x100 ? [0x81] : [0x82, body.length >> 8]
  return Buffer.concat([Buffer.from([tag, ...(body.length < 0x80 ? [] : long), body.length & 0xff]), body])
}

function elements(bytes: Buffer): { readonly tag: number; readonly content: Buffer }[] {
  const found: { tag: number; content: Buffer }[] = []
  for (let at = 0; at < bytes.length;) {
    const [tag = 0, short = 0xff] = bytes.subarray(at, at + 2)
    const octets = short < 0x80 ? 0 : short & 0x7f
    const start = at + 2 + octets
    const length = octets === 0 ? short : octets <= 2 ? bytes.readUIntBE(at + 2, octets) : Number.MAX_SAFE_INTEGER
    if (start + length > bytes.length) throw new SyntaxError('name constraints end early')
    found.push({ tag, content: bytes.subarray(start, start + length) })
    at = start + length
  }
  return found
}
