/**
 * Obtains one certificate over dns-01 through Route 53, as a process of its own with a store on disk and the default
 * credentials of the AWS SDK, and kills itself with SIGKILL once a change was made, if it is told to.
 *
 * Argument: JSON of {@link Instructions}. Prints the outcome when it lives to the end.
 */
import { Route53Client } from '@aws-sdk/client-route-53'
import { acmeIssuer } from '../../../src/issuers/acme/index.js'
import { RenewalScheduler } from '../../../src/scheduler/renewal-scheduler.js'
import { route53Solver, type Route53SolverOptions } from '../../../src/solvers/route53/index.js'
import { fileStore } from '../../../src/stores/file.js'

export interface Instructions {
  readonly directoryUrl: string
  readonly caPem: string
  readonly names: readonly string[]
  readonly storeDirectory: string
  readonly solver: Pick<Route53SolverOptions, 'propagation'>
  /** After which answered request to die: `ChangeResourceRecordSets`. @defaultValue none */
  readonly killAfter?: string | undefined
}

const { directoryUrl, caPem, names, storeDirectory, solver, killAfter } = JSON.parse(
  process.argv[2] ?? '{}',
) as Instructions

function deadlyClient(): Route53SolverOptions['client'] {
  const client = new Route53Client({ region: 'us-east-1', maxAttempts: 1 })
  return {
    async send(command, options) {
      const reply = await client.send(command as never, options)
      if (command.constructor.name === `${killAfter ?? ''}Command`) process.kill(process.pid, 'SIGKILL')
      return reply
    },
  }
}

const issuer = acmeIssuer({
  directory: directoryUrl,
  ca: caPem,
  termsOfServiceAgreed: true,
  solvers: [route53Solver({ ...solver, ...(killAfter === undefined ? {} : { client: deadlyClient() }) })],
})
const scheduler = new RenewalScheduler({
  store: fileStore({ directory: storeDirectory }),
  certificates: [{ name: 'www', identifiers: names, issuers: [issuer] }],
})
const { outcomes } = await scheduler.reconcile()
console.log(
  JSON.stringify(outcomes.map(({ status, error }) => ({ status, error: error instanceof Error ? error.message : '' }))),
)
await issuer.close()
