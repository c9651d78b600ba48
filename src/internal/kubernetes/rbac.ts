/**
 * Rights, as the manifests that grant them.
 *
 * @module
 */
import { assertOptions } from '../options.js'
import { assertNamespace, assertObjectName } from './kubernetes-names.js'

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

/** The account of a process. */
export interface ServiceAccountName {
  readonly namespace: string
  readonly name: string
}

/** Checks the option `serviceAccount`. */
export function assertServiceAccount(account: ServiceAccountName): void {
  assertOptions(account, ['namespace', 'name'], 'serviceAccount')
  assertNamespace(account.namespace, 'serviceAccount.namespace')
  assertObjectName(account.name, 'serviceAccount.name')
}

/** A Role in one namespace, and a RoleBinding if an account is to have it. */
export function roleManifests(
  metadata: { readonly name: string; readonly namespace: string },
  rules: readonly RbacRule[],
  serviceAccount: ServiceAccountName | undefined,
): readonly RbacManifest[] {
  const apiVersion = 'rbac.authorization.k8s.io/v1'
  const role: RbacManifest = { apiVersion, kind: 'Role', metadata, rules }
  if (serviceAccount === undefined) return [role]
  return [
    role,
    {
      apiVersion,
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: metadata.name },
      subjects: [{ kind: 'ServiceAccount', name: serviceAccount.name, namespace: serviceAccount.namespace }],
    },
  ]
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
