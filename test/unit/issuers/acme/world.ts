/**
 * An ACME issuer, a CA, and a web server in between: all in this process.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as realSleep } from 'node:timers/promises'
import { checkIssuedChain, type CheckedChain } from '../../../../src/core/certificate-bundle.js'
import { parseIdentifiers } from '../../../../src/core/identifier.js'
import type { Clock } from '../../../../src/core/clock.js'
import { generatePrivateKey, publicKeyInfo, type PrivateKeyMaterial } from '../../../../src/core/private-key.js'
import { createCsr } from '../../../../src/core/x509.js'
import { acmeIssuer, type AcmeIssuer, type AcmeIssuerOptions } from '../../../../src/issuers/acme/index.js'
import type { IssuedChain, IssueRequest, IssuerContext } from '../../../../src/issuers/issuer.js'
import { httpResponder, type HttpResponder } from '../../../../src/solvers/http-responder.js'
import type { CertStore } from '../../../../src/stores/cert-store.js'
import { memoryStore } from '../../../../src/stores/memory.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { recordingLogger, type RecordingLogger } from '../../../../src/testing/recording-logger.js'
import { seededRandom } from '../../../../src/testing/seeded-random.js'
import { startTestCa, type TestCa, type TestCaOptions } from '../../../../src/testing/test-ca/index.js'

export const seed = 20261122

export interface World extends AsyncDisposable {
  readonly ca: TestCa
  readonly store: CertStore
  readonly clock: Clock
  readonly responder: HttpResponder
  /** Everything any issuer of this world has logged. */
  readonly log: RecordingLogger
  readonly context: (parts?: Partial<IssuerContext>) => IssuerContext
  /** A new issuer over the same store, as after a restart. */
  issuer(options?: Partial<AcmeIssuerOptions>): AcmeIssuer
  /** Names whose challenges are still up. */
  readonly openChallenges: readonly string[]
  /** Checks a chain as the scheduler does. */
  check(issued: IssuedChain, request: PreparedRequest): CheckedChain
}

/**
 * A clock whose waits take that much real time each, whatever they are, while its own time moves as far as was asked: the
 * CA has then done what it is waited for, and no test waits for long.
 */
export function briefClock(waitMs = 40): Clock {
  let now = Date.UTC(2026, 0, 1)
  return {
    now: () => now,
    async sleep(ms, { signal, deadline = false } = {}) {
      if (deadline) {
        await new Promise((_, reject) => {
          signal?.addEventListener('abort', () => {
            reject(signal.reason as Error)
          })
        })
      }
      await realSleep(waitMs, undefined, signal === undefined ? {} : { signal }).catch(() => signal?.throwIfAborted())
      now += ms
    },
  }
}

export async function createWorld(
  options: { readonly ca?: TestCaOptions; readonly clock?: Clock; readonly issuer?: Partial<AcmeIssuerOptions> } = {},
): Promise<World> {
  const { clock = fakeClock({ autoAdvance: true }) } = options
  const responder = httpResponder()
  const server = createServer((request, response) => {
    if (!responder.requestListener(request, response)) response.writeHead(404).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const ca = await startTestCa({ clock, httpPort: port, random: seededRandom(seed), ...options.ca })
  const store = memoryStore({ clock })
  const log = recordingLogger()
  const random = seededRandom(seed)
  const issuers: AcmeIssuer[] = []
  const presented = new Map<string, string>()
  const { present, cleanUp } = responder
  const counting: HttpResponder = {
    ...responder,
    async present(challenge, context) {
      presented.set(challenge.token, challenge.identifier.value)
      await present(challenge, context)
    },
    async cleanUp(challenge, context) {
      await cleanUp(challenge, context)
      presented.delete(challenge.token)
    },
  }
  return {
    ca,
    store,
    clock,
    responder: counting,
    log,
    context: (parts = {}) => ({
      signal: new AbortController().signal,
      clock,
      logger: log,
      store,
      random,
      ...parts,
    }),
    issuer(more = {}) {
      const issuer = acmeIssuer({
        directory: ca.directoryUrl,
        termsOfServiceAgreed: true,
        solvers: [counting],
        ca: ca.httpsCaPem,
        preflight: { httpPort: port, resolve: () => Promise.resolve(['127.0.0.1']) },
        ...options.issuer,
        ...more,
      })
      issuers.push(issuer)
      return issuer
    },
    get openChallenges() {
      return [...presented.values()]
    },
    check: (issued, { identifiers, publicKeyInfo: info }) =>
      checkIssuedChain(issued.chainPem, {
        identifiers,
        publicKeyInfo: info,
        now: clock.now(),
        trustedRoots: ca.rootPem,
      }),
    async [Symbol.asyncDispose]() {
      await ca.close()
      await Promise.all(issuers.map((issuer) => issuer.close()))
      server.closeAllConnections()
      server.close()
    },
  }
}

/** A request with the key it is for. */
export interface PreparedRequest extends IssueRequest {
  readonly key: PrivateKeyMaterial
  readonly publicKeyInfo: Buffer
}

export async function prepareRequest(
  names: readonly string[],
  parts: Partial<IssueRequest> = {},
): Promise<PreparedRequest> {
  const identifiers = parseIdentifiers(names)
  const key = await generatePrivateKey()
  return {
    certificate: 'www',
    idempotencyKey: 'first',
    identifiers,
    csr: await createCsr(key, identifiers),
    key,
    publicKeyInfo: publicKeyInfo(key),
    ...parts,
  }
}
