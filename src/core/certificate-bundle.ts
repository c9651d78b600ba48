/**
 * What deployers receive, and the strict check that every certificate passes before it is stored.
 *
 * @module
 */
import { CertificateError } from '../errors.js'
import { identifierKey, sameIdentifiers, type Identifier } from './identifier.js'
import { encodePem, parsePem } from './pem.js'
import { publicKeyInfo, type PrivateKeyMaterial } from './private-key.js'
import {
  anyExtendedKeyUsageOid,
  clientAuthOid,
  parseCertificate,
  printable,
  serverAuthOid,
  type ParsedCertificate,
} from './x509.js'

/** A certificate with its chain and key: what is deployed. */
export interface CertificateBundle {
  /** Name of the managed certificate. */
  readonly name: string
  readonly identifiers: readonly Identifier[]
  /** The leaf alone: one PEM block. */
  readonly certificatePem: string
  /** Intermediates in order, leaf and root excluded; may be empty. */
  readonly chainPem: string
  /** Leaf and intermediates: what most servers want. */
  readonly fullChainPem: string
  readonly privateKey: PrivateKeyMaterial
  /** SHA-256 of the leaf's DER, lower-case hex without colons. */
  readonly fingerprintSha256: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** {@link Issuer.id} of the issuer it came from. */
  readonly issuerId: string
  /** `true` for a self-signed stand-in that only lets a server start. */
  readonly placeholder: boolean
}

/** A chain that passed {@link checkIssuedChain}: re-encoded from DER, leaf first. */
export interface CheckedChain {
  readonly certificatePem: string
  readonly chainPem: string
  readonly leaf: ParsedCertificate
}

/** What a certificate has besides its identifiers, by configuration and never by what the CA answers. */
export interface CertificateTraits {
  /**
   * subjectAltName entries of other types, each exactly once: `uri:spiffe://cluster.local/agent`,
   * `email:ops@example.com`.
   *
   * @defaultValue none
   */
  readonly otherNames?: readonly string[] | undefined
  /** What TLS must accept it for. @defaultValue 'server' */
  readonly purpose?: 'server' | 'client' | 'server-and-client' | undefined
}

/** What {@link checkIssuedChain} compares with. */
export interface ChainExpectation {
  /** DER SubjectPublicKeyInfo of the key the certificate was asked for. */
  readonly publicKeyInfo: Uint8Array
  readonly identifiers: readonly Identifier[]
  /** What the certificate has besides its identifiers. @defaultValue a TLS server's, without other names */
  readonly traits?: CertificateTraits | undefined
  /** Epoch milliseconds. */
  readonly now: number
  /**
   * Roots (PEM) the chain must end at. Without them the chain must hold at least the leaf's issuer.
   *
   * @defaultValue none
   */
  readonly trustedRoots?: string | undefined
}

/** A chain of more, or larger, is no TLS chain: it would not fit the targets' buffers. */
const maxChainBytes = 100_000
const maxCertificates = 10
/** CAs back-date; a clock that runs late still gets its certificate. */
const clockSkewMs = 5 * 60_000

/**
 * Checks what an issuer returned, before anything is stored: it is PEM of certificates only, the leaf holds our key, has
 * exactly the names asked for, is valid now, may serve TLS, and the chain is in order and complete.
 *
 * Accepted and put right: CRLF, text between blocks, duplicates, a wrong order that has only one right one, an appended
 * root. Everything is written anew from DER.
 *
 * @throws {@link CertificateError} `ERR_CERT_INVALID`, `ERR_CERT_KEY_MISMATCH`, `ERR_CERT_NAME_MISMATCH`,
 *   `ERR_CERT_EXPIRED` or `ERR_CERT_CHAIN`.
 */
export function checkIssuedChain(pem: string, expected: ChainExpectation): CheckedChain {
  const certificates = readCertificates(pem)
  const roots = expected.trustedRoots === undefined ? [] : readCertificates(expected.trustedRoots, 'trustedRoots')
  const leaf = findLeaf(certificates, expected.publicKeyInfo)
  checkLeaf(leaf, expected)
  const chain = buildChain(leaf, certificates, roots, expected.now)
  return {
    certificatePem: encodePem('CERTIFICATE', leaf.der),
    chainPem: chain.map((certificate) => encodePem('CERTIFICATE', certificate.der)).join(''),
    leaf,
  }
}

