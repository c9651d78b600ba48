/**
 * Error replies. RFC 8555 section 6.7, RFC 7807.
 *
 * @module
 */
import type { Identifier } from '../../core/identifier.js'

/** A problem document as it goes over the wire. */
export interface ProblemDocument {
  /** `urn:ietf:params:acme:error:...` */
  readonly type: string
  readonly detail: string
  readonly status: number
  readonly subproblems?: readonly Subproblem[] | undefined
  /** Accepted signature algorithms, beside `badSignatureAlgorithm`. */
  readonly algorithms?: readonly string[] | undefined
}

/** What is wrong with one of several identifiers. RFC 8555 section 6.7.1. */
export interface Subproblem {
  readonly type: string
  readonly detail: string
  readonly identifier?: Identifier | undefined
}

/** Extras of an error reply. */
export interface ProblemExtras {
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly subproblems?: readonly Subproblem[] | undefined
  readonly algorithms?: readonly string[] | undefined
}

/** Thrown while a request is handled; becomes the reply. */
export class Problem extends Error {
  override readonly name = 'Problem'
  readonly document: ProblemDocument
  readonly headers: Readonly<Record<string, string>>

  /** @param type - without the ACME prefix, or a whole URN */
  constructor(type: string, status: number, detail: string, { headers, ...members }: ProblemExtras = {}) {
    super(detail)
    this.document = { type: errorType(type), detail, status, ...members }
    this.headers = headers ?? {}
  }
}

/** `malformed` becomes `urn:ietf:params:acme:error:malformed`; a URN stays. */
export function errorType(type: string): string {
  return type.includes(':') ? type : `urn:ietf:params:acme:error:${type}`
}

/** 400 malformed. */
export function malformed(detail: string): Problem {
  return new Problem('malformed', 400, detail)
}

/** 404 malformed, as Boulder answers. */
export function notFound(detail: string): Problem {
  return new Problem('malformed', 404, detail)
}

/** 403 unauthorized. */
export function unauthorized(detail: string): Problem {
  return new Problem('unauthorized', 403, detail)
}
