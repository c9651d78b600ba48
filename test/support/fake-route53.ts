/**
 * Route 53 in this process: what `ListHostedZones`, `ListResourceRecordSets`, `ChangeResourceRecordSets` and `GetChange`
 * promise, behind the `send` of a client. For unit tests; pages, atomic batches and exact deletes included.
 */
import type { Route53Client } from '../../src/solvers/route53/index.js'

export interface FakeZone {
  readonly id: string
  readonly name: string
  readonly private?: boolean
}

export interface FakeRecordSet {
  readonly Name: string
  readonly Type: string
  readonly TTL?: number
  readonly ResourceRecords?: readonly { readonly Value: string }[]
  readonly SetIdentifier?: string
  readonly MultiValueAnswer?: boolean
  readonly Weight?: number
  readonly AliasTarget?: object
}

export interface FakeCall {
  readonly action: string
  readonly input: Readonly<Record<string, unknown>>
  readonly signal: AbortSignal | undefined
}

export interface FakeRoute53 {
  readonly client: Route53Client
  readonly zones: FakeZone[]
  /** Every call, also those that were made to fail. */
  readonly calls: FakeCall[]
  /** Calls of one action. */
  count(action: string): number
  /** Change batches that were applied: for each change its action and name. */
  readonly batches: readonly (readonly string[])[]
  /** TXT values at a name, unquoted, over all zones. */
  values(name: string): string[]
  recordSets(zoneId: string): readonly FakeRecordSet[]
  plant(zoneId: string, set: FakeRecordSet): void
  plantTxt(zoneId: string, name: string, values: readonly string[], ttl?: number): void
  /** How often `GetChange` says `PENDING` first. @defaultValue 0 */
  pending: number
  /** How many items a page has. @defaultValue 100 zones, 300 record sets */
  pageSize: number | undefined
  /** Runs before a call is looked at; what it throws is the answer. */
  before: (call: FakeCall, index: number) => void | Promise<void>
  /** Runs once a call is done; what it throws is the answer instead: the reply is lost. */
  after: (call: FakeCall, index: number) => void | Promise<void>
}

/** An error as the AWS SDK throws it. A new request id each time. */
export function awsError(name: string, message = name, options: { status?: number; messages?: string[] } = {}): Error {
  requestNumber += 1
  const requestId = `00000000-0000-4000-8000-${String(requestNumber).padStart(12, '0')}`
  return Object.assign(new Error(message), {
    name,
    $fault: 'client',
    $metadata: { httpStatusCode: options.status ?? 400, requestId },
    ...(options.messages === undefined ? {} : { messages: options.messages }),
  })
}
let requestNumber = 0

