import { encode, type Answer } from 'dns-packet'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  decodeMessage,
  dnsName,
  encodeQuestion,
  MalformedDnsMessage,
  rcodeName,
  type DnsMessage,
} from '../../../src/internal/dns-message.js'

const name = '_acme-challenge.example.com'
const question = { name, type: 'TXT', recursionDesired: false } as const

function response(parts: {
  readonly flags?: number
  readonly answers?: readonly Answer[]
  readonly authorities?: readonly Answer[]
  readonly additionals?: readonly Answer[]
}): Buffer {
  return encode({
    type: 'response',
    id: 0xabcd,
    flags: parts.flags ?? 0x0400,
    questions: [{ name, type: 'TXT', class: 'IN' }],
    answers: [...(parts.answers ?? [])],
    authorities: [...(parts.authorities ?? [])],
    additionals: [...(parts.additionals ?? [])],
  })
}

const sample = response({
  answers: [
    { type: 'CNAME', name, data: 'x.example.net' },
    { type: 'TXT', name: 'x.example.net', data: ['one ', 'value'] },
    { type: 'A', name: 'a.example.net', data: '192.0.2.1' },
    { type: 'AAAA', name: 'a.example.net', data: '2001:db8::1' },
  ],
  authorities: [
    { type: 'NS', name: 'example.com', data: 'NS1.Example.com' },
    { type: 'SOA', name: 'Example.com', data: { mname: 'ns1.example.com', rname: 'mail.example.com' } },
  ],
  additionals: [{ type: 'A', name: 'ns1.example.com', data: '192.0.2.1' }],
})

/** The message, or that it was refused in the one way there is. */
function read(bytes: Uint8Array): DnsMessage | 'refused' {
  try {
    return decodeMessage(bytes)
  } catch (error) {
    if (error instanceof MalformedDnsMessage) return 'refused'
    throw error
  }
}

describe('decodeMessage', () => {
  it('reads what is of use, in normal form', () => {
    expect(decodeMessage(sample)).toEqual({
      id: 0xabcd,
      response: true,
      authoritative: true,
      truncated: false,
      rcode: 0,
      question: { name, type: 'TXT' },
      answers: [
        { type: 'CNAME', name, target: 'x.example.net' },
        { type: 'TXT', name: 'x.example.net', value: 'one value' },
        { type: 'A', name: 'a.example.net', address: '192.0.2.1' },
        { type: 'AAAA', name: 'a.example.net', address: '2001:db8::1' },
      ],
      authorities: [
        { type: 'NS', name: 'example.com', target: 'ns1.example.com' },
        { type: 'SOA', name: 'example.com' },
      ],
    })
  })

  it('leaves out other classes, types and odd names, and the whole additional section', () => {
    const odd = response({
      answers: [
        { type: 'TXT', class: 'CH', name, data: 'chaos' },
        { type: 'TXT', flush: true, name, data: 'multicast' },
        { type: 'MX', name, data: { exchange: 'mail.example.com' } },
        { type: 'TXT', name: '_acme-challenge.example.com\u212a', data: 'kelvin' },
        { type: 'NULL', name, data: Buffer.from([1, 2]) },
      ],
      authorities: [
        {
          type: 'OPT',
          name: '.',
          udpPayloadSize: 512,
          extendedRcode: 0,
          ednsVersion: 0,
          flags: 0,
          flag_do: false,
          options: [],
        },
      ],
    })
    expect(decodeMessage(odd)).toMatchObject({ answers: [], authorities: [] })
    // Garbage in the additional section does no harm: it is not even read.
    const counted = Buffer.concat([sample, Buffer.from([0xff, 0xff, 0xff])])
    counted.writeUInt16BE(9, 10)
    expect(decodeMessage(counted)).toEqual(decodeMessage(sample))
  })

  it('a target that is no host name is none', () => {
    const targets = ['.', 'a b.example', 'a/b.example'].map((data): Answer => ({ type: 'CNAME', name, data }))
    expect(decodeMessage(response({ answers: targets })).answers).toEqual(
      targets.map(() => ({ type: 'CNAME', name, target: undefined })),
    )
  })

  it('of a truncated message only header and question are read, wherever it was cut', () => {
    const truncated = Buffer.from(sample)
    truncated.writeUInt16BE(0x8600, 2)
    const end = 12 + name.length + 2 + 4
    for (let length = end; length <= truncated.length; length += 1) {
      expect(decodeMessage(truncated.subarray(0, length))).toMatchObject({
        truncated: true,
        question: { name, type: 'TXT' },
        answers: [],
        authorities: [],
      })
    }
  })

  it('cut anywhere else it is refused', () => {
    const end = sample.length - (encodedLength('ns1.example.com') + 10 + 4)
    expect(read(sample.subarray(0, end))).not.toBe('refused')
    for (let length = 0; length < end; length += 1) expect(read(sample.subarray(0, length))).toBe('refused')
  })

  it('needs exactly one question, of class IN', () => {
    const two = encode({
      type: 'response',
      questions: [
        { name, type: 'TXT', class: 'IN' },
        { name, type: 'A', class: 'IN' },
      ],
    })
    expect(decodeMessage(two).question).toBeUndefined()
    expect(
      decodeMessage(encode({ type: 'response', questions: [{ name, type: 'TXT', class: 'CH' }] })).question,
    ).toBeUndefined()
    expect(decodeMessage(encode({ type: 'response' })).question).toBeUndefined()
  })

  it('compression loops, forward pointers and endless names end', () => {
    const withName = (bytes: readonly number[]): Buffer => {
      const header = Buffer.alloc(12)
      header.writeUInt16BE(0x8400, 2)
      header.writeUInt16BE(1, 4)
      return Buffer.concat([header, Buffer.from(bytes), Buffer.from([0, 16, 0, 1])])
    }
    expect(read(withName([0xc0, 12]))).toBe('refused')
    expect(read(withName([0xc0, 14, 0xc0, 12]))).toBe('refused')
    expect(read(withName([1, 0x61, 0xc0, 12]))).toBe('refused')
    expect(read(withName([0x80, 0]))).toBe('refused')
    expect(read(withName(Array.from({ length: 300 }, (_, index) => (index % 2 === 0 ? 1 : 0x61))))).toBe('refused')
  })

  it('more records than anybody has are refused before they are read', () => {
    const bomb = Buffer.alloc(65_535)
    bomb.writeUInt16BE(0x8400, 2)
    bomb.writeUInt16BE(1_001, 6)
    expect(() => decodeMessage(bomb)).toThrow('more than 1000 records')
    expect(read(Buffer.alloc(65_536))).toBe('refused')
  })

  it('the costliest message is read in no time', () => {
    // A NULL record that holds one long chain of pointers, and 999 records whose names run down all of it.
    const start = 12 + 11
    const chain = Buffer.alloc(16_000)
    for (let offset = 2; offset < chain.length; offset += 2) chain.writeUInt16BE(0xc000 + start + offset - 2, offset)
    const holder = Buffer.from([0, 0, 10, 0, 1, 0, 0, 0, 0, chain.length >> 8, chain.length & 0xff])
    const pointer = 0xc000 + start + chain.length - 2
    const record = Buffer.from([pointer >> 8, pointer & 0xff, 0, 10, 0, 1, 0, 0, 0, 0, 0, 0])
    const header = Buffer.alloc(12)
    header.writeUInt16BE(0x8400, 2)
    header.writeUInt16BE(1_000, 6)
    const message = Buffer.concat([header, holder, chain, ...Array.from({ length: 999 }, () => record)])
    const before = performance.now()
    expect(read(message)).toMatchObject({ answers: [] })
    // 30 ms when nothing else runs.
    expect(performance.now() - before).toBeLessThan(3_000)
  })

  it('random bytes and mutated messages are read or refused, and never leave the alphabet', () => {
    const seed = Date.now() & 0x7fffffff
    console.log(`dns-message fuzz seed ${seed}`)
    const alphabet = /^(?:[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*)?$/
    const check = (bytes: Uint8Array): void => {
      const message = read(bytes)
      if (message === 'refused') return
      const records = [...message.answers, ...message.authorities]
      const names = [
        message.question?.name ?? '',
        ...records.flatMap((record) => [record.name, 'target' in record ? (record.target ?? '') : '']),
      ]
      for (const each of names) {
        if (!alphabet.test(each) || each.length > 253) throw new Error(`not a name: ${JSON.stringify(each)}`)
      }
    }
    let readable = 0
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => check(bytes)),
      { seed, numRuns: 20_000 },
    )
    const edits = fc.array(
      fc.record({ at: fc.nat(sample.length - 1), byte: fc.nat(255), how: fc.constantFrom('set', 'insert', 'remove') }),
      { minLength: 1, maxLength: 8 },
    )
    fc.assert(
      fc.property(edits, (list) => {
        const bytes = [...sample]
        for (const { at, byte, how } of list)
          bytes.splice(at, how === 'insert' ? 0 : 1, ...(how === 'remove' ? [] : [byte]))
        check(Uint8Array.from(bytes))
        if (read(Uint8Array.from(bytes)) !== 'refused') readable += 1
      }),
      { seed, numRuns: 20_000 },
    )
    // Otherwise the mutations tested nothing but the first check.
    expect(readable).toBeGreaterThan(500)
  })
})

