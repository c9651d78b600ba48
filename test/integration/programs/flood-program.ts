/**
 * Asks a balancer for tokens that nobody knows, at a steady rate, and prints how that went.
 *
 * Arguments: address, requests a second, seconds.
 */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

const [address = '', rate = '', seconds = ''] = process.argv.slice(2)
const [perSecond, ms] = [Number(rate), Number(seconds) * 1_000]
const statuses: Record<string, number> = {}
const began = performance.now()
let sent = 0

/** One connection: a question as soon as the last one is answered and the rate allows. */
function begin(): void {
  const socket: Socket = connect(80, address)
  let answer = ''
  let timer: NodeJS.Timeout | undefined
  const ask = (): void => {
    const elapsed = performance.now() - began
    if (elapsed >= ms) {
      socket.end()
    } else if (sent >= (elapsed / 1_000) * perSecond) {
      timer = setTimeout(ask, 5)
    } else {
      sent += 1
      const token = randomBytes(32).toString('base64url')
      socket.write(`GET /.well-known/acme-challenge/${token} HTTP/1.1\r\nHost: fleet.example.com\r\n\r\n`)
    }
  }
  const count = (status: string): void => {
    statuses[status] = (statuses[status] ?? 0) + 1
  }
  socket.setEncoding('latin1')
  socket.on('connect', ask)
  socket.on('data', (text: string) => {
    answer += text
    // 404s have no body; other answers are counted and end the connection.
    if (!answer.includes('\r\n\r\n')) return
    count(answer.slice(9, 12))
    answer = ''
    ask()
  })
  socket.on('error', () => count('broken'))
  socket.on('close', () => {
    clearTimeout(timer)
    if (performance.now() - began < ms) setTimeout(begin, 10)
  })
}

for (let connections = 0; connections < 200; connections += 1) begin()
process.on('exit', () => {
  const elapsed = Math.min(ms, performance.now() - began) / 1_000
  process.stdout.write(`${JSON.stringify({ sent, perSecond: Math.round(sent / elapsed), statuses })}\n`)
})
setTimeout(() => process.exit(0), ms + 2_000)
