import { RenewalScheduler } from 'evercert'
import { mesosTls, pemFilesDeployer } from 'evercert/deployers/pem-files'
import { privateCaIssuer } from 'evercert/issuers/private-ca'
import { encryptedStore } from 'evercert/stores/encrypted'
import { fileStore } from 'evercert/stores/file'

const { NAMES = '', DIRECTORY = '/etc/mesos/tls', STORE = '', STORE_KEY = '', PERMITTED = '', RESTART } = process.env
const names = NAMES.split(',').filter(Boolean)

/** The CA's key is in the store: encrypted there, with a key that is kept elsewhere. */
const store = encryptedStore(fileStore({ directory: STORE }), Buffer.from(STORE_KEY, 'base64'))

const issuer = privateCaIssuer({
  commonName: 'Mesos cluster CA',
  // Masters and agents are servers and clients of each other.
  profile: 'peer',
  ...(PERMITTED === '' ? {} : { nameConstraints: { permitted: PERMITTED.split(',') } }),
})

const scheduler = new RenewalScheduler({
  store,
  logger: console,
  certificates: [
    {
      name: names[0] ?? 'mesos',
      identifiers: names,
      // Mesos' own list of ciphers knows no others.
      key: 'rsa-2048',
      issuers: [issuer],
      deployers: [
        pemFilesDeployer({
          ...mesosTls({
            directory: DIRECTORY,
            trustBundle: (context) => issuer.trustBundle({ ...context, store }),
          }),
          // Mesos reads its files at its start only.
          ...(RESTART === undefined ? {} : { afterwards: { command: ['/bin/sh', '-c', RESTART] as const } }),
        }),
      ],
    },
  ],
})

scheduler.on('certificate-deployed', ({ certificate, deployer }) => {
  console.log('deployed', certificate, 'to', deployer)
})
scheduler.start()

// A scheduler keeps no process alive by itself; this service does.
const alive = setInterval(() => undefined, 60_000)
process.once('SIGTERM', () => {
  clearInterval(alive)
  void scheduler.stop()
})
