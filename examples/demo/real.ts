/** One pass against a real CA and a real web server. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { RenewalScheduler, type Deployer } from 'evercert'
import { haproxyDeployer } from 'evercert/deployers/haproxy'
import { haproxyPem, pemFilesDeployer } from 'evercert/deployers/pem-files'
import { acmeIssuer } from 'evercert/issuers/acme'
import { webrootSolver } from 'evercert/solvers/webroot'
import { fileStore } from 'evercert/stores/file'
import { createTimeline, follow, messageOf } from './timeline.js'

export interface RealRun {
  readonly directory: string
  readonly agree: boolean
  readonly names: readonly string[]
  readonly webroot: string | undefined
  readonly pem: string | undefined
  readonly runtimeSocket: string | undefined
  readonly store: string
  readonly endpoint: string | undefined
  readonly ca: string | undefined
  readonly planOnly: boolean
}

/** @returns the exit code */
export async function runReal(run: RealRun): Promise<number> {
  const { webroot, pem, agree } = run
  const missing = [
    ...(run.names.length === 0 ? ['--name'] : []),
    ...(webroot === undefined ? ['--webroot'] : []),
    ...(pem === undefined ? ['--pem'] : []),
    ...(agree ? [] : ['--agree (to the terms of service of the CA)']),
  ]
  if (webroot === undefined || pem === undefined || !agree || missing.length > 0) {
    console.error(`missing: ${missing.join(', ')}; see --help`)
    return 2
  }
  const timeline = createTimeline(Date.now)
  const issuer = acmeIssuer({
    directory: run.directory,
    termsOfServiceAgreed: agree,
    solvers: [webrootSolver({ directory: resolve(webroot) })],
    ...(run.ca === undefined ? {} : { ca: await readFile(run.ca, 'utf8') }),
  })
  const pemPath = resolve(pem)
  const deployer: Deployer =
    run.runtimeSocket === undefined
      ? pemFilesDeployer(haproxyPem({ path: pemPath }))
      : haproxyDeployer({ pemPath, runtimeSocket: resolve(run.runtimeSocket) })
  const scheduler = new RenewalScheduler({
    store: fileStore({ directory: resolve(run.store) }),
    certificates: [
      {
        name: run.names[0] ?? 'demo',
        identifiers: run.names,
        issuers: [issuer],
        deployers: [deployer],
        endpoints: run.endpoint === undefined ? [] : [parseEndpoint(run.endpoint)],
      },
    ],
  })
  follow(scheduler, timeline)
  for (const { certificate, action, at, reason } of await scheduler.plan()) {
    timeline.say('plan', `${certificate}: ${action} ${at.toISOString()} (${reason ?? 'nothing to do'})`)
  }
  if (run.planOnly) return 0
  const { outcomes, nextRunAt } = await scheduler.reconcile()
  await issuer.close()
  for (const { certificate, status, error } of outcomes) {
    timeline.say(status, error === undefined ? certificate : `${certificate}: ${messageOf(error)}`)
  }
  timeline.say('next', `run this again at ${nextRunAt.toISOString()}, or keep a scheduler running with start()`)
  return outcomes.some(({ status }) => status === 'failed') ? 1 : 0
}

function parseEndpoint(text: string): { host: string; port: number } {
  const { hostname, port } = new URL(`https://${text}`)
  return { host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? 443 : Number(port) }
}
