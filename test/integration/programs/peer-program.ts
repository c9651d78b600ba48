/**
 * A peer of a gateway that misbehaves as it is told, and prints every request it gets: one line of JSON.
 *
 * Arguments: behaviour, address, port, and for `lying` the origin of a sound peer.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const [behaviour = '', address = '', port = '', sound = ''] = process.argv.slice(2)
const foreignThumbprint = 'f'.repeat(43)

interface Listed {
  readonly challenges: readonly { readonly token: string }[]
}

const behaviours: Readonly<Record<string, (response: ServerResponse) => Promise<void>>> = {
  async empty(response) {
    response.end('{"challenges":[]}')
  },
  async slow(response) {
    await sleep(5_000)
    response.end('{"challenges":[]}')
  },
  async failing(response) {
    response.writeHead(500).end('out of order')
  },
  /** Claims everybody's challenges for an account of its own. */
  async lying(response) {
    const listed = (await (await fetch(`${sound}/open-challenges`)).json()) as Listed
    const challenges = [{ token: 'of-the-liar' }, ...listed.challenges].map(({ token }) => ({
      token,
      keyAuthorization: `${token}.${foreignThumbprint}`,
    }))
    response.end(JSON.stringify({ challenges }))
  },
  async garbage(response) {
    response.end(Buffer.from(Array.from({ length: 4_096 }, (_, index) => (index * 37) % 256)))
  },
  /** Never comes to an end. */
  async huge(response) {
    response.write('{"challenges":[')
    const chunk = 'x'.repeat(65_536)
    while (!response.destroyed) {
      if (!response.write(chunk)) await sleep(1)
    }
  },
}

const behave = behaviours[behaviour]
if (behave === undefined) throw new TypeError(`no such behaviour: ${behaviour}`)

createServer((request: IncomingMessage, response) => {
  const { method, url, rawHeaders } = request
  process.stdout.write(`${JSON.stringify({ method, url, rawHeaders })}\n`)
  behave(response).catch(() => response.destroy())
}).listen(Number(port), address)
