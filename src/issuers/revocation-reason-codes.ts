/**
 * The numbers of revocation reasons, in ACME requests as in revocation lists.
 *
 * @module
 */
import type { RevocationReason } from './issuer.js'

/** CRLReason. RFC 5280 section 5.3.1. */
export const revocationReasonCodes: Readonly<Record<RevocationReason, number>> = {
  unspecified: 0,
  keyCompromise: 1,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
}
