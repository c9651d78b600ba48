import { readFileSync } from 'node:fs'
import { isIPv6 } from 'node:net'
import { RenewalScheduler, systemClock } from 'evercert'
import { haproxyDeployer } from 'evercert/deployers/haproxy'
import { acmeIssuer, letsEncrypt } from 'evercert/issuers/acme'
import { challengeGateway, webrootChallenges } from 'evercert/solvers/challenge-gateway'
import { webrootSolver } from 'evercert/solvers/webroot'
import { fileStore } from 'evercert/stores/file'

const {
  NAMES = '',
  PEERS = '',
  PEER_ADDRESS = '',
  PEER_PORT = '31080',
  ACCOUNT_THUMBPRINTS = '',
  GATEWAY_PORT = '8402',
  WEBROOT = '',
  PEM = '',
  HAPROXY_SOCKET = '',
  STORE = '',
  ACME_DIRECTORY,
  ACME_CA,
  DNS_SERVERS,
} = process.env
const list = (text: string): string[] => text.split(',').filter(Boolean)
const names = list(NAMES)
const thumbprints = list(ACCOUNT_THUMBPRINTS)

const store = fileStore({ directory: STORE })
const issuer = acmeIssuer({
  directory: ACME_DIRECTORY ?? letsEncrypt.staging,
  termsOfServiceAgreed: true,
  solvers: [webrootSolver({ directory: WEBROOT })],
  // A balancer that is down must not keep the others from renewing: the CA need not come to it.
  preflight: {
    onFailure: 'warn',
    timeoutMs: 3_000,
    ...(DNS_SERVERS === undefined ? {} : { servers: list(DNS_SERVERS) }),
  },
  // For test CAs only: their own trust anchor.
  ...(ACME_CA === undefined ? {} : { ca: readFileSync(ACME_CA, 'utf8') }),
})

const gateway = challengeGateway({
  challenges: webrootChallenges({ directory: WEBROOT }),
  peers: list(PEERS).map((address) => `${isIPv6(address) ? `[${address}]` : address}:${PEER_PORT}`),
  ...(thumbprints.length === 0 ? {} : { accountThumbprints: thumbprints }),
  // HAProxy redirects; what comes here and is no challenge is a mistake.
  elsewhere: 'leave',
  logger: console,
})
const servers = [
  // Node's own backlog of 511 would be full at once when somebody guesses tokens.
  gateway.createServer().listen({ port: Number(GATEWAY_PORT), host: '127.0.0.1', backlog: 4_096 }),
  gateway.createPeerServer().listen(Number(PEER_PORT), PEER_ADDRESS),
]

const scheduler = new RenewalScheduler({
  store,
  logger: console,
  certificates: [
    {
      name: 'www',
      identifiers: names,
      issuers: [issuer],
      deployers: [haproxyDeployer({ pemPath: PEM, runtimeSocket: HAPROXY_SOCKET })],
      // This balancer only: the others have certificates of their own.
      endpoints: names.slice(0, 1).map((servername) => ({ host: '127.0.0.1', servername })),
      placeholder: true,
    },
  ],
})
scheduler.on('certificate-served', ({ endpoint, notAfter }) => {
  console.log('served', endpoint, 'until', notAfter.toISOString())
})

// What the other balancers need to know of this one.
issuer
  .account({ store, logger: console, clock: systemClock, random: Math.random, signal: new AbortController().signal })
  .then(({ thumbprint }) => {
    console.log('account thumbprint', thumbprint)
    if (thumbprints.length > 0 && !thumbprints.includes(thumbprint)) {
      console.error('this account is not among ACCOUNT_THUMBPRINTS: no balancer will answer for it')
    }
  })
  .catch((error: unknown) => {
    console.error('the account is not known yet', error)
  })
  .finally(() => {
    scheduler.start()
  })

process.once('SIGTERM', () => {
  for (const server of servers) {
    server.close()
    server.closeAllConnections()
  }
  void Promise.all([scheduler.stop(), gateway.close()])
})
