/**
 * How a deployment goes, judged from what Marathon shows. Pure.
 *
 * Marathon's deployments never fail by themselves, and they vanish from its list when they succeed, are cancelled, or are
 * overridden: that one is gone says nothing. Some versions list a new one late: that one is not there says nothing either.
 *
 * @module
 */
import { own } from './app-update.js'
import type { WantedValue } from './environment-value.js'
import type { ListedDeployment, MarathonApp } from './marathon-app.js'

/** What is followed. */
export interface Followed {
  readonly variable: string
  readonly value: WantedValue
  /** `undefined` when it was begun by somebody else, or earlier. */
  readonly deploymentId: string | undefined
  /** What the variable held before; `unknown` when that is not known. */
  readonly replaced: { readonly value: unknown } | 'unknown'
  /** Versions the app may show without anybody having changed it since. */
  readonly ownVersions: readonly (string | undefined)[]
}

/** What was seen at one moment, and since the deployment began. */
export interface Sighting {
  readonly app: MarathonApp
  readonly listed: readonly ListedDeployment[]
  /** What an event has said of the deployment. A hint. */
  readonly event: 'success' | 'failed' | undefined
  /** Whether it has been seen under way at any time. */
  readonly everSeen: boolean
  /** How often in a row nothing of it was seen, this time included. */
  readonly absences: number
}

export type Verdict =
  | { readonly kind: 'done' }
  | { readonly kind: 'wait'; readonly because: string }
  | { readonly kind: 'lost'; readonly reason: 'cancelled' | 'rolled-back' | 'overridden' | 'edited' }

/** So often a deployment must be missing, where nothing else shows that it has ended. */
export const enoughAbsences = 3

/** Whether the deployment, or another one of the app, is under way. */
export function isUnderWay(
  { app, listed }: Pick<Sighting, 'app' | 'listed'>,
  deploymentId: string | undefined,
): boolean {
  if (deploymentId === undefined) return app.deployments.length > 0
  return app.deployments.includes(deploymentId) || listed.some(({ id }) => id === deploymentId)
}

/** Judges. */
export function judgeDeployment(followed: Followed, sighting: Sighting): Verdict {
  const { app } = sighting
  const carries = followed.value.matches(own(app.env, followed.variable))
  return carries ? judgeProgress(followed, sighting) : judgeLoss(followed, sighting)
}

/** The app is to run with our value. */
function judgeProgress({ deploymentId }: Followed, sighting: Sighting): Verdict {
  const { app, event, everSeen, absences } = sighting
  if (isUnderWay(sighting, deploymentId) || app.deployments.length > 0) {
    return { kind: 'wait', because: 'the deployment is under way' }
  }
  const complete = app.tasksRunning === app.instances && (!app.hasHealthChecks || app.tasksHealthy === app.instances)
  const gone = absences >= enoughAbsences
  // Where tasks have versions they prove it. Else the deployment must have been there, and be gone.
  const renewed =
    app.outdatedTasks === undefined
      ? event !== 'failed' && (everSeen || event === 'success' || gone)
      : app.outdatedTasks === 0
  if (complete && renewed) return { kind: 'done' }
  const stays = (app.outdatedTasks ?? 0) > 0 || (app.outdatedTasks === undefined && event === 'failed')
  if (stays && gone) return { kind: 'lost', reason: 'cancelled' }
  return {
    kind: 'wait',
    because: complete ? 'tasks of the previous configuration run' : 'not all tasks run and are healthy',
  }
}

/** The app is to run with something else. */
function judgeLoss(followed: Followed, sighting: Sighting): Verdict {
  const { app, absences } = sighting
  // A reading from before the change reached everybody shows the same.
  if (followed.ownVersions.includes(app.version) && absences < enoughAbsences) {
    return { kind: 'wait', because: 'the app does not show the change yet' }
  }
  const value = own(app.env, followed.variable)
  if (followed.replaced !== 'unknown' && same(value, followed.replaced.value)) {
    return { kind: 'lost', reason: 'rolled-back' }
  }
  const others = app.deployments.some((id) => id !== followed.deploymentId)
  return { kind: 'lost', reason: others ? 'overridden' : 'edited' }
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}
