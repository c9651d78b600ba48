import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readRecordSets } from '../../../../src/solvers/route53/read-record-sets.js'
import { compareNames } from '../../../../src/solvers/route53/record-names.js'
import type { RecordSet } from '../../../../src/solvers/route53/route53-client.js'

const set = (name: string, type = 'TXT'): RecordSet => ({ name, type, ttl: 10, values: ['"x"'], routing: undefined })

/** A zone that is listed page by page. */
function zone(sets: readonly RecordSet[], pageSize: number) {
  const sorted = [...sets].sort((one, other) => compareNames(one.name, other.name))
  const starts: string[] = []
  const list = async (start: string) => {
    starts.push(start)
    const rest = sorted.filter(({ name }) => compareNames(name, start) >= 0)
    return { items: rest.slice(0, pageSize), next: rest[pageSize]?.name }
  }
  return { list, starts }
}

describe('readRecordSets', () => {
  const names = Array.from({ length: 100 }, (_, index) => `_acme-challenge.host${String(index)}.example.com`)

  it('takes one request for a hundred names of a small zone', async () => {
    const { list, starts } = zone(
      names.slice(0, 50).map((name) => set(name)),
      300,
    )
    const found = await readRecordSets(names, list)
    expect(starts).toHaveLength(1)
    expect([...found.values()].filter((sets) => sets.length === 1)).toHaveLength(50)
    expect(found.size).toBe(100)
  })

  it('takes at most one request for each name of a large one', async () => {
    const others = names.flatMap((name) =>
      Array.from({ length: 15 }, (_, index) => set(`n${String(index)}.${name.slice(16)}`)),
    )
    const { list, starts } = zone([...others, ...names.map((name) => set(name))], 10)
    const found = await readRecordSets(names, list)
    expect(starts.length).toBeLessThanOrEqual(100)
    expect([...found.values()].every((sets) => sets.length === 1)).toBe(true)
  })

  it('finds what a reading name by name finds', async () => {
    const label = fc.constantFrom('a', 'b', 'a-b', '_acme-challenge', 'z')
    const name = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => [...labels, 'example.com'].join('.'))
    const property = fc.asyncProperty(
      fc.array(name, { maxLength: 30 }),
      fc.uniqueArray(name, { maxLength: 10 }),
      fc.integer({ min: 1, max: 5 }),
      async (there, wanted, pageSize) => {
        // Several record sets of one name lie in one page or the next.
        const sets = [...new Set(there)].flatMap((each) => [set(each), set(each, 'CAA')])
        const found = await readRecordSets(wanted, zone(sets, Math.max(2, pageSize)).list)
        for (const each of wanted) {
          expect(
            found
              .get(each)
              ?.map(({ type }) => type)
              .sort() ?? [],
          ).toEqual(there.includes(each) ? ['CAA', 'TXT'] : [])
        }
      },
    )
    await fc.assert(property, { seed: 20261125, numRuns: 200 })
  })

  it('ends when a server pages in circles', async () => {
    const found = await readRecordSets(names, async (start) => ({ items: [set(start)], next: start }))
    expect(found.size).toBe(100)
  })
})
