import { describe, expect, it } from 'vitest'
import fc from 'fast-check'
import {
  formatOpenChallenges,
  largestListBytes,
  parseOpenChallenges,
  peerChallenges,
} from '../../../../src/solvers/challenge-gateway/peer-challenges.js'
import type { HttpClient } from '../../../../src/internal/http.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { recordingLogger } from '../../../../src/testing/recording-logger.js'
import { thumbprint } from '../challenges.js'

const open = (token: string, host?: string) => ({ host, token, keyAuthorization: `${token}.${thumbprint}` })

describe('the list of open challenges', () => {
  it('comes back as it was', () => {
    const list = parseOpenChallenges(formatOpenChallenges([open('one', 'www.example.com'), open('two')]))
    expect([...list]).toEqual([
      ['www.example.com/one', `one.${thumbprint}`],
      ['/two', `two.${thumbprint}`],
    ])
  })

  it('stays below the size that is read', () => {
    const text = formatOpenChallenges(
      Array.from({ length: 10_000 }, (_, index) => open(`t${String(index)}`, 'a'.repeat(200))),
    )
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(largestListBytes)
    expect(parseOpenChallenges(text).size).toBeGreaterThan(3_000)
  })

  it.each([
    ['another token', { token: 'one', keyAuthorization: `two.${thumbprint}` }],
    ['no thumbprint', { token: 'one', keyAuthorization: 'one.' }],
    ['a long thumbprint', { token: 'one', keyAuthorization: `one.${thumbprint}A` }],
    ['a token with a dot', { token: 'o.e', keyAuthorization: `o.e.${thumbprint}` }],
    ['a host with a slash', { ...open('one'), host: 'a/b' }],
    ['a number', 7],
    ['null', null],
  ])('loses an entry with %s', (_, entry) => {
    expect([...parseOpenChallenges(JSON.stringify({ challenges: [entry, open('two')] })).keys()]).toEqual(['/two'])
  })

  it('is refused when it is none, and never believed', () => {
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
        try {
          for (const [key, value] of parseOpenChallenges(text)) {
            expect(value.startsWith(`${key.slice(key.indexOf('/') + 1)}.`)).toBe(true)
          }
        } catch (error) {
          expect(error).toBeInstanceOf(Error)
        }
      }),
    )
    for (const text of ['null', '[]', '{}', '{"challenges":{}}', '<html>']) {
      expect(() => parseOpenChallenges(text)).toThrow()
    }
  })
})

/** A peer whose answers the test gives. */
function scriptedPeer(timeoutMs = 8_000) {
  const clock = fakeClock()
  const logger = recordingLogger()
  const asked: { answer(challenges: readonly object[]): void; fail(error: Error): void }[] = []
  const http: HttpClient = {
    request: ({ url }) =>
      new Promise((resolve, reject) => {
        asked.push({
          answer(challenges) {
            const body = Buffer.from(JSON.stringify({ challenges }))
            resolve({ status: 200, headers: {}, body, text: () => body.toString(), url })
          },
          fail: reject,
        })
      }),
    close: () => Promise.resolve(),
  } as HttpClient
  const { signal } = new AbortController()
  const peer = peerChallenges({ origin: 'http://192.0.2.12:31080', http, clock, logger, timeoutMs, closed: signal })
  return { clock, logger, asked, find: (token: string) => peer.find('www.example.com', token) }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('a peer', () => {
  it('is asked once for a thousand tokens, and once more for those that came meanwhile', async () => {
    const { asked, find, clock } = scriptedPeer()
    const first = find('one')
    const thousand = Array.from({ length: 1_000 }, (_, index) => find(`t${String(index)}`))
    await turn()
    expect(asked).toHaveLength(1)
    asked[0]!.answer([open('one')])
    expect(await first).toBe(`one.${thumbprint}`)
    await clock.advance(25)
    expect(asked).toHaveLength(2)
    asked[1]!.answer([open('t7', 'www.example.com')])
    const found = await Promise.all(thousand)
    expect(found.filter(Boolean)).toEqual([`t7.${thumbprint}`])
    expect(asked).toHaveLength(2)
  })

  it('is asked at most forty times a second', async () => {
    const { asked, find, clock } = scriptedPeer()
    let done = false
    const flood = async (): Promise<void> => {
      while (!done) await find('guess')
    }
    const flooding = [flood(), flood()]
    for (let ms = 0; ms < 1_000; ms += 5) {
      asked.at(-1)?.answer([])
      await clock.advance(5)
    }
    done = true
    await turn()
    asked.at(-1)?.answer([])
    await clock.advance(50)
    asked.at(-1)?.answer([])
    await Promise.all(flooding)
    expect(asked.length).toBeGreaterThan(10)
    expect(asked.length).toBeLessThanOrEqual(42)
  })

  it('counts only for the host it names', async () => {
    const { asked, find } = scriptedPeer()
    const found = find('one')
    asked[0]!.answer([open('one', 'other.example.com')])
    expect(await found).toBeUndefined()
  })

  it('that has failed is waited for half a second only, until it answers again; both are logged once', async () => {
    const { asked, find, clock, logger } = scriptedPeer()
    const first = find('one')
    asked[0]!.fail(new Error('refused'))
    expect(await first).toBeUndefined()
    const second = find('one')
    await clock.advance(25 + 500)
    expect(await second).toBeUndefined()
    asked[1]!.fail(new Error('refused again'))
    await turn()
    const third = find('one')
    await clock.advance(25)
    asked[2]!.answer([open('one')])
    expect(await third).toBe(`one.${thumbprint}`)
    expect(logger.entries.map(({ message }) => message)).toEqual(['peer does not answer', 'peer answers again'])
  })

  it('that is slow is waited for once, when the list on its way names the token', async () => {
    const { asked, find, clock } = scriptedPeer()
    const guessed = find('guess')
    await clock.advance(1_000)
    const found = find('one')
    await clock.advance(4_000)
    asked[0]!.answer([open('one')])
    expect(await found).toBe(`one.${thumbprint}`)
    await clock.advance(25)
    asked[1]?.answer([])
    expect(await guessed).toBeUndefined()
  })

  it('that is known to be away is waited for by nobody while a question hangs', async () => {
    const { asked, find, clock } = scriptedPeer()
    const first = find('one')
    asked[0]!.fail(new Error('refused'))
    await first
    const second = find('one')
    await clock.advance(25 + 500)
    expect(await second).toBeUndefined()
    // The question goes on, and costs the next one no time at all.
    expect(await find('one')).toBeUndefined()
    expect(asked).toHaveLength(2)
  })

  it('that has just failed is not asked once more by those who waited', async () => {
    const { asked, find, clock } = scriptedPeer()
    void find('one')
    await clock.advance(1_000)
    const waited = find('two')
    asked[0]!.fail(new Error('timed out'))
    expect(await waited).toBeUndefined()
  })

  it('with a long list is asked less often', async () => {
    const { asked, find, clock } = scriptedPeer()
    const long = find('one')
    asked[0]!.answer([open('one'), { note: 'x'.repeat(1_000_000) }])
    expect(await long).toBe(`one.${thumbprint}`)
    void find('two')
    await clock.advance(99)
    expect(asked).toHaveLength(1)
    await clock.advance(5)
    expect(asked).toHaveLength(2)
  })

  it('that is slow is waited for as long as was said', async () => {
    const { asked, find, clock } = scriptedPeer(6_000)
    const found = find('one')
    await clock.advance(5_000)
    asked[0]!.answer([open('one')])
    expect(await found).toBe(`one.${thumbprint}`)
  })
})
