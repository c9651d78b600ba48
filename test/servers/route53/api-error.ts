/**
 * The refusals of the API, in the form and the words in which clients meet them.
 *
 * The reference shows `InvalidChangeBatch` as a root element with `Messages`; what arrives is the common form below, its
 * message a bracketed list. That is what SDKs show, and what callers match.
 *
 * @see https://docs.aws.amazon.com/Route53/latest/APIReference/CommonErrors.html
 */
import { element, xmlDocument } from './xml.js'

export const namespace = 'https://route53.amazonaws.com/doc/2013-04-01/'

const common = {
  ExpiredToken: [403, 'The security token included in the request is expired'],
  IncompleteSignature: [403, 'The request signature does not conform to AWS standards.'],
  InternalFailure: [500, 'The request processing has failed because of an unknown error, exception or failure.'],
  InvalidClientTokenId: [403, 'The security token included in the request is invalid.'],
  MalformedInput: [400, 'ChangeBatch is not valid, expected ChangeResourceRecordSetsRequest'],
  MissingAuthenticationToken: [403, 'Missing Authentication Token'],
  PriorRequestNotComplete: [400, 'The request was rejected because Route 53 was still processing a prior request.'],
  ServiceUnavailable: [503, 'Service is unavailable.'],
  SignatureDoesNotMatch: [
    403,
    'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
  ],
  Throttling: [400, 'Rate exceeded'],
  ThrottlingException: [400, 'Rate exceeded'],
} as const

/** Refusals that need no more than their name. */
export type CommonErrorCode = keyof typeof common

export class ApiError extends Error {
  readonly code: string
  readonly status: number

  constructor(code: string, status: number, message: string) {
    super(message)
    this.code = code
    this.status = status
  }
}

export function commonError(code: CommonErrorCode): ApiError {
  const [status, message] = common[code]
  return new ApiError(code, status, message)
}

export function invalidInput(message: string): ApiError {
  return new ApiError('InvalidInput', 400, message)
}

export function invalidChangeBatch(messages: readonly string[]): ApiError {
  return new ApiError('InvalidChangeBatch', 400, `[${messages.join(', ')}]`)
}

export function noSuchHostedZone(id: string): ApiError {
  return new ApiError('NoSuchHostedZone', 404, `No hosted zone found with ID: ${id}`)
}

export function noSuchChange(id: string): ApiError {
  return new ApiError('NoSuchChange', 404, `Could not find resource with ID: ${id}`)
}

export function errorDocument({ code, status, message }: ApiError, requestId: string): string {
  const type = status < 500 ? 'Sender' : 'Receiver'
  return xmlDocument(
    'ErrorResponse',
    namespace,
    element('Error', element('Type', type), element('Code', code), element('Message', message)),
    element('RequestId', requestId),
  )
}
