/**
 * Reading and changing an app.
 */
import { describe, expect, it } from 'vitest'
import { lb, startWorld } from './world.js'

const path = '/v2/apps/marathon-lb'

describe('GET /v2/apps/{id}', () => {
  it('shows the definition, what runs, and the versions', async () => {
    const world = await startWorld()
    const app = await world.shown()
    expect(app).toMatchObject({
      id: '/marathon-lb',
      env: lb.env,
      tasksRunning: 2,
      tasksStaged: 0,
      deployments: [],
      tasks: [{ state: 'TASK_RUNNING', version: app['version'], ports: [80, 443] }, { state: 'TASK_RUNNING' }],
      versionInfo: { lastConfigChangeAt: app['version'], lastScalingAt: app['version'] },
    })
  })

  it('takes the id with and without slashes, and with groups', async () => {
    const world = await startWorld({ apps: [lb, { id: '/proxies/internal/lb', cmd: 'x' }] })
    expect(await world.shown('/marathon-lb')).toMatchObject({ id: '/marathon-lb' })
    expect(await world.shown('proxies/internal/lb')).toMatchObject({ id: '/proxies/internal/lb' })
  })

  it('lists a group when the id ends in an asterisk', async () => {
    const world = await startWorld({ apps: [lb, { id: '/proxies/one', cmd: 'x' }, { id: '/proxies/two', cmd: 'x' }] })
    const { status, json } = await world.ask('GET', '/v2/apps/proxies/*')
    expect(status).toBe(200)
    expect(json()).toMatchObject({ '*': [{ id: '/proxies/one' }, { id: '/proxies/two' }] })
    expect((await world.ask('GET', '/v2/apps')).json()['apps']).toHaveLength(3)
  })

  it('omits what is empty', async () => {
    const world = await startWorld({ apps: [{ id: 'bare', cmd: 'x', env: {}, secrets: {}, healthChecks: [] }] })
    expect(Object.keys(await world.shown('bare'))).not.toEqual(
      expect.arrayContaining([expect.stringMatching(/^(env|secrets|healthChecks)$/)]),
    )
  })

  it('shows references to secrets as they are, and starts the tasks with their values', async () => {
    const app = { ...lb, env: { KEY: { secret: 'pem' } }, secrets: { pem: { source: 'lb/pem' } } }
    const world = await startWorld({ apps: [app], secrets: { 'lb/pem': 'value' } })
    expect(await world.shown()).toMatchObject({ env: { KEY: { secret: 'pem' } }, secrets: app.secrets })
    expect(world.tasks('marathon-lb').map(({ env }) => env)).toEqual([{ KEY: 'value' }, { KEY: 'value' }])
  })

  it('counts healthy tasks only where there are health checks', async () => {
    const world = await startWorld({ apps: [lb, { ...lb, id: 'checked', requirePorts: false, healthChecks: [{}] }] })
    world.setTaskHealth('checked', false)
    expect(await world.shown()).toMatchObject({ tasksHealthy: 0, tasksUnhealthy: 0 })
    expect(await world.shown('checked')).toMatchObject({
      tasksHealthy: 0,
      tasksUnhealthy: 2,
      tasks: [{ healthCheckResults: [{ alive: false }] }, {}],
    })
  })

  it('lists the versions, and shows each', async () => {
    const world = await startWorld()
    const first = world.app('marathon-lb')!.version
    world.update('marathon-lb', { env: { HAPROXY_SSL_CERT: 'new' } })
    const versions = (await world.ask('GET', `${path}/versions`)).json()['versions'] as string[]
    expect(versions).toEqual([world.app('marathon-lb')!.version, first])
    expect((await world.ask('GET', `${path}/versions/${first}`)).json()).toMatchObject({ env: lb.env, version: first })
    expect((await world.ask('GET', `${path}/tasks`)).json()['tasks']).toHaveLength(2)
  })
})

