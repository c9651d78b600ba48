/**
 * The rights a deployer needs, as manifests.
 *
 * @module
 */
import { assertOptions } from '../../internal/options.js'
import { assertNamespace, assertSecretName, type KubernetesSettings } from './kubernetes-options.js'

/** A Role or a RoleBinding, as `kubectl apply` takes it. */
export interface RbacManifest {
  readonly apiVersion: 'rbac.authorization.k8s.io/v1'
  readonly kind: 'Role' | 'RoleBinding'
  readonly metadata: { readonly name: string; readonly namespace: string }
  readonly rules?: readonly RbacRule[]
  readonly roleRef?: { readonly apiGroup: string; readonly kind: string; readonly name: string }
  readonly subjects?: readonly { readonly kind: string; readonly name: string; readonly namespace: string }[]
}

/** What a Role allows. */
export interface RbacRule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly resourceNames?: readonly string[]
  readonly verbs: readonly string[]
}

/** Options of `requiredPermissions`. */
export interface PermissionOptions {
  /** The account the process runs as; a RoleBinding is made for it. @defaultValue none: Roles only */
  readonly serviceAccount?: { readonly namespace: string; readonly name: string } | undefined
}

/** The least that the deployer needs, per namespace. */
export function permissionManifests(
  { secretName, namespaces, keystore }: KubernetesSettings,
  options: PermissionOptions,
): readonly RbacManifest[] {
  assertOptions(options, ['serviceAccount'], 'requiredPermissions')
  const { serviceAccount } = options
  if (serviceAccount !== undefined) {
    assertOptions(serviceAccount, ['namespace', 'name'], 'serviceAccount')
    assertNamespace(serviceAccount.namespace, 'serviceAccount.namespace')
    assertSecretName(serviceAccount.name, 'serviceAccount.name')
  }
  const secrets = { apiGroups: [''], resources: ['secrets'] }
  const rules: readonly RbacRule[] = [
    // A POST could not be limited to one name; server-side apply has it in the URL when the right to create is asked for.
    { ...secrets, resourceNames: [secretName], verbs: ['get', 'patch', 'create'] },
    ...(keystore === undefined ? [] : [{ ...secrets, resourceNames: [keystore.passwordSecret.name], verbs: ['get'] }]),
  ]
  const apiVersion = 'rbac.authorization.k8s.io/v1'
  const name = `evercert-${secretName}`
  return namespaces.flatMap((namespace): readonly RbacManifest[] => {
    const metadata = { name, namespace }
    const role: RbacManifest = { apiVersion, kind: 'Role', metadata, rules }
    if (serviceAccount === undefined) return [role]
    return [
      role,
      {
        apiVersion,
        kind: 'RoleBinding',
        metadata,
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
        subjects: [{ kind: 'ServiceAccount', name: serviceAccount.name, namespace: serviceAccount.namespace }],
      },
    ]
  })
}

/**
 * Manifests as one YAML text, for `kubectl apply -f -` and for review.
 *
 * @example
 *
 * ```ts
 * import { kubernetesSecretDeployer, manifestsToYaml } from 'evercert/deployers/kubernetes-secret'
 *
 * const deployer = kubernetesSecretDeployer({ secretName: 'www-tls', namespaces: ['web'] })
 * console.log(manifestsToYaml(deployer.requiredPermissions({ serviceAccount: { namespace: 'web', name: 'evercert' } })))
 * ```
 */
export function manifestsToYaml(manifests: readonly RbacManifest[]): string {
  return manifests.map((manifest) => yamlMembers(manifest, '')).join('---\n')
}

/** Quoted wherever a bare word could be read as something else. Names hold neither quotes nor line ends. */
function yamlScalar(value: string): string {
  const isWord = /^[A-Za-z][A-Za-z0-9./-]*$/.test(value) && !/^(?:y|n|yes|no|on|off|true|false|null)$/i.test(value)
  return isWord ? value : `'${value}'`
}

function yamlMembers(value: object, indent: string): string {
  return Object.entries(value)
    .map(([key, member]: [string, unknown]) => `${indent}${key}:${yamlValue(member, indent)}`)
    .join('')
}

function yamlValue(value: unknown, indent: string): string {
  if (Array.isArray(value)) {
    if (value.every((item) => typeof item === 'string')) return ` [${value.map(yamlScalar).join(', ')}]\n`
    const items = (value as readonly object[]).map((item) => {
      const members = yamlMembers(item, `${indent}    `)
      return `${indent}  - ${members.slice(indent.length + 4)}`
    })
    return `\n${items.join('')}`
  }
  if (typeof value === 'object' && value !== null) return `\n${yamlMembers(value, `${indent}  `)}`
  return ` ${yamlScalar(String(value))}\n`
}
