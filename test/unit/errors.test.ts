import { inspect } from 'node:util'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import type * as original from '../../src/errors.js'
import {
  AcmeError,
  AuthorizationFailedError,
  CertError,
  CertificateError,
  ChallengeError,
  DeployError,
  HttpError,
  IssuersFailedError,
  RateLimitedError,
  StoreError,
  UserActionRequiredError,
  type AnyCertError,
} from '../../src/errors.js'

const cause = new Error('the reason below')
const retryAt = new Date(Date.UTC(2026, 0, 1))
const identifier = { type: 'dns', value: 'a.example' } as const
const base = { message: 'failed', cause, retryAt }

const errors: readonly [name: string, error: CertError, code: string, retryable: boolean][] = [
  ['CertError', new CertError({ ...base, code: 'ERR_NOT_MANAGED', retryable: true }), 'ERR_NOT_MANAGED', true],
  ['AcmeError', new AcmeError({ ...base, code: 'ERR_ACME_PROBLEM', retryable: false }), 'ERR_ACME_PROBLEM', false],
  ['RateLimitedError', new RateLimitedError(base), 'ERR_ACME_RATE_LIMITED', true],
  ['UserActionRequiredError', new UserActionRequiredError(base), 'ERR_ACME_USER_ACTION_REQUIRED', false],
  [
    'AuthorizationFailedError',
    new AuthorizationFailedError({ ...base, authorizations: [{ identifier }] }),
    'ERR_ACME_AUTHORIZATION_FAILED',
    true,
  ],
  [
    'ChallengeError',
    new ChallengeError({ ...base, code: 'ERR_CHALLENGE_FAILED', retryable: true, identifier, phase: 'present' }),
    'ERR_CHALLENGE_FAILED',
    true,
  ],
  ['StoreError', new StoreError({ ...base, code: 'ERR_STORE_CONFLICT', store: 'file' }), 'ERR_STORE_CONFLICT', true],
  [
    'DeployError',
    new DeployError({ ...base, code: 'ERR_DEPLOY_REJECTED', deployer: 'haproxy' }),
    'ERR_DEPLOY_REJECTED',
    false,
  ],
  [
    'HttpError',
    new HttpError({ ...base, code: 'ERR_HTTP_STATUS', method: 'GET', url: 'https://ca.example/dir', status: 500 }),
    'ERR_HTTP_STATUS',
    true,
  ],
]

describe.each(errors)('%s', (name, error, code, retryable) => {
  it('has its name, code and message, and says whether and when to try again', () => {
    expect(error).toBeInstanceOf(Error)
    expect(error).toBeInstanceOf(CertError)
    expect(error).toMatchObject({ name, code, retryable, retryAt, message: 'failed' })
    expect(String(error)).toBe(`${name}: failed`)
  })

  it('keeps its cause and its stack, and prints both', () => {
    expect(error.cause).toBe(cause)
    expect(error.stack).toContain('errors.test.ts')
    expect(inspect(error)).toContain('the reason below')
    expect(inspect(error)).toContain(code)
  })

  it('is recognised, and does not carry the mark where people see it', () => {
    expect(CertError.isInstance(error)).toBe(true)
    expect(inspect(error)).not.toContain('evercert.CertError')
    expect(Object.keys(error)).not.toContain('cause')
  })
})

it('has no cause when none is given', () => {
  expect('cause' in new CertError({ code: 'ERR_NOT_MANAGED', message: 'x', retryable: true })).toBe(false)
  expect('cause' in new CertificateError('ERR_CERT_INVALID', 'x')).toBe(false)
})

it.each([
  undefined,
  null,
  'ERR_NOT_MANAGED',
  7,
  {},
  [],
  new Error('x'),
  new TypeError('x'),
  { code: 'ERR_NOT_MANAGED', retryable: true },
])('%s is no CertError', (value) => {
  expect(CertError.isInstance(value)).toBe(false)
})

describe('two copies of the package in one process', () => {
  let other: typeof original
  beforeAll(async () => {
    vi.resetModules()
    other = await import('../../src/errors.js')
  })

  it('recognise the errors of each other', () => {
    expect(other.CertError).not.toBe(CertError)
    const theirs = new other.StoreError({ code: 'ERR_STORE_CORRUPT', message: 'x', store: 'file' })
    expect(theirs).not.toBeInstanceOf(CertError)
    expect(CertError.isInstance(theirs)).toBe(true)
    expect(other.CertError.isInstance(new RateLimitedError({ message: 'x' }))).toBe(true)
  })
})

it.each([
  ['ERR_STORE_CONFLICT', true],
  ['ERR_STORE_UNAVAILABLE', true],
  ['ERR_STORE_LOCK_LOST', true],
  ['ERR_STORE_CORRUPT', false],
  ['ERR_STORE_SCHEMA', false],
] as const)('%s is worth another attempt: %s', (code, retryable) => {
  expect(new StoreError({ code, message: 'x', store: 's', key: 'k' })).toMatchObject({
    retryable,
    store: 's',
    key: 'k',
  })
})

it.each([
  ['ERR_DEPLOY_UNAVAILABLE', undefined, true],
  ['ERR_DEPLOY_VERIFY_FAILED', undefined, true],
  ['ERR_DEPLOY_REJECTED', undefined, false],
  ['ERR_DEPLOY_REJECTED', true, true],
  ['ERR_DEPLOY_UNAVAILABLE', false, false],
] as const)('%s with retryable %s is worth another attempt: %s', (code, given, retryable) => {
  expect(new DeployError({ code, message: 'x', deployer: 'd', retryable: given })).toMatchObject({
    retryable,
    deployer: 'd',
  })
})

it('a certificate that must not be used may be better the next time', () => {
  const error = new CertificateError('ERR_CERT_EXPIRED', 'expired', { cause })
  expect(error).toMatchObject({ name: 'CertificateError', code: 'ERR_CERT_EXPIRED', retryable: true, cause })
})

it('IssuersFailedError lists the issuers in order and has the last failure as its cause', () => {
  const failures = [
    { issuer: 'a', error: new Error('first') },
    { issuer: 'b', error: cause },
  ]
  const error = new IssuersFailedError({ message: 'both failed', failures, retryAt })
  expect(error).toMatchObject({ code: 'ERR_ISSUERS_FAILED', retryable: true, retryAt, failures, cause })
  expect(new IssuersFailedError({ message: 'none', failures: [] }).cause).toBeUndefined()
})

it('carries what the CA said', () => {
  const problem = {
    type: 'urn:ietf:params:acme:error:rateLimited',
    detail: 'slowly',
    subproblems: [{ type: 'x', identifier }],
  }
  const error = new RateLimitedError({ message: 'x', problem, orderUrl: 'https://ca.example/order/1' })
  expect(error).toMatchObject({ problem, orderUrl: 'https://ca.example/order/1' })
  const action = new UserActionRequiredError({ message: 'x', instructionsUrl: 'https://ca.example/unpause' })
  expect(action.instructionsUrl).toBe('https://ca.example/unpause')
})

it('narrows by code, without instanceof', () => {
  const explain = (error: AnyCertError): string => {
    switch (error.code) {
      case 'ERR_STORE_CORRUPT':
        return error.store
      case 'ERR_CHALLENGE_PREFLIGHT':
        return error.identifier.value
      case 'ERR_ISSUERS_FAILED':
        return String(error.failures.length)
      default:
        return error.code
    }
  }
  const caught: unknown = new StoreError({ code: 'ERR_STORE_CORRUPT', message: 'x', store: 'file' })
  expect(CertError.isInstance(caught) ? explain(caught) : 'no').toBe('file')
})
