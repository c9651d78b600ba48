import { describe, expect, it } from 'vitest'
import { readMessage } from '../../../../src/internal/kubernetes/protobuf.js'
import { readObjectList } from '../../../../src/stores/kubernetes/object-list.js'
import { seededRandom } from '../../../../src/testing/seeded-random.js'
import { encodeObjectList, message, number, type ListedSecret } from '../../../support/object-list.js'

const secrets: readonly ListedSecret[] = [
  {
    name: 'evercert-certificates-www-0123',
    uid: '24490261-1bee-4ce1-80af-58b42e16cb95',
    resourceVersion: '19759',
    annotations: { 'evercert.dev/key': 'certificates/www', 'note.test/ü': '日本', ['__proto__']: 'x', empty: '' },
    data: { entry: Buffer.from([0, 255, 128, 10]).toString('base64'), other: '' },
  },
  { name: 'kept', uid: 'u', resourceVersion: '2', deletedAt: 1_795_665_411 },
]

describe('a list of Secrets in Protocol Buffers', () => {
  it('is read with what a store uses of it', () => {
    const page = readObjectList(encodeObjectList(secrets, { resourceVersion: '20212', next: 'token' }))
    expect(page).toMatchObject({ resourceVersion: '20212', next: 'token' })
    const [first, second] = page!.items
    expect(first).toMatchObject({
      name: 'evercert-certificates-www-0123',
      uid: '24490261-1bee-4ce1-80af-58b42e16cb95',
      resourceVersion: '19759',
      isDeleted: false,
    })
    expect(Object.entries(first!.annotations)).toEqual(Object.entries(secrets[0]!.annotations!))
    expect([...first!.data]).toEqual([
      ['entry', Buffer.from([0, 255, 128, 10])],
      ['other', Buffer.alloc(0)],
    ])
    expect(second).toMatchObject({ name: 'kept', isDeleted: true, annotations: {} })
    expect(second!.data.size).toBe(0)
    expect(readObjectList(encodeObjectList([]))).toEqual({ items: [], resourceVersion: '1', next: undefined })
  })

  it('is read also when it holds metadata only', () => {
    const [whole] = secrets
    const kind = { apiVersion: 'meta.k8s.io/v1', kind: 'PartialObjectMetadataList' }
    const page = readObjectList(encodeObjectList([{ ...whole!, data: {} }], kind))
    expect(page?.items).toMatchObject([{ name: whole!.name, uid: whole!.uid }])
    expect(readObjectList(encodeObjectList(secrets, { ...kind, apiVersion: 'v1' }))).toBeUndefined()
  })

  it('leaves out what has no name, no uid or no version', () => {
    const [sound] = secrets
    for (const lacking of ['name', 'uid', 'resourceVersion']) {
      const page = readObjectList(encodeObjectList([{ ...sound!, [lacking]: '' }, sound!]))
      expect(page?.items.map(({ name }) => name)).toEqual([sound!.name])
    }
  })

  it.each([
    ['another kind', encodeObjectList(secrets, { kind: 'ConfigMapList' })],
    ['no version', encodeObjectList(secrets, { resourceVersion: '' })],
    ['no list', Buffer.concat([Buffer.from('k8s\0'), message(1, message(1, 'v1'), message(2, 'SecretList'))])],
    ['JSON', Buffer.from('{"kind":"SecretList","apiVersion":"v1"}')],
    ['nothing', Buffer.alloc(0)],
  ])('is none when it is %s', (_, body) => {
    expect(readObjectList(body)).toBeUndefined()
  })

  it('is none when an object is larger than etcd takes', () => {
    const [sound] = secrets
    const large = (bytes: number): Buffer =>
      encodeObjectList([{ ...sound!, data: { entry: Buffer.alloc(bytes).toString('base64') } }])
    expect(readObjectList(large(1_500_000))?.items).toHaveLength(1)
    expect(readObjectList(large(2_100_000))).toBeUndefined()
  })

  it('is none when it is cut short, wherever that is', () => {
    const whole = encodeObjectList(secrets)
    // What comes last are fields that nobody reads.
    for (let length = 0; length < whole.length - 4; length += 1) {
      expect(readObjectList(whole.subarray(0, length)), String(length)).toBeUndefined()
    }
  })

  it('is a list, or none, whatever bytes are in it', () => {
    const seed = 20_261_126
    const random = seededRandom(seed)
    const whole = encodeObjectList(secrets)
    let lists = 0
    for (let round = 0; round < 20_000; round += 1) {
      const body = Buffer.from(whole)
      for (let count = 0; count <= round % 4; count += 1) {
        body[Math.floor(random() * body.length)] = Math.floor(random() * 256)
      }
      if (readObjectList(body) !== undefined) lists += 1
    }
    expect(lists, `seed ${String(seed)}`).toBeGreaterThan(100)
    expect(lists, `seed ${String(seed)}`).toBeLessThan(20_000)
  })
})

describe('a message', () => {
  const fieldsOf = (bytes: Buffer): [number, string][] => {
    const fields: [number, string][] = []
    readMessage(bytes, 0, bytes.length, (field, start, end) => fields.push([field, bytes.toString('utf8', start, end)]))
    return fields
  }

  it('has fields with a length; numbers are passed over', () => {
    const fixed64 = Buffer.concat([Buffer.from([0x29]), Buffer.alloc(8, 0xff)])
    const fixed32 = Buffer.concat([Buffer.from([0x35]), Buffer.alloc(4, 0xff)])
    const negative = Buffer.concat([Buffer.from([0x38]), Buffer.alloc(9, 0xff), Buffer.from([0x01])])
    const bytes = Buffer.concat([message(1, 'a'), number(2, 2 ** 40), fixed64, fixed32, negative, message(3000, '')])
    expect(fieldsOf(bytes)).toEqual([
      [1, 'a'],
      [3000, ''],
    ])
    expect(fieldsOf(message(4, 'x'.repeat(70_000)))).toEqual([[4, 'x'.repeat(70_000)]])
  })

  it.each([
    ['a length beyond its end', Buffer.from([0x0a, 0x05, 0x61])],
    ['a length of many digits', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])],
    ['a number of eleven bytes', Buffer.concat([Buffer.from([0x08]), Buffer.alloc(10, 0xff), Buffer.from([0x01])])],
    ['a number without an end', Buffer.from([0x08, 0x80])],
    ['a fixed number cut short', Buffer.from([0x35, 0x01])],
    ['a group', Buffer.from([0x0b, 0x0c])],
  ])('with %s is none', (_, bytes) => {
    expect(() => fieldsOf(bytes)).toThrow(RangeError)
  })
})
