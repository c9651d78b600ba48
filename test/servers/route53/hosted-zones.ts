/**
 * The hosted zones of one account and the changes on their way to the name servers.
 */
import { randomBytes } from 'node:crypto'
import type { Clock } from '../../../src/core/clock.js'
import { applyBatch, type BatchResult, type Change } from './change-batch.js'
import { isWithin, storedName } from './domain-name.js'
import { isSameSet, sorted, storedRecordSet, type RecordSet } from './record-set.js'

export interface ZoneOptions {
  readonly name: string
  /** Without `/hostedzone/`. @defaultValue a new one */
  readonly id?: string | undefined
  /** Served by no name server, only by a resolver inside the VPC. @defaultValue false */
  readonly private?: boolean | undefined
  readonly comment?: string | undefined
  /**
   * `false` for a zone that the registrar does not point at: the API has it, DNS does not.
   *
   * @defaultValue true for the first public zone of a name
   */
  readonly delegated?: boolean | undefined
  /** Record sets besides SOA and NS. */
  readonly recordSets?: readonly RecordSet[] | undefined
}

export interface HostedZone {
  readonly id: string
  /** As {@link storedName} gives it. */
  readonly name: string
  readonly private: boolean
  readonly comment: string | undefined
  readonly delegated: boolean
  readonly callerReference: string
  /** What the API lists: changes that are pending included. */
  readonly recordSets: readonly RecordSet[]
}

/** When a change becomes INSYNC. */
export type Pace =
  /** So many answers of GetChange are PENDING; 0 makes it INSYNC at once. */
  | { readonly pendingPolls: number }
  /** By the clock. */
  | { readonly delayMs: number }
  /** Not before `release`. */
  | 'manual'

export interface SubmittedChange {
  readonly id: string
  readonly zoneId: string
  readonly submittedAt: number
  readonly comment: string | undefined
  readonly status: 'PENDING' | 'INSYNC'
}

/** Record sets that DNS servers show from an instant on. */
export interface Version {
  readonly recordSets: readonly RecordSet[]
  /** `undefined` while it is pending without a known end. */
  readonly insyncAt: number | undefined
}

export interface HostedZones {
  /** In order of creation. */
  all(): readonly HostedZone[]
  get(id: string): HostedZone | undefined
  add(options: ZoneOptions): HostedZone
  /** A change through the API; `change` is absent when the batch was refused. */
  submit(
    zoneId: string,
    changes: readonly Change[],
    comment?: string,
  ): { readonly result: BatchResult; readonly change?: SubmittedChange }
  /** Changes a zone by the back door: at once, for the API and for DNS. */
  edit(zoneId: string, change: (recordSets: readonly RecordSet[]) => readonly RecordSet[]): void
  /** The status of a change, and one poll less until it is INSYNC. */
  poll(changeId: string): SubmittedChange | undefined
  /** Makes a change INSYNC, or all that are pending. */
  release(changeId?: string): void
  /** What a server shows that is up to date as of an instant. */
  versionAt(zoneId: string, instant: number): Version
  /** For changes submitted from now on. */
  pace: Pace
}

interface ZoneState extends HostedZone {
  recordSets: readonly RecordSet[]
  versions: MutableVersion[]
}

interface MutableVersion {
  recordSets: readonly RecordSet[]
  insyncAt: number | undefined
}

interface ChangeState {
  readonly id: string
  readonly zoneId: string
  readonly submittedAt: number
  readonly comment: string | undefined
  readonly version: MutableVersion
  pollsLeft: number
}

