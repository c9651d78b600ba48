import {
  GetHostedZoneCommand,
  ListHostedZonesByNameCommand,
  ListHostedZonesCommand,
  ListResourceRecordSetsCommand,
  paginateListHostedZones,
  type ListResourceRecordSetsCommandOutput,
} from '@aws-sdk/client-route-53'
import { describe, expect, test } from 'vitest'
import type { RecordSet, ZoneOptions } from '../../../servers/route53/index.js'
import { start } from './start.js'

describe('ListHostedZones', () => {
  test('pages through all zones', async () => {
    const zones = Array.from({ length: 7 }, (_, index) => ({ name: `n${index}.example.com`, id: `Z${index}` }))
    const { client, route53 } = await start({ zones })
    const ids: (string | undefined)[] = []
    for await (const { HostedZones } of paginateListHostedZones({ client, pageSize: 3 }, {}))
      ids.push(...(HostedZones ?? []).map(({ Id }) => Id))
    expect(ids).toEqual(zones.map(({ id }) => `/hostedzone/${id}`))
    expect(route53.counts().ListHostedZones).toBe(3)
  })

  test('a marker that is no zone is refused', async () => {
    const { client } = await start()
    await expect(client.send(new ListHostedZonesCommand({ Marker: 'Z9' }))).rejects.toMatchObject({
      name: 'InvalidInput',
    })
  })
})

describe('ListHostedZonesByName', () => {
  const zones: ZoneOptions[] = [
    { name: 'example.org', id: 'Z5' },
    { name: 'b.example.com', id: 'Z4' },
    { name: 'example.com', id: 'Z3', private: true },
    { name: 'example.com', id: 'Z2', comment: 'the <public> one' },
    { name: 'a.b.example.com', id: 'Z1' },
  ]

  test('orders by the labels from the right, then by id', async () => {
    const { client } = await start({ zones })
    const { HostedZones, IsTruncated, NextDNSName } = await client.send(new ListHostedZonesByNameCommand({}))
    expect(HostedZones!.map(({ Id }) => Id!.slice('/hostedzone/'.length))).toEqual(['Z2', 'Z3', 'Z4', 'Z1', 'Z5'])
    expect({ IsTruncated, NextDNSName }).toEqual({ IsTruncated: false, NextDNSName: undefined })
  })

  test('begins at a name, which need not be a zone', async () => {
    const { client } = await start({ zones })
    const { HostedZones, DNSName } = await client.send(new ListHostedZonesByNameCommand({ DNSName: 'A.Example.com' }))
    expect(HostedZones!.map(({ Name }) => Name)).toEqual(['b.example.com.', 'a.b.example.com.', 'example.org.'])
    expect(DNSName).toBe('a.example.com.')
  })

  test('pages within zones of one name', async () => {
    const { client } = await start({ zones })
    const first = await client.send(new ListHostedZonesByNameCommand({ DNSName: 'example.com', MaxItems: 1 }))
    expect(first).toMatchObject({
      HostedZones: [{ Id: '/hostedzone/Z2', Config: { PrivateZone: false, Comment: 'the <public> one' } }],
      IsTruncated: true,
      NextDNSName: 'example.com.',
      NextHostedZoneId: 'Z3',
    })
    const second = await client.send(
      new ListHostedZonesByNameCommand({
        DNSName: first.NextDNSName,
        HostedZoneId: first.NextHostedZoneId,
        MaxItems: 1,
      }),
    )
    expect(second).toMatchObject({
      HostedZones: [{ Id: '/hostedzone/Z3', Config: { PrivateZone: true } }],
      NextDNSName: 'b.example.com.',
    })
  })

  test('an id without a name is refused', async () => {
    const { client } = await start()
    await expect(client.send(new ListHostedZonesByNameCommand({ HostedZoneId: 'Z1' }))).rejects.toMatchObject({
      name: 'InvalidInput',
    })
  })
})

