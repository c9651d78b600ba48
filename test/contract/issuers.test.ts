import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, it } from 'vitest'
import { acmeIssuer, letsEncrypt } from '../../src/issuers/acme/index.js'
import { privateCaIssuer } from '../../src/issuers/private-ca.js'
import { createRoot } from '../../src/issuers/private-ca/root.js'
import type { ChallengeSolver } from '../../src/solvers/challenge-solver.js'
import { httpResponder } from '../../src/solvers/http-responder.js'
import type { CertStore } from '../../src/stores/cert-store.js'
import { memoryStore } from '../../src/stores/memory.js'
import { fakeClock } from '../../src/testing/fake-clock.js'
import { issuerContract } from '../../src/testing/issuer-contract.js'
import { recordingLogger } from '../../src/testing/recording-logger.js'
import { seededRandom } from '../../src/testing/seeded-random.js'
import { startTestCa } from '../../src/testing/test-ca/index.js'

const template = {
  commonName: 'contract root',
  keyAlgorithm: 'ecdsa-p256',
  lifetimeMs: 365 * 86_400_000,
  nameConstraints: undefined,
} as const

describe('acmeIssuer', () => {
  issuerContract(
    { describe, it: (name, run) => it(name, { timeout: 60_000 }, run) },
    {
      async createIssuer() {
        const clock = fakeClock({ autoAdvance: true })
        const responder = httpResponder()
        const server = createServer((request, response) => {
          if (!responder.requestListener(request, response)) response.writeHead(404).end()
        }).listen(0, '127.0.0.1')
        await once(server, 'listening')
        const { port: httpPort } = server.address() as AddressInfo
        const ca = await startTestCa({ clock, httpPort, random: seededRandom(7) })
        const open = new Set<string>()
        const solver: ChallengeSolver<'http-01'> = {
          ...responder,
          async present(challenge, context) {
            open.add(challenge.token)
            await responder.present(challenge, context)
          },
          async cleanUp(challenge, context) {
            await responder.cleanUp(challenge, context)
            open.delete(challenge.token)
          },
        }
        const make = (directory: string) =>
          acmeIssuer({
            directory,
            ca: ca.httpsCaPem,
            termsOfServiceAgreed: true,
            solvers: [solver],
            trustedRoots: ca.rootPem,
            preflight: { httpPort, resolve: () => Promise.resolve(['127.0.0.1']) },
          })
        const issuers = [make(ca.directoryUrl)]
        return {
          issuer: issuers[0] ?? make(ca.directoryUrl),
          otherIssuer: make(letsEncrypt.production),
          context: {
            signal: new AbortController().signal,
            clock,
            logger: recordingLogger(),
            store: memoryStore({ clock }),
            random: seededRandom(7),
          },
          reopen() {
            const issuer = make(ca.directoryUrl)
            issuers.push(issuer)
            return issuer
          },
          rateLimit() {
            const problem = { problemType: 'rateLimited', status: 429, retryAfter: 3600 }
            ca.faults.add({ match: { kind: 'newOrder' }, action: { type: 'problem', ...problem } })
            return new Date(clock.now() + 3_600_000)
          },
          certificatesIssued: () => ca.certificates.length,
          openChallenges: () => [...open],
          lastReplaces: () => ca.orders.at(-1)?.replaces,
          async dispose() {
            await ca.close()
            await Promise.all(issuers.map((issuer) => issuer.close()))
            server.closeAllConnections()
            server.close()
          },
        }
      },
      identifiers: ['www.example.com', 'example.com'],
      level: 'strict',
    },
  )
})

for (const root of ['made', 'given'] as const) {
  describe(`privateCaIssuer, root ${root}`, () => {
    issuerContract(
      { describe, it },
      {
        async createIssuer() {
          const clock = fakeClock()
          const store = memoryStore({ clock })
          let issued = 0
          // A certificate is out when it is stored, and not before.
          const counting: CertStore = {
            ...store,
            async put(key, ...call) {
              const revision = await store.put(key, ...call)
              if (key.startsWith('orders/')) issued += 1
              return revision
            },
          }
          const pair = root === 'given' ? await createRoot(template, clock.now()) : undefined
          const open = () => privateCaIssuer({ profile: 'peer', roots: pair && [pair] })
          return {
            issuer: open(),
            otherIssuer: privateCaIssuer({ id: 'other' }),
            context: {
              signal: new AbortController().signal,
              clock,
              logger: recordingLogger(),
              store: counting,
              random: seededRandom(7),
            },
            reopen: open,
            certificatesIssued: () => issued,
          }
        },
        identifiers: ['www.internal.example', '10.0.0.5', 'fd00::5'],
        level: 'strict',
      },
    )
  })
}
