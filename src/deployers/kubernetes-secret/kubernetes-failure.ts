/**
 * Refusals of the API server, in words a person can act on and without what it echoes.
 *
 * @module
 */
import { DeployError } from '../../errors.js'
import type { HttpResponse } from '../../internal/http.js'
import { parseRetryAfter } from '../../internal/retry-after.js'
import { asObject, parseObject } from './secret-resource.js'

/** What was asked for. */
export interface ApiCall {
  readonly deployer: string
  readonly action: 'read' | 'write'
  readonly namespace: string
  readonly secretName: string
}

/** A `Status` of the API server, as far as it is one. */
export interface ApiStatus {
  readonly code: number
  readonly reason: string
  readonly message: string
  /** Field managers that own fields which were to be applied. */
  readonly conflicts: readonly { readonly manager: string; readonly field: string }[]
}

/** Reads a `Status`; whatever else stands between us and the API server may answer with anything. */
export function readStatus(response: HttpResponse, secrets: readonly string[]): ApiStatus {
  const status = parseObject(response.text())
  const isStatus = status?.['kind'] === 'Status'
  const { message, reason, details } = isStatus ? status : {}
  const causes: unknown[] = Array.isArray(asObject(details)['causes']) ? (asObject(details)['causes'] as unknown[]) : []
  const text = (value: unknown, limit: number): string =>
    typeof value === 'string' ? withoutSecrets(value, secrets).slice(0, limit) : ''
  return {
    code: response.status,
    reason: text(reason, 100),
    message: isStatus ? text(message, 1_000) : 'the answer is not that of a Kubernetes API server',
    conflicts: causes.map(asObject).flatMap((cause) => {
      if (cause['reason'] !== 'FieldManagerConflict') return []
      const manager = /^conflict with "([^"]*)"/.exec(text(cause['message'], 300))?.[1] ?? 'somebody'
      return [{ manager, field: text(cause['field'], 300) }]
    }),
  }
}

/** What to tell about an answer that is no success. */
export function apiFailure(call: ApiCall, response: HttpResponse, status: ApiStatus, now: number): DeployError {
  const { deployer, action, namespace, secretName } = call
  const target = `Secret ${namespace}/${secretName}`
  const failure = (why: string, kind: Kind): DeployError =>
    new DeployError({
      code: kind === 'unavailable' ? 'ERR_DEPLOY_UNAVAILABLE' : 'ERR_DEPLOY_REJECTED',
      message: `${deployer}: cannot ${action} ${target}: ${why}`,
      deployer,
      retryable: kind !== 'rejected',
      ...(kind === 'unavailable' ? { retryAt: parseRetryAfter(response.headers['retry-after'], now) } : {}),
    })
  const { code, reason, message } = status
  const said = `${String(code)}${reason === '' ? '' : ` ${reason}`}: ${message}`

  if (status.conflicts.length > 0) return failure(conflictReason(status), 'rejected')
  if (code === 401) {
    const hint = 'are token or client certificate missing, expired, or of another cluster?'
    return failure(`the API server does not accept the credentials (${said}); ${hint}`, 'renewable')
  }
  if (code === 403 && /because it is being terminated/.test(message)) {
    return failure(`the namespace is being deleted (${said})`, 'renewable')
  }
  const denied = /User "([^"]+)" cannot (\S+) resource "([^"]+)"/.exec(message)
  if (code === 403 && denied !== null) {
    const [, user = '', verb = '', resource = ''] = denied
    if (user === 'system:anonymous') {
      const hint =
        'the user of the kubeconfig must have a token, a client certificate (not together with "fetch") or a program'
      return failure(`the request came without credentials the API server knows (403 Forbidden); ${hint}`, 'rejected')
    }
    const role = 'apply the Role and RoleBinding that requiredPermissions() returns'
    return failure(`${user} may not ${verb} ${resource} in namespace ${namespace} (403 Forbidden); ${role}`, 'rejected')
  }
  if (code === 404 && /^namespaces /.test(message)) {
    return failure(
      `there is no namespace ${namespace}; create it, or take it out of the option "namespaces"`,
      'rejected',
    )
  }
  if (code === 409) {
    return failure(`others change it at the same time, again and again (${said})`, 'unavailable')
  }
  // A webhook that cannot be reached is a 500; one that denies may use any code, and says why.
  if (code === 429 || code >= 500) return failure(`the API server cannot do it at the moment (${said})`, 'unavailable')
  if (code < 400) return failure(`unexpected answer (${said}); is the URL of the server right?`, 'rejected')
  return failure(`the API server refuses it (${said})`, 'rejected')
}

/** `renewable`: refused, but credentials are renewed and namespaces made anew without us. */
type Kind = 'rejected' | 'renewable' | 'unavailable'

function conflictReason({ conflicts }: ApiStatus): string {
  const managers = [...new Set(conflicts.map(({ manager }) => manager))].slice(0, 5)
  const fields = [...new Set(conflicts.map(({ field }) => field))].slice(0, 8)
  return (
    `${fields.join(', ')} ${fields.length === 1 ? 'was' : 'were'} written by ${managers.join(', ')}; ` +
    'if that is over, set the option "takeOver", else use another "secretName"'
  )
}

/**
 * Webhooks and decoders print what they were sent. Out goes whatever we know to be secret, whatever looks like a key, and
 * every long word of base64.
 */
export function withoutSecrets(text: string, secrets: readonly string[]): string {
  let safe = text.replace(
    /-----BEGIN [A-Z ]{0,32}-----(?:[^-]|-(?!-{4}))*(?:-----END [A-Z ]{0,32}-----)?/g,
    '[removed]',
  )
  for (const secret of secrets) if (secret.length >= 4) safe = safe.replaceAll(secret, '[removed]')
  return (
    safe
      .replace(/[A-Za-z0-9+/_=%-]{40,}/g, '[removed]')
      // As Go prints bytes, with %v and with %#v.
      .replace(/(?:(?:0x[0-9a-f]{1,2}|\d{1,3})[\s,]+){16,}[0-9a-fx]{0,4}/g, '[removed]')
      // Control characters could rewrite a terminal that shows the log.
      // eslint-disable-next-line no-control-regex -- they are what is replaced
      .replace(/[\u0000-\u001f\u007f]+/g, ' ')
  )
}
