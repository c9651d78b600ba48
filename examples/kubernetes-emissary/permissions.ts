/** Prints manifests/permissions.yaml: what the account needs for the settings of this example, and no more. */
import { manifestsToYaml } from 'evercert/deployers/kubernetes-secret'
import { deployer, serviceAccount } from './settings.js'

process.stdout.write(manifestsToYaml(deployer.requiredPermissions({ serviceAccount })))
