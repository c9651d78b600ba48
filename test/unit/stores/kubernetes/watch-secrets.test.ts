import { getEventListeners } from 'node:events'
import { describe, expect, it, vi } from 'vitest'
import type { StoreKey } from '../../../../src/stores/cert-store.js'
import { kubernetesStore } from '../../../../src/stores/kubernetes/index.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { recordingLogger } from '../../../../src/testing/recording-logger.js'
import { fakeKubeObjects, status } from '../../../support/fake-kube-objects.js'

const key = 'certificates/www'
/** In real time, on a machine that may be busy. */
const soon = (condition: () => boolean | Promise<boolean>) => vi.waitUntil(condition, { timeout: 20_000, interval: 2 })
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))

async function watching() {
  const api = fakeKubeObjects()
  const store = kubernetesStore({ kubeConfig: api.kubeConfig, fetch: api.fetch })
  const clock = fakeClock()
  const controller = new AbortController()
  const logger = recordingLogger()
  const told: StoreKey[] = []
  const context = operationContext({ clock, signal: controller.signal, logger })
  const begin = () => {
    const ended = store.watch!('certificates/', (each) => told.push(each), context)
    ended.catch(() => undefined)
    return ended
  }
  const put = (each: StoreKey) => store.put(each, bytes('x'), operationContext())
  /** As time goes by. */
  const until = (condition: () => boolean) =>
    soon(async () => {
      if (condition()) return true
      await clock.advance(500)
      return condition()
    })
  const watches = () => api.requests.filter(({ query }) => query.has('watch'))
  return { api, store, clock, controller, logger, told, context, begin, put, until, watches }
}

