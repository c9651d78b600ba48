import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { RenewalScheduler } from 'evercert'
import {
  marathonDeployer,
  marathonLbHosts,
  readMarathonLabels,
  type MarathonAuthentication,
} from 'evercert/deployers/marathon'
import { acmeIssuer, letsEncrypt } from 'evercert/issuers/acme'
import { httpResponder } from 'evercert/solvers/http-responder'
import { fileStore } from 'evercert/stores/file'

const {
  // As with letsencrypt-dcos. MARATHON_APP_ID is set by Marathon itself.
  MARATHON_URL = 'http://marathon.mesos:8080',
  MARATHON_APP_ID = '',
  MARATHON_LB_ID = 'marathon-lb',
  MARATHON_LB_CERT_ENV = 'HAPROXY_SSL_CERT',
  LETSENCRYPT_EMAIL,
  LETSENCRYPT_SERVER_URL = letsEncrypt.staging,
  // What letsencrypt-dcos did not have.
  MARATHON_LB_URL = MARATHON_URL,
  MARATHON_CA_FILE,
  DCOS_SERVICE_ACCOUNT_CREDENTIAL,
  MARATHON_AUTH_TOKEN,
  MARATHON_USER,
  MARATHON_PASSWORD = '',
  MARATHON_LB_SPARE_AGENT,
  STATE_DIRECTORY = '/var/lib/evercert',
  LISTEN_PORT = '80',
  MARATHON_LB_ENDPOINTS = `${MARATHON_LB_ID.split('/').filter(Boolean).reverse().join('-')}.marathon.mesos:443`,
  CHALLENGE_PREFLIGHT = 'stop',
  // For test CAs only: their own trust anchor, and the ports they validate on.
  ACME_CA_FILE,
  CHALLENGE_PORTS,
} = definedOf(process.env)

/** What is set to nothing counts as not set. */
function definedOf(variables: typeof process.env): typeof process.env {
  return Object.fromEntries(Object.entries(variables).filter(([, value]) => value !== ''))
}

const list = (text: string): string[] => text.split(/[\s,]+/).filter(Boolean)

if (MARATHON_APP_ID === '')
  throw new Error('MARATHON_APP_ID is missing; Marathon sets it, outside of it set it to this app')
if (!['stop', 'warn', 'off'].includes(CHALLENGE_PREFLIGHT)) throw new Error('CHALLENGE_PREFLIGHT is stop, warn or off')

function authentication(): MarathonAuthentication | undefined {
  if (DCOS_SERVICE_ACCOUNT_CREDENTIAL) return { type: 'service-account', credential: DCOS_SERVICE_ACCOUNT_CREDENTIAL }
  if (MARATHON_AUTH_TOKEN) return { type: 'token', token: MARATHON_AUTH_TOKEN }
  if (MARATHON_USER) return { type: 'basic', username: MARATHON_USER, password: MARATHON_PASSWORD }
  return undefined
}

function marathon(urls: string, appId: string) {
  const ca = MARATHON_CA_FILE === undefined ? undefined : readFileSync(MARATHON_CA_FILE, 'utf8')
  // As letsencrypt-dcos: what is called http:// in MARATHON_URL is talked to by http.
  return { urls: list(urls), appId, authentication: authentication(), ca, allowHttp: true }
}

function preflight() {
  if (CHALLENGE_PREFLIGHT === 'off') return false
  const [httpPort, httpsPort] = list(CHALLENGE_PORTS ?? '').map(Number)
  const onFailure = CHALLENGE_PREFLIGHT === 'warn' ? 'warn' : 'stop'
  if (httpPort === undefined) return { onFailure } as const
  return { onFailure, httpPort, httpsPort, resolve: () => Promise.resolve(['127.0.0.1']) } as const
}

// marathon-lb sends the challenges of these names here: by host and path, whether or not it redirects to https before.
const responder = httpResponder()
const server = createServer((request, response) => {
  if (!responder.requestListener(request, response)) response.writeHead(request.url === '/health' ? 200 : 404).end()
})
server.listen(Number(LISTEN_PORT))

// Whoever changes the labels has Marathon start this app anew, so once is enough.
const names = marathonLbHosts(await readMarathonLabels(marathon(MARATHON_URL, MARATHON_APP_ID)))
if (names.length === 0) throw new Error(`the app ${MARATHON_APP_ID} has no label HAPROXY_0_VHOST with host names`)
const [servername = ''] = names
console.log('names', names.join(' '))

const deployer = marathonDeployer({
  ...marathon(MARATHON_LB_URL, MARATHON_LB_ID),
  environmentVariable: MARATHON_LB_CERT_ENV,
  spareAgent: MARATHON_LB_SPARE_AGENT === 'true',
})

const scheduler = new RenewalScheduler({
  store: fileStore({ directory: STATE_DIRECTORY }),
  logger: console,
  certificates: [
    {
      name: 'marathon-lb',
      identifiers: names,
      issuers: [
        acmeIssuer({
          directory: LETSENCRYPT_SERVER_URL,
          termsOfServiceAgreed: true,
          contact: LETSENCRYPT_EMAIL ? [`mailto:${LETSENCRYPT_EMAIL}`] : [],
          solvers: [responder],
          preflight: preflight(),
          ...(ACME_CA_FILE === undefined ? {} : { ca: readFileSync(ACME_CA_FILE, 'utf8') }),
        }),
      ],
      deployers: [deployer],
      endpoints: list(MARATHON_LB_ENDPOINTS === 'none' ? '' : MARATHON_LB_ENDPOINTS).map((address) => {
        const { hostname, port } = new URL(`tls://${address}`)
        return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 443), servername }
      }),
    },
  ],
})
scheduler.on('certificate-deployed', ({ deployer: target, status }) => {
  console.log('deployed', target, status)
})
scheduler.on('certificate-served', ({ endpoint, notAfter }) => {
  console.log('served', endpoint, 'until', notAfter.toISOString())
})
scheduler.start()

process.once('SIGTERM', () => {
  void scheduler.stop()
  server.close()
  server.closeAllConnections()
})
