/**
 * DNS messages: questions out, answers in. RFC 1035, RFC 6891.
 *
 * An answer is whatever somebody put into a datagram. What comes out of here is a plain object with names in one normal
 * form and only the records that were asked for; everything else is a {@link MalformedDnsMessage}.
 *
 * @module
 */
import { isIPv4, isIPv6 } from 'node:net'
import { decode, encode, RECURSION_DESIRED, type Answer, type DecodedPacket } from 'dns-packet'

/** Record types that are asked for. */
export type DnsType = 'A' | 'AAAA' | 'CNAME' | 'NS' | 'SOA' | 'TXT'

/** What is asked. */
export interface DnsQuestion {
  /** In the form {@link dnsName} returns. */
  readonly name: string
  readonly type: DnsType
  readonly recursionDesired: boolean
}

/** One record of class IN. `name` and `target` are in the form of {@link dnsName}. */
export type DnsRecord =
  | { readonly type: 'A' | 'AAAA'; readonly name: string; readonly address: string }
  /** A target that is no host name (escaped bytes, the root) is `undefined`. */
  | { readonly type: 'CNAME' | 'NS'; readonly name: string; readonly target: string | undefined }
  | { readonly type: 'SOA'; readonly name: string }
  /** The strings of the record, joined. Bytes, one per character. */
  | { readonly type: 'TXT'; readonly name: string; readonly value: string }

/** What was answered. */
export interface DnsMessage {
  readonly id: number
  readonly response: boolean
  readonly authoritative: boolean
  /** There was more than fits into a datagram: `answers` and `authorities` are then empty. */
  readonly truncated: boolean
  /** See {@link rcodeName}. */
  readonly rcode: number
  /** `undefined` unless there is exactly one, of class IN and with a sound name. */
  readonly question: { readonly name: string; readonly type: string } | undefined
  readonly answers: readonly DnsRecord[]
  readonly authorities: readonly DnsRecord[]
}

/** Not a DNS message, or one that no honest server sends. */
export class MalformedDnsMessage extends Error {}

/** What is announced to fit into one datagram without being split on the way (the DNS flag day of 2020). */
export const udpPayloadSize = 1232

/** A challenge name has a few values, a zone a few servers. Reading takes time in proportion to this. */
const mostRecords = 1_000
const labelPattern = /^[A-Za-z0-9_-]{1,63}$/

/**
 * The normal form of a name: lower case, no final dot. `undefined` for what is no name of a host or a challenge. The root
 * is `''`.
 */
export function dnsName(text: string): string | undefined {
  const name = text.replace(/\.$/, '')
  if (name === '') return ''
  // Checked before the change of case: U+212A (Kelvin) becomes an ordinary k.
  if (name.length > 253 || !name.split('.').every((label) => labelPattern.test(label))) return undefined
  return name.toLowerCase()
}

/** The bytes of a question. With EDNS(0), unless the other side is too old for it. */
export function encodeQuestion(id: number, question: DnsQuestion, edns: boolean): Buffer {
  const { name, type, recursionDesired } = question
  return encode({
    type: 'query',
    id,
    flags: recursionDesired ? RECURSION_DESIRED : 0,
    questions: [{ name: name === '' ? '.' : name, type, class: 'IN' }],
    additionals: edns
      ? [
          {
            type: 'OPT',
            name: '.',
            udpPayloadSize,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
  })
}

/** Reads a message. @throws {@link MalformedDnsMessage} */
export function decodeMessage(bytes: Uint8Array): DnsMessage {
  if (bytes.length < 12) throw new MalformedDnsMessage('shorter than a header')
  if (bytes.length > 65_535) throw new MalformedDnsMessage('longer than 65,535 bytes')
  const message = Buffer.from(bytes)
  const flags = message.readUInt16BE(2)
  const truncated = (flags & 0x0200) !== 0
  // Nothing in the additional section is of use, and some servers cut a truncated message in the middle of a record.
  message.writeUInt16BE(0, 10)
  if (truncated) message.writeUInt32BE(0, 6)
  if (message.readUInt16BE(4) + message.readUInt16BE(6) + message.readUInt16BE(8) > mostRecords) {
    throw new MalformedDnsMessage(`more than ${String(mostRecords)} records`)
  }
  const packet = decodePacket(message)
  const [question, ...furtherQuestions] = packet.questions ?? []
  const questionName = dnsName(question?.name ?? '*')
  return {
    id: message.readUInt16BE(0),
    response: (flags & 0x8000) !== 0,
    authoritative: (flags & 0x0400) !== 0,
    truncated,
    rcode: flags & 0x000f,
    question:
      question?.class === 'IN' && furtherQuestions.length === 0 && questionName !== undefined
        ? { name: questionName, type: question.type }
        : undefined,
    answers: (packet.answers ?? []).flatMap(readRecord),
    authorities: (packet.authorities ?? []).flatMap(readRecord),
  }
}

/** `SERVFAIL` for 2, and so on. RFC 1035 section 4.1.1. */
export function rcodeName(rcode: number): string {
  return ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'][rcode] ?? `RCODE ${String(rcode)}`
}

function decodePacket(message: Buffer): DecodedPacket {
  let packet: DecodedPacket
  try {
    packet = decode(message)
  } catch (cause) {
    throw new MalformedDnsMessage('not a DNS message', { cause })
  }
  // The decoder reads beyond the end of a record that claims to be longer than the message.
  if (!(decode.bytes <= message.length)) throw new MalformedDnsMessage('a record goes beyond the end')
  return packet
}

function readRecord(record: Answer): readonly DnsRecord[] {
  const name = dnsName(record.name)
  // The top bit of the class has a meaning in multicast DNS only.
  if (name === undefined || record.type === 'OPT' || record.class !== 'IN' || record.flush === true) return []
  switch (record.type) {
    case 'A':
      return isIPv4(record.data) ? [{ type: 'A', name, address: record.data }] : []
    case 'AAAA':
      return isIPv6(record.data) ? [{ type: 'AAAA', name, address: record.data }] : []
    case 'CNAME':
    case 'NS':
      // To the root means "nowhere".
      return [{ type: record.type, name, target: dnsName(record.data) || undefined }]
    case 'SOA':
      return [{ type: 'SOA', name }]
    case 'TXT':
      return [{ type: 'TXT', name, value: joinStrings(record.data) }]
    default:
      return []
  }
}

function joinStrings(data: string | Buffer | readonly (string | Buffer)[]): string {
  const strings = Array.isArray(data) ? (data as readonly (string | Buffer)[]) : [data as string | Buffer]
  return strings.map((string) => Buffer.from(string as Buffer).toString('latin1')).join('')
}
