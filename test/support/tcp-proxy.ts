/**
 * A TCP port in front of another one, for protocols whose requests come in one piece: connections break before a request
 * is passed on, after it was carried out, or not at all and nobody answers any more.
 */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export type TcpFault =
  /** The connection is cut instead of passing the request on. */
  | 'drop-before'
  /** The request is passed on; the connection is cut when its reply comes. */
  | 'drop-after'
  /** The request is passed on to nobody, and the connection stays. */
  | 'hang'
  /** Nothing passes any more, over any connection, until `thaw`; what was sent meanwhile arrives then. */
  | 'freeze'

export interface TcpProxy {
  readonly port: number
  /** The nth request from now on goes wrong, counted from 1 over all connections. */
  arm(nth: number, fault: TcpFault): void
  /** From now on nothing goes wrong any more. Tells whether something did. */
  disarm(): boolean
  /** Whether something went wrong since `arm`. */
  readonly fired: boolean
  thaw(): void
  /** Cuts what is connected, and refuses who comes until `restore`, which may lead elsewhere. */
  cut(): void
  restore(target?: number): void
  close(): Promise<void>
}

export async function tcpProxy(firstTarget: number): Promise<TcpProxy> {
  const open = new Set<Socket>()
  let armed: { left: number; readonly fault: TcpFault } | undefined
  let fired = false
  let refusing = false
  let target = firstTarget
  /** What happens at `thaw`; `undefined`: nothing is frozen. */
  let frozen: (() => void)[] | undefined

  /** Now, or at `thaw`. */
  const pass = (act: () => void): void => {
    if (frozen === undefined) act()
    else frozen.push(act)
  }
  const track = (connection: Socket): void => {
    open.add(connection)
    connection.on('close', () => open.delete(connection))
    connection.on('error', () => undefined)
  }
  const server = createServer({ noDelay: true }, (client) => {
    track(client)
    if (refusing) {
      client.destroy()
      return
    }
    const upstream = connect({ port: target, host: '127.0.0.1', noDelay: true })
    track(upstream)
    let hanging = false
    let cutAtReply = false
    client.on('close', () => {
      pass(() => upstream.destroy())
    })
    upstream.on('close', () => {
      pass(() => client.destroy())
    })
    client.on('data', (request: Buffer) => {
      if (armed !== undefined && (armed.left -= 1) === 0) {
        const { fault } = armed
        armed = undefined
        fired = true
        if (fault === 'drop-before') {
          client.destroy()
          return
        }
        if (fault === 'hang') hanging = true
        else if (fault === 'freeze') frozen = []
        else cutAtReply = true
      }
      if (!hanging) pass(() => upstream.write(request))
    })
    upstream.on('data', (reply: Buffer) => {
      if (cutAtReply) client.destroy()
      else pass(() => client.write(reply))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    arm(nth, fault) {
      fired = false
      armed = { left: nth, fault }
    },
    disarm() {
      armed = undefined
      return fired
    },
    get fired() {
      return fired
    },
    thaw() {
      const held = frozen ?? []
      frozen = undefined
      for (const act of held) act()
    },
    cut() {
      refusing = true
      for (const connection of open) connection.destroy()
    },
    restore(next = target) {
      target = next
      refusing = false
    },
    async close() {
      for (const connection of open) connection.destroy()
      await once(server.close(), 'close')
    },
  }
}
