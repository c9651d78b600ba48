/**
 * How fast time can be made to pass in tests.
 */
import type { YearMeasurement } from '../programs/year.js'
import { count } from '../report.js'
import type { Row } from '../row.js'
import { runProgram } from '../run-program.js'

export const year: Row = async () => {
  const { certificates, passes, issued, seconds } = await runProgram<YearMeasurement>('year')
  return [
    {
      title: 'A simulated year',
      columns: ['certificates', 'passes', 'issued', 'time', 'passes per second'],
      lines: [[count(certificates), count(passes), count(issued), `${seconds.toFixed(1)} s`, count(passes / seconds)]],
      verdicts: [],
      notes: [],
    },
  ]
}