export function fakeRoute53(zones: readonly FakeZone[] = [{ id: 'Z1', name: 'example.com' }]): FakeRoute53 {
  const sets = new Map<string, FakeRecordSet[]>()
  const batches: string[][] = []
  const changes = new Map<string, number>()
  const setsOf = (zoneId: string): FakeRecordSet[] => {
    if (!fake.zones.some(({ id }) => id === zoneId)) throw awsError('NoSuchHostedZone', 'no zone', { status: 404 })
    const found = sets.get(zoneId) ?? []
    sets.set(zoneId, found)
    return found
  }

  const perform: Readonly<Record<string, (input: never) => object>> = {
    ListHostedZones: ({ Marker }: { Marker?: string }) => {
      const start = Marker === undefined ? 0 : Number(Marker)
      const end = start + (fake.pageSize ?? 100)
      const more = end < fake.zones.length
      return {
        HostedZones: fake.zones.slice(start, end).map((zone) => ({
          Id: `/hostedzone/${zone.id}`,
          Name: `${zone.name}.`,
          Config: { PrivateZone: zone.private ?? false },
        })),
        IsTruncated: more,
        ...(more ? { NextMarker: String(end) } : {}),
      }
    },
    ListResourceRecordSets: (input: { HostedZoneId: string; StartRecordName: string; MaxItems: number }) => {
      const from = sortKey(input.StartRecordName)
      const all = setsOf(input.HostedZoneId)
        .filter(({ Name }) => sortKey(Name) >= from)
        .sort((one, other) => compare(sortKey(one.Name), sortKey(other.Name)) || compare(one.Type, other.Type))
      const size = Math.min(fake.pageSize ?? 300, input.MaxItems)
      const next = all[size]
      return {
        ResourceRecordSets: all.slice(0, size),
        IsTruncated: next !== undefined,
        ...(next === undefined ? {} : { NextRecordName: next.Name, NextRecordType: next.Type }),
      }
    },
    ChangeResourceRecordSets: (input: {
      HostedZoneId: string
      ChangeBatch: { Changes: readonly { Action: string; ResourceRecordSet: FakeRecordSet }[] }
    }) => {
      const { Changes } = input.ChangeBatch
      const working = [...setsOf(input.HostedZoneId)]
      const records = Changes.flatMap((change) => change.ResourceRecordSet.ResourceRecords ?? [])
      if (records.length > 1000) throw invalid('Number of records limit of 1000 exceeded.')
      const characters = records.reduce((sum, { Value }) => sum + Value.length, 0)
      if (characters > 32_000) throw invalid('Number of characters limit of 32000 exceeded.')
      for (const { Action, ResourceRecordSet: set } of Changes) {
        const shown = `[name='${set.Name}', type='${set.Type}']`
        const at = working.findIndex((each) => isSame(each, set))
        const zone = fake.zones.find(({ id }) => id === input.HostedZoneId)
        if (!set.Name.endsWith(`${zone?.name ?? ''}.`)) {
          throw invalid(`RRSet with DNS name ${set.Name} is not permitted in zone ${zone?.name ?? ''}.`)
        }
        if (Action === 'CREATE') {
          if (at >= 0) throw invalid(`Tried to create resource record set ${shown} but it already exists`)
          const rival = working.find((each) => each.Name === set.Name && each.Type === 'TXT')
          if (rival !== undefined) {
            const text = `RRSet with DNS name ${set.Name}, type TXT cannot be created as a rrset exists with the same name and type that is not simple`
            throw invalid(text)
          }
          if (working.some((each) => each.Name === set.Name && each.Type === 'CNAME')) {
            throw invalid(
              `RRSet of type TXT with DNS name ${set.Name} is not permitted as it conflicts with other records with the same DNS name in zone ${zone?.name ?? ''}.`,
            )
          }
          working.push(set)
        } else {
          const there = working[at]
          if (there === undefined) throw invalid(`Tried to delete resource record set ${shown} but it was not found`)
          if (contentOf(there) !== contentOf(set)) {
            throw invalid(
              `Tried to delete resource record set ${shown} but the values provided do not match the current values`,
            )
          }
          working.splice(at, 1)
        }
      }
      sets.set(input.HostedZoneId, working)
      batches.push(Changes.map(({ Action, ResourceRecordSet: { Name } }) => `${Action} ${Name.replace(/\.$/, '')}`))
      const Id = `/change/C${String(batches.length)}`
      changes.set(Id, fake.pending)
      return { ChangeInfo: { Id, Status: 'PENDING' } }
    },
    GetChange: ({ Id }: { Id: string }) => {
      const left = changes.get(Id)
      if (left === undefined) throw awsError('NoSuchChange', 'no change', { status: 404 })
      changes.set(Id, left - 1)
      return { ChangeInfo: { Id, Status: left <= 0 ? 'INSYNC' : 'PENDING' } }
    },
  }

  const fake: FakeRoute53 = {
    zones: [...zones],
    calls: [],
    batches,
    count: (action) => fake.calls.filter((call) => call.action === action).length,
    values: (name) =>
      [...sets.values()]
        .flat()
        .filter((set) => set.Name === `${name}.` && set.Type === 'TXT')
        .flatMap((set) => (set.ResourceRecords ?? []).map(({ Value }) => Value.replace(/^"|"$/g, ''))),
    recordSets: (zoneId) => setsOf(zoneId),
    plant: (zoneId, set) => setsOf(zoneId).push(set),
    plantTxt: (zoneId, name, values, ttl = 300) =>
      fake.plant(zoneId, {
        Name: `${name}.`,
        Type: 'TXT',
        TTL: ttl,
        ResourceRecords: values.map((value) => ({ Value: `"${value}"` })),
      }),
    pending: 0,
    pageSize: undefined,
    before: () => undefined,
    after: () => undefined,
    client: {
      async send(command, options) {
        const { input } = command as { readonly input: Readonly<Record<string, unknown>> }
        const action = command.constructor.name.replace(/Command$/, '')
        const call: FakeCall = { action, input, signal: options?.abortSignal }
        const index = fake.calls.push(call) - 1
        await Promise.resolve()
        await fake.before(call, index)
        const reply = perform[action]?.(input as never)
        if (reply === undefined) throw new Error(`the fake knows no ${action}`)
        await fake.after(call, index)
        return { ...reply, $metadata: { httpStatusCode: 200 } }
      },
    },
  }
  return fake
}

function invalid(text: string): Error {
  return awsError('InvalidChangeBatch', `[${text}]`, { messages: [text] })
}

function isSame(one: FakeRecordSet, other: FakeRecordSet): boolean {
  return one.Name === other.Name && one.Type === other.Type && one.SetIdentifier === other.SetIdentifier
}

function contentOf({ TTL, ResourceRecords = [] }: FakeRecordSet): string {
  return JSON.stringify([TTL, ResourceRecords.map(({ Value }) => Value).sort()])
}

function sortKey(name: string): string {
  return `${name.replace(/\.$/, '').split('.').reverse().join('.')}.`
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0
}
