/**
 * Deployments: how they move, how they end, and that they do not end.
 */
import { describe, expect, it } from 'vitest'
import type { AppDefinition } from '../../../servers/marathon/app.js'
import { lb, startWorld, type World } from './world.js'

const path = '/v2/apps/marathon-lb'
const newEnv = { env: { HAPROXY_SSL_CERT: 'new' } }

async function held(app: AppDefinition = lb, agents = 3): Promise<World> {
  const world = await startWorld({ apps: [app], agents })
  world.deployments.hold()
  return world
}

describe('GET /v2/deployments', () => {
  it('shows what is under way, step by step', async () => {
    const world = await held()
    const { deploymentId, version } = world.update('marathon-lb', newEnv)
    const step = { actions: [{ action: 'RestartApplication', app: '/marathon-lb' }] }
    const shown = { id: deploymentId, version, affectedApps: ['/marathon-lb'], affectedPods: [], steps: [step] }
    const list = async () => (await world.ask('GET', '/v2/deployments')).json()
    expect(await list()).toEqual([{ ...shown, currentActions: [], currentStep: 0, totalSteps: 1 }])
    await world.deployments.advance()
    const currentActions = [{ action: 'RestartApplication', app: '/marathon-lb', readinessCheckResults: [] }]
    expect(await list()).toEqual([{ ...shown, currentActions, currentStep: 1, totalSteps: 1 }])
    await world.deployments.finish()
    expect(await list()).toEqual([])
    expect(world.deployments.all).toMatchObject([{ id: deploymentId, outcome: 'succeeded' }])
  })

  it('names the actions of other changes', async () => {
    const world = await held()
    const actions = () => world.ask('GET', '/v2/deployments').then(({ text }) => text.match(/(?<="action":")\w+/g))
    await world.ask('PUT', '/v2/apps/new', { cmd: 'x' })
    expect(await actions()).toEqual(['StartApplication', 'ScaleApplication'])
    await world.deployments.finish()
    world.update('new', { instances: 3 })
    expect(await actions()).toEqual(['ScaleApplication'])
    await world.deployments.finish()
    expect(world.tasks('new')).toHaveLength(3)
    world.removeApp('new')
    expect(await actions()).toEqual(['StopApplication'])
    await world.deployments.finish()
    expect(world.tasks('new')).toEqual([])
  })

  it('leaves lastConfigChangeAt alone when an app is only scaled', async () => {
    const world = await startWorld({ apps: [{ id: 'app', cmd: 'x' }] })
    const before = world.app('app')!
    const { version } = world.update('app', { instances: 2 })
    expect(world.app('app')).toMatchObject({ version, lastScalingAt: version })
    expect(world.app('app')!.lastConfigChangeAt).toBe(before.lastConfigChangeAt)
  })

  it('does not list a new one at first, in releases with MARATHON-8566', async () => {
    const world = await startWorld({ features: { lateListings: 2 } })
    world.deployments.hold()
    world.update('marathon-lb', newEnv)
    const lengths: number[] = []
    for (let request = 0; request < 3; request += 1) {
      lengths.push(((await world.ask('GET', '/v2/deployments')).json() as unknown as unknown[]).length)
    }
    expect(lengths).toEqual([0, 0, 1])
  })
})

describe('DELETE /v2/deployments/{id}', () => {
  it('cancels it and starts another one, back to what was', async () => {
    const world = await held()
    const { deploymentId } = world.update('marathon-lb', newEnv)
    await world.deployments.advance()
    await world.deployments.advance()
    const { status, json } = await world.ask('DELETE', `/v2/deployments/${deploymentId}`)
    expect(status).toBe(200)
    expect(json()['deploymentId']).not.toBe(deploymentId)
    expect(world.app('marathon-lb')).toMatchObject({ definition: { env: lb.env }, version: json()['version'] })
    await world.deployments.finish()
    expect(world.tasks('marathon-lb').map(({ env }) => env)).toEqual([lb.env, lb.env])
    expect(world.deployments.all).toMatchObject([
      { id: deploymentId, outcome: 'overridden' },
      { id: json()['deploymentId'], outcome: 'succeeded' },
    ])
  })

  it('only cancels it by force, and leaves a mixture', async () => {
    const world = await held({ ...lb, upgradeStrategy: { minimumHealthCapacity: 0.5, maximumOverCapacity: 0 } })
    const { deploymentId } = world.update('marathon-lb', newEnv)
    // Begins, kills an old task, starts a new one.
    for (let move = 0; move < 3; move += 1) await world.deployments.advance()
    const { status, text } = await world.ask('DELETE', `/v2/deployments/${deploymentId}?force=true`)
    expect([status, text]).toEqual([202, ''])
    expect(world.deployments.running).toEqual([])
    expect(world.app('marathon-lb')!.definition.env).toEqual(newEnv.env)
    expect(world.tasks('marathon-lb').map(({ env }) => env['HAPROXY_SSL_CERT'])).toEqual(['old', 'new'])
  })

  it('answers 404 for one that there is not', async () => {
    const world = await startWorld()
    const { status, json } = await world.ask('DELETE', '/v2/deployments/none')
    expect(status).toBe(404)
    expect(json()).toEqual({ message: 'DeploymentPlan none does not exist' })
  })
})

describe('a deployment', () => {
  it('never fails by itself', async () => {
    const world = await startWorld({ agents: 3 })
    world.setTaskOutcome('marathon-lb', 'crash')
    world.update('marathon-lb', newEnv)
    await world.deployments.settled()
    expect(world.deployments.running).toMatchObject([{ waitingFor: 'a task that starts' }])
    expect(world.lastTaskFailure('marathon-lb')).toMatchObject({ message: 'Command exited with status 1' })
    world.setTaskOutcome('marathon-lb', 'healthy')
    await world.deployments.settled()
    expect(world.deployments.running).toEqual([])
  })

  it('waits for its tasks to be healthy', async () => {
    const world = await startWorld({ apps: [{ ...lb, healthChecks: [{ protocol: 'MESOS_HTTP' }] }], agents: 3 })
    world.setTaskOutcome('marathon-lb', 'unhealthy')
    world.update('marathon-lb', newEnv)
    await world.deployments.settled()
    expect(world.deployments.running).toMatchObject([{ waitingFor: 'healthy tasks' }])
    world.setTaskOutcome('marathon-lb', 'healthy')
    world.setTaskHealth('marathon-lb', true)
    await world.deployments.settled()
    expect(world.deployments.running).toEqual([])
  })

  it('is overridden by force', async () => {
    const world = await held()
    const first = world.update('marathon-lb', newEnv)
    const { status, json } = await world.ask('PATCH', `${path}?force=true`, { env: { HAPROXY_SSL_CERT: 'third' } })
    expect(status).toBe(200)
    await world.deployments.finish()
    expect(world.deployments.all).toMatchObject([
      { id: first.deploymentId, outcome: 'overridden' },
      { id: json()['deploymentId'], outcome: 'succeeded' },
    ])
    expect(world.tasks('marathon-lb').map(({ env }) => env['HAPROXY_SSL_CERT'])).toEqual(['third', 'third'])
  })

  it('does not stand in the way of a change that changes nothing', async () => {
    const world = await held()
    world.update('marathon-lb', newEnv)
    expect((await world.ask('PATCH', path, newEnv)).status).toBe(200)
  })

  it('can be cancelled by somebody else, or go on after a pause', async () => {
    const world = await held()
    world.update('marathon-lb', newEnv)
    world.deployments.cancel()
    expect(world.deployments.all).toMatchObject([{ outcome: 'cancelled' }])
    world.update('marathon-lb', { env: {} })
    world.deployments.release()
    await world.deployments.settled()
    expect(world.deployments.all[1]).toMatchObject({ outcome: 'succeeded' })
  })
})

describe('a load balancer that occupies its ports', () => {
  const single: AppDefinition = { ...lb, instances: 1 }

  it('never gets a second task on the only agent', async () => {
    const world = await startWorld({ apps: [single], agents: 1 })
    world.update('marathon-lb', newEnv)
    await world.deployments.settled()
    expect(world.deployments.running).toMatchObject([{ waitingFor: 'an offer' }])
    expect(world.tasks('marathon-lb').map(({ env }) => env)).toEqual([lb.env])
    world.setAgents(2)
    await world.deployments.settled()
    expect(world.deployments.running).toEqual([])
    expect(world.tasks('marathon-lb')).toMatchObject([{ env: newEnv.env, host: '127.0.0.2' }])
  })

  it('can be told to stop the old task first', async () => {
    const upgradeStrategy = { minimumHealthCapacity: 0, maximumOverCapacity: 0 }
    const world = await startWorld({ apps: [{ ...single, upgradeStrategy }], agents: 1 })
    world.update('marathon-lb', newEnv)
    await world.deployments.settled()
    expect(world.tasks('marathon-lb')).toMatchObject([{ env: newEnv.env, host: '127.0.0.1' }])
  })

  it('replaces two tasks on two agents one after the other', async () => {
    const world = await held(lb, 2)
    world.update('marathon-lb', newEnv)
    const counts: number[] = []
    while (world.deployments.running.length > 0) {
      await world.deployments.advance()
      counts.push(world.tasks('marathon-lb').length)
    }
    expect(Math.min(...counts)).toBe(1)
    expect(Math.max(...counts)).toBe(2)
    expect(world.tasks('marathon-lb').map(({ env }) => env)).toEqual([newEnv.env, newEnv.env])
  })
})
