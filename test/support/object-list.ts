/** Lists of Secrets in Protocol Buffers, as an API server writes them. */

/** As much of a Secret as lists are read for. */
export interface ListedSecret {
  readonly name: string
  readonly uid: string
  readonly resourceVersion: string
  readonly deletedAt?: number
  readonly annotations?: Readonly<Record<string, string>>
  /** In base64. */
  readonly data?: Readonly<Record<string, string>>
}

export function encodeObjectList(
  secrets: readonly ListedSecret[],
  { resourceVersion = '1', next = '', apiVersion = 'v1', kind = 'SecretList' } = {},
): Buffer {
  const items = secrets.map((each) => message(2, encodeSecret(each)))
  const list = Buffer.concat([
    message(1, message(1, ''), message(2, resourceVersion), message(3, next), number(4, 5)),
    ...items,
  ])
  const type = message(1, message(1, apiVersion), message(2, kind))
  return Buffer.concat([Buffer.from('k8s\0'), type, message(2, list), message(3, ''), message(4, '')])
}

function encodeSecret({ name, uid, resourceVersion, deletedAt, annotations = {}, data = {} }: ListedSecret): Buffer {
  const metadata = Buffer.concat([
    ...[message(1, name), message(3, 'default'), message(5, uid), message(6, resourceVersion), number(7, 0)],
    message(8, number(1, 1_795_665_411)),
    ...(deletedAt === undefined ? [] : [message(9, number(1, deletedAt))]),
    message(11, message(1, 'a-label'), message(2, 'evercert.dev/key')),
    ...Object.entries(annotations).map(([key, value]) => message(12, message(1, key), message(2, value))),
    message(17, message(1, 'evercert'), message(7, message(1, '{"f:data":{}}'))),
  ])
  const held = Object.entries(data).map(([key, value]) =>
    message(2, message(1, key), message(2, Buffer.from(value, 'base64'))),
  )
  return Buffer.concat([message(1, metadata), ...held, message(3, 'evercert.dev/entry'), number(5, 0)])
}

/** A field with a length. */
export function message(field: number, ...parts: readonly (string | Buffer)[]): Buffer {
  const content = Buffer.concat(parts.map((part) => Buffer.from(part as Buffer)))
  return Buffer.concat([varint(field * 8 + 2), varint(content.length), content])
}

/** A field that is a number. */
export function number(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest])
    bytes.push((rest % 128) + 128)
  }
}
