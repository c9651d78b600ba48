/**
 * What a CA's refusal means: problem documents become typed errors. Pure. RFC 7807, RFC 8555 section 6.7.
 *
 * @module
 */
import { parseIdentifier, type Identifier } from '../../core/identifier.js'
import {
  AcmeError,
  CertError,
  RateLimitedError,
  UserActionRequiredError,
  type Problem,
  type Subproblem,
} from '../../errors.js'
import { longestRetryAfterMs } from '../../internal/retry-after.js'

const prefix = 'urn:ietf:params:acme:error:'

/** Whom asking again does not help: the request, the account or the CA's policy has to change first. */
const permanent: ReadonlySet<string> = new Set([
  ...[
    'accountDoesNotExist',
    'alreadyRevoked',
    'badCSR',
    'badPublicKey',
    'badRevocationReason',
    'badSignatureAlgorithm',
  ],
  ...['caa', 'externalAccountRequired', 'invalidContact', 'invalidProfile', 'malformed', 'rejectedIdentifier'],
  ...['unauthorized', 'unsupportedContact', 'unsupportedIdentifier', 'userActionRequired'],
])

const advice: Readonly<Record<string, string>> = {
  accountDoesNotExist: 'the CA does not know the account any more',
  caa: 'the CAA records of the name do not allow this CA; see RFC 8659',
  externalAccountRequired: 'pass the key id and HMAC key that the CA gave you as the "externalAccountBinding" option',
  invalidContact: 'correct the "contact" option',
  unsupportedContact: 'correct the "contact" option',
  unauthorized: 'is the account still valid, and allowed to do this?',
}

/** An answer that is not what was asked for. */
export interface Refusal {
  /** What was being done: `new order for www.example.com`. */
  readonly what: string
  readonly status: number
  readonly problem: Problem | undefined
  /** From the `Retry-After` header. */
  readonly retryAt: Date | undefined
  /** Epoch milliseconds. */
  readonly now: number
  readonly orderUrl?: string | undefined
  /** `Link` with `rel="terms-of-service"`, RFC 8555 section 7.3.3. */
  readonly termsOfServiceUrl?: string | undefined
}

/** The error for a refusal. */
export function problemError(refusal: Refusal): AcmeError {
  const { what, status, orderUrl } = refusal
  const problem: Problem = { type: 'about:blank', status, ...refusal.problem }
  const type = shortType(problem)
  const detail = problem.detail ?? ''
  const message = describe(what, refusal.problem, status)
  const common = { message, problem, orderUrl }

  if (type === 'rateLimited' || status === 429) {
    const unpauseUrl = refusal.retryAt === undefined ? firstUrl(detail, (url) => url.includes('unpause')) : undefined
    if (unpauseUrl !== undefined) return new UserActionRequiredError({ ...common, instructionsUrl: unpauseUrl })
    return new RateLimitedError({ ...common, retryAt: refusal.retryAt ?? retryAtInText(detail, refusal.now) })
  }
  if (type === 'userActionRequired') {
    const instructionsUrl = problem.instance ?? refusal.termsOfServiceUrl ?? firstUrl(detail, () => true)
    return new UserActionRequiredError({ ...common, instructionsUrl })
  }
  return new AcmeError({
    ...common,
    code: type === 'invalidProfile' ? 'ERR_ACME_PROFILE_UNAVAILABLE' : 'ERR_ACME_PROBLEM',
    retryable: !permanent.has(type),
    retryAt: refusal.retryAt,
  })
}

/** An answer that breaks the protocol: not JSON, a member missing, an http URL. */
export function protocolError(what: string, why: string, more: { cause?: unknown; retryAt?: Date } = {}): AcmeError {
  return new AcmeError({
    code: 'ERR_ACME_PROTOCOL',
    message: `${what}: ${why}; is this the directory of an ACME CA, and no proxy in between?`,
    retryable: true,
    ...more,
  })
}

/** Whether an error is the CA's problem of one of these types, named without their prefix. */
export function isProblem(error: unknown, ...types: readonly string[]): error is AcmeError {
  if (!CertError.isInstance(error) || !('problem' in error)) return false
  return error.problem !== undefined && types.includes(shortType(error.problem))
}

