import { readFileSync } from 'node:fs'
import { RenewalScheduler } from 'evercert'
import { pemFilesDeployer } from 'evercert/deployers/pem-files'
import { acmeIssuer, letsEncrypt } from 'evercert/issuers/acme'
import { route53Solver } from 'evercert/solvers/route53'
import { fileStore } from 'evercert/stores/file'

const { NAMES = '', DIRECTORY, STORE, HOSTED_ZONE_ID, ACME_DIRECTORY, ACME_CA, DNS_SERVER, DNS_PORT } = process.env
const names = NAMES.split(/[\s,]+/).filter(Boolean)

const solver = route53Solver({
  ...(HOSTED_ZONE_ID === undefined ? {} : { hostedZoneId: HOSTED_ZONE_ID }),
  // For tests only: a resolver and name servers of their own.
  ...(DNS_SERVER === undefined ? {} : { propagation: { servers: [DNS_SERVER], nameserverPort: Number(DNS_PORT) } }),
})

if (process.argv.includes('--policy')) {
  console.log(JSON.stringify(solver.requiredPermissions(), null, 2))
  process.exit()
}

if (names.length === 0 || !DIRECTORY || !STORE) {
  console.error('set NAMES, DIRECTORY and STORE; README.md says what they are')
  process.exit(2)
}

const scheduler = new RenewalScheduler({
  store: fileStore({ directory: STORE }),
  // Without the requests, which are debug lines: cron sends mail with all that is printed.
  logger: { ...console, debug: () => undefined },
  certificates: [
    {
      name: 'www',
      identifiers: names,
      issuers: [
        acmeIssuer({
          directory: ACME_DIRECTORY ?? letsEncrypt.staging,
          termsOfServiceAgreed: true,
          solvers: [solver],
          // For test CAs only: their own trust anchor.
          ...(ACME_CA === undefined ? {} : { ca: readFileSync(ACME_CA, 'utf8') }),
        }),
      ],
      deployers: [
        pemFilesDeployer({
          files: [
            { path: `${DIRECTORY}/fullchain.pem`, content: ['fullchain'], mode: 0o644 },
            { path: `${DIRECTORY}/privkey.pem`, content: ['key'] },
          ],
        }),
      ],
    },
  ],
})

// One pass: renews what is due, deploys what is not yet there, and says when to come again.
const { outcomes, nextRunAt } = await scheduler.reconcile()
for (const { certificate, status, error } of outcomes) console.log(certificate, status, error ?? '')
console.log('again at', nextRunAt)
// A failure that is waited out is not a new one; cron is to hear of it all the same while there is no valid certificate.
const failed = outcomes.some(({ status }) => status === 'failed')
const failing = (await scheduler.status()).some(({ health }) => health === 'failing')
if (failed || failing) process.exitCode = 1
