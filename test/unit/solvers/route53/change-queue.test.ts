import { describe, expect, it } from 'vitest'
import { changeQueue, type ValueRequest } from '../../../../src/solvers/route53/change-queue.js'
import type { Route53Calls } from '../../../../src/solvers/route53/route53-calls.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { operationContext } from '../../../../src/testing/operation-context.js'

function createWorld() {
  const clock = fakeClock()
  const batches: string[][] = []
  const calls: Route53Calls = {
    listHostedZones: async () => [],
    readRecordSets: async () => new Map(),
    async change(zoneId, changes) {
      batches.push(changes.map(({ name }) => `${zoneId} ${name}`))
      return `C${String(batches.length)}`
    },
    isInSync: async () => true,
  }
  const queue = changeQueue({ calls, ttl: 10, random: () => 0 })
  const request = (name: string, zoneId = 'Z1'): ValueRequest => ({ zoneId, name, text: 'x', want: 'present' })
  return { clock, batches, queue, request, context: operationContext({ clock }) }
}

describe('changeQueue', () => {
  it('waits for whoever is still finding out where to go', async () => {
    const { clock, batches, queue, request, context } = createWorld()
    const [arrived, alsoArrived] = [queue.expectOne(), queue.expectOne()]
    const first = queue.submit(request('a'), context)
    arrived()
    await clock.advance(9_000)
    expect(batches).toEqual([])
    const second = queue.submit(request('b'), context)
    alsoArrived()
    await clock.advance(0)
    const [one, other] = await Promise.all([first, second])
    expect(batches).toEqual([['Z1 a', 'Z1 b']])
    expect(one).toBe(other)
  })

  it('waits for nobody for long, and in all zones alike', async () => {
    const { clock, batches, queue, request, context } = createWorld()
    const lost = queue.expectOne()
    const work = [queue.submit(request('a'), context), queue.submit(request('b', 'Z2'), context)]
    await clock.advance(10_049)
    expect(batches).toEqual([])
    await clock.advance(1)
    await Promise.all(work)
    expect(batches).toEqual([['Z1 a'], ['Z2 b']])
    lost()
    const later = queue.submit(request('c'), context)
    await clock.advance(50)
    await later
    expect(clock.sleeping).toBe(0)
  })

  it('lets the waits of all zones end when the last one is here', async () => {
    const { clock, batches, queue, request, context } = createWorld()
    const arrived = queue.expectOne()
    const work = [queue.submit(request('a'), context), queue.submit(request('b', 'Z2'), context)]
    await clock.advance(100)
    arrived()
    await clock.advance(0)
    await Promise.all(work)
    expect(batches).toHaveLength(2)
  })
})
