import { describe, expect, it } from 'vitest'
import { apiFailure } from '../../../../src/deployers/kubernetes-secret/kubernetes-failure.js'
import type { HttpResponse } from '../../../../src/internal/http.js'
import { readStatus } from '../../../../src/internal/kubernetes/api-status.js'

const now = Date.parse('2026-01-01T00:00:00Z')
const call = { deployer: 'k', action: 'write', namespace: 'web', secretName: 'www-tls' } as const

function answer(status: number, body: string, headers: Record<string, string> = {}): HttpResponse {
  return { status, headers, body: Buffer.from(body), text: () => body, url: 'https://kube' }
}
const status = (code: number, reason: string, message: string, details: object = {}): string =>
  JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message, details })

function failure(code: number, body: string, headers?: Record<string, string>) {
  const response = answer(code, body, headers)
  return apiFailure(call, response, readStatus(response, []), now)
}

describe('apiFailure', () => {
  it.each<[string, number, string, object]>([
    [
      '401',
      401,
      status(401, 'Unauthorized', 'Unauthorized'),
      { code: 'ERR_DEPLOY_REJECTED', retryable: true, message: /credentials \(401 Unauthorized: Unauthorized\)/ },
    ],
    [
      '403 of RBAC',
      403,
      status(
        403,
        'Forbidden',
        'secrets "www-tls" is forbidden: User "system:serviceaccount:web:x" cannot patch resource "secrets" in API group "" in the namespace "web"',
      ),
      {
        code: 'ERR_DEPLOY_REJECTED',
        retryable: false,
        message: /system:serviceaccount:web:x may not patch secrets in namespace web/,
      },
    ],
    [
      '403 of a request without credentials',
      403,
      status(
        403,
        'Forbidden',
        'secrets "www-tls" is forbidden: User "system:anonymous" cannot get resource "secrets" in API group "" in the namespace "web"',
      ),
      { code: 'ERR_DEPLOY_REJECTED', message: /came without credentials .*client certificate/ },
    ],
    [
      '403 of a policy',
      403,
      status(403, 'Forbidden', 'secrets "www-tls" is forbidden: exceeded quota: secrets'),
      { code: 'ERR_DEPLOY_REJECTED', retryable: false, message: /refuses it \(403 Forbidden: .*exceeded quota/ },
    ],
    [
      '403 of a namespace that goes away',
      403,
      status(
        403,
        'Forbidden',
        'secrets "www-tls" is forbidden: unable to create new content in namespace web because it is being terminated',
      ),
      { code: 'ERR_DEPLOY_REJECTED', retryable: true, message: /namespace is being deleted/ },
    ],
    [
      '404 of a namespace',
      404,
      status(404, 'NotFound', 'namespaces "web" not found'),
      { code: 'ERR_DEPLOY_REJECTED', retryable: false, message: /no namespace web/ },
    ],
    [
      '404 of something else',
      404,
      '404 page not found',
      { code: 'ERR_DEPLOY_REJECTED', message: /not that of a Kubernetes API server/ },
    ],
    ['409', 409, status(409, 'Conflict', 'modified'), { code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true }],
    [
      '422',
      422,
      status(422, 'Invalid', 'Secret "www-tls" is invalid: type: Invalid value: "Opaque": field is immutable'),
      { code: 'ERR_DEPLOY_REJECTED', retryable: false, message: /type: Invalid value/ },
    ],
    ['a redirect', 302, '', { code: 'ERR_DEPLOY_REJECTED', message: /URL of the server/ }],
    ['500', 500, status(500, 'InternalError', 'etcd is away'), { code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true }],
    [
      '502 of a balancer',
      502,
      '<html>Bad Gateway</html>',
      { code: 'ERR_DEPLOY_UNAVAILABLE', message: /not that of a Kube/ },
    ],
  ])('%s', (_, code, body, expected) => {
    const error = failure(code, body)
    const { message, ...rest } = expected as { message?: RegExp }
    expect(error).toMatchObject(rest)
    if (message !== undefined) expect(error.message).toMatch(message)
    expect(error.message).toMatch(/^k: cannot write Secret web\/www-tls: /)
    expect(error.message).not.toContain('<html>')
  })

  it('names the managers and fields of a conflict', () => {
    const cause = (manager: string, field: string) => ({
      reason: 'FieldManagerConflict',
      message: `conflict with "${manager}" using v1`,
      field,
    })
    const causes = [cause('helm', '.data.tls.crt'), cause('helm', '.data.tls.key'), cause('kubectl', '.type')]
    const error = failure(409, status(409, 'Conflict', 'Apply failed', { causes }))
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED', retryable: false })
    expect(error.message).toMatch(
      /\.data\.tls\.crt, \.data\.tls\.key, \.type were written by helm, kubectl; .*takeOver/,
    )
  })

  it.each([429, 503, 500])('waits as %i asks', (code) => {
    expect(failure(code, '', { 'retry-after': '7' }).retryAt).toEqual(new Date(now + 7_000))
    expect(failure(code, '').retryAt).toBeUndefined()
  })

  it.each([
    ['an array', '[]'],
    ['null', 'null'],
    ['causes that are none', status(409, 'Conflict', 'x', { causes: [null, 1, {}] })],
    ['a message that is none', JSON.stringify({ kind: 'Status', message: { a: 1 }, reason: [] })],
    ['a message without end', status(400, 'BadRequest', 'x y '.repeat(100_000))],
  ])('takes %s for an answer', (_, body) => {
    expect(failure(400, body).message.length).toBeLessThan(1_400)
  })
})
