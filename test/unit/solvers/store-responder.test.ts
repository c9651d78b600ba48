import { describe, expect, it } from 'vitest'
import { storeResponder } from '../../../src/solvers/store-responder.js'
import { storeKey, type CertStore } from '../../../src/stores/cert-store.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { httpChallenge } from './challenges.js'

const challenge = httpChallenge()
const host = 'www.example.com'
const contextOf = (signal?: AbortSignal) =>
  operationContext({ clock: fakeClock({ autoAdvance: true }), ...(signal && { signal }) })

/** Counts what is asked of a store. */
function counted(store: CertStore): CertStore & { readonly calls: Record<'get' | 'list', number> } {
  const calls = { get: 0, list: 0 }
  return {
    ...store,
    calls,
    get: (...parameters) => {
      calls.get += 1
      return store.get(...parameters)
    },
    list: (...parameters) => {
      calls.list += 1
      return store.list(...parameters)
    },
  }
}

describe('two replicas on one store', () => {
  it('answer for each other', async () => {
    const context = contextOf()
    const store = memoryStore()
    const [one, two] = [storeResponder({ store }), storeResponder({ store })]
    await one.present(challenge, context)
    expect(await two.findChallenge(host, challenge.token, context)).toBe(challenge.keyAuthorization)
    expect(await two.listChallenges(context)).toEqual([
      { host, token: challenge.token, keyAuthorization: challenge.keyAuthorization },
    ])
    await two.cleanUp(challenge, context)
    expect(await one.listChallenges(context)).toEqual([])
  })

  it('keep apart two accounts with one token', async () => {
    const context = contextOf()
    const store = memoryStore()
    const other = { ...challenge, keyAuthorization: `${challenge.token}.${'A'.repeat(43)}` }
    const [one, two] = [storeResponder({ store }), storeResponder({ store })]
    await one.present(challenge, context)
    await expect(two.present(other, context)).rejects.toMatchObject({ code: 'ERR_CHALLENGE_FAILED', retryable: true })
    await two.cleanUp(other, context)
    expect(await two.findChallenge(host, challenge.token, context)).toBe(challenge.keyAuthorization)
  })
})

it('costs one listing, however many tokens are guessed meanwhile', async () => {
  const context = contextOf()
  const store = counted(memoryStore())
  const responder = storeResponder({ store })
  await responder.present(challenge, context)
  const guesses = Array.from({ length: 1_000 }, (_, index) =>
    responder.findChallenge(host, `guess${String(index)}`, context),
  )
  const found = await Promise.all([...guesses, responder.findChallenge(host, challenge.token, context)])
  expect(found.filter(Boolean)).toEqual([challenge.keyAuthorization])
  expect(store.calls).toEqual({ get: 1, list: 2 })
})

it.each([
  [0, 50],
  [40, 400],
  [900, 2_000],
])('leaves a store alone that took %i ms for a listing, for %i ms', async (takesMs, pauseMs) => {
  const clock = fakeClock({ autoAdvance: true })
  const context = operationContext({ clock })
  const listings: { readonly from: number; readonly to: number }[] = []
  const away = new Error('away')
  const store: CertStore = {
    ...memoryStore(),
    // eslint-disable-next-line require-yield -- it has no keys
    async *list() {
      const from = clock.now()
      await clock.sleep(takesMs)
      listings.push({ from, to: clock.now() })
      // What one costs counts also when it fails.
      if (listings.length === 2) throw away
    },
  }
  const responder = storeResponder({ store })
  const guess = () => responder.findChallenge(host, 'guess', context)
  await guess()
  await expect(guess()).rejects.toBe(away)
  await guess()
  expect(listings.slice(1).map(({ from }, index) => from - listings[index]!.to)).toEqual([pauseMs, pauseMs])
})

it('serves nothing that is no key authorization', async () => {
  const context = contextOf()
  const store = memoryStore()
  await store.put(storeKey('challenges', 'http-01', host, 'token'), Buffer.from('<html>'), context)
  await store.put(storeKey('challenges', 'http-01', 'failed-validations'), Buffer.from('{}'), context)
  const responder = storeResponder({ store })
  expect(await responder.findChallenge(host, 'token', context)).toBeUndefined()
  expect(await responder.listChallenges(context)).toEqual([])
})

it('ends a look-up when its client has gone, and that of nobody else', async () => {
  const store = memoryStore()
  const responder = storeResponder({ store })
  await responder.present(challenge, contextOf())
  const gone = new AbortController()
  const leaving = responder.findChallenge(host, challenge.token, contextOf(gone.signal))
  const staying = responder.findChallenge(host, challenge.token, contextOf())
  const reason = new Error('gone')
  gone.abort(reason)
  await expect(leaving).rejects.toBe(reason)
  expect(await staying).toBe(challenge.keyAuthorization)
})
