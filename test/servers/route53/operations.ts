/**
 * The operations of the API on the zones of an account: what is asked in, a document out.
 *
 * @see https://docs.aws.amazon.com/Route53/latest/APIReference/API_Operations_Amazon_Route_53.html
 */
import { invalidChangeBatch, invalidInput, namespace, noSuchChange, noSuchHostedZone } from './api-error.js'
import type { ApiRequest, ChangeRequest, Operation } from './api-request.js'
import { sortKey, storedName } from './domain-name.js'
import type { HostedZone, HostedZones, SubmittedChange } from './hosted-zones.js'
import { page, recordSetsFrom, zonesByName } from './listing.js'
import type { RecordSet } from './record-set.js'
import { element, optional, xmlDocument, type Markup } from './xml.js'

/** Throws an `ApiError`. `changeRequest` comes with ChangeResourceRecordSets only. */
export function carryOut(
  zones: HostedZones,
  nameServerNames: readonly string[],
  request: ApiRequest,
  changeRequest: ChangeRequest | undefined,
): string {
  const { operation, id, query } = request
  switch (operation) {
    case 'ListHostedZones':
      return listHostedZones(zones, query)
    case 'ListHostedZonesByName':
      return listHostedZonesByName(zones, query)
    case 'GetHostedZone':
      return getHostedZone(existing(zones, id), nameServerNames)
    case 'ListResourceRecordSets':
      return listResourceRecordSets(existing(zones, id), query)
    case 'ChangeResourceRecordSets':
      return changeResourceRecordSets(zones, existing(zones, id), changeRequest)
    case 'GetChange': {
      const change = zones.poll(id)
      if (change === undefined) throw noSuchChange(id)
      return answer(operation, changeInfo(change))
    }
  }
}

function listHostedZones(zones: HostedZones, query: URLSearchParams): string {
  const marker = query.get('marker')
  const maxItems = maxItemsOf(query, 100)
  const wanted =
    query.get('hostedzonetype') === 'PrivateHostedZone' ? zones.all().filter((z) => z.private) : zones.all()
  const start = marker === null ? 0 : wanted.findIndex((zone) => zone.id === marker)
  if (start === -1) throw invalidInput(`The specified marker is not valid: ${marker ?? ''}`)
  const { items, next } = page(wanted.slice(start), maxItems)
  return answer(
    'ListHostedZones',
    element('HostedZones', ...items.map(hostedZone)),
    optional('Marker', marker ?? undefined),
    element('IsTruncated', next !== undefined),
    optional('NextMarker', next?.id),
    element('MaxItems', maxItems),
  )
}

function listHostedZonesByName(zones: HostedZones, query: URLSearchParams): string {
  const name = query.get('dnsname') ?? undefined
  const id = query.get('hostedzoneid') ?? undefined
  const maxItems = maxItemsOf(query, 100)
  if (id !== undefined && name === undefined) throw invalidInput('A DNSName must come with the HostedZoneId')
  const start = { name: name === undefined ? undefined : storedName(name), id }
  const { items, next } = page(zonesByName(zones.all(), start), maxItems)
  return answer(
    'ListHostedZonesByName',
    element('HostedZones', ...items.map(hostedZone)),
    optional('DNSName', start.name),
    optional('HostedZoneId', id),
    element('IsTruncated', next !== undefined),
    optional('NextDNSName', next?.name),
    optional('NextHostedZoneId', next?.id),
    element('MaxItems', maxItems),
  )
}

function getHostedZone(zone: HostedZone, nameServerNames: readonly string[]): string {
  // Without the final dot, unlike every other name.
  const nameServers = nameServerNames.map((name) => element('NameServer', name.replace(/\.$/, '')))
  return answer(
    'GetHostedZone',
    hostedZone(zone),
    zone.private
      ? element('VPCs', element('VPC', element('VPCRegion', 'eu-central-1'), element('VPCId', 'vpc-1')))
      : element('DelegationSet', element('NameServers', ...nameServers)),
  )
}

function listResourceRecordSets(zone: HostedZone, query: URLSearchParams): string {
  const name = query.get('name')
  const type = query.get('type')
  const identifier = query.get('identifier')
  const maxItems = maxItemsOf(query, 300)
  if (type !== null && name === null) throw invalidInput('A start record name must come with the start record type')
  if (identifier !== null && type === null)
    throw invalidInput('A start record type must come with the start record identifier')
  const start = name === null ? undefined : ([sortKey(storedName(name)), type ?? '', identifier ?? ''] as const)
  const { items, next } = page(recordSetsFrom(zone.recordSets, start), maxItems)
  return answer(
    'ListResourceRecordSets',
    element('ResourceRecordSets', ...items.map(resourceRecordSet)),
    element('IsTruncated', next !== undefined),
    optional('NextRecordName', next?.name),
    optional('NextRecordType', next?.type),
    optional('NextRecordIdentifier', next?.setIdentifier),
    element('MaxItems', maxItems),
  )
}

function changeResourceRecordSets(
  zones: HostedZones,
  zone: HostedZone,
  changeRequest: ChangeRequest | undefined,
): string {
  const { changes, comment } = changeRequest!
  const { result, change } = zones.submit(zone.id, changes, comment)
  if ('invalidInput' in result) throw invalidInput(result.invalidInput)
  if ('messages' in result) throw invalidChangeBatch(result.messages)
  return answer('ChangeResourceRecordSets', changeInfo(change!))
}

function existing(zones: HostedZones, id: string): HostedZone {
  const zone = zones.get(id)
  if (zone === undefined) throw noSuchHostedZone(id)
  return zone
}

function maxItemsOf(query: URLSearchParams, most: number): number {
  const text = query.get('maxitems') ?? String(most)
  if (!/^[1-9]\d*$/.test(text)) throw invalidInput(`The specified maxitems is not valid: ${text}`)
  return Math.min(Number(text), most)
}

function answer(operation: Operation, ...content: Markup[]): string {
  return xmlDocument(`${operation}Response`, namespace, ...content)
}

function hostedZone({ id, name, callerReference, comment, private: isPrivate, recordSets }: HostedZone): Markup {
  return element(
    'HostedZone',
    element('Id', `/hostedzone/${id}`),
    element('Name', name),
    element('CallerReference', callerReference),
    element('Config', optional('Comment', comment), element('PrivateZone', isPrivate)),
    element('ResourceRecordSetCount', recordSets.length),
  )
}

function resourceRecordSet(recordSet: RecordSet): Markup {
  const { name, type, setIdentifier, weight, multiValueAnswer, ttl, values, aliasTarget } = recordSet
  return element(
    'ResourceRecordSet',
    element('Name', name),
    element('Type', type),
    optional('SetIdentifier', setIdentifier),
    optional('Weight', weight),
    optional('MultiValueAnswer', multiValueAnswer),
    optional('TTL', ttl),
    values && element('ResourceRecords', ...values.map((value) => element('ResourceRecord', element('Value', value)))),
    aliasTarget &&
      element(
        'AliasTarget',
        element('HostedZoneId', aliasTarget.hostedZoneId),
        element('DNSName', aliasTarget.dnsName),
        element('EvaluateTargetHealth', aliasTarget.evaluateTargetHealth),
      ),
  )
}

function changeInfo({ id, status, submittedAt, comment }: SubmittedChange): Markup {
  return element(
    'ChangeInfo',
    element('Id', `/change/${id}`),
    element('Status', status),
    element('SubmittedAt', new Date(submittedAt).toISOString()),
    optional('Comment', comment),
  )
}
