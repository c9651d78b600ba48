/**
 * A `node:http` server for a port that everybody can reach.
 *
 * @module
 */
import { createServer, type RequestListener, type Server } from 'node:http'
import type { Socket } from 'node:net'

/** Requests of one connection that wait for an answer. Nobody needs several; Node would take them without end. */
const mostPipelined = 10
/** Longer than any answer takes, in milliseconds. */
const silenceMs = 30_000

/**
 * Small headers, no bodies, and five seconds for a request. When all connections are taken the oldest is closed for a new
 * one, so that connections which are only held open cannot lock anybody out.
 */
export function strictServer(listener: RequestListener, maxConnections: number): Server {
  const pipelined = new WeakMap<Socket, number>()
  const server = createServer(
    {
      maxHeaderSize: 8_192,
      headersTimeout: 5_000,
      requestTimeout: 5_000,
      keepAliveTimeout: 5_000,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => {
      const { socket } = request
      const unanswered = (pipelined.get(socket) ?? 0) + 1
      if (unanswered > mostPipelined) {
        socket.destroy()
        return
      }
      pipelined.set(socket, unanswered)
      response.once('close', () => {
        pipelined.set(socket, (pipelined.get(socket) ?? 1) - 1)
      })
      // Nothing here reads a body; whoever sends one all the same is not listened to any longer.
      if (request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined) {
        response.shouldKeepAlive = false
      }
      listener(request, response)
    },
  )
  server.maxHeadersCount = 50
  // Also whoever does not read his answer.
  server.timeout = silenceMs
  const open = new Set<Socket>()
  server.on('connection', (socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    if (open.size <= maxConnections) return
    const [oldest] = open
    oldest?.destroy()
  })
  return server
}
