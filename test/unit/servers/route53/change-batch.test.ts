import { describe, expect, test } from 'vitest'
import { applyBatch, type Change } from '../../../servers/route53/change-batch.js'
import type { RecordSet } from '../../../servers/route53/record-set.js'

const zone = 'example.com.'
const apex: RecordSet[] = [
  { name: zone, type: 'NS', ttl: 172_800, values: ['ns-1.awsdns.test.'] },
  { name: zone, type: 'SOA', ttl: 900, values: ['ns-1.awsdns.test. hostmaster.example.com. 1 7200 900 1209600 86400'] },
]
const name = '_acme-challenge.example.com.'
const txt = (...values: string[]): RecordSet => ({ name, type: 'TXT', ttl: 10, values: values.map((v) => `"${v}"`) })
const change = (action: Change['action'], recordSet: RecordSet): Change => ({ action, recordSet })
const apply = (present: readonly RecordSet[], ...changes: Change[]) => applyBatch(zone, [...apex, ...present], changes)
const remaining = (present: readonly RecordSet[], ...changes: Change[]): readonly RecordSet[] => {
  const result = apply(present, ...changes)
  if (!('recordSets' in result)) throw new Error(JSON.stringify(result))
  return result.recordSets.filter(({ type }) => type !== 'NS' && type !== 'SOA')
}

describe('what is carried out', () => {
  test('CREATE of what is not there', () => {
    expect(remaining([], change('CREATE', txt('a')))).toEqual([txt('a')])
  })

  test('DELETE with the same TTL and values, in any order', () => {
    expect(remaining([txt('a', 'b')], change('DELETE', txt('b', 'a')))).toEqual([])
  })

  test('UPSERT of what is there and of what is not', () => {
    expect(remaining([txt('a')], change('UPSERT', txt('b')))).toEqual([txt('b')])
    expect(remaining([], change('UPSERT', txt('b')))).toEqual([txt('b')])
  })

  test('DELETE then CREATE of one set', () => {
    expect(remaining([txt('a')], change('DELETE', txt('a')), change('CREATE', txt('a', 'b')))).toEqual([txt('a', 'b')])
  })

  test('DELETE of a CNAME, then CREATE of another type', () => {
    const cname: RecordSet = { name, type: 'CNAME', ttl: 60, values: ['other.example.net'] }
    expect(remaining([cname], change('DELETE', cname), change('CREATE', txt('a')))).toEqual([txt('a')])
  })

  test('several multivalue sets of one name', () => {
    const first = { ...txt('a'), setIdentifier: '"a"', multiValueAnswer: true }
    const second = { ...txt('b'), setIdentifier: '"b"', multiValueAnswer: true }
    expect(remaining([first], change('UPSERT', second))).toEqual([first, second])
  })

  test('exactly 1000 records and 32000 characters', () => {
    const many = Array.from({ length: 1_000 }, (_, index) =>
      change('CREATE', { name: `n${index}.example.com.`, type: 'TXT', ttl: 10, values: [`"${'x'.repeat(30)}"`] }),
    )
    expect(remaining([], ...many)).toHaveLength(1_000)
  })
})

