/**
 * Refusals of the API server, as errors of the deployer.
 *
 * @module
 */
import { DeployError } from '../../errors.js'
import type { HttpResponse } from '../../internal/http.js'
import { explainStatus, type ApiStatus } from '../../internal/kubernetes/api-status.js'
import { parseRetryAfter } from '../../internal/retry-after.js'

/** What was asked for. */
export interface ApiCall {
  readonly deployer: string
  readonly action: 'read' | 'write'
  readonly namespace: string
  readonly secretName: string
}

/** What to tell about an answer that is no success. */
export function apiFailure(call: ApiCall, response: HttpResponse, status: ApiStatus, now: number): DeployError {
  const { deployer, action, namespace, secretName } = call
  const { why, kind } =
    status.conflicts.length > 0
      ? { why: conflictReason(status), kind: 'rejected' as const }
      : explainStatus(status, { namespace, otherNamespace: 'take it out of the option "namespaces"' })
  return new DeployError({
    code: kind === 'unavailable' ? 'ERR_DEPLOY_UNAVAILABLE' : 'ERR_DEPLOY_REJECTED',
    message: `${deployer}: cannot ${action} Secret ${namespace}/${secretName}: ${why}`,
    deployer,
    retryable: kind !== 'rejected',
    ...(kind === 'unavailable' ? { retryAt: parseRetryAfter(response.headers['retry-after'], now) } : {}),
  })
}

function conflictReason({ conflicts }: ApiStatus): string {
  const managers = [...new Set(conflicts.map(({ manager }) => manager))].slice(0, 5)
  const fields = [...new Set(conflicts.map(({ field }) => field))].slice(0, 8)
  return (
    `${fields.join(', ')} ${fields.length === 1 ? 'was' : 'were'} written by ${managers.join(', ')}; ` +
    'if that is over, set the option "takeOver", else use another "secretName"'
  )
}
