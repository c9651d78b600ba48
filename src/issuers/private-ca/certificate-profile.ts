/**
 * What a certificate may be used for: cfssl's three profiles.
 *
 * @module
 */
import type { CertificateTraits } from '../../core/certificate-bundle.js'
import { clientAuthOid, serverAuthOid } from '../../core/x509.js'

/** `server` and `client` for one side of TLS, `peer` for both. */
export type PrivateCaProfile = 'server' | 'client' | 'peer'

/** All {@link PrivateCaProfile} values. */
export const privateCaProfiles: readonly PrivateCaProfile[] = ['server', 'client', 'peer']

/** OIDs of the extended key usage extension. */
export const extendedKeyUsagesOf: Readonly<Record<PrivateCaProfile, readonly string[]>> = {
  server: [serverAuthOid],
  client: [clientAuthOid],
  peer: [serverAuthOid, clientAuthOid],
}

/** What {@link checkIssuedChain} has to find. */
export const purposeOf: Readonly<Record<PrivateCaProfile, CertificateTraits['purpose']>> = {
  server: 'server',
  client: 'client',
  peer: 'server-and-client',
}
