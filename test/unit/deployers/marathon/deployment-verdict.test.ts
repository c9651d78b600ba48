import { describe, expect, it } from 'vitest'
import { judgeDeployment, type Followed, type Sighting } from '../../../../src/deployers/marathon/deployment-verdict.js'
import { readApp } from '../../../../src/deployers/marathon/marathon-app.js'
import { secondInstant } from './scripted-marathon.js'

const followed: Followed = {
  variable: 'CERT',
  value: { text: 'NEW', matches: (value) => value === 'NEW' },
  deploymentId: 'ours',
  replaced: { value: 'OLD' },
  ownVersions: [secondInstant(1), secondInstant(2)],
}
const task = (second: number) => ({ id: 'a', state: 'TASK_RUNNING', version: secondInstant(second) })

function see(fields: Record<string, unknown>, parts: Partial<Sighting> = {}): Sighting {
  const app = readApp({
    app: {
      id: '/lb',
      env: { CERT: 'NEW' },
      instances: 1,
      tasksRunning: 1,
      tasks: [task(2)],
      version: secondInstant(2),
      versionInfo: { lastConfigChangeAt: secondInstant(2) },
      ...fields,
    },
  })!
  return { app, listed: [], event: undefined, everSeen: true, absences: 1, ...parts }
}
const listed = { listed: [{ id: 'ours', progress: '' }], absences: 0 }
/** A server that does not tell the version of tasks. */
const noVersions = { tasks: [{ id: 'a', state: 'TASK_RUNNING' }] }
const old = { env: { CERT: 'OLD' } }
const other = { env: { CERT: 'OTHER' }, version: secondInstant(9) }

describe('a deployment', () => {
  it.each<[string, Sighting, string]>([
    ['all new and nothing under way', see({}), 'done'],
    ['never listed, and all new', see({}, { everSeen: false }), 'done'],
    ['no app of no instances', see({ instances: 0, tasksRunning: 0, tasks: [] }), 'done'],
    ['a later change that keeps the value', see({ version: secondInstant(9) }), 'done'],
    ['still listed', see({}, listed), 'wait'],
    ['holding the app, though not listed', see({ deployments: [{ id: 'ours' }] }), 'wait'],
    ['gone, but another holds the app', see({ deployments: [{ id: 'theirs' }] }), 'wait'],
    ['listed late: old tasks run', see({ tasks: [task(1)] }, { everSeen: false }), 'wait'],
    ['too few tasks', see({ instances: 2 }), 'wait'],
    ['too many tasks, some of them old', see({ tasksRunning: 2, tasks: [task(1), task(2)] }), 'wait'],
    ['not healthy', see({ healthChecks: [{}] }), 'wait'],
    ['healthy', see({ healthChecks: [{}], tasksHealthy: 1 }), 'done'],
    ['an event of success before it is true', see({ tasks: [task(1)] }, { event: 'success' }), 'wait'],
    ['an event of failure, and yet all new', see({}, { event: 'failed' }), 'done'],
    ['old tasks, and gone for long', see({ tasks: [task(1)] }, { absences: 3 }), 'cancelled'],
    [
      'old tasks and new ones, and gone for long',
      see({ instances: 2, tasksRunning: 2, tasks: [task(1), task(2)] }, { absences: 3 }),
      'cancelled',
    ],
    [
      'old tasks, gone for long, but another goes on',
      see({ tasks: [task(1)], deployments: [{ id: 'x' }] }, { absences: 3 }),
      'wait',
    ],
    ['without versions: listed late', see(noVersions, { everSeen: false }), 'wait'],
    ['without versions: seen, and gone', see(noVersions), 'done'],
    ['without versions: never seen for long', see(noVersions, { everSeen: false, absences: 3 }), 'done'],
    ['without versions: told by an event', see(noVersions, { everSeen: false, event: 'success' }), 'done'],
    ['without versions: failed by an event', see(noVersions, { event: 'failed' }), 'wait'],
    ['without versions: failed by an event, for long', see(noVersions, { event: 'failed', absences: 3 }), 'cancelled'],
    ['a reading from before', see({ ...old, version: secondInstant(1) }), 'wait'],
    ['a reading from before, for long', see({ ...old, version: secondInstant(1) }, { absences: 3 }), 'rolled-back'],
    ['the previous value in a new version', see({ ...old, version: secondInstant(9) }), 'rolled-back'],
    [
      'the previous value, deployed by another',
      see({ ...old, version: secondInstant(9), deployments: [{ id: 'x' }] }),
      'rolled-back',
    ],
    ['another value by another deployment', see({ ...other, deployments: [{ id: 'x' }] }), 'overridden'],
    ['another value, long deployed', see(other), 'edited'],
    ['no value', see({ env: {}, version: secondInstant(9) }), 'edited'],
  ])('%s', (_, sighting, verdict) => {
    const { kind, ...rest } = judgeDeployment(followed, sighting)
    expect('reason' in rest ? rest.reason : kind).toBe(verdict)
  })

  it('that replaced nothing is rolled back to nothing', () => {
    const verdict = judgeDeployment(
      { ...followed, replaced: { value: undefined } },
      see({ env: {}, version: secondInstant(9) }),
    )
    expect(verdict).toEqual({ kind: 'lost', reason: 'rolled-back' })
  })

  it('that was joined is over when nothing holds the app', () => {
    const joined: Followed = { ...followed, deploymentId: undefined, replaced: 'unknown', ownVersions: [] }
    expect(judgeDeployment(joined, see({ deployments: [{ id: 'x' }] })).kind).toBe('wait')
    expect(judgeDeployment(joined, see({})).kind).toBe('done')
    expect(judgeDeployment(joined, see(other))).toEqual({ kind: 'lost', reason: 'edited' })
  })
})
