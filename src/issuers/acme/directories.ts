/**
 * Directory URLs of public ACME CAs. What a CA can do is read from its directory at run time, not from here.
 *
 * @module
 */

/** Directory URLs of one CA. */
export interface AcmeDirectories {
  /** Certificates that clients trust. */
  readonly production: string
  /** For trying things out: generous limits, certificates that nobody trusts. */
  readonly staging: string
}

/**
 * Let's Encrypt. Free, no registration by hand, renewal information and profiles.
 *
 * @see {@link https://letsencrypt.org/docs/rate-limits/ | Rate limits}
 */
export const letsEncrypt: AcmeDirectories = Object.freeze({
  production: 'https://acme-v02.api.letsencrypt.org/directory',
  staging: 'https://acme-staging-v02.api.letsencrypt.org/directory',
})

/**
 * Google Trust Services. Needs `externalAccountBinding`; a key id and HMAC key can be used once, within seven days.
 *
 * @see {@link https://cloud.google.com/certificate-manager/docs/public-ca-tutorial | Public CA tutorial}
 */
export const googleTrustServices: AcmeDirectories = Object.freeze({
  production: 'https://dv.acme-v02.api.pki.goog/directory',
  staging: 'https://dv.acme-v02.test-api.pki.goog/directory',
})

/**
 * ZeroSSL. Needs `externalAccountBinding`; has no staging directory and is slow at times.
 *
 * @see {@link https://zerossl.com/documentation/acme/ | ACME documentation}
 */
export const zeroSsl: Pick<AcmeDirectories, 'production'> = Object.freeze({
  production: 'https://acme.zerossl.com/v2/DV90',
})
