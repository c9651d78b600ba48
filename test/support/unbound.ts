/**
 * Unbound: a recursive resolver that knows where the zones of a test are served.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { spawnServer } from './processes.js'
import { requireServer } from './server-paths.js'
import { temporaryDirectory } from './temporary-directory.js'

export interface UnboundOptions {
  readonly address: string
  readonly port: number
  /** Zone to the address of a server that has it. Nothing else is resolved. */
  readonly zones: Readonly<Record<string, { readonly address: string; readonly port: number }>>
}

export interface Unbound {
  output(): string
  stop(): Promise<void>
}

export async function startUnbound({ address, port, zones }: UnboundOptions): Promise<Unbound> {
  const directory = await temporaryDirectory()
  const configPath = join(directory.path, 'unbound.conf')
  const config = [
    'server:',
    ` interface: ${address}@${port}`,
    ' username: ""',
    ' chroot: ""',
    ' pidfile: ""',
    ` directory: "${directory.path}"`,
    ' use-syslog: no',
    ' verbosity: 1',
    ' num-threads: 1',
    ' module-config: "iterator"',
    ' do-not-query-localhost: no',
    // What a cache holds is told to those who ask without recursion, too.
    ' access-control: 127.0.0.0/8 allow_snoop',
    ' local-zone: "." refuse',
    ...Object.keys(zones).map((zone) => ` local-zone: "${zone}." transparent`),
    'remote-control:',
    ' control-enable: no',
    ...Object.entries(zones).flatMap(([zone, server]) => [
      'stub-zone:',
      ` name: ${zone}`,
      ` stub-addr: ${server.address}@${server.port}`,
    ]),
  ]
  try {
    await writeFile(configPath, `${config.join('\n')}\n`)
    const server = await spawnServer({
      command: requireServer('unbound'),
      args: ['-d', '-d', '-c', configPath],
      ready: [{ log: /start of service/ }],
    })
    return {
      output: server.output,
      async stop() {
        await server.stop()
        await directory.remove()
      },
    }
  } catch (error) {
    await directory.remove()
    throw error
  }
}
