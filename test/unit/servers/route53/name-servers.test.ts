import { ChangeResourceRecordSetsCommand, GetChangeCommand, type Route53Client } from '@aws-sdk/client-route-53'
import { decode, encode, type DecodedPacket, type Packet } from 'dns-packet'
import { createSocket } from 'node:dgram'
import { Resolver } from 'node:dns/promises'
import { once } from 'node:events'
import { connect } from 'node:net'
import { fakeClock } from 'evercert/testing'
import { describe, expect, test } from 'vitest'
import type { NameServer, Route53Emulator } from '../../../servers/route53/index.js'
import { start } from './start.js'

const name = '_acme-challenge.example.com'

/** What Node's own DNS client gets from one server: the values of TXT, or the code of the failure. */
async function txt({ dnsPort }: Route53Emulator, { address }: NameServer, host = name): Promise<string> {
  const resolver = new Resolver({ tries: 1, timeout: 10_000 })
  resolver.setServers([address.includes(':') ? `[${address}]:${dnsPort}` : `${address}:${dnsPort}`])
  return resolver.resolveTxt(host).then(
    (values) => values.map((strings) => strings.join('')).join(),
    (error: unknown) => (error as { code: string }).code,
  )
}

const txtEverywhere = (route53: Route53Emulator): Promise<string[]> =>
  Promise.all([...route53.nameServers, route53.resolver].map((server) => txt(route53, server)))

async function upsert(client: Route53Client, value: string): Promise<string> {
  const { ChangeInfo } = await client.send(
    new ChangeResourceRecordSetsCommand({
      HostedZoneId: 'Z1',
      ChangeBatch: {
        Changes: [
          {
            Action: 'UPSERT',
            ResourceRecordSet: { Name: name, Type: 'TXT', TTL: 10, ResourceRecords: [{ Value: `"${value}"` }] },
          },
        ],
      },
    }),
  )
  return ChangeInfo!.Id!
}

async function overUdp({ dnsPort }: Route53Emulator, packet: Packet): Promise<DecodedPacket> {
  const socket = createSocket('udp4')
  socket.send(encode({ type: 'query', id: 1, ...packet }), dnsPort, '127.0.0.2')
  const [reply] = (await once(socket, 'message')) as [Buffer]
  socket.close()
  return decode(reply)
}

/** In two pieces, as TCP may deliver it. */
async function overTcp({ dnsPort }: Route53Emulator, packet: Packet): Promise<DecodedPacket> {
  const socket = connect(dnsPort, '127.0.0.2')
  await once(socket, 'connect')
  socket.setNoDelay(true)
  const query = encode({ type: 'query', id: 1, ...packet })
  const framed = Buffer.concat([Buffer.from([query.length >> 8, query.length & 255]), query])
  socket.write(framed.subarray(0, 5))
  socket.write(framed.subarray(5))
  let reply = Buffer.alloc(0)
  while (reply.length < 2 || reply.length < 2 + reply.readUInt16BE(0))
    reply = Buffer.concat([reply, ((await once(socket, 'data')) as [Buffer])[0]])
  socket.destroy()
  return decode(reply.subarray(2))
}

