/**
 * The PEM in an environment variable: written in one form, recognised in all that marathon-lb reads.
 *
 * @module
 */
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import type { CertificateBundle } from '../../core/certificate-bundle.js'
import { parsePem, type PemBlock } from '../../core/pem.js'
import { checkedLeaf, renderPem } from '../../internal/pem-layout.js'

/** The order of the PEM blocks; HAProxy takes both. */
export type PemOrder = 'certificate-first' | 'key-first'

/** What a variable is to hold. */
export interface WantedValue {
  readonly text: string
  /** Whether a value holds the same leaf, chain and key, however it is written. */
  matches(value: unknown): boolean
}

/**
 * The value for a bundle.
 *
 * @throws {@link CertificateError} `ERR_CERT_INVALID`, `ERR_CERT_KEY_MISMATCH` when the pair is none
 */
export function wantedValue(bundle: CertificateBundle, order: PemOrder): WantedValue {
  checkedLeaf(bundle)
  const text = renderPem(bundle, order === 'key-first' ? ['key', 'fullchain'] : ['fullchain', 'key'])
  const wanted = pairOf(text)
  return {
    text,
    matches: (value) =>
      value === text || (typeof value === 'string' && wanted !== undefined && pairOf(value) === wanted),
  }
}

/** Longest value that is looked into: nothing longer can be in an environment. */
const longestValue = 262_144
/** What OpenSSL reads in a file: a value whose newlines were lost, as DC/OS's own UI did, is no certificate to HAProxy. */
const block = /^-----BEGIN ([A-Z ]{1,40})-----\r?\n(?:[A-Za-z0-9+/=]{1,76}\r?\n)+-----END \1-----[ \t]*\r?$/gm

/**
 * Certificates in order, and the public half of the key, as one comparable text; `undefined` for a value HAProxy would not
 * serve. marathon-lb writes the variable with `echo -e`: a literal `\n` is a newline there.
 */
function pairOf(value: string): string | undefined {
  if (value.length > longestValue) return undefined
  const file = value.replaceAll(String.raw`\n`, '\n')
  if (file.replace(block, '').includes('-----')) return undefined
  try {
    const blocks = parsePem(file)
    const certificates = blocks.filter(({ label }) => label === 'CERTIFICATE')
    const [key, second] = blocks.filter(({ label }) => label.endsWith('PRIVATE KEY'))
    const [leaf] = certificates
    if (leaf === undefined || key === undefined || second !== undefined) return undefined
    if (!new X509Certificate(leaf.der).checkPrivateKey(privateKeyOf(key))) return undefined
    const publicKey = createPublicKey(privateKeyOf(key)).export({ type: 'spki', format: 'der' })
    return [...certificates.map(({ der }) => der), publicKey].map((der) => der.toString('base64')).join(' ')
  } catch {
    // OpenSSL's message may quote what it was given.
    return undefined
  }
}

function privateKeyOf({ label, der }: PemBlock): ReturnType<typeof createPrivateKey> {
  const types = { 'PRIVATE KEY': 'pkcs8', 'RSA PRIVATE KEY': 'pkcs1', 'EC PRIVATE KEY': 'sec1' } as const
  const type = types[label as keyof typeof types]
  if (type === undefined) throw new TypeError('unsupported kind of key')
  return createPrivateKey({ key: der, format: 'der', type })
}
