/**
 * Every error evercert throws, and the only place that defines codes.
 *
 * Misuse at construction is a `TypeError` that names the option; an abort rethrows `signal.reason` untouched;
 * everything else is a {@link CertError}.
 *
 * @module
 */
import type { Identifier } from './core/identifier.js'

const marker: symbol = Symbol.for('evercert.CertError')

/** Codes of {@link CertError}. Stable: branch on these, not on messages. */
export type CertErrorCode =
  | 'ERR_ACME_PROBLEM'
  | 'ERR_ACME_PROTOCOL'
  | 'ERR_ACME_RATE_LIMITED'
  | 'ERR_ACME_USER_ACTION_REQUIRED'
  | 'ERR_ACME_AUTHORIZATION_FAILED'
  | 'ERR_ACME_ORDER_TIMEOUT'
  | 'ERR_ACME_PROFILE_UNAVAILABLE'
  | 'ERR_CHALLENGE_NO_SOLVER'
  | 'ERR_CHALLENGE_FAILED'
  | 'ERR_CHALLENGE_PREFLIGHT'
  | 'ERR_CHALLENGE_PROPAGATION_TIMEOUT'
  | 'ERR_CERT_INVALID'
  | 'ERR_CERT_KEY_MISMATCH'
  | 'ERR_CERT_NAME_MISMATCH'
  | 'ERR_CERT_EXPIRED'
  | 'ERR_CERT_CHAIN'
  | 'ERR_STORE_CONFLICT'
  | 'ERR_STORE_CORRUPT'
  | 'ERR_STORE_SCHEMA'
  | 'ERR_STORE_UNAVAILABLE'
  | 'ERR_STORE_LOCK_LOST'
  | 'ERR_DEPLOY_REJECTED'
  | 'ERR_DEPLOY_UNAVAILABLE'
  | 'ERR_DEPLOY_VERIFY_FAILED'
  | 'ERR_HTTP_NETWORK'
  | 'ERR_HTTP_TIMEOUT'
  | 'ERR_HTTP_STATUS'
  | 'ERR_HTTP_BODY'
  | 'ERR_PLUGIN_FAILED'
  | 'ERR_ISSUERS_FAILED'
  | 'ERR_NOT_MANAGED'

/** What every {@link CertError} is made from. */
export interface CertErrorOptions {
  readonly code: CertErrorCode
  /** What failed, on what, and what to do. Never holds keys, tokens or credentials. */
  readonly message: string
  /** Whether a later attempt without a change of configuration can succeed. */
  readonly retryable: boolean
  /** Not before this instant (a `Retry-After` of the other side). */
  readonly retryAt?: Date | undefined
  readonly cause?: unknown
}

/**
 * Base of all errors. Recognise it with {@link CertError.isInstance}, which also holds across two installed copies
 * of the package; branch on `code`.
 *
 * @example
 *
 * ```ts
 * import { CertError, type AnyCertError } from 'evercert'
 *
 * function explain(error: unknown): string {
 *   if (!CertError.isInstance(error)) return 'not from evercert'
 *   return error.retryable ? `${error.code}: will be tried again` : `${error.code}: needs a person`
 * }
 * ```
 */
export class CertError extends Error {
  readonly code: CertErrorCode
  readonly retryable: boolean
  readonly retryAt: Date | undefined

  constructor(options: CertErrorOptions) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = new.target.name
    this.code = options.code
    this.retryable = options.retryable
    // A plug-in's `new Date('garbage')` is no instant.
    this.retryAt = Number.isFinite(options.retryAt?.getTime()) ? options.retryAt : undefined
    Object.defineProperty(this, marker, { value: true })
  }

  /** Whether `error` is a `CertError` of this or of another copy of evercert. */
  static isInstance(error: unknown): error is AnyCertError {
    return typeof error === 'object' && error !== null && marker in error
  }
}

/** A problem document, reduced to what evercert understood of it. RFC 7807, RFC 8555 section 6.7. */
export interface Problem {
  /** E.g. `urn:ietf:params:acme:error:rateLimited`. */
  readonly type: string
  readonly detail?: string | undefined
  readonly status?: number | undefined
  readonly instance?: string | undefined
  /** One entry per identifier that was refused. RFC 8555 section 6.7.1. */
  readonly subproblems?: readonly Subproblem[] | undefined
}

