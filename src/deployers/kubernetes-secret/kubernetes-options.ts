/**
 * Options of `kubernetesSecretDeployer`.
 *
 * @module
 */
import { assertCertificates } from '../../internal/certificates-option.js'
import type { FetchFunction } from '../../internal/http.js'
import {
  assertConnection,
  type KubernetesConfig,
  type KubernetesConnection,
} from '../../internal/kubernetes/kubernetes-config.js'
import {
  assertNamespace,
  assertObjectName,
  labelKeyPattern,
  labelValuePattern,
} from '../../internal/kubernetes/kubernetes-names.js'
import { assertArray, assertBoolean, assertOptions, assertText } from '../../internal/options.js'

/** A PKCS#12 keystore beside the PEM entries. */
export interface KubernetesKeystore {
  /** The entry of another Secret, in the same namespace, that holds the password: printable ASCII, no line end. */
  readonly passwordSecret: { readonly name: string; readonly key: string }
  /** What Java calls the alias. @defaultValue `'certificate'`, as cert-manager has it */
  readonly alias?: string | undefined
}

/** Options of `kubernetesSecretDeployer`. */
export interface KubernetesSecretDeployerOptions {
  /** Name of the Secret, the same in every namespace. */
  readonly secretName: string
  /** Where the Secret is written: one namespace or several, each for itself. */
  readonly namespaces: readonly string[]
  /**
   * A `KubeConfig` of `@kubernetes/client-node` with the cluster and the credentials.
   *
   * @defaultValue loaded by that package as `kubectl` does: `KUBECONFIG`, `~/.kube/config`, else the account of the Pod
   */
  readonly kubeConfig?: KubernetesConfig | undefined
  /**
   * Absolute path of a kubeconfig file, read anew for each deployment. Not together with `kubeConfig`. That package passes
   * over a `tokenFile` in it; the account of a Pod needs none.
   */
  readonly kubeConfigFile?: string | undefined
  /** PEM of the root, or roots, for an entry `ca.crt`. @defaultValue no such entry: with a public CA nobody needs it */
  readonly ca?: string | undefined
  /** Adds an entry `tls-combined.pem`: key, certificate, chain, for HAProxy and MongoDB. @defaultValue false */
  readonly combinedPem?: boolean | undefined
  /** Adds an entry `keystore.p12`. @defaultValue none */
  readonly keystore?: KubernetesKeystore | undefined
  /** Labels of the Secret; those of others stay. @defaultValue none */
  readonly labels?: Readonly<Record<string, string>> | undefined
  /** Annotations of the Secret; those of others stay. @defaultValue none */
  readonly annotations?: Readonly<Record<string, string>> | undefined
  /** As whom the API server records our fields. @defaultValue `'evercert'` */
  readonly fieldManager?: string | undefined
  /**
   * Takes entries over that another field manager has written, `kubectl` for instance. Never those of cert-manager while its
   * annotation is there.
   *
   * @defaultValue false: the deployment is refused, and the message names the other manager
   */
  readonly takeOver?: boolean | undefined
  /** Limit for each request, and for obtaining credentials. Milliseconds. @defaultValue 15_000 */
  readonly timeoutMs?: number | undefined
  /** @defaultValue `kubernetes-secret:`, the namespaces (of many, the first three and a count) and the name of the Secret */
  readonly name?: string | undefined
  /**
   * Sends the requests instead of undici; trust and client certificates are its own then, only headers come from the
   * kubeconfig.
   *
   * @defaultValue `fetch` of undici
   */
  readonly fetch?: FetchFunction | undefined
}

/** {@link KubernetesKeystore}, complete. */
export interface KeystoreSettings extends KubernetesKeystore {
  readonly alias: string
}

/** {@link KubernetesSecretDeployerOptions}, checked and complete. */
export interface KubernetesSettings extends KubernetesConnection {
  readonly secretName: string
  readonly namespaces: readonly string[]
  readonly ca: string | undefined
  readonly combinedPem: boolean
  readonly keystore: KeystoreSettings | undefined
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly fieldManager: string
  readonly takeOver: boolean
  readonly name: string
}

