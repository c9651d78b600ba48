import { readFileSync } from 'node:fs'
import { RenewalScheduler } from 'evercert'
import { haproxyDeployer } from 'evercert/deployers/haproxy'
import { acmeIssuer, letsEncrypt } from 'evercert/issuers/acme'
import { webrootSolver } from 'evercert/solvers/webroot'
import { fileStore } from 'evercert/stores/file'

const { NAMES = '', WEBROOT, PEM, HAPROXY_SOCKET, STORE, ACME_DIRECTORY, ACME_CA, HTTP_PORT, HTTPS_PORT } = process.env
const names = NAMES.split(/[\s,]+/).filter(Boolean)
if (names.length === 0 || !WEBROOT || !PEM || !HAPROXY_SOCKET || !STORE) {
  console.error('set NAMES, WEBROOT, PEM, HAPROXY_SOCKET and STORE; README.md says what they are')
  process.exit(2)
}

const scheduler = new RenewalScheduler({
  store: fileStore({ directory: STORE }),
  logger: console,
  certificates: [
    {
      name: 'www',
      identifiers: names,
      issuers: [
        acmeIssuer({
          directory: ACME_DIRECTORY ?? letsEncrypt.staging,
          termsOfServiceAgreed: true,
          solvers: [webrootSolver({ directory: WEBROOT })],
          // For test CAs only: their own trust anchor, and the port they validate on.
          ...(ACME_CA === undefined ? {} : { ca: readFileSync(ACME_CA, 'utf8') }),
          ...(HTTP_PORT === undefined
            ? {}
            : { preflight: { httpPort: Number(HTTP_PORT), resolve: () => Promise.resolve(['127.0.0.1']) } }),
        }),
      ],
      deployers: [haproxyDeployer({ pemPath: PEM, runtimeSocket: HAPROXY_SOCKET })],
      endpoints: names
        .slice(0, 1)
        .map((servername) => ({ host: '127.0.0.1', port: Number(HTTPS_PORT ?? 443), servername })),
      placeholder: true,
    },
  ],
})

scheduler.on('certificate-served', ({ endpoint, notAfter }) => {
  console.log('served', endpoint, 'until', notAfter.toISOString())
})
scheduler.start()

// A scheduler keeps no process alive by itself; this service does.
const alive = setInterval(() => undefined, 60_000)
process.once('SIGTERM', () => {
  clearInterval(alive)
  void scheduler.stop()
})
