/**
 * One variable of a Marathon app, brought to a new certificate.
 *
 * @module
 */
import type { CertificateBundle } from '../../core/certificate-bundle.js'
import type { OperationContext } from '../../core/context.js'
import { Semaphore } from '../../internal/semaphore.js'
import type { Deployer, DeployResult } from '../deployer.js'
import { decideUpdate, isEmpty, own, type UpdateStep } from './app-update.js'
import { isUnderWay, type Followed } from './deployment-verdict.js'
import { wantedValue, type WantedValue } from './environment-value.js'
import { followDeployment } from './follow-deployment.js'
import { marathonApi, type MarathonApi } from './marathon-api.js'
import type { MarathonApp } from './marathon-app.js'
import { MarathonDeployError } from './marathon-error.js'
import { overwrittenEdits, overwrittenVersion, restoringUpdate, type Edit } from './overwritten-edits.js'
import { subscribe, type DeploymentEvents } from './marathon-events.js'
import { checkMarathonOptions, type MarathonDeployerOptions } from './marathon-options.js'
import { withMarathon } from './marathon-session.js'
import type { Masters } from './marathon-transport.js'
import { marathonPermissions, type MarathonPermission } from './required-permissions.js'

/** A {@link Deployer} that knows what its account needs. */
export interface MarathonDeployer extends Deployer {
  /** The permissions of DC/OS for this configuration. A Marathon without an authorizer asks for none. */
  requiredPermissions(): readonly MarathonPermission[]
}

/**
 * A deployer that puts a certificate into one environment variable of a Marathon app, as marathon-lb reads it, and follows the
 * deployment until the app runs with it.
 *
 * The app is read first: where the variable holds the same certificate, chain and key already, nothing is sent. Otherwise the
 * whole environment is written back with this one entry changed, and everything else of the app is left as it is. Marathon's
 * deployments never fail by themselves, and vanish from its list when they are cancelled as when they succeed: it counts as
 * deployed only when no deployment holds the app and all its tasks run, healthy, with the new configuration.
 *
 * @example
 *
 * ```ts
 * import { readFileSync } from 'node:fs'
 * import { marathonDeployer } from 'evercert/deployers/marathon'
 *
 * const deployer = marathonDeployer({
 *   urls: 'https://marathon.mesos:8443',
 *   appId: '/marathon-lb',
 *   ca: readFileSync('/etc/ssl/dcos-ca.crt', 'utf8'),
 *   authentication: {
 *     type: 'service-account',
 *     credential: readFileSync('/run/secrets/service-account.json', 'utf8'),
 *   },
 * })
 * for (const { resource, action } of deployer.requiredPermissions()) console.log(resource, action)
 * ```
 *
 * @remarks
 * Whoever may read the app in Marathon, or the process list of the agent, can read the private key: that is how marathon-lb takes
 * its certificates. A changed variable starts all instances anew; with fewer than two of them there is a moment without any.
 *
 * While other deployments hold the app, they are waited for, and the app is read again. Where the reply to a change is lost, the
 * app shows whether it was made; it is never sent twice blindly, and a deployment that is still under way from an earlier attempt is
 * joined. Marathon has no conditional update: what somebody else has changed in the moment between reading and writing is
 * found in Marathon's list of versions, and brought back by a deployment of its own.
 *
 * Credentials, and the key in the body, go to the configured hosts, and to the leader that these announce in `/v2/leader`, over the
 * same scheme; any other redirect is an error.
 *
 * Rejects with {@link MarathonDeployError}, whose `reason` tells what happened: `ERR_DEPLOY_REJECTED` when Marathon, or a look
 * at the app before anything is sent, says that it cannot work; `ERR_DEPLOY_UNAVAILABLE` when Marathon is away, busy, or the
 * deployment takes too long; `ERR_DEPLOY_VERIFY_FAILED` when the deployment was cancelled, rolled back, overridden or
 * edited away; and with `ERR_CERT_KEY_MISMATCH` when the pair is none.
 *
 * @param options - See {@link MarathonDeployerOptions}. Validated and copied; later changes have no effect.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 *
 * @see {@link https://mesosphere.github.io/marathon/api-console/index.html | Marathon's REST API}
 */
