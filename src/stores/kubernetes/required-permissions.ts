/**
 * The rights a store needs, as manifests.
 *
 * @module
 */
import { assertNamespace } from '../../internal/kubernetes/kubernetes-names.js'
import {
  assertServiceAccount,
  roleManifests,
  type RbacManifest,
  type ServiceAccountName,
} from '../../internal/kubernetes/rbac.js'
import { assertOptions } from '../../internal/options.js'
import type { KubernetesStoreSettings } from './store-options.js'

/** Options of {@link KubernetesStore.requiredPermissions}. */
export interface StorePermissionOptions {
  /** The account the process runs as; a RoleBinding is made for it. @defaultValue none: the Role only */
  readonly serviceAccount?: ServiceAccountName | undefined
  /** Where the store is. @defaultValue the store's option `namespace`, else that of the account */
  readonly namespace?: string | undefined
}

/** The least that the store needs. */
export function storePermissions(
  settings: KubernetesStoreSettings,
  options: StorePermissionOptions,
): readonly RbacManifest[] {
  assertOptions(options, ['serviceAccount', 'namespace'], 'requiredPermissions')
  const { serviceAccount, namespace = settings.namespace ?? serviceAccount?.namespace } = options
  if (serviceAccount !== undefined) assertServiceAccount(serviceAccount)
  if (namespace === undefined) {
    throw new TypeError('requiredPermissions() must know the namespace: give it, or a "serviceAccount" in it')
  }
  assertNamespace(namespace, 'namespace')
  const rules = [
    { apiGroups: [''], resources: ['secrets'], verbs: ['get', 'list', 'watch', 'create', 'patch', 'delete'] },
    { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get', 'create', 'patch'] },
  ]
  return roleManifests({ name: `${settings.prefix}-store`, namespace }, rules, serviceAccount)
}
