/**
 * What an HTTP request asks of the API.
 */
import type { Change } from './change-batch.js'
import { commonError, invalidInput } from './api-error.js'
import { storedRecordSet, type RecordSet } from './record-set.js'
import { childOf, childrenOf, parseXml, type XmlElement } from './xml.js'

export type Operation =
  | 'ListHostedZones'
  | 'ListHostedZonesByName'
  | 'GetHostedZone'
  | 'ListResourceRecordSets'
  | 'ChangeResourceRecordSets'
  | 'GetChange'

export interface ApiRequest {
  readonly operation: Operation
  /** Of the zone or of the change that the path names. */
  readonly id: string
  readonly query: URLSearchParams
}

const routes: readonly (readonly [method: string, path: RegExp, operation: Operation])[] = [
  ['GET', /^\/2013-04-01\/hostedzone$/, 'ListHostedZones'],
  ['GET', /^\/2013-04-01\/hostedzonesbyname$/, 'ListHostedZonesByName'],
  ['GET', /^\/2013-04-01\/hostedzone\/([^/]+)$/, 'GetHostedZone'],
  ['GET', /^\/2013-04-01\/hostedzone\/([^/]+)\/rrset$/, 'ListResourceRecordSets'],
  ['POST', /^\/2013-04-01\/hostedzone\/([^/]+)\/rrset\/?$/, 'ChangeResourceRecordSets'],
  ['GET', /^\/2013-04-01\/change\/([^/]+)$/, 'GetChange'],
]

/** `undefined` for what the emulator does not know. */
export function parseRequest(method: string, url: URL): ApiRequest | undefined {
  for (const [routeMethod, path, operation] of routes) {
    const match = method === routeMethod ? path.exec(url.pathname) : null
    if (match !== null) return { operation, id: decodeURIComponent(match[1] ?? ''), query: url.searchParams }
  }
  return undefined
}

export interface ChangeRequest {
  readonly comment: string | undefined
  readonly changes: readonly Change[]
}

export function parseChangeRequest(body: string): ChangeRequest {
  const root = parseXml(body)
  if (root?.name !== 'ChangeResourceRecordSetsRequest') throw commonError('MalformedInput')
  const batch = childOf(root, 'ChangeBatch')
  const changes = childrenOf(childOf(batch, 'Changes'), 'Change').map(parseChange)
  if (changes.length === 0) throw invalidInput('1 validation error detected: a change batch must have a change')
  return { comment: childOf(batch, 'Comment')?.text, changes }
}

function parseChange(change: XmlElement): Change {
  const action = childOf(change, 'Action')?.text ?? ''
  const recordSet = childOf(change, 'ResourceRecordSet')
  if (action !== 'CREATE' && action !== 'DELETE' && action !== 'UPSERT')
    throw invalidInput(
      `Invalid XML ; cvc-enumeration-valid: Value '${action}' is not facet-valid with respect to enumeration '[CREATE, DELETE, UPSERT]'. It must be a value from the enumeration.`,
    )
  if (recordSet === undefined) throw commonError('MalformedInput')
  return { action, recordSet: parseRecordSet(recordSet) }
}

function parseRecordSet(recordSet: XmlElement): RecordSet {
  const text = (name: string): string | undefined => childOf(recordSet, name)?.text
  const number = (name: string): number | undefined => {
    const value = text(name)
    if (value === undefined) return undefined
    if (!/^\d+$/.test(value) || Number(value) > 2_147_483_647)
      throw invalidInput(`Invalid XML ; '${value}' is not a valid value of ${name}`)
    return Number(value)
  }
  const multiValueAnswer = text('MultiValueAnswer')
  const records = childOf(recordSet, 'ResourceRecords')
  const alias = childOf(recordSet, 'AliasTarget')
  return storedRecordSet({
    name: text('Name') ?? '',
    type: text('Type') ?? '',
    setIdentifier: text('SetIdentifier'),
    multiValueAnswer: multiValueAnswer === undefined ? undefined : multiValueAnswer === 'true',
    weight: number('Weight'),
    ttl: number('TTL'),
    values:
      records === undefined
        ? undefined
        : childrenOf(records, 'ResourceRecord').map((record) => childOf(record, 'Value')?.text ?? ''),
    aliasTarget:
      alias === undefined
        ? undefined
        : {
            hostedZoneId: childOf(alias, 'HostedZoneId')?.text ?? '',
            dnsName: childOf(alias, 'DNSName')?.text ?? '',
            evaluateTargetHealth: childOf(alias, 'EvaluateTargetHealth')?.text === 'true',
          },
  })
}
