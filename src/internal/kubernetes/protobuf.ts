/**
 * The wire format of Protocol Buffers, as far as a reader needs it that knows which fields it wants.
 *
 * @module
 * @see [Protocol Buffers encoding](https://protobuf.dev/programming-guides/encoding/)
 */

/**
 * Calls `take` for each field of a message that has a length (texts, bytes, messages), with the place of its content. Numbers
 * are passed over. Nothing is copied, and no objects are made: lists have hundreds of thousands of fields.
 *
 * @throws `RangeError` for what is no message
 */
export function readMessage(
  bytes: Uint8Array,
  start: number,
  end: number,
  take: (field: number, start: number, end: number) => void,
): void {
  let at = start
  const readNumber = (): number => {
    let value = 0
    // Ten bytes hold 64 bits.
    for (let scale = 1; scale <= 2 ** 63; scale *= 128) {
      const byte = at < end ? (bytes[at] ?? 0) : 0x80
      at += 1
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
    }
    throw new RangeError('a number does not end')
  }
  while (at < end) {
    const tag = readNumber()
    const wireType = tag % 8
    if (wireType === 0) readNumber()
    else if (wireType === 1) at += 8
    else if (wireType === 5) at += 4
    else if (wireType === 2) {
      const length = readNumber()
      if (length > end - at) throw new RangeError('a field is cut short')
      take(Math.floor(tag / 8), at, at + length)
      at += length
    } else throw new RangeError('a field has an unknown type')
  }
  if (at !== end) throw new RangeError('a field is cut short')
}
