import { describe, expect, it } from 'vitest'
import {
  authenticationOf,
  type MarathonAuthentication,
} from '../../../../src/deployers/marathon/marathon-authentication.js'
import { isUnsure, marathonTransport, type Masters } from '../../../../src/deployers/marathon/marathon-transport.js'
import { createHttpClient } from '../../../../src/internal/http.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { assertNoSecrets } from '../../../../src/testing/recording-logger.js'
import { networkError, scriptedFetch, type Answer, type ScriptedFetch, type SentRequest } from './scripted-marathon.js'

const [a, b, c] = ['https://a.example', 'https://b.example:8443/service/marathon', 'https://c.example'] as const
const token: MarathonAuthentication = { type: 'token', token: 'open-sesame' }

function transportOf(
  scripted: ScriptedFetch,
  options: { masters?: Masters; authentication?: MarathonAuthentication; allowHttp?: boolean } = {},
) {
  const { masters = { urls: [a, b, c], preferred: 0 }, authentication = token, allowHttp = false } = options
  const clock = fakeClock()
  const http = createHttpClient({ clock, userAgent: 'test', fetch: scripted.fetch, allowHttp })
  const context = { ...operationContext({ clock }), http, deployer: 'marathon' }
  return marathonTransport({ masters, authentication: authenticationOf(authentication, false), context })
}
const byHost = (answers: Readonly<Record<string, (request: SentRequest) => Answer>>): ScriptedFetch =>
  scriptedFetch((request) => {
    const answer = answers[new URL(request.url).hostname]
    if (answer === undefined) throw new Error(`nobody is at ${request.url}`)
    return answer(request)
  })
const fine = (): Answer => ({ body: { fine: true } })
const gone = (): Answer => networkError('ECONNREFUSED')
const cut = (): Answer => networkError('ECONNRESET')
const leaderless = (): Answer => ({ status: 503, body: '<html>' })
const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'succeeded',
    (error: unknown) => error,
  )
const hosts = ({ sent }: ScriptedFetch): string[] => sent.map(({ url }) => new URL(url).hostname.slice(0, 1))
const get = { method: 'GET', path: '/v2/apps/lb' } as const
const patch = { method: 'PATCH', path: '/v2/apps/lb', body: { env: { KEY: 'open-sesame' } } } as const

describe('several URLs', () => {
  it.each<[string, Record<string, () => Answer>, string]>([
    ['the first that answers', { 'a.example': fine }, 'a'],
    ['the next when nobody is there', { 'a.example': gone, 'b.example': fine }, 'ab'],
    ['the next when the connection is cut', { 'a.example': cut, 'b.example': fine }, 'ab'],
    ['the next when it has no leader', { 'a.example': leaderless, 'b.example': leaderless, 'c.example': fine }, 'abc'],
    ['no other when it answers, whatever it says', { 'a.example': () => ({ status: 404 }) }, 'a'],
  ])('are asked: %s', async (_, answers, asked) => {
    const scripted = byHost(answers)
    await transportOf(scripted).send(get)
    expect(hosts(scripted).join('')).toBe(asked)
  })

  it('are asked from the one on that answered last', async () => {
    const masters: Masters = { urls: [a, b, c], preferred: 0 }
    let aIsBack = false
    const scripted = byHost({ 'a.example': () => (aIsBack ? fine() : gone()), 'b.example': fine })
    await transportOf(scripted, { masters }).send(get)
    aIsBack = true
    await transportOf(scripted, { masters }).send(get)
    expect(hosts(scripted).join('')).toBe('abb')
    expect(scripted.sent[1]?.url).toBe(`${b}/v2/apps/lb`)
  })

  it('that all fail are one error, which names the last', async () => {
    const error = await failureOf(
      transportOf(byHost({ 'a.example': gone, 'b.example': cut, 'c.example': gone })).send(get),
    )
    expect(error).toMatchObject({
      reason: 'unreachable',
      message: expect.stringMatching(/none of 3 URLs.*c\.example.*ECONNREFUSED/) as string,
    })
  })

  it('that have no leader are an answer', async () => {
    const answers = { 'a.example': gone, 'b.example': leaderless, 'c.example': gone }
    expect(await transportOf(byHost(answers)).send(get)).toMatchObject({ status: 503 })
  })

  it.each<[string, () => Answer, string]>([
    ['goes on to the next when it cannot have arrived', gone, 'ab'],
    ['goes no further when it may have arrived', cut, 'a'],
    ['goes no further when a proxy gave up on it', leaderless, 'a'],
  ])('a change %s', async (_, first, asked) => {
    const scripted = byHost({ 'a.example': first, 'b.example': fine })
    const outcome = await failureOf(transportOf(scripted).send(patch))
    expect(hosts(scripted).join('')).toBe(asked)
    if (first === cut) expect(isUnsure(outcome)).toBe(true)
    assertNoSecrets(outcome, ['open-sesame'])
  })
})

