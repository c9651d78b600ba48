/**
 * Changes apps: a new definition, a plan to get there, and the deployment that carries it out. Marathon's GroupManager.
 */
import { absoluteId, type AppDefinition } from './app.js'
import { nextVersion, type AppStore } from './app-store.js'
import { updatedApp, type AppUpdate } from './app-update.js'
import { deploymentPlan, type DeploymentPlan } from './deployment-plan.js'
import type { Deployments } from './deployments.js'
import type { EventStream } from './event-stream.js'
import type { Features } from './features.js'
import { unknownApp } from './reply.js'

export interface GroupManager {
  /** Everything throws a Refusal when it cannot be done. */
  update(update: AppUpdate, options: { readonly force: boolean }): DeploymentPlan
  /** New tasks of the same definition. */
  restart(id: string, options: { readonly force: boolean }): DeploymentPlan
  /** Starts a deployment back to where this one came from, whatever it is in the way of. */
  revert(plan: DeploymentPlan): DeploymentPlan
  remove(id: string): DeploymentPlan
}

export interface GroupManagerParts {
  readonly store: AppStore
  readonly deployments: Deployments
  readonly events: EventStream
  readonly features: Features
  /** Never the same twice. */
  readonly nextTimestamp: () => string
}

export function groupManager({ store, deployments, events, features, nextTimestamp }: GroupManagerParts): GroupManager {
  interface Change {
    readonly to: AppDefinition | undefined
    readonly force: boolean
    readonly restart?: boolean
  }
  const apply = (id: string, { to, force, restart = false }: Change): DeploymentPlan => {
    const before = store.get(id)
    const version = nextTimestamp()
    const after = to === undefined ? undefined : nextVersion(before, to, version, restart)
    const plan = deploymentPlan(id, before, after, version)
    // Refused when the app is locked: then nothing has changed.
    deployments.start(plan, { force })
    if (after === undefined) store.remove(id)
    else store.put(after)
    return plan
  }

  return {
    update(update, { force }) {
      const id = absoluteId(update.id)
      const to = updatedApp({ ...update, id }, store.versions(id), features)
      const plan = apply(id, { to, force })
      events.emit('api_post_event', { clientIp: '127.0.0.1', uri: `/v2/apps${id}`, appDefinition: to })
      return plan
    },
    restart(id, { force }) {
      const app = store.get(id)
      if (app === undefined) throw unknownApp(id)
      return apply(id, { to: app.definition, force, restart: true })
    },
    revert: ({ appId, before }) => apply(appId, { to: before?.definition, force: true }),
    remove: (id) => apply(id, { to: undefined, force: true }),
  }
}