describe('a change', () => {
  test('is seen in DNS once it is INSYNC, at every server', async () => {
    const { client, route53 } = await start({ pace: { pendingPolls: 1 } })
    const id = await upsert(client, 'a')
    const servers = route53.nameServers.length + 1
    const poll = async (): Promise<unknown> => client.send(new GetChangeCommand({ Id: id }))
    await poll()
    expect(await txtEverywhere(route53)).toEqual(Array.from({ length: servers }, () => 'ENOTFOUND'))
    await poll()
    expect(await txtEverywhere(route53)).toEqual(Array.from({ length: servers }, () => 'a'))
  })

  test('that was planted is seen at once', async () => {
    const { route53 } = await start({ pace: 'manual' })
    const record = { name, type: 'TXT', ttl: 60, values: ['"planted"'] }
    route53.put('Z1', record)
    expect(new Set(await txtEverywhere(route53))).toEqual(new Set(['planted']))
    route53.remove('Z1', record)
    expect(new Set(await txtEverywhere(route53))).toEqual(new Set(['ENOTFOUND']))
  })

  test('arrives later at a server that lags', async () => {
    const clock = fakeClock()
    const { client, route53 } = await start({ clock, pace: { delayMs: 1_000 } })
    const [first, second] = route53.nameServers
    second!.lagMs = 5_000
    await upsert(client, 'a')
    await clock.advance(1_000)
    expect([await txt(route53, first!), await txt(route53, second!)]).toEqual(['a', 'ENOTFOUND'])
    await clock.advance(4_999)
    expect(await txt(route53, second!)).toBe('ENOTFOUND')
    await clock.advance(1)
    expect(await txt(route53, second!)).toBe('a')
  })

  test('does not arrive at a server that is frozen', async () => {
    const { client, route53 } = await start({ pace: { pendingPolls: 0 } })
    await upsert(client, 'old')
    route53.resolver.freeze()
    await upsert(client, 'new')
    expect([await txt(route53, route53.nameServers[0]!), await txt(route53, route53.resolver)]).toEqual(['new', 'old'])
    route53.resolver.thaw()
    expect(await txt(route53, route53.resolver)).toBe('new')
  })
})

describe('a server that is not well', () => {
  const plant = (route53: Route53Emulator): void => route53.put('Z1', { name, type: 'TXT', ttl: 60, values: ['"a"'] })

  test.each([
    ['refusing', 'EREFUSED'],
    ['failing', 'ESERVFAIL'],
    ['truncating', 'a'],
  ] as const)('%s', async (mode, outcome) => {
    const { route53 } = await start()
    plant(route53)
    const [server, other] = route53.nameServers
    server!.mode = mode
    expect(await txt(route53, server!)).toBe(outcome)
    expect(await txt(route53, other!)).toBe('a')
  })

  test('silent: the question arrives, and no answer goes back', async () => {
    const { route53 } = await start()
    plant(route53)
    const [server] = route53.nameServers
    server!.mode = 'silent'
    const resolver = new Resolver()
    resolver.setServers([`${server!.address}:${route53.dnsPort}`])
    const pending = resolver.resolveTxt(name)
    const failed = expect(pending).rejects.toMatchObject({ code: 'ECANCELLED' })
    await expect.poll(() => server!.queries.length).toBe(1)
    resolver.cancel()
    await failed
  })
})

describe('zones', () => {
  const planted = (value: string) => [{ name, type: 'TXT', ttl: 60, values: [`"${value}"`] }]

  test('a private zone is seen by a resolver inside the VPC only', async () => {
    const { route53 } = await start({
      zones: [
        { name: 'example.com', recordSets: planted('public') },
        { name: 'example.com', private: true, recordSets: planted('private') },
      ],
    })
    expect(new Set(await txtEverywhere(route53))).toEqual(new Set(['public']))
    route53.resolver.seesPrivateZones = true
    expect(await txt(route53, route53.resolver)).toBe('private')
    expect(await txt(route53, route53.nameServers[0]!)).toBe('public')
  })

  test('of two public zones of one name the first is delegated, unless told otherwise', async () => {
    const { route53 } = await start({
      zones: [
        { name: 'example.com', recordSets: planted('first') },
        { name: 'example.com', recordSets: planted('second') },
      ],
    })
    expect(new Set(await txtEverywhere(route53))).toEqual(new Set(['first']))
    const zone = route53.addZone({ name: 'other.test', delegated: false })
    expect(zone.delegated).toBe(false)
    expect(await txt(route53, route53.nameServers[0]!, 'other.test')).toBe('EREFUSED')
  })
})

