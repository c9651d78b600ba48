/**
 * Prints what the account of this service needs on DC/OS, as commands.
 */
import { marathonDeployer } from 'evercert/deployers/marathon'

const {
  MARATHON_URL = 'https://marathon.mesos:8443',
  MARATHON_LB_URL = MARATHON_URL,
  MARATHON_LB_ID = 'marathon-lb',
  MARATHON_APP_ID = '/evercert',
  ACCOUNT = 'evercert',
} = process.env

const permissionsOf = (urls: string, appId: string) =>
  marathonDeployer({ urls: urls.split(',').filter(Boolean), appId, allowHttp: true }).requiredPermissions()

const permissions = [
  ...permissionsOf(MARATHON_LB_URL, MARATHON_LB_ID),
  // It also reads the labels of its own app, and nothing else of it.
  ...permissionsOf(MARATHON_URL, MARATHON_APP_ID).filter(
    ({ resource, action }) => action !== 'update' && !resource.endsWith(':admin:events'),
  ),
]
const granted = new Set<string>()
for (const { resource, action, why } of permissions) {
  const grant = `${resource} ${action}`
  if (!granted.has(grant)) console.log(`dcos security org users grant ${ACCOUNT} ${grant}   # ${why}`)
  granted.add(grant)
}
