/**
 * Compare-and-set of objects. The revision that is compared is kept in the object by us; the API server's own
 * `resourceVersion` makes sure that nobody wrote between the comparison and the write.
 *
 * @module
 */
import type { PutOptions, Revision } from '../cert-store.js'
import { compareRevision, conflict } from '../compare-revision.js'
import type { KubernetesObject, KubernetesObjects, ObjectContent, Step } from './kubernetes-objects.js'

/** One object that is written. */
export interface Target {
  readonly objects: KubernetesObjects
  /** Of the object. */
  readonly name: string
  /** For messages. */
  readonly place: { readonly store: string; readonly key: string }
  readonly revisionOf: (object: KubernetesObject) => Revision
}

/** Others may change labels and annotations at any time, which is no conflict. More often than this it is a quarrel. */
const maxAttempts = 10

/** Writes an object if it is as expected. `contentOf` gets what is there, when that has been read. */
export async function writeObject(
  target: Target,
  contentOf: (current: KubernetesObject | undefined) => ObjectContent,
  expected: PutOptions['ifRevision'],
  step: Step,
): Promise<KubernetesObject> {
  const { objects, name, place } = target
  return repeat(step, async () => {
    if (expected === undefined) {
      const changed = await objects.change(name, contentOf(undefined), undefined, step)
      if (typeof changed === 'object') return changed
      return changed === 'absent' ? objects.create(name, contentOf(undefined), step) : undefined
    }
    if (expected === null) {
      const created = await objects.create(name, contentOf(undefined), step)
      if (created === undefined) throw conflict(place, 'created')
      return created
    }
    const current = await readExpected(target, expected, step)
    if (current === undefined) throw conflict(place, 'deleted')
    const changed = await objects.change(name, contentOf(current), current.resourceVersion, step)
    return typeof changed === 'object' ? changed : undefined
  })
}

/** Removes an object if it is as expected, or not there any more. */
export async function removeObject(target: Target, expected: Revision | undefined, step: Step): Promise<void> {
  const { objects, name } = target
  await repeat(step, async () => {
    const current = expected === undefined ? undefined : await readExpected(target, expected, step)
    if (expected !== undefined && current === undefined) return true
    return (await objects.remove(name, current, step)) === 'removed' ? true : undefined
  })
}

async function readExpected(
  { objects, name, place, revisionOf }: Target,
  expected: Revision,
  step: Step,
): Promise<KubernetesObject | undefined> {
  const current = await objects.read(name, step)
  if (current !== undefined) compareRevision(place, revisionOf(current), expected)
  return current
}

/** Until there is a result: `undefined` means that somebody was faster. */
async function repeat<Result>(step: Step, run: () => Promise<Result | undefined>): Promise<Result> {
  for (let attempt = 1; attempt <= maxAttempts; attempt += 1) {
    step.signal.throwIfAborted()
    const result = await run()
    if (result !== undefined) return result
  }
  throw step.unavailable('others change it at the same time, again and again')
}
