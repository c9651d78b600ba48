/**
 * Which name servers are responsible for a name, as recursive resolvers tell it.
 *
 * @module
 */
import { getServers } from 'node:dns'
import { isIP } from 'node:net'
import type { OperationContext } from '../core/context.js'
import { withDeadline } from '../internal/deadline.js'
import { DnsFailure } from '../internal/dns-client.js'
import { rcodeName, type DnsMessage, type DnsQuestion, type DnsType } from '../internal/dns-message.js'
import type { DnsServerAddress } from '../internal/dns-transport.js'
import { sharedLookup } from '../internal/shared-lookup.js'

/** One address of a name server, or that none could be found. */
export type NameServerAddress =
  | { readonly nameserver: string; readonly address: string }
  | { readonly nameserver: string; readonly address: undefined; readonly problem: string }

/** A zone and all who answer for it. */
export interface Delegation {
  /** Without final dot. */
  readonly zone: string
  readonly servers: readonly NameServerAddress[]
}

/** Finds delegations. */
export interface DelegationFinder {
  /** The zone that `name` lies in, and its servers. @throws {@link DnsProblem} */
  find(name: string, context: OperationContext): Promise<Delegation>
  /** The CNAME at `name`, as the resolvers know it. @throws {@link DnsProblem} */
  aliasOf(name: string, context: OperationContext): Promise<string | undefined>
}

/** Asks one server. */
export type AskServer = (
  server: DnsServerAddress,
  question: DnsQuestion,
  context: Pick<OperationContext, 'clock' | 'signal'>,
) => Promise<DnsMessage>

/** What keeps evercert from finding out who is responsible. The message is for people. */
export class DnsProblem extends Error {}

/** How long what a resolver said is used again. Short: a delegation may be what is being repaired. In milliseconds. */
export const delegationLifetimeMs = 30_000

/** The root has 13; nobody has more of them in use. */
const mostNameServers = 13
const mostAddressesPerServer = 4
const mostAddresses = 32
/** A resolver that answers slowly and knows nothing could be asked label by label for long. */
const findTimeoutMs = 30_000
/** What resolvers follow, too. */
const mostAliases = 8

/** Makes a {@link DelegationFinder}. Zones and servers are shared by all who ask within {@link delegationLifetimeMs}. */
export function delegationFinder(
  resolvers: readonly DnsServerAddress[] | undefined,
  askServer: AskServer,
): DelegationFinder {
  const zones = sharedLookup<string>({ lifetimeMs: delegationLifetimeMs, mostEntries: 1_000 })
  const delegations = sharedLookup<Delegation>({ lifetimeMs: delegationLifetimeMs, mostEntries: 100 })
  /** A resolver that is down shall cost its time once, not with each question. */
  let lastToAnswer: string | undefined

  return {
    find(name, context) {
      const { clock, signal } = context
      const onTimeout = (): Error =>
        new DnsProblem(`the name servers of ${name} could not be found within ${String(findTimeoutMs)} ms`)
      return withDeadline({ clock, signal, ms: findTimeoutMs, onTimeout }, async (inner) => {
        const limited = { ...context, signal: inner }
        const zone = await zones(name, limited, (shared) => findZone(name, { ...context, signal: shared }))
        return delegations(zone, limited, (shared) => findServers(zone, { ...context, signal: shared }))
      })
    },
    async aliasOf(name, context) {
      const answer = await ask(name, 'CNAME', context)
      return aliasIn(answer, name)
    },
  }

  /** Upwards from the name to the first one with an SOA record. Most resolvers name it in their first answer. */
  async function findZone(name: string, context: OperationContext): Promise<string> {
    for (let candidate = name; candidate !== ''; candidate = parentOf(candidate)) {
      const answer = await ask(candidate, 'SOA', context)
      // Behind a CNAME, the zone is that of another name; and a name with a CNAME is no zone of its own.
      if (hasAlias(answer, candidate)) continue
      const apex = [...answer.answers, ...answer.authorities].find(
        (record) => record.type === 'SOA' && record.name !== '' && isWithin(candidate, record.name),
      )
      if (apex !== undefined) return apex.name
    }
    throw new DnsProblem(`no zone for ${name} is known to the resolvers (misspelled, or not registered?)`)
  }

  async function findServers(zone: string, context: OperationContext): Promise<Delegation> {
    const answer = await ask(zone, 'NS', context)
    const names = answer.answers.flatMap((record) =>
      record.type === 'NS' && record.name === zone ? (record.target ?? []) : [],
    )
    const nameservers = [...new Set(names)].sort().slice(0, mostNameServers)
    if (nameservers.length === 0) throw new DnsProblem(`the resolvers know no name server of the zone ${zone}`)
    const found = await Promise.all(nameservers.map((nameserver) => findAddresses(nameserver, context)))
    // Two names for one server: it is asked once.
    const servers = [...new Map(found.flat().map((server) => [server.address ?? server.nameserver, server])).values()]
    return { zone, servers: servers.slice(0, mostAddresses) }
  }

  async function findAddresses(nameserver: string, context: OperationContext): Promise<readonly NameServerAddress[]> {
    let problem = 'it has no address'
    const lists = await Promise.all(
      (['A', 'AAAA'] as const).map(async (type) => {
        try {
          return addressesIn(await ask(nameserver, type, context), nameserver)
        } catch (error) {
          if (!(error instanceof DnsProblem)) throw error
          problem = error.message
          return []
        }
      }),
    )
    const addresses = interleave(lists).slice(0, mostAddressesPerServer)
    if (addresses.length === 0) return [{ nameserver, address: undefined, problem }]
    return addresses.map((address) => ({ nameserver, address }))
  }

  /** The first resolver that knows. */
  async function ask(name: string, type: DnsType, context: OperationContext): Promise<DnsMessage> {
    const failures: string[] = []
    const servers = resolvers ?? systemResolvers()
    const first = servers.findIndex((server) => labelOf(server) === lastToAnswer)
    for (const server of first > 0 ? [...servers.slice(first), ...servers.slice(0, first)] : servers) {
      try {
        const answer = await askServer(server, { name, type, recursionDesired: true }, context)
        const rcode = rcodeName(answer.rcode)
        if (rcode === 'NOERROR' || rcode === 'NXDOMAIN') {
          lastToAnswer = labelOf(server)
          return answer
        }
        failures.push(`${labelOf(server)}: ${rcode}`)
      } catch (error) {
        if (!(error instanceof DnsFailure)) throw error
        failures.push(`${labelOf(server)}: ${error.message}`)
      }
    }
    const seen = failures.length === 0 ? 'this system has none configured' : failures.join('; ')
    throw new DnsProblem(`no resolver could answer for ${name} ${type} (${seen})`)
  }
}

