/**
 * Name servers that have each their own idea of the zones: up to date, behind, frozen, lame or silent.
 */
import { networkInterfaces } from 'node:os'
import type { Clock } from '../../../src/core/clock.js'
import {
  authoritativeReply,
  resolverReply,
  type DefaultAddresses,
  type DnsQuestion,
  type DnsReply,
  type ServedZone,
} from './dns-answers.js'
import { openDnsSocket, type DnsSocket, type Transport } from './dns-sockets.js'
import type { HostedZone, HostedZones, Version } from './hosted-zones.js'
import type { RecordSet } from './record-set.js'

export interface DnsQuery extends DnsQuestion {
  readonly transport: Transport
  /** By the clock of the emulator. */
  readonly at: number
}

export type NameServerMode =
  | 'answering'
  /** Lame: it does not have the zones. */
  | 'refusing'
  | 'failing'
  | 'silent'
  /** Over UDP every reply is truncated. */
  | 'truncating'

/** Fields that are not read-only may be set at any time. */
export interface NameServer {
  /** Absolute. */
  readonly name: string
  readonly address: string
  readonly queries: DnsQuery[]
  mode: NameServerMode
  /** How far behind INSYNC it is. @defaultValue 0 */
  lagMs: number
  /** No change arrives from now on, until `thaw`. */
  freeze(): void
  thaw(): void
}

export interface Resolver extends NameServer {
  /** Inside the VPC: a private zone hides the public one of the same name. @defaultValue false */
  seesPrivateZones: boolean
  /** Where names without addresses of their own are. */
  defaultAddresses: DefaultAddresses
}

export interface NameServers {
  readonly nameServers: readonly NameServer[]
  readonly resolver: Resolver
  close(): Promise<void>
}

const nameServerZone = 'awsdns.test.'

/** The names that go with so many addresses. */
export function nameServerNamesOf(addresses: readonly string[]): string[] {
  return addresses.map((_, index) => `ns-${index + 1}.${nameServerZone}`)
}

/** Two IPv4 addresses, and one of IPv6 where the machine has it. */
export function defaultNameServerAddresses(): string[] {
  const hasIPv6 = Object.values(networkInterfaces()).some((addresses) =>
    addresses?.some(({ address }) => address === '::1'),
  )
  return ['127.0.0.2', '127.0.0.3', ...(hasIPv6 ? ['::1'] : [])]
}

export async function openNameServers(options: {
  readonly zones: HostedZones
  readonly clock: Clock
  readonly port: number
  readonly addresses: readonly string[]
  readonly resolverAddress: string
  readonly defaultAddresses: DefaultAddresses
}): Promise<NameServers> {
  const { zones, clock, port, addresses, resolverAddress, defaultAddresses } = options
  const names = nameServerNamesOf(addresses)
  const zoneOfServers = zoneOfNameServers(names, addresses)
  const sockets: DnsSocket[] = []

  const server = (name: string, address: string): { server: NameServer; view: (zone: HostedZone) => ServedZone } => {
    let frozen: Map<string, Version> | undefined
    const current = ({ id }: HostedZone): Version => zones.versionAt(id, clock.now() - nameServer.lagMs)
    const nameServer: NameServer = {
      name,
      address,
      queries: [],
      mode: 'answering',
      lagMs: 0,
      freeze: () => void (frozen = new Map(zones.all().map((zone) => [zone.id, current(zone)]))),
      thaw: () => void (frozen = undefined),
    }
    return {
      server: nameServer,
      view: (zone) => ({ name: zone.name, recordSets: (frozen?.get(zone.id) ?? current(zone)).recordSets }),
    }
  }
  const open = async (
    nameServer: NameServer,
    recursive: boolean,
    reply: (question: DnsQuestion) => DnsReply,
  ): Promise<void> => {
    const { address } = nameServer
    const respond = (question: DnsQuestion, transport: Transport): DnsReply | 'silence' | 'truncated' => {
      nameServer.queries.push({ ...question, transport, at: clock.now() })
      switch (nameServer.mode) {
        case 'silent':
          return 'silence'
        case 'refusing':
          return { rcode: 'REFUSED', authoritative: false, answers: [], authorities: [] }
        case 'failing':
          return { rcode: 'SERVFAIL', authoritative: false, answers: [], authorities: [] }
        case 'truncating':
          return transport === 'udp' ? 'truncated' : reply(question)
        case 'answering':
          return reply(question)
      }
    }
    sockets.push(await openDnsSocket({ address, port, recursive, respond }))
  }
  const close = async (): Promise<void> => {
    await Promise.all(sockets.map((socket) => socket.close()))
  }

  const published = (zone: HostedZone): boolean => zone.delegated && !zone.private
  const nameServers = names.map((name, index) => server(name, addresses[index]!))
  const inner = server('resolver.', resolverAddress)
  const resolver: Resolver = Object.assign(inner.server, { seesPrivateZones: false, defaultAddresses })
  try {
    for (const { server: nameServer, view } of nameServers)
      await open(nameServer, false, (question) =>
        authoritativeReply([...zones.all().filter(published).map(view), zoneOfServers], question),
      )
    await open(resolver, true, (question) => {
      const all = zones.all()
      const hiding = resolver.seesPrivateZones ? all.filter((zone) => zone.private) : []
      const visible = all.filter((zone) => published(zone) && !hiding.some(({ name }) => name === zone.name))
      const served = [...[...hiding, ...visible].map(inner.view), zoneOfServers]
      return resolverReply(served, question, resolver.defaultAddresses)
    })
  } catch (error) {
    await close()
    throw error
  }
  return { nameServers: nameServers.map(({ server: nameServer }) => nameServer), resolver, close }
}

function zoneOfNameServers(names: readonly string[], addresses: readonly string[]): ServedZone {
  const apex: RecordSet[] = [
    { name: nameServerZone, type: 'NS', ttl: 172_800, values: names },
    {
      name: nameServerZone,
      type: 'SOA',
      ttl: 900,
      values: [`${names[0]!} hostmaster.${nameServerZone} 1 7200 900 1209600 86400`],
    },
  ]
  const hosts = names.map((name, index): RecordSet => {
    const address = addresses[index]!
    return { name, type: address.includes(':') ? 'AAAA' : 'A', ttl: 172_800, values: [address] }
  })
  return { name: nameServerZone, recordSets: [...apex, ...hosts] }
}
