import { kubernetesSecretDeployer } from 'evercert/deployers/kubernetes-secret'

const { NAMES = 'www.example.com', SECRET = 'www-example-com-tls', NAMESPACES = 'emissary' } = process.env

export const names = NAMES.split(/[\s,]+/).filter(Boolean)

/** The account of manifests/account.yaml. */
export const serviceAccount = { namespace: 'evercert', name: 'evercert' }

/** In a Pod it finds cluster and token by itself; elsewhere it takes the kubeconfig that `kubectl` takes. */
export const deployer = kubernetesSecretDeployer({
  secretName: SECRET,
  namespaces: NAMESPACES.split(/[\s,]+/).filter(Boolean),
  labels: { 'app.kubernetes.io/managed-by': 'evercert' },
})
