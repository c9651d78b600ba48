/**
 * Between us and the AWS SDK: the only file that knows it. It is loaded at the first use, so that nobody needs the package who
 * does not use it.
 *
 * @module
 */
import type * as AwsSdk from '@aws-sdk/client-route-53'
import { unescapeName } from './record-names.js'
import type { RecordChange } from './plan-change.js'
import { Obstacle, Route53Failure, readFailure } from './route53-failure.js'

/** What is used of a `Route53Client` of `@aws-sdk/client-route-53`. */
export interface Route53Client {
  send(command: object, options?: { readonly abortSignal?: AbortSignal }): Promise<unknown>
}

/** One hosted zone of the account. */
export interface HostedZone {
  /** Without `/hostedzone/`. */
  readonly id: string
  /** Lower case, without a trailing dot. */
  readonly name: string
  readonly private: boolean
}

/** One record set as Route 53 has it. */
export interface RecordSet {
  /** Lower case, escapes resolved, without a trailing dot. */
  readonly name: string
  readonly type: string
  /** Seconds; none for an alias. */
  readonly ttl: number | undefined
  /** As Route 53 writes them. */
  readonly values: readonly string[]
  /** Why it is more than a name with values: `MultiValueAnswer`, `Weight`, ... */
  readonly routing: string | undefined
}

/** A page of a list. */
export interface Page<Item, Start> {
  readonly items: readonly Item[]
  /** Where the next one begins. */
  readonly next: Start | undefined
}

/** The four calls. Each of them rejects with {@link Route53Failure}. */
export interface Route53Api {
  listHostedZones(start: string | undefined, signal: AbortSignal): Promise<Page<HostedZone, string>>
  /** Everything from `start` on, that name included, in the order of `compareNames`. */
  listRecordSets(zoneId: string, start: string, signal: AbortSignal): Promise<Page<RecordSet, string>>
  /** Resolves with the id of the change. */
  changeRecordSets(zoneId: string, changes: readonly RecordChange[], signal: AbortSignal): Promise<string>
  isInSync(changeId: string, signal: AbortSignal): Promise<boolean>
  /** Has the default client look for credentials again; an injected one does as it does. */
  renewCredentials(): void
}

type Sdk = typeof AwsSdk

/** Makes a {@link Route53Api}, on a client of its own unless one is injected. */
export function route53Api(
  injected?: Route53Client,
  load: () => Promise<unknown> = () => import('@aws-sdk/client-route-53'),
): Route53Api {
  let own: Promise<Route53Client> | undefined

  async function send(
    action: string,
    signal: AbortSignal,
    command: (sdk: Sdk) => object,
  ): Promise<Readonly<Record<string, unknown>>> {
    const sdk = (await load().catch(missingSdk)) as Sdk
    try {
      const client = injected ?? (await ownClient(sdk))
      const reply: unknown = await client.send(command(sdk), { abortSignal: signal })
      return typeof reply === 'object' && reply !== null ? { ...reply } : {}
    } catch (error) {
      signal.throwIfAborted()
      throw readFailure(action, error)
    }
  }

  function ownClient(sdk: Sdk): Promise<Route53Client> {
    own ??= defaultClient(sdk).catch((error: unknown) => {
      own = undefined
      throw error
    })
    return own
  }

  return {
    async listHostedZones(start, signal) {
      const action = 'ListHostedZones'
      const reply = await send(action, signal, (sdk) => new sdk.ListHostedZonesCommand({ Marker: start }))
      const items = list(action, reply['HostedZones']).map(readZone)
      const next = reply['IsTruncated'] === true ? text(action, reply['NextMarker']) : undefined
      return { items, next }
    },
    async listRecordSets(zoneId, start, signal) {
      const action = 'ListResourceRecordSets'
      const input: AwsSdk.ListResourceRecordSetsCommandInput = {
        HostedZoneId: zoneId,
        StartRecordName: start,
        MaxItems: 300,
      }
      const reply = await send(action, signal, (sdk) => new sdk.ListResourceRecordSetsCommand(input))
      const items = list(action, reply['ResourceRecordSets']).map(readRecordSet)
      const next = reply['IsTruncated'] === true ? unescapeName(text(action, reply['NextRecordName'])) : undefined
      return { items, next }
    },
    async changeRecordSets(zoneId, changes, signal) {
      const action = 'ChangeResourceRecordSets'
      const reply = await send(
        action,
        signal,
        (sdk) =>
          new sdk.ChangeResourceRecordSetsCommand({
            HostedZoneId: zoneId,
            ChangeBatch: {
              Comment: 'ACME challenges (evercert)',
              Changes: changes.map(({ action: Action, name, ttl, values }) => ({
                Action,
                ResourceRecordSet: {
                  Name: `${name}.`,
                  Type: 'TXT',
                  TTL: ttl,
                  ResourceRecords: values.map((Value) => ({ Value })),
                },
              })),
            },
          }),
      )
      return text(action, (reply['ChangeInfo'] as { readonly Id?: unknown } | undefined)?.Id)
    },
    async isInSync(changeId, signal) {
      const action = 'GetChange'
      const reply = await send(action, signal, (sdk) => new sdk.GetChangeCommand({ Id: changeId }))
      return text(action, (reply['ChangeInfo'] as { readonly Status?: unknown } | undefined)?.Status) === 'INSYNC'
    },
    renewCredentials() {
      own = undefined
    },
  }
}

