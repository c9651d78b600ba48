import { readFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { RenewalScheduler } from 'evercert'
import { nodeTlsDeployer } from 'evercert/deployers/node-tls'
import { acmeIssuer, letsEncrypt } from 'evercert/issuers/acme'
import { httpResponder } from 'evercert/solvers/http-responder'
import { fileStore } from 'evercert/stores/file'

const { NAME, STORE, HTTP_PORT = '80', HTTPS_PORT = '443', ACME_DIRECTORY, ACME_CA } = process.env
if (!NAME || !STORE) {
  console.error('set NAME and STORE; README.md says what they are')
  process.exit(2)
}

const responder = httpResponder()
const http = createHttpServer((request, response) => {
  if (responder.requestListener(request, response)) return
  response.writeHead(308, { location: `https://${NAME}${request.url ?? '/'}` }).end()
})
const https = createHttpsServer((_, response) => response.end('hello\n'))
http.listen(Number(HTTP_PORT))
https.listen(Number(HTTPS_PORT))

const scheduler = new RenewalScheduler({
  store: fileStore({ directory: STORE }),
  certificates: [
    {
      name: 'self',
      identifiers: [NAME],
      issuers: [
        acmeIssuer({
          directory: ACME_DIRECTORY ?? letsEncrypt.staging,
          termsOfServiceAgreed: true,
          solvers: [responder],
          // For test CAs only: their own trust anchor, and the port they validate on.
          ...(ACME_CA === undefined ? {} : { ca: readFileSync(ACME_CA, 'utf8') }),
          ...(HTTP_PORT === '80'
            ? {}
            : { preflight: { httpPort: Number(HTTP_PORT), resolve: () => Promise.resolve(['127.0.0.1']) } }),
        }),
      ],
      deployers: [nodeTlsDeployer({ servers: [https] })],
      endpoints: [{ host: '127.0.0.1', port: Number(HTTPS_PORT), servername: NAME }],
      placeholder: true,
    },
  ],
})
scheduler.on('certificate-served', ({ endpoint, notAfter }) => {
  console.log('served', endpoint, 'until', notAfter.toISOString())
})
scheduler.on('issuance-failed', ({ error, nextAttemptAt }) => {
  console.warn('not issued, again at', nextAttemptAt.toISOString(), error)
})
scheduler.start()

process.once('SIGTERM', () => {
  void scheduler.stop()
  for (const server of [http, https]) {
    server.close()
    server.closeAllConnections()
  }
})