const optionNames = [
  'secretName',
  'namespaces',
  'kubeConfig',
  'kubeConfigFile',
  'ca',
  'combinedPem',
  'keystore',
  'labels',
  'annotations',
  'fieldManager',
  'takeOver',
  'timeoutMs',
  'name',
  'fetch',
]

const dataKeyPattern = /^[-._a-zA-Z0-9]{1,253}$/

/** Checks and copies the options. @throws `TypeError` that names the option */
export function checkKubernetesOptions(options: KubernetesSecretDeployerOptions): KubernetesSettings {
  assertOptions(options, optionNames, 'kubernetesSecretDeployer')
  const { secretName, namespaces, kubeConfig, kubeConfigFile, ca, keystore, fetch } = options
  const { labels = {}, annotations = {}, combinedPem = false, takeOver = false } = options
  const { fieldManager = 'evercert', timeoutMs = 15_000 } = options
  assertObjectName(secretName, 'secretName')
  assertNamespaces(namespaces)
  assertConnection({ kubeConfig, kubeConfigFile, timeoutMs, fetch })
  if (ca !== undefined) assertCertificates(ca, 'ca')
  assertBoolean(combinedPem, 'combinedPem')
  assertBoolean(takeOver, 'takeOver')
  assertMetadata(labels, 'labels', labelValuePattern)
  assertMetadata(annotations, 'annotations')
  assertText(fieldManager, 'fieldManager', 128)
  // It is in every message and event.
  const more = namespaces.length > 3 ? [`+${String(namespaces.length - 3)}`] : []
  const { name = `kubernetes-secret:${[...namespaces.slice(0, 3), ...more].join(',')}/${secretName}` } = options
  assertText(name, 'name')
  return {
    secretName,
    namespaces: [...namespaces],
    kubeConfig,
    kubeConfigFile,
    ca,
    combinedPem,
    keystore: keystore && keystoreOption(keystore),
    labels: { ...labels },
    annotations: { ...annotations },
    fieldManager,
    takeOver,
    timeoutMs,
    name,
    fetch,
  }
}

function assertNamespaces(namespaces: readonly string[]): void {
  assertArray(namespaces, 'namespaces')
  if (namespaces.length === 0 || namespaces.length > 1_000) {
    throw new TypeError('"namespaces" option must hold between one and 1,000 names')
  }
  namespaces.forEach((namespace, index) => {
    assertNamespace(namespace, `namespaces[${String(index)}]`)
  })
  if (new Set(namespaces).size !== namespaces.length) throw new TypeError('"namespaces" option holds a name twice')
}

function keystoreOption(keystore: KubernetesKeystore): KeystoreSettings {
  assertOptions(keystore, ['passwordSecret', 'alias'], 'keystore')
  const { passwordSecret, alias = 'certificate' } = keystore
  assertOptions(passwordSecret, ['name', 'key'], 'keystore.passwordSecret')
  assertObjectName(passwordSecret.name, 'keystore.passwordSecret.name')
  if (typeof passwordSecret.key !== 'string' || !dataKeyPattern.test(passwordSecret.key)) {
    throw new TypeError('"keystore.passwordSecret.key" option must be the name of an entry of a Secret')
  }
  assertText(alias, 'keystore.alias', 100)
  return { passwordSecret: { name: passwordSecret.name, key: passwordSecret.key }, alias }
}

function assertMetadata(values: Readonly<Record<string, string>>, option: string, valuePattern?: RegExp): void {
  if (typeof values !== 'object' || values === null || Array.isArray(values)) {
    throw new TypeError(`"${option}" option must be an object of strings`)
  }
  for (const [key, value] of Object.entries(values)) {
    if (!labelKeyPattern.test(key)) throw new TypeError(`"${option}" option has a key Kubernetes refuses: ${key}`)
    if (/^(?:[^/]*\.)?cert-manager\.io\//.test(key)) {
      throw new TypeError(
        `"${option}" option has a key of cert-manager, which would take the Secret for its own: ${key}`,
      )
    }
    if (typeof value !== 'string' || !(valuePattern?.test(value) ?? true)) {
      throw new TypeError(`"${option}" option has a value Kubernetes refuses, of ${key}`)
    }
  }
}
