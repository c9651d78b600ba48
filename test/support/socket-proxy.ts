/**
 * A Unix socket in front of another one, on which commands can be held: what happens to a client that ends right there?
 */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export type Verdict = 'pass' | 'drop' | 'keep-reply'

export interface SocketProxy {
  readonly socket: string
  /** First lines of the commands so far. */
  readonly commands: string[]
  /** Decides about each command, counted from 1. `drop`: not passed on; `keep-reply`: passed on, the reply is not. */
  onCommand: (command: string, count: number) => Verdict | Promise<Verdict>
  /** Resolves once a command has been dropped, or a reply kept. */
  readonly held: Promise<string>
  close(): Promise<void>
}

export async function socketProxy(socket: string, target: string): Promise<SocketProxy> {
  const open = new Set<Socket>()
  let announce: (command: string) => void
  const held = new Promise<string>((resolve) => (announce = resolve))
  const proxy: SocketProxy = {
    socket,
    commands: [],
    onCommand: () => 'pass',
    held,
    async close() {
      for (const connection of open) connection.destroy()
      await once(server.close(), 'close')
    },
  }
  const track = (connection: Socket): void => {
    open.add(connection)
    connection.on('close', () => open.delete(connection))
    connection.on('error', () => undefined)
  }
  const server = createServer({ allowHalfOpen: true }, (client) => {
    track(client)
    let input = ''
    client.setEncoding('utf8')
    client.on('data', (chunk: string) => {
      input += chunk
      const line = input.split('\n', 1)[0] ?? ''
      const complete = line.endsWith(' <<') ? input.includes('\n\n') : input.endsWith('\n')
      if (!complete) return
      proxy.commands.push(line)
      void handle(client, line, input)
    })
  })

  const handle = async (client: Socket, line: string, input: string): Promise<void> => {
    const verdict = await proxy.onCommand(line, proxy.commands.length)
    if (verdict === 'drop') {
      announce(line)
      return
    }
    const upstream = connect(target)
    track(upstream)
    upstream.write(input)
    let reply = ''
    upstream.setEncoding('utf8')
    upstream.on('data', (part: string) => (reply += part))
    upstream.on('close', () => {
      if (verdict === 'pass') client.end(reply)
      else announce(line)
    })
  }
  await once(server.listen(socket), 'listening')
  return proxy
}
