/**
 * One command, one reply, over a Unix socket: how HAProxy's runtime API is spoken.
 */
import { connect } from 'node:net'

export function askSocket(path: string, command: string, timeoutMs = 5_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    let reply = ''
    socket.setEncoding('utf8')
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`${path}: no reply within ${timeoutMs} ms`)))
    socket.on('data', (chunk: string) => (reply += chunk))
    socket.on('error', reject)
    socket.on('close', () => resolve(reply))
    socket.write(`${command}\n`)
  })
}
