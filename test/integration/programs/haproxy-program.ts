/**
 * One process that deploys one certificate to HAProxy, for tests that kill it or let it race. Reads what to do from standard
 * input as JSON, and says how it ended as JSON.
 */
import { text } from 'node:stream/consumers'
import { createBundle } from '../../../src/core/certificate-bundle.js'
import { systemClock } from '../../../src/core/clock.js'
import { silentLogger } from '../../../src/core/logger.js'
import { importPrivateKey } from '../../../src/core/private-key.js'
import { haproxyDeployer, type HaproxyDeployerOptions } from '../../../src/deployers/haproxy.js'
import { CertError } from '../../../src/errors.js'

export interface HaproxyProgramInput {
  readonly options: HaproxyDeployerOptions
  readonly bundles: readonly { readonly certificatePem: string; readonly chainPem: string; readonly keyPem: string }[]
}

async function main(): Promise<void> {
  const { options, bundles } = JSON.parse(await text(process.stdin)) as HaproxyProgramInput
  const deployer = haproxyDeployer(options)
  const context = { signal: new AbortController().signal, clock: systemClock, logger: silentLogger }
  const outcomes: string[] = []
  for (const { certificatePem, chainPem, keyPem } of bundles) {
    const privateKey = importPrivateKey(keyPem)
    const parts = { name: 'www', certificatePem, chainPem, privateKey, issuerId: 'test', placeholder: false }
    try {
      outcomes.push((await deployer.deploy(createBundle(parts), context)).status)
    } catch (error) {
      if (!CertError.isInstance(error)) throw error
      outcomes.push(`${error.code}: ${error.message}`)
    }
  }
  process.stdout.write(JSON.stringify(outcomes))
}

void main()