/**
 * Reads the `servers` option.
 *
 * @throws `TypeError` for anything but a list of one to eight IP addresses, each with an optional port.
 */
export function parseResolvers(servers: unknown): readonly DnsServerAddress[] | undefined {
  if (servers === undefined) return undefined
  const parsed = Array.isArray(servers) ? servers.map(parseServer) : []
  if (parsed.length === 0 || parsed.length > 8 || !parsed.every((server) => server !== undefined)) {
    throw new TypeError('"servers" option must be a list of 1 to 8 IP addresses, each with an optional port')
  }
  return parsed
}

function systemResolvers(): readonly DnsServerAddress[] {
  return getServers()
    .slice(0, 8)
    .flatMap((server) => parseServer(server) ?? [])
}

/** `192.0.2.1`, `192.0.2.1:53`, `2001:db8::1`, `[2001:db8::1]:53`. */
function parseServer(text: unknown): DnsServerAddress | undefined {
  if (typeof text !== 'string') return undefined
  if (isIP(text) !== 0) return { address: text, port: 53 }
  const [, bracketed, plain, digits = '53'] = /^(?:\[([^\]]+)\]|([\d.]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  const address = bracketed ?? plain ?? ''
  const port = Number(digits)
  const sound = isIP(address) === (bracketed === undefined ? 4 : 6) && port >= 1 && port <= 65_535
  return sound ? { address, port } : undefined
}

function labelOf({ address, port }: DnsServerAddress): string {
  return `${isIP(address) === 6 ? `[${address}]` : address}:${String(port)}`
}

/** `example.com` lies within `com`, and within itself. */
export function isWithin(name: string, zone: string): boolean {
  return name === zone || name.endsWith(`.${zone}`)
}

function parentOf(name: string): string {
  const dot = name.indexOf('.')
  return dot < 0 ? '' : name.slice(dot + 1)
}

function hasAlias(answer: DnsMessage, name: string): boolean {
  return answer.answers.some((record) => record.type === 'CNAME' && record.name === name)
}

function aliasIn(answer: DnsMessage, name: string): string | undefined {
  return answer.answers
    .flatMap((record) => (record.type === 'CNAME' && record.name === name ? record.target : []))
    .at(0)
}

/** The addresses of a name in one answer, at the end of the CNAME records in it. */
function addressesIn(answer: DnsMessage, name: string): readonly string[] {
  let owner = name
  for (let aliases = 0; aliases < mostAliases; aliases += 1) {
    const target = aliasIn(answer, owner)
    if (target === undefined) break
    owner = target
  }
  const addresses = answer.answers.flatMap((record) =>
    (record.type === 'A' || record.type === 'AAAA') && record.name === owner ? record.address : [],
  )
  return [...new Set(addresses)]
}

/** One of each in turn, so that a limit leaves some of both. */
function interleave(lists: readonly (readonly string[])[]): readonly string[] {
  const longest = Math.max(0, ...lists.map((list) => list.length))
  return Array.from({ length: longest }, (_, index) => lists.flatMap((list) => list[index] ?? [])).flat()
}
