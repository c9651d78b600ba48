/**
 * DNS over UDP and TCP on one address: packets in, packets out.
 */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, isIPv6, type Socket } from 'node:net'
import { decode, encode, type DecodedPacket, type Packet } from 'dns-packet'
import type { DnsQuestion, DnsReply } from './dns-answers.js'

export type Transport = 'udp' | 'tcp'

/** `'silence'` is no reply, `'truncated'` a reply without content that sends the client to TCP. */
export type Responder = (question: DnsQuestion, transport: Transport) => DnsReply | 'silence' | 'truncated'

export interface DnsSocket {
  close(): Promise<void>
}

const flag = { authoritative: 1 << 10, truncated: 1 << 9, recursionDesired: 1 << 8, recursionAvailable: 1 << 7 }
const rcodes = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 }
const largestDatagram = 4_096

export async function openDnsSocket(options: {
  readonly address: string
  readonly port: number
  /** Whether the replies say so. */
  readonly recursive: boolean
  readonly respond: Responder
}): Promise<DnsSocket> {
  const { address, port, recursive, respond } = options

  const replyTo = (query: Buffer, transport: Transport): Buffer | undefined => {
    const packet = decoded(query)
    const asked = packet?.questions?.[0]
    if (packet === undefined || asked === undefined || packet.type === 'response') return undefined
    const edns = packet.additionals?.find((record) => record.type === 'OPT')
    const base: Packet = {
      id: packet.id,
      type: 'response',
      questions: [asked],
      additionals: edns === undefined ? [] : [{ ...edns, udpPayloadSize: largestDatagram, options: [] }],
    }
    const flags = ((packet.flags ?? 0) & flag.recursionDesired) | (recursive ? flag.recursionAvailable : 0)
    if (((packet.flags ?? 0) >> 11) % 16 !== 0) return encode({ ...base, flags: flags | rcodes.NOTIMP })
    if (asked.class !== undefined && asked.class !== 'IN') return encode({ ...base, flags: flags | rcodes.REFUSED })

    const reply = respond({ name: asked.name, type: asked.type }, transport)
    if (reply === 'silence') return undefined
    if (reply === 'truncated') return encode({ ...base, flags: flags | flag.truncated })
    const { rcode, authoritative, answers, authorities } = reply
    const full = { ...base, flags: flags | rcodes[rcode] | (authoritative ? flag.authoritative : 0) }
    const encoded = encode({ ...full, answers: [...answers], authorities: [...authorities] })
    const limit = Math.min(largestDatagram, Math.max(512, edns?.udpPayloadSize ?? 512))
    if (transport === 'tcp' || encoded.length <= limit) return encoded
    return encode({ ...full, flags: full.flags | flag.truncated })
  }

  const datagrams = await bindDatagrams(address, port)
  datagrams.on('message', (query, { port: replyPort, address: replyAddress }) => {
    const reply = replyTo(query, 'udp')
    if (reply !== undefined) datagrams.send(reply, replyPort, replyAddress)
  })

  const connections = new Set<Socket>()
  const server = createServer((socket) => {
    connections.add(socket)
    socket.on('close', () => connections.delete(socket))
    socket.on('error', () => socket.destroy())
    let received = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0)
        const reply = replyTo(received.subarray(2, end), 'tcp')
        received = received.subarray(end)
        if (reply === undefined) continue
        const length = Buffer.alloc(2)
        length.writeUInt16BE(reply.length)
        socket.write(Buffer.concat([length, reply]))
      }
    })
  })
  try {
    server.listen(port, address)
    await once(server, 'listening')
  } catch (error) {
    datagrams.close()
    throw error
  }

  return {
    async close() {
      datagrams.close()
      for (const socket of connections) socket.destroy()
      await once(server.close(), 'close')
    },
  }
}

async function bindDatagrams(address: string, port: number): Promise<DatagramSocket> {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4')
  socket.bind(port, address)
  try {
    await once(socket, 'listening')
  } catch (error) {
    socket.close()
    throw error
  }
  // A client that has gone away is not an error.
  socket.on('error', () => undefined)
  return socket
}

function decoded(query: Buffer): DecodedPacket | undefined {
  try {
    return decode(query)
  } catch {
    return undefined
  }
}
