import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket as TcpSocket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/core/clock.js'
import { askServer, DnsFailure } from '../../../src/internal/dns-client.js'
import type { DnsMessage } from '../../../src/internal/dns-message.js'
import { systemDnsTransport } from '../../../src/internal/dns-transport.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { fakeDns, replyBytes, systemError, txt, type Behaviour, type FakeReply } from '../solvers/dns-world.js'

const name = '_acme-challenge.example.com'
const question = { name, type: 'TXT', recursionDesired: false } as const
const right: FakeReply = { answers: txt(name, 'right') }
const wrong: FakeReply = { answers: txt(name, 'wrong') }
const values = (message: DnsMessage): unknown => message.answers.map((record) => 'value' in record && record.value)

async function failure(work: Promise<unknown>): Promise<DnsFailure> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(DnsFailure)
  return error as DnsFailure
}

describe('askServer', () => {
  const server = { address: '192.0.2.1', port: 53 }

  function scene(behaviour: Behaviour) {
    const dns = fakeDns()
    dns.behave(server.address, behaviour)
    const clock = fakeClock()
    const controller = new AbortController()
    const context = operationContext({ clock, signal: controller.signal })
    const ask = async (): Promise<DnsMessage> => {
      let over = false
      const work = askServer(server, question, { transport: dns.transport, tryTimeoutMs: 1_000 }, context)
      const settled = work.finally(() => (over = true))
      settled.catch(() => undefined)
      while (!over) await clock.advance(100)
      return settled
    }
    return { dns, clock, controller, ask }
  }
  const protocols = ({ dns }: ReturnType<typeof scene>) => dns.queries.map(({ protocol }) => protocol)

  it.each<[string, FakeReply]>([
    ['another id', { ...wrong, idOffset: 1 }],
    ['another name', { ...wrong, questions: [{ name: 'x.example.com', type: 'TXT', class: 'IN' }] }],
    ['another type', { ...wrong, questions: [{ name, type: 'A', class: 'IN' }] }],
    ['another class', { ...wrong, questions: [{ name, type: 'TXT', class: 'CH' }] }],
    ['no question', { ...wrong, questions: [] }],
    ['two questions', { ...wrong, questions: Array.from({ length: 2 }, () => ({ name, type: 'TXT' as const })) }],
    ['a query', { ...wrong, response: false }],
    ['garbage', { raw: new Uint8Array(100) }],
    ['nothing', { raw: new Uint8Array(0) }],
  ])('does not believe a datagram with %s, and waits for the right one', async (_, spoofed) => {
    const { dns, ask } = scene(() => [spoofed, spoofed, right])
    expect(values(await ask())).toEqual(['right'])
    expect(dns.queries).toHaveLength(1)
    // Alone it is as good as silence.
    const alone = scene(({ protocol }) => (protocol === 'udp' ? spoofed : 'silent'))
    expect((await failure(alone.ask())).reason).toBe('unreachable')
    const overTcp = scene(({ protocol }) => (protocol === 'udp' ? 'silent' : spoofed))
    expect((await failure(overTcp.ask())).reason).toBe('unusable')
  })

  it('an answer with our id that cannot be read is told apart from silence', async () => {
    const { dns, clock } = scene(() => 'silent')
    const transport: typeof dns.transport = {
      ...dns.transport,
      udp: (to, message, accept, signal) => {
        const broken = replyBytes(message, right).subarray(0, -3)
        expect(accept(broken)).toBeUndefined()
        return dns.transport.udp(to, message, accept, signal)
      },
    }
    const work = askServer(server, question, { transport, tryTimeoutMs: 1_000 }, operationContext({ clock }))
    work.catch(() => undefined)
    await clock.advance(10_000)
    expect(await failure(work)).toMatchObject({ reason: 'unusable', message: 'what comes back is not a DNS message' })
  })

  it('answers in mixed case are taken', async () => {
    const { ask } = scene(() => ({ ...right, questions: [{ name: name.toUpperCase(), type: 'TXT', class: 'IN' }] }))
    expect(values(await ask())).toEqual(['right'])
  })

  it('silence: twice by UDP, once by TCP, then unreachable', async () => {
    const silent = scene(() => 'silent')
    const start = silent.clock.now()
    expect(await failure(silent.ask())).toMatchObject({
      reason: 'unreachable',
      message: 'no answer to 3 tries of 1000 ms',
    })
    expect(protocols(silent)).toEqual(['udp', 'udp', 'tcp'])
    expect(silent.clock.now() - start).toBe(3_000)
    expect(silent.clock.sleeping).toBe(0)
  })

  it('a lost datagram, and a network that lets only TCP through', async () => {
    let count = 0
    const lost = scene(() => ((count += 1) === 1 ? 'silent' : right))
    expect(values(await lost.ask())).toEqual(['right'])
    const onlyTcp = scene(({ protocol }) => (protocol === 'tcp' ? right : 'silent'))
    expect(values(await onlyTcp.ask())).toEqual(['right'])
  })

  it.each([
    ['ECONNREFUSED', 'nothing listens there (ECONNREFUSED)'],
    ['ENETUNREACH', 'this machine has no route to it (ENETUNREACH)'],
    ['EPERM', 'the system could not send to it (EPERM)'],
  ])('%s is not tried again', async (code, message) => {
    const refused = scene(() => systemError(code))
    expect(await failure(refused.ask())).toMatchObject({ reason: 'unreachable', message })
    expect(protocols(refused)).toEqual(['udp'])
  })

  it('what does not fit is asked for over TCP', async () => {
    const big = scene(({ protocol }) => (protocol === 'udp' ? { ...wrong, truncated: true } : right))
    expect(values(await big.ask())).toEqual(['right'])
    expect(protocols(big)).toEqual(['udp', 'tcp'])
  })

  it.each<[string, 'silent' | Error | FakeReply, readonly string[], RegExp]>([
    ['is refused', systemError('ECONNREFUSED'), ['udp', 'tcp'], /does not fit into a datagram/],
    ['is silent', 'silent', ['udp', 'tcp', 'udp', 'tcp', 'tcp'], /does not fit into a datagram/],
    ['is truncated, too', { truncated: true }, ['udp', 'tcp'], /truncated, also over TCP/],
  ])('truncated, and TCP %s: the server is there, and of no use', async (_, byTcp, asked, message) => {
    const broken = scene(({ protocol }) => (protocol === 'udp' ? { truncated: true } : byTcp))
    const error = await failure(broken.ask())
    expect(error).toMatchObject({ reason: 'unusable' })
    expect(error.message).toMatch(message)
    expect(protocols(broken)).toEqual(asked)
  })

  it.each([1, 4])('a server too old for EDNS (rcode %i) is asked without', async (rcode) => {
    const old = scene(({ edns }) => (edns ? { rcode, questions: rcode === 1 ? [] : [{ name, type: 'TXT' }] } : right))
    expect(values(await old.ask())).toEqual(['right'])
    expect(old.dns.queries.map(({ edns }) => edns)).toEqual([true, false])
    const hopeless = scene(() => ({ rcode }))
    expect(await hopeless.ask()).toMatchObject({ rcode })
    expect(hopeless.dns.queries).toHaveLength(2)
  })

  it('ids cannot be foreseen', async () => {
    const ids = new Set<number>()
    const { dns, clock } = scene(() => right)
    const transport: typeof dns.transport = {
      ...dns.transport,
      udp: (to, message, accept, signal) => {
        ids.add(Buffer.from(message).readUInt16BE(0))
        return dns.transport.udp(to, message, accept, signal)
      },
    }
    for (let count = 0; count < 50; count += 1) {
      await askServer(server, question, { transport, tryTimeoutMs: 1_000 }, operationContext({ clock }))
    }
    expect(ids.size).toBeGreaterThan(40)
  })
})