describe.each(['PUT', 'PATCH'])('%s /v2/apps/{id}', (method) => {
  it('keeps the fields that are not sent', async () => {
    const world = await startWorld()
    const { status } = await world.ask(method, path, { env: { HAPROXY_SSL_CERT: 'new' } })
    expect(status).toBe(200)
    expect(world.app('marathon-lb')!.definition).toMatchObject({ ...lb, env: { HAPROXY_SSL_CERT: 'new' } })
  })

  it('replaces the whole of a map', async () => {
    const world = await startWorld({ apps: [{ ...lb, labels: { a: '1', b: '2' } }] })
    await world.ask(method, path, { env: { HAPROXY_SSL_CERT: 'new' }, labels: { b: '3' } })
    const { env, labels } = world.app('marathon-lb')!.definition
    expect(env).toEqual({ HAPROXY_SSL_CERT: 'new' })
    expect(labels).toEqual({ b: '3' })
  })

  it('answers with the new version of the app and the id of the deployment, in a header too', async () => {
    const world = await startWorld()
    world.deployments.hold()
    const { headers, json } = await world.ask(method, path, { env: {} })
    const { version, deploymentId } = json()
    expect(await world.shown()).toMatchObject({
      version,
      versionInfo: { lastConfigChangeAt: version, lastScalingAt: version },
      deployments: [{ id: deploymentId }],
    })
    expect(headers.get('marathon-deployment-id')).toBe(deploymentId)
  })

  it('answers a change that changes nothing with a deployment that is over at once, and keeps the version', async () => {
    const world = await startWorld()
    const before = world.app('marathon-lb')!.version
    const { status, json } = await world.ask(method, path, { env: { ...lb.env } })
    expect(status).toBe(200)
    expect(json()['deploymentId']).toMatch(/^[0-9a-f-]{36}$/)
    expect(json()['version']).not.toBe(before)
    expect(world.app('marathon-lb')!.version).toBe(before)
    expect((await world.ask('GET', '/v2/deployments')).json()).toEqual([])
    await world.deployments.settled()
    expect(world.tasks('marathon-lb').map(({ appVersion }) => appVersion)).toEqual([before, before])
  })

  it('ignores the id in the body, and fields that only describe', async () => {
    const world = await startWorld()
    const body = { id: 'other', env: {}, tasksRunning: 9, tasks: [], versionInfo: {}, deployments: [] }
    expect((await world.ask(method, path, body)).status).toBe(200)
    expect(world.app('other')).toBeUndefined()
    expect(world.app('marathon-lb')!.definition).not.toHaveProperty('tasksRunning')
  })

  it('loses resourceLimits and executorResources unless they are sent', async () => {
    const limits = { resourceLimits: { cpus: 2 }, executorResources: { cpus: 0.1 } }
    const world = await startWorld({ apps: [{ ...lb, ...limits }] })
    await world.ask(method, path, { env: { A: '1' }, ...limits })
    expect(world.app('marathon-lb')!.definition).toMatchObject(limits)
    await world.ask(method, `${path}?force=true`, { env: { A: '2' } })
    expect(Object.keys(world.app('marathon-lb')!.definition)).not.toContain('resourceLimits')
    expect(Object.keys(world.app('marathon-lb')!.definition)).not.toContain('executorResources')
  })

  it('keeps them in releases without that fault', async () => {
    const limits = { resourceLimits: { cpus: 2 } }
    const world = await startWorld({ apps: [{ ...lb, ...limits }], features: { resetByPartialUpdate: [] } })
    await world.ask(method, path, { env: {} })
    expect(world.app('marathon-lb')!.definition).toMatchObject(limits)
  })

  it('goes back to an old version, which makes it a new one', async () => {
    const world = await startWorld()
    const first = world.app('marathon-lb')!.version
    world.update('marathon-lb', { env: { HAPROXY_SSL_CERT: 'new' }, cmd: 'y' })
    await world.deployments.settled()
    const { status, json } = await world.ask(method, path, { id: 'marathon-lb', version: first })
    expect(status).toBe(200)
    expect(world.app('marathon-lb')).toMatchObject({ definition: { env: lb.env }, version: json()['version'] })
    expect(world.app('marathon-lb')!.version).not.toBe(first)
    expect(world.app('marathon-lb')!.definition).not.toHaveProperty('cmd')
    expect((await world.ask(method, path, { version: '2001-01-01T00:00:00.000Z' })).status).toBe(404)
  })

  it('refuses a version beside other fields', async () => {
    const world = await startWorld()
    const body = { version: world.app('marathon-lb')!.version, env: {} }
    const { status, json } = await world.ask(method, path, body)
    expect(status).toBe(422)
    expect(json()).toEqual({
      message: 'Object is not valid',
      details: [{ path: '/', errors: ["The 'version' field may only be combined with the 'id' field."] }],
    })
  })

  it('ignored the other fields in very old releases', async () => {
    const world = await startWorld({ features: { refuseVersionWithOtherFields: false } })
    const first = world.app('marathon-lb')!.version
    expect((await world.ask(method, path, { version: first, env: {} })).status).toBe(200)
    expect(world.app('marathon-lb')!.definition.env).toEqual(lb.env)
  })

  it('did not send the header before 1.4', async () => {
    const world = await startWorld({ features: { deploymentIdHeader: false } })
    const { headers } = await world.ask(method, path, { env: {} })
    expect(headers.get('marathon-deployment-id')).toBeNull()
  })
})

