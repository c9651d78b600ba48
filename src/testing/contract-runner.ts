/**
 * What a contract kit needs of a test runner: vitest, `node:test`, Jest and Mocha all have it.
 *
 * @module
 */

/** The caller's `describe` and `it`. */
export interface ContractRunner {
  describe(name: string, define: () => void): unknown
  it(name: string, run: () => Promise<void>): unknown
}

/** `basic`: what every plug-in must do; `strict`: what those shipped with evercert do. */
export type ContractLevel = 'basic' | 'strict'
