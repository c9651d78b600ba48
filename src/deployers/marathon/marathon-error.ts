/**
 * What can go wrong with Marathon, told apart.
 *
 * @module
 */
import { DeployError } from '../../errors.js'

/**
 * Why a deployment to Marathon failed.
 *
 * - `unreachable`: no configured URL gives a usable answer; `no-leader`: Marathon has none at the moment
 * - `unauthenticated`, `forbidden`: 401, and 403 of the authorizer
 * - `not-found`: there is no such app
 * - `refused`: Marathon does not accept the update
 * - `unreadable`: the answer is not Marathon's (a log-in page, a proxy)
 * - `redirected`: the answer points to a host that is neither configured nor the leader Marathon announces
 * - `secret-reference`: the variable refers to a secret, and would be overwritten with the key in clear
 * - `base-variable-missing`: marathon-lb reads `HAPROXY_SSL_CERT0` to `100` only when `HAPROXY_SSL_CERT` is set
 * - `too-large`: Linux starts no process with such a variable
 * - `deadlock`: the new task would wait for ports that the old one holds, for ever
 * - `locked`: other deployments of the app did not end in time; `busy`: too many deployments are running
 * - `cancelled`: the deployment was ended by force, and tasks of the previous configuration are still there
 * - `rolled-back`: the app has its previous certificate again
 * - `overridden`: another deployment, with another certificate, has taken the place of this one
 * - `edited`: somebody has set the variable to something else meanwhile
 * - `timed-out`: the deployment is still under way, or over with tasks that are not healthy
 */
export type MarathonFailure =
  | 'unreachable'
  | 'no-leader'
  | 'unauthenticated'
  | 'forbidden'
  | 'not-found'
  | 'refused'
  | 'unreadable'
  | 'redirected'
  | 'secret-reference'
  | 'base-variable-missing'
  | 'too-large'
  | 'deadlock'
  | 'locked'
  | 'busy'
  | 'cancelled'
  | 'rolled-back'
  | 'overridden'
  | 'edited'
  | 'timed-out'

/** The code of each failure, and whether it can heal without a person. */
const natures: Readonly<Record<MarathonFailure, { readonly code: DeployError['code']; readonly retryable: boolean }>> =
  {
    unreachable: { code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true },
    'no-leader': { code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true },
    unauthenticated: { code: 'ERR_DEPLOY_REJECTED', retryable: false },
    forbidden: { code: 'ERR_DEPLOY_REJECTED', retryable: false },
    'not-found': { code: 'ERR_DEPLOY_REJECTED', retryable: false },
    refused: { code: 'ERR_DEPLOY_REJECTED', retryable: false },
    unreadable: { code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true },
    redirected: { code: 'ERR_DEPLOY_REJECTED', retryable: false },
    'secret-reference': { code: 'ERR_DEPLOY_REJECTED', retryable: false },
    // The certificate of the base variable may be on its way.
    'base-variable-missing': { code: 'ERR_DEPLOY_REJECTED', retryable: true },
    'too-large': { code: 'ERR_DEPLOY_REJECTED', retryable: false },
    deadlock: { code: 'ERR_DEPLOY_REJECTED', retryable: false },
    locked: { code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true },
    busy: { code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true },
    cancelled: { code: 'ERR_DEPLOY_VERIFY_FAILED', retryable: true },
    'rolled-back': { code: 'ERR_DEPLOY_VERIFY_FAILED', retryable: true },
    overridden: { code: 'ERR_DEPLOY_VERIFY_FAILED', retryable: true },
    edited: { code: 'ERR_DEPLOY_VERIFY_FAILED', retryable: true },
    'timed-out': { code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true },
  }

/** A {@link DeployError} of `marathonDeployer`. Branch on `code` in general, on `reason` where Marathon matters. */
export class MarathonDeployError extends DeployError {
  readonly reason: MarathonFailure
  /** The deployment of Marathon it is about, where there is one. */
  readonly deploymentId: string | undefined

  constructor(options: {
    readonly deployer: string
    readonly reason: MarathonFailure
    /** Without the deployer's name. */
    readonly message: string
    readonly deploymentId?: string | undefined
    readonly retryAt?: Date | undefined
    readonly cause?: unknown
  }) {
    super({ ...options, ...natures[options.reason], message: `${options.deployer}: ${options.message}` })
    this.reason = options.reason
    this.deploymentId = options.deploymentId
  }
}
