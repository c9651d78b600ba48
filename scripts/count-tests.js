/**
 * Names what failed in vitest's JSON reports, with the head of each message, then sums the reports up in one last line,
 * "N passed, N failed", for machines that read it.
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
 * @property {{ name: string, status: string, message: string, assertionResults: Result[] }[]} testResults
 *
 * @typedef {object} Result
 * @property {string} status
 * @property {string} fullName
 * @property {string[]} failureMessages
 */

/** Enough of a message for its first frames, few enough that a run with many failures is still read from its end. */
const MESSAGE_LINES = 12

const reports = process.argv.slice(2).map(read)
const passed = reports[0]?.numPassedTests ?? 0
const failures = reports.flatMap(failuresIn)
const failed = failures.length

for (const { title, message } of failures) {
  console.log(`failed: ${title}`)
  for (const line of message.split('\n').slice(0, MESSAGE_LINES)) console.log(`    ${line}`)
}
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

/**
 * @param {Report | undefined} report
 * @returns {{ title: string, message: string }[]}
 */
function failuresIn(report) {
  if (report === undefined) return [{ title: 'a run that left no report', message: '' }]
  return report.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const failed = assertionResults.filter((test) => test.status === 'failed')
    if (failed.length === 0) return status === 'failed' ? [{ title: name, message }] : []
    return failed.map((test) => ({
      title: `${name} > ${test.fullName}`,
      message: test.failureMessages.join('\n'),
    }))
  })
}
