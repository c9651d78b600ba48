/**
 * What to do with an app, decided from what it is. Pure.
 *
 * @module
 */
import type { WantedValue } from './environment-value.js'
import { isRecord, type MarathonApp } from './marathon-app.js'
import type { MarathonFailure } from './marathon-error.js'

/** What is asked for. */
export interface WantedUpdate {
  readonly variable: string
  readonly value: WantedValue
  readonly replaceSecret: boolean
  readonly spareAgent: boolean
}

/** The next step. */
export type UpdateStep =
  | { readonly action: 'none' }
  /** The app has the value, and a deployment is under way: another one would only begin anew. */
  | { readonly action: 'join' }
  /** The app has the value, and tasks run without it: a deployment was ended by force. */
  | { readonly action: 'restart' }
  | { readonly action: 'update'; readonly body: Readonly<Record<string, unknown>> }
  | { readonly action: 'refuse'; readonly reason: MarathonFailure; readonly why: string }

/** Longest `NAME=value` with its final NUL that Linux takes, in bytes (MAX_ARG_STRLEN). */
const longestVariable = 131_072
/** marathon-lb's entry point reads these only after it has found the base variable. */
export const baseVariable = 'HAPROXY_SSL_CERT'
const numbered = /^HAPROXY_SSL_CERT\d+$/

/** Decides the next step. */
export function decideUpdate(app: MarathonApp, wanted: WantedUpdate): UpdateStep {
  const { variable, value, replaceSecret, spareAgent } = wanted
  const refuse = (reason: MarathonFailure, why: string): UpdateStep => ({ action: 'refuse', reason, why })
  const present = own(app.env, variable)
  const carries = value.matches(present)
  if (carries && app.deployments.length > 0) return { action: 'join' }
  if (carries && !((app.outdatedTasks ?? 0) > 0)) return { action: 'none' }
  if (!carries && isSecretReference(present) && !replaceSecret) {
    const remedy = 'change the secret itself, or set the option "replaceSecret" to put the key into the app in clear'
    return refuse('secret-reference', `${variable} refers to a secret of the app; ${remedy}`)
  }
  if (numbered.test(variable) && isEmpty(own(app.env, baseVariable))) {
    const remedy = `deploy a certificate to ${baseVariable} first`
    return refuse('base-variable-missing', `marathon-lb reads ${variable} only when ${baseVariable} is set; ${remedy}`)
  }
  const octets = Buffer.byteLength(`${variable}=${value.text}`) + 1
  if (octets > longestVariable) {
    const limit = `Linux starts no process with a variable of more than ${String(longestVariable)}`
    const remedy = 'use fewer names, or certificates in files'
    return refuse('too-large', `${variable} would take ${String(octets)} bytes, and ${limit}; ${remedy}`)
  }
  const deadlock = spareAgent ? undefined : foreseeDeadlock(app)
  if (deadlock !== undefined) return refuse('deadlock', deadlock)
  if (carries) return { action: 'restart' }
  return { action: 'update', body: { env: { ...app.env, [variable]: value.text }, ...app.echoed } }
}

/**
 * Why a deployment of this app may never end; `undefined` when it can. Marathon kills as many old tasks at once as there are
 * above its minimum; when it may kill none, a new one has to start beside them.
 *
 * @see {@link https://github.com/d2iq-archive/marathon/blob/master/src/main/scala/mesosphere/marathon/core/deployment/impl/TaskReplaceActor.scala | TaskReplaceActor.computeRestartStrategy}
 */
export function foreseeDeadlock(app: MarathonApp): string | undefined {
  const { instances, oneTaskPerAgent, resident, tasksRunning, tasksStaged } = app
  const { minimumHealthCapacity, maximumOverCapacity } = app.upgradeStrategy
  if (oneTaskPerAgent === undefined || instances === 0 || tasksRunning + tasksStaged === 0) return undefined
  const least = Math.ceil(instances * minimumHealthCapacity)
  const most = Math.floor(instances * (1 + maximumOverCapacity))
  // Tasks that are not healthy yet are not counted, and not killed first either: what counts is what the app is to be.
  if (instances - least > 0 || (resident && least === most)) return undefined
  const strategy = `minimumHealthCapacity ${String(minimumHealthCapacity)} of ${tasksText(instances)}`
  return (
    `the deployment could wait for ever: with ${strategy} no old task is stopped before a new one runs, and ${oneTaskPerAgent}. ` +
    'Set upgradeStrategy of the app to {"minimumHealthCapacity": 0, "maximumOverCapacity": 0} (seconds of downtime) or to ' +
    '0.5 with two instances or more; where another agent with these ports is free, set the option "spareAgent"'
  )
}

/** What the app has in the variable. */
export function own(env: Readonly<Record<string, unknown>>, variable: string): unknown {
  return Object.hasOwn(env, variable) ? env[variable] : undefined
}

/** Whether nothing is in a variable, as marathon-lb sees it. */
export function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || value === ''
}

function isSecretReference(value: unknown): boolean {
  return isRecord(value)
}

function tasksText(instances: number): string {
  return instances === 1 ? 'one instance' : `${String(instances)} instances`
}
