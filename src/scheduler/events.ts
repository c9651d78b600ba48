/**
 * What a scheduler announces. Issued, stored, deployed and served are four separate facts.
 *
 * @module
 */
import type { DeployResult } from '../deployers/deployer.js'
import type { RenewalReason } from './decide-renewal.js'
import type { ExpiryLevel } from './expiry-alarm.js'
import type { AddressProof } from './verify-endpoint.js'

/** Events of {@link RenewalScheduler}. No payload ever holds key material. */
export interface RenewalEventMap {
  /** The issuer returned a certificate and it passed every check. */
  'certificate-issued': [
    event: { certificate: string; issuer: string; reason: RenewalReason; fingerprintSha256: string; notAfter: Date },
  ]
  /** It is in the store: from here on it is never ordered again. */
  'certificate-stored': [event: { certificate: string; fingerprintSha256: string; notAfter: Date }]
  /** A target has it. */
  'certificate-deployed': [
    event: {
      certificate: string
      deployer: string
      status: DeployResult['status']
      fingerprintSha256: string
      placeholder: boolean
      details: DeployResult['details']
    },
  ]
  /** Every address of an endpoint presented exactly this leaf in a fresh handshake. */
  'certificate-served': [
    event: {
      certificate: string
      endpoint: string
      addresses: readonly string[]
      fingerprintSha256: string
      notAfter: Date
    },
  ]
  /** When and why a certificate will be renewed; announced when that is fixed or changes. */
  'renewal-planned': [
    event: {
      certificate: string
      source: 'renewal-info' | 'lifetime'
      at: Date
      /** The CA's explanation, for people. Comes from outside: show it, do not fetch it. */
      explanationUrl: string | undefined
    },
  ]
  /** One issuer failed; another one may be tried in the same pass. */
  'issuance-failed': [
    event: { certificate: string; issuer: string; error: unknown; attempt: number; nextAttemptAt: Date },
  ]
  'deployment-failed': [
    event: {
      certificate: string
      deployer: string
      placeholder: boolean
      error: unknown
      attempt: number
      nextAttemptAt: Date
    },
  ]
  /** An endpoint does not present the certificate that was deployed. */
  'verification-failed': [
    event: {
      certificate: string
      endpoint: string
      proofs: readonly AddressProof[]
      error: unknown
      attempt: number
      nextAttemptAt: Date
    },
  ]
  /** The end of a certificate comes near and it has not been renewed. Each level once per certificate. */
  'expiry-imminent': [event: { certificate: string; notAfter: Date; level: ExpiryLevel }]
  /** A stored record could not be used; it was copied to `copiedTo`, and is made anew. */
  'record-quarantined': [event: { certificate: string; key: string; copiedTo: string; error: unknown }]
  /** A pass failed for a reason that could not be recorded, usually because the store is away. */
  'pass-failed': [event: { certificate: string; error: unknown; attempt: number; nextAttemptAt: Date }]
}
