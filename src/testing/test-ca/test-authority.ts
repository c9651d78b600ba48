/**
 * A certificate authority without sockets, for simulations and unit tests. Exported from `evercert/testing`.
 *
 * @module
 */
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { systemClock, type Clock } from '../../core/clock.js'
import { sameIdentifiers, type Identifier } from '../../core/identifier.js'
import { encodePem, parsePem } from '../../core/pem.js'
import { createCertificateAuthority, type CertificateAuthority, type Validity } from './certificate-authority.js'
import { CertificateRequestError, parseCertificateRequest } from './certificate-request.js'
import { createSigner, randomSerial, serialOctets, signCertificate, type Signer } from './certificate.js'
import { checkOptions, nonNegative, positive, wholeNumber } from './check-options.js'
import { suggestRenewal, type RenewalSuggestion } from './renewal-info.js'
import { wrongDownload, type WrongCertificate, type WrongDownload } from './wrong-certificates.js'

/** A kind of certificate that can be asked for by name. draft-ietf-acme-profiles. */
export interface TestCaProfile {
  /** For people: what is special about it, or a URL. */
  readonly description: string
  /** Milliseconds. @defaultValue the CA's `lifetimeMs` */
  readonly lifetimeMs?: number | undefined
}

/** Options of {@link createTestAuthority}. */
export interface TestAuthorityOptions {
  /** Where validity starts from, and when renewal windows are past. @defaultValue `systemClock` */
  readonly clock?: Clock | undefined
  /** Life of a certificate, milliseconds, at least 1000. @defaultValue 90 days */
  readonly lifetimeMs?: number | undefined
  /** By name. An order that asks for none gets the CA's `lifetimeMs`. @defaultValue none */
  readonly profiles?: Readonly<Record<string, TestCaProfile>> | undefined
  /**
   * How long before its issuance a certificate's validity starts, milliseconds.
   *
   * @defaultValue 1 hour, as at Let's Encrypt, or a twentieth of the life if that is less
   */
  readonly backdateMs?: number | undefined
  /** Certificates between root and leaf, 0 to 10. @defaultValue 1 */
  readonly intermediates?: number | undefined
  /** Further roots that certify the same intermediates, 0 to 10. @defaultValue 0 */
  readonly alternateChains?: number | undefined
}

/** What to certify. An `IssueRequest` of evercert's `Issuer` interface fits. */
export interface TestIssueRequest {
  /** DER PKCS#10 request; signature and key are checked. */
  readonly csr: Uint8Array
  /** When given, the request must name exactly these. */
  readonly identifiers?: readonly Identifier[] | undefined
  readonly profile?: string | undefined
  /** The predecessor's ARI identifier. Recorded, not checked. */
  readonly replaces?: { readonly value: string } | undefined
  /** Overrides life and start for this one certificate. */
  readonly validity?: { readonly notBefore: Date; readonly notAfter: Date } | undefined
  /** Hands out a wrong certificate; the right one is in `certificates`. */
  readonly wrong?: WrongCertificate | undefined
}

/** A leaf and what follows it, both PEM. */
export interface TestIssuedChain {
  readonly certificatePem: string
  /** The intermediates; no root. */
  readonly chainPem: string
}

/** A {@link TestIssuedChain} with the key that was made for it. */
export interface TestKeyAndChain extends TestIssuedChain {
  /** PKCS#8. */
  readonly privateKeyPem: string
}

/** What to make a new key and a certificate for. */
export interface TestLeafRequest {
  readonly identifiers: readonly Identifier[]
  readonly profile?: string | undefined
  /** @defaultValue from now (less `backdateMs`) for the CA's `lifetimeMs` */
  readonly validity?: { readonly notBefore: Date; readonly notAfter: Date } | undefined
  /** @defaultValue 'ecdsa-p256' */
  readonly key?: 'ecdsa-p256' | 'ecdsa-p384' | 'rsa-2048' | undefined
}

/** One certificate that the CA has issued. */
export interface TestCertificate {
  /** The leaf. */
  readonly pem: string
  /** The intermediates. */
  readonly chainPem: string
  /** The same issuer up to each alternate root. */
  readonly alternateChainPems: readonly string[]
  /** Upper-case hexadecimal, as `X509Certificate.serialNumber` of `node:crypto` prints it: no sign octet. */
  readonly serial: string
  /** ARI identifier, sign octet kept. RFC 9773 section 4.1. */
  readonly certificateId: string
  readonly notBefore: Date
  readonly notAfter: Date
  readonly identifiers: readonly Identifier[]
  readonly profile: string | undefined
  /** ARI identifier of the predecessor that the order named. */
  readonly replaces: string | undefined
  /** `reason`: RFC 5280 section 5.3.1. */
  readonly revoked: { readonly at: Date; readonly reason: number } | undefined
}

