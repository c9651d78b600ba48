/**
 * route53Solver through the AWS SDK against moto's server, which was written by others from AWS's documentation.
 *
 * Where moto 5 is not Route 53: `CREATE` of a record set that is there is refused only when the very same change was made
 * before (and then even if the batch deletes it first); `DELETE` must match something that was created once, not what is there
 * now, and is otherwise refused as `InvalidInput`; a change is in sync at once; nothing is ever throttled. So nothing here
 * races, and nothing writes a record set twice: test/integration/route53.test.ts does.
 */
import { ChangeResourceRecordSetsCommand, ListResourceRecordSetsCommand } from '@aws-sdk/client-route-53'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import { silentLogger } from '../../src/core/logger.js'
import type { Dns01Challenge } from '../../src/solvers/challenge-solver.js'
import { route53Solver, type Route53SolverOptions } from '../../src/solvers/route53/index.js'
import { dnsChallenge } from '../unit/solvers/challenges.js'
import { startMoto, type Moto } from '../support/moto.js'
import { describeWith } from '../support/servers.js'

const context = { signal: new AbortController().signal, clock: systemClock, logger: silentLogger }

describeWith(['moto_server'], 'route53Solver against moto', () => {
  let moto: Moto
  beforeAll(async () => {
    moto = await startMoto()
  })
  afterAll(() => moto.stop())

  const solver = (options: Route53SolverOptions = {}) =>
    route53Solver({
      client: moto.client(),
      followCname: false,
      propagation: false,
      requestsPerSecond: 1000,
      ...options,
    })

  async function recordSets(zoneId: string) {
    const { ResourceRecordSets = [] } = await moto
      .client()
      .send(new ListResourceRecordSetsCommand({ HostedZoneId: zoneId }))
    return ResourceRecordSets.filter(({ Type }) => Type === 'TXT').map((set) => ({
      name: set.Name,
      ttl: set.TTL,
      values: (set.ResourceRecords ?? []).map(({ Value }) => Value),
    }))
  }

  async function plant(zoneId: string, set: object): Promise<void> {
    await moto.client().send(
      new ChangeResourceRecordSetsCommand({
        HostedZoneId: zoneId,
        ChangeBatch: { Changes: [{ Action: 'CREATE', ResourceRecordSet: set as never }] },
      }),
    )
  }

  it('puts up, follows and takes down: apex, wildcard and a name beside them', async () => {
    const zoneId = await moto.createZone('apex.example')
    const challenges = [
      dnsChallenge('apex.example', 'apex-value'),
      dnsChallenge('*.apex.example', 'wildcard-value'),
      dnsChallenge('www.apex.example', 'www-value'),
    ]
    const subject = solver()
    await Promise.all(challenges.map((each) => subject.present(each, context)))
    expect(await recordSets(zoneId)).toEqual([
      { name: '_acme-challenge.apex.example.', ttl: 10, values: ['"apex-value"', '"wildcard-value"'] },
      { name: '_acme-challenge.www.apex.example.', ttl: 10, values: ['"www-value"'] },
    ])
    await Promise.all(challenges.map((each) => subject.waitUntilReady(each, context)))
    await Promise.all(challenges.map((each) => subject.cleanUp(each, context)))
    await Promise.all(challenges.map((each) => subject.cleanUp(each, context)))
    expect(await recordSets(zoneId)).toEqual([])
  })

  it('keeps the values of others and their TTL, whatever they are', async () => {
    const zoneId = await moto.createZone('foreign.example')
    const foreign = ['"somebody else\'s"', '"two" "strings"', '"\\"quoted\\" \\052"']
    const set = { Name: '_acme-challenge.foreign.example.', Type: 'TXT', TTL: 300 }
    await plant(zoneId, { ...set, ResourceRecords: foreign.map((Value) => ({ Value })) })
    await plant(zoneId, { ...set, Name: '\\052.foreign.example.', ResourceRecords: [{ Value: '"wild"' }] })
    const [one, other] = [dnsChallenge('foreign.example', 'one'), dnsChallenge('foreign.example', 'other')]
    await solver().present(one, context)
    await solver().present(other, context)
    const [wild, found] = (await recordSets(zoneId)).sort((left, right) => (left.name! < right.name! ? -1 : 1))
    expect(wild?.values).toEqual(['"wild"'])
    expect(found).toEqual({
      name: '_acme-challenge.foreign.example.',
      ttl: 300,
      values: [...foreign, '"one"', '"other"'],
    })
    // A new instance, as after a crash.
    await solver().cleanUp(one, context)
    expect((await recordSets(zoneId)).flatMap(({ values }) => values)).toEqual(
      expect.arrayContaining([...foreign, '"other"']),
    )
    expect((await recordSets(zoneId)).flatMap(({ values }) => values)).not.toContain('"one"')
  })

  it('finds the longest public zone over all pages', async () => {
    await moto.createZone('paged.example')
    const privateZone = await moto.createZone('deep.sub.paged.example', { private: true })
    const sub = await moto.createZone('sub.paged.example')
    for (let index = 0; index < 110; index += 1) await moto.createZone(`filler${String(index)}.example`)
    const last = await moto.createZone('last.paged.example')
    const subject = solver()
    await subject.present(dnsChallenge('deep.sub.paged.example', 'deep'), context)
    await subject.present(dnsChallenge('www.last.paged.example', 'last'), context)
    expect((await recordSets(sub)).map(({ values }) => values)).toEqual([['"deep"']])
    expect((await recordSets(last)).map(({ values }) => values)).toEqual([['"last"']])
    expect(await recordSets(privateZone)).toEqual([])
  })

  it('takes one change for a hundred names, and reads beyond a page', async () => {
    const zoneId = await moto.createZone('hundred.example')
    const filler = Array.from({ length: 350 }, (_, index) => ({
      Action: 'CREATE' as const,
      ResourceRecordSet: {
        Name: `a${String(index)}.hundred.example`,
        Type: 'TXT' as const,
        TTL: 60,
        ResourceRecords: [{ Value: '"filler"' }],
      },
    }))
    await moto
      .client()
      .send(new ChangeResourceRecordSetsCommand({ HostedZoneId: zoneId, ChangeBatch: { Changes: filler } }))
    const sent: string[] = []
    const client = moto.client()
    const subject = solver({
      client: {
        send(command, options) {
          sent.push(command.constructor.name)
          return client.send(command as never, options)
        },
      },
    })
    const challenges: Dns01Challenge[] = Array.from({ length: 100 }, (_, index) =>
      dnsChallenge(`${index % 2 === 0 ? 'a' : 'z'}${String(index)}.hundred.example`, `value-${String(index)}`),
    )
    const changes = () => sent.filter((name) => name === 'ChangeResourceRecordSetsCommand').length
    await Promise.all(challenges.map((each) => subject.present(each, context)))
    expect(changes()).toBe(1)
    expect(await countOfChallenges(zoneId)).toBe(100)
    await Promise.all(challenges.map((each) => subject.cleanUp(each, context)))
    expect(changes()).toBe(2)
    expect(await countOfChallenges(zoneId)).toBe(0)
    expect(sent.length).toBeLessThan(15)
  })

  async function countOfChallenges(zoneId: string): Promise<number> {
    let count = 0
    let start: string | undefined
    for (;;) {
      const page = await moto
        .client()
        .send(new ListResourceRecordSetsCommand({ HostedZoneId: zoneId, StartRecordName: start }))
      const { ResourceRecordSets = [], IsTruncated, NextRecordName } = page
      count += ResourceRecordSets.filter(({ Name }) => Name?.startsWith('_acme-challenge.')).length
      if (IsTruncated !== true) return count
      start = NextRecordName
    }
  }

  it('explains what is in the way, and what is missing', async () => {
    const zoneId = await moto.createZone('special.example')
    await plant(zoneId, {
      Name: '_acme-challenge.special.example.',
      Type: 'TXT',
      TTL: 10,
      SetIdentifier: '"cert-manager"',
      MultiValueAnswer: true,
      ResourceRecords: [{ Value: '"cert-manager"' }],
    })
    const fail = (work: Promise<void>): Promise<unknown> =>
      work.then(
        () => undefined,
        (error: unknown) => error,
      )
    const challenge = dnsChallenge('special.example', 'mine')
    expect(await fail(solver().present(challenge, context))).toMatchObject({
      code: 'ERR_CHALLENGE_FAILED',
      message: expect.stringContaining('MultiValueAnswer') as string,
    })
    await solver().cleanUp(challenge, context)
    expect(await fail(solver({ hostedZoneId: 'ZNOTHERE' }).present(challenge, context))).toMatchObject({
      message: expect.stringContaining('hosted zone ZNOTHERE does not exist') as string,
      cause: { kind: 'no-zone', status: 404 },
    })
    const outside = dnsChallenge('www.elsewhere.example', 'mine')
    expect(await fail(solver({ hostedZoneId: zoneId }).present(outside, context))).toMatchObject({
      message: expect.stringContaining('is not permitted in zone') as string,
      cause: { kind: 'refused', awsCode: 'InvalidChangeBatch' },
    })
    const twin = await moto.createZone('special.example')
    expect(await fail(solver().present(challenge, context))).toMatchObject({
      message: expect.stringContaining(twin) as string,
    })
  })

  it('says that nobody answers', async () => {
    const gone = await startMoto()
    const client = gone.client()
    await gone.stop()
    const subject = solver({ client, timeoutMs: 1_000, hostedZoneId: 'Z1' })
    await expect(subject.present(dnsChallenge('www.apex.example'), context)).rejects.toMatchObject({
      code: 'ERR_CHALLENGE_FAILED',
      retryable: true,
      message: expect.stringContaining('ECONNREFUSED') as string,
    })
  })
})
