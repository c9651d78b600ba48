/**
 * moto's server: AWS as somebody else understands it. Everybody who asks shares what is in it, so tests make zones of their
 * own.
 */
import { CreateHostedZoneCommand, Route53Client } from '@aws-sdk/client-route-53'
import { withFreePorts } from './ports.js'
import { spawnServer } from './processes.js'
import { requireServer } from './server-paths.js'

export interface Moto {
  readonly endpoint: string
  /** A client with the default retries of the SDK off. */
  client(): Route53Client
  /** Resolves with the id. */
  createZone(name: string, options?: { readonly private?: boolean }): Promise<string>
  output(): string
  stop(): Promise<void>
}

export function startMoto(): Promise<Moto> {
  return withFreePorts(1, async (port) => {
    const server = await spawnServer({
      command: requireServer('moto_server'),
      args: ['-H', '127.0.0.1', '-p', String(port)],
      ready: [{ port }],
      // Python reads a great many files when it starts.
      readyTimeoutMs: 60_000,
    })
    const endpoint = `http://127.0.0.1:${String(port)}`
    const client = (): Route53Client =>
      new Route53Client({
        endpoint,
        region: 'us-east-1',
        maxAttempts: 1,
        credentials: { accessKeyId: 'testing', secretAccessKey: 'testing' },
      })
    let zones = 0
    return {
      endpoint,
      client,
      async createZone(name, options = {}) {
        zones += 1
        const { HostedZone } = await client().send(
          new CreateHostedZoneCommand({
            Name: name,
            CallerReference: `zone ${String(zones)}`,
            ...(options.private === true
              ? {
                  HostedZoneConfig: { PrivateZone: true },
                  VPC: { VPCRegion: 'us-east-1', VPCId: 'vpc-1' },
                }
              : {}),
          }),
        )
        return HostedZone!.Id!.replace('/hostedzone/', '')
      },
      output: server.output,
      stop: server.stop,
    }
  })
}
