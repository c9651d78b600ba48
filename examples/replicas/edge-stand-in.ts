/** Stands in for the edge in the demonstration and in the tests: keeps one certificate. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'

interface Pair {
  readonly chain: string
  readonly key: string
}

export interface EdgeStandIn {
  readonly url: string
  readonly token: string
  /** What was uploaded last. */
  readonly pair: Pair | undefined
  readonly fingerprintSha256: string | undefined
  /** How many uploads have been taken. */
  readonly uploads: number
  /** The next upload is answered with 503, and not taken. */
  failNextUpload(): void
  close(): Promise<void>
}

export async function startEdgeStandIn(): Promise<EdgeStandIn> {
  const token = 'token-of-the-edge'
  let pair: Pair | undefined
  let uploads = 0
  let failing = false
  const fingerprint = (): string | undefined =>
    pair && new X509Certificate(pair.chain).fingerprint256.replaceAll(':', '').toLowerCase()

  const server = createServer((request, response) => {
    if (request.headers.authorization !== `Bearer ${token}`) {
      response.writeHead(401).end()
    } else if (request.method !== 'PUT') {
      response.writeHead(pair === undefined ? 404 : 200).end(fingerprint())
    } else {
      const failed = failing
      failing = false
      json(request)
        .then((body) => {
          const next = body as Pair
          const belongs = new X509Certificate(next.chain).checkPrivateKey(createPrivateKey(next.key))
          if (belongs && !failed) {
            pair = next
            uploads += 1
          }
          response.writeHead(failed ? 503 : belongs ? 204 : 422).end()
        })
        .catch(() => response.destroy())
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')

  return {
    url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/certificates/www`,
    token,
    get pair() {
      return pair
    },
    get fingerprintSha256() {
      return fingerprint()
    },
    get uploads() {
      return uploads
    },
    failNextUpload() {
      failing = true
    },
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}
