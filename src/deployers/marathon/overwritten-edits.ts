/**
 * Marathon has no conditional update: what somebody else changes between our reading and our writing is overwritten by what
 * we have read. Its list of versions shows that it happened, and what was lost. Pure.
 *
 * @module
 */
import { own } from './app-update.js'
import type { MarathonApp } from './marathon-app.js'

/** One entry of the environment, or one field, as somebody else has set it; `undefined` is removed. */
export interface Edit {
  readonly field: 'env' | 'app'
  readonly name: string
  /** As we wrote it. */
  readonly before: unknown
  readonly after: unknown
}

/** The last version of others that was there when we wrote; `undefined` when we wrote to what we had read. */
export function overwrittenVersion(
  versions: readonly string[],
  read: string | undefined,
  written: string | undefined,
): string | undefined {
  const [from, until] = [Date.parse(read ?? ''), Date.parse(written ?? '')]
  const between = versions.filter((version) => Date.parse(version) > from && Date.parse(version) < until)
  return between.sort((one, other) => Date.parse(one) - Date.parse(other)).at(-1)
}

/** What their version changed of that which we wrote back, our own variable apart. */
export function overwrittenEdits(read: MarathonApp, theirs: MarathonApp, variable: string): readonly Edit[] {
  const edits = (field: Edit['field'], before: Values, after: Values): readonly Edit[] =>
    [...new Set([...Object.keys(before), ...Object.keys(after)])]
      .map((name) => ({ field, name, before: own(before, name), after: own(after, name) }))
      .filter((edit) => !same(edit.before, edit.after))
  return [
    ...edits('env', read.env, theirs.env).filter(({ name }) => name !== variable),
    ...edits('app', read.echoed, theirs.echoed),
  ]
}

/** The update that brings them back; `undefined` when there is nothing to bring back, or all of it was changed again. */
export function restoringUpdate(app: MarathonApp, edits: readonly Edit[]): Values | undefined {
  const places = { env: app.env, app: app.echoed }
  const due = edits.filter(
    ({ field, name, before, after }) => same(own(places[field], name), before) && !same(before, after),
  )
  if (due.length === 0) return undefined
  const changed = (field: Edit['field']): Values => {
    const values = { ...places[field] }
    for (const edit of due) {
      if (edit.field !== field) continue
      if (edit.after === undefined) Reflect.deleteProperty(values, edit.name)
      else Reflect.defineProperty(values, edit.name, { value: edit.after, enumerable: true, configurable: true })
    }
    return values
  }
  return { env: changed('env'), ...changed('app') }
}

type Values = Readonly<Record<string, unknown>>

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}