describe('a watch', () => {
  it('tells of what is created, changed and deleted below its prefix, without reading it', async () => {
    const { api, store, told, begin, put, controller, watches } = await watching()
    await put(key)
    const ended = begin()
    // Stored while nobody watched yet.
    await soon(() => told.length === 1)
    expect(api.openWatches).toBe(1)
    expect(told.splice(0)).toEqual([key])
    await put(key)
    await put('renewals/www')
    await put('certificates/new')
    await store.delete(key, operationContext())
    await soon(() => told.length === 3)
    expect(told).toEqual([key, 'certificates/new', key])
    expect(Object.fromEntries(watches()[0]!.query)).toMatchObject({
      labelSelector: 'evercert.dev/store=evercert,evercert.dev/space=certificates',
      allowWatchBookmarks: 'true',
      timeoutSeconds: '120',
    })
    expect(watches()[0]!.headers['accept']).toContain('as=PartialObjectMetadata;')
    const reason = new Error('stop')
    controller.abort(reason)
    await expect(ended).rejects.toBe(reason)
    expect(api.openWatches).toBe(0)
  })

  it.each(['end', 'break'] as const)('goes on where it was after an %s, and tells nothing twice', async (how) => {
    const { api, told, begin, put, until, logger, controller } = await watching()
    void begin()
    await soon(() => api.openWatches === 1)
    for (let round = 1; round <= 3; round += 1) {
      await put(key)
      await soon(() => told.length === round * 2 - 1)
      api.endWatches(how)
      await put('certificates/meanwhile')
      await until(() => told.length === round * 2)
    }
    expect(told).toEqual(Array.from({ length: 3 }, () => [key, 'certificates/meanwhile']).flat())
    expect(logger.text().includes('watches for changes broke')).toBe(how === 'break')
    controller.abort()
  })

  it.each<[string, (api: ReturnType<typeof fakeKubeObjects>) => void]>([
    [
      '410 as an answer',
      (api) => {
        api.compact()
        api.endWatches()
      },
    ],
    [
      '410 as an event',
      (api) => {
        api.tell(JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired' } }))
      },
    ],
    [
      'another error as an event',
      (api) => {
        api.tell(JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code: 500 } }))
      },
    ],
    [
      'an event that is none',
      (api) => {
        api.tell('<html>')
      },
    ],
    [
      'an event without end',
      (api) => {
        api.tell('x'.repeat(2_000_000))
      },
    ],
  ])('tells of every key after %s, since anything may have changed', async (_, happen) => {
    const { api, told, begin, put, until, controller } = await watching()
    const keys: StoreKey[] = ['certificates/a', 'certificates/b']
    for (const each of keys) await put(each)
    void begin()
    await soon(() => told.length === 2)
    told.length = 0
    happen(api)
    await until(() => told.length === 2 && api.openWatches === 1)
    expect([...told].sort()).toEqual(keys)
    await put(key)
    await soon(() => told.at(-1) === key)
    controller.abort()
  })

  it('moves on with bookmarks', async () => {
    const { api, begin, until, watches, controller } = await watching()
    void begin()
    await soon(() => api.openWatches === 1)
    api.tell(JSON.stringify({ type: 'BOOKMARK', object: { metadata: { resourceVersion: '777' } } }))
    await soon(async () => {
      await new Promise((resolve) => setImmediate(resolve))
      api.endWatches()
      await until(() => api.openWatches === 1)
      return watches().at(-1)?.query.get('resourceVersion') === '777'
    })
    controller.abort()
  })

  it('notices a connection whose other end has gone: the server does not end the watch', async () => {
    const { api, told, begin, put, clock, until, watches, logger, controller } = await watching()
    void begin()
    await soon(() => api.openWatches === 1)
    await clock.advance(134_000)
    expect(watches()).toHaveLength(1)
    // Not silence is what counts.
    await put(key)
    await soon(() => told.includes(key))
    told.length = 0
    await until(() => watches().length === 2 && api.openWatches === 1)
    expect(logger.text()).toMatch(/broke.*asked to end the watch after 120 seconds, and has not/s)
    await put(key)
    await soon(() => told.includes(key))
    controller.abort()
  })

  it('waits between attempts while the server is away, or refuses', async () => {
    const { api, told, begin, put, clock, until, watches, controller } = await watching()
    void begin()
    await soon(() => api.openWatches === 1)
    api.onRequest = ({ query }) => (query.has('watch') ? status(403, 'Forbidden', 'no more') : undefined)
    api.endWatches()
    const before = watches().length
    const startedAt = clock.now()
    await until(() => clock.now() - startedAt >= 60_000)
    expect(watches().length - before).toBeGreaterThan(5)
    expect(watches().length - before).toBeLessThan(15)
    api.onRequest = () => undefined
    await put(key)
    await until(() => told.includes(key))
    controller.abort()
  })

  it('that cannot be begun says so', async () => {
    for (const refused of ['list', 'watch']) {
      const { api, begin } = await watching()
      api.onRequest = ({ query }) =>
        query.has('watch') === (refused === 'watch') ? status(403, 'Forbidden', 'no') : undefined
      await expect(begin()).rejects.toMatchObject({
        code: 'ERR_STORE_UNAVAILABLE',
        message: /cannot watch certificates/,
      })
    }
  })

  it('leaves nothing behind: no listener, no timer, no connection, however often it began anew', async () => {
    const { api, clock, begin, until, watches, controller } = await watching()
    const before = getEventListeners(controller.signal, 'abort').length
    const ended = begin()
    for (let round = 1; round <= 5; round += 1) {
      await until(() => watches().length === round && api.openWatches === 1)
      expect(getEventListeners(controller.signal, 'abort').length).toBeLessThanOrEqual(before + 2)
      api.endWatches()
    }
    await until(() => api.openWatches === 1)
    controller.abort(new Error('stop'))
    await expect(ended).rejects.toThrow('stop')
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(before)
    expect(clock.sleeping).toBe(0)
    expect(api.openWatches).toBe(0)
  })

  it('stops at once when aborted at any request, and in any pause', async () => {
    for (let nth = 1; nth <= 4; nth += 1) {
      const { api, begin, until, controller, clock } = await watching()
      const reason = new Error('stop')
      let count = 0
      api.onRequest = () => {
        count += 1
        if (count === nth) controller.abort(reason)
        return undefined
      }
      const ended = begin()
      await until(() => {
        if (count >= 2) api.endWatches()
        return controller.signal.aborted
      })
      await expect(ended).rejects.toBe(reason)
      expect(clock.sleeping).toBe(0)
    }
    const { api, begin, controller, clock } = await watching()
    const ended = begin()
    await soon(() => api.openWatches === 1)
    api.endWatches('break')
    await soon(() => clock.sleeping === 1)
    controller.abort(new Error('stop'))
    await expect(ended).rejects.toThrow('stop')
    expect(clock.sleeping).toBe(0)
  })
})
