/**
 * What a file of `pemFilesDeployer` holds: parts of the certificate, the roots to trust, or a text.
 *
 * @module
 */
import { readCertificates, type CertificateBundle } from '../core/certificate-bundle.js'
import type { OperationContext } from '../core/context.js'
import { encodePem } from '../core/pem.js'
import { assertFunction, assertOptions } from '../internal/options.js'
import { assertExtraPem, holdsKey, pemPartNames, renderPem, type PemPart } from '../internal/pem-layout.js'

/** Roots (PEM) to be written; asked for once a day at least, and written anew when they have changed. */
export interface TrustBundlePart {
  readonly trustBundle: (context: OperationContext) => string | Promise<string>
}

/** A text to be written as it is, such as settings of the program that reads the certificate. */
export interface TextPart {
  readonly text: string
}

/** A part of the certificate, the roots to trust, or a text. */
export type PemFilePart = PemPart | TrustBundlePart | TextPart

const maxTextLength = 65_536

/** Checks and copies. @throws `TypeError` */
export function contentOption(value: readonly PemFilePart[]): readonly PemFilePart[] {
  if (!Array.isArray(value) || value.length === 0) throw new TypeError('"files.content" option must be a list of parts')
  return value.map((part: PemFilePart) => {
    if (typeof part !== 'object') {
      if (pemPartNames.includes(part)) return part
      throw new TypeError(
        `"files.content" option: unknown part ${JSON.stringify(part)}; known are ${pemPartNames.join(', ')}`,
      )
    }
    assertOptions(part, ['pem', 'trustBundle', 'text'], '"files.content" option')
    if (Object.keys(part).length !== 1) throw new TypeError('"files.content" option: a part is one thing')
    if ('trustBundle' in part) {
      assertFunction(part.trustBundle, 'files.content.trustBundle')
      return { trustBundle: part.trustBundle }
    }
    if ('text' in part) {
      if (typeof part.text === 'string' && part.text.length <= maxTextLength && !part.text.includes('-----BEGIN')) {
        return { text: part.text }
      }
      throw new TypeError('"files.content.text" option must be a text without PEM, of at most 64 kB')
    }
    assertExtraPem(part.pem, 'files.content')
    return { pem: part.pem }
  })
}

/** Whether a file with these parts holds the private key. */
export function contentHoldsKey(parts: readonly PemFilePart[]): boolean {
  return holdsKey(parts.filter(isPemPart))
}

/** Whether a file with these parts waits for the roots to trust. */
export function contentHoldsTrust(parts: readonly PemFilePart[]): boolean {
  return parts.some((part) => typeof part === 'object' && 'trustBundle' in part)
}

/** Text of a file with these parts, in this order. @throws {@link CertificateError} when the roots to trust are none */
export async function renderContent(
  bundle: CertificateBundle,
  parts: readonly PemFilePart[],
  context: OperationContext,
): Promise<string> {
  const texts: string[] = []
  for (const part of parts) {
    if (isPemPart(part)) texts.push(renderPem(bundle, [part]))
    else if ('text' in part) texts.push(part.text)
    else {
      const roots = readCertificates(await part.trustBundle(context), 'the trust bundle')
      texts.push(...roots.map(({ der }) => encodePem('CERTIFICATE', der)))
    }
  }
  return texts.join('')
}

function isPemPart(part: PemFilePart): part is PemPart {
  return typeof part !== 'object' || 'pem' in part
}
