/**
 * Asks one DNS server one question: UDP, again, then TCP.
 *
 * @module
 */
import { randomInt } from 'node:crypto'
import type { OperationContext } from '../core/context.js'
import { errorCode } from './atomic-file.js'
import { withDeadline } from './deadline.js'
import {
  decodeMessage,
  encodeQuestion,
  MalformedDnsMessage,
  rcodeName,
  type DnsMessage,
  type DnsQuestion,
} from './dns-message.js'
import type { DnsServerAddress, DnsTransport } from './dns-transport.js'

/** Why there is no answer. `unreachable`: silence, or nobody there. `unusable`: something came, but no answer. */
export class DnsFailure extends Error {
  readonly reason: 'unreachable' | 'unusable'
  constructor(reason: DnsFailure['reason'], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.reason = reason
  }
}

/** Parts of {@link askServer}. */
export interface DnsAttempts {
  readonly transport: DnsTransport
  /** One try, in milliseconds. */
  readonly tryTimeoutMs: number
}

/** Lost datagrams are common, two in a row are not. */
const udpTries = 2
/** FORMERR and NOTIMP: what a server without EDNS says. RFC 6891 section 7. */
const ednsRefusals = [1, 4]

/**
 * Resolves with the answer of this server, whatever it says.
 *
 * A datagram with another id, another question, or one that cannot be read is somebody else's, and is not believed. What
 * does not fit into a datagram is asked for over TCP, and so is what nobody answered by UDP: some networks let only one of
 * them through.
 *
 * @throws {@link DnsFailure}, or the reason of `signal`.
 */
export async function askServer(
  server: DnsServerAddress,
  question: DnsQuestion,
  { transport, tryTimeoutMs }: DnsAttempts,
  { clock, signal }: Pick<OperationContext, 'clock' | 'signal'>,
): Promise<DnsMessage> {
  const late = new Error(`no answer within ${String(tryTimeoutMs)} ms`)
  let edns = true
  /** What came, and was of no use. */
  let found: string | undefined

  for (let attempt = 1; ; attempt += 1) {
    const last = attempt > udpTries
    try {
      return await once(last ? byTcp : byUdp)
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof DnsFailure) throw error
      if (error === late && !last) continue
      if (found !== undefined) throw new DnsFailure('unusable', found, error)
      throw new DnsFailure('unreachable', unreachableText(error, attempt, tryTimeoutMs), error)
    }
  }

  async function once(send: (id: number, inner: AbortSignal) => Promise<DnsMessage>): Promise<DnsMessage> {
    let answer = await limited(send)
    if (answer.truncated && send === byUdp) {
      found = 'its answer does not fit into a datagram, and it cannot be asked over TCP'
      answer = await limited(byTcp)
    }
    if (answer.truncated) throw new DnsFailure('unusable', 'its answer is truncated, also over TCP')
    if (!edns || !ednsRefusals.includes(answer.rcode)) return answer
    edns = false
    return once(send)
  }

  function limited(send: (id: number, inner: AbortSignal) => Promise<DnsMessage>): Promise<DnsMessage> {
    const id = randomInt(0x10000)
    return withDeadline({ clock, signal, ms: tryTimeoutMs, onTimeout: () => late }, (inner) => send(id, inner))
  }

  function byUdp(id: number, inner: AbortSignal): Promise<DnsMessage> {
    const accept = (datagram: Uint8Array): DnsMessage | undefined => {
      const read = readAnswer(datagram, id, question)
      if (read === 'malformed') found = 'what comes back is not a DNS message'
      return typeof read === 'string' ? undefined : read
    }
    return transport.udp(server, encodeQuestion(id, question, edns), accept, inner)
  }

  async function byTcp(id: number, inner: AbortSignal): Promise<DnsMessage> {
    const read = readAnswer(await transport.tcp(server, encodeQuestion(id, question, edns), inner), id, question)
    if (typeof read === 'string') throw new DnsFailure('unusable', 'what comes back over TCP is not an answer')
    return read
  }
}

function readAnswer(bytes: Uint8Array, id: number, question: DnsQuestion): DnsMessage | 'foreign' | 'malformed' {
  // Without our id it is not an answer to us, so that it does not matter whether it can be read.
  if (bytes.length < 2 || bytes[0] !== id >> 8 || bytes[1] !== (id & 0xff)) return 'foreign'
  let message: DnsMessage
  try {
    message = decodeMessage(bytes)
  } catch (error) {
    if (error instanceof MalformedDnsMessage) return 'malformed'
    throw error
  }
  if (!message.response) return 'foreign'
  const asked = message.question
  if (asked?.name === question.name && asked.type === question.type) return message
  // A server that could not read the question has none to repeat.
  return asked === undefined && rcodeName(message.rcode) === 'FORMERR' ? message : 'foreign'
}

function unreachableText(error: unknown, attempts: number, tryTimeoutMs: number): string {
  const code = errorCode(error)
  if (code === undefined || attempts > 1) return `no answer to ${String(attempts)} tries of ${String(tryTimeoutMs)} ms`
  if (code === 'ECONNREFUSED') return 'nothing listens there (ECONNREFUSED)'
  if (['ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL', 'EAFNOSUPPORT', 'EINVAL'].includes(code)) {
    return `this machine has no route to it (${code})`
  }
  return `the system could not send to it (${code})`
}
