/**
 * The agents, and what runs on them. A task keeps the environment that it was started with: that is what is in service.
 */
import { randomUUID } from 'node:crypto'
import { hostPorts, type AppVersion } from './app.js'

export interface Task {
  readonly id: string
  readonly appId: string
  readonly appVersion: string
  /** Address of its agent: 127.0.0.1, 127.0.0.2, ... */
  readonly host: string
  /** The fixed ports that it occupies there. */
  readonly hostPorts: readonly number[]
  /** Secrets resolved. */
  readonly env: Readonly<Record<string, string>>
  readonly startedAt: string
  readonly healthy: boolean
}

/** What is about to be started. */
export type LaunchedTask = Omit<Task, 'healthy'>

/** Runs the tasks of an app for real. Without one, a task runs by being in the list. */
export interface TaskRunner {
  /** Rejects when the task does not come up. */
  start(task: LaunchedTask): Promise<RunningTask>
}

export interface RunningTask {
  stop(): Promise<void>
}

/** What becomes of the tasks of an app that are started from now on. */
export type TaskOutcome = 'healthy' | 'unhealthy' | 'crash'

export interface TaskFailure {
  readonly taskId: string
  readonly host: string
  readonly message: string
  readonly state: 'TASK_FAILED'
  readonly timestamp: string
  readonly version: string
}

export interface TaskClusterOptions {
  readonly agents: number
  /** By the `source` of a secret. */
  readonly secrets: Readonly<Record<string, string>>
  readonly runners: Readonly<Record<string, TaskRunner>>
  /** The time of day, as Marathon writes it. */
  readonly timestamp: () => string
  /** Called whenever a task starts, fails, ends, or changes its health. */
  readonly onChange: (task: LaunchedTask, state: 'TASK_RUNNING' | 'TASK_FAILED' | 'TASK_KILLED') => void
}

export interface TaskCluster {
  /** Of one app, the oldest first. */
  tasks(appId: string): Task[]
  lastFailure(appId: string): TaskFailure | undefined
  /** `no-offer`: no agent has the host ports free. */
  launch(app: AppVersion): Promise<'running' | 'no-offer' | 'failed'>
  kill(taskId: string): Promise<void>
  setOutcome(appId: string, outcome: TaskOutcome): void
  /** Of those that run now. */
  setHealth(appId: string, healthy: boolean): void
  /** Agents can only be added. */
  setAgents(count: number): void
  close(): Promise<void>
}

/** MAX_ARG_STRLEN of Linux: `NAME=value` and its final zero. */
const longestEnvironmentEntry = 131_072

export function taskCluster(options: TaskClusterOptions): TaskCluster {
  const { secrets, runners, timestamp, onChange } = options
  const running = new Map<string, { task: Task; process: RunningTask | undefined }>()
  const failures = new Map<string, TaskFailure>()
  const outcomes = new Map<string, TaskOutcome>()
  // Ports of tasks that are still being started.
  const reserved = new Set<LaunchedTask>()
  let agents = options.agents

  const environment = ({ definition: { env = {}, secrets: references = {} } }: AppVersion): Record<string, string> =>
    Object.fromEntries(
      Object.entries(env).map(([name, value]) => [
        name,
        typeof value === 'string' ? value : (secrets[references[value.secret]?.source ?? ''] ?? ''),
      ]),
    )

  const freeAgent = (ports: readonly number[]): string | undefined => {
    const occupied = [...[...running.values()].map(({ task }) => task), ...reserved]
    return Array.from({ length: agents }, (_, index) => `127.0.0.${String(index + 1)}`).find((host) =>
      occupied.every((task) => task.host !== host || !task.hostPorts.some((port) => ports.includes(port))),
    )
  }

  const run = (task: LaunchedTask): Promise<RunningTask | undefined> | undefined => {
    const tooLong = Object.entries(task.env).find(
      ([name, value]) => Buffer.byteLength(`${name}=${value}`) + 1 > longestEnvironmentEntry,
    )
    if (tooLong !== undefined) throw new Error(`${tooLong[0]}: Argument list too long`)
    if (outcomes.get(task.appId) === 'crash') throw new Error('Command exited with status 1')
    return runners[task.appId]?.start(task)
  }

  return {
    tasks: (appId) => [...running.values()].map(({ task }) => task).filter((task) => task.appId === appId),
    lastFailure: (appId) => failures.get(appId),
    async launch(app) {
      const { id } = app.definition
      const ports = hostPorts(app.definition)
      const host = freeAgent(ports)
      if (host === undefined) return 'no-offer'
      const task: LaunchedTask = {
        id: `${id.slice(1).replaceAll('/', '_')}.instance-${randomUUID()}._app.1`,
        appId: id,
        appVersion: app.version,
        host,
        hostPorts: ports,
        env: environment(app),
        startedAt: timestamp(),
      }
      reserved.add(task)
      try {
        const process = await run(task)
        // Without health checks, a task that runs is healthy.
        const healthy = outcomes.get(id) !== 'unhealthy' || (app.definition.healthChecks ?? []).length === 0
        running.set(task.id, { task: { ...task, healthy }, process })
        onChange(task, 'TASK_RUNNING')
        return 'running'
      } catch (error) {
        failures.set(id, {
          taskId: task.id,
          host,
          message: error instanceof Error ? error.message : String(error),
          state: 'TASK_FAILED',
          timestamp: timestamp(),
          version: app.version,
        })
        onChange(task, 'TASK_FAILED')
        return 'failed'
      } finally {
        reserved.delete(task)
      }
    },
    async kill(taskId) {
      const found = running.get(taskId)
      if (found === undefined) return
      running.delete(taskId)
      // Its ports are taken until it is gone.
      reserved.add(found.task)
      await found.process?.stop()
      reserved.delete(found.task)
      onChange(found.task, 'TASK_KILLED')
    },
    setOutcome: (appId, outcome) => void outcomes.set(appId, outcome),
    setHealth(appId, healthy) {
      for (const entry of running.values()) {
        if (entry.task.appId !== appId) continue
        entry.task = { ...entry.task, healthy }
        onChange(entry.task, 'TASK_RUNNING')
      }
    },
    setAgents: (count) => void (agents = Math.max(agents, count)),
    async close() {
      for (const { process } of running.values()) await process?.stop()
      running.clear()
    },
  }
}