/** Reads a problem document leniently: what is malformed in it is left out. `undefined` when it is none. */
export function readProblem(data: unknown, redact: (text: string) => string = (text) => text): Problem | undefined {
  if (!isObject(data)) return undefined
  const type = ownMember(data, 'type')
  const status = ownMember(data, 'status')
  const subproblems = ownMember(data, 'subproblems')
  const instance = ownMember(data, 'instance')
  const detail = readDetail(data, redact)
  if (typeof type !== 'string' && detail === undefined) return undefined
  return {
    type: typeof type === 'string' ? printable(type, 200) : 'about:blank',
    ...(detail === undefined ? {} : { detail }),
    ...(typeof status === 'number' && Number.isInteger(status) ? { status } : {}),
    ...(typeof instance === 'string' && isWebUrl(instance) ? { instance } : {}),
    ...(Array.isArray(subproblems) ? { subproblems: readSubproblems(subproblems, redact) } : {}),
  }
}

/** `rateLimited` of `urn:ietf:params:acme:error:rateLimited`. */
export function shortType(problem: Problem): string {
  return problem.type.startsWith(prefix) ? problem.type.slice(prefix.length) : problem.type
}

/** One line about a problem and each of its parts, for messages. */
export function describeProblem(problem: Problem): string {
  const part = ({ type, detail, identifier }: Subproblem): string => {
    const name = identifier === undefined ? '' : `${identifier.value}: `
    return `${name}${detail ?? 'no reason given'} (${shortType({ type })})`
  }
  const parts = problem.subproblems ?? []
  return printable([part(problem), ...parts.slice(0, 20).map(part)].join('; '), 2000)
}

/** Text of others as it may appear in a log line: control and direction characters escaped, and cut. */
export function printable(text: string, maxLength: number): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}...` : text
  // eslint-disable-next-line no-control-regex -- control characters are exactly what is escaped
  return cut.replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}

/** An own member of what came from outside: a polluted prototype says nothing. */
export function ownMember(data: unknown, name: string): unknown {
  return isObject(data) && Object.hasOwn(data, name) ? (data as Record<string, unknown>)[name] : undefined
}

function describe(what: string, problem: Problem | undefined, status: number): string {
  if (problem === undefined) return `${what}: the CA answered ${String(status)} without saying why`
  const help = advice[shortType(problem)]
  return `${what}: ${describeProblem(problem)}${help === undefined ? '' : `; ${help}`}`
}

function readDetail(data: unknown, redact: (text: string) => string): string | undefined {
  const detail = ownMember(data, 'detail')
  return typeof detail === 'string' ? printable(redact(detail), 1000) : undefined
}

function readSubproblems(list: readonly unknown[], redact: (text: string) => string): readonly Subproblem[] {
  return list.slice(0, 100).flatMap((item) => {
    if (!isObject(item)) return []
    const type = ownMember(item, 'type')
    const detail = readDetail(item, redact)
    const identifier = readIdentifier(ownMember(item, 'identifier'))
    return [
      {
        type: typeof type === 'string' ? printable(type, 200) : 'about:blank',
        ...(detail === undefined ? {} : { detail }),
        ...(identifier === undefined ? {} : { identifier }),
      },
    ]
  })
}

function readIdentifier(data: unknown): Identifier | undefined {
  const value = ownMember(data, 'value')
  try {
    return typeof value === 'string' ? parseIdentifier(value) : undefined
  } catch {
    return undefined
  }
}

/** Let's Encrypt: `... retry after 2026-01-01 00:18:15 UTC: see https://...`. */
function retryAtInText(detail: string, now: number): Date | undefined {
  const [, date, time] = /retry after (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d) ?(?:UTC|Z)/.exec(detail) ?? []
  const instant = date === undefined || time === undefined ? Number.NaN : Date.parse(`${date}T${time}Z`)
  if (Number.isNaN(instant)) return undefined
  return new Date(Math.min(Math.max(instant, now), now + longestRetryAfterMs))
}

function firstUrl(text: string, accept: (url: string) => boolean): string | undefined {
  const urls = text.match(/https:\/\/[^\s"'<>]{1,2000}/g) ?? []
  return urls.map((url) => url.replace(/[.,;:)]+$/, '')).find((url) => accept(url) && isWebUrl(url))
}

function isWebUrl(text: string): boolean {
  return text.length <= 2048 && /^https?:\/\/[\x21-\x7e]+$/.test(text) && URL.canParse(text)
}

function isObject(data: unknown): data is object {
  return typeof data === 'object' && data !== null && !Array.isArray(data)
}