/** The part of a {@link Problem} that concerns one identifier. */
export interface Subproblem {
  readonly type: string
  readonly detail?: string | undefined
  readonly identifier?: Identifier | undefined
}

/** What an {@link AcmeError} adds. */
export interface AcmeErrorOptions extends CertErrorOptions {
  readonly problem?: Problem | undefined
  readonly orderUrl?: string | undefined
}

/** Something the CA said, or failed to say. */
export class AcmeError extends CertError {
  readonly problem: Problem | undefined
  readonly orderUrl: string | undefined

  constructor(options: AcmeErrorOptions) {
    super(options)
    this.problem = options.problem
    this.orderUrl = options.orderUrl
  }
}

/** `ERR_ACME_RATE_LIMITED`: too many requests of some kind. `retryAt` is the CA's, or the local guard's. */
export class RateLimitedError extends AcmeError {
  declare readonly code: 'ERR_ACME_RATE_LIMITED'
  constructor(options: Omit<AcmeErrorOptions, 'code' | 'retryable'>) {
    super({ ...options, code: 'ERR_ACME_RATE_LIMITED', retryable: true })
  }
}

/**
 * `ERR_ACME_USER_ACTION_REQUIRED`: a person must act (agree to new terms, unpause a name). Retried once a day at most.
 */
export class UserActionRequiredError extends AcmeError {
  declare readonly code: 'ERR_ACME_USER_ACTION_REQUIRED'
  /** Where the person has to go. Comes from the CA: show it, do not fetch it. */
  readonly instructionsUrl: string | undefined
  constructor(
    options: Omit<AcmeErrorOptions, 'code' | 'retryable'> & { readonly instructionsUrl?: string | undefined },
  ) {
    super({ ...options, code: 'ERR_ACME_USER_ACTION_REQUIRED', retryable: false })
    this.instructionsUrl = options.instructionsUrl
  }
}

/** One identifier the CA could not validate. */
export interface FailedAuthorization {
  readonly identifier: Identifier
  readonly challengeType?: string | undefined
  readonly problem?: Problem | undefined
}

/** `ERR_ACME_AUTHORIZATION_FAILED`: the CA could not validate one or more identifiers. */
export class AuthorizationFailedError extends AcmeError {
  declare readonly code: 'ERR_ACME_AUTHORIZATION_FAILED'
  readonly authorizations: readonly FailedAuthorization[]
  constructor(
    options: Omit<AcmeErrorOptions, 'code' | 'retryable'> & { readonly authorizations: readonly FailedAuthorization[] },
  ) {
    super({ ...options, code: 'ERR_ACME_AUTHORIZATION_FAILED', retryable: true })
    this.authorizations = options.authorizations
  }
}

/** A challenge that could not be set up, is not visible, or has no solver. */
export class ChallengeError extends CertError {
  readonly solver: string | undefined
  readonly identifier: Identifier
  readonly phase: 'select' | 'present' | 'wait' | 'preflight' | 'clean-up'
  constructor(
    options: CertErrorOptions & {
      readonly solver?: string | undefined
      readonly identifier: Identifier
      readonly phase: 'select' | 'present' | 'wait' | 'preflight' | 'clean-up'
    },
  ) {
    super(options)
    this.solver = options.solver
    this.identifier = options.identifier
    this.phase = options.phase
  }
}

/** `ERR_CERT_*`: a certificate that must not be used. The one in service stays. */
export class CertificateError extends CertError {
  declare readonly code:
    'ERR_CERT_INVALID' | 'ERR_CERT_KEY_MISMATCH' | 'ERR_CERT_NAME_MISMATCH' | 'ERR_CERT_EXPIRED' | 'ERR_CERT_CHAIN'
  constructor(code: CertificateError['code'], message: string, options: { readonly cause?: unknown } = {}) {
    super({ code, message, retryable: true, cause: options.cause })
  }
}

