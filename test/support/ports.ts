/**
 * TCP ports of 127.0.0.1 that nothing listens on.
 */
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server } from 'node:net'

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}

// A port may be wanted now and used later: none is handed out twice in one process.
const handedOut = new Set<number>()

/** `count` different ports. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = []
  const holders: Server[] = []
  while (ports.length < count) {
    const holder = createServer().listen(0, '127.0.0.1')
    holders.push(holder)
    await once(holder, 'listening')
    const { port } = holder.address() as AddressInfo
    if (handedOut.has(port)) continue
    handedOut.add(port)
    ports.push(port)
  }
  await Promise.all(holders.map((holder) => once(holder.close(), 'close')))
  return ports
}

/**
 * Runs `start` with fresh ports. Between the choice of a port and its use another process may take it: then once
 * more, with others.
 */
export async function withFreePorts<T>(count: number, start: (...ports: number[]) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start(...(await freePorts(count)))
    } catch (error) {
      const portTaken = error instanceof Error && /address already in use|EADDRINUSE|cannot bind/i.test(error.message)
      if (!portTaken || attempt === 3) throw error
    }
  }
}
