/**
 * What the Secret is to hold.
 *
 * @module
 */
import type { CertificateBundle } from '../../core/certificate-bundle.js'
import { encodePem, parsePem } from '../../core/pem.js'
import { renderPem } from '../../internal/pem-layout.js'
import type { KubernetesSettings } from './kubernetes-options.js'

/** Entries in base64, and the metadata that goes with them. */
export interface SecretContent {
  readonly data: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  /** What of it must not be shown, in every form it may come back in. */
  readonly secrets: readonly string[]
}

/**
 * The same bundle, options and password give the same content, byte for byte.
 *
 * `tls.crt` begins with the leaf and `tls.key` with the key: Emissary reads the first PEM block only. There is no blank line
 * between the blocks of `tls-combined.pem` (cert-manager has one): a blank line ends a command of HAProxy's runtime API.
 *
 * @param keystorePassword - of this namespace, when a keystore is asked for
 */
export async function secretContent(
  bundle: CertificateBundle,
  { ca, combinedPem, keystore, labels, annotations }: KubernetesSettings,
  keystorePassword: string | undefined,
): Promise<SecretContent> {
  const key = renderPem(bundle, ['key'])
  const texts: Record<string, string> = { 'tls.crt': renderPem(bundle, ['fullchain']), 'tls.key': key }
  if (ca !== undefined) {
    texts['ca.crt'] = parsePem(ca)
      .map(({ label, der }) => encodePem(label, der))
      .join('')
  }
  if (combinedPem) texts['tls-combined.pem'] = renderPem(bundle, ['key', 'fullchain'])
  const data: Record<string, string> = {}
  for (const [entry, text] of Object.entries(texts)) data[entry] = Buffer.from(text).toString('base64')
  if (keystore !== undefined && keystorePassword !== undefined) {
    // Only who wants a keystore pays for loading pkijs.
    const { createKeystore } = await import('../../core/pkcs12.js')
    const bytes = await createKeystore(bundle, { password: keystorePassword, alias: keystore.alias })
    data['keystore.p12'] = bytes.toString('base64')
  }
  const keyLines = key.split('\n').filter((line) => line !== '' && !line.startsWith('-----'))
  const password = keystorePassword === undefined ? [] : [keystorePassword]
  return { data, labels, annotations, secrets: [...Object.values(data), ...keyLines, ...password] }
}