/**
 * Reads every certificate of a PEM text, each once.
 *
 * @param what - begins the message: `the issuer's answer` by default
 * @throws {@link CertificateError} `ERR_CERT_INVALID`
 */
export function readCertificates(pem: string, what = "the issuer's answer"): readonly ParsedCertificate[] {
  const invalid = (why: string, cause?: unknown): CertificateError =>
    new CertificateError('ERR_CERT_INVALID', `${what} ${why}`, { cause })
  if (typeof pem !== 'string') throw invalid('is not text')
  if (pem.length > maxChainBytes) throw invalid(`is longer than ${String(maxChainBytes)} bytes`)
  let blocks
  try {
    blocks = parsePem(pem)
  } catch (cause) {
    throw invalid('is not PEM', cause)
  }
  if (blocks.length === 0) throw invalid('holds no PEM certificate (an error page, perhaps?)')
  if (blocks.length > maxCertificates) throw invalid(`holds more than ${String(maxCertificates)} certificates`)
  const foreign = blocks.find(({ label }) => label !== 'CERTIFICATE')
  if (foreign !== undefined) throw invalid(`holds a ${JSON.stringify(foreign.label)} block`)
  const seen = new Map<string, ParsedCertificate>()
  for (const { der } of blocks) {
    try {
      const certificate = parseCertificate(der)
      if (!certificate.der.equals(der)) throw new Error('trailing bytes after the certificate')
      seen.set(certificate.fingerprintSha256, certificate)
    } catch (cause) {
      throw invalid('holds a block that is no X.509 certificate', cause)
    }
  }
  return [...seen.values()]
}

/** Puts a stored or checked chain and its key together. @internal */
export function createBundle(parts: {
  readonly name: string
  readonly certificatePem: string
  readonly chainPem: string
  readonly privateKey: PrivateKeyMaterial
  readonly issuerId: string
  readonly placeholder: boolean
}): CertificateBundle {
  const stored = `the stored certificate of ${parts.name}`
  const [leaf, second] = readCertificates(parts.certificatePem, stored)
  if (leaf === undefined || second !== undefined) {
    throw new CertificateError('ERR_CERT_INVALID', `${stored} must be one certificate`)
  }
  if (!leaf.publicKeyInfo.equals(publicKeyInfo(parts.privateKey))) {
    throw new CertificateError('ERR_CERT_KEY_MISMATCH', `the stored key of ${parts.name} is not its certificate's`)
  }
  // Targets read PEM in ways of their own (a blank line ends HAProxy's): they get what was written anew from DER.
  const certificatePem = encodePem('CERTIFICATE', leaf.der)
  const chain = parts.chainPem === '' ? [] : readCertificates(parts.chainPem, `the stored chain of ${parts.name}`)
  const chainPem = chain.map((certificate) => encodePem('CERTIFICATE', certificate.der)).join('')
  return Object.freeze({
    name: parts.name,
    identifiers: leaf.identifiers,
    certificatePem,
    chainPem,
    fullChainPem: certificatePem + chainPem,
    privateKey: parts.privateKey,
    fingerprintSha256: leaf.fingerprintSha256,
    notBefore: leaf.notBefore,
    notAfter: leaf.notAfter,
    issuerId: parts.issuerId,
    placeholder: parts.placeholder,
  })
}

function findLeaf(certificates: readonly ParsedCertificate[], wanted: Uint8Array): ParsedCertificate {
  const leaves = certificates.filter(({ publicKeyInfo: info }) => info.equals(wanted))
  const [leaf, second] = leaves
  if (leaf === undefined) {
    throw new CertificateError('ERR_CERT_KEY_MISMATCH', 'no certificate in the answer holds the key that was sent')
  }
  if (second !== undefined) {
    throw new CertificateError('ERR_CERT_CHAIN', 'the answer holds two certificates for the same key')
  }
  return leaf
}

