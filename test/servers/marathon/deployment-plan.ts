/**
 * What a change of one app takes, step by step. Marathon's DeploymentPlan.
 */
import { randomUUID } from 'node:crypto'
import { changeBetween, type AppVersion } from './app.js'

export type DeploymentAction = 'StartApplication' | 'StopApplication' | 'ScaleApplication' | 'RestartApplication'

export interface DeploymentPlan {
  readonly id: string
  readonly version: string
  readonly appId: string
  readonly before: AppVersion | undefined
  /** `undefined` when the app goes. */
  readonly after: AppVersion | undefined
  /** Empty when there is nothing to do. */
  readonly steps: readonly DeploymentAction[]
}

export function deploymentPlan(
  appId: string,
  before: AppVersion | undefined,
  after: AppVersion | undefined,
  version: string,
): DeploymentPlan {
  return { id: randomUUID(), version, appId, before, after, steps: stepsBetween(before, after) }
}

function stepsBetween(before: AppVersion | undefined, after: AppVersion | undefined): DeploymentAction[] {
  if (after === undefined) return before === undefined ? [] : ['StopApplication']
  if (before === undefined) return ['StartApplication', 'ScaleApplication']
  if (before.version === after.version) return []
  const onlyScale = changeBetween(before.definition, after.definition) === 'scale'
  return onlyScale || after.definition.instances === 0 ? ['ScaleApplication'] : ['RestartApplication']
}

/** The plan in events; heavy ones carry the whole definitions, whatever is in their environment. */
export function planInEvents({ id, version, appId, before, after, steps }: DeploymentPlan, heavy: boolean): object {
  const group = (app: AppVersion | undefined): object => ({
    id: '/',
    apps: app === undefined ? [] : [{ ...app.definition, version: app.version }],
  })
  return {
    id,
    version,
    ...(heavy ? { original: group(before), target: group(after) } : {}),
    steps: steps.map((action) => stepOf(action, appId)),
  }
}

export function stepOf(action: DeploymentAction, app: string): object {
  return { actions: [{ action, app }] }
}