export function marathonDeployer(options: MarathonDeployerOptions): MarathonDeployer {
  const settings = checkMarathonOptions(options, 'marathonDeployer')
  const { urls, appId, variable, order, authentication, name, force, deploymentTimeoutMs, pollIntervalMs } = settings
  const masters: Masters = { urls, preferred: 0 }
  // Two of this process would only wait for each other in Marathon.
  const turns = new Semaphore(1)

  function converse<Result>(
    context: OperationContext,
    run: (conversation: Conversation) => Promise<Result>,
  ): Promise<Result> {
    return withMarathon({ settings, masters, deployer: name }, context, async ({ transport, login }) => {
      const secrets = (): readonly string[] => authentication.secrets()
      let events: DeploymentEvents | undefined
      return run({
        api: marathonApi({ appId, force, transport, context: login, secrets }),
        context,
        giveUpAt: context.clock.now() + deploymentTimeoutMs,
        listen: async () => (events ??= await subscribe(transport, login)),
      })
    })
  }

  /** Brings it there, and then back what others have changed meanwhile, should it have been overwritten. */
  async function deployValue(value: WantedValue, conversation: Conversation): Promise<DeployResult> {
    const { context } = conversation
    const brought = await bring(conversation, (app) => decideUpdate(app, { ...settings, value }), value)
    let { written } = brought
    for (let round = 0; written !== undefined && round < mostRestorations; round += 1) {
      const edits = await lostEdits(written, conversation)
      if (edits.length === 0) break
      context.logger.warn('somebody else changed the marathon app at the same moment; the change is brought back', {
        app: appId,
        names: edits.map(({ name }) => name).join(' '),
      })
      const restore = (app: MarathonApp): UpdateStep => {
        const body = restoringUpdate(app, edits)
        return body === undefined ? { action: 'none' } : { action: 'update', body }
      }
      const again = { ...conversation, giveUpAt: context.clock.now() + deploymentTimeoutMs }
      written = (await bring(again, restore, value)).written
    }
    return brought.result
  }

  /** What a version of others, made after we had read and before we wrote, has lost by that. */
  async function lostEdits({ read, version }: WrittenChange, { api, context }: Conversation): Promise<readonly Edit[]> {
    try {
      const overwritten = overwrittenVersion(await api.versions(), read.version, version)
      return overwritten === undefined ? [] : overwrittenEdits(read, await api.appIn(overwritten), variable)
    } catch (error) {
      context.signal.throwIfAborted()
      if (!(error instanceof MarathonDeployError)) throw error
      context.logger.debug('the versions of the marathon app cannot be read', { app: appId, error })
      return []
    }
  }

  /**
   * Tasks of an older version may have the value all the same, where it was a change of something else that was ended by
   * force. They count as they should be: a restart would carry out what somebody has stopped.
   */
  async function readFor(value: WantedValue, api: MarathonApi): Promise<MarathonApp> {
    const app = await api.app()
    const { outdatedVersions, deployments } = app
    if (outdatedVersions.length === 0 || deployments.length > 0 || !value.matches(own(app.env, variable))) return app
    try {
      for (const version of outdatedVersions) {
        const { env } = await api.appIn(version)
        if (!value.matches(own(env, variable))) return app
      }
    } catch (error) {
      // Marathon keeps the latest versions only.
      if (error instanceof MarathonDeployError && error.reason === 'not-found') return app
      throw error
    }
    return { ...app, outdatedTasks: 0, outdatedVersions: [] }
  }

  /** Reads, decides and writes, until the app is as wanted. */
  async function bring(
    conversation: Conversation,
    decide: (app: MarathonApp) => UpdateStep,
    value: WantedValue,
  ): Promise<{ readonly result: DeployResult; readonly written?: WrittenChange }> {
    const { api, context, giveUpAt, listen } = conversation
    const { clock, logger } = context
    const deployed = (details: DeployResult['details'] = {}): DeployResult => ({
      status: 'deployed',
      details: { app: appId, ...details },
    })
    let unsure: WrittenChange | undefined
    let events: DeploymentEvents | undefined
    for (let failures = 0; ;) {
      const app = await readFor(value, api)
      const step = decide(app)
      const written = unsure && { ...unsure, version: app.version }
      if (step.action === 'refuse') throw failure(step.reason, step.why)
      if (step.action === 'none') {
        return written === undefined ? { result: { status: 'unchanged' } } : { result: deployed(), written }
      }
      if (step.action === 'join') {
        logger.info('a marathon deployment of this certificate is under way, and joined', { app: appId })
        await follow(value, written, undefined, conversation, await listen())
        return { result: deployed({ joined: true }), ...(written && { written }) }
      }
      if (events === undefined) {
        // May take seconds, in which others change the app: what is written back is read after it.
        events = await listen()
        continue
      }
      context.signal.throwIfAborted()
      const outcome = await (step.action === 'restart' ? api.restart() : api.update(step.body))
      if (outcome.kind === 'accepted') {
        const { deploymentId, version } = outcome
        logger.info('marathon deployment begun', { app: appId, deployment: deploymentId })
        await follow(value, { read: app, version }, deploymentId, conversation, events)
        const details = deploymentId === undefined ? {} : { deployment: deploymentId }
        return { result: deployed(details), written: { read: app, version } }
      }
      if (outcome.kind === 'locked') {
        await waitForOthers(outcome.deployments, conversation, events)
        continue
      }
      if (outcome.kind === 'unsure') {
        const { error } = outcome
        logger.warn('it is not known whether marathon took the change; the app is read again', { app: appId, error })
        unsure = { read: app, version: undefined }
        failures += 1
        if (failures > mostFailures) throw error
      }
      const pauseMs = Math.max(pollIntervalMs, (outcome.error.retryAt?.getTime() ?? 0) - clock.now())
      if (clock.now() + pauseMs > giveUpAt) throw outcome.error
      await events.wait(pauseMs, [])
    }
  }

  function follow(
    value: WantedValue,
    written: WrittenChange | undefined,
    deploymentId: string | undefined,
    { api, context, giveUpAt }: Conversation,
    events: DeploymentEvents,
  ): Promise<void> {
    const followed: Followed = {
      variable,
      value,
      deploymentId,
      // What an earlier attempt has replaced, nobody remembers.
      replaced: written === undefined ? 'unknown' : { value: own(written.read.env, variable) },
      ownVersions: written === undefined ? [] : [written.read.version, written.version],
    }
    const { rollBackOnTimeout } = settings
    const parts = { appId, deployer: name, pollIntervalMs, giveUpAt, rollBackOnTimeout }
    return followDeployment({ api, events, followed, context, ...parts })
  }

  /** Until none of the deployments that a 409 named is left. Some may not be shown to us: then at least for one interval. */
  async function waitForOthers(
    ids: readonly string[],
    { api, context, giveUpAt }: Conversation,
    events: DeploymentEvents,
  ): Promise<void> {
    const { clock, logger } = context
    logger.info('the marathon app is locked by other deployments, which are waited for', {
      app: appId,
      deployments: ids.join(' '),
    })
    for (;;) {
      const left = giveUpAt - clock.now()
      if (left <= 0) {
        const named = ids.slice(0, 3).join(', ')
        const remedy = 'look at it in Marathon; it may wait for resources that nobody has'
        throw failure('locked', `${appId} has been locked by deployment ${named} all the time; ${remedy}`, ids[0])
      }
      await events.wait(Math.min(pollIntervalMs, left), ids)
      const listed = await api.deployments()
      const app = await api.app()
      if (!ids.some((id) => isUnderWay({ app, listed }, id))) return
    }
  }

  function failure(reason: MarathonDeployError['reason'], message: string, deploymentId?: string): MarathonDeployError {
    return new MarathonDeployError({ deployer: name, reason, message, deploymentId })
  }

  return {
    name,
    scope: 'cluster',
    exclusive: true,
    async deploy(bundle: CertificateBundle, context: OperationContext) {
      context.signal.throwIfAborted()
      const value = wantedValue(bundle, order)
      return turns.run(() => converse(context, (conversation) => deployValue(value, conversation)), context.signal)
    },
    async inspect(bundle, context) {
      context.signal.throwIfAborted()
      const value = wantedValue(bundle, order)
      const app: MarathonApp = await converse(context, ({ api }) => readFor(value, api))
      const present = own(app.env, variable)
      if (isEmpty(present)) return 'absent'
      const settled = app.deployments.length === 0 && !((app.outdatedTasks ?? 0) > 0)
      return value.matches(present) && settled ? 'current' : 'stale'
    },
    requiredPermissions: () => marathonPermissions(settings),
  }
}

/** How often a change may fail without it being known what became of it. */
const mostFailures = 3
/** Somebody who changes the app again and again at the same moment is no human. */
const mostRestorations = 3

interface Conversation {
  readonly api: MarathonApi
  readonly context: OperationContext
  /** Epoch milliseconds. */
  readonly giveUpAt: number
  /** Subscribes at the first call. */
  readonly listen: () => Promise<DeploymentEvents>
}

/** A change that Marathon took. */
interface WrittenChange {
  /** What it was made from. */
  readonly read: MarathonApp
  /** What the app became by it. */
  readonly version: string | undefined
}
