import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  batchLimits,
  packBatches,
  planChange,
  sizeOf,
  type RecordChange,
  type WantedValues,
} from '../../../../src/solvers/route53/plan-change.js'
import type { RecordSet } from '../../../../src/solvers/route53/route53-client.js'
import { quoteTxt, unquoteTxt } from '../../../../src/solvers/route53/txt-value.js'

const name = '_acme-challenge.example.com'
const txt = (...texts: string[]): RecordSet => ({
  name,
  type: 'TXT',
  ttl: 300,
  values: texts.map(quoteTxt),
  routing: undefined,
})
const wanted = (parts: Partial<WantedValues>): WantedValues => ({
  name,
  present: [],
  absent: [],
  ttl: 10,
  rewrite: false,
  ...parts,
})
const create = (ttl: number, ...texts: string[]): RecordChange => ({
  action: 'CREATE',
  name,
  ttl,
  values: texts.map(quoteTxt),
})
const remove = (ttl: number, ...texts: string[]): RecordChange => ({ ...create(ttl, ...texts), action: 'DELETE' })

describe('planChange', () => {
  it.each<[string, RecordSet[], Partial<WantedValues>, RecordChange[]]>([
    ['creates what is not there, with our TTL', [], { present: ['a'] }, [create(10, 'a')]],
    ['puts apex and wildcard into one record set', [], { present: ['a', 'b'] }, [create(10, 'a', 'b')]],
    [
      'keeps the values and the TTL of others',
      [txt('x')],
      { present: ['a'] },
      [remove(300, 'x'), create(300, 'x', 'a')],
    ],
    ['takes its own value out', [txt('x', 'a')], { absent: ['a'] }, [remove(300, 'x', 'a'), create(300, 'x')]],
    ['deletes what would be empty', [txt('a')], { absent: ['a'] }, [remove(300, 'a')]],
    ['swaps', [txt('a')], { absent: ['a'], present: ['b'] }, [remove(300, 'a'), create(300, 'b')]],
    ['keeps what one wants and another does not', [txt('a')], { absent: ['a'], present: ['a'] }, []],
    ['does nothing for what is there', [txt('a', 'x')], { present: ['a'] }, []],
    ['does nothing for what is gone', [txt('x')], { absent: ['a'] }, []],
    ['does nothing where nothing is', [], { absent: ['a'] }, []],
    ['rewrites when asked to', [txt('a')], { present: ['a'], rewrite: true }, [remove(300, 'a'), create(300, 'a')]],
    ['rewrites nothing for a clean-up', [txt('x')], { absent: ['a'], rewrite: true }, []],
    [
      'leaves special record sets alone when it cleans up',
      [{ ...txt('a'), routing: 'MultiValueAnswer' }],
      { absent: ['a'] },
      [],
    ],
    ['does not mind other types', [{ ...txt('a'), type: 'CAA' }], { present: ['a'] }, [create(10, 'a')]],
  ])('%s', (_, found, parts, changes) => {
    const plan = planChange(found, wanted(parts))
    expect(plan).toEqual(changes.length === 0 ? { status: 'nothing' } : { status: 'change', changes })
  })

  it('knows its value however it is quoted, and deletes what was read to the letter', () => {
    const found = { ...txt(), values: ['"\\141"', '"x y" "z"'] }
    expect(planChange([found], wanted({ absent: ['a'] }))).toEqual({
      status: 'change',
      changes: [
        { action: 'DELETE', name, ttl: 300, values: ['"\\141"', '"x y" "z"'] },
        { action: 'CREATE', name, ttl: 300, values: ['"x y" "z"'] },
      ],
    })
  })

  it.each<[string, RecordSet, RegExp]>([
    ['a multivalue answer', { ...txt('x'), routing: 'MultiValueAnswer' }, /MultiValueAnswer.*cert-manager/],
    ['a weighted set', { ...txt('x'), routing: 'Weight' }, /Weight/],
    ['an alias', { ...txt(), ttl: undefined }, /alias/],
    ['a CNAME', { ...txt('x'), type: 'CNAME' }, /CNAME.*"followCname"/],
  ])('explains what stands in the way: %s', (_, found, text) => {
    const plan = planChange([found], wanted({ present: ['a'] }))
    expect(plan).toMatchObject({ status: 'obstacle', obstacle: expect.stringMatching(text) as string })
  })

  it('never loses a foreign value, and always arrives', () => {
    const texts = fc.array(fc.string({ unit: 'binary', maxLength: 20 }), { maxLength: 5 })
    const property = fc.property(texts, texts, texts, fc.boolean(), (current, present, absent, rewrite) => {
      const values = [...new Set(current)]
      const found = values.length === 0 ? [] : [txt(...values)]
      const plan = planChange(found, wanted({ present, absent, rewrite }))
      expect(plan.status).not.toBe('obstacle')
      const changes = plan.status === 'change' ? plan.changes : []
      const deleted = changes.filter(({ action }) => action === 'DELETE')
      const created = changes.filter(({ action }) => action === 'CREATE')
      expect(deleted.map((change) => change.values)).toEqual(changes.length > 0 && found[0] ? [found[0].values] : [])
      const after = (changes.length === 0 ? (found[0]?.values ?? []) : created.flatMap((change) => change.values)).map(
        unquoteTxt,
      )
      const foreign = values.filter((value) => !present.includes(value) && !absent.includes(value))
      expect(new Set(after)).toEqual(new Set([...foreign, ...present]))
      expect(after.length).toBe(new Set(after).size)
    })
    fc.assert(property, { seed: 20261125, numRuns: 300 })
  })
})

describe('packBatches', () => {
  const plan = (records: number, length = 10) => ({
    changes: [
      { action: 'CREATE' as const, name, ttl: 10, values: Array.from({ length: records }, () => 'v'.repeat(length)) },
    ],
  })

  it('takes a hundred names in one batch', () => {
    expect(packBatches(Array.from({ length: 100 }, () => plan(1, 45)))).toHaveLength(1)
  })

  it('has nothing to send for nothing', () => {
    expect(packBatches([])).toEqual([])
  })

  it.each([
    [1000, 1],
    [1001, 2],
    [2500, 3],
  ])('cuts %i records at the limit of records', (count, batches) => {
    expect(packBatches(Array.from({ length: count }, () => plan(1))).map((batch) => batch.length)).toHaveLength(batches)
  })

  it.each([
    [320, 1],
    [321, 2],
  ])('cuts %i records of 100 characters at the limit of characters', (count, batches) => {
    expect(packBatches(Array.from({ length: count }, () => plan(1, 100)))).toHaveLength(batches)
  })

  it('loses nothing, tears nothing apart, keeps the order', () => {
    const sizes = fc.array(fc.tuple(fc.integer({ min: 1, max: 400 }), fc.integer({ min: 1, max: 80 })), {
      maxLength: 40,
    })
    const property = fc.property(sizes, (all) => {
      const plans = all.map(([records, length]) => plan(records, length))
      const batches = packBatches(plans)
      expect(batches.flat()).toEqual(plans)
      for (const batch of batches) {
        const size = sizeOf(batch.flatMap((each) => each.changes))
        expect(size.records <= batchLimits.records && size.characters <= batchLimits.characters).toBe(true)
      }
    })
    fc.assert(property, { seed: 20261125 })
  })
})
