/**
 * Options of `kubernetesStore`.
 *
 * @module
 */
import type { Clock } from '../../core/clock.js'
import type { FetchFunction } from '../../internal/http.js'
import {
  assertConnection,
  type KubernetesConfig,
  type KubernetesConnection,
} from '../../internal/kubernetes/kubernetes-config.js'
import { assertNamespace } from '../../internal/kubernetes/kubernetes-names.js'
import { assertOptions } from '../../internal/options.js'

/** Options of `kubernetesStore`. All of them have defaults: in a Pod with a ServiceAccount none is needed. */
export interface KubernetesStoreOptions {
  /** Where the Secrets and Leases are. @defaultValue the namespace of the Pod, or of the kubeconfig's current context */
  readonly namespace?: string | undefined
  /**
   * Begins the name of every object, and marks them by the label `evercert.dev/store`, so that several stores fit into one
   * namespace. 1 to 40 lower-case letters, digits and `-`.
   *
   * @defaultValue `'evercert'`
   */
  readonly prefix?: string | undefined
  /**
   * A `KubeConfig` of `@kubernetes/client-node` with the cluster and the credentials.
   *
   * @defaultValue loaded by that package as `kubectl` does: `KUBECONFIG`, `~/.kube/config`, else the account of the Pod
   */
  readonly kubeConfig?: KubernetesConfig | undefined
  /** Absolute path of a kubeconfig file. Not together with `kubeConfig`. */
  readonly kubeConfigFile?: string | undefined
  /** Limit of one operation, and of each page of a list. Milliseconds. @defaultValue 10_000 (10 seconds) */
  readonly timeoutMs?: number | undefined
  /** Times leases and limits. @defaultValue the clock of each operation's context */
  readonly clock?: Clock | undefined
  /**
   * Sends the requests instead of undici; trust and client certificates are its own then, only headers come from the
   * kubeconfig.
   *
   * @defaultValue `fetch` of undici
   */
  readonly fetch?: FetchFunction | undefined
}

/** {@link KubernetesStoreOptions}, checked and complete. */
export interface KubernetesStoreSettings extends KubernetesConnection {
  readonly namespace: string | undefined
  readonly prefix: string
  readonly clock: Clock | undefined
}

/** Checks and copies the options. @throws `TypeError` that names the option */
export function checkStoreOptions(options: KubernetesStoreOptions): KubernetesStoreSettings {
  assertOptions(
    options,
    ['namespace', 'prefix', 'kubeConfig', 'kubeConfigFile', 'timeoutMs', 'clock', 'fetch'],
    'kubernetesStore',
  )
  const { namespace, prefix = 'evercert', kubeConfig, kubeConfigFile, timeoutMs = 10_000, clock, fetch } = options
  if (namespace !== undefined) assertNamespace(namespace, 'namespace')
  if (typeof prefix !== 'string' || !/^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/.test(prefix)) {
    throw new TypeError('"prefix" option must consist of up to 40 lower-case letters, digits and "-"')
  }
  const connection: KubernetesConnection = { kubeConfig, kubeConfigFile, timeoutMs, fetch }
  assertConnection(connection)
  return { ...connection, namespace, prefix, clock }
}