/** Retries are ours, so the SDK makes none. Route 53 is one service for all regions: without a region, its home is meant. */
async function defaultClient({ Route53Client: Client }: Sdk): Promise<Route53Client> {
  // For the credential providers: shared files are read again by the next client. The SDK keeps them for ever otherwise.
  const options = { maxAttempts: 1, ignoreCache: true }
  const client = new Client(options)
  const hasRegion = await client.config.region().then(
    () => true,
    () => false,
  )
  return hasRegion ? client : new Client({ ...options, region: 'us-east-1' })
}

function missingSdk(error: unknown): never {
  const code = (error as { readonly code?: unknown } | undefined)?.code
  if (code !== 'ERR_MODULE_NOT_FOUND' && code !== 'MODULE_NOT_FOUND') throw error
  throw new Obstacle('it needs the AWS SDK: npm install @aws-sdk/client-route-53')
}

function readZone(value: unknown): HostedZone {
  const action = 'ListHostedZones'
  const zone = value as { readonly Id?: unknown; readonly Name?: unknown; readonly Config?: { PrivateZone?: unknown } }
  return {
    id: text(action, zone.Id).replace(/^\/hostedzone\//, ''),
    name: unescapeName(text(action, zone.Name)),
    private: zone.Config?.PrivateZone === true,
  }
}

function readRecordSet(value: unknown): RecordSet {
  const action = 'ListResourceRecordSets'
  const set = value as Partial<AwsSdk.ResourceRecordSet>
  const routing = (
    [
      'MultiValueAnswer',
      'Weight',
      'Region',
      'GeoLocation',
      'GeoProximityLocation',
      'Failover',
      'CidrRoutingConfig',
    ] as const
  ).find((property) => set[property] !== undefined && set[property] !== false)
  return {
    name: unescapeName(text(action, set.Name)),
    type: text(action, set.Type),
    ttl: typeof set.TTL === 'number' ? set.TTL : undefined,
    values: (set.ResourceRecords ?? []).map(({ Value }) => text(action, Value)),
    routing: set.SetIdentifier === undefined ? undefined : (routing ?? 'SetIdentifier'),
  }
}

/** More than any page holds. */
const longestList = 10_000

function list(action: string, value: unknown): readonly unknown[] {
  if (value === undefined) return []
  if (Array.isArray(value) && value.length <= longestList) return value
  throw unreadable(action)
}

function text(action: string, value: unknown): string {
  if (typeof value === 'string' && value !== '' && value.length <= 4096) return value
  throw unreadable(action)
}

function unreadable(action: string): Route53Failure {
  return new Route53Failure({
    kind: 'unavailable',
    action,
    awsCode: 'UnreadableReply',
    text: 'the reply lacks what the API promises; is this Route 53?',
  })
}
