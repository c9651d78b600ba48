/**
 * The real SDK, pointed at the emulator.
 */
import { Route53Client } from '@aws-sdk/client-route-53'
import type { Route53Emulator } from './index.js'
import type { Principal } from './signature.js'

/** One attempt, so that tests see each answer. */
export function sdkClient({ endpoint }: Pick<Route53Emulator, 'endpoint'>, principal?: Principal): Route53Client {
  const { accessKeyId, secretAccessKey, sessionToken } = principal ?? {
    accessKeyId: 'AKIDANYBODY',
    secretAccessKey: 'anything',
  }
  return new Route53Client({
    endpoint,
    region: 'us-east-1',
    credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) },
    maxAttempts: 1,
  })
}
