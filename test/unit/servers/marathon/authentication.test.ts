/**
 * Who may do what, and the login of DC/OS.
 */
import { createSign, generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { credentialDigest, type MarathonOptions } from '../../../servers/marathon/marathon.js'
import { askUrl, startWorld, type World } from './world.js'

const keys = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
})
const otherKeys = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
})
const uid = 'evercert'
const appPath = '/v2/apps/marathon-lb'

function signed(claims: object, privateKey = keys.privateKey, algorithm = 'RS256'): string {
  const text = [{ alg: algorithm, typ: 'JWT' }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.')
  return `${text}.${createSign('sha256').update(text).sign(privateKey, 'base64url')}`
}

function dcos(more: Partial<MarathonOptions> = {}, tokenLifetimeMs?: number): Promise<World> {
  const accounts = [{ uid, publicKeyPem: keys.publicKey }]
  return startWorld({ authentication: { type: 'dcos', accounts, tokenLifetimeMs }, ...more })
}

function logIn(world: World, body: object) {
  return askUrl(world.loginUrl, { method: 'POST', body: JSON.stringify(body) })
}

async function token(world: World, exp = Math.floor(Date.now() / 1000) + 60): Promise<string> {
  const { status, json } = await logIn(world, { uid, token: signed({ uid, exp }) })
  expect(status).toBe(200)
  return json()['token'] as string
}

const asked = (world: World, authorization: string) => world.ask('GET', appPath, undefined, { authorization })

describe('without authentication', () => {
  it('lets everybody in', async () => {
    const world = await startWorld()
    expect((await world.ask('GET', appPath)).status).toBe(200)
    expect(() => world.login).toThrow(TypeError)
  })
})

describe('basic authentication', () => {
  it('wants the right name and password, on every path', async () => {
    const world = await startWorld({ authentication: { type: 'basic', username: 'admin', password: 'p:w' } })
    const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`
    expect((await asked(world, basic('admin:p:w'))).status).toBe(200)
    for (const refused of [await asked(world, basic('admin:x')), await world.ask('GET', '/v2/deployments')]) {
      expect(refused.status).toBe(401)
      expect(refused.headers.get('www-authenticate')).toBe('Basic realm="Mesosphere"')
      expect(refused.headers.get('content-type')).toMatch(/^text\/html/)
    }
  })
})

describe('DC/OS', () => {
  it('answers 401 as a page, with a challenge', async () => {
    const world = await dcos()
    const { status, headers, text } = await world.ask('GET', appPath)
    expect([status, headers.get('www-authenticate')]).toEqual([401, 'acsjwt'])
    expect(headers.get('content-type')).toMatch(/^text\/html/)
    expect(text).toContain('<html>')
  })

  it('gives a token to a service that proves itself, and counts', async () => {
    const world = await dcos()
    expect((await asked(world, `token=${await token(world)}`)).status).toBe(200)
    expect([world.login.succeeded, world.login.refused]).toEqual([1, 0])
  })

  it('gives the token as a cookie too', async () => {
    const world = await dcos()
    const { headers, json } = await logIn(world, { uid, token: signed({ uid }) })
    expect(headers.get('set-cookie')).toContain(`dcos-acs-auth-cookie=${String(json()['token'])};`)
  })

  it.each([
    ['another key', () => ({ uid, token: signed({ uid }, otherKeys.privateKey) })],
    ['another account', () => ({ uid: 'nobody', token: signed({ uid: 'nobody' }) })],
    ['a token for another account', () => ({ uid, token: signed({ uid: 'other' }) })],
    ['a token without an account', () => ({ uid, token: signed({}) })],
    ['a token that is over', () => ({ uid, token: signed({ uid, exp: Math.floor(Date.now() / 1000) - 1 }) })],
    ['another algorithm', () => ({ uid, token: signed({ uid }, keys.privateKey, 'none') })],
    ['no token', () => ({ uid, token: 'x' })],
  ])('refuses %s', async (_, body) => {
    const world = await dcos()
    const { status, headers, json } = await logIn(world, body())
    expect([status, headers.get('www-authenticate')]).toEqual([401, 'acsjwt'])
    expect(json()).toMatchObject({ code: 'ERR_INVALID_CREDENTIALS' })
    expect([world.login.succeeded, world.login.refused]).toEqual([0, 1])
  })

  it('answers 400 to a login with both or neither of token and password', async () => {
    const world = await dcos()
    expect((await logIn(world, { uid })).status).toBe(400)
    expect((await logIn(world, { uid, token: 'x', password: 'x' })).status).toBe(400)
    expect((await askUrl(world.loginUrl, { method: 'POST', body: 'x' })).status).toBe(400)
    expect((await askUrl(world.loginUrl)).status).toBe(405)
  })

  it('lets tokens expire', async () => {
    const clock = fakeClock()
    const world = await dcos({ clock }, 60_000)
    const first = await token(world, clock.now() / 1000 + 60)
    expect((await asked(world, `token=${first}`)).status).toBe(200)
    await clock.advance(60_000)
    expect((await asked(world, `token=${first}`)).status).toBe(401)
    expect((await asked(world, `token=${await token(world, clock.now() / 1000 + 60)}`)).status).toBe(200)
  })

  it('can revoke them earlier', async () => {
    const world = await dcos()
    const first = await token(world)
    world.login.revokeTokens()
    expect((await asked(world, `token=${first}`)).status).toBe(401)
    expect((await asked(world, `token=${world.login.issueToken('admin')}`)).status).toBe(200)
  })

  it('takes other forms of the token only through Admin Router', async () => {
    const direct = await dcos()
    const routed = await dcos({ basePath: '/service/marathon' })
    for (const [world, expected] of [[direct, 401] as const, [routed, 200] as const]) {
      const value = world.login.issueToken('admin')
      expect((await asked(world, `token=${value}`)).status).toBe(200)
      expect((await asked(world, `Bearer ${value}`)).status).toBe(expected)
      const cookie = { cookie: `dcos-acs-auth-cookie=${value}` }
      expect((await world.ask('GET', appPath, undefined, cookie)).status).toBe(expected)
    }
    expect(routed.url).toMatch(/\/service\/marathon$/)
  })

  it('keeps credentials out of what is recorded', async () => {
    const world = await dcos()
    const proof = signed({ uid })
    const value = (await logIn(world, { uid, token: proof })).json()['token'] as string
    await asked(world, `token=${value}`)
    const [login, request] = world.requests
    expect(JSON.parse(login!.body)).toEqual({ uid, token: credentialDigest(proof) })
    expect(request!.headers.authorization).toBe(credentialDigest(`token=${value}`))
    expect(JSON.stringify(world.requests)).not.toContain(value)
  })
})

describe('a right that is taken away', () => {
  it('403 for a change', async () => {
    const world = await startWorld()
    const refused = world.forbid({ action: 'update', appId: '/marathon-lb' })
    const { status, json } = await world.ask('PATCH', appPath, { env: {} })
    expect([status, json()]).toEqual([403, { message: 'Not Authorized to perform this action!' }])
    expect((await world.ask('POST', `${appPath}/restart`)).status).toBe(403)
    expect(refused.fired).toBe(2)
    refused.remove()
    expect((await world.ask('PATCH', appPath, { env: {} })).status).toBe(200)
  })

  it('404 and absence from lists for what one may not see', async () => {
    const world = await startWorld()
    world.deployments.hold()
    world.update('marathon-lb', { env: {} })
    const hidden = world.forbid({ action: 'view' })
    expect((await world.ask('GET', appPath)).status).toBe(404)
    expect((await world.ask('GET', '/v2/deployments')).json()).toEqual([])
    expect(hidden.fired).toBe(2)
  })

  it('403 for creating an app, for cancelling a deployment, and for information about the system', async () => {
    const world = await startWorld()
    world.deployments.hold()
    const { deploymentId } = world.update('marathon-lb', { env: {} })
    world.forbid({ action: 'create' })
    world.forbid({ action: 'update' })
    world.forbid({ action: 'view-system' })
    expect((await world.ask('PUT', '/v2/apps/new', { cmd: 'x' })).status).toBe(403)
    expect((await world.ask('DELETE', `/v2/deployments/${deploymentId}`)).status).toBe(403)
    expect((await world.ask('GET', '/v2/info')).status).toBe(403)
  })
})
