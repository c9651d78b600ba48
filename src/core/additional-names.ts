/**
 * Names in a certificate that no TLS server is reached by: URIs (SPIFFE, for one) and e-mail addresses.
 *
 * @module
 */

/** A subjectAltName entry that is no {@link Identifier}. RFC 5280 section 4.2.1.6. */
export interface AdditionalName {
  readonly type: 'uri' | 'email'
  readonly value: string
}

const maxLength = 1000
/** RFC 3986 characters, and something after the scheme. */
const uri = /^[a-z][a-z0-9+.-]*:[A-Za-z0-9._~:/?#[\]@!$&'()*+,;=%-]+$/
/** The addresses people have; quoted local parts are not among them. */
const email =
  /^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

/**
 * Reads `uri:spiffe://cluster.local/agent` or `email:ops@example.com`.
 *
 * @throws `TypeError` that quotes the name and says what is wrong with it
 */
export function parseAdditionalName(text: unknown): AdditionalName {
  const [, type, value = ''] = typeof text === 'string' ? (/^(uri|email):(.*)$/s.exec(text) ?? []) : []
  const pattern = type === 'uri' ? uri : email
  if ((type !== 'uri' && type !== 'email') || value.length > maxLength || !pattern.test(value)) {
    throw new TypeError(
      `additional name ${JSON.stringify(String(text).slice(0, 300))} must be "uri:" with an absolute URI, or "email:" with an address whose domain is in lower case`,
    )
  }
  return { type, value }
}

/** The form in which {@link ParsedCertificate.otherNames} has it. */
export function additionalNameKey({ type, value }: AdditionalName): string {
  return `${type}:${value}`
}
