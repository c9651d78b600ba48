/**
 * Certificate downloads that a client must refuse, and two that it must cope with.
 *
 * @module
 */
import { generateKeyPairSync } from 'node:crypto'
import type { Identifier } from '../../core/identifier.js'
import { encodePem } from '../../core/pem.js'
import type { CertificateAuthority, Validity } from './certificate-authority.js'

/**
 * What is wrong with a download.
 *
 * - `other-key`: signed for a key that is not the request's
 * - `other-names`, `extra-name`, `missing-name`: not the names of the order (a single name that goes missing leaves none)
 * - `expired`, `not-yet-valid`: by the CA's clock
 * - `no-intermediate`, `wrong-order`, `duplicate-leaf`: the chain is cut, upside down, or starts twice
 * - `root-appended`: harmless, but wasteful
 * - `html`, `empty`: no PEM at all
 * - `private-key-inside`: a private key (of nobody) before the chain, which must not reach a certificate file
 * - `ca-true`: the leaf could sign certificates
 * - `comments-and-crlf`: a good chain with text between the blocks and CRLF line ends (RFC 7468 allows both)
 */
export type WrongCertificate =
  | 'other-key'
  | 'other-names'
  | 'extra-name'
  | 'missing-name'
  | 'expired'
  | 'not-yet-valid'
  | 'no-intermediate'
  | 'wrong-order'
  | 'html'
  | 'empty'
  | 'private-key-inside'
  | 'root-appended'
  | 'duplicate-leaf'
  | 'ca-true'
  | 'comments-and-crlf'

/** The certificate as it should have been. */
export interface RightCertificate {
  readonly certificatePem: string
  readonly chainPem: string
  readonly publicKeyInfo: Buffer
  readonly identifiers: readonly Identifier[]
  readonly validity: Validity
}

/** What goes over the wire instead: split as a caller of the library sees it, and joined as a download. */
export interface WrongDownload {
  readonly certificatePem: string
  readonly chainPem: string
  readonly contentType: string
}

const certificateChainType = 'application/pem-certificate-chain'
const day = 86_400_000

/** Makes the wrong download for a right certificate. `certificatePem + chainPem` is the body. */
export function wrongDownload(
  variant: WrongCertificate,
  right: RightCertificate,
  authority: CertificateAuthority,
  now: number,
): WrongDownload {
  const { certificatePem, chainPem, publicKeyInfo, identifiers, validity } = right
  const download = (leaf: string, chain: string, contentType = certificateChainType): WrongDownload => ({
    certificatePem: leaf,
    chainPem: chain,
    contentType,
  })
  const resigned = (change: { [Name in keyof Resigned]?: Resigned[Name] }): WrongDownload =>
    download(
      encodePem('CERTIFICATE', authority.signLeaf({ publicKeyInfo, identifiers, validity, ...change })),
      chainPem,
    )
  const lifetime = validity.notAfter - validity.notBefore

  switch (variant) {
    case 'other-key':
      return resigned({ publicKeyInfo: strayKey().publicKeyInfo })
    case 'other-names':
      return resigned({ identifiers: [{ type: 'dns', value: 'other.invalid' }] })
    case 'extra-name':
      return resigned({ identifiers: [...identifiers, { type: 'dns', value: 'extra.invalid' }] })
    case 'missing-name':
      return resigned({ identifiers: identifiers.slice(1) })
    case 'expired':
      return resigned({ validity: { notBefore: now - day - lifetime, notAfter: now - day } })
    case 'not-yet-valid':
      return resigned({ validity: { notBefore: now + day, notAfter: now + day + lifetime } })
    case 'ca-true':
      return resigned({ ca: true })
    case 'no-intermediate':
      return download(certificatePem, '')
    case 'wrong-order':
      return download(chainPem, certificatePem)
    case 'duplicate-leaf':
      return download(certificatePem, certificatePem + chainPem)
    case 'root-appended':
      return download(certificatePem, chainPem + authority.rootPem)
    case 'private-key-inside':
      return download(certificatePem, strayKey().privateKeyPem + chainPem)
    case 'html':
      return download('<!doctype html><title>502</title><h1>Bad gateway</h1>\n', '', 'text/html')
    case 'empty':
      return download('', '')
    case 'comments-and-crlf':
      return download(annotated('the leaf', certificatePem), annotated('the rest', chainPem))
  }
}

interface Resigned {
  readonly publicKeyInfo: Buffer
  readonly identifiers: readonly Identifier[]
  readonly validity: Validity
  readonly ca: boolean
}

function strayKey(): { publicKeyInfo: Buffer; privateKeyPem: string } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return {
    publicKeyInfo: publicKey.export({ type: 'spki', format: 'der' }),
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}

function annotated(comment: string, pem: string): string {
  return `# ${comment}\n\n${pem}`.replaceAll('\n', '\r\n')
}
