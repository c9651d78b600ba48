/**
 * Prints what the account of this service needs on DC/OS, as commands.
 */
import { marathonDeployer } from 'evercert/deployers/marathon'

const {
  MARATHON_URL = 'https://marathon.mesos:8443',
  MARATHON_LB_ID = 'marathon-lb',
  ACCOUNT = 'evercert',
} = process.env
const { MARATHON_APP_ID = '/evercert' } = process.env

const permissions = [
  ...marathonDeployer({ urls: MARATHON_URL, appId: MARATHON_LB_ID, allowHttp: true }).requiredPermissions(),
  // It also reads the labels of its own app, and nothing else of it.
  ...marathonDeployer({ urls: MARATHON_URL, appId: MARATHON_APP_ID, allowHttp: true })
    .requiredPermissions()
    .filter(({ resource, action }) => resource.includes(':services:') && action === 'read'),
]
for (const { resource, action, why } of permissions) {
  console.log(`dcos security org users grant ${ACCOUNT} ${resource} ${action}   # ${why}`)
}