describe('what the zone refuses', () => {
  const cname: RecordSet = { name, type: 'CNAME', ttl: 60, values: ['other.example.net'] }
  const multi = (value: string): RecordSet => ({ ...txt(value), setIdentifier: value, multiValueAnswer: true })
  const long = 'x'.repeat(256)
  const cases: Record<string, [present: RecordSet[], changes: Change[], message: string]> = {
    'CREATE of what is there': [
      [txt('a')],
      [change('CREATE', txt('b'))],
      `Tried to create resource record set [name='${name}', type='TXT'] but it already exists`,
    ],
    'CREATE of an identified set that is there': [
      [multi('a')],
      [change('CREATE', multi('a'))],
      `Tried to create resource record set [name='${name}', type='TXT', set-identifier='a'] but it already exists`,
    ],
    'DELETE of what is not there': [
      [],
      [change('DELETE', txt('a'))],
      `Tried to delete resource record set [name='${name}', type='TXT'] but it was not found`,
    ],
    'DELETE of other values': [
      [txt('a', 'b')],
      [change('DELETE', txt('a'))],
      `Tried to delete resource record set [name='${name}', type='TXT'] but the values provided do not match the current values`,
    ],
    'DELETE with another TTL': [
      [txt('a')],
      [change('DELETE', { ...txt('a'), ttl: 60 })],
      `Tried to delete resource record set [name='${name}', type='TXT'] but the values provided do not match the current values`,
    ],
    'a set twice': [
      [],
      [change('UPSERT', txt('a')), change('UPSERT', txt('b'))],
      `The request contains an invalid set of changes for a resource record set 'TXT ${name}'`,
    ],
    'DELETE twice': [
      [txt('a')],
      [change('DELETE', txt('a')), change('DELETE', txt('a'))],
      `The request contains an invalid set of changes for a resource record set 'TXT ${name}'`,
    ],
    'CREATE before the DELETE': [
      [txt('a')],
      [change('CREATE', txt('b')), change('DELETE', txt('a'))],
      `The request contains an invalid set of changes for a resource record set 'TXT ${name}'`,
    ],
    'a name of another zone': [
      [],
      [change('CREATE', { ...txt('a'), name: 'notexample.com.' })],
      'RRSet with DNS name notexample.com. is not permitted in zone example.com.',
    ],
    'a CNAME beside others': [
      [txt('a')],
      [change('CREATE', cname)],
      `RRSet of type CNAME with DNS name ${name} is not permitted as it conflicts with other records with the same DNS name in zone ${zone}`,
    ],
    'others beside a CNAME': [
      [cname],
      [change('UPSERT', txt('a'))],
      `RRSet of type TXT with DNS name ${name} is not permitted because a conflicting RRSet of type  CNAME with the same DNS name already exists in zone ${zone}`,
    ],
    'a CNAME that comes before the DELETE of the other': [
      [txt('a')],
      [change('CREATE', cname), change('DELETE', txt('a'))],
      `RRSet of type CNAME with DNS name ${name} is not permitted as it conflicts with other records with the same DNS name in zone ${zone}`,
    ],
    'a CNAME at the apex': [
      [],
      [change('CREATE', { ...cname, name: zone })],
      `RRSet of type CNAME with DNS name ${zone} is not permitted at apex in zone ${zone}`,
    ],
    'a multivalue set beside a simple one': [
      [txt('a')],
      [change('UPSERT', multi('b'))],
      `RRSet with DNS name ${name}, type TXT, SetIdentifier b cannot be created because a non multivalue answer rrset exists with the same name and type.`,
    ],
    'a simple set beside a multivalue one': [
      [multi('a')],
      [change('UPSERT', txt('b'))],
      `RRSet with DNS name ${name}, type TXT cannot be created as other RRSets exist with the same name and type.`,
    ],
    'a TXT value without quotation marks': [
      [],
      [change('CREATE', { ...txt(), values: ['abc'] })],
      "Invalid Resource Record: FATAL problem: InvalidCharacterString (Value should be enclosed in quotation marks) encountered with 'abc'",
    ],
    'a string of more than 255 octets': [
      [],
      [change('CREATE', txt(long))],
      `Invalid Resource Record: FATAL problem: CharacterStringTooLong (Value is too long) encountered with '"${long}"'`,
    ],
    'a value twice': [[], [change('CREATE', txt('a', 'a'))], `Duplicate Resource Record: '"a"'`],
    'an address that is none': [
      [],
      [change('CREATE', { name, type: 'A', ttl: 10, values: ['300.0.0.1'] })],
      "Invalid Resource Record: FATAL problem: ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address) encountered with '300.0.0.1'",
    ],
    'a label of 64 octets': [
      [],
      [change('CREATE', { ...txt('a'), name: `${'x'.repeat(64)}.example.com.` })],
      `FATAL problem: DomainLabelTooLong (Domain label is too long) encountered with '${'x'.repeat(64)}.example.com.'`,
    ],
    '501 records of an UPSERT, which count twice': [
      [],
      Array.from({ length: 501 }, (_, index) => change('UPSERT', { ...txt('a'), name: `n${index}.example.com.` })),
      'Number of records limit of 1000 exceeded.',
    ],
    'more than 32000 characters': [
      [],
      Array.from({ length: 200 }, (_, index) =>
        change('CREATE', { ...txt('x'.repeat(159)), name: `n${index}.example.com.` }),
      ),
      'RDATA character limit of 32000 exceeded.',
    ],
    '401 records in a set': [
      [],
      [change('CREATE', txt(...Array.from({ length: 401 }, (_, index) => String(index))))],
      'Cannot have more than 400 records in a RRSet.',
    ],
    'a zone without SOA': [[], [change('DELETE', apex[1]!)], 'A HostedZone must contain exactly one SOA record.'],
    'a zone without NS': [
      [],
      [change('DELETE', apex[0]!)],
      'A HostedZone must contain at least one NS record for the zone itself.',
    ],
  }

  test.each(Object.entries(cases))('%s', (_, [present, changes, message]) => {
    expect(apply(present, ...changes)).toEqual({ messages: [message] })
  })

  test('each problem of a batch is told, not only the first', () => {
    const other = { ...txt('b'), name: 'www.example.com.' }
    expect(apply([txt('a')], change('CREATE', txt('a')), change('DELETE', other))).toEqual({
      messages: [
        `Tried to create resource record set [name='${name}', type='TXT'] but it already exists`,
        "Tried to delete resource record set [name='www.example.com.', type='TXT'] but it was not found",
      ],
    })
  })
})

describe('what is no request at all', () => {
  const where = `in Change with [Action=CREATE, Name=${name}, Type=TXT, SetIdentifier=`
  const kinds = 'Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId]'
  const aliasTarget = { hostedZoneId: 'Z1', dnsName: 'a.example.com.', evaluateTargetHealth: false }
  const cases: Record<string, [recordSet: RecordSet, message: string]> = {
    'no TTL': [{ name, type: 'TXT', values: ['"a"'] }, `Invalid request: ${kinds}, but found none ${where}null]`],
    'no values': [
      { name, type: 'TXT', ttl: 10, values: [] },
      `Invalid request: ${kinds}, but found none ${where}null]`,
    ],
    'values and an alias': [
      { ...txt('a'), aliasTarget },
      `Invalid request: ${kinds}, but found more than one ${where}null]`,
    ],
    'a multivalue set without identifier': [
      { ...txt('a'), multiValueAnswer: true },
      `Invalid request: Missing field 'SetIdentifier' ${where}null]`,
    ],
    'an identifier without routing policy': [
      { ...txt('a'), setIdentifier: 'a' },
      `Invalid request: Expected exactly one of [Weight, Region, Failover, GeoLocation, or MultiValueAnswer], but found none ${where}a]`,
    ],
  }

  test.each(Object.entries(cases))('%s', (_, [recordSet, invalidInput]) => {
    expect(apply([], change('CREATE', recordSet))).toEqual({ invalidInput })
  })
})
