/**
 * In which order tasks are started and killed. Marathon's TaskReplaceActor.
 */
import type { AppDefinition } from './app.js'

/** What the decision needs to know of a task. */
export interface TaskState {
  readonly id: string
  readonly appVersion: string
  readonly healthy: boolean
}

export interface RestartStrategy {
  /** So many stay healthy throughout. */
  readonly minimumHealthy: number
  /** There are never more tasks than this, old and new together. */
  readonly maximumCapacity: number
}

export type Move = { readonly start: true } | { readonly kill: string } | 'wait' | 'done'

/** Computed once, when the restart begins. */
export function restartStrategy(app: AppDefinition, current: readonly TaskState[]): RestartStrategy {
  const { instances = 1, upgradeStrategy } = app
  const { minimumHealthCapacity, maximumOverCapacity } = upgradeStrategy!
  const healthy = current.filter((task) => task.healthy).length
  const minimumHealthy = Math.ceil(instances * minimumHealthCapacity)
  const maximumCapacity = Math.floor(instances * (1 + maximumOverCapacity))
  // Otherwise nothing could be killed and nothing be started.
  const needsRoom = minimumHealthy === maximumCapacity && maximumCapacity <= healthy
  return { minimumHealthy, maximumCapacity: needsRoom ? maximumCapacity + 1 : maximumCapacity }
}

/** The next thing to do until all tasks are of one version. */
export function restartMove(
  app: AppDefinition,
  version: string,
  tasks: readonly TaskState[],
  { minimumHealthy, maximumCapacity }: RestartStrategy,
): Move {
  const { instances = 1 } = app
  const old = tasks.filter(({ appVersion }) => appVersion !== version)
  const started = tasks.length - old.length
  const healthy = tasks.filter((task) => task.healthy).length
  const victim = old.find((task) => !task.healthy) ?? old[0]
  if (victim !== undefined && healthy - (victim.healthy ? 1 : 0) >= minimumHealthy) return { kill: victim.id }
  if (started < instances && tasks.length < maximumCapacity) return { start: true }
  return old.length === 0 && started === instances && healthy === instances ? 'done' : 'wait'
}

/** The next thing to do until there are so many tasks, of whatever version. */
export function scaleMove(instances: number, tasks: readonly TaskState[]): Move {
  if (tasks.length > instances) return { kill: tasks.at(-1)!.id }
  if (tasks.length < instances) return { start: true }
  return tasks.every((task) => task.healthy) ? 'done' : 'wait'
}
