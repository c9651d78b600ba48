import { readFileSync } from 'node:fs'
import { RenewalScheduler } from 'evercert'
import { acmeIssuer, letsEncrypt } from 'evercert/issuers/acme'
import { fileStore } from 'evercert/stores/file'
import { deployer, names } from './settings.js'
import { serve, solvers } from './solvers.js'

const { STORE = '/var/lib/evercert', HTTP_PORT = '8080', ENDPOINT, ACME_DIRECTORY, ACME_CA } = process.env

const http = serve(Number(HTTP_PORT))
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
          solvers,
          // For test CAs only: their own trust anchor, and the port they validate on.
          ...(ACME_CA === undefined
            ? {}
            : {
                ca: readFileSync(ACME_CA, 'utf8'),
                preflight: { httpPort: Number(HTTP_PORT), resolve: () => Promise.resolve(['127.0.0.1']) },
              }),
        }),
      ],
      deployers: [deployer],
      // Emissary's own Service: a renewal counts when it is served there.
      endpoints: ENDPOINT === undefined ? [] : [{ host: ENDPOINT, servername: names[0] }],
      // The Host is never without a Secret.
      placeholder: true,
    },
  ],
})

scheduler.on('certificate-deployed', ({ certificate, deployer, placeholder, details }) => {
  console.log(placeholder ? 'placeholder' : 'certificate', certificate, 'is in', deployer, details)
})
scheduler.on('certificate-served', ({ endpoint, notAfter }) => {
  console.log('served by', endpoint, 'until', notAfter.toISOString())
})
scheduler.start()

process.once('SIGTERM', () => {
  void scheduler.stop()
  http.close()
  http.closeAllConnections()
})
