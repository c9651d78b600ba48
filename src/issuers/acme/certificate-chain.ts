/**
 * Downloads a chain, and chooses among those the CA has. RFC 8555 section 7.4.2.
 *
 * @module
 */
import { readCertificates } from '../../core/certificate-bundle.js'
import type { AccountSession } from './account.js'
import type { RequestContext } from './acme-transport.js'
import { linkTargets } from './link-header.js'
import type { ResourceReader } from './resources.js'

/** What is wanted of the chain. */
export interface ChainRequest {
  readonly url: string
  readonly what: string
  readonly orderUrl: string
  /** Common name of the root, or SHA-256 fingerprint of any certificate in the chain. */
  readonly preferredChain: string | undefined
}

const maxAlternates = 20

/** The preferred chain, else the CA's default one. PEM as the CA sent it. */
export async function downloadChain(
  request: ChainRequest,
  session: AccountSession,
  read: ResourceReader,
  context: RequestContext,
): Promise<string> {
  const { what, orderUrl, preferredChain } = request
  const get = (url: string): ReturnType<typeof session.signer.send> =>
    session.signer.send(
      { url, what, orderUrl, payload: null, account: session.url, repeatable: true, answer: 'chain' },
      context,
    )
  const first = await get(request.url)
  if (preferredChain === undefined || matches(first.text, preferredChain)) return first.text
  const alternates = linkTargets(first.headers['link'], 'alternate', request.url).slice(0, maxAlternates)
  for (const target of alternates) {
    const { text } = await get(read.url(target, what))
    if (matches(text, preferredChain)) return text
  }
  context.logger.warn('the CA has no such chain, its default is used', {
    preferredChain,
    alternates: alternates.length,
  })
  return first.text
}

function matches(pem: string, preferred: string): boolean {
  let certificates
  try {
    certificates = readCertificates(pem)
  } catch {
    // Damaged chains are refused where they are checked, with the right words.
    return false
  }
  const fingerprint = preferred.replaceAll(':', '').toLowerCase()
  return (
    certificates.some((certificate) => certificate.fingerprintSha256 === fingerprint) ||
    // The root itself is not sent: its name is the last certificate's issuer.
    certificates.at(-1)?.issuerName === preferred
  )
}
