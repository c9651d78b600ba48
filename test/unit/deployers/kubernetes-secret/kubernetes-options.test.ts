import { describe, expect, it } from 'vitest'
import {
  kubernetesSecretDeployer,
  type KubernetesSecretDeployerOptions,
} from '../../../../src/deployers/kubernetes-secret/index.js'

const valid: KubernetesSecretDeployerOptions = { secretName: 'www-tls', namespaces: ['web'] }
const make = (more: object) => () => kubernetesSecretDeployer({ ...valid, ...more })

describe('options of kubernetesSecretDeployer', () => {
  it('are copied', () => {
    const namespaces = ['web']
    const deployer = kubernetesSecretDeployer({ ...valid, namespaces })
    namespaces.push('other')
    expect(deployer.requiredPermissions().map(({ metadata }) => metadata.namespace)).toEqual(['web'])
    expect(deployer).toMatchObject({ name: 'kubernetes-secret:web/www-tls', scope: 'cluster', exclusive: true })
  })

  it('give a name that stays short, however many namespaces there are', () => {
    const namespaces = Array.from({ length: 1_000 }, (_, index) => `${'n'.repeat(59)}${String(index)}`)
    const { name } = kubernetesSecretDeployer({ secretName: 'a'.repeat(200), namespaces })
    expect(name).toMatch(/^kubernetes-secret:n+0,n+1,n+2,\+997\/a+$/)
    // What a scheduler takes.
    expect(name.length).toBeLessThanOrEqual(500)
    expect(kubernetesSecretDeployer({ ...valid, namespaces: ['a', 'b', 'c'] }).name).toBe(
      'kubernetes-secret:a,b,c/www-tls',
    )
  })

  it.each<[string, object]>([
    ['several namespaces', { namespaces: ['a', 'b-2'] }],
    ['labels with and without a prefix', { labels: { app: 'www', 'example.com/team': '', 'a.b/c_d.e': 'F-1' } }],
    ['annotations of any text', { annotations: { 'example.com/note': 'a line\nand "more"' } }],
    ['a keystore', { keystore: { passwordSecret: { name: 'passwords', key: 'p12.password' } } }],
  ])('take %s', (_, more) => {
    expect(make(more)).not.toThrow()
  })

  it.each<[string, object, RegExp]>([
    ['an unknown one', { namespace: 'web' }, /unknown option "namespace"/],
    ['no name', { secretName: '' }, /"secretName"/],
    ['a path for a name', { secretName: '../configmaps/x' }, /"secretName"/],
    ['upper case', { secretName: 'WWW' }, /"secretName"/],
    ['a name that is too long', { secretName: 'a'.repeat(254) }, /"secretName"/],
    ['no namespace', { namespaces: [] }, /"namespaces"/],
    ['one namespace that is no list', { namespaces: 'web' }, /"namespaces"/],
    ['a namespace twice', { namespaces: ['web', 'web'] }, /twice/],
    ['a namespace with a dot', { namespaces: ['web.example'] }, /"namespaces\[0\]"/],
    ['a namespace with a query', { namespaces: ['web?force=true'] }, /"namespaces\[0\]"/],
    ['two configurations', { kubeConfig: fakeConfig(), kubeConfigFile: '/x' }, /exclude each other/],
    ['a configuration that is none', { kubeConfig: {} }, /kubeConfig\.getCurrentCluster/],
    ['a relative file', { kubeConfigFile: 'config' }, /"kubeConfigFile"/],
    ['a root that is none', { ca: 'x' }, /"ca"/],
    ['a label with a space', { labels: { app: 'a b' } }, /"labels".*of app/],
    ['a label whose name is none', { labels: { '-': 'x' } }, /"labels"/],
    ['an annotation that is no text', { annotations: { a: 1 } }, /"annotations"/],
    ["cert-manager's annotation", { annotations: { 'cert-manager.io/certificate-name': 'www' } }, /of cert-manager/],
    ["cert-manager's label", { labels: { 'controller.cert-manager.io/fao': 'true' } }, /of cert-manager/],
    ['a keystore without a password', { keystore: {} }, /keystore\.passwordSecret/],
    [
      'a password entry with a slash',
      { keystore: { passwordSecret: { name: 'p', key: 'a/b' } } },
      /passwordSecret\.key/,
    ],
    ['a time limit of zero', { timeoutMs: 0 }, /"timeoutMs"/],
    ['a fetch that is none', { fetch: 'undici' }, /"fetch"/],
    ['a yes for true', { takeOver: 'yes' }, /"takeOver"/],
  ])('refuse %s', (_, more, message) => {
    expect(make(more)).toThrow(TypeError)
    expect(make(more)).toThrow(message)
  })
})

function fakeConfig(): NonNullable<KubernetesSecretDeployerOptions['kubeConfig']> {
  return {
    getCurrentCluster: () => null,
    getCurrentUser: () => null,
    applyToHTTPSOptions: () => Promise.resolve(),
  }
}
