/**
 * A CA of one's own for internal names, exported from `evercert/issuers/private-ca`.
 *
 * @module
 */
import { additionalNameKey } from '../core/additional-names.js'
import { checkIssuedChain } from '../core/certificate-bundle.js'
import type { OperationContext } from '../core/context.js'
import { csrPublicKeyInfo } from '../core/x509.js'
import { CertError } from '../errors.js'
import type { CertStore } from '../stores/cert-store.js'
import type { Issuer } from './issuer.js'
import { ownAuthority, storedAuthority } from './private-ca/authority.js'
import { privateCaProfiles, purposeOf, type PrivateCaProfile } from './private-ca/certificate-profile.js'
import { issueOnce } from './private-ca/issuance-journal.js'
import { refusalOf, signLeaf } from './private-ca/leaf.js'
import { checkOptions, type PrivateCaIssuerOptions } from './private-ca/options.js'
import { revocationKeeper, type RevocationList } from './private-ca/revocation.js'
import type { Root } from './private-ca/root.js'

export { cfsslRoot } from './private-ca/cfssl.js'
export type { PrivateCaProfile } from './private-ca/certificate-profile.js'
export type { PrivateCaIssuerOptions } from './private-ca/options.js'
export type { RevocationList } from './private-ca/revocation.js'
export type { RootPair } from './private-ca/root.js'

/** What a {@link PrivateCaIssuer} needs outside of a scheduler: a deployer's context, and the scheduler's store. */
export interface PrivateCaContext extends OperationContext {
  readonly store: CertStore
}

/** An {@link Issuer} that is the CA. */
export interface PrivateCaIssuer extends Issuer {
  /**
   * The roots to trust (PEM, newest first): during a roll-over the next one is among them before it signs, and the last one
   * until it ends. Makes the first root, or the next one, when it is time.
   */
  trustBundle(context: PrivateCaContext): Promise<string>
  /** A revocation list of each root in {@link PrivateCaIssuer.trustBundle}; signed anew when half of its time has passed. */
  revocationLists(context: PrivateCaContext): Promise<readonly RevocationList[]>
}

/**
 * A private CA: certificates for internal names and addresses, signed in this process.
 *
 * The root, a self-signed certificate and its key, is made at first use and kept in the store of the scheduler, so that all
 * replicas sign with the same one; `encryptedStore` keeps it encrypted. It is followed by the next one in time: that is in
 * the trust bundle for `overlapMs` before it signs anything, and the old one stays in the bundle to its end, so that no
 * handshake fails on the way.
 *
 * @example
 *
 * ```ts
 * import { RenewalScheduler } from 'evercert'
 * import { pemFilesDeployer, nginxPem } from 'evercert/deployers/pem-files'
 * import { privateCaIssuer } from 'evercert/issuers/private-ca'
 * import { encryptedStore } from 'evercert/stores/encrypted'
 * import { fileStore } from 'evercert/stores/file'
 *
 * declare const storeKey: Uint8Array // 32 bytes, from your secrets manager
 *
 * const scheduler = new RenewalScheduler({
 *   store: encryptedStore(fileStore({ directory: '/var/lib/evercert' }), storeKey),
 *   certificates: [
 *     {
 *       name: 'registry',
 *       identifiers: ['registry.cluster.example', '10.0.0.5'],
 *       issuers: [privateCaIssuer({ nameConstraints: { permitted: ['cluster.example', '10.0.0.0/8'] } })],
 *       deployers: [pemFilesDeployer(nginxPem({ directory: '/etc/nginx/tls/registry' }))],
 *     },
 *   ],
 * })
 * ```
 *
 * @remarks
 * `profile` of a managed certificate chooses `server`, `client` or `peer`. Clients get {@link PrivateCaIssuer.trustBundle}.
 * The CA's record in the store must be backed up like any CA: when it is damaged or lost, nothing is issued, and never is a
 * new root made in its place. It keeps the last four roots with their keys, also when they have ended: a clock that was wrong for
 * a moment costs no root. Beside it is the record of what was revoked: when that is damaged or lost, no list is signed and nothing
 * revoked, since a list made anew would take every revocation back. One that is restored from an older backup does so, for what
 * was revoked since.
 *
 * Rejects with `ERR_CERT_INVALID` or `ERR_CERT_NAME_MISMATCH` when a request is not for what it is said to be, with
 * `ERR_PLUGIN_FAILED` (not retryable) for names outside the constraints, an unknown profile or a root that has ended, with
 * `ERR_STORE_CORRUPT` when a record of the CA is damaged or missing.
 *
 * @param options - See {@link PrivateCaIssuerOptions}. Validated and copied.
 * @throws `TypeError` that names the option
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc5280.html | RFC 5280}
 */
export function privateCaIssuer(options: PrivateCaIssuerOptions = {}): PrivateCaIssuer {
  const settings = checkOptions(options)
  const { id, additionalNames, lifetimeMs } = settings
  const authority =
    settings.ownRoots === undefined
      ? storedAuthority({ ...settings, issuerId: id, keyAlgorithm: settings.rootKey })
      : ownAuthority(id, settings.ownRoots)
  const revocations = revocationKeeper({ issuerId: id, listLifetimeMs: settings.revocationListLifetimeMs })

  return {
    id,
    supports(identifiers) {
      const refused = refusalOf(settings.knownConstraints, identifiers, [])
      return refused === undefined ? true : `${refused}, by its name constraints`
    },
    traits({ certificate, profile }) {
      return {
        otherNames: additionalNames(certificate).map(additionalNameKey),
        purpose: purposeOf[profileOf(profile)],
      }
    },
    async issue(request, context) {
      const { csr, identifiers, certificate } = request
      const profile = profileOf(request.profile)
      const additional = additionalNames(certificate)
      const { signing, trusted } = await authority.roots(context)
      const trustedRoots = bundleOf(trusted)
      const now = context.clock.now()

      const sign = async (): Promise<string> => {
        const leaf = { issuerId: id, profile, additionalNames: additional, lifetimeMs, now }
        const { pem, cutShort } = await signLeaf(request, signing, leaf)
        if (cutShort) context.logger.warn('certificate ends with its root', { certificate, lifetimeMs })
        return pem
      }
      const check = (pem: string): void => {
        const traits = { otherNames: additional.map(additionalNameKey), purpose: purposeOf[profile] }
        checkIssuedChain(pem, { publicKeyInfo: csrPublicKeyInfo(csr), identifiers, traits, now, trustedRoots })
      }
      const particulars = [profile, ...additional.map(additionalNameKey)]
      return { chainPem: await issueOnce(id, request, particulars, { sign, check }, context), trustedRoots, profile }
    },
    async revoke(certificatePem, reason, context) {
      const { trusted } = await authority.roots(context)
      await revocations.revoke(certificatePem, reason, trusted, context)
    },
    async trustBundle(context) {
      return bundleOf((await authority.roots(context)).trusted)
    },
    async revocationLists(context) {
      const { trusted } = await authority.roots(context)
      return revocations.lists(trusted, context)
    },
  }

  function profileOf(profile: string | undefined): PrivateCaProfile {
    const found = privateCaProfiles.find((name) => name === (profile ?? settings.profile))
    if (found !== undefined) return found
    throw new CertError({
      code: 'ERR_PLUGIN_FAILED',
      message: `issuer ${id}: unknown profile ${JSON.stringify(profile)}; known are ${privateCaProfiles.join(', ')}`,
      retryable: false,
    })
  }
}

function bundleOf(roots: readonly Root[]): string {
  return roots.map(({ certificatePem }) => certificatePem).join('')
}
