/**
 * Sums vitest's JSON reports up in one last line, "N passed, N failed", for machines that read it.
 *
 *     node scripts/count-tests.js main.json again.json ...
 *
 * What passed is counted in the first report, so that a test which ran on three Nodes counts once; what failed is
 * counted in all of them. A report that is missing is a failure, and so is a file of tests that could not be loaded.
 */
import { readFileSync } from 'node:fs'

/**
 * @typedef {object} Report
 * @property {number} numPassedTests
 * @property {{ status: string, assertionResults: { status: string }[] }[]} testResults
 */

const reports = process.argv.slice(2).map(read)
const passed = reports[0]?.numPassedTests ?? 0
const failed = reports.reduce((sum, report) => sum + failuresIn(report), 0)

console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 && passed > 0 ? 0 : 1

/**
 * @param {string} path
 * @returns {Report | undefined}
 */
function read(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

/** @param {Report | undefined} report */
function failuresIn(report) {
  if (report === undefined) return 1
  return report.testResults.reduce((sum, { status, assertionResults }) => {
    const tests = assertionResults.filter((test) => test.status === 'failed').length
    return sum + (status === 'failed' ? Math.max(tests, 1) : tests)
  }, 0)
}
