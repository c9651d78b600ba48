/**
 * Marathon for tests: there is nothing to run of the original, so this keeps its contract, from the REST interface
 * down to which task is killed first. What it does is told by the tests of test/unit/servers/marathon.
 */
import { systemClock, type Clock } from '../../../src/core/clock.js'
import { loopbackCertificate } from '../../support/certificates.js'
import type { FaultRule, FaultRuleHandle } from '../../support/fault-rules.js'
import { access, type Prohibition, type ProhibitionHandle } from './access.js'
import { api } from './api.js'
import { absoluteId, normalized, type AppDefinition, type AppVersion } from './app.js'
import { appStore, nextVersion } from './app-store.js'
import { changeSignal } from './change-signal.js'
import { deployments, type DeploymentControl } from './deployments.js'
import { eventStream, type EventStream } from './event-stream.js'
import { release110, type Features } from './features.js'
import { groupManager } from './group-manager.js'
import {
  requestFaults,
  startNode,
  type HttpNode,
  type NodeParts,
  type RequestMatch,
  type TlsIdentity,
} from './http-node.js'
import { login, type Login, type ServiceAccount } from './login.js'
import type { RecordedRequest } from './recorded-request.js'
import { taskCluster, type Task, type TaskFailure, type TaskOutcome, type TaskRunner } from './task-cluster.js'

export { credentialDigest } from './recorded-request.js'

/** How callers prove who they are. */
export type MarathonAuthentication =
  | { readonly type: 'none' }
  | { readonly type: 'basic'; readonly username: string; readonly password: string }
  | {
      /** Tokens, which service accounts get from `/acs/api/v1/auth/login` on every node. */
      readonly type: 'dcos'
      readonly accounts: readonly ServiceAccount[]
      /** @defaultValue 2 days */
      readonly tokenLifetimeMs?: number | undefined
    }

export interface MarathonOptions {
  /** What there is, and runs, at the start. @defaultValue none */
  readonly apps?: readonly AppDefinition[] | undefined
  /** @defaultValue `{ type: 'none' }` */
  readonly authentication?: MarathonAuthentication | undefined
  /** `true`: with a certificate of its own, see `caPem`. @defaultValue false */
  readonly tls?: boolean | (TlsIdentity & { readonly caPem: string }) | undefined
  /** What differs from release 1.10. */
  readonly features?: Partial<Features> | undefined
  /** @defaultValue `systemClock` */
  readonly clock?: Clock | undefined
  /** How many Marathon processes there are; the first one leads. @defaultValue 1 */
  readonly nodes?: number | undefined
  /** What a standby does with requests other than for events, which it always redirects. @defaultValue 'proxy' */
  readonly standby?: 'proxy' | 'redirect' | undefined
  /** As DC/OS's Admin Router publishes it: `/service/marathon`. @defaultValue none */
  readonly basePath?: string | undefined
  /** How many agents can run tasks. @defaultValue 2 */
  readonly agents?: number | undefined
  /** The values of secrets, by their `source`. @defaultValue none */
  readonly secrets?: Readonly<Record<string, string>> | undefined
  /** Run the tasks of an app for real, by app id. @defaultValue none */
  readonly runners?: Readonly<Record<string, TaskRunner>> | undefined
  /** Waited for before each move of a deployment. @defaultValue the next turn of the event loop */
  readonly pace?: (() => Promise<void>) | undefined
}

export interface Marathon {
  /** Base URLs of the nodes, without a trailing slash. */
  readonly urls: readonly string[]
  /** Of the first node. */
  readonly url: string
  /** Where service accounts log in. */
  readonly loginUrl: string
  /** What signs the nodes' certificate; `undefined` without TLS. */
  readonly caPem: string | undefined
  readonly nodes: readonly HttpNode[]
  /** Makes another node the leader; `undefined`: none is. Event streams end. */
  elect(node: number | undefined): void

  app(id: string): AppVersion | undefined
  apps(): readonly AppVersion[]
  /** Puts an app in place of what there was, tasks and all, without a deployment. */
  setApp(definition: AppDefinition): Promise<void>
  /** Somebody else's change: as a PATCH, past authentication and faults. Throws a Refusal when it is locked. */
  update(id: string, fields: object, options?: { readonly force?: boolean }): { deploymentId: string; version: string }
  removeApp(id: string): void

  /** The running tasks of an app, with what they were started with: what is really in service. */
  tasks(id: string): readonly Task[]
  lastTaskFailure(id: string): TaskFailure | undefined
  /** What becomes of tasks that are started from now on. `unhealthy` is for apps with health checks. */
  setTaskOutcome(id: string, outcome: TaskOutcome): void
  setTaskHealth(id: string, healthy: boolean): void
  /** Agents can only be added. */
  setAgents(count: number): void

  readonly deployments: DeploymentControl
  readonly events: EventStream
  /** In order of arrival. */
  readonly requests: readonly RecordedRequest[]
  /** Of `method` and `path`, as in `count('PATCH', '/v2/apps/marathon-lb')`. */
  count(method: string, path: string | RegExp): number
  /** The first rule that applies to a request is used. */
  addFault(rule: FaultRule<RequestMatch>): FaultRuleHandle
  /** Takes a right away from everybody. */
  forbid(prohibition: Prohibition): ProhibitionHandle
  /** Throws without `authentication: { type: 'dcos' }`. */
  readonly login: Login
  close(): Promise<void>
}