/** A CA in memory. */
export interface TestAuthority {
  readonly rootPem: string
  readonly alternateRootPems: readonly string[]
  /** Everything issued, oldest first. */
  readonly certificates: readonly TestCertificate[]
  /** Signs a request. Rejects with an `Error` that says why when the request is bad or the profile unknown. */
  issue(request: TestIssueRequest): Promise<TestIssuedChain>
  /** Makes a key and signs a certificate for it: for tests that need a pair and do not care whence it comes. */
  issueWithNewKey(request: TestLeafRequest): Promise<TestKeyAndChain>
  /** A certificate signed by its own key, which no root vouches for. Not recorded. */
  selfSigned(request: Omit<TestLeafRequest, 'key'>): Promise<TestKeyAndChain>
  /**
   * What the CA suggests now. RFC 9773 section 4.2.
   *
   * @param certificate - PEM (the first block counts) or ARI identifier
   * @returns `undefined` for a certificate that is not from here
   */
  renewalInfo(certificate: string): RenewalSuggestion | undefined
  /**
   * Overrides the suggestion for one certificate, until it is revoked. The window may be senseless on purpose.
   *
   * @throws `TypeError` if the certificate is unknown
   */
  setRenewalWindow(certificatePem: string, suggestion: RenewalSuggestion): void
  /** @param reason - RFC 5280 section 5.3.1; 0 when left out. @throws `TypeError` if the certificate is unknown */
  revokeCertificate(certificatePem: string, reason?: number): void
}

/** What the ACME server needs beyond the public interface. */
export interface IssuingAuthority extends TestAuthority {
  readonly profiles: ReadonlyMap<string, TestCaProfile>
  /** As `issue`, at once. @throws {@link CertificateRequestError} */
  issueNow(order: IssueOrder): IssuedRecord
  recordOf(certificate: string): IssuedRecord | undefined
  wrongDownload(
    variant: WrongCertificate,
    record: IssuedRecord,
  ): { readonly body: string; readonly contentType: string }
}

/** What to sign once everything has been checked. */
export interface IssueOrder {
  readonly publicKeyInfo: Buffer
  readonly identifiers: readonly Identifier[]
  readonly profile?: string | undefined
  readonly replaces?: string | undefined
  readonly validity?: Validity | undefined
}

/** A {@link TestCertificate} with what stays inside. */
export interface IssuedRecord extends TestCertificate {
  readonly der: Buffer
  readonly publicKeyInfo: Buffer
  revoked: { readonly at: Date; readonly reason: number } | undefined
}

const day = 86_400_000
const hour = 3_600_000
const optionNames = ['clock', 'lifetimeMs', 'profiles', 'backdateMs', 'intermediates', 'alternateChains']

/**
 * A certificate authority in memory: signs requests by the clock it is given, remembers them, suggests when to renew.
 * Nothing is validated and no socket is opened.
 *
 * @example
 *
 * ```ts
 * import { createTestAuthority } from 'evercert/testing'
 *
 * const authority = createTestAuthority({ lifetimeMs: 6 * 86_400_000 })
 * const pair = await authority.issueWithNewKey({ identifiers: [{ type: 'dns', value: 'www.example.com' }] })
 * ```
 *
 * @param options - See {@link TestAuthorityOptions}.
 * @throws `TypeError` if an option is unknown or out of range.
 */
export function createTestAuthority(options: TestAuthorityOptions = {}): TestAuthority {
  checkOptions('createTestAuthority', options, optionNames)
  return createIssuingAuthority(options)
}

