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

/** Why there is no answer. `unreachable`: silence, or nobody there. `malformed`: something came, but no answer. */
export class DnsFailure extends Error {
  readonly reason: 'unreachable' | 'malformed'
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
  let edns = true
  let unreadable = 0
  for (let attempt = 1; ; attempt += 1) {
    const id = randomInt(0x10000)
    const bytes = encodeQuestion(id, question, edns)
    const lost = new Error(`no answer within ${String(tryTimeoutMs)} ms`)
    const limited = <T>(run: (inner: AbortSignal) => Promise<T>): Promise<T> =>
      withDeadline({ clock, signal, ms: tryTimeoutMs, onTimeout: () => lost }, run)
    const byUdp = (inner: AbortSignal): Promise<DnsMessage> =>
      transport.udp(
        server,
        bytes,
        (datagram) => {
          const read = readAnswer(datagram, id, question)
          if (read === 'malformed') unreadable += 1
          return typeof read === 'string' ? undefined : read
        },
        inner,
      )
    const byTcp = async (inner: AbortSignal): Promise<DnsMessage> => {
      const read = readAnswer(await transport.tcp(server, bytes, inner), id, question)
      if (typeof read === 'string') throw new DnsFailure('malformed', 'what came back over TCP is not an answer')
      return read
    }
    const last = attempt > udpTries
    try {
      let answer = await limited(last ? byTcp : byUdp)
      if (answer.truncated && !last) answer = await limited(byTcp)
      if (answer.truncated) throw new DnsFailure('malformed', 'the answer is truncated, also over TCP')
      if (!edns || !ednsRefusals.includes(answer.rcode)) return answer
      edns = false
      attempt -= 1
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof DnsFailure) throw error
      if (error === lost && !last) continue
      // After silence, a refused connection says only that there is no TCP either.
      if (unreadable > 0) throw new DnsFailure('malformed', 'what came back is not a DNS message', error)
      throw new DnsFailure('unreachable', unreachableText(error, attempt, tryTimeoutMs), error)
    }
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
