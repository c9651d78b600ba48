/**
 * A service account of a real API server that may do what a store asks for, and nothing else.
 */
import { KubeConfig } from '@kubernetes/client-node'
import { systemClock } from '../../src/core/clock.js'
import type { RbacManifest } from '../../src/stores/kubernetes/index.js'
import { kubeConfig, type KubeApiserver, type KubeManifest } from './kube-apiserver.js'

export interface KubeAccount {
  readonly namespace: string
  readonly serviceAccount: { readonly namespace: string; readonly name: string }
  /** As the account, by way of any URL of the server. */
  config(url?: string): Promise<KubeConfig>
  /** Has the rights, and no others; resolves when the authorizer knows. */
  grant(manifests: readonly RbacManifest[]): Promise<void>
  /** May do nothing any more; resolves when the authorizer knows. */
  revoke(): Promise<void>
}

export async function kubeAccount(kube: KubeApiserver, namespace: string, name = 'evercert'): Promise<KubeAccount> {
  await kube.createServiceAccount(namespace, name)
  let bindings: string[] = []

  /** The authorizer learns of a change a moment later. */
  async function untilAllowed(allowed: boolean, resource: string, group: string): Promise<void> {
    for (;;) {
      const review = (await kube.admin.call('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SubjectAccessReview',
        spec: {
          user: `system:serviceaccount:${namespace}:${name}`,
          resourceAttributes: { namespace, verb: 'create', group, resource },
        },
      })) as unknown as { status: { allowed: boolean } }
      if (review.status.allowed === allowed) return
      await systemClock.sleep(20)
    }
  }
  const until = async (allowed: boolean): Promise<void> => {
    await untilAllowed(allowed, 'secrets', '')
    await untilAllowed(allowed, 'leases', 'coordination.k8s.io')
  }

  return {
    namespace,
    serviceAccount: { namespace, name },
    async config(url = kube.url) {
      const config = new KubeConfig()
      const token = await kube.createToken(namespace, name)
      config.loadFromString(JSON.stringify(kubeConfig(url, kube.caPem, { token })))
      return config
    },
    async grant(manifests) {
      for (const manifest of manifests) {
        await kube.admin.put(manifest as unknown as KubeManifest)
        if (manifest.kind === 'RoleBinding') bindings.push(manifest.metadata.name)
      }
      await until(true)
    },
    async revoke() {
      const path = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/rolebindings`
      for (const binding of bindings) await kube.admin.call('DELETE', `${path}/${binding}`)
      bindings = []
      await until(false)
    },
  }
}
