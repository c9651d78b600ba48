/**
 * What plug-in authors and users test with: contract kits, a fake clock, seeded randomness, a recording logger, and an
 * in-process ACME CA. Sub-path export `evercert/testing`.
 *
 * @module
 */
export { fakeClock } from './fake-clock.js'
export type { FakeClock, FakeClockOptions } from './fake-clock.js'
export { seededRandom } from './seeded-random.js'
export { assertNoSecrets, recordingLogger } from './recording-logger.js'
export type { LogEntry, RecordingLogger } from './recording-logger.js'
export { operationContext } from './operation-context.js'
export type { ContractLevel, ContractRunner } from './contract-runner.js'
export * from './test-ca/index.js'
