/**
 * What Route 53 answers when it does not do what it was asked, sorted into what that means for us.
 *
 * @module
 */

/**
 * - `throttled`: too many requests of this account.
 * - `busy`: a change of the same zone is still being worked on.
 * - `unavailable`: no answer, or one of the 5xx.
 * - `expired`: the credentials were good once.
 * - `credentials`: there are none, or nobody knows them.
 * - `denied`: the credentials are good, the policy is not.
 * - `moved`: a change batch did not fit what is there, because somebody else was faster.
 * - `refused`: a change batch, or another request, that would be refused again.
 * - `no-zone`, `no-change`: what was asked about does not exist.
 */
export type Route53FailureKind =
  | 'throttled'
  | 'busy'
  | 'unavailable'
  | 'expired'
  | 'credentials'
  | 'denied'
  | 'moved'
  | 'refused'
  | 'no-zone'
  | 'no-change'

/**
 * An error of Route 53 without what must not be in a log: no request, no header. It is the `cause` of what `route53Solver`
 * rejects with. Its message is the same for the same mistake: the id of the request, which AWS support asks for, is beside it.
 */
export class Route53Failure extends Error {
  override readonly name = 'Route53Failure'
  readonly kind: Route53FailureKind
  /** What was called: `ChangeResourceRecordSets`. */
  readonly action: string
  /** AWS's name of the error: `Throttling`, `AccessDenied`. */
  readonly awsCode: string
  /** HTTP status, if there was an answer. */
  readonly status: number | undefined
  readonly requestId: string | undefined

  constructor(options: {
    readonly kind: Route53FailureKind
    readonly action: string
    readonly awsCode: string
    readonly text: string
    readonly status?: number | undefined
    readonly requestId?: string | undefined
  }) {
    super(`${options.action}: ${options.awsCode}: ${options.text}`)
    this.kind = options.kind
    this.action = options.action
    this.awsCode = options.awsCode
    this.status = options.status
    this.requestId = options.requestId
  }
}

/** Something in the way that a person has to remove: no call has failed. The message says what it is. */
export class Obstacle extends Error {}

/** Nothing can be written for this name, so nothing of ours can be there. */
export class NoPlace extends Obstacle {}

const kinds: Readonly<Record<string, Route53FailureKind>> = {
  Throttling: 'throttled',
  ThrottlingException: 'throttled',
  ThrottledException: 'throttled',
  TooManyRequestsException: 'throttled',
  RequestLimitExceeded: 'throttled',
  PriorRequestNotComplete: 'busy',
  ExpiredToken: 'expired',
  ExpiredTokenException: 'expired',
  TokenRefreshRequired: 'expired',
  RequestExpired: 'expired',
  CredentialsProviderError: 'credentials',
  TokenProviderError: 'credentials',
  InvalidClientTokenId: 'credentials',
  UnrecognizedClientException: 'credentials',
  SignatureDoesNotMatch: 'credentials',
  IncompleteSignature: 'credentials',
  InvalidSignatureException: 'credentials',
  MissingAuthenticationToken: 'credentials',
  AccessDenied: 'denied',
  AccessDeniedException: 'denied',
  NotAuthorizedException: 'denied',
  NoSuchHostedZone: 'no-zone',
  NoSuchChange: 'no-change',
}

/** Of `InvalidChangeBatch`: what a read and a second try can mend. */
const movedTexts = /\bbut it already exists\b|\bbut it was not found\b|\bdo not match the current values\b/

/** AWS explains these with what was signed: headers, the session token among them. */
const signatureCodes: ReadonlySet<string> = new Set([
  'SignatureDoesNotMatch',
  'IncompleteSignature',
  'InvalidSignatureException',
])
const clockTexts = /\bSignature (?:expired|not yet current)\b/

function signatureText(kind: Route53FailureKind): string {
  return kind === 'unavailable'
    ? 'the clock of this machine is wrong'
    : 'the secret access key is not the one of the access key id, or a proxy has changed the request'
}

/** Reads whatever a client of the AWS SDK threw. */
export function readFailure(action: string, error: unknown): Route53Failure {
  const fields = (typeof error === 'object' && error !== null ? error : {}) as {
    readonly name?: unknown
    readonly code?: unknown
    readonly message?: unknown
    readonly messages?: unknown
    readonly $metadata?: { readonly httpStatusCode?: unknown; readonly requestId?: unknown }
  }
  const { httpStatusCode, requestId } = fields.$metadata ?? {}
  const status = typeof httpStatusCode === 'number' ? httpStatusCode : undefined
  const name = word(fields.name)
  const awsCode = status === undefined ? word(fields.code, name) : name
  const texts = Array.isArray(fields.messages) && fields.messages.length > 0 ? fields.messages : [fields.message]
  const text = stableText(texts.filter((each) => typeof each === 'string').join(' '))
  const kind = kindOf(awsCode, name, status, text)
  return new Route53Failure({
    kind,
    action,
    awsCode,
    text: signatureCodes.has(awsCode) ? signatureText(kind) : text,
    status,
    requestId: typeof requestId === 'string' ? requestId.slice(0, 100) : undefined,
  })
}

function kindOf(awsCode: string, name: string, status: number | undefined, text: string): Route53FailureKind {
  if (awsCode === 'InvalidChangeBatch') return movedTexts.test(text) ? 'moved' : 'refused'
  // The SDK sets its clock by the date of such an answer.
  if (signatureCodes.has(awsCode) && clockTexts.test(text)) return 'unavailable'
  const known = kinds[awsCode] ?? kinds[name]
  if (known !== undefined) return known
  if (status === 429) return 'throttled'
  // Without a status nothing came back (refused, reset, timed out); with a good one it broke off in the middle.
  return status === undefined || status < 400 || status >= 500 ? 'unavailable' : 'refused'
}

function word(value: unknown, otherwise = 'Error'): string {
  return typeof value === 'string' && /^[\w.-]{1,100}$/.test(value) ? value : otherwise
}

const uuid = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
const requestIds = new RegExp(`[,;(]?\\s*request ?id:?\\s*[\\w-]+\\)?|\\b${uuid}\\b`, 'gi')

/** The SDK tells whoever debugs it where to look. */
const sdkHint = /\s*Deserialization error: to see the raw response[^]*/

/** A new request id each time must not make a new error of the same mistake. */
function stableText(text: string): string {
  return text
    .replace(sdkHint, '')
    .replace(requestIds, '')
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, 1000)
}
