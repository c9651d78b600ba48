import type { Route53Client } from '@aws-sdk/client-route-53'
import { onTestFinished } from 'vitest'
import { startRoute53, type Route53Emulator, type Route53Options } from '../../../servers/route53/index.js'
import { sdkClient } from '../../../servers/route53/sdk-client.js'

/** For one test: an emulator with the zone Z1, example.com, unless told otherwise, and the SDK's client of it. */
export async function start(
  options: Route53Options = {},
): Promise<{ route53: Route53Emulator; client: Route53Client }> {
  const route53 = await startRoute53({ zones: [{ name: 'example.com', id: 'Z1' }], ...options })
  const client = sdkClient(route53, route53.principals[0])
  onTestFinished(async () => {
    client.destroy()
    await route53.close()
  })
  return { route53, client }
}
