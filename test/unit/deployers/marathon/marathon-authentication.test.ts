import { generateKeyPairSync, verify } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import type { LoginContext } from '../../../../src/deployers/marathon/authorization.js'
import {
  authenticationOf,
  type MarathonAuthentication,
} from '../../../../src/deployers/marathon/marathon-authentication.js'
import { createHttpClient } from '../../../../src/internal/http.js'
import { fakeClock, type FakeClock } from '../../../../src/testing/fake-clock.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { assertNoSecrets } from '../../../../src/testing/recording-logger.js'
import { networkError, scriptedFetch, type Answer, type ScriptedFetch } from './scripted-marathon.js'

let keyPem = ''
let publicKeyPem = ''
beforeAll(() => {
  const pair = generateKeyPairSync('rsa', { modulusLength: 2048 })
  keyPem = pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  publicKeyPem = pair.publicKey.export({ type: 'spki', format: 'pem' }).toString()
})

const loginEndpoint = 'https://master.mesos/acs/api/v1/auth/login'
const credential = () => ({ uid: 'evercert', private_key: keyPem, login_endpoint: loginEndpoint, scheme: 'RS256' })

function contextOf(scripted: ScriptedFetch, clock: FakeClock, signal?: AbortSignal): LoginContext {
  const http = createHttpClient({ clock, userAgent: 'test', fetch: scripted.fetch })
  return { ...operationContext({ clock, ...(signal && { signal }) }), http, deployer: 'marathon' }
}
const jwt = (claims: object): string => `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.c2ln`
const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'succeeded',
    (error: unknown) => error,
  )
const unused = scriptedFetch(() => new Error('unused'))

describe('without log-in', () => {
  const context = contextOf(unused, fakeClock())

  it('there is no header when there are no credentials', async () => {
    const authentication = authenticationOf(undefined, false)
    expect(await authentication.header(context)).toBeUndefined()
    expect(authentication.forget('x')).toBe(false)
  })

  it('basic credentials are sent as RFC 7617 says', async () => {
    const authentication = authenticationOf({ type: 'basic', username: 'user', password: 'pä:ss' }, false)
    expect(await authentication.header(context)).toBe(`Basic ${Buffer.from('user:pä:ss').toString('base64')}`)
    expect(authentication.forget('x')).toBe(false)
  })

  it('a token is sent in the form that both Marathon and Admin Router read', async () => {
    const authentication = authenticationOf({ type: 'token', token: 'abcd.efgh' }, false)
    expect(await authentication.header(context)).toBe('token=abcd.efgh')
    expect(authentication.forget('token=abcd.efgh')).toBe(false)
  })

  it('a provider is asked once, and again when its token was refused', async () => {
    let asked = 0
    const authentication = authenticationOf(
      { type: 'token', token: () => `token-number-${String((asked += 1))}` },
      false,
    )
    expect(await authentication.header(context)).toBe('token=token-number-1')
    expect(await authentication.header(context)).toBe('token=token-number-1')
    // Of an answer that comes late, when there is a new one already.
    expect(authentication.forget('token=another')).toBe(true)
    expect(await authentication.header(context)).toBe('token=token-number-1')
    expect(authentication.forget('token=token-number-1')).toBe(true)
    expect(await authentication.header(context)).toBe('token=token-number-2')
  })

  it('a provider that never answers is given up, and left at once by an abort', async () => {
    const clock = fakeClock()
    const controller = new AbortController()
    const authentication = authenticationOf({ type: 'token', token: () => new Promise(() => undefined) }, false)
    const asked = failureOf(authentication.header(contextOf(unused, clock)))
    await clock.advance(30_000)
    expect(await asked).toMatchObject({ reason: 'unreachable', message: expect.stringContaining('30000 ms') as string })
    const aborted = failureOf(authentication.header(contextOf(unused, clock, controller.signal)))
    const reason = new Error('stop')
    controller.abort(reason)
    expect(await aborted).toBe(reason)
  })

  it.each<[string, () => string | Promise<string>]>([
    ['throws', () => Promise.reject(Object.assign(new Error('secret-header'), { request: 'secret-header' }))],
    ['returns nothing', () => undefined as unknown as string],
    ['returns a text with a line end', () => 'secret-header\r\nx: y'],
  ])('a provider that %s is an error without its secrets', async (_, token) => {
    const error = await failureOf(authenticationOf({ type: 'token', token }, false).header(context))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', reason: 'unreachable' })
    assertNoSecrets(error, ['secret-header'])
  })
})

