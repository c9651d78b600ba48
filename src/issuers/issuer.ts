/**
 * The contract of issuers: whoever turns a certificate signing request into a certificate.
 *
 * @module
 */
import type { CertificateTraits } from '../core/certificate-bundle.js'
import type { OperationContext } from '../core/context.js'
import type { Identifier } from '../core/identifier.js'
import type { Random } from '../core/random.js'
import type { CertificateId, RenewalInfo } from '../core/renewal-info.js'
import type { CertStore } from '../stores/cert-store.js'

/** What an issuer is asked for. It never sees the certificate's private key. */
export interface IssueRequest {
  /** Name of the managed certificate; unique in the store. */
  readonly certificate: string
  /**
   * Names this one issuance. Persisted before the first call and given again after a crash: calls with the same key
   * MUST NOT lead to a second certificate where the CA lets that be avoided.
   */
  readonly idempotencyKey: string
  /** DER PKCS#10. */
  readonly csr: Uint8Array
  readonly identifiers: readonly Identifier[]
  /** The certificate this one takes the place of, when the same issuer made it. RFC 9773 section 5. */
  readonly replaces?: CertificateId | undefined
  /** CA profile of this certificate. @defaultValue the issuer's own */
  readonly profile?: string | undefined
}

/** What an issuer returns: PEM as the CA sent it. evercert checks and re-encodes it before anything is stored. */
export interface IssuedChain {
  /** Leaf and intermediates, PEM. */
  readonly chainPem: string
  /** Roots (PEM) that the chain must end at, when the issuer knows them. */
  readonly trustedRoots?: string | undefined
  /** The profile the CA used, when it said so. */
  readonly profile?: string | undefined
}

/** Reasons of RFC 5280 section 5.3.1 that public CAs accept. */
export type RevocationReason =
  'unspecified' | 'keyCompromise' | 'affiliationChanged' | 'superseded' | 'cessationOfOperation'

/** What an issuer may use besides its options. */
export interface IssuerContext extends OperationContext {
  /** For accounts, orders and whatever else must survive a crash: key spaces `accounts/`, `orders/`, `challenges/`. */
  readonly store: CertStore
  /** For jitter; never for keys. */
  readonly random: Random
}

/**
 * Obtains certificates.
 *
 * - `issue` MUST return a chain for exactly the identifiers and the key of the request, leaf first.
 * - A failure MUST be a {@link CertError} whose `retryable` and `retryAt` tell the truth, or the abort reason.
 * - After a failure or an abort nothing that was put up for validation stays behind.
 *
 * Test yours with `issuerContract` from `evercert/testing`.
 */
export interface Issuer {
  /** Stable id of this *configuration*; part of storage keys. Staging and production MUST differ. */
  readonly id: string
  /**
   * A digest of those settings whose change can mend a failure that waits for a person: contact, account binding, solvers,
   * profile. evercert does not wait for a failure of other settings.
   *
   * @defaultValue the settings never change
   */
  readonly settingsDigest?: string | undefined
  /** Whether this issuer can certify all of these. A string says why not. @defaultValue yes */
  supports?(identifiers: readonly Identifier[]): true | string
  /**
   * What its certificates have besides the identifiers, as the caller configured it: evercert refuses a certificate that
   * has anything else. MUST NOT depend on what a CA answers.
   *
   * @defaultValue what a TLS server needs, and no names but the identifiers
   */
  traits?(request: Pick<IssueRequest, 'certificate' | 'profile'>): CertificateTraits
  issue(request: IssueRequest, context: IssuerContext): Promise<IssuedChain>
  /** `undefined` when the CA offers no renewal information. RFC 9773. */
  renewalInfo?(certificatePem: string, context: IssuerContext): Promise<RenewalInfo | undefined>
  revoke?(certificatePem: string, reason: RevocationReason, context: IssuerContext): Promise<void>
}
