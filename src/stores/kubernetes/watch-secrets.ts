/**
 * Watches Secrets: one long answer after the other, each from where the last one ended.
 *
 * @module
 * @see [Efficient detection of changes](https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes)
 */
import type { OperationContext } from '../../core/context.js'
import { allowManyListeners } from '../../internal/deadline.js'
import { asObject, parseObject, resourceVersionOf, strings } from '../../internal/kubernetes/api-object.js'
import type { KubernetesApi } from '../../internal/kubernetes/kubernetes-api.js'
import type { StoreKey } from '../cert-store.js'
import type { KubernetesObjects, Step } from './kubernetes-objects.js'
import { listPages } from './list-pages.js'
import type { ObjectNames } from './object-names.js'

/** Parts of {@link watchSecrets}. */
export interface SecretsWatch {
  readonly objects: KubernetesObjects
  readonly names: ObjectNames
  /** With connections of its own: a watch takes one for as long as it lasts. */
  readonly api: KubernetesApi
  readonly prefix: string
  readonly onChange: (key: StoreKey) => void
  readonly context: OperationContext
  /** Name of the store. */
  readonly store: string
  /** Runs what may fail at the server: with a limit, and in the words of the store. */
  readonly attempt: <Result>(run: (step: Step) => Promise<Result>) => Promise<Result>
}

/** The server ends the watch after this time. One that has not by a little later is not there any more. */
const watchSeconds = 120
const overdueMs = (watchSeconds + 15) * 1000

/** Before the watch goes on. */
const pauseMs = 1_000
const failurePauseMs = 5_000

/** Longest event; an object's annotations are a quarter of this at most. */
const longestLine = 1_048_576

/** How far a watch has come. */
interface Position {
  /** Everything up to this one was told, or is untold. `undefined`: nobody knows what was missed. */
  version: string | undefined
  /** Keys that are told of once the watch has begun. */
  untold: readonly StoreKey[]
  begun: boolean
}

/** Watches until the signal aborts; rejects with its reason, or when the very first watch cannot be begun. */
export async function watchSecrets(watch: SecretsWatch): Promise<void> {
  const { context, store } = watch
  const { signal, clock, logger } = context
  signal.throwIfAborted()
  const position: Position = { version: undefined, untold: [], begun: false }
  for (;;) {
    let pause = pauseMs
    try {
      // What happened before is not known, or not any more: anything may have.
      if (position.version === undefined) Object.assign(position, await everyKey(watch))
      await follow(watch, position)
    } catch (error) {
      signal.throwIfAborted()
      if (!position.begun) throw error
      logger.warn('the connection that watches for changes broke', { store, error })
      pause = failurePauseMs
    }
    await clock.sleep(pause, { signal, background: true })
  }
}

/** Where to begin, and what may have changed until then. */
async function everyKey({
  objects,
  names,
  prefix,
  attempt,
}: SecretsWatch): Promise<Pick<Position, 'version' | 'untold'>> {
  let version: string | undefined
  const untold: StoreKey[] = []
  const listing = { objects, selector: names.selectorOf(prefix), metadataOnly: true, attempt }
  for await (const { items, resourceVersion } of listPages(listing)) {
    // What changes after the first page is told by the watch.
    version ??= resourceVersion
    for (const object of items) {
      const key = names.keyOf(object)
      if (key?.startsWith(prefix) === true) untold.push(key)
    }
  }
  return { version, untold }
}

/** Resolves when the server ends the watch. */
async function follow(watch: SecretsWatch, position: Position): Promise<void> {
  const { objects, names, api, prefix, onChange, context, attempt } = watch
  const { signal, clock } = context
  const life = new AbortController()
  const onAbort = (): void => {
    life.abort(signal.reason)
  }
  allowManyListeners(signal)
  signal.addEventListener('abort', onAbort, { once: true })
  clock.sleep(overdueMs, { signal: life.signal, background: true }).then(
    () => {
      const asked = `it was asked to end the watch after ${String(watchSeconds)} seconds`
      life.abort(new Error(`the server cannot be reached any more: ${asked}, and has not`))
    },
    () => undefined,
  )
  try {
    const query = {
      selector: names.selectorOf(prefix),
      resourceVersion: position.version ?? '',
      timeoutSeconds: watchSeconds,
    }
    const { status, chunks } = await attempt((step) => {
      step.signal.addEventListener('abort', () => {
        life.abort(step.signal.reason)
      })
      return objects.watch(query, api, { ...step, signal: life.signal })
    })
    position.begun = true
    const { untold } = position
    position.untold = []
    for (const key of untold) onChange(key)
    if (status === 410) {
      position.version = undefined
      return
    }
    for await (const line of linesOf(chunks)) {
      const event = line === undefined ? undefined : readEvent(line)
      position.version = typeof event === 'object' ? event.resourceVersion : undefined
      if (event === 'expired') return
      if (event === undefined) throw new Error('the server told something that is no event')
      const key = names.keyOf(event)
      if (key?.startsWith(prefix) === true) onChange(key)
    }
  } finally {
    signal.removeEventListener('abort', onAbort)
    life.abort(new Error('the watch has ended'))
  }
}

/** Lines as they become complete; `undefined` for one that is too long, after which nothing comes. */
async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string | undefined> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of chunks) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    yield* lines
    if (rest.length > longestLine) {
      yield undefined
      return
    }
  }
}

/** What has changed, as far as the name says; a bookmark names nothing. */
interface WatchEvent {
  readonly resourceVersion: string
  readonly name: string
  readonly annotations: Readonly<Record<string, string>>
}

function readEvent(line: string): WatchEvent | 'expired' | undefined {
  const { type, object } = parseObject(line) ?? {}
  const { metadata, code } = asObject(object)
  if (type === 'ERROR') return code === 410 ? 'expired' : undefined
  const { name, annotations } = asObject(metadata)
  const resourceVersion = resourceVersionOf(asObject(metadata))
  if (resourceVersion === undefined) return undefined
  return { resourceVersion, name: typeof name === 'string' ? name : '', annotations: strings(annotations) }
}
