import { describe, expect, it } from 'vitest'
import { readFailure } from '../../../../src/solvers/route53/route53-failure.js'
import { assertNoSecrets } from '../../../../src/testing/recording-logger.js'
import { awsError } from '../../../support/fake-route53.js'

const moved = "[Tried to create resource record set [name='a.', type='TXT'] but it already exists]"

describe('readFailure', () => {
  it.each<[string, unknown]>([
    ['throttled', awsError('Throttling', 'Rate exceeded')],
    ['throttled', awsError('ThrottlingException')],
    ['throttled', awsError('Whatever', 'slow down', { status: 429 })],
    ['busy', awsError('PriorRequestNotComplete')],
    ['unavailable', awsError('InternalFailure', 'oops', { status: 500 })],
    ['unavailable', awsError('ServiceUnavailable', 'oops', { status: 503 })],
    [
      'unavailable',
      Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), { code: 'ECONNREFUSED', $metadata: {} }),
    ],
    ['unavailable', Object.assign(new Error('late'), { name: 'TimeoutError' })],
    ['unavailable', awsError('Error', 'aborted', { status: 200 })],
    ['unavailable', 'a text'],
    ['unavailable', undefined],
    ['expired', awsError('ExpiredToken', 'The security token included in the request is expired', { status: 403 })],
    ['expired', awsError('ExpiredTokenException', 'expired', { status: 403 })],
    ['expired', awsError('RequestExpired')],
    ['credentials', Object.assign(new Error('Could not load credentials'), { name: 'CredentialsProviderError' })],
    ['credentials', awsError('InvalidClientTokenId', 'unknown', { status: 403 })],
    ['credentials', awsError('SignatureDoesNotMatch', 'no', { status: 403 })],
    // The SDK corrects its clock by the date of this very answer.
    ['unavailable', awsError('SignatureDoesNotMatch', 'Signature expired: 20261125T1 is now earlier than 20261125T2')],
    [
      'unavailable',
      awsError('InvalidSignatureException', 'Signature not yet current: 20261125T1 is still later than 20261125T2'),
    ],
    ['denied', awsError('AccessDenied', 'not authorized', { status: 403 })],
    ['denied', awsError('AccessDeniedException', 'not authorized', { status: 403 })],
    ['no-zone', awsError('NoSuchHostedZone', 'none', { status: 404 })],
    ['no-change', awsError('NoSuchChange', 'none', { status: 404 })],
    ['moved', awsError('InvalidChangeBatch', moved)],
    ['moved', awsError('InvalidChangeBatch', 'x', { messages: [moved] })],
    [
      'moved',
      awsError(
        'InvalidChangeBatch',
        "Tried to delete resource record set [name='a.', type='TXT'] but it was not found",
      ),
    ],
    [
      'moved',
      awsError(
        'InvalidChangeBatch',
        "[Tried to delete resource record set [name='a.', type='TXT'] but the values provided do not match the current values]",
      ),
    ],
    ['refused', awsError('InvalidChangeBatch', 'RRSet with DNS name a. is not permitted in zone b.')],
    ['refused', awsError('InvalidInput', 'what?')],
  ])('%s: %s', (kind, error) => {
    expect(readFailure('GetChange', error)).toMatchObject({ kind, action: 'GetChange' })
  })

  it('reads the same for the same mistake, with the request id beside it', () => {
    const fail = (id: string) =>
      readFailure(
        'GetChange',
        awsError('AccessDenied', `no way (Service: Route53; Status Code: 403; Request ID: ${id})`),
      )
    const [one, other] = [fail('6a96ada9-ca89-11e8-8889-7146c770a10d'), fail('7b96ada9-ca89-11e8-8889-7146c770a10e')]
    expect(one.message).toBe(other.message)
    expect(one.message).toContain('AccessDenied')
    expect(one.requestId).toMatch(/^00000000-/)
    expect(one.requestId).not.toBe(other.requestId)
    const go = readFailure('x', awsError('Throttling', 'Rate exceeded\n\tstatus code: 400, request id: 6a96ada9-ca89'))
    expect(go.message).toBe('x: Throttling: Rate exceeded status code: 400')
  })

  it.each([
    [
      'SignatureDoesNotMatch',
      "The request signature we calculated does not match the signature you provided.\n\nThe Canonical String for this request should have been\n'GET\n/2013-04-01/hostedzone\n\nhost:route53.amazonaws.com\nx-amz-security-token:SECRET\n\nhost;x-amz-security-token\nSECRET'",
    ],
    [
      'IncompleteSignature',
      "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256 Credential=SECRET/x, Signature=SECRET",
    ],
    [
      'InvalidSignatureException',
      "'SECRET' not a valid key=value pair in Authorization header: 'AWS4-HMAC-SHA256 SECRET'.",
    ],
  ])('%s does not repeat the headers that AWS quotes', (code, message) => {
    const failure = readFailure('GetChange', awsError(code, message, { status: 403 }))
    expect(failure.kind).toBe('credentials')
    expect(failure.awsCode).toBe(code)
    assertNoSecrets(failure, ['SECRET'])
  })

  it('holds neither the request nor control characters nor a novel', () => {
    const secret = 'AKIASECRETSECRET'
    const error = Object.assign(awsError('Weird\nName', `a\u0000b\u001b[31m${'x'.repeat(5000)}`), {
      $request: { headers: { authorization: secret } },
      $response: { headers: { 'x-amz-security-token': secret } },
    })
    const failure = readFailure('GetChange', error)
    assertNoSecrets(failure, [secret])
    expect(failure.message).toMatch(/^[\x20-\x7e]{1,1100}$/)
    expect(failure.cause).toBeUndefined()
  })
})
