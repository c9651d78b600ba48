/**
 * The little DER that a CA needs, written here so that the test CA shares no X.509 code with what it tests. ITU-T X.690.
 *
 * @module
 */

/** One tag-length-value. */
export interface DerElement {
  readonly tag: number
  readonly content: Buffer
  /** The whole element, header included. */
  readonly bytes: Buffer
}

/** Universal tags, the constructed bit included where it always is set. */
export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

/** Context-specific tag `[number]`, primitive or constructed. */
export function contextTag(number: number, form: 'primitive' | 'constructed'): number {
  return (form === 'constructed' ? 0xa0 : 0x80) | number
}

/** Writes one element. */
export function encode(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const length = content.reduce((sum, part) => sum + part.length, 0)
  const header = length < 0x80 ? [tag, length] : [tag, ...longLength(length)]
  return Buffer.concat([Buffer.from(header), ...content])
}

function longLength(length: number): number[] {
  const octets: number[] = []
  for (let rest = length; rest > 0; rest >>>= 8) octets.unshift(rest & 0xff)
  return [0x80 | octets.length, ...octets]
}

/** SEQUENCE of the parts. */
export function sequence(...parts: readonly Uint8Array[]): Buffer {
  return encode(tags.sequence, ...parts)
}

/** A non-negative INTEGER from its octets; the sign octet that DER asks for is added. */
export function unsignedInteger(octets: Uint8Array): Buffer {
  const start = octets.findIndex((octet) => octet !== 0)
  const significant = start === -1 ? Buffer.from([0]) : octets.subarray(start)
  const positive = (significant[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), significant]) : significant
  return encode(tags.integer, positive)
}

/** BIT STRING without unused bits. */
export function bitString(octets: Uint8Array): Buffer {
  return encode(tags.bitString, Buffer.from([0]), octets)
}

/** BIT STRING of named flags, where flag 0 is the highest bit; trailing zero bits are cut. Flags 0 to 7. */
export function flags(...numbers: readonly number[]): Buffer {
  const octet = numbers.reduce((bits, number) => bits | (0x80 >>> number), 0)
  return encode(tags.bitString, Buffer.from([7 - Math.max(...numbers), octet]))
}

/** OBJECT IDENTIFIER from its dotted form. */
export function objectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...arcs] = dotted.split('.').map(Number)
  const octets = [first * 40 + second, ...arcs].flatMap((arc) => {
    const groups = [arc & 0x7f]
    for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) groups.unshift(0x80 | (rest & 0x7f))
    return groups
  })
  return encode(tags.objectIdentifier, Buffer.from(octets))
}

/** The dotted form of an OBJECT IDENTIFIER element. */
export function dottedIdentifier(element: DerElement): string {
  if (element.tag !== tags.objectIdentifier) throw new SyntaxError('DER: object identifier expected')
  const arcs: number[] = []
  let arc = 0
  for (const octet of element.content) {
    arc = arc * 128 + (octet & 0x7f)
    if (octet >= 0x80) continue
    arcs.push(arc)
    arc = 0
  }
  const [head = 0, ...rest] = arcs
  const first = Math.min(Math.floor(head / 40), 2)
  return [first, head - first * 40, ...rest].join('.')
}

/** UTCTime from 1950 to 2049, GeneralizedTime otherwise. Whole seconds. RFC 5280 section 4.1.2.5. */
export function time(epochMs: number): Buffer {
  const text = new Date(epochMs).toISOString().replace(/[-:T]|\.\d+/g, '')
  const year = new Date(epochMs).getUTCFullYear()
  if (year >= 1950 && year <= 2049) return encode(tags.utcTime, Buffer.from(text.slice(2)))
  return encode(tags.generalizedTime, Buffer.from(text))
}

/** Reads exactly one element. @throws `SyntaxError` on anything that is not definite-length DER, or on trailing octets. */
export function decode(bytes: Uint8Array): DerElement {
  const { element, end } = readElement(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0)
  if (end !== bytes.length) throw new SyntaxError('DER: octets after the end')
  return element
}

/** The elements inside a constructed element (or inside the octets of a wrapping OCTET STRING). */
export function children(element: DerElement): DerElement[] {
  const found: DerElement[] = []
  for (let offset = 0; offset < element.content.length;) {
    const { element: child, end } = readElement(element.content, offset)
    found.push(child)
    offset = end
  }
  return found
}

function readElement(bytes: Buffer, offset: number): { element: DerElement; end: number } {
  const tag = bytes[offset]
  const short = bytes[offset + 1]
  if (tag === undefined || short === undefined) throw new SyntaxError('DER: ends early')
  if ((tag & 0x1f) === 0x1f) throw new SyntaxError('DER: multi-octet tags are not supported')
  let start = offset + 2
  let length = short
  if (short >= 0x80) {
    const count = short & 0x7f
    if (count === 0 || count > 4 || start + count > bytes.length) throw new SyntaxError('DER: malformed length')
    length = bytes.readUIntBE(start, count)
    start += count
    if (length < 0x80) throw new SyntaxError('DER: length is not minimal')
  }
  const end = start + length
  if (end > bytes.length) throw new SyntaxError('DER: ends early')
  return { element: { tag, content: bytes.subarray(start, end), bytes: bytes.subarray(offset, end) }, end }
}
