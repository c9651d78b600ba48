import { createPrivateKey, X509Certificate } from 'node:crypto'
import { describe, it } from 'node:test'
import { deployerContract } from 'evercert/testing'
import { keyValueDeployer } from './key-value-deployer.js'

deployerContract(
  { describe, it },
  {
    level: 'basic',
    createDeployer() {
      const values = new Map<string, string>([['other', 'value of somebody else']])
      let failing = false
      let writes = 0
      const service = {
        read: (key: string) => Promise.resolve(values.get(key)),
        write(key: string, value: string) {
          writes += 1
          if (failing) {
            failing = false
            return Promise.reject(new Error('connection reset'))
          }
          values.set(key, value)
          return Promise.resolve()
        },
      }
      return Promise.resolve({
        deployer: keyValueDeployer(service, 'tls/www'),
        readDeployed() {
          const pem = values.get('tls/www')
          if (pem === undefined) return Promise.resolve(undefined)
          const leaf = new X509Certificate(pem)
          const key = createPrivateKey(pem.slice(pem.indexOf('-----BEGIN PRIVATE KEY-----')))
          return Promise.resolve({
            fingerprintSha256: leaf.fingerprint256.replaceAll(':', '').toLowerCase(),
            keyMatches: leaf.checkPrivateKey(key),
          })
        },
        failNextWrite() {
          failing = true
        },
        writes: () => writes,
        unrelatedState: () => JSON.stringify([...values].filter(([key]) => key !== 'tls/www')),
      })
    },
  },
)
