/**
 * The main job of evercert, from order to handshake. Without flags everything runs on this machine: a test CA, a web
 * server with a webroot, a file store, and a TLS server (HAProxy when it is installed, else Node).
 */
import { parseArgs } from 'node:util'
import { runEmbedded } from './embedded.js'
import { runReal } from './real.js'

const help = `
npm run demo                    everything embedded: watch a certificate being ordered, stored, deployed, served, renewed
npm run demo -- [flags]         the same against a real CA; one pass, then it ends

Embedded:
  --tls haproxy|node            TLS server of the embedded run         (default: haproxy when it is installed)

Real:
  --directory <url>             ACME directory, e.g. https://acme-staging-v02.api.letsencrypt.org/directory
  --agree                       you agree to the terms of service of that CA
  --name <name>                 DNS name or IP address; repeat for more
  --webroot <dir>               what your web server serves on port 80
  --pem <file>                  where chain and key are written, one file
  --runtime-socket <path>       HAProxy's admin socket: swaps the certificate without a reload
  --store <dir>                 where account, orders and keys are kept (default: ./evercert-store)
  --endpoint <host:port>        where clients connect: proved by a handshake after the deployment
  --ca <file>                   trust anchors (PEM) for the connection to the CA, e.g. Pebble's
  --plan                        only say what would be done
  --help
`

function readFlags() {
  return parseArgs({
    options: {
      help: { type: 'boolean', default: false },
      tls: { type: 'string' },
      directory: { type: 'string' },
      agree: { type: 'boolean', default: false },
      name: { type: 'string', multiple: true, default: [] },
      webroot: { type: 'string' },
      pem: { type: 'string' },
      'runtime-socket': { type: 'string' },
      store: { type: 'string', default: 'evercert-store' },
      endpoint: { type: 'string' },
      ca: { type: 'string' },
      plan: { type: 'boolean', default: false },
    },
  }).values
}

let values: ReturnType<typeof readFlags>
try {
  values = readFlags()
} catch (error) {
  console.error(`${error instanceof Error ? error.message : 'wrong arguments'}; see --help`)
  process.exit(2)
}

if (values.help) {
  console.log(help)
} else if (values.directory === undefined) {
  await runEmbedded({ tls: values.tls })
} else {
  process.exitCode = await runReal({
    directory: values.directory,
    agree: values.agree,
    names: values.name,
    webroot: values.webroot,
    pem: values.pem,
    runtimeSocket: values['runtime-socket'],
    store: values.store,
    endpoint: values.endpoint,
    ca: values.ca,
    planOnly: values.plan,
  })
}
