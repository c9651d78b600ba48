/**
 * The test CA: over HTTP for ACME clients, or in memory for simulations. Exported from `evercert/testing`.
 *
 * @module
 */
export { startTestCa } from './start-test-ca.js'
export type { TestCa, TestCaAccount, TestCaAuthorization, TestCaOrder } from './start-test-ca.js'
export type { AuthorizationStatus, OrderStatus } from './resources.js'
export type { TestCaChallengeType, TestCaOptions } from './options.js'
export { createTestAuthority } from './test-authority.js'
export type {
  TestAuthority,
  TestAuthorityOptions,
  TestCaProfile,
  TestCertificate,
  TestIssuedChain,
  TestIssueRequest,
  TestKeyAndChain,
  TestLeafRequest,
} from './test-authority.js'
export type { Fault, FaultAction, FaultHandle, FaultMatch, TestCaFaults } from './faults.js'
export type { RequestKind, RequestRecord } from './journal.js'
export type { RenewalSuggestion } from './renewal-info.js'
export type { WrongCertificate } from './wrong-certificates.js'
export type { Subproblem } from './problem.js'
