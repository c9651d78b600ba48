/**
 * The Route 53 emulator under an ACME server that somebody else wrote: what is written through the API is what Pebble
 * reads in DNS. The solver here is as plain as can be, so that the emulator is what is tested.
 */
import { ChangeResourceRecordSetsCommand, GetChangeCommand } from '@aws-sdk/client-route-53'
import { afterEach, expect, it } from 'vitest'
import { acmeIssuer } from '../../src/issuers/acme/index.js'
import type { ChallengeSolver } from '../../src/solvers/challenge-solver.js'
import { startRoute53, type Route53Emulator, type Route53Options } from '../servers/route53/index.js'
import { sdkClient } from '../servers/route53/sdk-client.js'
import { issueOnce } from '../support/issue-once.js'
import { startPebble } from '../support/pebble.js'
import { describeWith } from '../support/servers.js'

const closers: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

describeWith(['pebble', 'pebble-challtestsrv'], 'the Route 53 emulator with Pebble', () => {
  it('apex and wildcard, at one name', async () => {
    const { route53, issue } = await start({ zones: [{ name: 'example.com', id: 'Z1' }] })
    const { leaf } = await issue(['example.com', '*.example.com'], '_acme-challenge.example.com')
    expect(leaf.identifiers).toHaveLength(2)
    const queries = route53.resolver.queries.filter(({ type }) => type === 'TXT')
    expect(new Set(queries.map(({ name }) => name))).toEqual(new Set(['_acme-challenge.example.com']))
    expect(route53.recordSets('Z1', ['TXT'])).toMatchObject([{ values: [expect.anything(), expect.anything()] }])
  })

  it('a CNAME that leads into another hosted zone', async () => {
    const cname = {
      name: '_acme-challenge.www.example.com',
      type: 'CNAME',
      ttl: 300,
      values: ['www.acme.example.net.'],
    }
    const { issue } = await start({
      zones: [
        { name: 'acme.example.net', id: 'Z1' },
        { name: 'example.com', recordSets: [cname] },
      ],
    })
    await issue(['www.example.com'], 'www.acme.example.net')
  })

  it('nothing is found before the change is INSYNC', async () => {
    const { issue } = await start({ zones: [{ name: 'example.com', id: 'Z1' }], pace: 'manual' })
    await expect(issue(['example.com'], '_acme-challenge.example.com')).rejects.toMatchObject({
      message: expect.stringContaining('_acme-challenge.example.com') as string,
    })
  })
})

async function start(options: Route53Options) {
  const route53 = await startRoute53(options)
  closers.push(() => route53.close())
  const pebble = await startPebble({ dnsServer: route53.resolverEndpoint })
  closers.push(() => pebble.stop())
  const trustedRoots = await pebble.rootPem()
  return {
    route53,
    async issue(names: readonly string[], recordName: string) {
      const issuer = acmeIssuer({
        directory: pebble.directoryUrl,
        ca: pebble.caPem,
        termsOfServiceAgreed: true,
        solvers: [plainSolver(route53, recordName)],
        preflight: false,
        trustedRoots,
      })
      closers.push(() => issuer.close())
      return issueOnce(issuer, names, { trustedRoots })
    },
  }
}

/** Writes all values to one record set of the zone Z1 and leaves them there. */
function plainSolver(route53: Route53Emulator, recordName: string): ChallengeSolver<'dns-01'> {
  const client = sdkClient(route53)
  closers.push(async () => client.destroy())
  const values: string[] = []
  let latest: string | undefined
  return {
    name: 'dns-01/plain',
    type: 'dns-01',
    async present({ recordValue }) {
      values.push(`"${recordValue}"`)
      const ResourceRecords = values.map((Value) => ({ Value }))
      const ResourceRecordSet = { Name: recordName, Type: 'TXT', TTL: 10, ResourceRecords } as const
      const { ChangeInfo } = await client.send(
        new ChangeResourceRecordSetsCommand({
          HostedZoneId: 'Z1',
          ChangeBatch: { Changes: [{ Action: 'UPSERT', ResourceRecordSet }] },
        }),
      )
      latest = ChangeInfo?.Id
    },
    async waitUntilReady() {
      if (route53.pace === 'manual') return
      for (let status: string | undefined; status !== 'INSYNC';)
        status = (await client.send(new GetChangeCommand({ Id: latest }))).ChangeInfo?.Status
    },
    cleanUp: () => Promise.resolve(),
  }
}
