/**
 * Download, revocation and renewal information of certificates. RFC 8555 sections 7.4.2 and 7.6, RFC 9773.
 *
 * @module
 */
import { identifierKey, isWildcard, baseName } from '../../core/identifier.js'
import { encodePem } from '../../core/pem.js'
import { signedBy } from './account-operations.js'
import { base64url, jsonObject } from './jws.js'
import { malformed, notFound, Problem, unauthorized } from './problem.js'
import { renewalInfoBody, renewalRetryAfterSeconds } from './renewal-info.js'
import { jsonReply, type QueryOperation, type SignedOperation } from './reply.js'
import { certificateUrl, type Account, type Resources, type Urls } from './resources.js'
import type { IssuedRecord, IssuingAuthority } from './test-authority.js'

/** The operations on certificates. */
export type CertificateOperations = Readonly<Record<'certificate' | 'revokeCert', SignedOperation>> & {
  readonly renewalInfo: QueryOperation
}

const keyCompromise = 1
/** RFC 5280 section 5.3.1; these are what Let's Encrypt takes, and affiliationChanged. */
const acceptedReasons = [0, keyCompromise, 3, 4, 5]

/** What can be done with a certificate once there is one. */
export function certificateOperations(
  resources: Resources,
  urls: Urls,
  authority: IssuingAuthority,
): CertificateOperations {
  const authorizedForAll = (account: Account, { identifiers }: IssuedRecord): boolean => {
    const granted = new Set(
      [...resources.authorizations.values()]
        .filter((item) => item.account === account && resources.authorizationStatus(item) === 'valid')
        .map(({ identifier, wildcard }) => `${identifierKey(identifier)} ${String(wildcard)}`),
    )
    return identifiers.every((identifier) =>
      granted.has(`${identifier.type}:${baseName(identifier)} ${String(isWildcard(identifier))}`),
    )
  }

  return {
    certificate(query) {
      const [certificateId = '', alternate] = query.segments
      const record = certificateId.includes('.') ? authority.recordOf(certificateId) : undefined
      const chains = record === undefined ? [] : [record.chainPem, ...record.alternateChainPems]
      const chain = chains[alternate === undefined ? 0 : Number(alternate)]
      if (record === undefined || chain === undefined || alternate === '0')
        throw notFound('there is no such certificate')
      if (resources.ownerOf(record) !== signedBy(query)) throw unauthorized('the certificate is of another account')
      if (query.payload.length > 0) throw malformed('POST-as-GET must have an empty payload')
      const url = certificateUrl(urls, record)
      const link = chains
        .map((_, index) => (index === 0 ? url : `${url}/${String(index)}`))
        .filter((other) => other !== query.url)
        .map((other) => `<${other}>;rel="alternate"`)
      return {
        status: 200,
        headers: { 'content-type': 'application/pem-certificate-chain', link },
        body: record.pem + chain,
        certificate: record,
      }
    },

    revokeCert(query) {
      const { certificate, reason = 0 } = jsonObject(query.payload.toString('utf8'), 'the payload')
      if (typeof certificate !== 'string') throw malformed('"certificate" must be a string')
      const record = authority.recordOf(encodePem('CERTIFICATE', base64url(certificate, 'certificate')))
      if (record === undefined) throw notFound('the certificate is not known')
      const byKey = query.account === undefined
      if (query.account === undefined) {
        const key = query.publicKey.key.export({ type: 'spki', format: 'der' })
        if (!key.equals(record.publicKeyInfo)) throw unauthorized('the request is not signed with the certificate key')
      } else if (resources.ownerOf(record) !== query.account && !authorizedForAll(query.account, record)) {
        throw unauthorized('the account has no authority over the certificate')
      }
      if (typeof reason !== 'number' || !acceptedReasons.includes(reason)) {
        throw new Problem('badRevocationReason', 400, `the reason must be one of ${acceptedReasons.join(', ')}`)
      }
      if (record.revoked !== undefined) throw new Problem('alreadyRevoked', 400, 'the certificate is revoked already')
      // Whoever holds the certificate's key has shown that it is out of the account's hands; Let's Encrypt says so too.
      authority.revokeCertificate(record.pem, byKey ? keyCompromise : reason)
      return { status: 200, headers: {}, body: '' }
    },

    renewalInfo({ segments: [certificateId = ''] }) {
      const suggestion = certificateId.includes('.') ? authority.renewalInfo(certificateId) : undefined
      if (suggestion === undefined) throw notFound('the certificate is not known')
      const { retryAfterSeconds = renewalRetryAfterSeconds } = suggestion
      return jsonReply(200, renewalInfoBody(suggestion), { 'retry-after': String(retryAfterSeconds) })
    },
  }
}
