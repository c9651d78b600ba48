/**
 * Revokes what is stored.
 *
 * @module
 */
import { CertError } from '../errors.js'
import type { RevocationReason } from '../issuers/issuer.js'
import type { Environment } from './environment.js'
import { issuerContext } from './issue-certificate.js'
import type { CertificateSpec } from './managed-certificate.js'
import { loadState, recordOf } from './reconcile.js'
import { peekRecord } from './stored-records.js'

/** Has the issuer of the stored certificate revoke it. */
export async function revokeStored(
  spec: CertificateSpec,
  reason: RevocationReason,
  environment: Environment,
  signal: AbortSignal,
): Promise<void> {
  const record = recordOf(await loadState(spec, environment, signal, peekRecord))
  const issuer = spec.issuers.find(({ id }) => id === record?.issuerId)
  if (record === undefined || issuer?.revoke === undefined) {
    throw new CertError({
      code: 'ERR_PLUGIN_FAILED',
      message:
        record === undefined
          ? `no certificate is stored for ${spec.name}: there is nothing to revoke`
          : `issuer ${record.issuerId} of ${spec.name} is not configured, or cannot revoke`,
      retryable: false,
    })
  }
  await issuer.revoke(record.certificatePem, reason, issuerContext(environment, spec, issuer, signal))
}
