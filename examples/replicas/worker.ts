/** One worker: an https server that takes part in keeping the certificate it serves. Run as many as you like on one store. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { RenewalScheduler } from 'evercert'
import { nodeTlsDeployer } from 'evercert/deployers/node-tls'
import { acmeIssuer, letsEncrypt } from 'evercert/issuers/acme'
import { challengeGateway } from 'evercert/solvers/challenge-gateway'
import { storeResponder } from 'evercert/solvers/store-responder'
import { edgeDeployer } from './edge-deployer.js'
import { openStore } from './open-store.js'

const { NAMES, STORE, STORE_KEY, WORKER = 'worker-1', HTTP_PORT = '80', HTTPS_PORT = '443', ...others } = process.env
const { EDGE, EDGE_TOKEN = '', ACME_DIRECTORY = letsEncrypt.staging, ACME_CA, VALIDATION_PORT } = others
const names = (NAMES ?? '').split(',').filter(Boolean)
const [servername] = names
if (servername === undefined || STORE === undefined) {
  console.error('set NAMES and STORE; README.md says what they are')
  process.exit(2)
}
const say = (...what: readonly unknown[]): void => {
  console.log(WORKER, ...what)
}

const { store, close } = await openStore(STORE, STORE_KEY)

/** Challenges are in the store: the CA may come to any worker for the order of any other. */
const responder = storeResponder({ store })
const gateway = challengeGateway({ challenges: responder, httpsPort: Number(HTTPS_PORT) })
const http = gateway.createServer().listen({ port: Number(HTTP_PORT), backlog: 4_096 })
// Who cannot answer must not order.
await once(http, 'listening')

const https = createServer((_, response) => response.end(`hello from ${WORKER}\n`))

const scheduler = new RenewalScheduler({
  store,
  // The same after a restart, and no other worker's: what was deployed where is kept under it.
  node: WORKER,
  certificates: [
    {
      name: 'www',
      identifiers: names,
      issuers: [
        acmeIssuer({
          directory: ACME_DIRECTORY,
          termsOfServiceAgreed: true,
          solvers: [responder],
          // For test CAs only: their own trust anchor, and the port they validate on.
          ...(ACME_CA === undefined ? {} : { ca: readFileSync(ACME_CA, 'utf8') }),
          ...(VALIDATION_PORT === undefined
            ? {}
            : { preflight: { httpPort: Number(VALIDATION_PORT), resolve: () => Promise.resolve(['127.0.0.1']) } }),
        }),
      ],
      deployers: [
        // Each worker, for the server in its own process.
        nodeTlsDeployer({ servers: [https] }),
        // One of them, for all.
        ...(EDGE === undefined ? [] : [edgeDeployer({ url: EDGE, token: EDGE_TOKEN })]),
      ],
      endpoints: [{ host: '127.0.0.1', port: Number(HTTPS_PORT), servername }],
    },
  ],
})
scheduler.on('certificate-issued', ({ fingerprintSha256 }) => {
  say('obtained', fingerprintSha256)
})
scheduler.on('certificate-deployed', ({ deployer, fingerprintSha256, status }) => {
  say(status === 'deployed' ? 'brought' : 'found', fingerprintSha256, status === 'deployed' ? 'to' : 'at', deployer)
  // Not before: a balancer sends nobody to a worker that has no certificate yet.
  if (deployer === 'node-tls' && !https.listening) {
    https.listen(Number(HTTPS_PORT), () => {
      say('listens')
    })
  }
})
for (const event of ['issuance-failed', 'deployment-failed', 'verification-failed', 'pass-failed'] as const) {
  scheduler.on(event, ({ error, nextAttemptAt }) => {
    console.error(WORKER, event, 'again at', nextAttemptAt.toISOString(), error)
  })
}
scheduler.start()

const stopping = new AbortController()
const { signal: stopped } = stopping
const endsWithWorker = (work: Promise<unknown>): Promise<unknown> =>
  work.catch((error: unknown) => {
    if (!stopped.aborted) console.error(WORKER, error)
  })

// A file store does not tell what others have stored: then look. It costs a read when there is nothing new.
let look: Promise<unknown> | undefined
const lookNow = (): void => {
  look ??= endsWithWorker(scheduler.reconcile({ signal: stopped })).finally(() => (look = undefined))
}
const looking = store.watch === undefined ? setInterval(lookNow, 2_000) : undefined

// For the day a key has leaked: `kill -USR2` to one worker, and all have a new certificate.
process.on('SIGUSR2', () => void endsWithWorker(scheduler.renew('www', { force: true, signal: stopped })))

const stop = async (): Promise<void> => {
  clearInterval(looking)
  stopping.abort()
  for (const server of [http, https]) {
    server.close()
    server.closeIdleConnections()
  }
  await Promise.all([scheduler.stop(), gateway.close()])
  await store.close?.()
  await close()
  // From main.ts, which would be waited for.
  if (process.connected) process.disconnect()
}
// A terminal sends the one, and main.ts then the other.
let ending: Promise<void> | undefined
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void (ending ??= stop()))
