/**
 * evercert keeps TLS certificates valid from inside a Node service: the scheduler, the contracts of its plug-ins, and
 * errors. Plug-ins are sub-paths of their own: `evercert/issuers/acme`, `evercert/stores/file`, ...
 *
 * @module
 */
export { RenewalScheduler } from './scheduler/renewal-scheduler.js'
export { decideRenewal } from './scheduler/decide-renewal.js'
export { systemClock } from './core/clock.js'
export { parseIdentifier } from './core/identifier.js'
export { generatePrivateKey, importPrivateKey } from './core/private-key.js'
export { checkIssuedChain } from './core/certificate-bundle.js'
export { storeKey } from './stores/cert-store.js'
export {
  AcmeError,
  AuthorizationFailedError,
  CertError,
  CertificateError,
  ChallengeError,
  DeployError,
  HttpError,
  IssuersFailedError,
  RateLimitedError,
  StoreError,
  UserActionRequiredError,
} from './errors.js'

export type {
  ReconcileOptions,
  ReconcileReport,
  RenewalSchedulerOptions,
  RunOptions,
} from './scheduler/renewal-scheduler.js'
export type { Endpoint, ManagedCertificate } from './scheduler/managed-certificate.js'
export type { RenewalEventMap } from './scheduler/events.js'
export type { CertificateOutcome } from './scheduler/reconcile.js'
export type { DeploymentOutcome } from './scheduler/deploy-certificate.js'
export type { EndpointOutcome } from './scheduler/verify-deployment.js'
export type { CertificateStatus, PlannedAction, TargetStatus } from './scheduler/status.js'
export type { CertificateFacts, RenewalDecision, RenewalFacts, RenewalReason } from './scheduler/decide-renewal.js'
export type { ExpiryLevel } from './scheduler/expiry-alarm.js'
export type { AddressProof, ResolveHost } from './scheduler/verify-endpoint.js'
export type { Clock, SleepOptions } from './core/clock.js'
export type { Random } from './core/random.js'
export type { LogFields, Logger } from './core/logger.js'
export type { OperationContext } from './core/context.js'
export type { Identifier } from './core/identifier.js'
export type { KeyAlgorithm, PrivateKeyMaterial } from './core/private-key.js'
export type { CertificateBundle, CertificateTraits, ChainExpectation, CheckedChain } from './core/certificate-bundle.js'
export type { ParsedCertificate } from './core/x509.js'
export type { CertificateId, RenewalInfo } from './core/renewal-info.js'
export type { FileSystem } from './internal/file-system.js'
export type {
  AnyChallengeSolver,
  Challenge,
  ChallengeOf,
  ChallengeSolver,
  ChallengeType,
  Dns01Challenge,
  Http01Challenge,
  TlsAlpn01Challenge,
} from './solvers/challenge-solver.js'
export type {
  CertStore,
  DeleteOptions,
  FoundValue,
  LockOptions,
  PutOptions,
  Revision,
  StoredValue,
  StoreKey,
  StoreKeySpace,
  StoreLock,
} from './stores/cert-store.js'
export type { Issuer, IssueRequest, IssuerContext, IssuedChain, RevocationReason } from './issuers/issuer.js'
export type { Deployer, DeploymentState, DeployResult } from './deployers/deployer.js'
export type {
  AcmeErrorOptions,
  AnyCertError,
  CertErrorCode,
  CertErrorOptions,
  FailedAuthorization,
  Problem,
  Subproblem,
} from './errors.js'
