import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { readTogether } from '../../../src/stores/read-together.js'
import { operationContext } from '../../../src/testing/operation-context.js'

const turn = () => new Promise((resolve) => setImmediate(resolve))

/** A server that knows every key, and answers when it is told to. */
function scripted(answer: (keys: readonly string[]) => Promise<readonly string[]> = (keys) => Promise.resolve(keys)) {
  const requests: { keys: readonly string[]; signal: AbortSignal }[] = []
  const read = readTogether(async (keys, { signal }) => {
    requests.push({ keys, signal })
    return answer(keys)
  })
  return { read: (key: string, signal: AbortSignal) => read(key, { ...operationContext(), signal }), requests }
}

describe('readTogether', () => {
  const signal = new AbortController().signal

  it('sends what is asked for in one turn as one request, and answers each with its own', async () => {
    const { read, requests } = scripted()
    expect(await Promise.all(['a', 'b', 'a'].map((key) => read(key, signal)))).toEqual(['a', 'b', 'a'])
    expect(await read('c', signal)).toBe('c')
    expect(requests.map(({ keys }) => keys)).toEqual([['a', 'b', 'a'], ['c']])
  })

  it('sends no request of more than 64 keys', async () => {
    const { read, requests } = scripted()
    const keys = Array.from({ length: 150 }, (_, index) => String(index))
    expect(await Promise.all(keys.map((key) => read(key, signal)))).toEqual(keys)
    expect(requests.map(({ keys }) => keys.length)).toEqual([64, 64, 22])
  })

  it('tells a failure to all that were read together, and goes on', async () => {
    let fails = true
    const { read } = scripted((keys) => (fails ? Promise.reject(new Error('away')) : Promise.resolve(keys)))
    const outcomes = await Promise.allSettled([read('a', signal), read('b', signal)])
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    fails = false
    expect(await read('a', signal)).toBe('a')
  })

  it('tells who aborts at once, and gives a request up when nobody waits for it any more', async () => {
    const { read, requests } = scripted(() => new Promise(() => undefined))
    const [one, other] = [new AbortController(), new AbortController()]
    const told: string[] = []
    for (const [key, { signal }] of [['a', one] as const, ['b', other] as const, ['c', one] as const]) {
      read(key, signal).catch((reason: unknown) => told.push(`${key}: ${String(reason)}`))
    }
    await turn()
    one.abort('one is gone')
    await turn()
    expect(told).toEqual(['a: one is gone', 'c: one is gone'])
    expect(requests[0]?.signal.aborted).toBe(false)
    other.abort('the other is gone')
    await turn()
    expect(told.slice(2)).toEqual(['b: the other is gone'])
    expect(requests.map(({ signal }) => signal.aborted)).toEqual([true])
  })

  it('listens to a signal once for all that is read under it, and no longer than it takes', async () => {
    let answer = (): void => undefined
    const { read } = scripted(
      (keys) =>
        new Promise((resolve) => {
          answer = () => {
            resolve(keys)
          }
        }),
    )
    const { signal } = new AbortController()
    const reading = Promise.all(['a', 'b', 'c'].map((key) => read(key, signal)))
    await turn()
    expect(getEventListeners(signal, 'abort')).toHaveLength(1)
    answer()
    await reading
    expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  it('does not ask for what is not waited for when its turn comes', async () => {
    const { read, requests } = scripted()
    const gone = new AbortController()
    const leaving = read('a', gone.signal).catch((reason: unknown) => reason)
    const staying = read('b', signal)
    gone.abort('gone')
    expect(await leaving).toBe('gone')
    await staying
    expect(requests.map(({ keys }) => keys)).toEqual([['b']])
  })
})
