/**
 * The `Authorization` header, whoever makes it.
 *
 * @module
 */
import type { OperationContext } from '../../core/context.js'
import type { HttpClient } from '../../internal/http.js'

/** What authentication works with. */
export interface LoginContext extends OperationContext {
  readonly http: HttpClient
  readonly deployer: string
}

/** Makes the `Authorization` header. */
export interface Authentication {
  /** `undefined` without authentication. */
  header(context: LoginContext): Promise<string | undefined>
  /** Marathon refused this header: whether there may be a better one. */
  forget(refused: string): boolean
  /** What must not be shown. */
  secrets(): readonly string[]
}

/** `token=` is understood by Marathon and by Admin Router; `Bearer` only by the latter. */
export function tokenHeader(token: string | undefined): string | undefined {
  return token === undefined ? undefined : `token=${token}`
}

/** Visible ASCII, as a header value has to be. */
export function isToken(value: unknown): value is string {
  return typeof value === 'string' && /^[\x21-\x7e]{8,16384}$/.test(value)
}
