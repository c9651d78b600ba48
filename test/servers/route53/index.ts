/**
 * Amazon Route 53 for tests: its API, for the real SDK, and the name servers that publish what is written there.
 *
 * Written from AWS's API reference, the service model and the error texts that users report. What it does not have:
 * creation and deletion of zones, health checks, routing policies other than simple, weighted (stored, not drawn) and
 * multivalue, DNSSEC.
 */
import { systemClock, type Clock } from '../../../src/core/clock.js'
import { withFreePorts } from '../../support/ports.js'
import type { FaultRuleHandle } from '../../support/counted-rules.js'
import { startApiServer, type ApiFault, type ApiSettings, type RateLimits, type RecordedRequest } from './api-server.js'
import type { Operation } from './api-request.js'
import type { DefaultAddresses } from './dns-answers.js'
import { storedName } from './domain-name.js'
import { hostedZones, withRecordSet, type HostedZone, type Pace, type ZoneOptions } from './hosted-zones.js'
import {
  defaultNameServerAddresses,
  nameServerNamesOf,
  openNameServers,
  type NameServer,
  type Resolver,
} from './name-servers.js'
import { checkPolicy } from './policy.js'
import type { RecordSet } from './record-set.js'
import type { Principal } from './signature.js'

export { ApiError } from './api-error.js'
export type { ApiFault, ApiFaultAction, RateLimits, RecordedRequest } from './api-server.js'
export type { Operation } from './api-request.js'
export type { HostedZone, Pace, ZoneOptions } from './hosted-zones.js'
export type { NameServer, NameServerMode, Resolver } from './name-servers.js'
export type { PolicyDocument } from './policy.js'
export type { RecordSet } from './record-set.js'
export type { Principal } from './signature.js'

export interface Route53Options {
  readonly zones?: readonly ZoneOptions[] | undefined
  /** For INSYNC, rate limits and lag. @defaultValue the system's */
  readonly clock?: Clock | undefined
  /** When changes become INSYNC. @defaultValue after one PENDING */
  readonly pace?: Pace | undefined
  /** @defaultValue none: anybody may do anything */
  readonly principals?: readonly Principal[] | undefined
  /** @defaultValue none */
  readonly limits?: RateLimits | undefined
  /** Of loopback, one for each name server. @defaultValue 127.0.0.2, 127.0.0.3 and, where it exists, ::1 */
  readonly nameServerAddresses?: readonly string[] | undefined
  /** @defaultValue 127.0.0.1 */
  readonly resolverAddress?: string | undefined
  /** Where the resolver says that names without addresses are. @defaultValue nowhere */
  readonly defaultAddresses?: DefaultAddresses | undefined
}

export interface Route53Emulator {
  /** For the `endpoint` option of the SDK. */
  readonly endpoint: string
  /** Of every name server and of the resolver, UDP and TCP. */
  readonly dnsPort: number
  readonly nameServers: readonly NameServer[]
  readonly resolver: Resolver
  /** `address:port` of the resolver. */
  readonly resolverEndpoint: string
  addZone(options: ZoneOptions): HostedZone
  /** As the API lists them; `types` leaves out the others. */
  recordSets(zoneId: string, types?: readonly string[]): readonly RecordSet[]
  /** Plants or replaces a record set behind everybody's back: seen by the API and by DNS at once. */
  put(zoneId: string, recordSet: RecordSet): void
  remove(zoneId: string, recordSet: Pick<RecordSet, 'name' | 'type' | 'setIdentifier'>): void
  /** In order of arrival. */
  readonly requests: readonly RecordedRequest[]
  /** How many requests of each kind have come. */
  counts(): Readonly<Record<Operation, number>>
  /** Forgets requests and DNS queries. */
  clearRequests(): void
  /** The first fault that applies to a request is used. */
  addFault(fault: ApiFault): FaultRuleHandle
  /** Full buckets; `undefined` for no limit. */
  limitRate(limits: RateLimits | undefined): void
  /** Who may sign requests; each may be changed in place. */
  readonly principals: Principal[]
  /** For changes submitted from now on. */
  pace: Pace
  /** For so long after a change the zone refuses the next with PriorRequestNotComplete. @defaultValue 0 */
  processingMs: number
  /** Awaited before a request is carried out: the moment in which somebody else gets in between. */
  beforeRequest: ApiSettings['beforeRequest']
  /** Makes a change INSYNC, or all that are pending. */
  release(changeId?: string): void
  close(): Promise<void>
}