describe('encodeQuestion', () => {
  it('asks with EDNS, or without, with recursion, or without', () => {
    const plain = encodeQuestion(0x1234, question, false)
    expect(plain.toString('hex')).toBe(
      `1234000000010000000000000f5f61636d652d6368616c6c656e6765076578616d706c6503636f6d0000100001`,
    )
    const edns = encodeQuestion(0x1234, { ...question, recursionDesired: true }, true)
    expect(edns.readUInt16BE(2)).toBe(0x0100)
    expect(edns.subarray(-11).toString('hex')).toBe('00002904d0000000000000')
    expect(decodeMessage(encodeQuestion(1, { ...question, name: '' }, true)).question).toEqual({
      name: '',
      type: 'TXT',
    })
  })
})

describe('dnsName', () => {
  it.each([
    ['Example.COM.', 'example.com'],
    ['', ''],
    ['.', ''],
    [`${'a'.repeat(63)}.b`, `${'a'.repeat(63)}.b`],
    [`${'a'.repeat(64)}.b`, undefined],
    ['a..b', undefined],
    ['.a', undefined],
    ['b\u00fccher.example', undefined],
    ['\u212a.example', undefined],
    ['*.example', undefined],
    [Array.from({ length: 127 }, () => 'a').join('.'), Array.from({ length: 127 }, () => 'a').join('.')],
    [Array.from({ length: 128 }, () => 'a').join('.'), undefined],
  ])('%j is %j', (text, normal) => {
    expect(dnsName(text)).toBe(normal)
  })
})

describe('rcodeName', () => {
  it('names what people know', () => {
    expect([0, 2, 3, 5, 11].map(rcodeName)).toEqual(['NOERROR', 'SERVFAIL', 'NXDOMAIN', 'REFUSED', 'RCODE 11'])
  })
})

function encodedLength(text: string): number {
  return text.length + 2
}
