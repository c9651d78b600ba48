import { describe, expect, it } from 'vitest'
import { readApp, type MarathonApp } from '../../../../src/deployers/marathon/marathon-app.js'
import {
  overwrittenEdits,
  overwrittenVersion,
  restoringUpdate,
} from '../../../../src/deployers/marathon/overwritten-edits.js'
import { secondInstant } from './scripted-marathon.js'

const app = (env: Record<string, unknown>, fields: Record<string, unknown> = {}): MarathonApp =>
  readApp({ app: { id: '/lb', env, ...fields } })!
const [one, two, three, four] = [1, 2, 3, 4].map(secondInstant) as [string, string, string, string]

describe('a version of somebody else between reading and writing', () => {
  it.each<[string, readonly string[], string | undefined, string | undefined, string | undefined]>([
    ['is none when ours follows what was read', [two, one], one, two, undefined],
    ['is the one between', [three, two, one], one, three, two],
    ['is the last of several', [one, three, two, four], one, four, three],
    ['is not one after ours', [four, three, one], one, three, undefined],
    ['is not told where a version is not known', [three, two, one], one, undefined, undefined],
    ['is not told where what was read has none', [three, two, one], undefined, three, undefined],
    ['is none when nothing changed', [one], one, one, undefined],
  ])('%s', (_, versions, read, written, found) => {
    expect(overwrittenVersion(versions, read, written)).toBe(found)
  })
})

describe('what was overwritten', () => {
  const read = app(
    { CERT: 'old', KEPT: 'a', CHANGED: 'b', REMOVED: 'c', SECRET: { secret: 's' } },
    { secrets: { s: {} } },
  )
  const theirs = app(
    { CERT: 'theirs', KEPT: 'a', CHANGED: 'B', ADDED: 'd', SECRET: { secret: 't' } },
    { secrets: { t: {} }, resourceLimits: { mem: 1 } },
  )
  const edits = overwrittenEdits(read, theirs, 'CERT')
  const written = (changes: Record<string, unknown> = {}): MarathonApp =>
    app({ ...read.env, CERT: 'new', ...changes }, read.echoed)

  it('is everything they changed but our own variable', () => {
    expect(edits.map(({ name }) => name).sort()).toEqual([
      'ADDED',
      'CHANGED',
      'REMOVED',
      'SECRET',
      'resourceLimits',
      'secrets',
    ])
  })

  it('is brought back', () => {
    expect(restoringUpdate(written(), edits)).toEqual({
      env: { CERT: 'new', KEPT: 'a', CHANGED: 'B', ADDED: 'd', SECRET: { secret: 't' } },
      secrets: { t: {} },
      resourceLimits: { mem: 1 },
    })
  })

  it('is left alone where it was changed again, or is back already', () => {
    expect(restoringUpdate(written({ CHANGED: 'once more' }), edits)).toMatchObject({
      env: { CHANGED: 'once more', ADDED: 'd' },
    })
    expect(restoringUpdate(theirs, edits)).toBeUndefined()
    expect(restoringUpdate(written(), [])).toBeUndefined()
  })

  it('can be called __proto__', () => {
    const odd = overwrittenEdits(app({}), app(JSON.parse('{"__proto__":"x"}') as Record<string, unknown>), 'CERT')
    expect(JSON.stringify(restoringUpdate(app({}), odd))).toBe('{"env":{"__proto__":"x"}}')
  })
})
