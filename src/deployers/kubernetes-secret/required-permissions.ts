/**
 * The rights a deployer needs, as manifests.
 *
 * @module
 */
import {
  assertServiceAccount,
  roleManifests,
  type RbacManifest,
  type RbacRule,
  type ServiceAccountName,
} from '../../internal/kubernetes/rbac.js'
import { assertOptions } from '../../internal/options.js'
import type { KubernetesSettings } from './kubernetes-options.js'

/** Options of `requiredPermissions`. */
export interface PermissionOptions {
  /** The account the process runs as; a RoleBinding is made for it. @defaultValue none: Roles only */
  readonly serviceAccount?: ServiceAccountName | undefined
}

/** The least that the deployer needs, per namespace. */
export function permissionManifests(
  { secretName, namespaces, keystore }: KubernetesSettings,
  options: PermissionOptions,
): readonly RbacManifest[] {
  assertOptions(options, ['serviceAccount'], 'requiredPermissions')
  const { serviceAccount } = options
  if (serviceAccount !== undefined) assertServiceAccount(serviceAccount)
  const secrets = { apiGroups: [''], resources: ['secrets'] }
  const rules: readonly RbacRule[] = [
    // A POST could not be limited to one name; server-side apply has it in the URL when the right to create is asked for.
    { ...secrets, resourceNames: [secretName], verbs: ['get', 'patch', 'create'] },
    ...(keystore === undefined ? [] : [{ ...secrets, resourceNames: [keystore.passwordSecret.name], verbs: ['get'] }]),
  ]
  return namespaces.flatMap((namespace) =>
    roleManifests({ name: `evercert-${secretName}`, namespace }, rules, serviceAccount),
  )
}
