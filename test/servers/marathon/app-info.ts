/**
 * An app as the API shows it: its definition with what is going on. Marathon's AppInfo.
 */
import type { AppVersion } from './app.js'
import type { Task, TaskCluster } from './task-cluster.js'

export function appInfo(app: AppVersion, cluster: TaskCluster, deploymentIds: readonly string[]): object {
  const { definition, version } = app
  const tasks = cluster.tasks(definition.id)
  const failure = cluster.lastFailure(definition.id)
  // Without health checks nobody knows.
  const isChecked = (definition.healthChecks ?? []).length > 0
  const healthy = tasks.filter((task) => task.healthy).length
  return {
    ...definition,
    ...versionFields(app),
    version,
    tasksStaged: 0,
    tasksRunning: tasks.length,
    tasksHealthy: isChecked ? healthy : 0,
    tasksUnhealthy: isChecked ? tasks.length - healthy : 0,
    deployments: deploymentIds.map((id) => ({ id })),
    tasks: tasks.map((task) => taskInfo(task, isChecked)),
    ...(failure === undefined ? {} : { lastTaskFailure: { appId: definition.id, ...failure } }),
  }
}

export function versionFields({ lastScalingAt, lastConfigChangeAt }: AppVersion): object {
  return { versionInfo: { lastScalingAt, lastConfigChangeAt } }
}

export function taskInfo(
  { id, appId, appVersion, host, hostPorts, startedAt, healthy }: Task,
  checked: boolean,
): object {
  return {
    id,
    appId,
    host,
    ports: hostPorts,
    startedAt,
    stagedAt: startedAt,
    state: 'TASK_RUNNING',
    version: appVersion,
    ...(checked ? { healthCheckResults: [{ taskId: id, alive: healthy, lastSuccess: startedAt }] } : {}),
  }
}