describe('a service account', () => {
  const clock = fakeClock()
  const answering = (answer: (count: number) => Answer): ScriptedFetch => {
    let count = 0
    return scriptedFetch(() => answer((count += 1)))
  }
  const account = (): MarathonAuthentication => ({ type: 'service-account', credential: JSON.stringify(credential()) })

  it('logs in with a signed statement of who it is, for a minute', async () => {
    const scripted = answering(() => ({ body: { token: 'the-token-1' } }))
    const authentication = authenticationOf(account(), false)
    expect(await authentication.header(contextOf(scripted, clock))).toBe('token=the-token-1')
    const [request] = scripted.sent
    expect(request).toMatchObject({ method: 'POST', url: loginEndpoint, body: { uid: 'evercert' } })
    const { token } = request!.body as { token: string }
    const [header = '', claims = '', signature = ''] = token.split('.')
    const decoded = (part: string): unknown => JSON.parse(Buffer.from(part, 'base64url').toString())
    expect(decoded(header)).toEqual({ alg: 'RS256', typ: 'JWT' })
    expect(decoded(claims)).toEqual({ uid: 'evercert', exp: Math.floor(clock.now() / 1000) + 60 })
    const signed = Buffer.from(`${header}.${claims}`)
    expect(verify('RSA-SHA256', signed, publicKeyPem, Buffer.from(signature, 'base64url'))).toBe(true)
  })

  it('keeps the token until a minute before its end', async () => {
    const time = fakeClock()
    const scripted = answering((count) => ({ body: { token: jwt({ exp: time.now() / 1000 + 3600, count }) } }))
    const authentication = authenticationOf(account(), false)
    const context = contextOf(scripted, time)
    const first = await authentication.header(context)
    await time.advance(3_539_000)
    expect(await authentication.header(context)).toBe(first)
    await time.advance(1_000)
    expect(await authentication.header(context)).not.toBe(first)
    expect(scripted.sent).toHaveLength(2)
  })

  it('uses half of the life of a token that lives for less than two minutes', async () => {
    const time = fakeClock()
    const scripted = answering((count) => ({ body: { token: jwt({ exp: time.now() / 1000 + 60, count }) } }))
    const authentication = authenticationOf(account(), false)
    const context = contextOf(scripted, time)
    await authentication.header(context)
    await time.advance(29_000)
    await authentication.header(context)
    expect(scripted.sent).toHaveLength(1)
    await time.advance(2_000)
    await authentication.header(context)
    expect(scripted.sent).toHaveLength(2)
  })

  it('logs in again when its token was refused, and only then when the token does not say its end', async () => {
    const time = fakeClock()
    const scripted = answering((count) => ({ body: { token: `opaque-token-${String(count)}` } }))
    const authentication = authenticationOf({ type: 'service-account', credential: credential() }, false)
    const context = contextOf(scripted, time)
    await authentication.header(context)
    await time.advance(30 * 86_400_000)
    expect(await authentication.header(context)).toBe('token=opaque-token-1')
    expect(authentication.forget('token=opaque-token-1')).toBe(true)
    expect(await authentication.header(context)).toBe('token=opaque-token-2')
  })

  it.each<[string, Answer, string, RegExp]>([
    [
      '401',
      { status: 401, body: { title: 'Unauthorized', code: 'ERR_INVALID_CREDENTIALS' } },
      'unauthenticated',
      /refused \(401\).*clock/,
    ],
    ['503', { status: 503, body: '<html>', headers: { 'retry-after': '7' } }, 'unreachable', /answered 503/],
    ['a page', { body: '<html>log in</html>' }, 'unreachable', /without a token/],
    ['a token with a line end', { body: { token: 'abcdefgh\r\nx: y' } }, 'unreachable', /without a token/],
    ['a redirect', { status: 302, headers: { location: 'https://evil.example/' } }, 'unreachable', /answered 302/],
    ['no answer', networkError('ECONNREFUSED'), 'unreachable', /got no answer/],
  ])('that gets %s is an error that shows no secret', async (_, answer, reason, message) => {
    const scripted = answering(() => answer)
    const error = await failureOf(authenticationOf(account(), false).header(contextOf(scripted, clock)))
    expect(error).toMatchObject({ reason, message: expect.stringMatching(message) as string })
    expect(scripted.sent).toHaveLength(1)
    const { token } = scripted.sent[0]!.body as { token: string }
    assertNoSecrets(error, [token, keyPem])
  })

  it('rethrows the reason of an abort', async () => {
    const controller = new AbortController()
    const reason = new Error('stop')
    const scripted = scriptedFetch(() => {
      controller.abort(reason)
      return networkError('ECONNRESET')
    })
    const error = await failureOf(
      authenticationOf(account(), false).header(contextOf(scripted, clock, controller.signal)),
    )
    expect(error).toBe(reason)
  })
})

