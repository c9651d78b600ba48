import { describe, expect, it } from 'vitest'
import { route53Calls } from '../../../../src/solvers/route53/route53-calls.js'
import type { Route53Api } from '../../../../src/solvers/route53/route53-client.js'
import { readFailure } from '../../../../src/solvers/route53/route53-failure.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { awsError } from '../../../support/fake-route53.js'

/** Answers of `GetChange`, one after the other; then `true`. */
function createWorld(answers: readonly unknown[]) {
  const clock = fakeClock({ autoAdvance: true })
  const start = clock.now()
  const times: number[] = []
  const renewed: number[] = []
  const refuse = (): never => {
    throw new Error('not asked for')
  }
  const api: Route53Api = {
    listHostedZones: refuse,
    listRecordSets: refuse,
    changeRecordSets: refuse,
    async isInSync() {
      const answer = answers[times.push(clock.now() - start) - 1]
      if (answer !== undefined) throw readFailure('GetChange', answer)
      return true
    },
    renewCredentials: () => renewed.push(times.length),
  }
  const calls = route53Calls({
    api,
    requestsPerSecond: 5,
    changesPerSecond: 100,
    requestTimeoutMs: 15_000,
    timeoutMs: 120_000,
    random: () => 0,
  })
  return { calls, times, renewed, context: operationContext({ clock }) }
}

describe('route53Calls', () => {
  it('holds everybody back once Route 53 throttles', async () => {
    const { calls, times, context } = createWorld([awsError('Throttling')])
    const others = (async () => {
      // Time stands still meanwhile: microtasks only.
      for (let turn = 0; turn < 50; turn += 1) await Promise.resolve()
      await Promise.all([calls.isInSync('C2', context), calls.isInSync('C3', context)])
    })()
    await Promise.all([calls.isInSync('C1', context), others])
    expect(times).toEqual([0, 200, 400, 600])
  })

  it('has credentials looked for again when they have expired', async () => {
    const expired = awsError('ExpiredToken', 'expired', { status: 403 })
    const { calls, renewed, context } = createWorld([expired, expired])
    expect(await calls.isInSync('C1', context)).toBe(true)
    expect(renewed).toEqual([1, 2])
  })

  it('has credentials looked for again, another time, when nobody knows them any more', async () => {
    const { calls, renewed, context } = createWorld([awsError('InvalidClientTokenId', 'unknown', { status: 403 })])
    await expect(calls.isInSync('C1', context)).rejects.toMatchObject({ kind: 'credentials' })
    expect(renewed).toEqual([1])
  })

  it('waits longer each time, up to ten seconds, and then gives up', async () => {
    const { calls, times, context } = createWorld(
      Array.from({ length: 100 }, () => awsError('PriorRequestNotComplete')),
    )
    await expect(calls.isInSync('C1', context)).rejects.toMatchObject({ kind: 'busy' })
    const waits = times.slice(1).map((time, index) => time - times[index]!)
    expect(waits.slice(0, 6)).toEqual([500, 1000, 2000, 4000, 8000, 10_000])
    expect(Math.max(...waits)).toBe(10_000)
    expect(times.at(-1)).toBeGreaterThan(100_000)
    expect(times.at(-1)).toBeLessThanOrEqual(120_000)
  })

  it.each(['AccessDenied', 'InvalidClientTokenId', 'InvalidInput', 'NoSuchChange'])(
    'does not repeat after %s',
    async (name) => {
      const { calls, times, context } = createWorld([awsError(name, name, { status: 403 })])
      await expect(calls.isInSync('C1', context)).rejects.toMatchObject({ awsCode: name })
      expect(times).toHaveLength(1)
    },
  )
})
