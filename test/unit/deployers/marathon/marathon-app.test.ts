import { describe, expect, it } from 'vitest'
import {
  deploymentId,
  readAccepted,
  readApp,
  readDeployments,
  readLocks,
} from '../../../../src/deployers/marathon/marathon-app.js'

describe('an app', () => {
  it('is read with the defaults of what Marathon leaves out', () => {
    expect(readApp({ app: { id: '/lb' } })).toEqual({
      env: {},
      echoed: {},
      labels: {},
      version: undefined,
      deployments: [],
      instances: 1,
      tasksRunning: 0,
      tasksStaged: 0,
      tasksHealthy: 0,
      hasHealthChecks: false,
      outdatedTasks: undefined,
      outdatedVersions: [],
      upgradeStrategy: { minimumHealthCapacity: 1, maximumOverCapacity: 1 },
      oneTaskPerAgent: undefined,
      resident: false,
      lastFailure: undefined,
    })
  })

  it('is read as Marathon shows it', () => {
    const app = readApp({
      app: {
        id: '/lb',
        env: { A: 'b', C: { secret: 's' } },
        secrets: { s: { source: 'lb/s' } },
        instances: 3,
        tasksRunning: 2,
        tasksStaged: 1,
        tasksHealthy: 2,
        healthChecks: [{ path: '/' }],
        version: '2026-01-02T03:04:05.678Z',
        versionInfo: { lastConfigChangeAt: '2026-01-02T03:04:05.678Z' },
        deployments: [{ id: '97c136bf-5a28-4821-9d94-480d9fbb01c8' }],
        tasks: [
          { version: '2026-01-02T03:04:05.678Z', state: 'TASK_RUNNING' },
          { version: '2026-01-02T03:04:05.677Z', state: 'TASK_RUNNING' },
          { version: '2026-01-01T00:00:00.000Z', state: 'TASK_UNREACHABLE' },
          { version: '2026-01-01T00:00:00.000Z' },
          { version: '2026-01-01T00:00:00.000Z', state: 'TASK_RUNNING' },
        ],
        upgradeStrategy: { minimumHealthCapacity: 0.5, maximumOverCapacity: 0.2 },
        lastTaskFailure: { message: 'exited' },
        container: { volumes: [{ persistent: { size: 500 } }] },
      },
    })
    expect(app).toMatchObject({
      env: { A: 'b', C: { secret: 's' } },
      echoed: { secrets: { s: { source: 'lb/s' } } },
      deployments: ['97c136bf-5a28-4821-9d94-480d9fbb01c8'],
      outdatedTasks: 3,
      outdatedVersions: ['2026-01-02T03:04:05.677Z', '2026-01-01T00:00:00.000Z'],
      instances: 3,
      hasHealthChecks: true,
      upgradeStrategy: { minimumHealthCapacity: 0.5, maximumOverCapacity: 0.2 },
      lastFailure: 'exited',
      resident: true,
    })
  })

  it.each<[string, unknown]>([
    ['a text', '<html>'],
    ['nothing', undefined],
    ['null', null],
    ['no app', {}],
    ['an app without id', { app: {} }],
    ['an app that is a list', { app: [] }],
    ['a group listing', { '*': [{ id: '/lb' }] }],
    ['an environment that is none', { app: { id: '/lb', env: 'A=b' } }],
  ])('is not read from %s', (_, data) => {
    expect(readApp(data)).toBeUndefined()
  })

  it('is not led astray by fields of other types', () => {
    const odd = {
      id: '/lb',
      instances: -1,
      tasks: 'x',
      deployments: [{ id: '../../x' }, { id: 7 }, 'x'],
      version: '<b>',
    }
    expect(readApp({ app: { ...odd, upgradeStrategy: { minimumHealthCapacity: 7 } } })).toMatchObject({
      instances: 1,
      deployments: [],
      version: undefined,
      upgradeStrategy: { minimumHealthCapacity: 1 },
    })
  })
})

describe('deployments', () => {
  it('are read with what they are at', () => {
    const one = {
      id: 'a-1',
      currentStep: 1,
      totalSteps: 2,
      currentActions: [{ action: 'RestartApplication' }, { action: '<b>' }],
    }
    expect(readDeployments([one, { id: 'a b' }, 'x'])).toEqual([
      { id: 'a-1', progress: 'step 1 of 2, RestartApplication' },
    ])
    expect(readDeployments({})).toBeUndefined()
  })

  it('that lock are named by a 409, not by every one', () => {
    expect(readLocks({ message: 'locked', deployments: [{ id: 'a' }, { id: 'b' }] })).toEqual(['a', 'b'])
    expect(readLocks({ message: 'An app with id [/x] already exists.' })).toEqual([])
    expect(readLocks('<html>')).toEqual([])
  })

  it('that were begun are named with the version of the app', () => {
    expect(readAccepted({ version: '2026-01-02T03:04:05.678Z', deploymentId: 'a' })).toEqual({
      version: '2026-01-02T03:04:05.678Z',
      deploymentId: 'a',
    })
    expect(readAccepted(undefined)).toEqual({ version: undefined, deploymentId: undefined })
  })

  it.each(['', 'a/b', '-a', 'a'.repeat(101), 'a\nb', 7, null])('have no id like %j', (id) => {
    expect(deploymentId(id)).toBeUndefined()
  })
})
