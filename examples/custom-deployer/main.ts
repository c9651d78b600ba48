import { RenewalScheduler } from 'evercert'
import { selfSignedIssuer } from 'evercert/issuers/self-signed'
import { memoryStore } from 'evercert/stores/memory'
import { keyValueDeployer } from './key-value-deployer.js'

const values = new Map<string, string>()
const service = {
  read: (key: string) => Promise.resolve(values.get(key)),
  write(key: string, value: string) {
    values.set(key, value)
    return Promise.resolve()
  },
}

const scheduler = new RenewalScheduler({
  store: memoryStore(),
  certificates: [
    {
      name: 'www',
      identifiers: ['www.example.com'],
      issuers: [selfSignedIssuer()],
      deployers: [keyValueDeployer(service, 'tls/www')],
    },
  ],
})
scheduler.on('certificate-deployed', ({ deployer, status }) => {
  console.log(status, 'to', deployer, `(${String(values.get('tls/www')?.length)} characters)`)
})
const { outcomes } = await scheduler.reconcile()
console.log(outcomes[0]?.status)
