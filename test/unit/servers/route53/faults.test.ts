import {
  ChangeResourceRecordSetsCommand,
  ListHostedZonesCommand,
  type Change,
  type Route53Client,
} from '@aws-sdk/client-route-53'
import { fakeClock } from 'evercert/testing'
import { describe, expect, test } from 'vitest'
import { ApiError, type ApiFaultAction, type Route53Emulator } from '../../../servers/route53/index.js'
import { start } from './start.js'

const create: Change = {
  Action: 'CREATE',
  ResourceRecordSet: { Name: 'a.example.com', Type: 'TXT', TTL: 10, ResourceRecords: [{ Value: '"a"' }] },
}
const submit = (client: Route53Client) =>
  client.send(new ChangeResourceRecordSetsCommand({ HostedZoneId: 'Z1', ChangeBatch: { Changes: [create] } }))
const list = (client: Route53Client) => client.send(new ListHostedZonesCommand({}))
const isCreated = (route53: Route53Emulator): boolean => route53.recordSets('Z1', ['TXT']).length === 1

describe('a request goes wrong', () => {
  const cases: Record<string, [action: ApiFaultAction, error: object, effect: boolean]> = {
    Throttling: [
      { error: 'Throttling' },
      { name: 'Throttling', message: 'Rate exceeded', $metadata: { httpStatusCode: 400 } },
      false,
    ],
    ServiceUnavailable: [
      { error: 'ServiceUnavailable' },
      { name: 'ServiceUnavailable', $metadata: { httpStatusCode: 503 }, Type: 'Receiver' },
      false,
    ],
    PriorRequestNotComplete: [{ error: 'PriorRequestNotComplete' }, { name: 'PriorRequestNotComplete' }, false],
    'an error that came too late': [
      { error: 'InternalFailure', afterEffect: true },
      { name: 'InternalFailure', $metadata: { httpStatusCode: 500 } },
      true,
    ],
    "an error of one's own": [
      { error: new ApiError('LimitsExceeded', 400, 'too <many>') },
      { name: 'LimitsExceeded', message: 'too <many>' },
      false,
    ],
    'a page of a proxy': [
      { status: 502, contentType: 'text/html', body: '<html>502</html>' },
      { $metadata: { httpStatusCode: 502 } },
      false,
    ],
    'a connection that is cut before': ['drop-before', { code: 'ECONNRESET' }, false],
    'a reply that is lost': ['drop-after', { code: 'ECONNRESET' }, true],
    'a reply that is cut short': ['truncate', { code: 'ECONNRESET' }, true],
  }

  test.each(Object.entries(cases))('%s', async (_, [action, error, effect]) => {
    const { client, route53 } = await start()
    const fault = route53.addFault({ match: { operation: 'ChangeResourceRecordSets' }, action })
    await expect(submit(client)).rejects.toMatchObject(error)
    expect(fault.fired).toBe(1)
    expect(isCreated(route53)).toBe(effect)
    expect(route53.requests).toMatchObject([{ fault: action }])

    // What is not named goes well, and all goes well without the fault.
    await list(client)
    fault.remove()
    if (!effect) await submit(client)
  })

  test('a request that is never answered is given up by the client', async () => {
    const { client, route53 } = await start()
    const fault = route53.addFault({ match: {}, action: 'hang' })
    const controller = new AbortController()
    const pending = client.send(new ListHostedZonesCommand({}), { abortSignal: controller.signal })
    const failed = expect(pending).rejects.toMatchObject({ name: 'AbortError' })
    await expect.poll(() => fault.fired).toBe(1)
    controller.abort()
    await failed
  })

  test('the nth request of its kind, swept until none is left', async () => {
    const { client, route53 } = await start()
    const outcomes: string[][] = []
    for (let nth = 1; ; nth += 1) {
      const fault = route53.addFault({ match: { operation: 'ListHostedZones', nth }, action: { error: 'Throttling' } })
      const outcome: string[] = []
      for (let call = 1; call <= 2; call += 1)
        outcome.push(
          await list(client).then(
            () => 'ok',
            () => 'failed',
          ),
        )
      fault.remove()
      outcomes.push(outcome)
      if (fault.fired === 0) break
    }
    expect(outcomes).toEqual([
      ['failed', 'ok'],
      ['ok', 'failed'],
      ['ok', 'ok'],
    ])
  })

  test('by zone and by access key', async () => {
    const { client, route53 } = await start()
    const others = [
      route53.addFault({ match: { zoneId: 'Z2' }, action: 'drop-before' }),
      route53.addFault({ match: { accessKeyId: 'AKIDOTHER' }, action: 'drop-before' }),
    ]
    const ours = route53.addFault({ match: { zoneId: 'Z1', accessKeyId: 'AKIDANYBODY' }, action: 'drop-before' })
    await expect(submit(client)).rejects.toMatchObject({ code: 'ECONNRESET' })
    expect([...others, ours].map(({ fired }) => fired)).toEqual([0, 0, 1])
  })

  test('each answer has a request id of its own, refusals too', async () => {
    const { client, route53 } = await start()
    route53.addFault({ match: { nth: 2 }, action: { error: 'Throttling' } })
    route53.addFault({ match: { nth: 3 }, action: { error: 'Throttling' } })
    const ids: (string | undefined)[] = [(await list(client)).$metadata.requestId]
    for (let call = 1; call <= 2; call += 1)
      ids.push(
        await list(client).then(
          () => undefined,
          (error: unknown) => (error as { $metadata: { requestId: string } }).$metadata.requestId,
        ),
      )
    expect(new Set(ids).size).toBe(3)
    expect(ids).toEqual(route53.requests.map(({ requestId }) => requestId))
  })
})

describe('rate limits', () => {
  test('five requests a second', async () => {
    const clock = fakeClock()
    const { client } = await start({ clock, limits: { requests: { perSecond: 5 } } })
    for (let call = 1; call <= 5; call += 1) await list(client)
    await expect(list(client)).rejects.toMatchObject({ name: 'Throttling', message: 'Rate exceeded' })
    await clock.advance(200)
    await list(client)
    await expect(list(client)).rejects.toMatchObject({ name: 'Throttling' })
  })

  test('changes are counted apart from requests', async () => {
    const clock = fakeClock()
    const { client, route53 } = await start({ clock, limits: { changes: { perSecond: 1, burst: 1 } } })
    await submit(client)
    await list(client)
    await expect(submit(client)).rejects.toMatchObject({ name: 'Throttling' })
    route53.limitRate(undefined)
    await expect(submit(client)).rejects.toMatchObject({ name: 'InvalidChangeBatch' })
  })
})