/**
 * Starts an emulator on ports of its own.
 *
 * @example
 * ```ts
 * const route53 = await startRoute53({ zones: [{ name: 'example.com', id: 'Z1' }] })
 * const client = sdkClient(route53)
 * const lost = route53.addFault({ match: { operation: 'ChangeResourceRecordSets', nth: 1 }, action: 'drop-after' })
 * route53.nameServers[1]!.lagMs = 30_000
 * // ... what is tested writes with `client` and asks `route53.resolverEndpoint` ...
 * expect(lost.fired).toBe(1)
 * expect(route53.counts().ChangeResourceRecordSets).toBe(2)
 * await route53.close()
 * ```
 */
export async function startRoute53(options: Route53Options = {}): Promise<Route53Emulator> {
  const {
    clock = systemClock,
    pace = { pendingPolls: 1 },
    nameServerAddresses: addresses = defaultNameServerAddresses(),
  } = options
  const { resolverAddress = '127.0.0.1', defaultAddresses = {}, limits } = options
  const nameServerNames = nameServerNamesOf(addresses)
  const zones = hostedZones(clock, nameServerNames, pace)
  for (const zone of options.zones ?? []) zones.add(zone)
  const settings: ApiSettings = {
    principals: [...(options.principals ?? [])],
    processingMs: 0,
    beforeRequest: undefined,
  }
  for (const { policy } of settings.principals) if (policy !== undefined) checkPolicy(policy)

  const { dnsPort, ...dns } = await withFreePorts(1, async (port) => ({
    dnsPort: port,
    ...(await openNameServers({ zones, clock, port, addresses, resolverAddress, defaultAddresses })),
  }))
  const api = await startApiServer({ zones, nameServerNames, clock, settings })
  api.limitRate(limits)

  return {
    endpoint: api.endpoint,
    dnsPort,
    nameServers: dns.nameServers,
    resolver: dns.resolver,
    resolverEndpoint: `${resolverAddress}:${dnsPort}`,
    addZone: zones.add,
    recordSets(zoneId, types) {
      const all = zones.get(zoneId)?.recordSets
      if (all === undefined) throw new TypeError(`no hosted zone ${zoneId}`)
      return types === undefined ? all : all.filter(({ type }) => types.includes(type))
    },
    put: (zoneId, recordSet) => zones.edit(zoneId, (recordSets) => withRecordSet(recordSets, recordSet)),
    remove(zoneId, { name, type, setIdentifier }) {
      const gone = (set: RecordSet): boolean =>
        set.name === storedName(name) && set.type === type && set.setIdentifier === setIdentifier
      zones.edit(zoneId, (recordSets) => recordSets.filter((set) => !gone(set)))
    },
    requests: api.requests,
    counts() {
      const counts: Record<Operation, number> = {
        ListHostedZones: 0,
        ListHostedZonesByName: 0,
        GetHostedZone: 0,
        ListResourceRecordSets: 0,
        ChangeResourceRecordSets: 0,
        GetChange: 0,
      }
      for (const { operation } of api.requests) counts[operation] += 1
      return counts
    },
    clearRequests() {
      api.requests.splice(0)
      for (const server of [...dns.nameServers, dns.resolver]) server.queries.splice(0)
    },
    addFault: api.addFault,
    limitRate: api.limitRate,
    principals: settings.principals,
    get pace() {
      return zones.pace
    },
    set pace(next) {
      zones.pace = next
    },
    get processingMs() {
      return settings.processingMs
    },
    set processingMs(next) {
      settings.processingMs = next
    },
    get beforeRequest() {
      return settings.beforeRequest
    },
    set beforeRequest(next) {
      settings.beforeRequest = next
    },
    release: zones.release,
    async close() {
      await Promise.all([api.close(), dns.close()])
    },
  }
}