/** As {@link createTestAuthority}, with what the ACME server needs beyond it. */
export function createIssuingAuthority(options: TestAuthorityOptions): IssuingAuthority {
  const { clock = systemClock, lifetimeMs = 90 * day, backdateMs } = options
  const profiles = new Map(Object.entries(options.profiles ?? {}))
  positive('lifetimeMs', lifetimeMs, 1000)
  for (const [name, profile] of profiles)
    positive(`profiles.${name}.lifetimeMs`, profile.lifetimeMs ?? lifetimeMs, 1000)
  if (backdateMs !== undefined) nonNegative('backdateMs', backdateMs)
  const authority: CertificateAuthority = createCertificateAuthority({
    now: clock.now(),
    intermediates: wholeNumber('intermediates', options.intermediates ?? 1, 10),
    alternateChains: wholeNumber('alternateChains', options.alternateChains ?? 0, 10),
  })
  const certificates: IssuedRecord[] = []
  const byPem = new Map<string, IssuedRecord>()
  const byId = new Map<string, IssuedRecord>()
  const suggestions = new Map<IssuedRecord, RenewalSuggestion>()

  const validityFrom = (profile: string | undefined): Validity => {
    const lifetime = (profile === undefined ? undefined : profiles.get(profile)?.lifetimeMs) ?? lifetimeMs
    const backdate = backdateMs ?? Math.min(hour, lifetime / 20)
    const notBefore = Math.floor((clock.now() - backdate) / 1000) * 1000
    // The last second is part of the validity: RFC 5280 section 4.1.2.5.
    return { notBefore, notAfter: notBefore + Math.floor(lifetime / 1000) * 1000 - 1000 }
  }

  const issueNow = ({ publicKeyInfo, identifiers, profile, replaces, validity }: IssueOrder): IssuedRecord => {
    if (profile !== undefined && !profiles.has(profile)) throw new CertificateRequestError(`unknown profile ${profile}`)
    const serial = randomSerial()
    const { notBefore, notAfter } = validity ?? validityFrom(profile)
    const der = authority.signLeaf({ publicKeyInfo, identifiers, validity: { notBefore, notAfter }, serial })
    const record: IssuedRecord = {
      pem: encodePem('CERTIFICATE', der),
      chainPem: authority.chainPem,
      alternateChainPems: authority.alternateChainPems,
      serial: serial.toString('hex').toUpperCase(),
      certificateId: `${authority.keyIdentifier.toString('base64url')}.${serialOctets(serial).toString('base64url')}`,
      notBefore: new Date(notBefore),
      notAfter: new Date(notAfter),
      identifiers,
      profile,
      replaces,
      revoked: undefined,
      der,
      publicKeyInfo,
    }
    certificates.push(record)
    byPem.set(record.pem, record)
    byId.set(record.certificateId, record)
    return record
  }

  const recordOf = (certificate: string): IssuedRecord | undefined => {
    if (!certificate.includes('-----BEGIN')) return byId.get(certificate)
    const [leaf] = parsePem(certificate)
    return leaf === undefined ? undefined : byPem.get(encodePem('CERTIFICATE', leaf.der))
  }

  const knownRecord = (certificatePem: string): IssuedRecord => {
    const record = recordOf(certificatePem)
    if (record === undefined) throw new TypeError('"certificatePem" must be a certificate that this CA has issued')
    return record
  }

  const wrong = (variant: WrongCertificate, record: IssuedRecord): WrongDownload => {
    const { pem: certificatePem, chainPem, publicKeyInfo, identifiers } = record
    const right = { certificatePem, chainPem, publicKeyInfo, identifiers, validity: validityOf(record) }
    return wrongDownload(variant, right, authority, clock.now())
  }

  return {
    rootPem: authority.rootPem,
    alternateRootPems: authority.alternateRootPems,
    certificates,
    profiles,
    issueNow,
    recordOf,
    wrongDownload(variant, record) {
      const { certificatePem, chainPem, contentType } = wrong(variant, record)
      return { body: certificatePem + chainPem, contentType }
    },
    async issue(request) {
      const { publicKeyInfo, identifiers } = parseCertificateRequest(request.csr)
      if (request.identifiers !== undefined && !sameIdentifiers(request.identifiers, identifiers)) {
        throw new CertificateRequestError('the certificate request does not name the identifiers of the order')
      }
      const { profile, replaces, validity } = request
      const record = issueNow({
        publicKeyInfo,
        identifiers,
        profile,
        replaces: replaces?.value,
        validity: validity && validityOf(validity),
      })
      if (request.wrong === undefined) return { certificatePem: record.pem, chainPem: record.chainPem }
      const { certificatePem, chainPem } = wrong(request.wrong, record)
      return { certificatePem, chainPem }
    },
    async issueWithNewKey({ identifiers, profile, validity, key }) {
      const privateKey = newKey(key)
      const publicKeyInfo = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
      const record = issueNow({ publicKeyInfo, identifiers, profile, validity: validity && validityOf(validity) })
      return { certificatePem: record.pem, chainPem: record.chainPem, privateKeyPem: privateKeyPem(privateKey) }
    },
    async selfSigned({ identifiers, profile, validity }) {
      const signer = createSigner(identifiers[0]?.value ?? 'self-signed')
      const certificatePem = selfSignedPem(signer, identifiers, validity ? validityOf(validity) : validityFrom(profile))
      return { certificatePem, chainPem: '', privateKeyPem: privateKeyPem(signer.privateKey) }
    },
    renewalInfo(certificate) {
      const record = recordOf(certificate)
      if (record === undefined) return undefined
      const { revoked } = record
      return suggestions.get(record) ?? suggestRenewal(validityOf(record), revoked !== undefined, clock.now())
    },
    setRenewalWindow(certificatePem, suggestion) {
      suggestions.set(knownRecord(certificatePem), { ...suggestion })
    },
    revokeCertificate(certificatePem, reason = 0) {
      const record = knownRecord(certificatePem)
      record.revoked ??= { at: new Date(clock.now()), reason }
      suggestions.delete(record)
    },
  }
}

/** A certificate that vouches for itself. */
function selfSignedPem(signer: Signer, identifiers: readonly Identifier[], validity: Validity): string {
  const { name: subject, publicKeyInfo } = signer
  const template = { subject, publicKeyInfo, serial: randomSerial(), identifiers, ca: false, ...validity }
  return encodePem('CERTIFICATE', signCertificate(template, signer))
}

function validityOf({ notBefore, notAfter }: { readonly notBefore: Date; readonly notAfter: Date }): Validity {
  return { notBefore: notBefore.getTime(), notAfter: notAfter.getTime() }
}

function newKey(algorithm: TestLeafRequest['key']): KeyObject {
  if (algorithm === 'rsa-2048') return generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
  return generateKeyPairSync('ec', { namedCurve: algorithm === 'ecdsa-p384' ? 'P-384' : 'P-256' }).privateKey
}

function privateKeyPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}
