/**
 * How DNS messages travel: one datagram, or one connection, for each question.
 *
 * @module
 */
import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'

/** A DNS server. */
export interface DnsServerAddress {
  /** An IPv4 or IPv6 address; a zone index (`fe80::1%eth0`) is allowed. */
  readonly address: string
  readonly port: number
}

/** Carries DNS messages. Both methods reject with `signal.reason` when aborted, and with the error of the system. */
export interface DnsTransport {
  /**
   * Sends a datagram from a port that nobody can foresee. Every datagram that comes back from exactly this address and
   * port goes to `accept`, until that returns something else than `undefined`.
   */
  udp<Accepted>(
    server: DnsServerAddress,
    message: Uint8Array,
    accept: (datagram: Uint8Array) => Accepted | undefined,
    signal: AbortSignal,
  ): Promise<Accepted>
  /** Sends a message over a connection of its own, and resolves with the first message that comes back. */
  tcp(server: DnsServerAddress, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array>
}

/** Real sockets. They are closed in any case, and do not keep the process alive. */
export const systemDnsTransport: DnsTransport = { udp, tcp }

function udp<Accepted>(
  { address, port }: DnsServerAddress,
  message: Uint8Array,
  accept: (datagram: Uint8Array) => Accepted | undefined,
  signal: AbortSignal,
): Promise<Accepted> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason)
      return
    }
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4').unref()
    let open = true
    const close = (): void => {
      if (open) socket.close()
      open = false
      signal.removeEventListener('abort', onAbort)
    }
    const fail = (error: unknown): void => {
      close()
      reject(error)
    }
    const onAbort = (): void => {
      fail(signal.reason)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.on('error', fail)
    socket.on('message', (datagram) => {
      try {
        const accepted = open ? accept(datagram) : undefined
        if (accepted === undefined) return
        close()
        resolve(accepted)
      } catch (error) {
        fail(error)
      }
    })
    // Connected: the system drops what comes from another address or port, and reports what ICMP says.
    socket.connect(port, address, (error?: Error) => {
      if (error !== undefined) fail(error)
      else if (open)
        socket.send(message, (failure) => {
          if (failure !== null) fail(failure)
        })
    })
  })
}

function tcp({ address, port }: DnsServerAddress, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason)
      return
    }
    const socket = connect({ host: address, port }).unref()
    let received: Buffer = Buffer.alloc(0)
    const onAbort = (): void => {
      socket.destroy()
      reject(signal.reason)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      const length = received.length < 2 ? Number.POSITIVE_INFINITY : received.readUInt16BE(0)
      if (received.length < 2 + length) return
      resolve(received.subarray(2, 2 + length))
      socket.destroy()
    })
    socket.on('error', reject)
    socket.on('close', () => {
      signal.removeEventListener('abort', onAbort)
      // Has no effect after any other end.
      reject(Object.assign(new Error(`${address} closed the connection before the answer`), { code: 'ECONNRESET' }))
    })
    const frame = Buffer.alloc(2 + message.length)
    frame.writeUInt16BE(message.length, 0)
    frame.set(message, 2)
    socket.write(frame)
  })
}