describe('PUT and PATCH differ', () => {
  it('in that PUT creates an app', async () => {
    const world = await startWorld()
    const { status, json } = await world.ask('PUT', '/v2/apps/new', { cmd: 'x' })
    expect(status).toBe(201)
    expect(world.app('new')).toMatchObject({ version: json()['version'] })
    await world.deployments.settled()
    expect(world.tasks('new')).toHaveLength(1)
  })

  it('in that PATCH does not', async () => {
    const world = await startWorld()
    const { status, json } = await world.ask('PATCH', '/v2/apps/new', { cmd: 'x' })
    expect(status).toBe(404)
    expect(json()).toEqual({ message: "App '/new' does not exist" })
  })

  it('in that PUT can replace everything', async () => {
    const world = await startWorld()
    await world.ask('PUT', `${path}?partialUpdate=false`, { cmd: 'x' })
    expect(world.app('marathon-lb')!.definition).toMatchObject({ cmd: 'x', instances: 1 })
    expect(world.app('marathon-lb')!.definition.env).toBeUndefined()
  })

  it('in that PATCH came with 1.4', async () => {
    const world = await startWorld({ features: { patch: false } })
    expect((await world.ask('PATCH', path, { env: {} })).status).toBe(405)
    expect((await world.ask('PUT', path, { env: {} })).status).toBe(200)
  })
})

describe('POST /v2/apps/{id}/restart', () => {
  it('starts new tasks of the same definition', async () => {
    const world = await startWorld()
    const before = world.app('marathon-lb')!
    const { status, json } = await world.ask('POST', `${path}/restart`)
    expect(status).toBe(200)
    await world.deployments.settled()
    const after = world.app('marathon-lb')!
    expect(after.definition).toEqual(before.definition)
    expect(after.version).toBe(json()['version'])
    expect(world.tasks('marathon-lb').map(({ appVersion }) => appVersion)).toEqual([after.version, after.version])
    expect((await world.ask('POST', '/v2/apps/none/restart')).status).toBe(404)
  })
})

describe('what is in service', () => {
  it('is the environment that the tasks were started with', async () => {
    const world = await startWorld()
    world.deployments.hold()
    await world.ask('PATCH', path, { env: { HAPROXY_SSL_CERT: 'new' } })
    const served = () => world.tasks('marathon-lb').map(({ env }) => env['HAPROXY_SSL_CERT'])
    expect(served()).toEqual(['old', 'old'])
    await world.deployments.finish()
    expect(served()).toEqual(['new', 'new'])
  })

  it('does not come up with an entry that is longer than Linux allows', async () => {
    const world = await startWorld()
    const longest = 131_072 - 'HAPROXY_SSL_CERT='.length - 1
    await world.ask('PATCH', path, { env: { HAPROXY_SSL_CERT: 'x'.repeat(longest) } })
    await world.deployments.settled()
    expect(world.deployments.running).toEqual([])
    await world.ask('PATCH', path, { env: { HAPROXY_SSL_CERT: 'x'.repeat(longest + 1) } })
    await world.deployments.settled()
    expect(world.deployments.running).toMatchObject([{ waitingFor: 'a task that starts' }])
    expect(await world.shown()).toMatchObject({ lastTaskFailure: { state: 'TASK_FAILED', appId: '/marathon-lb' } })
  })
})
