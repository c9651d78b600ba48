/**
 * What plug-in authors and users test with: contract kits, a fake clock, seeded randomness, a recording logger, and an
 * in-process ACME CA. Sub-path export `evercert/testing`.
 *
 * @module
 */
export { certStoreContract } from './store-contract.js'
export { challengeSolverContract } from './solver-contract.js'
export { deployerContract } from './deployer-contract.js'
export { issuerContract } from './issuer-contract.js'
export { fakeClock } from './fake-clock.js'
export { seededRandom } from './seeded-random.js'
export { assertNoSecrets, recordingLogger } from './recording-logger.js'
export { operationContext } from './operation-context.js'
export { createTestBundle } from './test-bundle.js'
export { createTestAuthority, startTestCa } from './test-ca/index.js'

export type { ContractLevel, ContractRunner } from './contract-runner.js'
export type { StoreContractOptions, StoreFixture } from './store-contract.js'
export type { SolverContractOptions, SolverFixture } from './solver-contract.js'
export type { DeployedPair, DeployerContractOptions, DeployerFixture } from './deployer-contract.js'
export type { IssuerContractOptions, IssuerFixture } from './issuer-contract.js'
export type { FakeClock, FakeClockOptions } from './fake-clock.js'
export type { LogEntry, RecordingLogger } from './recording-logger.js'
export type { TestBundleOptions } from './test-bundle.js'
export type * from './test-ca/index.js'
