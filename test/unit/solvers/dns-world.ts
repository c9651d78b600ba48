/**
 * A DNS of its own: zones, name servers with their own idea of the records, a resolver, and anything that can go wrong.
 * Messages travel as bytes, so that the client under test reads and writes real ones.
 */
import { decode, encode, type Answer, type Question } from 'dns-packet'
import type { DnsTransport } from '../../../src/internal/dns-transport.js'

export const resolverAddress = '192.0.2.53'

export interface FakeQuery {
  readonly server: string
  readonly port: number
  readonly protocol: 'udp' | 'tcp'
  readonly name: string
  readonly type: string
  readonly recursionDesired: boolean
  readonly edns: boolean
}

export interface FakeReply {
  /** @defaultValue 0 */
  readonly rcode?: number
  /** @defaultValue true */
  readonly authoritative?: boolean
  readonly truncated?: boolean
  readonly answers?: readonly Answer[]
  readonly authorities?: readonly Answer[]
  /** @defaultValue that of the query */
  readonly questions?: readonly Question[]
  /** Added to the id of the query. */
  readonly idOffset?: number
  /** @defaultValue true */
  readonly response?: boolean
  /** Sent as it is, behind the id where that is wanted. */
  readonly raw?: Uint8Array
}

/** What a server does with a query. An error is one of the system: nobody there, no route. */
export type Behaviour = (query: FakeQuery) => 'silent' | Error | FakeReply | readonly FakeReply[]

export const systemError = (code: string): Error => Object.assign(new Error(code), { code })

/** The bytes of a reply to the bytes of a query. */
export function replyBytes(query: Uint8Array, reply: FakeReply): Buffer {
  const { id = 0, questions = [] } = decode(Buffer.from(query))
  const flags =
    ((reply.authoritative ?? true) ? 0x0400 : 0) | (reply.truncated === true ? 0x0200 : 0) | (reply.rcode ?? 0)
  if (reply.raw !== undefined) return Buffer.from(reply.raw)
  return encode({
    type: (reply.response ?? true) ? 'response' : 'query',
    id: (id + (reply.idOffset ?? 0)) & 0xffff,
    flags,
    questions: [...(reply.questions ?? questions)],
    answers: [...(reply.answers ?? [])],
    authorities: [...(reply.authorities ?? [])],
  })
}

