/**
 * The scheduler with 100,000 certificates: cost follows what is due, not what is managed.
 */
import type { FleetMeasurement } from '../programs/fleet.js'
import { atMostVerdict, megabytes, milliseconds, times } from '../report.js'
import type { Row } from '../row.js'
import { runProgram } from '../run-program.js'

export const fleet: Row = async () => {
  const small = await runProgram<FleetMeasurement>('fleet', '1000')
  const large = await runProgram<FleetMeasurement>('fleet', '100000')
  return [
    {
      title: 'RenewalScheduler on memoryStore, every certificate stored and valid',
      columns: ['', '1,000 certificates', '100,000 certificates'],
      lines: [
        line('first pass', ({ firstPassMs }) => milliseconds(firstPassMs)),
        line('  event loop max during it', ({ firstPassEventLoopMaxMs }) => milliseconds(firstPassEventLoopMaxMs)),
        line('tick with 1 due', ({ oneDueMs }) => milliseconds(oneDueMs)),
        line('tick with 100 due', ({ hundredDueMs }) => milliseconds(hundredDueMs)),
        line('scheduler heap after the first pass', ({ schedulerHeapBytes }) => megabytes(schedulerHeapBytes)),
        line('process without store records', (measured) => megabytes(withoutRecords(measured))),
        line('store records', ({ storeBytes }) => megabytes(storeBytes)),
        line('resident, peak', ({ peakResidentBytes }) => megabytes(peakResidentBytes)),
      ],
      verdicts: [
        atMostVerdict('first pass over 100,000', large.firstPassMs, 10_000, milliseconds),
        atMostVerdict('event loop max during it', large.firstPassEventLoopMaxMs, 20, milliseconds),
        atMostVerdict('tick with 1 due, 100,000 to 1,000 managed', large.oneDueMs / small.oneDueMs, 2, times),
        atMostVerdict('tick with 100 due, 100,000 to 1,000 managed', large.hundredDueMs / small.hundredDueMs, 2, times),
        atMostVerdict('memory without the store records', withoutRecords(large), 400e6, megabytes),
      ],
      notes: ['A tick asks the issuer for the renewal window of what is due, and stores it.'],
    },
  ]

  function line(label: string, cell: (measured: FleetMeasurement) => string): string[] {
    return [label, cell(small), cell(large)]
  }
}

/** A fleet of this size keeps its records elsewhere. */
function withoutRecords({ residentBytes, storeBytes }: FleetMeasurement): number {
  return residentBytes - storeBytes
}
