import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as sdk from '@aws-sdk/client-route-53'
import { describe, expect, it, vi } from 'vitest'
import { route53Api } from '../../../../src/solvers/route53/route53-client.js'
import { fakeRoute53 } from '../../../support/fake-route53.js'

const { signal } = new AbortController()
const replying = (reply: unknown) => route53Api({ send: async () => reply })

describe('route53Api', () => {
  it('says exactly what it means', async () => {
    const fake = fakeRoute53()
    const api = route53Api(fake.client)
    await api.listHostedZones('5', signal)
    await api.listRecordSets('Z1', 'a.example.com', signal)
    const changes = [{ action: 'CREATE', name: 'a.example.com', ttl: 10, values: ['"x"'] }] as const
    expect(await api.changeRecordSets('Z1', changes, signal)).toBe('/change/C1')
    expect(await api.isInSync('/change/C1', signal)).toBe(true)
    expect(fake.calls.map(({ action, input }) => [action, input])).toEqual([
      ['ListHostedZones', { Marker: '5' }],
      ['ListResourceRecordSets', { HostedZoneId: 'Z1', StartRecordName: 'a.example.com', MaxItems: 300 }],
      [
        'ChangeResourceRecordSets',
        {
          HostedZoneId: 'Z1',
          ChangeBatch: {
            Comment: 'ACME challenges (evercert)',
            Changes: [
              {
                Action: 'CREATE',
                ResourceRecordSet: {
                  Name: 'a.example.com.',
                  Type: 'TXT',
                  TTL: 10,
                  ResourceRecords: [{ Value: '"x"' }],
                },
              },
            ],
          },
        },
      ],
      ['GetChange', { Id: '/change/C1' }],
    ])
    expect(fake.calls.every((call) => call.signal === signal)).toBe(true)
  })

  it('reads what Route 53 writes', async () => {
    const sets = [
      { Name: '\\052.Example.com.', Type: 'TXT', TTL: 5, ResourceRecords: [{ Value: '"x"' }] },
      { Name: 'a.example.com.', Type: 'TXT', TTL: 5, ResourceRecords: [], SetIdentifier: 'one', Weight: 0 },
      { Name: 'a.example.com.', Type: 'TXT', TTL: 5, SetIdentifier: 'two', MultiValueAnswer: true },
      { Name: 'a.example.com.', Type: 'TXT', TTL: 5, SetIdentifier: 'three' },
      { Name: 'b.example.com.', Type: 'A', AliasTarget: {} },
    ]
    const page = await replying({
      ResourceRecordSets: sets,
      IsTruncated: true,
      NextRecordName: '\\052.b.example.com.',
    }).listRecordSets('Z1', 'a', signal)
    expect(page.next).toBe('*.b.example.com')
    expect(page.items).toEqual([
      { name: '*.example.com', type: 'TXT', ttl: 5, values: ['"x"'], routing: undefined },
      { name: 'a.example.com', type: 'TXT', ttl: 5, values: [], routing: 'Weight' },
      { name: 'a.example.com', type: 'TXT', ttl: 5, values: [], routing: 'MultiValueAnswer' },
      { name: 'a.example.com', type: 'TXT', ttl: 5, values: [], routing: 'SetIdentifier' },
      { name: 'b.example.com', type: 'A', ttl: undefined, values: [], routing: undefined },
    ])
    expect(await replying({}).listHostedZones(undefined, signal)).toEqual({ items: [], next: undefined })
  })

  it.each<[string, unknown, (api: ReturnType<typeof route53Api>) => Promise<unknown>]>([
    ['nothing', undefined, (api) => api.isInSync('C1', signal)],
    ['a text', 'hello', (api) => api.changeRecordSets('Z1', [], signal)],
    ['no id', { ChangeInfo: {} }, (api) => api.changeRecordSets('Z1', [], signal)],
    ['no list', { HostedZones: 'none' }, (api) => api.listHostedZones(undefined, signal)],
    [
      'too long a list',
      { HostedZones: Array.from({ length: 10_001 }) },
      (api) => api.listHostedZones(undefined, signal),
    ],
    ['no marker', { HostedZones: [], IsTruncated: true }, (api) => api.listHostedZones(undefined, signal)],
    [
      'a huge name',
      { HostedZones: [{ Id: 'Z', Name: 'x'.repeat(5000) }] },
      (api) => api.listHostedZones(undefined, signal),
    ],
  ])('does not believe a reply with %s', async (_, reply, call) => {
    await expect(call(replying(reply))).rejects.toMatchObject({ kind: 'unavailable', awsCode: 'UnreadableReply' })
  })

  it('says what to install when the SDK is not there', async () => {
    const missing = (code: string) =>
      route53Api(undefined, () => Promise.reject(Object.assign(new Error('?'), { code })))
    for (const code of ['ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND']) {
      await expect(missing(code).isInSync('C1', signal)).rejects.toThrow('npm install @aws-sdk/client-route-53')
    }
    await expect(missing('EACCES').isInSync('C1', signal)).rejects.toMatchObject({ code: 'EACCES' })
  })

  it('passes on the reason of an abort', async () => {
    const controller = new AbortController()
    const reason = new Error('stop')
    const api = route53Api({
      send: async (_, options) => {
        controller.abort(reason)
        await Promise.reject(Object.assign(new Error('Request aborted'), { name: 'AbortError', options }))
      },
    })
    await expect(api.isInSync('C1', controller.signal)).rejects.toBe(reason)
  })

  it('asks for new credentials with a new client of its own', async () => {
    const made: object[] = []
    class Client {
      readonly config = { region: () => Promise.reject(new Error('Region is missing')) }
      constructor(options: object) {
        made.push(options)
      }
      send() {
        return Promise.resolve({ ChangeInfo: { Status: 'INSYNC' } })
      }
    }
    const api = route53Api(undefined, async () => ({ Route53Client: Client, GetChangeCommand: Object }))
    await api.isInSync('C1', signal)
    await api.isInSync('C1', signal)
    const usual = { maxAttempts: 1, ignoreCache: true }
    const own = [usual, { ...usual, region: 'us-east-1' }]
    expect(made).toEqual(own)
    api.renewCredentials()
    await api.isInSync('C1', signal)
    expect(made).toEqual([...own, ...own])
  })

  it('reads the shared files again, which the SDK itself keeps for as long as the process lives', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'evercert-'))
    const write = (keyId: string) =>
      writeFile(
        join(directory, 'credentials'),
        `[rotated]\naws_access_key_id=${keyId}\naws_secret_access_key=not-a-key\n`,
      )
    vi.stubEnv('AWS_PROFILE', 'rotated')
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', join(directory, 'credentials'))
    vi.stubEnv('AWS_CONFIG_FILE', join(directory, 'config'))
    const used: string[] = []
    class Client extends sdk.Route53Client {
      override async send() {
        used.push((await this.config.credentials()).accessKeyId)
        return { ChangeInfo: { Status: 'INSYNC' } } as never
      }
    }
    try {
      const api = route53Api(undefined, async () => ({ ...sdk, Route53Client: Client }))
      await write('FIRST')
      await api.isInSync('C1', signal)
      await write('SECOND')
      await api.isInSync('C1', signal)
      api.renewCredentials()
      await api.isInSync('C1', signal)
      expect(used).toEqual(['FIRST', 'FIRST', 'SECOND'])
    } finally {
      vi.unstubAllEnvs()
      await rm(directory, { recursive: true })
    }
  })

  it('makes its client another time when that has failed', async () => {
    let count = 0
    class Client {
      readonly config = { region: () => Promise.resolve('eu-west-1') }
      constructor() {
        count += 1
        if (count === 1) throw new Error('the configuration cannot be read')
      }
      send() {
        return Promise.resolve({ ChangeInfo: { Status: 'INSYNC' } })
      }
    }
    const api = route53Api(undefined, async () => ({ Route53Client: Client, GetChangeCommand: Object }))
    await expect(api.isInSync('C1', signal)).rejects.toThrow('cannot be read')
    expect(await api.isInSync('C1', signal)).toBe(true)
  })
})
