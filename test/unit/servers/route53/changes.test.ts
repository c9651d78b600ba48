import {
  ChangeResourceRecordSetsCommand,
  GetChangeCommand,
  type Change,
  type Route53Client,
} from '@aws-sdk/client-route-53'
import { fakeClock } from 'evercert/testing'
import { describe, expect, test } from 'vitest'
import { start } from './start.js'

const name = '_acme-challenge.example.com.'
const upsert = (value: string, Name = name): Change => ({
  Action: 'UPSERT',
  ResourceRecordSet: { Name, Type: 'TXT', TTL: 10, ResourceRecords: [{ Value: `"${value}"` }] },
})
const submit = (client: Route53Client, ...Changes: Change[]) =>
  client.send(new ChangeResourceRecordSetsCommand({ HostedZoneId: 'Z1', ChangeBatch: { Changes, Comment: 'a & b' } }))
const statusOf = async (client: Route53Client, Id: string | undefined): Promise<string | undefined> =>
  (await client.send(new GetChangeCommand({ Id }))).ChangeInfo?.Status

describe('ChangeResourceRecordSets', () => {
  test('changes what the API lists at once', async () => {
    const { client, route53 } = await start()
    const { ChangeInfo } = await submit(client, upsert('a'), upsert('b', '*.example.com'))
    expect(ChangeInfo).toMatchObject({ Status: 'PENDING', Comment: 'a & b' })
    expect(ChangeInfo!.Id).toMatch(/^\/change\/C[0-9A-Z]+$/)
    expect(route53.recordSets('Z1', ['TXT'])).toMatchObject([
      { name: '\\052.example.com.', values: ['"b"'] },
      { name, values: ['"a"'] },
    ])
  })

  test('is all or nothing, and tells in brackets what is wrong', async () => {
    const { client, route53 } = await start()
    await submit(client, upsert('a'))
    const create = { ...upsert('c'), Action: 'CREATE' } as const
    await expect(submit(client, upsert('b', 'b.example.com'), create)).rejects.toMatchObject({
      name: 'InvalidChangeBatch',
      message: `[Tried to create resource record set [name='${name}', type='TXT'] but it already exists]`,
      $metadata: { httpStatusCode: 400 },
    })
    expect(route53.recordSets('Z1', ['TXT'])).toMatchObject([{ name, values: ['"a"'] }])
  })

  test('a request without TTL is invalid input', async () => {
    const { client } = await start()
    const change: Change = { Action: 'CREATE', ResourceRecordSet: { Name: name, Type: 'TXT' } }
    await expect(submit(client, change)).rejects.toMatchObject({
      name: 'InvalidInput',
      message: expect.stringContaining('but found none in Change with [Action=CREATE') as string,
    })
  })

  test('an unknown zone is not found', async () => {
    const { client } = await start({ zones: [] })
    await expect(submit(client, upsert('a'))).rejects.toMatchObject({ name: 'NoSuchHostedZone' })
  })

  test('what is not a change request is malformed', async () => {
    const { route53 } = await start()
    const post = async (body: string): Promise<string> => {
      const response = await fetch(`${route53.endpoint}/2013-04-01/hostedzone/Z1/rrset/`, { method: 'POST', body })
      return response.text()
    }
    expect(await post('<Wrong/>')).toContain('<Code>MalformedInput</Code>')
    expect(await post('<ChangeResourceRecordSetsRequest>')).toContain('<Code>MalformedInput</Code>')
  })

  test('is recorded with its batch and the access key', async () => {
    const { client, route53 } = await start()
    await submit(client, upsert('a'))
    expect(route53.requests).toMatchObject([
      {
        operation: 'ChangeResourceRecordSets',
        id: 'Z1',
        changes: [{ action: 'UPSERT', recordSet: { name, type: 'TXT', ttl: 10, values: ['"a"'] } }],
        comment: 'a & b',
        accessKeyId: 'AKIDANYBODY',
        status: 200,
      },
    ])
  })

  test('is refused when somebody else was quicker', async () => {
    const { client, route53 } = await start()
    const planted = { name, type: 'TXT', ttl: 10, values: ['"theirs"'] }
    route53.beforeRequest = ({ operation }) => {
      if (operation === 'ChangeResourceRecordSets') route53.put('Z1', planted)
    }
    await expect(submit(client, { ...upsert('a'), Action: 'CREATE' })).rejects.toMatchObject({
      name: 'InvalidChangeBatch',
    })
    route53.beforeRequest = undefined
    expect(route53.recordSets('Z1', ['TXT'])).toEqual([planted])
  })

  test('a zone that is busy with one change refuses the next', async () => {
    const clock = fakeClock()
    const { client, route53 } = await start({ clock })
    route53.processingMs = 1_000
    await submit(client, upsert('a'))
    await clock.advance(999)
    await expect(submit(client, upsert('b'))).rejects.toMatchObject({
      name: 'PriorRequestNotComplete',
      message: 'The request was rejected because Route 53 was still processing a prior request.',
      $metadata: { httpStatusCode: 400 },
    })
    await clock.advance(1)
    await submit(client, upsert('b'))
  })
})

describe('GetChange', () => {
  test('is PENDING for so many polls', async () => {
    const { client } = await start({ pace: { pendingPolls: 2 } })
    const { ChangeInfo } = await submit(client, upsert('a'))
    expect(await statusOf(client, ChangeInfo!.Id)).toBe('PENDING')
    expect(await statusOf(client, ChangeInfo!.Id)).toBe('PENDING')
    expect(await statusOf(client, ChangeInfo!.Id)).toBe('INSYNC')
    expect(await statusOf(client, ChangeInfo!.Id)).toBe('INSYNC')
  })

  test('is PENDING for so long', async () => {
    const clock = fakeClock()
    const { client } = await start({ clock, pace: { delayMs: 30_000 } })
    const { ChangeInfo } = await submit(client, upsert('a'))
    expect(ChangeInfo!.SubmittedAt).toEqual(new Date(clock.now()))
    await clock.advance(29_999)
    expect(await statusOf(client, ChangeInfo!.Id)).toBe('PENDING')
    await clock.advance(1)
    expect(await statusOf(client, ChangeInfo!.Id)).toBe('INSYNC')
  })

  test('is PENDING until it is released', async () => {
    const { client, route53 } = await start({ pace: 'manual' })
    const first = await submit(client, upsert('a'))
    const second = await submit(client, upsert('b'))
    route53.release(first.ChangeInfo!.Id!.slice('/change/'.length))
    expect(await statusOf(client, first.ChangeInfo!.Id)).toBe('INSYNC')
    expect(await statusOf(client, second.ChangeInfo!.Id)).toBe('PENDING')
    route53.release()
    expect(await statusOf(client, second.ChangeInfo!.Id)).toBe('INSYNC')
  })

  test('an unknown change is not found', async () => {
    const { client } = await start()
    await expect(client.send(new GetChangeCommand({ Id: 'C1' }))).rejects.toMatchObject({
      name: 'NoSuchChange',
      message: 'Could not find resource with ID: C1',
      $metadata: { httpStatusCode: 404 },
    })
  })
})
