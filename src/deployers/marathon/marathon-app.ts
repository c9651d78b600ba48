/**
 * Marathon's answers, read as far as they are needed.
 *
 * @module
 */

/** An app as `GET /v2/apps/{id}` shows it. */
export interface MarathonApp {
  /** Empty when the app has none: Marathon then leaves the field out. Values of others are passed on as they are. */
  readonly env: Readonly<Record<string, unknown>>
  /**
   * What an update has to repeat: an `env` that refers to secrets is checked against `secrets`, and Marathon 1.9 and 1.10
   * reset the other two when an update leaves them out.
   */
  readonly echoed: Readonly<Record<string, unknown>>
  readonly labels: Readonly<Record<string, string>>
  readonly version: string | undefined
  /** Deployments that hold the app. */
  readonly deployments: readonly string[]
  readonly instances: number
  readonly tasksRunning: number
  readonly tasksStaged: number
  readonly tasksHealthy: number
  readonly hasHealthChecks: boolean
  /**
   * Running tasks of an older configuration than the app's; `undefined` where Marathon does not tell the version of tasks.
   */
  readonly outdatedTasks: number | undefined
  /** The versions of the app that these were started with, each once. */
  readonly outdatedVersions: readonly string[]
  readonly upgradeStrategy: { readonly minimumHealthCapacity: number; readonly maximumOverCapacity: number }
  /** Why a second task cannot run beside a first one on the same agent; `undefined` when it can. */
  readonly oneTaskPerAgent: string | undefined
  /** Whether the app has local persistent volumes. */
  readonly resident: boolean
  /** What Mesos said of the last task that failed. From outside, and not for messages as it is. */
  readonly lastFailure: string | undefined
}

/** One element of `GET /v2/deployments`. */
export interface ListedDeployment {
  readonly id: string
  /** E.g. `step 1 of 2, RestartApplication`. */
  readonly progress: string
}

const repeated = ['secrets', 'resourceLimits', 'executorResources']

/** Reads an app; `undefined` when the answer is none. */
export function readApp(data: unknown): MarathonApp | undefined {
  const app = isRecord(data) ? data['app'] : undefined
  if (!isRecord(app) || typeof app['id'] !== 'string') return undefined
  const env = app['env'] ?? {}
  if (!isRecord(env)) return undefined
  const tasks = records(app['tasks'])
  const strategy = recordOf(app['upgradeStrategy'])
  const outdated = versionsOfOutdated(tasks, instantText(recordOf(app['versionInfo'])['lastConfigChangeAt']))
  return {
    env,
    echoed: Object.fromEntries(repeated.flatMap((field) => (isRecord(app[field]) ? [[field, app[field]]] : []))),
    labels: textEntries(recordOf(app['labels'])),
    version: instantText(app['version']),
    deployments: records(app['deployments']).flatMap(({ id }) => deploymentId(id) ?? []),
    instances: count(app['instances'], 1),
    tasksRunning: count(app['tasksRunning'], 0),
    tasksStaged: count(app['tasksStaged'], 0),
    tasksHealthy: count(app['tasksHealthy'], 0),
    hasHealthChecks: records(app['healthChecks']).length > 0,
    outdatedTasks: outdated?.length,
    outdatedVersions: [...new Set(outdated)],
    upgradeStrategy: {
      minimumHealthCapacity: fraction(strategy['minimumHealthCapacity']),
      maximumOverCapacity: fraction(strategy['maximumOverCapacity']),
    },
    oneTaskPerAgent: oneTaskPerAgent(app),
    resident: isRecord(app['residency']) || records(recordOf(app['container'])['volumes']).some(isPersistent),
    lastFailure: text(recordOf(app['lastTaskFailure'])['message']),
  }
}

/** Reads the list of deployments; `undefined` when the answer is none. */
export function readDeployments(data: unknown): readonly ListedDeployment[] | undefined {
  if (!Array.isArray(data)) return undefined
  return records(data).flatMap((deployment) => {
    const id = deploymentId(deployment['id'])
    if (id === undefined) return []
    const actions = records(deployment['currentActions']).flatMap(({ action }) =>
      typeof action === 'string' && /^[A-Za-z]{1,40}$/.test(action) ? action : [],
    )
    const step = `step ${String(count(deployment['currentStep'], 0))} of ${String(count(deployment['totalSteps'], 0))}`
    return { id, progress: [step, ...actions.slice(0, 3)].join(', ') }
  })
}

/** Reads the list of versions of an app; `undefined` when the answer is none. */
export function readVersions(data: unknown): readonly string[] | undefined {
  const versions = recordOf(data)['versions']
  return Array.isArray(versions) ? versions.flatMap((version) => instantText(version) ?? []) : undefined
}

/** The ids of a 409. Not every 409 has them. */
export function readLocks(data: unknown): readonly string[] {
  return isRecord(data) ? records(data['deployments']).flatMap(({ id }) => deploymentId(id) ?? []) : []
}

/** Id and version of an accepted change. */
export function readAccepted(data: unknown): {
  readonly deploymentId: string | undefined
  readonly version: string | undefined
} {
  const answer = recordOf(data)
  return { deploymentId: deploymentId(answer['deploymentId']), version: instantText(answer['version']) }
}

/** An id of a deployment: they end up in messages and in paths. */
export function deploymentId(value: unknown): string | undefined {
  return typeof value === 'string' && /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(value) ? value : undefined
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return isRecord(value) ? value : {}
}

function records(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.filter(isRecord) : []
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function textEntries(entries: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(entries).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  )
}

function count(value: unknown, otherwise: number): number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : otherwise
}

function fraction(value: unknown): number {
  return typeof value === 'number' && value >= 0 && value <= 1 ? value : 1
}

function instantText(value: unknown): string | undefined {
  return typeof value === 'string' && /^[0-9T:.Z+-]{10,40}$/.test(value) ? value : undefined
}

/** As Marathon counts it for `withLatestConfig`: the version of a task is the app's when it was started. */
function versionsOfOutdated(
  tasks: readonly Readonly<Record<string, unknown>>[],
  lastConfigChangeAt: string | undefined,
): readonly string[] | undefined {
  const changed = Date.parse(lastConfigChangeAt ?? '')
  const versions = tasks
    .filter(({ state }) => state === undefined || state === 'TASK_RUNNING')
    .map(({ version }) => instantText(version) ?? '')
  if ([changed, ...versions.map((version) => Date.parse(version))].some(Number.isNaN)) return undefined
  return versions.filter((version) => Date.parse(version) < changed)
}

function oneTaskPerAgent(app: Readonly<Record<string, unknown>>): string | undefined {
  const container = recordOf(app['container'])
  const docker = recordOf(container['docker'])
  const mappings = [...records(container['portMappings']), ...records(docker['portMappings'])]
  const constraints = Array.isArray(app['constraints']) ? (app['constraints'] as readonly unknown[]) : []
  const unique = constraints.some(
    (constraint) => Array.isArray(constraint) && constraint[0] === 'hostname' && constraint[1] === 'UNIQUE',
  )
  if (app['requirePorts'] === true) return 'it requires fixed ports of the agent'
  if (mappings.some(({ hostPort }) => count(hostPort, 0) > 0)) return 'it maps fixed ports of the agent'
  if (docker['network'] === 'HOST' || records(app['networks']).some(({ mode }) => mode === 'host')) {
    return "it uses the agent's network"
  }
  return unique ? 'it runs at most once on each agent' : undefined
}

function isPersistent(volume: Readonly<Record<string, unknown>>): boolean {
  return isRecord(volume['persistent'])
}
