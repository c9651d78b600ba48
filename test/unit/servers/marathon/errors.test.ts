/**
 * The shapes that errors come in.
 */
import { describe, expect, it } from 'vitest'
import { startWorld } from './world.js'

const path = '/v2/apps/marathon-lb'

describe('errors', () => {
  it('404 names the app', async () => {
    const world = await startWorld()
    const { status, json } = await world.ask('GET', '/v2/apps/x')
    expect(status).toBe(404)
    expect(json()).toEqual({ message: "App '/x' does not exist" })
  })

  it('409 names the deployments that lock the app', async () => {
    const world = await startWorld()
    world.deployments.hold()
    const { deploymentId } = world.update('marathon-lb', { env: {} })
    const { status, json } = await world.ask('PATCH', path, { env: { A: '1' } })
    expect(status).toBe(409)
    expect(json()).toEqual({
      message:
        "App is locked by one or more deployments. Override with the option '?force=true'. " +
        "View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
      deployments: [{ id: deploymentId }],
    })
    expect(world.app('marathon-lb')!.definition.env).toBeUndefined()
  })

  it('409 of an app that exists names no deployments', async () => {
    const world = await startWorld()
    const { status, json } = await world.ask('POST', '/v2/apps', { id: 'marathon-lb', cmd: 'x' })
    expect(status).toBe(409)
    expect(json()).toEqual({ message: 'An app with id [/marathon-lb] already exists.' })
    expect((await world.ask('POST', '/v2/apps', { id: 'other', cmd: 'x' })).status).toBe(201)
  })

  it.each([
    [
      { upgradeStrategy: { minimumHealthCapacity: 2, maximumOverCapacity: 0 } },
      '/upgradeStrategy/minimumHealthCapacity',
    ],
    [{ env: { KEY: { secret: 'pem' } } }, '/env/KEY/secret'],
    [{ instances: -1 }, '/instances'],
  ])('422 says which field of %j is invalid', async (body, field) => {
    const world = await startWorld()
    const { status, json } = await world.ask('PATCH', path, body)
    expect(status).toBe(422)
    expect(json()).toEqual({ message: 'Object is not valid', details: [{ path: field, errors: [expect.any(String)] }] })
  })

  it.each([
    [{ env: { KEY: 1 } }, '/env/KEY'],
    [{ env: 'x' }, '/env'],
    [{ instances: 'two' }, '/instances'],
    [{ secrets: { pem: 'x' } }, '/secrets/pem'],
  ])('422 says "Invalid JSON" when a field of %j has the wrong type', async (body, field) => {
    const world = await startWorld()
    const { status, json } = await world.ask('PATCH', path, body)
    expect(status).toBe(422)
    expect(json()).toEqual({ message: 'Invalid JSON', details: [{ path: field, errors: [expect.any(String)] }] })
  })

  it('422 refuses to create an app that runs nothing', async () => {
    const world = await startWorld()
    const { status, json } = await world.ask('PUT', '/v2/apps/new', { env: {} })
    expect(status).toBe(422)
    expect(json()).toMatchObject({ details: [{ path: '/', errors: [expect.stringContaining("'cmd' or 'args'")] }] })
  })

  it('400 has text for details', async () => {
    const world = await startWorld()
    const broken = await world.ask('PATCH', path, '{"env":')
    expect(broken.status).toBe(400)
    expect(broken.json()).toEqual({ message: 'Invalid JSON', details: expect.any(String) as string })
    const empty = await world.ask('PATCH', path, '')
    expect(empty.status).toBe(400)
    expect(empty.json()).toEqual({
      message: 'Please specify data in JSON format',
      details: expect.any(String) as string,
    })
  })

  it('403 when there are too many deployments', async () => {
    const world = await startWorld({
      apps: ['one', 'two'].map((id) => ({ id, cmd: 'x' })),
      features: { maxRunningDeployments: 1 },
    })
    world.deployments.hold()
    world.update('one', { cmd: 'y' })
    const { status, json } = await world.ask('PATCH', '/v2/apps/two', { cmd: 'y' })
    expect(status).toBe(403)
    expect(json()['message']).toMatch(/^Max number \(1\) of running deployments is achieved/)
  })

  it('500 for a path that there is not, 405 for a method', async () => {
    const world = await startWorld()
    const { status, json } = await world.ask('GET', '/v2/nothing')
    expect(status).toBe(500)
    expect(json()).toEqual({ message: 'URI not found' })
    expect((await world.ask('DELETE', '/v2/info')).status).toBe(405)
  })
})

describe('/v2/info, /v2/leader and /ping', () => {
  it('say who leads, and what it is', async () => {
    const world = await startWorld({ features: { version: '1.3.0' } })
    const leader = new URL(world.url).host
    expect((await world.ask('GET', '/v2/info')).json()).toMatchObject({ name: 'marathon', version: '1.3.0', leader })
    expect((await world.ask('GET', '/v2/leader')).json()).toEqual({ leader })
    expect((await world.ask('GET', '/ping')).text).toBe('pong')
  })
})
