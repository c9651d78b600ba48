import { createServer, type Server } from 'node:http'
import { httpResponder } from 'evercert/solvers/http-responder'

const responder = httpResponder()

/** http-01: Emissary sends `/.well-known/acme-challenge/` here (manifests/emissary.yaml). */
export const solvers = [responder]

export function serveChallenges(port: number): Server {
  return createServer((request, response) => {
    if (responder.requestListener(request, response)) return
    // Also what the kubelet asks.
    response.writeHead(request.url === '/healthz' ? 200 : 404).end()
  }).listen(port)
}
