/**
 * Prints manifests/permissions.yaml: what the account needs for the settings of this example, and no more. With `--iam`, the
 * policy for Route 53 instead.
 */
import { manifestsToYaml } from 'evercert/deployers/kubernetes-secret'
import { deployer, serviceAccount } from './settings.js'
import { route53 } from './solvers.js'

const text = process.argv.includes('--iam')
  ? `${JSON.stringify(route53.requiredPermissions(), null, 2)}\n`
  : manifestsToYaml(deployer.requiredPermissions({ serviceAccount }))
process.stdout.write(text)
