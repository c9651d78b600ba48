/**
 * What `npm run bench` runs: evercert beside other clients and beside a bare sequence of the same requests, against one
 * Pebble on this machine.
 *
 *     npm run bench -- --rows one-name,hundred-names --rounds 5 --json bench.json
 */
import { writeFile } from 'node:fs/promises'
import { availableParallelism, cpus, loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { describeMissing, provideServers } from '../scripts/servers.js'
import { provideBuiltPackage } from './built-package.js'
import { format, type RowReport } from './report.js'
import type { Row } from './row.js'
import { eventLoop } from './rows/event-loop.js'
import { fleet } from './rows/fleet.js'
import { hundredCertificates } from './rows/hundred-certificates.js'
import { hundredNames } from './rows/hundred-names.js'
import { importTime } from './rows/import-time.js'
import { oneName } from './rows/one-name.js'
import { year } from './rows/year.js'

const rows: Readonly<Record<string, Row>> = {
  'one-name': oneName,
  'hundred-names': hundredNames,
  'hundred-certificates': hundredCertificates,
  'event-loop': eventLoop,
  import: importTime,
  fleet,
  year,
}

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: Object.keys(rows).join(',') },
    rounds: { type: 'string', default: '7' },
    json: { type: 'string' },
  },
})
const rounds = Number(values.rounds)
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds must be a whole number from 1')
const chosen = values.rows.split(',').map((name) => {
  const row = rows[name]
  if (row === undefined) throw new Error(`there is no row ${name}; there are ${Object.keys(rows).join(', ')}`)
  return { name, row }
})

const started = performance.now()
await provideBuiltPackage(console.error)
const servers = await provideServers({ ci: false, log: console.error })
for (const line of describeMissing(servers)) console.error(`missing server: ${line}`)
process.env['EVERCERT_SERVERS'] = JSON.stringify(
  Object.fromEntries(
    Object.entries(servers).flatMap(([name, server]) => ('path' in server ? [[name, server.path]] : [])),
  ),
)

const versions = Object.entries(servers).flatMap(([name, server]) =>
  ['pebble', 'lego', 'certbot'].includes(name) && 'version' in server ? [`${name} ${server.version}`] : [],
)
const machine = `${availableParallelism()} x ${cpus()[0]?.model ?? 'unknown CPU'}`
const load = (): string =>
  loadavg()
    .map((value) => value.toFixed(1))
    .join(' ')
console.log(`Node ${process.version}, ${versions.join(', ')}; ${machine}; load ${load()}; ${rounds} rounds, medians`)

const reports: RowReport[] = []
for (const { name, row } of chosen) {
  const begun = performance.now()
  try {
    for (const report of await row({ rounds })) {
      reports.push(report)
      console.log(format(report))
    }
  } catch (error) {
    console.log(`\n${name}: not measured: ${error instanceof Error ? error.message : String(error)}`)
    process.exitCode = 1
  }
  console.error(`  (${name}: ${Math.round((performance.now() - begun) / 1000)} s)`)
}
const verdicts = reports.flatMap((report) => report.verdicts)
const met = verdicts.filter((verdict) => verdict.met).length
const seconds = Math.round((performance.now() - started) / 1000)
console.log(`\n${met} of ${verdicts.length} targets met; ${seconds} s; load at the end ${load()}`)
if (values.json !== undefined) {
  await writeFile(
    values.json,
    `${JSON.stringify({ node: process.version, versions, machine, rounds, reports }, null, 2)}\n`,
  )
}