describe('the resolver', () => {
  test('leads to the name servers of a zone', async () => {
    const { route53 } = await start()
    const resolver = new Resolver()
    resolver.setServers([route53.resolverEndpoint])
    expect(await resolver.resolveSoa('example.com')).toMatchObject({ nsname: 'ns-1.awsdns.test', serial: 1 })
    const names = await resolver.resolveNs('example.com')
    const addresses = await Promise.all(
      names.map((host) => resolver.resolve4(host).catch(() => resolver.resolve6(host))),
    )
    expect(addresses.flat()).toEqual(route53.nameServers.map(({ address }) => address))
  })

  test('is asked, and the questions are kept', async () => {
    const { route53 } = await start({ defaultAddresses: { A: '127.0.0.1' } })
    const resolver = new Resolver()
    resolver.setServers([route53.resolverEndpoint])
    expect(await resolver.resolve4('anything.test')).toEqual(['127.0.0.1'])
    expect(route53.resolver.queries).toMatchObject([{ name: 'anything.test', type: 'A', transport: 'udp' }])
    route53.clearRequests()
    expect(route53.resolver.queries).toEqual([])
  })
})

describe('packets', () => {
  const questions = [{ type: 'TXT' as const, name: 'big.example.com' }]
  const flagsOf = ({ flag_aa, flag_tc, flag_rd, flag_ra }: DecodedPacket) => ({ flag_aa, flag_tc, flag_rd, flag_ra })
  const startBig = async (count: number) => {
    const { route53 } = await start()
    const values = Array.from({ length: count }, (_, index) => `"${String(index).padEnd(200, 'x')}"`)
    route53.put('Z1', { name: 'big.example.com', type: 'TXT', ttl: 60, values })
    return route53
  }

  test('more than 512 octets are truncated over UDP and whole over TCP', async () => {
    const route53 = await startBig(4)
    const truncated = await overUdp(route53, { questions })
    expect(truncated).toMatchObject({ flag_tc: true, flag_aa: true, answers: [], additionals: [] })
    const whole = await overTcp(route53, { questions })
    expect(whole).toMatchObject({ flag_tc: false, flag_aa: true })
    expect(whole.answers).toHaveLength(4)
  })

  test('EDNS makes room, and is answered', async () => {
    const route53 = await startBig(4)
    const opt = {
      type: 'OPT',
      name: '.',
      udpPayloadSize: 1_232,
      extendedRcode: 0,
      ednsVersion: 0,
      flags: 0,
      flag_do: false,
      options: [],
    } as const
    const reply = await overUdp(route53, { questions, additionals: [{ ...opt, options: [] }] })
    expect(reply.answers).toHaveLength(4)
    expect(reply.additionals).toMatchObject([{ type: 'OPT', udpPayloadSize: 4_096 }])
  })

  test('a name server is authoritative and not recursive; RD is repeated', async () => {
    const route53 = await startBig(1)
    const reply = await overUdp(route53, { questions, flags: 1 << 8 })
    expect(flagsOf(reply)).toEqual({ flag_aa: true, flag_tc: false, flag_rd: true, flag_ra: false })
    expect(reply.questions).toMatchObject(questions)
  })

  test('what is no query is passed over, and the next one answered', async () => {
    const route53 = await startBig(1)
    const socket = createSocket('udp4')
    await new Promise((sent) => socket.send(Buffer.from('nonsense'), route53.dnsPort, '127.0.0.2', sent))
    socket.close()
    expect((await overUdp(route53, { questions })).answers).toHaveLength(1)
  })

  test('another class and another opcode are turned down', async () => {
    const route53 = await startBig(1)
    const chaos = await overUdp(route53, { questions: [{ ...questions[0]!, class: 'CH' }] })
    expect(chaos).toMatchObject({ rcode: 'REFUSED', answers: [] })
    const update = await overUdp(route53, { questions, flags: 5 << 11 })
    expect(update).toMatchObject({ rcode: 'NOTIMP', answers: [] })
  })
})