export function hostedZones(clock: Clock, nameServerNames: readonly string[], pace: Pace): HostedZones {
  const zones = new Map<string, ZoneState>()
  const changes = new Map<string, ChangeState>()

  const zoneOf = (id: string): ZoneState => {
    const zone = zones.get(id)
    if (zone === undefined) throw new TypeError(`no hosted zone ${id}`)
    return zone
  }
  const isInsync = ({ insyncAt }: Version, instant: number): boolean => insyncAt !== undefined && insyncAt <= instant
  const shown = ({ version, id, zoneId, submittedAt, comment }: ChangeState): SubmittedChange => {
    const status = isInsync(version, clock.now()) ? 'INSYNC' : 'PENDING'
    return { id, zoneId, submittedAt, comment, status }
  }

  const account: HostedZones = {
    pace,
    all: () => [...zones.values()],
    get: (id) => zones.get(id),
    add(options) {
      const name = storedName(options.name)
      const isPrivate = options.private ?? false
      const first = ![...zones.values()].some((zone) => zone.name === name && !zone.private)
      const { id = newId('Z'), comment, delegated = !isPrivate && first, recordSets = [] } = options
      if (zones.has(id)) throw new TypeError(`there is a hosted zone ${id} already`)
      const all = sorted([...apexRecordSets(name, nameServerNames), ...recordSets.map(storedRecordSet)])
      const stranger = all.find((set) => !isWithin(set.name, name))
      if (stranger !== undefined) throw new TypeError(`${stranger.name} is not in ${name}`)
      const zone: ZoneState = {
        id,
        name,
        private: isPrivate,
        comment,
        delegated,
        callerReference: newId('R'),
        recordSets: all,
        versions: [{ recordSets: all, insyncAt: -Infinity }],
      }
      zones.set(id, zone)
      return zone
    },
    submit(zoneId, batch, comment) {
      const zone = zoneOf(zoneId)
      const result = applyBatch(zone.name, zone.recordSets, batch)
      if (!('recordSets' in result)) return { result }
      const now = clock.now()
      const version: MutableVersion = { recordSets: result.recordSets, insyncAt: insyncAt(account.pace, now) }
      const pollsLeft =
        typeof account.pace === 'object' && 'pendingPolls' in account.pace ? account.pace.pendingPolls : Infinity
      const change = { id: newId('C'), zoneId, submittedAt: now, comment, version, pollsLeft }
      zone.recordSets = result.recordSets
      zone.versions.push(version)
      changes.set(change.id, change)
      // The reply to the request that makes a change always calls it pending.
      return { result, change: { ...shown(change), status: 'PENDING' } }
    },
    edit(zoneId, change) {
      const zone = zoneOf(zoneId)
      zone.recordSets = sorted(change(zone.recordSets))
      for (const version of zone.versions) version.recordSets = sorted(change(version.recordSets))
    },
    poll(changeId) {
      const change = changes.get(changeId)
      if (change === undefined) return undefined
      if (change.pollsLeft <= 0) change.version.insyncAt ??= clock.now()
      change.pollsLeft -= 1
      return shown(change)
    },
    release(changeId) {
      const chosen = changeId === undefined ? [...changes.values()] : [changes.get(changeId)]
      for (const change of chosen) {
        if (change === undefined) throw new TypeError(`no change ${changeId ?? ''}`)
        if (!isInsync(change.version, clock.now())) change.version.insyncAt = clock.now()
      }
    },
    versionAt: (zoneId, instant) => zoneOf(zoneId).versions.findLast((version) => isInsync(version, instant))!,
  }
  return account
}

/** Puts a record set in the place of the one it replaces, if any. */
export function withRecordSet(recordSets: readonly RecordSet[], recordSet: RecordSet): RecordSet[] {
  const added = storedRecordSet(recordSet)
  return [...recordSets.filter((other) => !isSameSet(other, added)), added]
}

function insyncAt(pace: Pace, now: number): number | undefined {
  if (pace === 'manual') return undefined
  if ('delayMs' in pace) return now + pace.delayMs
  return pace.pendingPolls <= 0 ? now : undefined
}

/** What every hosted zone is born with. Its serial number stays 1. */
function apexRecordSets(name: string, nameServerNames: readonly string[]): RecordSet[] {
  const soa = `${nameServerNames[0]!} awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400`
  return [
    { name, type: 'NS', ttl: 172_800, values: nameServerNames },
    { name, type: 'SOA', ttl: 900, values: [soa] },
  ]
}

function newId(letter: string): string {
  return letter + randomBytes(10).toString('hex').toUpperCase()
}