/** `ERR_STORE_*`: the store refused, lost or could not be reached. */
export class StoreError extends CertError {
  declare readonly code:
    'ERR_STORE_CONFLICT' | 'ERR_STORE_CORRUPT' | 'ERR_STORE_SCHEMA' | 'ERR_STORE_UNAVAILABLE' | 'ERR_STORE_LOCK_LOST'
  /** Name of the store. */
  readonly store: string
  readonly key: string | undefined
  /**
   * With `ERR_STORE_CORRUPT`: what is there, as far as the store can still tell, and a revision that `put` and `delete`
   * take for it. evercert keeps a copy before it replaces such a value; without this it leaves the value alone. Not
   * enumerable, because the bytes may hold a key.
   */
  declare readonly damaged: { readonly value: Uint8Array; readonly revision: string } | undefined
  constructor(options: {
    readonly code: StoreError['code']
    readonly message: string
    readonly store: string
    readonly key?: string | undefined
    readonly damaged?: { readonly value: Uint8Array; readonly revision: string } | undefined
    readonly retryAt?: Date | undefined
    readonly cause?: unknown
  }) {
    super({ ...options, retryable: options.code !== 'ERR_STORE_CORRUPT' && options.code !== 'ERR_STORE_SCHEMA' })
    this.store = options.store
    this.key = options.key
    Object.defineProperty(this, 'damaged', { value: options.damaged })
  }
}

/** `ERR_DEPLOY_*`: a target that refused, is away, or does not serve what it was given. */
export class DeployError extends CertError {
  declare readonly code: 'ERR_DEPLOY_REJECTED' | 'ERR_DEPLOY_UNAVAILABLE' | 'ERR_DEPLOY_VERIFY_FAILED'
  /** Name of the deployer. */
  readonly deployer: string
  constructor(options: {
    readonly code: DeployError['code']
    readonly message: string
    readonly deployer: string
    /** @defaultValue `true` unless rejected */
    readonly retryable?: boolean | undefined
    readonly retryAt?: Date | undefined
    readonly cause?: unknown
  }) {
    super({ ...options, retryable: options.retryable ?? options.code !== 'ERR_DEPLOY_REJECTED' })
    this.deployer = options.deployer
  }
}

/** `ERR_HTTP_*`: a request that got no usable answer. */
export class HttpError extends CertError {
  declare readonly code: 'ERR_HTTP_NETWORK' | 'ERR_HTTP_TIMEOUT' | 'ERR_HTTP_STATUS' | 'ERR_HTTP_BODY'
  readonly method: string
  /** Origin and path; the query is left out because it may hold secrets. */
  readonly url: string
  readonly status: number | undefined
  constructor(options: {
    readonly code: HttpError['code']
    readonly message: string
    readonly method: string
    readonly url: string
    readonly status?: number | undefined
    readonly retryable?: boolean | undefined
    readonly retryAt?: Date | undefined
    readonly cause?: unknown
  }) {
    super({ ...options, retryable: options.retryable ?? true })
    this.method = options.method
    this.url = options.url
    this.status = options.status
  }
}

/** `ERR_ISSUERS_FAILED`: every issuer of a certificate failed or has to wait. */
export class IssuersFailedError extends CertError {
  declare readonly code: 'ERR_ISSUERS_FAILED'
  /** One entry per issuer, in the order they were tried. */
  readonly failures: readonly { readonly issuer: string; readonly error: unknown }[]
  constructor(options: {
    readonly message: string
    readonly failures: readonly { readonly issuer: string; readonly error: unknown }[]
    readonly retryAt?: Date | undefined
  }) {
    super({ ...options, code: 'ERR_ISSUERS_FAILED', retryable: true, cause: options.failures.at(-1)?.error })
    this.failures = options.failures
  }
}

/** All errors, for an exhaustive `switch` on `code`. */
export type AnyCertError =
  | (AcmeError & {
      readonly code:
        'ERR_ACME_PROBLEM' | 'ERR_ACME_PROTOCOL' | 'ERR_ACME_ORDER_TIMEOUT' | 'ERR_ACME_PROFILE_UNAVAILABLE'
    })
  | RateLimitedError
  | UserActionRequiredError
  | AuthorizationFailedError
  | (ChallengeError & {
      readonly code:
        | 'ERR_CHALLENGE_NO_SOLVER'
        | 'ERR_CHALLENGE_FAILED'
        | 'ERR_CHALLENGE_PREFLIGHT'
        | 'ERR_CHALLENGE_PROPAGATION_TIMEOUT'
    })
  | CertificateError
  | StoreError
  | DeployError
  | HttpError
  | IssuersFailedError
  | (CertError & { readonly code: 'ERR_PLUGIN_FAILED' | 'ERR_NOT_MANAGED' })
