/**
 * A deployer for apps of Mesosphere's Marathon, such as marathon-lb.
 *
 * Published as `evercert/deployers/marathon`.
 *
 * @module
 */
export { marathonDeployer, type MarathonDeployer } from './marathon-deployer.js'
export { marathonLbHosts, readMarathonLabels } from './app-labels.js'
export type { MarathonConnectionOptions, MarathonDeployerOptions } from './marathon-options.js'
export type { MarathonAuthentication } from './marathon-authentication.js'
export type { ServiceAccountCredential } from './service-account.js'
export type { PemOrder } from './environment-value.js'
export type { MarathonPermission } from './required-permissions.js'
export { MarathonDeployError, type MarathonFailure } from './marathon-error.js'
export { marathonLbReload, type MarathonLbReloadOptions } from './marathon-lb-reload.js'