describe('systemDnsTransport', () => {
  const udpSockets: Socket[] = []
  const tcpServers: Server[] = []
  const tcpSockets: TcpSocket[] = []
  afterEach(() => {
    for (const socket of udpSockets.splice(0)) socket.close()
    for (const socket of tcpSockets.splice(0)) socket.destroy()
    for (const server of tcpServers.splice(0)) server.close()
  })

  async function udpServer(
    host: '127.0.0.1' | '::1',
    onQuery: (query: Buffer, from: RemoteInfo, socket: Socket) => void,
  ): Promise<{ address: string; port: number }> {
    const socket = createSocket(host === '::1' ? 'udp6' : 'udp4')
    udpSockets.push(socket)
    socket.on('message', (query, from) => onQuery(query, from, socket))
    socket.bind(0, host)
    await once(socket, 'listening')
    return { address: host, port: socket.address().port }
  }

  async function tcpServer(
    onQuery: (query: Buffer, socket: TcpSocket) => void,
  ): Promise<{ address: string; port: number }> {
    const server = createServer((socket) => {
      tcpSockets.push(socket)
      socket.on('error', () => undefined)
      socket.once('data', (query: Buffer) => onQuery(query, socket))
    }).listen(0, '127.0.0.1')
    tcpServers.push(server)
    await once(server, 'listening')
    return { address: '127.0.0.1', port: (server.address() as AddressInfo).port }
  }

  const attempts = { transport: systemDnsTransport, tryTimeoutMs: 30_000 }
  const context = (signal = new AbortController().signal) => operationContext({ clock: systemClock, signal })
  const framed = (message: Buffer): Buffer => {
    const length = Buffer.alloc(2)
    length.writeUInt16BE(message.length)
    return Buffer.concat([length, message])
  }

  it.each(['127.0.0.1', '::1'] as const)('asks %s from a port of its own each time', async (host) => {
    const ports = new Set<number>()
    const server = await udpServer(host, (query, from, socket) => {
      ports.add(from.port)
      socket.send(replyBytes(query, right), from.port, from.address)
    })
    for (let count = 0; count < 5; count += 1) {
      expect(values(await askServer(server, question, attempts, context()))).toEqual(['right'])
    }
    expect(ports.size).toBeGreaterThan(1)
  })

  it('does not even see what comes from another port', async () => {
    const intruder = createSocket('udp4')
    udpSockets.push(intruder)
    const server = await udpServer('127.0.0.1', (query, from, socket) => {
      const spoofed = replyBytes(query, wrong)
      intruder.send(spoofed, from.port, '127.0.0.1', () => {
        socket.send(replyBytes(query, right), from.port, from.address)
      })
    })
    const seen: Uint8Array[] = []
    const transport: typeof systemDnsTransport = {
      ...systemDnsTransport,
      udp: (to, message, accept, signal) =>
        systemDnsTransport.udp(
          to,
          message,
          (datagram) => {
            seen.push(datagram)
            return accept(datagram)
          },
          signal,
        ),
    }
    expect(values(await askServer(server, question, { ...attempts, transport }, context()))).toEqual(['right'])
    expect(seen).toHaveLength(1)
  })

  it('takes a TCP answer in pieces, with more behind it', async () => {
    const server = await tcpServer((query, socket) => {
      expect(query.readUInt16BE(0)).toBe(query.length - 2)
      const answer = Buffer.concat([framed(replyBytes(query.subarray(2), right)), Buffer.from('more')])
      let offset = 0
      const next = (): void => {
        if (offset >= answer.length) return
        socket.write(answer.subarray(offset, (offset += 7)), () => setImmediate(next))
      }
      next()
    })
    const signal = new AbortController().signal
    const query = Buffer.from('12340000000100000000000003636f6d0000100001', 'hex')
    const answer = await systemDnsTransport.tcp(server, query, signal)
    expect(Buffer.from(answer)).toEqual(replyBytes(query, right))
  })

  it.each<[string, (socket: TcpSocket) => void]>([
    ['at once', (socket) => socket.end()],
    ['within the length', (socket) => socket.end(Buffer.from([0]))],
    ['within the answer', (socket) => socket.end(Buffer.from([0, 20, 1, 2, 3]))],
    ['with a reset', (socket) => socket.resetAndDestroy()],
  ])('a TCP connection that ends %s is an error', async (_, end) => {
    const server = await tcpServer((_query, socket) => end(socket))
    await expect(systemDnsTransport.tcp(server, Buffer.alloc(12), new AbortController().signal)).rejects.toMatchObject({
      code: 'ECONNRESET',
    })
  })

  it('nobody there is noticed at once, by UDP and TCP', async () => {
    const { address, port } = await udpServer('127.0.0.1', () => undefined)
    udpSockets.splice(0).forEach((socket) => socket.close())
    expect(await failure(askServer({ address, port }, question, attempts, context()))).toMatchObject({
      reason: 'unreachable',
      message: 'nothing listens there (ECONNREFUSED)',
    })
    await expect(
      systemDnsTransport.tcp({ address, port }, Buffer.alloc(12), new AbortController().signal),
    ).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  })

  it('an address of no family, or none to send to, is unreachable', async () => {
    for (const address of ['255.255.255.255', 'fe80::1%nowhere']) {
      const short = { ...attempts, tryTimeoutMs: 200 }
      expect((await failure(askServer({ address, port: 53 }, question, short, context()))).reason).toBe('unreachable')
    }
  })

  it('an abort closes the socket and passes on its reason, at any moment', async () => {
    const reason = new Error('stop')
    const silent = await udpServer('127.0.0.1', () => controller.abort(reason))
    let controller = new AbortController()
    await expect(askServer(silent, question, attempts, context(controller.signal))).rejects.toBe(reason)
    const mute = await tcpServer(() => controller.abort(reason))
    controller = new AbortController()
    await expect(systemDnsTransport.tcp(mute, Buffer.alloc(12), controller.signal)).rejects.toBe(reason)
    for (const send of [
      (signal: AbortSignal) => systemDnsTransport.udp(silent, Buffer.alloc(12), () => true, signal),
      (signal: AbortSignal) => systemDnsTransport.tcp(mute, Buffer.alloc(12), signal),
    ]) {
      await expect(send(AbortSignal.abort(reason))).rejects.toBe(reason)
      const early = new AbortController()
      const work = send(early.signal)
      early.abort(reason)
      await expect(work).rejects.toBe(reason)
    }
  })

  it('leaves no socket behind, however a question ends', async () => {
    const bind = async (port: number): Promise<void> => {
      const socket = createSocket('udp4')
      udpSockets.push(socket)
      socket.bind(port, '127.0.0.1')
      await once(socket, 'listening')
    }
    const reason = new Error('stop')
    const controller = new AbortController()
    const ends: Readonly<Record<string, (query: Buffer, from: RemoteInfo, socket: Socket) => void>> = {
      answered: (query, from, socket) => socket.send(replyBytes(query, right), from.port, from.address),
      aborted: () => controller.abort(reason),
      thrown: (_query, from, socket) => socket.send('throw', from.port, from.address),
    }
    for (const end of Object.values(ends)) {
      let port = 0
      const server = await udpServer('127.0.0.1', (query, from, socket) => {
        port = from.port
        end(query, from, socket)
      })
      const accept = (datagram: Uint8Array): boolean => {
        if (Buffer.from(datagram).toString() === 'throw') throw reason
        // Still there, still ours.
        return true
      }
      const query = Buffer.from('12340000000100000000000003636f6d0000100001', 'hex')
      await systemDnsTransport.udp(server, query, accept, controller.signal).catch((error: unknown) => {
        expect(error).toBe(reason)
      })
      await new Promise((resolve) => setImmediate(resolve))
      // It would be in use.
      await bind(port)
    }
  })
})
