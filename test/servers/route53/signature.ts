/**
 * AWS Signature Version 4: who sent a request, and whether it is theirs.
 *
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 */
import { createHash, createHmac } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { commonError } from './api-error.js'
import type { PolicyDocument } from './policy.js'

/** Somebody with an access key. Fields may be changed at any time, to expire credentials or to take a right away. */
export interface Principal {
  accessKeyId: string
  secretAccessKey: string
  /** Must come with each request, if there is one. */
  sessionToken?: string | undefined
  /** @defaultValue false */
  expired?: boolean | undefined
  /** @defaultValue everything is allowed */
  policy?: PolicyDocument | undefined
  /** @defaultValue an IAM user */
  arn?: string | undefined
}

export interface SignedRequest {
  readonly method: string
  readonly url: URL
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

const authorizationForm =
  /^AWS4-HMAC-SHA256 Credential=([^/,]+)\/([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/

/** The access key of a request, right or wrong. */
export function accessKeyIdOf(headers: IncomingHttpHeaders): string | undefined {
  return authorizationForm.exec(headers.authorization ?? '')?.[1]
}

/** The principal that signed the request; throws an `ApiError` when nobody did. */
export function authenticate(request: SignedRequest, principals: readonly Principal[]): Principal {
  const { headers } = request
  if (headers.authorization === undefined) throw commonError('MissingAuthenticationToken')
  const [, accessKeyId, scope, signedHeaders, signature] = authorizationForm.exec(headers.authorization) ?? []
  if (scope === undefined || signedHeaders === undefined) throw commonError('IncompleteSignature')
  const principal = principals.find((other) => other.accessKeyId === accessKeyId)
  if (principal === undefined || headers['x-amz-security-token'] !== principal.sessionToken)
    throw commonError('InvalidClientTokenId')
  if (principal.expired === true) throw commonError('ExpiredToken')
  if (signatureOf(request, principal.secretAccessKey, scope, signedHeaders.split(';')) !== signature)
    throw commonError('SignatureDoesNotMatch')
  return principal
}

function signatureOf(request: SignedRequest, secret: string, scope: string, signedHeaders: readonly string[]): string {
  const { method, url, headers, body } = request
  const canonical = [
    method,
    url.pathname.split('/').map(encode).join('/'),
    [...url.searchParams]
      .map(([name, value]) => `${encode(name)}=${encode(value)}`)
      .sort()
      .join('&'),
    ...signedHeaders.map(
      (name) =>
        `${name}:${String(headers[name] ?? '')
          .trim()
          .replace(/ +/g, ' ')}`,
    ),
    '',
    signedHeaders.join(';'),
    sha256(body),
  ].join('\n')
  const toSign = ['AWS4-HMAC-SHA256', String(headers['x-amz-date']), scope, sha256(canonical)].join('\n')
  const key = scope.split('/').reduce<Buffer | string>((previous, part) => hmac(previous, part), `AWS4${secret}`)
  return hmac(key, toSign).toString('hex')
}

/** A path that is encoded already is encoded once more, except by S3. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}
