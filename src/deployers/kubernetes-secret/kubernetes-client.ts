/**
 * The connection to the API server during one operation of the deployer.
 *
 * @module
 */
import type { OperationContext } from '../../core/context.js'
import { DeployError } from '../../errors.js'
import type { HttpResponse } from '../../internal/http.js'
import { kubernetesApi, type ApiRequest, type ApiScope } from '../../internal/kubernetes/kubernetes-api.js'
import type { KubernetesSettings } from './kubernetes-options.js'

/** Asks the API server; any status is an answer. */
export type AskApi = (request: ApiRequest) => Promise<HttpResponse>

/**
 * Runs something with a connection to the API server, which is closed afterwards. Configuration is read anew each time, and
 * the token for each request: both are replaced under a running process.
 *
 * Rejects with `ERR_DEPLOY_UNAVAILABLE` when the server cannot be reached or does not answer in time, with
 * `ERR_DEPLOY_REJECTED` when there is no usable configuration.
 */
export async function withKubernetesApi<Result>(
  settings: KubernetesSettings,
  { clock, signal }: OperationContext,
  run: (ask: AskApi) => Promise<Result>,
): Promise<Result> {
  const { name } = settings
  const tell: ApiScope['tell'] = (why, kind, cause) =>
    new DeployError({
      code: kind === 'unavailable' ? 'ERR_DEPLOY_UNAVAILABLE' : 'ERR_DEPLOY_REJECTED',
      message: `${name}: ${why}`,
      deployer: name,
      cause,
    })
  const scope: ApiScope = { clock, signal, tell }
  const api = kubernetesApi(settings)
  try {
    await api.open(scope)
    return await run((request) => api.ask(request, scope))
  } finally {
    api.close()
  }
}
