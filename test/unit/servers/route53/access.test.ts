import {
  ChangeResourceRecordSetsCommand,
  ListHostedZonesCommand,
  ListResourceRecordSetsCommand,
  type RRType,
} from '@aws-sdk/client-route-53'
import { describe, expect, test } from 'vitest'
import type { PolicyDocument, Principal } from '../../../servers/route53/index.js'
import { sdkClient } from '../../../servers/route53/sdk-client.js'
import { start } from './start.js'

const principal = (): Principal => ({
  accessKeyId: 'AKIDTEST',
  secretAccessKey: 'a secret/of+tests',
  sessionToken: 'a token/of+tests==',
})

describe('credentials', () => {
  test('a signed request is let through, with every operation that has a query or a body', async () => {
    const { client } = await start({ principals: [principal()] })
    const StartRecordName = 'a b+*~/ü.example.com'
    await client.send(new ListResourceRecordSetsCommand({ HostedZoneId: 'Z1', StartRecordName, MaxItems: 1 }))
    await client.send(
      new ChangeResourceRecordSetsCommand({
        HostedZoneId: 'Z1',
        ChangeBatch: {
          Comment: 'ü',
          Changes: [
            {
              Action: 'CREATE',
              ResourceRecordSet: { Name: 'example.com', Type: 'TXT', TTL: 1, ResourceRecords: [{ Value: '"a"' }] },
            },
          ],
        },
      }),
    )
  })

  const refusals: Record<string, [change: (who: Principal) => Principal, name: string, message: string]> = {
    'an unknown key': [
      (who) => ({ ...who, accessKeyId: 'AKIDOTHER' }),
      'InvalidClientTokenId',
      'The security token included in the request is invalid.',
    ],
    'another session token': [
      (who) => ({ ...who, sessionToken: 'another' }),
      'InvalidClientTokenId',
      'The security token included in the request is invalid.',
    ],
    'no session token': [
      (who) => ({ ...who, sessionToken: undefined }),
      'InvalidClientTokenId',
      'The security token included in the request is invalid.',
    ],
    'another secret': [
      (who) => ({ ...who, secretAccessKey: 'another' }),
      'SignatureDoesNotMatch',
      'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
    ],
  }

  test.each(Object.entries(refusals))('%s is refused', async (_, [change, name, message]) => {
    const { route53 } = await start({ principals: [principal()] })
    const client = sdkClient(route53, change(principal()))
    await expect(client.send(new ListHostedZonesCommand({}))).rejects.toMatchObject({
      name,
      message,
      $metadata: { httpStatusCode: 403 },
    })
  })

  test('credentials expire in mid-life', async () => {
    const { client, route53 } = await start({ principals: [principal()] })
    await client.send(new ListHostedZonesCommand({}))
    route53.principals[0]!.expired = true
    await expect(client.send(new ListHostedZonesCommand({}))).rejects.toMatchObject({
      name: 'ExpiredToken',
      message: 'The security token included in the request is expired',
      $metadata: { httpStatusCode: 403 },
    })
    expect(route53.requests.map(({ status, code }) => [status, code])).toEqual([
      [200, undefined],
      [403, 'ExpiredToken'],
    ])
  })

  test('a request without signature is refused where somebody must sign', async () => {
    const { route53 } = await start({ principals: [principal()] })
    const response = await fetch(`${route53.endpoint}/2013-04-01/hostedzone`)
    expect(await response.text()).toContain('<Code>MissingAuthenticationToken</Code>')
  })
})

describe('policies', () => {
  const policy: PolicyDocument = {
    Version: '2012-10-17',
    Statement: [
      { Effect: 'Allow', Action: 'route53:ListResourceRecordSets', Resource: 'arn:aws:route53:::hostedzone/Z1' },
      {
        Effect: 'Allow',
        Action: 'route53:ChangeResourceRecordSets',
        Resource: 'arn:aws:route53:::hostedzone/Z1',
        Condition: {
          'ForAllValues:StringEquals': {
            'route53:ChangeResourceRecordSetsRecordTypes': ['TXT'],
            'route53:ChangeResourceRecordSetsNormalizedRecordNames': ['_acme-challenge.example.com'],
          },
        },
      },
    ],
  }
  const create = (Name: string, Type: RRType, Value: string): ChangeResourceRecordSetsCommand =>
    new ChangeResourceRecordSetsCommand({
      HostedZoneId: 'Z1',
      ChangeBatch: {
        Changes: [{ Action: 'CREATE', ResourceRecordSet: { Name, Type, TTL: 10, ResourceRecords: [{ Value }] } }],
      },
    })

  test('exactly what the policy says is allowed', async () => {
    const { client } = await start({ principals: [{ ...principal(), policy }] })
    await client.send(new ListResourceRecordSetsCommand({ HostedZoneId: 'Z1' }))
    await client.send(create('_ACME-challenge.example.com', 'TXT', '"a"'))

    const denied = { name: 'AccessDenied', $metadata: { httpStatusCode: 403 } }
    await expect(client.send(create('_acme-challenge.example.com', 'A', '192.0.2.1'))).rejects.toMatchObject(denied)
    await expect(client.send(create('www.example.com', 'TXT', '"a"'))).rejects.toMatchObject(denied)
    await expect(client.send(new ListHostedZonesCommand({}))).rejects.toMatchObject({
      ...denied,
      message:
        'User: arn:aws:iam::123456789012:user/AKIDTEST is not authorized to perform: route53:ListHostedZones because no identity-based policy allows the route53:ListHostedZones action',
    })
  })

  test('a zone that is not allowed is not said to be missing', async () => {
    const { client } = await start({ principals: [{ ...principal(), policy }] })
    const command = new ListResourceRecordSetsCommand({ HostedZoneId: 'Z9' })
    await expect(client.send(command)).rejects.toMatchObject({ name: 'AccessDenied' })
  })

  test('a right is taken away in mid-life', async () => {
    const { client, route53 } = await start({ principals: [principal()] })
    await client.send(new ListHostedZonesCommand({}))
    route53.principals[0]!.policy = policy
    await expect(client.send(new ListHostedZonesCommand({}))).rejects.toMatchObject({ name: 'AccessDenied' })
  })

  test('a policy that cannot be evaluated is refused at the start', async () => {
    const strange = { Statement: { Effect: 'Allow', Action: '*', Resource: '*', Principal: '*' } }
    await expect(start({ principals: [{ ...principal(), policy: strange }] })).rejects.toThrow(TypeError)
  })
})
