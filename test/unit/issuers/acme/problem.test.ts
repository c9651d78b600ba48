import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { problemError, readProblem, type Refusal } from '../../../../src/issuers/acme/problem.js'

const now = Date.UTC(2026, 0, 1)
const day = 86_400_000

function refusal(
  type: string,
  status: number,
  more: Record<string, unknown> = {},
  parts: Partial<Refusal> = {},
): Refusal {
  const problem = readProblem({ type: `urn:ietf:params:acme:error:${type}`, status, ...more })
  return { what: 'new order for www.example.com', status, problem, retryAt: undefined, now, ...parts }
}

describe('problemError', () => {
  it.each<[type: string, status: number, code: string, retryable: boolean]>([
    ['rateLimited', 429, 'ERR_ACME_RATE_LIMITED', true],
    ['userActionRequired', 403, 'ERR_ACME_USER_ACTION_REQUIRED', false],
    ['externalAccountRequired', 403, 'ERR_ACME_PROBLEM', false],
    ['accountDoesNotExist', 400, 'ERR_ACME_PROBLEM', false],
    ['badCSR', 400, 'ERR_ACME_PROBLEM', false],
    ['rejectedIdentifier', 400, 'ERR_ACME_PROBLEM', false],
    ['unsupportedIdentifier', 400, 'ERR_ACME_PROBLEM', false],
    ['caa', 403, 'ERR_ACME_PROBLEM', false],
    ['malformed', 400, 'ERR_ACME_PROBLEM', false],
    ['unauthorized', 403, 'ERR_ACME_PROBLEM', false],
    ['invalidProfile', 400, 'ERR_ACME_PROFILE_UNAVAILABLE', false],
    ['serverInternal', 500, 'ERR_ACME_PROBLEM', true],
    ['badNonce', 400, 'ERR_ACME_PROBLEM', true],
    ['orderNotReady', 403, 'ERR_ACME_PROBLEM', true],
    ['alreadyReplaced', 409, 'ERR_ACME_PROBLEM', true],
    ['conflict', 409, 'ERR_ACME_PROBLEM', true],
    ['somethingNew', 400, 'ERR_ACME_PROBLEM', true],
  ])('%s (%i) is %s, retryable: %s', (type, status, code, retryable) => {
    const error = problemError(refusal(type, status, { detail: 'because' }))
    expect(error).toMatchObject({ code, retryable, problem: { type: `urn:ietf:params:acme:error:${type}` } })
    expect(error.message).toContain('new order for www.example.com: because')
  })

  it('takes the instant from the header before the one in the text', () => {
    const detail = 'too many, retry after 2026-01-01 00:18:15 UTC: see https://letsencrypt.org'
    const retryAt = new Date(now + 5000)
    expect(problemError(refusal('rateLimited', 429, { detail }, { retryAt })).retryAt).toEqual(retryAt)
    expect(problemError(refusal('rateLimited', 429, { detail })).retryAt).toEqual(new Date('2026-01-01T00:18:15Z'))
  })

  it.each([
    ['the past', 'retry after 2020-01-01 00:00:00 UTC', new Date(now)],
    ['a far future', 'retry after 9999-01-01 00:00:00 UTC', new Date(now + 7 * day)],
    ['no date', 'retry after 2026-99-99 00:00:00 UTC', undefined],
    ['nothing', 'slow down', undefined],
  ])('clamps %s in the text', (_, detail, expected) => {
    expect(problemError(refusal('rateLimited', 429, { detail })).retryAt).toEqual(expected)
  })

  it('treats every 429 as a rate limit', () => {
    const retryAt = new Date(now + 60_000)
    const error = problemError({ what: 'new order', status: 429, problem: undefined, retryAt, now })
    expect(error).toMatchObject({ code: 'ERR_ACME_RATE_LIMITED', retryAt })
  })

  it('is retryable when a load balancer answers', () => {
    const retryAt = new Date(now + 60_000)
    const error = problemError({ what: 'new order', status: 503, problem: undefined, retryAt, now })
    expect(error).toMatchObject({ code: 'ERR_ACME_PROBLEM', retryable: true, retryAt, problem: { status: 503 } })
  })

  it('shows where to unpause, unless the CA also says when to come back', () => {
    const url = 'https://portal.letsencrypt.org/sfe/v1/unpause?jwt=abc.def_-'
    const detail = `paused. Please visit: ${url}.`
    expect(problemError(refusal('rateLimited', 429, { detail }))).toMatchObject({
      code: 'ERR_ACME_USER_ACTION_REQUIRED',
      instructionsUrl: url,
    })
    const later = problemError(refusal('rateLimited', 429, { detail }, { retryAt: new Date(now + 1000) }))
    expect(later.code).toBe('ERR_ACME_RATE_LIMITED')
  })

  it('shows where new terms can be agreed to', () => {
    const instance = 'https://ca.example/terms/2'
    expect(problemError(refusal('userActionRequired', 403, { instance }))).toMatchObject({ instructionsUrl: instance })
    const termsOfServiceUrl = 'https://ca.example/terms/3'
    expect(problemError(refusal('userActionRequired', 403, {}, { termsOfServiceUrl }))).toMatchObject({
      instructionsUrl: termsOfServiceUrl,
    })
  })

  it('names the identifiers of subproblems', () => {
    const subproblems = [
      {
        type: 'urn:ietf:params:acme:error:rejectedIdentifier',
        detail: 'policy forbids',
        identifier: { type: 'dns', value: 'bad.example' },
      },
    ]
    const error = problemError(refusal('malformed', 400, { detail: 'some names are bad', subproblems }))
    expect(error.message).toContain('bad.example: policy forbids (rejectedIdentifier)')
    expect(error.problem?.subproblems).toMatchObject([{ identifier: { type: 'dns', value: 'bad.example' } }])
  })
})

describe('readProblem', () => {
  it('escapes what would play tricks in a log, and cuts', () => {
    const problem = readProblem({ type: 'x', detail: `a\nb\u001b[31m\u202ec${'d'.repeat(5000)}` })
    expect(problem?.detail).toMatch(/^a\\u000ab\\u001b\[31m\\u202ecd+\.\.\.$/)
    expect(problem?.detail?.length).toBeLessThan(1100)
  })

  it('does not show scripts as instructions', () => {
    expect(readProblem({ type: 'x', instance: 'javascript:alert(1)' })?.instance).toBeUndefined()
  })

  it('never throws and stays small, whatever is sent', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (data) => {
        const problem = readProblem(data)
        if (problem === undefined) return
        const error = problemError({ what: 'x', status: 400, problem, retryAt: undefined, now })
        expect(error.message.length).toBeLessThan(3000)
      }),
      { seed: 20261122 },
    )
  })
})
