/**
 * Answers http-01: one and the same for all peers that run in Node.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { Challenges } from './peer.js'

const prefix = '/.well-known/acme-challenge/'

/** Serves until the returned function is called. The peers take turns on one port: Pebble knows only one. */
export async function serveChallenges(port: number, challenges: Challenges): Promise<() => Promise<void>> {
  const server = createServer(({ url = '' }, response) => {
    const answer = url.startsWith(prefix) ? challenges.get(url.slice(prefix.length)) : undefined
    response.writeHead(answer === undefined ? 404 : 200).end(answer)
  }).listen(port, '127.0.0.1')
  await once(server, 'listening')
  return async () => {
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
}
