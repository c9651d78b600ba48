/**
 * Deployments under way: they move task by task, lock their app, and end by success or because somebody ends them.
 * None ever fails by itself. Marathon's DeploymentManagerActor and DeploymentActor.
 */
import type { AppVersion } from './app.js'
import { changeSignal, type ChangeSignal } from './change-signal.js'
import { planInEvents, stepOf, type DeploymentPlan } from './deployment-plan.js'
import type { EventStream } from './event-stream.js'
import { appLocked, refusal } from './reply.js'
import { restartMove, restartStrategy, scaleMove, type Move, type RestartStrategy } from './restart-strategy.js'
import type { TaskCluster } from './task-cluster.js'

export type DeploymentOutcome = 'succeeded' | 'cancelled' | 'overridden'

export interface Deployment {
  readonly id: string
  readonly appId: string
  /** Of the plan: the app's version, if the app really changed. */
  readonly version: string
  readonly outcome: DeploymentOutcome | undefined
  /** What it waits for when it can neither start nor kill a task. */
  readonly waitingFor: 'an offer' | 'a task that starts' | 'healthy tasks' | undefined
}

/** What a test does with deployments. */
export interface DeploymentControl {
  readonly running: readonly Deployment[]
  /** In the order they were accepted, those that are over too; the refused ones are not here. */
  readonly all: readonly Deployment[]
  /** From now on nothing moves by itself. */
  hold(): void
  release(): void
  /** Makes one move of the one deployment (or the named one), held or not; `false` when it cannot or is over. */
  advance(id?: string): Promise<boolean>
  /** Moves until it is over; throws when it is stuck. */
  finish(id?: string): Promise<void>
  /** As `DELETE /v2/deployments/{id}?force=true` by somebody else. */
  cancel(id?: string): void
  /** Resolves when every deployment is over, held, or stuck. */
  settled(): Promise<void>
}

export interface Deployments extends DeploymentControl {
  /** Starts the plan. Those it conflicts with are cancelled by `force`; otherwise they refuse it. */
  start(plan: DeploymentPlan, options: { readonly force: boolean }): void
  find(id: string): DeploymentPlan | undefined
  idsOf(appId: string): string[]
  /** `GET /v2/deployments`; `isVisible` says which apps the caller may see. */
  list(isVisible: (appId: string) => boolean): object[]
  close(): void
}

export interface DeploymentsOptions {
  readonly cluster: TaskCluster
  readonly events: EventStream
  readonly changes: ChangeSignal
  /** Waited for before each move. */
  readonly pace: () => Promise<void>
  readonly lateListings: number
  readonly maxRunning: number
  readonly failureReason: boolean
}

interface UnderWay {
  readonly plan: DeploymentPlan
  /** Index of the step; `-1` before the first. */
  step: number
  strategy: RestartStrategy | undefined
  outcome: DeploymentOutcome | undefined
  waitingFor: Deployment['waitingFor']
  /** How many changes there had been when it last looked. */
  lookedAt: number
  /** Requests for the list that do not show it yet. */
  unlisted: number
  /** The last move asked for: they follow one another. */
  moving: Promise<unknown>
}

