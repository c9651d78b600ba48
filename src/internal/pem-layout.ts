/**
 * The PEM files servers read, written anew from DER: one newline after each block and no blank line anywhere.
 *
 * @module
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { CertificateBundle } from '../core/certificate-bundle.js'
import { encodePem, parsePem } from '../core/pem.js'
import { CertificateError } from '../errors.js'

/**
 * What a PEM file can hold: the leaf, the intermediates, both (`fullchain`), or the private key (PKCS#8). Anything else,
 * such as DH parameters, is given as PEM: `{ pem: '-----BEGIN DH PARAMETERS-----\n...' }`.
 */
export type PemPart = 'certificate' | 'chain' | 'fullchain' | 'key' | { readonly pem: string }

/** The names a {@link PemPart} can have. */
export const pemPartNames: readonly ['certificate', 'chain', 'fullchain', 'key'] = [
  'certificate',
  'chain',
  'fullchain',
  'key',
]

/** Text of a file with these parts, in this order. */
export function renderPem(bundle: CertificateBundle, parts: readonly PemPart[]): string {
  return parts.map((part) => reencode(partText(bundle, part))).join('')
}

/** Whether a file with these parts holds the private key. */
export function holdsKey(parts: readonly PemPart[]): boolean {
  return parts.includes('key')
}

/**
 * The leaf of a bundle, after a check that the key is its own: no target is touched for the sake of a pair that is none.
 *
 * @throws {@link CertificateError} `ERR_CERT_INVALID`, `ERR_CERT_KEY_MISMATCH`
 */
export function checkedLeaf(bundle: CertificateBundle): X509Certificate {
  const invalid = (why: string): CertificateError =>
    new CertificateError('ERR_CERT_INVALID', `certificate ${bundle.name} ${why}`)
  const [block, second] = parsePem(bundle.certificatePem)
  if (block?.label !== 'CERTIFICATE' || second !== undefined) throw invalid('is not one PEM certificate')
  const leaf = new X509Certificate(block.der)
  if (leaf.fingerprint256.replaceAll(':', '').toLowerCase() !== bundle.fingerprintSha256) {
    throw invalid('is not the one its fingerprint names')
  }
  if (!leaf.checkPrivateKey(createPrivateKey(bundle.privateKey.exportPem()))) {
    throw new CertificateError('ERR_CERT_KEY_MISMATCH', `the private key of ${bundle.name} is not its certificate's`)
  }
  return leaf
}

/** Checks PEM that a caller adds to files, such as DH parameters. @throws `TypeError` that names the option */
export function assertExtraPem(value: unknown, option: string): asserts value is string {
  const wrong = new TypeError(`"${option}" option must be PEM without certificates and keys, at most 16 kB`)
  if (typeof value !== 'string' || value.length > 16_384) throw wrong
  let labels: readonly string[]
  try {
    labels = parsePem(value).map(({ label }) => label)
  } catch {
    throw wrong
  }
  if (labels.length === 0 || labels.some((label) => /CERTIFICATE|PRIVATE KEY/.test(label))) throw wrong
}

function partText(bundle: CertificateBundle, part: PemPart): string {
  if (typeof part === 'object') return part.pem
  if (part === 'key') return bundle.privateKey.exportPem()
  if (part === 'certificate') return bundle.certificatePem
  return part === 'chain' ? bundle.chainPem : bundle.certificatePem + bundle.chainPem
}

function reencode(pem: string): string {
  return parsePem(pem)
    .map(({ label, der }) => encodePem(label, der))
    .join('')
}
