/**
 * What a row of the benchmark reports, and how it is printed.
 */

export interface Verdict {
  /** As in `wall time, warm`. */
  readonly what: string
  /** As in `1.15 x bare`. */
  readonly target: string
  /** As in `1.09 x`. */
  readonly measured: string
  readonly met: boolean
}

export interface RowReport {
  readonly title: string
  readonly columns: readonly string[]
  /** The first cell is the contestant. */
  readonly lines: readonly (readonly string[])[]
  readonly verdicts: readonly Verdict[]
  readonly notes: readonly string[]
}

export function atMostVerdict(what: string, value: number, limit: number, shown: (value: number) => string): Verdict {
  return { what, target: `<= ${shown(limit)}`, measured: shown(value), met: value <= limit }
}

export const milliseconds = (value: number): string =>
  Number.isNaN(value)
    ? '-'
    : value >= 10_000
      ? `${(value / 1000).toFixed(1)} s`
      : `${value.toFixed(value < 10 ? 2 : 1)} ms`
export const times = (value: number): string => (Number.isNaN(value) ? '-' : `${value.toFixed(2)} x`)
export const count = (value: number): string => (Number.isNaN(value) ? '-' : String(Math.round(value)))
export const megabytes = (value: number): string => `${(value / 1e6).toFixed(0)} MB`

export function format({ title, columns, lines, verdicts, notes }: RowReport): string {
  const rows = [columns, ...lines]
  const widths = columns.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const table = rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('   ')
      .trimEnd(),
  )
  const judged = verdicts.map(
    ({ what, target, measured, met }) => `${met ? 'met   ' : 'MISSED'} ${what}: ${measured} (target ${target})`,
  )
  return ['', title, ...[...table, ...judged, ...notes].map((line) => `  ${line}`)].join('\n')
}
