import { setMaxListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { noncePool } from '../../../../src/issuers/acme/nonce-pool.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'

const { signal } = new AbortController()
setMaxListeners(0, signal)

/** Requests for nonces that are answered by hand. */
function manualFetch() {
  const open: { resolve: (nonce: string) => void; reject: (error: Error) => void; signal: AbortSignal }[] = []
  const fetchNonce = (inner: AbortSignal): Promise<string> =>
    new Promise((resolve, reject) => open.push({ resolve, reject, signal: inner }))
  return { open, fetchNonce }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('noncePool', () => {
  it('gives the newest first, each once', async () => {
    const clock = fakeClock()
    const pool = noncePool()
    for (const nonce of ['a', 'b', 'c']) pool.put(nonce, clock)
    const { open, fetchNonce } = manualFetch()
    const taken = await Promise.all([1, 2, 3].map(() => pool.take(clock, signal, fetchNonce)))
    expect(taken).toEqual(['c', 'b', 'a'])
    expect(open).toHaveLength(0)
  })

  it('asks for several at once when it is empty, within a limit', async () => {
    const clock = fakeClock()
    const pool = noncePool()
    const { open, fetchNonce } = manualFetch()
    const taken = Promise.all(Array.from({ length: 12 }, () => pool.take(clock, signal, fetchNonce)))
    await turn()
    expect(open).toHaveLength(8)
    for (const [index, { resolve }] of open.entries()) resolve(`n${String(index)}`)
    await turn()
    expect(open).toHaveLength(12)
    for (const [index, { resolve }] of open.entries()) resolve(`n${String(index)}`)
    expect(new Set(await taken).size).toBe(12)
  })

  it('gives a nonce that came with an answer to whoever waits longest', async () => {
    const clock = fakeClock()
    const pool = noncePool()
    const { open, fetchNonce } = manualFetch()
    const first = pool.take(clock, signal, fetchNonce)
    const second = pool.take(clock, signal, fetchNonce)
    pool.put('from an answer', clock)
    expect(await first).toBe('from an answer')
    open[0]?.resolve('fetched')
    expect(await second).toBe('fetched')
  })

  it('does not give old ones', async () => {
    const clock = fakeClock()
    const pool = noncePool()
    pool.put('old', clock)
    await clock.advance(10 * 60_000)
    const { open, fetchNonce } = manualFetch()
    const taken = pool.take(clock, signal, fetchNonce)
    open[0]?.resolve('fresh')
    expect(await taken).toBe('fresh')
  })

  it('keeps no more than it needs', async () => {
    const clock = fakeClock()
    const pool = noncePool()
    for (let index = 0; index < 1000; index += 1) pool.put(`n${String(index)}`, clock)
    const { open, fetchNonce } = manualFetch()
    for (let index = 0; index < 200; index += 1) await pool.take(clock, signal, fetchNonce)
    void pool.take(clock, signal, fetchNonce)
    await turn()
    expect(open).toHaveLength(1)
  })

  it('fails only the one who waits longest when a request fails', async () => {
    const clock = fakeClock()
    const pool = noncePool()
    const { open, fetchNonce } = manualFetch()
    const first = pool.take(clock, signal, fetchNonce)
    const second = pool.take(clock, signal, fetchNonce)
    await turn()
    open[0]?.reject(new Error('no'))
    await expect(first).rejects.toThrow('no')
    open[1]?.resolve('yes')
    expect(await second).toBe('yes')
  })

  it('lets whoever aborts go at once, and ends the request when nobody is left', async () => {
    const clock = fakeClock()
    const pool = noncePool()
    const { open, fetchNonce } = manualFetch()
    const controllers = [new AbortController(), new AbortController()]
    const waits = controllers.map((controller) => pool.take(clock, controller.signal, fetchNonce))
    const outcomes = Promise.allSettled(waits)
    await turn()
    const reason = new Error('stop')
    controllers[0]?.abort(reason)
    await expect(waits[0]).rejects.toBe(reason)
    expect(open.map(({ signal: inner }) => inner.aborted)).toEqual([false, false])
    controllers[1]?.abort(reason)
    await outcomes
    expect(open.map(({ signal: inner }) => inner.aborted)).toEqual([true, true])
  })

  it('tells nobody else why somebody has aborted', async () => {
    const clock = fakeClock()
    const pool = noncePool()
    const { open, fetchNonce } = manualFetch()
    const controller = new AbortController()
    const left = pool.take(clock, controller.signal, fetchNonce)
    const reason = new Error('stop')
    controller.abort(reason)
    const stayed = pool.take(clock, signal, fetchNonce)
    open[0]?.reject(reason)
    await expect(left).rejects.toBe(reason)
    await turn()
    expect(open).toHaveLength(2)
    open[1]?.resolve('fresh')
    expect(await stayed).toBe('fresh')
  })
})
