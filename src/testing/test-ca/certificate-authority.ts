/**
 * The keys of the test CA: a root, its intermediates, alternate roots, and the leaves they sign.
 *
 * @module
 */
import { randomBytes } from 'node:crypto'
import type { Identifier } from '../../core/identifier.js'
import { encodePem } from '../../core/pem.js'
import { createSigner, emptyName, randomSerial, signCertificate, type Signer } from './certificate.js'

/** From when until when, epoch milliseconds; both ends are inside. */
export interface Validity {
  readonly notBefore: number
  readonly notAfter: number
}

/** What a leaf says. */
export interface LeafTemplate {
  readonly publicKeyInfo: Buffer
  readonly identifiers: readonly Identifier[]
  readonly validity: Validity
  /** @defaultValue a random serial */
  readonly serial?: Buffer | undefined
  /** Marks the leaf as a CA, which no public CA does. @defaultValue false */
  readonly ca?: boolean | undefined
}

/** Roots, chains and signatures. */
export interface CertificateAuthority {
  readonly rootPem: string
  readonly alternateRootPems: readonly string[]
  /** The intermediates, issuer of the leaf first, root left out: what is served after the leaf. */
  readonly chainPem: string
  /** The same issuer, certified up to each of the alternate roots. */
  readonly alternateChainPems: readonly string[]
  /** `keyIdentifier` of the issuer of the leaves. */
  readonly keyIdentifier: Buffer
  /** @returns DER */
  signLeaf(template: LeafTemplate): Buffer
}

const year = 365.25 * 86_400_000

/** Makes new keys; the root is valid from a year before `now` (a test's clock may step back) to 40 years after. */
export function createCertificateAuthority(options: {
  readonly now: number
  readonly intermediates: number
  readonly alternateChains: number
}): CertificateAuthority {
  const { now, intermediates, alternateChains } = options
  // Two test CAs in one process must not be taken for each other: same names with other keys confuse chain builders.
  const label = randomBytes(3).toString('hex')
  const validity = { notBefore: now - year, notAfter: now + 40 * year }
  const certify = (subject: Signer, issuer: Signer): string =>
    encodePem(
      'CERTIFICATE',
      signCertificate(
        {
          subject: subject.name,
          publicKeyInfo: subject.publicKeyInfo,
          serial: randomSerial(),
          identifiers: [],
          ca: true,
          ...validity,
        },
        issuer,
      ),
    )

  const root = createSigner(`evercert test root ${label}`)
  const issuers = Array.from({ length: intermediates }, (_, index) =>
    createSigner(`evercert test intermediate ${String(index + 1)} ${label}`),
  )
  const leafIssuer = issuers.at(-1) ?? root
  /** All but the topmost intermediate: the same certificates whichever root the chain ends in. */
  const lower = issuers.slice(1).map((issuer, index) => certify(issuer, issuers[index] ?? root))
  const chainTo = (anchor: Signer): string => {
    const [topmost] = issuers
    return topmost === undefined ? '' : [certify(topmost, anchor), ...lower].reverse().join('')
  }
  const alternateRoots = Array.from({ length: alternateChains }, (_, index) =>
    createSigner(`evercert test alternate root ${String(index + 1)} ${label}`),
  )
  return {
    rootPem: certify(root, root),
    alternateRootPems: alternateRoots.map((alternate) => certify(alternate, alternate)),
    chainPem: chainTo(root),
    alternateChainPems: alternateRoots.map(chainTo),
    keyIdentifier: leafIssuer.keyIdentifier,
    signLeaf: ({ publicKeyInfo, identifiers, validity: { notBefore, notAfter }, serial, ca = false }) =>
      signCertificate(
        {
          subject: emptyName,
          publicKeyInfo,
          serial: serial ?? randomSerial(),
          notBefore,
          notAfter,
          identifiers,
          ca,
        },
        leafIssuer,
      ),
  }
}
