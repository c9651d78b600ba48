/**
 * TXT data as Route 53 writes it: strings of at most 255 bytes in double quotes. Pure.
 *
 * @see {@link https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html#TXTFormat | TXT record type}
 *
 * @module
 */

/** Longest string of a TXT record, in bytes. RFC 1035 section 3.3.14. */
const longestString = 255

/** `abc` becomes `"abc"`. */
export function quoteTxt(text: string): string {
  const bytes = Buffer.from(text, 'utf8')
  const strings: string[] = []
  for (let start = 0; start < Math.max(bytes.length, 1); start += longestString) {
    strings.push(`"${[...bytes.subarray(start, start + longestString)].map(quoteByte).join('')}"`)
  }
  return strings.join(' ')
}

function quoteByte(byte: number): string {
  const character = String.fromCharCode(byte)
  if (character === '"' || character === '\\') return `\\${character}`
  return byte >= 0x20 && byte < 0x7f ? character : `\\${byte.toString(8).padStart(3, '0')}`
}

/** What a resolver would see, strings joined; `undefined` for what is not quoted as it should be. */
export function unquoteTxt(value: string): string | undefined {
  // One string after the other: searched for anywhere, a hostile value would take quadratic time.
  const quotedString = /\s*"((?:[^"\\]|\\.)*)"\s*/y
  let bytes = ''
  do {
    const inner = quotedString.exec(value)?.[1]
    if (inner === undefined) return undefined
    bytes += inner.replace(/\\([0-3][0-7]{2})|\\(.)/g, (_, octal?: string, character?: string) =>
      octal === undefined ? (character ?? '') : String.fromCharCode(Number.parseInt(octal, 8)),
    )
  } while (quotedString.lastIndex < value.length)
  return Buffer.from(bytes, 'latin1').toString('utf8')
}
