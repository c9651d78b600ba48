import { createServer, type Server } from 'node:http'
import { httpResponder } from 'evercert/solvers/http-responder'
import { route53Solver } from 'evercert/solvers/route53'

const { SOLVER = 'dns-01', HOSTED_ZONE_ID } = process.env
if (!['dns-01', 'http-01'].includes(SOLVER)) throw new Error('SOLVER is dns-01 or http-01')

/** dns-01, wildcards included: the record is written to Route 53, and nothing has to be routed. */
export const route53 = route53Solver(HOSTED_ZONE_ID === undefined ? {} : { hostedZoneId: HOSTED_ZONE_ID })

/** http-01: Emissary sends `/.well-known/acme-challenge/` here (the Mapping in manifests/emissary.yaml). */
const responder = httpResponder()

export const solvers = [SOLVER === 'http-01' ? responder : route53]

export function serve(port: number): Server {
  return createServer((request, response) => {
    if (responder.requestListener(request, response)) return
    // What the kubelet asks.
    response.writeHead(request.url === '/healthz' ? 200 : 404).end()
  }).listen(port)
}
