/**
 * Which cluster is meant, and who asks: options that everything for Kubernetes has in common.
 *
 * @module
 */
import type { RequestOptions } from 'node:https'
import type { FetchFunction } from '../http.js'
import { assertDuration, assertFunction, assertMethod, assertPath } from '../options.js'

/**
 * What is used of `KubeConfig` of `@kubernetes/client-node`, 1.4 or newer: where the cluster is, and who asks.
 */
export interface KubernetesConfig {
  getCurrentCluster(): {
    readonly server: string
    readonly skipTLSVerify?: boolean | undefined
    readonly proxyUrl?: string | undefined
  } | null
  getCurrentUser(): { readonly authProvider?: unknown } | null
  /** Sets trust, client certificate and headers of a request. */
  applyToHTTPSOptions(options: RequestOptions): Promise<void>
  getCurrentContext?(): string
  /** Only asked for the namespace, where that is not an option. */
  getContextObject?(name: string): { readonly namespace?: string | undefined } | null
}

/** How the API server is reached. */
export interface KubernetesConnection {
  /** @defaultValue loaded by `@kubernetes/client-node` */
  readonly kubeConfig: KubernetesConfig | undefined
  readonly kubeConfigFile: string | undefined
  /** For each request, and for obtaining credentials. Milliseconds. */
  readonly timeoutMs: number
  readonly fetch: FetchFunction | undefined
}

/** Checks these options. @throws `TypeError` that names the option */
export function assertConnection({ kubeConfig, kubeConfigFile, timeoutMs, fetch }: KubernetesConnection): void {
  if (kubeConfig !== undefined) {
    if (kubeConfigFile !== undefined) {
      throw new TypeError('the options "kubeConfig" and "kubeConfigFile" exclude each other')
    }
    for (const method of ['getCurrentCluster', 'getCurrentUser', 'applyToHTTPSOptions']) {
      assertMethod(kubeConfig, method, 'kubeConfig')
    }
  }
  if (kubeConfigFile !== undefined) assertPath(kubeConfigFile, 'kubeConfigFile')
  assertDuration(timeoutMs, 'timeoutMs')
  if (fetch !== undefined) assertFunction(fetch, 'fetch')
}
