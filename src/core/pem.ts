/**
 * PEM in and out. What comes from outside is decoded to DER and only ever written again from DER (RFC 7468).
 *
 * @module
 */

/** One PEM block. */
export interface PemBlock {
  /** E.g. `CERTIFICATE`. */
  readonly label: string
  readonly der: Buffer
}

const begin = '-----BEGIN '
const dashes = '-----'
/** RFC 7468 section 3, without the hyphen. A label ends up in messages. */
const labelPattern = /^[\x20-\x2c\x2e-\x7e]{1,64}$/

/**
 * Splits text into its PEM blocks in linear time. Text between blocks is passed over; a block that does not end, or that
 * is not base64, is an error.
 *
 * @throws `SyntaxError` that says what is wrong, without quoting the text.
 */
export function parsePem(text: string): readonly PemBlock[] {
  const blocks: PemBlock[] = []
  let position = 0
  for (;;) {
    const start = text.indexOf(begin, position)
    if (start === -1) return blocks
    const labelStart = start + begin.length
    const labelEnd = text.indexOf(dashes, labelStart)
    const label = labelEnd === -1 ? '' : text.slice(labelStart, labelEnd)
    if (!labelPattern.test(label)) throw new SyntaxError('malformed PEM header')
    const footer = `-----END ${label}-----`
    const bodyStart = labelEnd + dashes.length
    const bodyEnd = text.indexOf(footer, bodyStart)
    if (bodyEnd === -1) throw new SyntaxError(`PEM block ${JSON.stringify(label)} does not end`)
    blocks.push({ label, der: decodeBase64(text.slice(bodyStart, bodyEnd)) })
    position = bodyEnd + footer.length
  }
}

/** One block with 64-character lines, ending in exactly one newline. */
export function encodePem(label: string, der: Uint8Array): string {
  const base64 = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('base64')
  const lines: string[] = []
  for (let at = 0; at < base64.length; at += 64) lines.push(base64.slice(at, at + 64))
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

function decodeBase64(body: string): Buffer {
  const compact = body.replace(/\s+/g, '')
  const der = Buffer.from(compact, 'base64')
  // Buffer skips what it does not know; the round trip shows whether it had to.
  if (der.length === 0 || der.toString('base64') !== compact) throw new SyntaxError('PEM block is not base64')
  return der
}
