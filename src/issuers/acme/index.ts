/**
 * Certificates from ACME CAs: Let's Encrypt and others. Sub-path export `evercert/issuers/acme`.
 *
 * @module
 */
export { acmeIssuer } from './acme-issuer.js'
export type { AcmeIssuer, AcmeIssuerOptions } from './acme-issuer.js'
export type { AcmeAccount } from './account.js'
export { googleTrustServices, letsEncrypt, zeroSsl } from './directories.js'
export type { AcmeDirectories } from './directories.js'
export type { ProfileChoice } from './profile.js'
export type { PreflightOptions, ResolveAddresses } from '../../solvers/preflight.js'
