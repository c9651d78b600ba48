/**
 * One command, one reply, over a Unix socket: how HAProxy's runtime API and its master are spoken to.
 *
 * @module
 */
import { connect, type Socket } from 'node:net'
import type { Clock } from '../core/clock.js'
import { withDeadline } from './deadline.js'

/** Parts of {@link askSocket}. */
export interface SocketQuestion {
  readonly path: string
  readonly command: string
  /** End our side after the command: HAProxy's master answers only then. */
  readonly endAfterCommand: boolean
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly timeoutMs: number
}

/** No honest reply is larger; a listing of 10,000 certificates is. */
export const largestReplyBytes = 1_000_000

/**
 * Resolves with everything the other side said until it closed the connection.
 *
 * Rejects with the abort reason, with the error of the system (`ENOENT`, `EACCES`, `ECONNREFUSED`, `ECONNRESET`, `EPIPE`),
 * or with an `Error` coded `ETIMEDOUT` or `EMSGSIZE`.
 */
export async function askSocket(question: SocketQuestion): Promise<string> {
  const { path, clock, signal, timeoutMs } = question
  const onTimeout = (): Error => codedError('ETIMEDOUT', `${path}: no complete reply within ${String(timeoutMs)} ms`)
  return withDeadline({ clock, signal, ms: timeoutMs, onTimeout }, (inner) => exchange(question, inner))
}

function exchange({ path, command, endAfterCommand }: SocketQuestion, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(path)
    const chunks: Buffer[] = []
    let bytes = 0
    const onAbort = (): void => {
      socket.destroy()
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= largestReplyBytes) chunks.push(chunk)
      else
        socket.destroy(codedError('EMSGSIZE', `${path}: the reply is longer than ${String(largestReplyBytes)} bytes`))
    })
    socket.on('error', reject)
    socket.on('close', () => {
      signal.removeEventListener('abort', onAbort)
      resolve(Buffer.concat(chunks).toString('utf8'))
    })
    if (endAfterCommand) socket.end(command)
    else socket.write(command)
  })
}

function codedError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code })
}