export function fakeDns() {
  const zones = new Map<string, Readonly<Record<string, readonly string[]>>>()
  /** Server address, or `*` for all, then name. */
  const records = new Map<string, Map<string, readonly Answer[]>>()
  const behaviours = new Map<string, Behaviour>()
  const queries: FakeQuery[] = []
  let running = 0
  let mostRunning = 0

  const enclosingZone = (name: string): string | undefined =>
    [...zones.keys()]
      .filter((zone) => name === zone || name.endsWith(`.${zone}`))
      .sort((one, other) => other.length - one.length)[0]
  const recordsAt = (server: string, name: string): readonly Answer[] =>
    records.get(server)?.get(name) ?? records.get('*')?.get(name) ?? []
  const soa = (name: string): Answer => ({ type: 'SOA', name, data: { mname: `ns.${name}`, rname: `mail.${name}` } })

  const resolve: Behaviour = ({ name, type }) => {
    const aliases = recordsAt('*', name).filter((record) => record.type === 'CNAME')
    const end = aliases[0]?.type === 'CNAME' ? aliases[0].data : name
    const zone = enclosingZone(end)
    const common = { authoritative: false, ...(zone === undefined ? { rcode: 3 } : {}) }
    if (type === 'SOA') {
      const found = zone === undefined ? [] : [soa(zone)]
      return end === zone
        ? { ...common, answers: [...aliases, ...found] }
        : { ...common, answers: aliases, authorities: found }
    }
    if (type === 'CNAME') return { ...common, answers: aliases }
    if (type === 'NS') {
      const names = zone === name ? Object.keys(zones.get(name) ?? {}) : []
      return { ...common, answers: names.map((data) => ({ type: 'NS', name, data })) }
    }
    const addresses = [...zones.values()].flatMap((nameservers) => nameservers[name] ?? [])
    return {
      ...common,
      answers: [...new Set(addresses)].flatMap((data) =>
        data.includes(':') === (type === 'AAAA') ? { type: type as 'A', name, data } : [],
      ),
    }
  }
  const answerAsAuthority: Behaviour = ({ server, name }) => {
    const zone = enclosingZone(name)
    const addresses = Object.values(zones.get(zone ?? '') ?? {}).flat()
    if (zone === undefined || !addresses.includes(server)) return { rcode: 5, authoritative: false }
    const answers = recordsAt(server, name)
    return answers.length > 0 ? { answers } : { rcode: 3, authorities: [soa(zone)] }
  }
  behaviours.set(resolverAddress, resolve)

  const receive = (
    protocol: 'udp' | 'tcp',
    { address, port }: { address: string; port: number },
    bytes: Uint8Array,
  ) => {
    const packet = decode(Buffer.from(bytes))
    const [question] = packet.questions ?? []
    const query: FakeQuery = {
      server: address,
      port,
      protocol,
      name: question?.name ?? '',
      type: question?.type ?? '',
      recursionDesired: packet.flag_rd,
      edns: (packet.additionals ?? []).some((record) => record.type === 'OPT'),
    }
    queries.push(query)
    return (behaviours.get(address) ?? answerAsAuthority)(query)
  }
  const travel = <T>(
    signal: AbortSignal,
    run: (resolve: (value: T) => void, reject: (error: unknown) => void) => void,
  ) => {
    running += 1
    mostRunning = Math.max(mostRunning, running)
    return new Promise<T>((resolve, reject) => {
      signal.throwIfAborted()
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      setImmediate(run, resolve, reject)
    }).finally(() => {
      running -= 1
    })
  }

  const transport: DnsTransport = {
    udp: (server, message, accept, signal) =>
      travel(signal, (resolve, reject) => {
        const done = receive('udp', server, message)
        if (done === 'silent') return
        if (done instanceof Error) {
          reject(done)
          return
        }
        for (const reply of [done].flat()) {
          const accepted = accept(replyBytes(message, reply))
          if (accepted !== undefined) {
            resolve(accepted)
            return
          }
        }
      }),
    tcp: (server, message, signal) =>
      travel(signal, (resolve, reject) => {
        const done = receive('tcp', server, message)
        if (done === 'silent') return
        if (done instanceof Error) reject(done)
        else resolve(replyBytes(message, [done].flat()[0] ?? {}))
      }),
  }

  return {
    transport,
    queries,
    /** Queries of one type, or to one server. */
    asked: (filter: Partial<FakeQuery>): readonly FakeQuery[] =>
      queries.filter((query) =>
        Object.entries(filter).every(([key, value]) => query[key as keyof FakeQuery] === value),
      ),
    mostRunning: () => mostRunning,
    running: () => running,
    /** A zone, and its name servers with their addresses. */
    addZone(zone: string, nameservers: Readonly<Record<string, readonly string[]>>): void {
      zones.set(zone, nameservers)
    },
    /** Replaces the records of a name, at one server or at all that have none of their own. */
    set(name: string, answers: readonly Answer[], at = '*'): void {
      const atServer = records.get(at) ?? new Map<string, readonly Answer[]>()
      records.set(at, atServer.set(name, answers))
    },
    behave(server: string, behaviour: Behaviour): void {
      behaviours.set(server, behaviour)
    },
    resolve,
    answerAsAuthority,
  }
}

export const txt = (name: string, ...values: readonly (string | string[])[]): Answer[] =>
  values.map((data) => ({ type: 'TXT', name, data }))
export const cname = (name: string, data: string): Answer[] => [{ type: 'CNAME', name, data }]
