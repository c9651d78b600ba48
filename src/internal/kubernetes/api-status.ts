/**
 * Refusals of the API server, in words a person can act on and without what it echoes.
 *
 * @module
 */
import type { HttpResponse } from '../http.js'
import { asObject, parseObject } from './api-object.js'

/** A `Status` of the API server, as far as it is one. */
export interface ApiStatus {
  readonly code: number
  readonly reason: string
  readonly message: string
  /** Field managers that own fields which were to be applied. */
  readonly conflicts: readonly { readonly manager: string; readonly field: string }[]
}

/**
 * Of a failure. `renewable`: refused, but credentials are renewed and namespaces made anew without us; `unavailable`: it
 * may well work later.
 */
export type FailureKind = 'rejected' | 'renewable' | 'unavailable'

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

/**
 * What to tell about a status that is no success.
 *
 * @param place - `otherNamespace`: what a person does when the namespace is not there, besides creating it
 */
export function explainStatus(
  status: ApiStatus,
  place: { readonly namespace: string; readonly otherNamespace: string },
): { readonly why: string; readonly kind: FailureKind } {
  const { namespace, otherNamespace } = place
  const { code, reason, message } = status
  const said = `${String(code)}${reason === '' ? '' : ` ${reason}`}: ${message}`

  if (code === 401) {
    const hint = 'are token or client certificate missing, expired, or of another cluster?'
    return { why: `the API server does not accept the credentials (${said}); ${hint}`, kind: 'renewable' }
  }
  if (code === 403 && /because it is being terminated/.test(message)) {
    return { why: `the namespace is being deleted (${said})`, kind: 'renewable' }
  }
  const denied = /User "([^"]+)" cannot (\S+) resource "([^"]+)"/.exec(message)
  if (code === 403 && denied !== null) {
    const [, user = '', verb = '', resource = ''] = denied
    if (user === 'system:anonymous') {
      const hint =
        'the user of the kubeconfig must have a token, a client certificate (not together with "fetch") or a program'
      const why = `the request came without credentials the API server knows (403 Forbidden); ${hint}`
      return { why, kind: 'rejected' }
    }
    const role = 'apply the Role and RoleBinding that requiredPermissions() returns'
    const why = `${user} may not ${verb} ${resource} in namespace ${namespace} (403 Forbidden); ${role}`
    return { why, kind: 'rejected' }
  }
  if (code === 404 && /^namespaces /.test(message)) {
    return { why: `there is no namespace ${namespace}; create it, or ${otherNamespace}`, kind: 'rejected' }
  }
  if (code === 409) return { why: `others change it at the same time, again and again (${said})`, kind: 'unavailable' }
  // A webhook that cannot be reached is a 500; one that denies may use any code, and says why.
  if (code === 429 || code >= 500) {
    return { why: `the API server cannot do it at the moment (${said})`, kind: 'unavailable' }
  }
  if (code < 400) return { why: `unexpected answer (${said}); is the URL of the server right?`, kind: 'rejected' }
  return { why: `the API server refuses it (${said})`, kind: 'rejected' }
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
