/**
 * Follows a deployment to its end.
 *
 * @module
 */
import type { OperationContext } from '../../core/context.js'
import { isUnderWay, judgeDeployment, type Followed, type Verdict } from './deployment-verdict.js'
import type { MarathonApi } from './marathon-api.js'
import type { ListedDeployment, MarathonApp } from './marathon-app.js'
import { MarathonDeployError } from './marathon-error.js'
import type { DeploymentEvents } from './marathon-events.js'

/** Parts of {@link followDeployment}. */
export interface Following {
  readonly api: MarathonApi
  readonly events: DeploymentEvents
  readonly followed: Followed
  readonly appId: string
  readonly deployer: string
  readonly context: OperationContext
  readonly pollIntervalMs: number
  /** Epoch milliseconds. */
  readonly giveUpAt: number
  readonly rollBackOnTimeout: boolean
}

/** Resolves when the app runs with the value; rejects when it will not, or not in time. */
export async function followDeployment(following: Following): Promise<void> {
  const { api, events, followed, context, pollIntervalMs, giveUpAt } = following
  const { clock, signal, logger } = context
  const { deploymentId } = followed
  let everSeen = deploymentId === undefined
  let absences = 0
  let last: LastSight = { because: 'Marathon has shown nothing of it yet' }
  for (;;) {
    try {
      // The list first: what it no longer shows, the app that is read after it has come to an end with.
      const listed = await api.deployments()
      const app = await api.app()
      const underWay = isUnderWay({ app, listed }, deploymentId)
      everSeen ||= underWay
      absences = underWay ? 0 : absences + 1
      const event = events.outcomeOf(deploymentId)
      const verdict = judgeDeployment(followed, { app, listed, event, everSeen, absences })
      if (verdict.kind === 'done') return
      if (verdict.kind === 'lost') throw lostError(following, verdict)
      last = { because: verdict.because, app, listed }
    } catch (error) {
      signal.throwIfAborted()
      // A Marathon without a leader goes on deploying once it has one.
      if (!(error instanceof MarathonDeployError) || !transient.has(error.reason)) throw error
      logger.debug('marathon cannot be asked at the moment', { error })
      last = { ...last, because: 'Marathon could not be asked', error }
    }
    if (clock.now() >= giveUpAt) throw await timeoutError(following, last)
    const awaited = [deploymentId ?? [], last.app?.deployments ?? []].flat()
    await events.wait(Math.min(pollIntervalMs, Math.max(1, giveUpAt - clock.now())), awaited)
  }
}

interface LastSight {
  readonly because: string
  readonly app?: MarathonApp
  readonly listed?: readonly ListedDeployment[]
  readonly error?: MarathonDeployError
}

const transient = new Set(['unreachable', 'no-leader', 'unreadable'])

function lostError(
  { appId, deployer, followed }: Following,
  { reason }: Verdict & { readonly kind: 'lost' },
): MarathonDeployError {
  const { deploymentId, variable } = followed
  const deployment = deploymentId === undefined ? 'the deployment' : `deployment ${deploymentId}`
  const messages = {
    cancelled: `${deployment} of ${appId} was cancelled by force, and tasks of the previous configuration are still there; the next attempt restarts them if they lack the certificate`,
    'rolled-back': `${deployment} of ${appId} was rolled back, or overridden by an update with the previous value: ${variable} is as it was before`,
    overridden: `${deployment} of ${appId} was overridden by another one, and ${variable} holds something else now; who else writes it?`,
    edited: `${variable} of ${appId} was changed by somebody else after ${deployment} had begun; who else writes it?`,
  }
  return new MarathonDeployError({ deployer, reason, message: messages[reason], deploymentId })
}

async function timeoutError(following: Following, last: LastSight): Promise<MarathonDeployError> {
  const { api, appId, deployer, followed, context, rollBackOnTimeout } = following
  const { deploymentId } = followed
  const underWay = last.app !== undefined && last.listed !== undefined && isUnderWay(last as Seen, deploymentId)
  const over = last.app !== undefined && last.app.deployments.length === 0 && !underWay
  let outcome = over ? 'the next attempt looks again' : 'it goes on; the next attempt joins it'
  if (rollBackOnTimeout && deploymentId !== undefined && underWay) {
    try {
      await api.rollBack(deploymentId)
      outcome = 'it is being rolled back'
    } catch (error) {
      context.signal.throwIfAborted()
      context.logger.warn('marathon deployment could not be rolled back', { app: appId, deploymentId, error })
      outcome = 'it could not be rolled back, and goes on'
    }
  }
  const deployment = deploymentId === undefined ? 'the deployment' : `deployment ${deploymentId}`
  const parts = [
    `${deployment} of ${appId} ${over ? 'is over, and the app is not as it should be' : 'has not ended in time'}: ${last.because}`,
    ...progress(following, last, over),
    outcome,
  ]
  return new MarathonDeployError({
    deployer,
    reason: 'timed-out',
    message: parts.join('; '),
    deploymentId,
    cause: last.error,
  })
}

type Seen = LastSight & { readonly app: MarathonApp; readonly listed: readonly ListedDeployment[] }

/** What a person needs to find out what it waits for. */
function progress({ api, followed }: Following, { app, listed = [] }: LastSight, over: boolean): readonly string[] {
  if (app === undefined) return []
  const step = listed.find(({ id }) => id === followed.deploymentId)?.progress
  const { instances, tasksRunning, tasksHealthy, tasksStaged, hasHealthChecks } = app
  const healthy = hasHealthChecks ? `, ${String(tasksHealthy)} healthy` : ''
  const tasks = `${String(tasksRunning)} of ${String(instances)} tasks run${healthy}, ${String(tasksStaged)} staged`
  const failure = api.quotable(app.lastFailure)
  const unhealthy = hasHealthChecks && tasksHealthy < tasksRunning
  const offers =
    tasksStaged === 0 && tasksRunning <= instances && !unhealthy && !over
      ? ['does an agent with enough capacity have its ports free?']
      : []
  return [step, tasks, failure && `the last task that failed: ${failure}`, ...offers].filter(
    (part) => part !== undefined,
  )
}
