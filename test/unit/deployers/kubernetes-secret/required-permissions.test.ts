import { describe, expect, it } from 'vitest'
import { kubernetesSecretDeployer, manifestsToYaml } from '../../../../src/deployers/kubernetes-secret/index.js'

const serviceAccount = { namespace: 'web', name: 'evercert' }

describe('requiredPermissions', () => {
  it('is a Role for each namespace, and a binding where an account is given', () => {
    const deployer = kubernetesSecretDeployer({ secretName: 'www-tls', namespaces: ['web', 'emissary'] })
    expect(deployer.requiredPermissions()).toMatchObject([
      { kind: 'Role', metadata: { namespace: 'web' } },
      { kind: 'Role', metadata: { namespace: 'emissary' } },
    ])
    expect(deployer.requiredPermissions({ serviceAccount })).toMatchObject([
      { kind: 'Role', metadata: { namespace: 'web' } },
      { kind: 'RoleBinding', metadata: { namespace: 'web' }, subjects: [{ namespace: 'web' }] },
      { kind: 'Role', metadata: { namespace: 'emissary' } },
      { kind: 'RoleBinding', metadata: { namespace: 'emissary' }, subjects: [{ namespace: 'web' }] },
    ])
  })

  it('asks for what the configuration needs, and no more', () => {
    const keystore = { passwordSecret: { name: 'keystore-password', key: 'password' } }
    const rulesOf = (more: object) =>
      kubernetesSecretDeployer({ secretName: 'www-tls', namespaces: ['web'], ...more }).requiredPermissions()[0]?.rules
    const secrets = { apiGroups: [''], resources: ['secrets'] }
    const own = { ...secrets, resourceNames: ['www-tls'], verbs: ['get', 'patch', 'create'] }
    expect(rulesOf({})).toEqual([own])
    expect(rulesOf({ keystore })).toEqual([own, { ...secrets, resourceNames: ['keystore-password'], verbs: ['get'] }])
  })

  it.each<[string, object, RegExp]>([
    ['an unknown option', { account: 'x' }, /unknown option "account"/],
    ['an account without a namespace', { serviceAccount: { name: 'x' } }, /serviceAccount\.namespace/],
  ])('refuses %s', (_, options, message) => {
    const deployer = kubernetesSecretDeployer({ secretName: 'www-tls', namespaces: ['web'] })
    expect(() => deployer.requiredPermissions(options)).toThrow(message)
  })
})

describe('manifestsToYaml', () => {
  it('is what a person would write', () => {
    const deployer = kubernetesSecretDeployer({ secretName: 'on', namespaces: ['123'] })
    expect(manifestsToYaml(deployer.requiredPermissions({ serviceAccount }))).toBe(`\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: evercert-on
  namespace: '123'
rules:
  - apiGroups: ['']
    resources: [secrets]
    resourceNames: ['on']
    verbs: [get, patch, create]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: evercert-on
  namespace: '123'
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: evercert-on
subjects:
  - kind: ServiceAccount
    name: evercert
    namespace: web
`)
  })
})