describe('a redirect', () => {
  const to =
    (location: string, status = 302) =>
    (): Answer => ({ status, headers: { location }, body: '' })
  /** Names a leader, and redirects everything else. */
  const standby =
    (leader: unknown, location: string, status = 302) =>
    ({ path }: SentRequest): Answer =>
      path.endsWith('/v2/leader') ? { body: { leader } } : to(location, status)()

  it.each([301, 302, 307, 308])('%i to a configured host keeps credentials, method and body', async (status) => {
    const scripted = byHost({ 'a.example': to('https://c.example/v2/apps/lb?x', status), 'c.example': fine })
    expect(await transportOf(scripted).send(patch)).toMatchObject({ status: 200 })
    expect(scripted.sent[1]).toMatchObject({
      method: 'PATCH',
      url: 'https://c.example/v2/apps/lb?x',
      body: patch.body,
      headers: { authorization: 'token=open-sesame' },
    })
  })

  it('to the leader that is announced keeps them as well', async () => {
    const scripted = byHost({
      'a.example': standby('leader.example:8443', 'https://leader.example:8443/v2/apps/lb'),
      'leader.example': fine,
    })
    expect(await transportOf(scripted).send(patch)).toMatchObject({ status: 200 })
    expect(scripted.sent.at(-1)).toMatchObject({ body: patch.body, headers: { authorization: 'token=open-sesame' } })
  })

  it.each<[string, string, unknown]>([
    ['another host than the leader', 'https://evil.example/v2/apps/lb', 'leader.example:443'],
    ['another port than the leader', 'https://leader.example:9999/', 'leader.example:8443'],
    ['a host that looks like one', 'https://a.example.evil.example/', 'a.example.evil.exampl'],
    ['another host where no leader is known', 'https://evil.example/', undefined],
    ['another host where the leader is nonsense', 'https://evil.example/', 'evil.example/@x y'],
    ['plain http', 'http://leader.example/', 'leader.example'],
    ['another scheme', 'file:///etc/passwd', undefined],
    ['credentials in it', 'https://user:password@evil.example/', undefined],
    ['no URL', 'https://[', undefined],
  ])('to %s is an error, and nothing goes there', async (_, location, leader) => {
    const scripted = byHost({ 'a.example': standby(leader, location) })
    const error = await failureOf(transportOf(scripted).send(patch))
    expect(error).toMatchObject({ reason: 'redirected', code: 'ERR_DEPLOY_REJECTED', retryable: false })
    expect(new Set(hosts(scripted))).toEqual(new Set(['a']))
    assertNoSecrets(error, ['open-sesame', 'password@'])
  })

  it('from https to the http of a configured host is not followed', async () => {
    const scripted = byHost({ 'a.example': to('http://c.example/') })
    expect(await failureOf(transportOf(scripted).send(patch))).toMatchObject({ reason: 'redirected' })
  })

  it('from https to a host that is configured as http is not followed; from http to https it is', async () => {
    const urls = ['https://a.example', 'http://c.example']
    for (const [preferred, reason] of [
      [0, 'redirected'],
      [1, undefined],
    ] as const) {
      const scripted = byHost({
        'a.example': preferred === 0 ? standby('c.example', 'http://c.example/') : fine,
        'c.example': to('https://a.example/v2/apps/lb'),
      })
      const transport = transportOf(scripted, { masters: { urls, preferred }, allowHttp: true })
      const outcome = await failureOf(transport.send(patch))
      expect(outcome).toEqual(reason === undefined ? 'succeeded' : expect.objectContaining({ reason }))
      expect(hosts(scripted).includes('c')).toBe(preferred === 1)
    }
  })

  it('to plain http inside a cluster that has nothing else is followed to the leader', async () => {
    const masters: Masters = { urls: ['http://10.0.0.1:8080'], preferred: 0 }
    const scripted = byHost({
      '10.0.0.1': standby('10.0.0.2:8080', 'http://10.0.0.2:8080/v2/apps/lb'),
      '10.0.0.2': fine,
    })
    expect(await transportOf(scripted, { masters, allowHttp: true }).send(get)).toMatchObject({ status: 200 })
  })

  it('in a circle ends', async () => {
    const scripted = byHost({ 'a.example': to('https://c.example/'), 'c.example': to('https://a.example/') })
    expect(await failureOf(transportOf(scripted).send(get))).toMatchObject({
      reason: 'redirected',
      message: expect.stringContaining('more than 5') as string,
    })
    expect(scripted.sent).toHaveLength(6)
  })

  it('303 is an answer: the change has been made', async () => {
    const scripted = byHost({ 'a.example': to('https://c.example/', 303) })
    expect(await transportOf(scripted).send(patch)).toMatchObject({ status: 303 })
  })
})

describe('401', () => {
  it('is tried once more with a new token, and no further', async () => {
    let tokens = 0
    const authentication: MarathonAuthentication = {
      type: 'token',
      token: () => `token-number-${String((tokens += 1))}`,
    }
    const refusing = byHost({ 'a.example': () => ({ status: 401, body: '<html>' }) })
    expect(await transportOf(refusing, { authentication }).send(patch)).toMatchObject({ status: 401 })
    expect(refusing.sent.map(({ headers }) => headers['authorization'])).toEqual([
      'token=token-number-1',
      'token=token-number-2',
    ])
  })

  it('is an answer where there is nothing new to try', async () => {
    const refusing = byHost({ 'a.example': () => ({ status: 401, body: '<html>' }) })
    expect(await transportOf(refusing).send(get)).toMatchObject({ status: 401, data: undefined })
    expect(refusing.sent).toHaveLength(1)
  })
})

describe('a stream', () => {
  it('goes to the leader by redirect, with credentials, and is left alone when it is none', async () => {
    const until = new AbortController().signal
    const scripted = byHost({
      'a.example': gone,
      'b.example': () => ({ status: 302, headers: { location: 'https://c.example/v2/events' } }),
      'c.example': () => ({ status: 405, body: '<html>' }),
    })
    expect(await transportOf(scripted).stream('/v2/events', 1_000, until)).toMatchObject({ status: 405 })
    expect(scripted.sent.at(-1)?.headers).toMatchObject({
      accept: 'text/event-stream',
      authorization: 'token=open-sesame',
    })
  })
})