/**
 * ```ts
 * const marathon = await startMarathon({ apps: [{ id: '/marathon-lb', args: ['sse'], env: { HAPROXY_SSL_CERT: 'old' } }] })
 * marathon.deployments.hold()
 * // ... the client under test sends its PATCH ...
 * marathon.tasks('marathon-lb')[0]?.env['HAPROXY_SSL_CERT'] // 'old'
 * await marathon.deployments.finish()
 * marathon.tasks('marathon-lb')[0]?.env['HAPROXY_SSL_CERT'] // what it has sent
 * await marathon.close()
 * ```
 */
export async function startMarathon(options: MarathonOptions = {}): Promise<Marathon> {
  const { authentication = { type: 'none' }, clock = systemClock, basePath = '', nodes: nodeCount = 1 } = options
  const { agents = 2, secrets = {}, runners = {}, standby = 'proxy', pace = nextTurn } = options
  const features: Features = { ...release110, ...options.features }
  const identity = options.tls === true ? await loopbackCertificate() : options.tls || undefined

  const timestamp = (): string => new Date(clock.now()).toISOString()
  const nextTimestamp = increasingTimestamps(clock)
  const store = appStore()
  const changes = changeSignal()
  const requests: RecordedRequest[] = []
  const faults = requestFaults()
  const accounts = authentication.type === 'dcos' ? login({ ...authentication, clock }) : undefined
  const guard = access(
    authentication.type === 'dcos' ? { type: 'token', login: accounts!, adminRouter: basePath !== '' } : authentication,
  )
  const events = eventStream({ timestamp, bufferedEvents: features.eventBuffer })
  const cluster = taskCluster({
    agents,
    secrets,
    runners,
    timestamp,
    onChange(task, taskStatus) {
      events.emit('status_update_event', { taskId: task.id, taskStatus, appId: task.appId, host: task.host })
      changes.notify()
    },
  })
  const running = deployments({
    cluster,
    events,
    changes,
    pace,
    lateListings: features.lateListings,
    maxRunning: features.maxRunningDeployments,
    failureReason: features.failureReason,
  })
  const manager = groupManager({ store, deployments: running, events, features, nextTimestamp })

  const setApp = async (definition: AppDefinition): Promise<void> => {
    const app = nextVersion(undefined, normalized(definition), nextTimestamp())
    const { id, instances = 1 } = app.definition
    for (const task of cluster.tasks(id)) await cluster.kill(task.id)
    store.put(app)
    for (let started = 0; started < instances; started += 1) {
      const result = await cluster.launch(app)
      if (result !== 'running') throw new Error(`no task of ${id}: ${result} ${cluster.lastFailure(id)?.message ?? ''}`)
    }
  }

  let leader: HttpNode | undefined
  const parts: NodeParts = {
    api: api({
      store,
      cluster,
      deployments: running,
      groupManager: manager,
      access: guard,
      features,
      leader: () => leader?.origin.replace(/^https?:\/\//, ''),
    }),
    access: guard,
    login: accounts,
    events,
    features,
    faults,
    clock,
    requests,
    basePath,
    standby,
    leader: () => leader,
  }
  const nodes: HttpNode[] = []
  for (let index = 0; index < nodeCount; index += 1) nodes.push(await startNode(index, identity, () => parts))
  leader = nodes[0]
  const urls = nodes.map(({ origin }) => `${origin}${basePath}`)

  const close = async (): Promise<void> => {
    running.close()
    await Promise.all(nodes.map((node) => node.stop()))
    await cluster.close()
  }
  try {
    for (const definition of options.apps ?? []) await setApp(definition)
  } catch (error) {
    await close()
    throw error
  }

  return {
    urls,
    url: urls[0]!,
    loginUrl: `${nodes[0]!.origin}/acs/api/v1/auth/login`,
    caPem: identity?.caPem,
    nodes,
    elect(node) {
      leader = node === undefined ? undefined : nodes[node]
      events.cut()
    },
    app: (id) => store.get(absoluteId(id)),
    apps: () => store.all(),
    setApp,
    update(id, fields, { force = false } = {}) {
      const plan = manager.update({ id, body: fields, partial: true, allowCreation: false }, { force })
      return { deploymentId: plan.id, version: plan.version }
    },
    removeApp: (id) => void manager.remove(absoluteId(id)),
    tasks: (id) => cluster.tasks(absoluteId(id)),
    lastTaskFailure: (id) => cluster.lastFailure(absoluteId(id)),
    setTaskOutcome(id, outcome) {
      cluster.setOutcome(absoluteId(id), outcome)
      changes.notify()
    },
    setTaskHealth: (id, healthy) => cluster.setHealth(absoluteId(id), healthy),
    setAgents(count) {
      cluster.setAgents(count)
      changes.notify()
    },
    deployments: running,
    events,
    requests,
    count: (method, path) =>
      requests.filter(
        (request) =>
          request.method === method && (typeof path === 'string' ? path === request.path : path.test(request.path)),
      ).length,
    addFault: faults.add,
    forbid: guard.forbid,
    get login() {
      if (accounts === undefined) throw new TypeError('this Marathon was started without DC/OS authentication')
      return accounts
    },
    close,
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve))
}

/** Two changes within a millisecond still get different versions. */
function increasingTimestamps(clock: Clock): () => string {
  let last = 0
  return () => {
    last = Math.max(clock.now(), last + 1)
    return new Date(last).toISOString()
  }
}