export function deployments(options: DeploymentsOptions): Deployments {
  const { cluster, events, changes, pace, lateListings, maxRunning, failureReason } = options
  const all: UnderWay[] = []
  // A deployment has come to an end, or to a point where it waits.
  const standstill = changeSignal()
  let held = false
  let closed = false

  const isRunning = ({ outcome }: UnderWay): boolean => outcome === undefined
  const running = (): UnderWay[] => all.filter((deployment) => isRunning(deployment) && !isEmpty(deployment))

  const publish = (eventType: string, plan: DeploymentPlan, fields: object = {}): void =>
    events.publish({
      eventType,
      fields: ({ heavy }) => ({
        ...(eventType === 'deployment_success' || eventType === 'deployment_failed' ? { id: plan.id } : {}),
        plan: planInEvents(plan, heavy),
        ...fields,
      }),
    })
  const publishFailure = (plan: DeploymentPlan, reason: string): void =>
    publish('deployment_failed', plan, failureReason ? { reason } : {})

  const end = (deployment: UnderWay, outcome: DeploymentOutcome): void => {
    if (!isRunning(deployment)) return
    deployment.outcome = outcome
    deployment.waitingFor = undefined
    if (outcome === 'succeeded') publish('deployment_success', deployment.plan)
    else publishFailure(deployment.plan, 'The upgrade has been cancelled')
    changes.notify()
    standstill.notify()
  }

  const beginStep = (deployment: UnderWay): void => {
    const { plan } = deployment
    deployment.step += 1
    const action = plan.steps[deployment.step]
    if (action === undefined) {
      end(deployment, 'succeeded')
      return
    }
    const current = cluster.tasks(plan.appId)
    deployment.strategy = action === 'RestartApplication' ? restartStrategy(plan.after!.definition, current) : undefined
    publish('deployment_info', plan, { currentStep: stepOf(action, plan.appId) })
  }

  const nextMove = ({ plan, step, strategy }: UnderWay): Move => {
    const tasks = cluster.tasks(plan.appId)
    const action = plan.steps[step]
    if (action === undefined || action === 'StartApplication') return 'done'
    switch (action) {
      case 'StopApplication':
        return scaleMove(0, tasks)
      case 'ScaleApplication':
        return scaleMove(plan.after!.definition.instances!, tasks)
      case 'RestartApplication':
        return restartMove(plan.after!.definition, plan.after!.version, tasks, strategy!)
    }
  }

  const startTask = async (deployment: UnderWay, app: AppVersion): Promise<boolean> => {
    const result = await cluster.launch(app)
    // Its own failure is no reason to try again at once.
    deployment.lookedAt = changes.count
    if (result === 'running') return true
    deployment.waitingFor = result === 'no-offer' ? 'an offer' : 'a task that starts'
    return false
  }

  /** One move; `false` when nothing can be done at present. */
  const moveOnce = async (deployment: UnderWay): Promise<boolean> => {
    if (!isRunning(deployment) || closed) return false
    deployment.waitingFor = undefined
    deployment.lookedAt = changes.count
    const { plan, step } = deployment
    const move = step === -1 ? 'done' : nextMove(deployment)
    if (move === 'wait') {
      deployment.waitingFor = 'healthy tasks'
      return false
    }
    if (move === 'done') {
      const action = plan.steps[step]
      if (action !== undefined) publish('deployment_step_success', plan, { currentStep: stepOf(action, plan.appId) })
      beginStep(deployment)
      return true
    }
    if ('start' in move) return startTask(deployment, plan.after!)
    await cluster.kill(move.kill)
    return true
  }

  const move = (deployment: UnderWay): Promise<boolean> => {
    const result = deployment.moving.then(() => moveOnce(deployment))
    deployment.moving = result
    return result
  }

  const run = async (deployment: UnderWay): Promise<void> => {
    while (isRunning(deployment) && !closed) {
      await pace()
      if (held && !isEmpty(deployment)) deployment.lookedAt = changes.count
      else if (await move(deployment)) continue
      standstill.notify()
      await changes.after(deployment.lookedAt)
    }
  }

  const theOne = (id: string | undefined): UnderWay => {
    const candidates = id === undefined ? running() : all.filter(({ plan }) => plan.id === id)
    const [found] = candidates
    if (found === undefined || candidates.length > 1) {
      throw new Error(`${String(candidates.length)} deployments are meant; expected one`)
    }
    return found
  }

  return {
    get running() {
      return running().map(described)
    },
    get all() {
      return all.map(described)
    },
    hold: () => void (held = true),
    release() {
      held = false
      changes.notify()
    },
    advance: (id) => move(theOne(id)),
    async finish(id) {
      const deployment = theOne(id)
      while (isRunning(deployment)) {
        if (!(await move(deployment)) && isRunning(deployment)) {
          throw new Error(`deployment ${deployment.plan.id} waits for ${String(deployment.waitingFor)}`)
        }
      }
    },
    cancel: (id) => end(theOne(id), 'cancelled'),
    async settled() {
      const isMoving = (): boolean =>
        running().some(({ waitingFor, lookedAt }) => waitingFor === undefined || lookedAt < changes.count)
      while (!closed && !held && isMoving()) await standstill.after(standstill.count)
    },
    start(plan, { force }) {
      const conflicts = plan.steps.length === 0 ? [] : running().filter((other) => other.plan.appId === plan.appId)
      if (conflicts.length > 0 && !force) {
        const refused = appLocked(conflicts.map((conflict) => conflict.plan.id))
        publishFailure(plan, (JSON.parse(refused.reply.body) as { message: string }).message)
        throw refused
      }
      if (running().length >= maxRunning) {
        const message =
          `Max number (${String(maxRunning)}) of running deployments is achieved. ` +
          'Wait for existing deployments to complete or cancel one using force=true parameter.'
        throw refusal(403, message)
      }
      for (const conflict of conflicts) end(conflict, 'overridden')
      const deployment: UnderWay = {
        plan,
        step: -1,
        strategy: undefined,
        outcome: undefined,
        waitingFor: undefined,
        lookedAt: changes.count,
        unlisted: lateListings,
        moving: Promise.resolve(),
      }
      all.push(deployment)
      void run(deployment)
    },
    find: (id) => running().find(({ plan }) => plan.id === id)?.plan,
    idsOf: (appId) => running().flatMap(({ plan }) => (plan.appId === appId ? [plan.id] : [])),
    list(isVisible) {
      return running().flatMap((deployment) => {
        const late = deployment.unlisted > 0
        deployment.unlisted -= 1
        return late || !isVisible(deployment.plan.appId) ? [] : [listed(deployment)]
      })
    },
    close() {
      closed = true
      changes.notify()
      standstill.notify()
    },
  }
}

/** A change that changes nothing: it is over in a moment, is never listed and locks nothing. */
function isEmpty({ plan }: UnderWay): boolean {
  return plan.steps.length === 0
}

function described({ plan, outcome, waitingFor }: UnderWay): Deployment {
  return { id: plan.id, appId: plan.appId, version: plan.version, outcome, waitingFor }
}

function listed({ plan: { id, version, appId, steps }, step }: UnderWay): object {
  const current = steps[Math.max(step, 0)]
  return {
    id,
    version,
    affectedApps: [appId],
    affectedPods: [],
    steps: steps.map((action) => stepOf(action, appId)),
    currentActions: step < 0 ? [] : [{ action: current, app: appId, readinessCheckResults: [] }],
    currentStep: step + 1,
    totalSteps: steps.length,
  }
}
