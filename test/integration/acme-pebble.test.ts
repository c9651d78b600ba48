import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, expect, it } from 'vitest'
import { checkIssuedChain, readCertificates, type CheckedChain } from '../../src/core/certificate-bundle.js'
import { systemClock } from '../../src/core/clock.js'
import { parseIdentifiers } from '../../src/core/identifier.js'
import { generatePrivateKey, publicKeyInfo } from '../../src/core/private-key.js'
import { certificateIdOf } from '../../src/core/renewal-info.js'
import { createCsr } from '../../src/core/x509.js'
import { acmeIssuer, type AcmeIssuer, type AcmeIssuerOptions } from '../../src/issuers/acme/index.js'
import type { IssueRequest, IssuerContext } from '../../src/issuers/issuer.js'
import type { ChallengeSolver } from '../../src/solvers/challenge-solver.js'
import { httpResponder } from '../../src/solvers/http-responder.js'
import { memoryStore } from '../../src/stores/memory.js'
import { assertNoSecrets, recordingLogger } from '../../src/testing/recording-logger.js'
import { seededRandom } from '../../src/testing/seeded-random.js'
import { startJournalProxy, type JournalProxy } from '../support/journal-proxy.js'
import { startPebble, type Pebble, type PebbleOptions } from '../support/pebble.js'
import { runningServers } from '../support/processes.js'
import { describeWith } from '../support/servers.js'

const hour = 3_600_000
const day = 24 * hour
const closers: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

afterAll(() => {
  expect(runningServers()).toEqual([])
})

interface PebbleWorld {
  readonly pebble: Pebble
  /** Counts requests; the issuer talks to it. */
  readonly proxy: JournalProxy
  readonly context: IssuerContext
  issuer(options?: Partial<AcmeIssuerOptions>): AcmeIssuer
  /** Issues, and checks the chain against Pebble's root and the request. */
  issue(
    issuer: AcmeIssuer,
    names: readonly string[],
    parts?: Partial<IssueRequest> & { readonly root?: string },
  ): Promise<CheckedChain & { readonly profile: string | undefined }>
}

let issuances = 0

async function startWorld(options: PebbleOptions = {}): Promise<PebbleWorld> {
  const responder = httpResponder()
  const web = createServer((request, response) => {
    if (!responder.requestListener(request, response)) response.writeHead(404).end()
  }).listen(0, '127.0.0.1')
  await once(web, 'listening')
  closers.push(async () => {
    web.closeAllConnections()
    await once(web.close(), 'close')
  })
  const { port: httpPort } = web.address() as AddressInfo
  const pebble = await startPebble({ strict: true, httpPort, ...options })
  closers.push(() => pebble.stop())
  const proxy = await startJournalProxy({ upstreamUrl: pebble.directoryUrl, upstreamCaPem: pebble.caPem })
  closers.push(() => proxy.stop())
  const logger = recordingLogger()
  closers.push(() => {
    assertNoSecrets(logger.entries)
    return Promise.resolve()
  })
  const context: IssuerContext = {
    signal: new AbortController().signal,
    clock: systemClock,
    logger,
    store: memoryStore(),
    random: seededRandom(1),
  }
  const rootPem = await pebble.rootPem()
  return {
    pebble,
    proxy,
    context,
    issuer(more = {}) {
      const issuer = acmeIssuer({
        directory: proxy.directoryUrl,
        ca: proxy.caPem,
        termsOfServiceAgreed: true,
        solvers: [responder],
        preflight: { httpPort, resolve: () => Promise.resolve(['127.0.0.1']) },
        trustedRoots: rootPem,
        ...more,
      })
      closers.push(() => issuer.close())
      return issuer
    },
    async issue(issuer, names, { root = rootPem, ...parts } = {}) {
      issuances += 1
      const identifiers = parseIdentifiers(names)
      const key = await generatePrivateKey()
      const csr = await createCsr(key, identifiers)
      const request = { certificate: 'www', idempotencyKey: String(issuances), identifiers, csr, ...parts }
      const { chainPem, profile } = await issuer.issue(request, context)
      const expected = { identifiers, publicKeyInfo: publicKeyInfo(key), now: Date.now(), trustedRoots: root }
      return { ...checkIssuedChain(chainPem, expected), profile }
    },
  }
}