function checkLeaf(leaf: ParsedCertificate, expected: ChainExpectation): void {
  const { otherNames = [], purpose = 'server' } = expected.traits ?? {}
  if (!sameTexts(leaf.otherNames, otherNames) || !sameIdentifiers(leaf.identifiers, expected.identifiers)) {
    const list = (identifiers: readonly Identifier[], others: readonly string[]): string =>
      [...identifiers.map(identifierKey).sort(), ...others.map(printable)].join(', ').slice(0, 500)
    throw new CertificateError(
      'ERR_CERT_NAME_MISMATCH',
      `the certificate is for ${list(leaf.identifiers, leaf.otherNames) || 'no names'}; asked for were ${list(expected.identifiers, otherNames)}`,
    )
  }
  checkValidity(leaf, expected.now)
  if (leaf.isCa) throw new CertificateError('ERR_CERT_INVALID', 'the certificate is a CA certificate')
  if (purpose !== 'client') checkUsage(leaf, serverAuthOid, 'servers (no serverAuth usage)')
  if (purpose !== 'server') checkUsage(leaf, clientAuthOid, 'clients (no clientAuth usage)')
  checkSignatureHash(leaf)
}

function checkUsage({ extendedKeyUsages: usages }: ParsedCertificate, wanted: string, whom: string): void {
  if (usages !== undefined && !usages.includes(wanted) && !usages.includes(anyExtendedKeyUsageOid)) {
    throw new CertificateError('ERR_CERT_INVALID', `the certificate is not for TLS ${whom}`)
  }
}

function sameTexts(one: readonly string[], other: readonly string[]): boolean {
  const [sorted, otherSorted] = [[...one].sort(), [...other].sort()]
  return sorted.length === otherSorted.length && sorted.every((text, index) => text === otherSorted[index])
}

/** TLS clients refuse these anywhere below the root. */
function checkSignatureHash({ signatureHash, subject }: ParsedCertificate): void {
  if (signatureHash === 'SHA-1' || signatureHash === 'MD5') {
    throw new CertificateError('ERR_CERT_INVALID', `certificate ${subject} is signed with ${signatureHash}`)
  }
}

function checkValidity({ notBefore, notAfter, subject }: ParsedCertificate, now: number): void {
  if (notAfter.getTime() <= now || notAfter <= notBefore) {
    throw new CertificateError('ERR_CERT_EXPIRED', `certificate ${subject} expired at ${notAfter.toISOString()}`)
  }
  if (notBefore.getTime() > now + clockSkewMs) {
    throw new CertificateError(
      'ERR_CERT_EXPIRED',
      `certificate ${subject} is not valid before ${notBefore.toISOString()}; is this machine's clock right?`,
    )
  }
}

/** Intermediates in order, root left out. */
function buildChain(
  leaf: ParsedCertificate,
  certificates: readonly ParsedCertificate[],
  roots: readonly ParsedCertificate[],
  now: number,
): readonly ParsedCertificate[] {
  const rest = new Set(certificates)
  rest.delete(leaf)
  const chain: ParsedCertificate[] = []
  let last = leaf
  let anchored = roots.some((root) => leaf.issuedBy(root))
  for (;;) {
    const issuers: ParsedCertificate[] = [...rest].filter((candidate) => candidate.isCa && last.issuedBy(candidate))
    // A cross-signed intermediate leads on; its self-signed twin ends the chain and is not sent.
    const next: ParsedCertificate | undefined = issuers.find(({ selfSigned }) => !selfSigned)
    if (issuers.some(({ selfSigned }) => selfSigned)) anchored ||= roots.length === 0
    if (next === undefined) break
    rest.delete(next)
    checkValidity(next, now)
    checkSignatureHash(next)
    chain.push(next)
    last = next
    anchored ||= roots.some((root) => next.issuedBy(root))
  }
  const stray = [...rest].find(({ selfSigned }) => !selfSigned)
  if (stray !== undefined) {
    throw new CertificateError('ERR_CERT_CHAIN', `certificate ${stray.subject} does not belong to the chain`)
  }
  if (!anchored && (roots.length > 0 || chain.length === 0)) {
    const missing = roots.length > 0 ? 'neither it nor a trusted root' : 'nothing in it'
    throw new CertificateError(
      'ERR_CERT_CHAIN',
      `the chain is not complete: ${missing} certifies ${last.subject} (issuer ${last.issuerName})`,
    )
  }
  return chain
}