describe('GetHostedZone', () => {
  test('tells the name servers of a public zone', async () => {
    const { client, route53 } = await start()
    const { HostedZone, DelegationSet } = await client.send(new GetHostedZoneCommand({ Id: '/hostedzone/Z1' }))
    expect(HostedZone).toMatchObject({ Id: '/hostedzone/Z1', Name: 'example.com.', ResourceRecordSetCount: 2 })
    expect(DelegationSet!.NameServers).toEqual(route53.nameServers.map(({ name }) => name.slice(0, -1)))
  })

  test('a private zone has a VPC instead', async () => {
    const { client } = await start({ zones: [{ name: 'example.com', id: 'Z1', private: true }] })
    const { DelegationSet, VPCs } = await client.send(new GetHostedZoneCommand({ Id: 'Z1' }))
    expect(DelegationSet).toBeUndefined()
    expect(VPCs).toHaveLength(1)
  })

  test('an unknown zone is not found', async () => {
    const { client } = await start()
    await expect(client.send(new GetHostedZoneCommand({ Id: 'Z9' }))).rejects.toMatchObject({
      name: 'NoSuchHostedZone',
      message: 'No hosted zone found with ID: Z9',
      $metadata: { httpStatusCode: 404 },
    })
  })
})

describe('ListResourceRecordSets', () => {
  const a = (name: string): RecordSet => ({ name, type: 'A', ttl: 60, values: ['192.0.2.1'] })
  const recordSets = [a('b.example.com'), a('*.example.com'), { ...a('b.example.com'), type: 'TXT', values: ['"x"'] }]
  const zones = [{ name: 'example.com', id: 'Z1', recordSets }]
  const positions = [
    'example.com. NS',
    'example.com. SOA',
    '\\052.example.com. A',
    'b.example.com. A',
    'b.example.com. TXT',
  ]

  test('is in order, and escapes what is not a letter, digit, hyphen or underscore', async () => {
    const { client } = await start({ zones })
    const { ResourceRecordSets, MaxItems } = await client.send(
      new ListResourceRecordSetsCommand({ HostedZoneId: 'Z1' }),
    )
    expect(ResourceRecordSets!.map(({ Name, Type }) => `${Name!} ${Type!}`)).toEqual(positions)
    expect(MaxItems).toBe(300)
  })

  test.each([1, 2, 3, 4, 5, 6])('in pages of %i', async (pageSize) => {
    const { client, route53 } = await start({ zones })
    const seen: string[] = []
    let page: ListResourceRecordSetsCommandOutput | undefined
    while (page?.IsTruncated !== false) {
      page = await client.send(
        new ListResourceRecordSetsCommand({
          HostedZoneId: 'Z1',
          MaxItems: pageSize,
          StartRecordName: page?.NextRecordName,
          StartRecordType: page?.NextRecordType,
        }),
      )
      seen.push(...page.ResourceRecordSets!.map(({ Name, Type }) => `${Name!} ${Type!}`))
    }
    expect(seen).toEqual(positions)
    expect(route53.counts().ListResourceRecordSets).toBe(Math.ceil(positions.length / pageSize))
  })

  test('pages through the identified sets of one name', async () => {
    const { client, route53 } = await start()
    const identified = ['"a"', '"b"', '"c"'].map((value): RecordSet => ({
      name: 't.example.com',
      type: 'TXT',
      ttl: 10,
      values: [value],
      setIdentifier: value,
      multiValueAnswer: true,
    }))
    for (const recordSet of identified) route53.put('Z1', recordSet)
    const input = { HostedZoneId: 'Z1', StartRecordName: 't.example.com', StartRecordType: 'TXT', MaxItems: 2 } as const
    const first = await client.send(new ListResourceRecordSetsCommand(input))
    expect(first.NextRecordIdentifier).toBe('"c"')
    const second = await client.send(
      new ListResourceRecordSetsCommand({ ...input, StartRecordIdentifier: first.NextRecordIdentifier }),
    )
    expect(second.ResourceRecordSets).toMatchObject([{ SetIdentifier: '"c"', MultiValueAnswer: true }])
  })

  test('begins at a name and type, which need not be there', async () => {
    const { client } = await start({ zones })
    const from = async (StartRecordName: string, StartRecordType: 'CNAME' | 'TXT'): Promise<string[]> => {
      const { ResourceRecordSets } = await client.send(
        new ListResourceRecordSetsCommand({ HostedZoneId: 'Z1', StartRecordName, StartRecordType }),
      )
      return ResourceRecordSets!.map(({ Name, Type }) => `${Name!} ${Type!}`)
    }
    expect(await from('*.example.com', 'TXT')).toEqual(['b.example.com. A', 'b.example.com. TXT'])
    expect(await from('B.example.com.', 'CNAME')).toEqual(['b.example.com. TXT'])
  })

  test('a type without a name is refused', async () => {
    const { client } = await start()
    const command = new ListResourceRecordSetsCommand({ HostedZoneId: 'Z1', StartRecordType: 'TXT' })
    await expect(client.send(command)).rejects.toMatchObject({ name: 'InvalidInput' })
  })
})
