/**
 * Options that are PEM certificates.
 *
 * @module
 */
import { X509Certificate } from 'node:crypto'
import { parsePem } from '../core/pem.js'

/** Checks that it is PEM of one or more certificates. @throws `TypeError` that names the option */
export function assertCertificates(value: string, option: string): void {
  let certificates: readonly X509Certificate[] = []
  try {
    certificates = parsePem(value).map((block) => new X509Certificate(block.der))
  } catch {
    // told below
  }
  if (certificates.length === 0)
    throw new TypeError(`"${option}" option must be PEM with one or more certificates, and nothing else`)
}