describe('the option', () => {
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    .privateKey.export({ type: 'pkcs8', format: 'pem' })
    .toString()
  it.each<[string, () => unknown, string]>([
    ['no object', () => 'basic', 'authentication'],
    ['null', () => null, 'authentication'],
    ['no type', () => ({}), 'authentication.type'],
    ['an unknown type', () => ({ type: 'kerberos' }), 'authentication.type'],
    ['an unknown option', () => ({ type: 'basic', username: 'a', password: 'b', pass: 'c' }), 'pass'],
    ['a colon in the user', () => ({ type: 'basic', username: 'a:b', password: 'b' }), 'authentication.username'],
    ['no password', () => ({ type: 'basic', username: 'a' }), 'authentication.password'],
    ['no token', () => ({ type: 'token' }), 'authentication.token'],
    ['a token with spaces', () => ({ type: 'token', token: 'secret header' }), 'authentication.token'],
    ['no credential', () => ({ type: 'service-account' }), 'authentication.credential'],
    [
      'a credential that is no JSON',
      () => ({ type: 'service-account', credential: 'secret header' }),
      'authentication.credential',
    ],
    ['no uid', () => ({ type: 'service-account', credential: { ...credential(), uid: undefined } }), '"uid"'],
    ['an EC key', () => ({ type: 'service-account', credential: { ...credential(), private_key: ec } }), 'RSA'],
    [
      'no key',
      () => ({ type: 'service-account', credential: { ...credential(), private_key: 'secret header' } }),
      'RSA',
    ],
    ['another scheme', () => ({ type: 'service-account', credential: { ...credential(), scheme: 'HS256' } }), 'RS256'],
    [
      'a log-in over http',
      () => ({ type: 'service-account', credential: { ...credential(), login_endpoint: 'http://master.mesos/login' } }),
      'login_endpoint',
    ],
  ])('is refused with %s, and not quoted', (_, option, named) => {
    let error: unknown
    try {
      authenticationOf(option() as MarathonAuthentication, false)
    } catch (thrown) {
      error = thrown
    }
    expect(error).toBeInstanceOf(TypeError)
    expect(String(error)).toContain(named)
    assertNoSecrets(error, ['secret header'])
  })

  it('may log in over http where http is allowed', () => {
    const plain = { ...credential(), login_endpoint: 'http://master.mesos/acs/api/v1/auth/login' }
    expect(() => authenticationOf({ type: 'service-account', credential: plain }, 'anywhere')).not.toThrow()
  })
})