describeWith(['pebble', 'pebble-challtestsrv'], 'ACME issuer with Pebble', () => {
  it.each([5, 50])('gets certificates while %i percent of the nonces are refused', async (nonceReject) => {
    const world = await startWorld({ nonceReject })
    const issuer = world.issuer()
    await world.issue(issuer, ['www.example.com'])
    const names = Array.from({ length: 100 }, (_, index) => `host-${String(index)}.example.com`)
    const { leaf } = await world.issue(issuer, names)
    expect(leaf.identifiers).toHaveLength(100)
    const refused = world.proxy.journal.filter(({ status }) => status === 400).length
    expect(refused).toBeGreaterThan(0)
    const posts = world.proxy.journal.filter(({ method, status }) => method === 'POST' && status !== 400)
    expect(posts.length).toBeLessThan(240)
  })

  it('asks for nothing twice: 7 requests cold, 5 warm, 207 for 100 names, and polls', async () => {
    const world = await startWorld()
    await world.issuer().account(world.context)
    // How often an order has to be looked at depends on the machine; the unit tests count that too.
    const counted = (): readonly [requests: number, polls: number] => {
      const polls = world.proxy.count({ kind: 'order' })
      const total = world.proxy.count()
      world.proxy.clearJournal()
      return [total - polls, polls]
    }
    counted()
    const issuer = world.issuer()
    await world.issue(issuer, ['www.example.com'])
    const [cold, coldPolls] = counted()
    await world.issue(issuer, ['www.example.com'])
    const [warm, warmPolls] = counted()
    const names = Array.from({ length: 100 }, (_, index) => `host-${String(index)}.example.com`)
    await world.issue(issuer, names)
    const [many, manyPolls] = counted()
    expect([cold, warm]).toEqual([7, 5])
    // 100 authorizations and challenges, order, finalization, certificate, and a nonce for each request in parallel.
    expect(many).toBeLessThanOrEqual(203 + 10)
    for (const polls of [coldPolls, warmPolls, manyPolls]) expect(polls).toBeLessThanOrEqual(8)
  })

  it('waits as it is told, in seconds or as a date', async () => {
    const world = await startWorld({ retryAfter: { authz: 1, order: 1 } })
    await world.issue(world.issuer(), ['www.example.com'])
    const polls = world.proxy.journal.filter(({ kind }) => kind === 'order' || kind === 'finalize')
    const finalized = polls.findIndex(({ kind }) => kind === 'finalize')
    const [finalize, poll] = polls.slice(finalized)
    expect(Number(poll?.at) - Number(finalize?.at)).toBeGreaterThanOrEqual(900)
  })

  it('gets one for an IP address over http-01', async () => {
    const world = await startWorld()
    const { leaf } = await world.issue(world.issuer(), ['127.0.0.1'])
    expect(leaf.identifiers).toEqual([{ type: 'ip', value: '127.0.0.1' }])
  })

  it('refuses a wildcard over http-01 with a way out, and gets one with its base name over dns-01', async () => {
    const world = await startWorld()
    await expect(world.issue(world.issuer(), ['*.example.com'])).rejects.toMatchObject({
      code: 'ERR_CHALLENGE_NO_SOLVER',
      retryable: false,
      message: expect.stringContaining('dns-01') as string,
    })
    const { challtestsrv } = world.pebble
    const solver: ChallengeSolver<'dns-01'> = {
      name: 'dns-01/challtestsrv',
      type: 'dns-01',
      present: ({ recordName, recordValue }) => challtestsrv.setTxt(recordName, recordValue),
      cleanUp: ({ recordName }) => challtestsrv.clearTxt(recordName),
    }
    const { leaf } = await world.issue(world.issuer({ solvers: [solver] }), ['*.example.com', 'example.com'])
    expect(leaf.identifiers).toHaveLength(2)
  })

  it('says which names are refused', async () => {
    const world = await startWorld({ domainBlocklist: ['blocked.example'] })
    await expect(world.issue(world.issuer(), ['good.example', 'blocked.example'])).rejects.toMatchObject({
      code: 'ERR_ACME_PROBLEM',
      retryable: false,
      message: expect.stringContaining('blocked.example') as string,
    })
  })

  it('says what the CA saw when a validation fails', async () => {
    const world = await startWorld()
    const nowhere: ChallengeSolver<'http-01'> = {
      name: 'http-01/nowhere',
      type: 'http-01',
      present: () => Promise.resolve(),
      cleanUp: () => Promise.resolve(),
    }
    const issuer = world.issuer({ solvers: [nowhere], preflight: false })
    await expect(world.issue(issuer, ['www.example.com'])).rejects.toMatchObject({
      code: 'ERR_ACME_AUTHORIZATION_FAILED',
      authorizations: [{ identifier: { value: 'www.example.com' }, challengeType: 'http-01' }],
      message: expect.stringContaining('404') as string,
    })
  })

  it('binds its account to an external one', async () => {
    const hmacKey = Buffer.alloc(32, 9).toString('base64url')
    const world = await startWorld({ eabRequired: true, eabKeys: { 'kid-1': hmacKey } })
    await expect(world.issuer().account(world.context)).rejects.toMatchObject({
      code: 'ERR_ACME_PROBLEM',
      retryable: false,
      message: expect.stringContaining('externalAccountBinding') as string,
    })
    await world.issue(world.issuer({ externalAccountBinding: { kid: 'kid-1', hmacKey } }), ['www.example.com'])
  })

  it('asks for a profile, and refuses one that is not there', async () => {
    const profiles = {
      classic: { description: 'ninety days' },
      shortlived: { description: 'six days', validityPeriod: (6 * day) / 1000 },
    }
    const world = await startWorld({ profiles })
    const { leaf, profile } = await world.issue(world.issuer(), ['www.example.com'], { profile: 'shortlived' })
    expect(profile).toBe('shortlived')
    expect(Number(leaf.notAfter) - Number(leaf.notBefore)).toBeLessThan(7 * day)
    await expect(
      world.issue(world.issuer({ profile: { require: 'tlsserver' } }), ['www.example.com']),
    ).rejects.toMatchObject({ code: 'ERR_ACME_PROFILE_UNAVAILABLE', retryable: false })
  })

  it('takes the chain that is preferred', async () => {
    const world = await startWorld({ alternateRoots: 2 })
    const roots = await world.pebble.rootPems()
    for (const root of roots) {
      const [parsed] = readCertificates(root)
      const issuer = world.issuer({ preferredChain: parsed?.subject ?? '', trustedRoots: root })
      await world.issue(issuer, ['www.example.com'], { root })
    }
    const [, intermediate] = await world.pebble.intermediatePems()
    const [parsed] = readCertificates(intermediate ?? '')
    const preferredChain = parsed?.fingerprintSha256 ?? ''
    await world.issue(world.issuer({ preferredChain }), ['www.example.com'], { root: roots[1] ?? '' })
  })

  it('reads renewal information, and renews with a reference to the predecessor', async () => {
    const world = await startWorld()
    const issuer = world.issuer()
    const first = await world.issue(issuer, ['www.example.com'])
    const info = await issuer.renewalInfo(first.certificatePem, world.context)
    expect(Number(info?.windowStart)).toBeGreaterThan(Number(first.leaf.notBefore))
    expect(Number(info?.windowEnd)).toBeLessThan(Number(first.leaf.notAfter))

    const start = new Date(Math.floor((Date.now() - hour) / 1000) * 1000)
    const end = new Date(Number(start) + hour / 2)
    await world.pebble.setRenewalInfo(first.certificatePem, { start, end })
    const moved = await issuer.renewalInfo(first.certificatePem, world.context)
    expect(moved).toMatchObject({ windowStart: start, windowEnd: end })
    await world.pebble.setRenewalInfo(first.certificatePem, 'not even JSON')
    await expect(issuer.renewalInfo(first.certificatePem, world.context)).rejects.toMatchObject({
      code: 'ERR_ACME_PROTOCOL',
    })

    const replaces = certificateIdOf(first.leaf)
    await world.issue(issuer, ['www.example.com'], { replaces })
    const order = world.proxy.journal.findLast(({ kind }) => kind === 'newOrder')
    expect(order?.signed?.payload).toMatchObject({ replaces: replaces?.value })
    // A second successor is refused by the CA, and ordered without the reference.
    await world.issue(issuer, ['www.example.com'], { replaces })
    expect(world.proxy.journal.filter(({ kind, status }) => kind === 'newOrder' && status === 409)).toHaveLength(1)
  })

  it('revokes, also twice', async () => {
    const world = await startWorld()
    const issuer = world.issuer()
    const { certificatePem, leaf } = await world.issue(issuer, ['www.example.com'])
    await issuer.revoke(certificatePem, 'superseded', world.context)
    await issuer.revoke(certificatePem, 'superseded', world.context)
    expect(await world.pebble.certificateStatus(leaf.serialNumber.toString('hex').replace(/^00/, ''))).toMatchObject({
      Status: 'Revoked',
    })
  })

  it('gives its account a new key', async () => {
    const world = await startWorld()
    const issuer = world.issuer()
    const before = await issuer.account(world.context)
    const after = await issuer.rollOverAccountKey(world.context)
    expect(after.url).toBe(before.url)
    expect(after.thumbprint).not.toBe(before.thumbprint)
    for (const user of [issuer, world.issuer()]) await world.issue(user, ['www.example.com'])
    expect(world.proxy.count({ kind: 'newAccount' })).toBe(1)
  })

  it('loses no certificate when replies are lost', async () => {
    const world = await startWorld()
    for (const kind of ['newAccount', 'newOrder', 'authorization', 'challenge', 'finalize', 'certificate'] as const) {
      const before = world.proxy.count({ kind: 'finalize' })
      const rule = world.proxy.addRule({ match: { kind, nth: 1 }, action: 'drop-after' })
      await world.issue(world.issuer(), ['www.example.com'], { certificate: kind })
      expect(rule.fired).toBe(1)
      rule.remove()
      expect(world.proxy.count({ kind: 'finalize' }) - before).toBe(1)
    }
  })

  it('goes on with a CA that has forgotten everything', async () => {
    const first = await startWorld()
    const issuer = first.issuer({ id: 'pebble' })
    await first.issue(issuer, ['www.example.com'])
    const second = await startWorld()
    const moved = second.issuer({ id: 'pebble' })
    const identifiers = parseIdentifiers(['www.example.com'])
    const key = await generatePrivateKey()
    const csr = await createCsr(key, identifiers)
    const request = { certificate: 'www', idempotencyKey: 'moved', identifiers, csr }
    const { chainPem } = await moved.issue(request, first.context)
    const expected = { identifiers, publicKeyInfo: publicKeyInfo(key), now: Date.now() }
    checkIssuedChain(chainPem, { ...expected, trustedRoots: await second.pebble.rootPem() })
  })
})
