import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import * as x509 from '@peculiar/x509'
import { checkIssuedChain, readCertificates, type CheckedChain } from '../../../src/core/certificate-bundle.js'
import { parseIdentifier } from '../../../src/core/identifier.js'
import { decodeNameConstraints } from '../../../src/core/name-constraints.js'
import { encodePem } from '../../../src/core/pem.js'
import {
  generatePrivateKey,
  importPrivateKey,
  publicKeyInfo,
  type KeyAlgorithm,
} from '../../../src/core/private-key.js'
import {
  clientAuthOid,
  createCsr,
  parseCertificate,
  serverAuthOid,
  type ParsedCertificate,
} from '../../../src/core/x509.js'
import { createCertificate } from '../../../src/core/x509-signing.js'
import { CertError } from '../../../src/errors.js'
import type { IssuerContext, IssueRequest } from '../../../src/issuers/issuer.js'
import {
  cfsslRoot,
  privateCaIssuer,
  type PrivateCaIssuer,
  type PrivateCaIssuerOptions,
  type RootPair,
} from '../../../src/issuers/private-ca.js'
import { createRoot } from '../../../src/issuers/private-ca/root.js'
import { storeKey, type CertStore, type StoreKey } from '../../../src/stores/cert-store.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { assertNoSecrets, recordingLogger } from '../../../src/testing/recording-logger.js'
import { seededRandom } from '../../../src/testing/seeded-random.js'

const day = 86_400_000
const minute = 60_000
const names = ['www.internal.example', '*.b.internal.example', '10.0.0.5', 'fd00::5']
const recordKey = storeKey('accounts', 'private-ca')

function context(parts: Partial<IssuerContext> = {}) {
  return { ...operationContext(parts), store: parts.store ?? memoryStore(), random: seededRandom(1) }
}

interface Wanted {
  readonly names?: readonly string[]
  readonly algorithm?: KeyAlgorithm
  readonly profile?: string
  readonly certificate?: string
}

async function requestFor(wanted: Wanted = {}) {
  const key = await generatePrivateKey(wanted.algorithm)
  const identifiers = (wanted.names ?? names).map(parseIdentifier)
  const request: IssueRequest = {
    certificate: wanted.certificate ?? 'www',
    idempotencyKey: crypto.randomUUID(),
    csr: await createCsr(key, identifiers),
    identifiers,
    profile: wanted.profile,
  }
  return { key, request }
}

/** Asks for a certificate and lets it pass through the check that everything passes through. */
async function issue(issuer: PrivateCaIssuer, used: IssuerContext, wanted: Wanted = {}) {
  const { key, request } = await requestFor(wanted)
  const { certificate, identifiers, profile } = request
  const issued = await issuer.issue(request, used)
  const checked: CheckedChain = checkIssuedChain(issued.chainPem, {
    publicKeyInfo: publicKeyInfo(key),
    identifiers,
    traits: issuer.traits?.({ certificate, profile }),
    now: used.clock.now(),
    trustedRoots: issued.trustedRoots,
  })
  return { ...issued, ...checked }
}

const failureOf = async (work: Promise<unknown>): Promise<CertError> => {
  const error: unknown = await work.then(
    () => new Error('succeeded'),
    (thrown: unknown) => thrown,
  )
  assertNoSecrets(error)
  if (!CertError.isInstance(error)) throw error
  return error
}

const root = (parts: Partial<Parameters<typeof createRoot>[0]> = {}, now = 0): Promise<RootPair> =>
  createRoot(
    {
      commonName: 'test root',
      keyAlgorithm: 'ecdsa-p256',
      lifetimeMs: 365 * day,
      nameConstraints: undefined,
      ...parts,
    },
    now,
  )

const libraryOf = (pem: string): x509.X509Certificate => new x509.X509Certificate(pem)

describe('a certificate', () => {
  it.each(['ecdsa-p256', 'ecdsa-p384', 'rsa-2048'] as const)(
    'is for exactly the names and the %s key',
    async (algorithm) => {
      const used = context()
      const { leaf, trustedRoots } = await issue(privateCaIssuer(), used, { algorithm })
      expect(leaf.identifiers.map(({ value }) => value)).toEqual(names)
      expect(leaf.otherNames).toEqual([])
      const certificate = libraryOf(new X509Certificate(leaf.der).toString())
      const usages = certificate.getExtension(x509.KeyUsagesExtension)
      expect(usages?.critical).toBe(true)
      const { digitalSignature, keyEncipherment } = x509.KeyUsageFlags
      expect(usages?.usages).toBe(algorithm === 'rsa-2048' ? digitalSignature | keyEncipherment : digitalSignature)
      const [ca] = readCertificates(trustedRoots ?? '')
      expect(leaf.authorityKeyIdentifier?.toString('hex')).toBe(
        libraryOf(trustedRoots ?? '').getExtension(x509.SubjectKeyIdentifierExtension)?.keyId,
      )
      expect(ca?.isCa).toBe(true)
    },
  )

  it('is dated back five minutes and lives as long as it was told', async () => {
    const used = context()
    const { leaf } = await issue(privateCaIssuer({ lifetimeMs: 10 * day }), used)
    expect(leaf.notAfter.getTime() - used.clock.now()).toBe(10 * day)
    // The root is as old, and a leaf is never older.
    expect(used.clock.now() - leaf.notBefore.getTime()).toBe(5 * minute)
  })

  it('has a positive serial number of 20 octets', async () => {
    const used = context()
    const issuer = privateCaIssuer()
    const serials = await Promise.all(
      Array.from(
        { length: 20 },
        async (_, index) => (await issue(issuer, used, { certificate: String(index) })).leaf.serialNumber,
      ),
    )
    for (const serial of serials) expect([serial.length, serial[0]! < 0x80]).toEqual([20, true])
    expect(new Set(serials.map((serial) => serial.toString('hex'))).size).toBe(20)
  })

  it.each([
    ['server', [serverAuthOid]],
    ['client', [clientAuthOid]],
    ['peer', [serverAuthOid, clientAuthOid]],
  ])('of profile %s has the usages %j', async (profile, usages) => {
    expect((await issue(privateCaIssuer(), context(), { profile })).leaf.extendedKeyUsages).toEqual(usages)
    const byOption = privateCaIssuer({ profile: profile as 'server' })
    expect((await issue(byOption, context())).leaf.extendedKeyUsages).toEqual(usages)
  })

  it('has the additional names it was told, and passes for nothing else', async () => {
    const additionalNames = ['uri:spiffe://cluster.local/agent?a=b', 'email:ops@example.com']
    const used = context()
    const issuer = privateCaIssuer({ additionalNames })
    const { leaf, certificatePem } = await issue(issuer, used)
    expect(leaf.otherNames).toEqual(additionalNames)
    expect(new X509Certificate(certificatePem).subjectAltName).toContain('URI:spiffe://cluster.local/agent?a=b')
    const expected = { publicKeyInfo: leaf.publicKeyInfo, identifiers: leaf.identifiers, now: used.clock.now() }
    const trustedRoots = await issuer.trustBundle(used)
    for (const otherNames of [
      undefined,
      [],
      additionalNames.slice(1),
      [...additionalNames, 'uri:a:b'],
      ['uri:spiffe://cluster.local/agent\u0001a=b', 'email:ops@example.com'],
    ]) {
      expect(() => checkIssuedChain(certificatePem, { ...expected, trustedRoots, traits: { otherNames } })).toThrow(
        expect.objectContaining({ code: 'ERR_CERT_NAME_MISMATCH' }) as Error,
      )
    }
  })

  it('can have additional names of its own', async () => {
    const issuer = privateCaIssuer({ additionalNames: (certificate) => [`uri:spiffe://cluster.local/${certificate}`] })
    const { leaf } = await issue(issuer, context(), { certificate: 'agent' })
    expect(leaf.otherNames).toEqual(['uri:spiffe://cluster.local/agent'])
  })

  it('has no subject, and critical names, when it is for addresses only', async () => {
    const { certificatePem } = await issue(privateCaIssuer(), context(), { names: ['10.0.0.5'] })
    const certificate = libraryOf(certificatePem)
    expect(certificate.subject).toBe('')
    expect(certificate.getExtension('2.5.29.17')?.critical).toBe(true)
  })

  it('never outlives its root, and says so', async () => {
    const clock = fakeClock()
    const logger = recordingLogger()
    const used = context({ clock, logger })
    const pair = await root({ lifetimeMs: 20 * day }, clock.now())
    const { leaf } = await issue(privateCaIssuer({ roots: [pair], lifetimeMs: 30 * day }), used)
    expect(leaf.notAfter.getTime()).toBe(clock.now() + 20 * day - minute)
    expect(logger.entries.map(({ message }) => message)).toContain('certificate ends with its root')
  })
})

describe('a request', () => {
  const issuer = privateCaIssuer()
  const refused = async (request: Partial<IssueRequest>): Promise<CertError> =>
    failureOf(issuer.issue({ ...(await requestFor()).request, ...request }, context()))

  it('that is no request, or not signed by its key, is refused', async () => {
    const { request } = await requestFor()
    const forged = Buffer.from(request.csr)
    forged[forged.length - 1]! ^= 1
    for (const csr of [Uint8Array.of(0x30, 0), forged, Buffer.from('hello')]) {
      expect(await refused({ csr })).toMatchObject({ code: 'ERR_CERT_INVALID' })
    }
  })

  it('for more, fewer or other names is refused', async () => {
    for (const listed of [names.slice(1), [...names, 'x.internal.example'], ['x.internal.example']]) {
      expect(await refused({ identifiers: listed.map(parseIdentifier) })).toMatchObject({
        code: 'ERR_CERT_NAME_MISMATCH',
      })
    }
  })

  it.each([
    [
      'a URI',
      [
        { type: 'dns', value: 'a.example' },
        { type: 'url', value: 'https://a.example/' },
      ],
      '',
    ],
    ['another common name', [{ type: 'dns', value: 'a.example' }], 'CN=b.example'],
  ] as const)('with %s besides is refused', async (_, list, name) => {
    const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
    const csr = await x509.Pkcs10CertificateRequestGenerator.create({
      name,
      keys,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      extensions: [new x509.SubjectAlternativeNameExtension([...list])],
    })
    const identifiers = [parseIdentifier('a.example')]
    expect(await refused({ csr: new Uint8Array(csr.rawData), identifiers })).toMatchObject({
      code: 'ERR_CERT_NAME_MISMATCH',
    })
  })

  it('with a key that no CA takes is refused', async () => {
    const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-521' }, true, ['sign', 'verify'])
    const csr = await x509.Pkcs10CertificateRequestGenerator.create({
      keys,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-512' },
      extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: 'a.example' }])],
    })
    const error = await refused({ csr: new Uint8Array(csr.rawData), identifiers: [parseIdentifier('a.example')] })
    expect(error).toMatchObject({ code: 'ERR_CERT_INVALID' })
  })

  it('for a profile that there is not is refused for good', async () => {
    const error = await refused({ profile: 'code-signing' })
    expect(error).toMatchObject({ code: 'ERR_PLUGIN_FAILED', retryable: false })
    expect(error.message).toContain('server, client, peer')
  })
})

describe('name constraints', () => {
  const nameConstraints = {
    permitted: ['internal.example', '10.0.0.0/8', 'fd00::/8'],
    excluded: ['hr.internal.example'],
  }

  it('are in the root, critical, and hold the issuer as well', async () => {
    const used = context()
    const issuer = privateCaIssuer({ nameConstraints })
    await issue(issuer, used)
    const extension = libraryOf(await issuer.trustBundle(used)).getExtension('2.5.29.30')
    expect(extension?.critical).toBe(true)
    expect(decodeNameConstraints(new Uint8Array(extension!.value)).excluded).toHaveLength(1)
    for (const name of ['www.example', 'hr.internal.example', '*.internal.example', '11.0.0.1', '::1']) {
      const { request } = await requestFor({ names: [name] })
      expect(issuer.supports?.(request.identifiers)).toContain(name)
      const error = await failureOf(issuer.issue(request, used))
      expect(error).toMatchObject({ code: 'ERR_PLUGIN_FAILED', retryable: false })
      expect(error.message).toContain(name)
    }
    expect(issuer.supports?.(names.map(parseIdentifier))).toBe(true)
  })

  it('of a root that was imported hold too, and go over to the next root', async () => {
    const clock = fakeClock()
    const used = context({ clock })
    const { trustBundle } = privateCaIssuer({ id: 'source', nameConstraints, rootLifetimeMs: 400 * day })
    await trustBundle(used)
    const stored = JSON.parse(
      Buffer.from((await used.store.get(storeKey('accounts', 'source'), used))!.value).toString(),
    ) as {
      roots: RootPair[]
    }
    const { certificatePem, privateKeyPem } = stored.roots[0]!
    const issuer = privateCaIssuer({ importRoot: { certificatePem, privateKeyPem }, lifetimeMs: 30 * day })
    const { request } = await requestFor({ names: ['www.example'] })
    expect(issuer.supports?.(request.identifiers)).toContain('www.example')
    expect(await failureOf(issuer.issue(request, used))).toMatchObject({ code: 'ERR_PLUGIN_FAILED' })
    await issue(issuer, used)
    await clock.advance(320 * day)
    const bundle = readCertificates(await issuer.trustBundle(used))
    expect(bundle).toHaveLength(2)
    expect(bundle[0]?.nameConstraints).toEqual(bundle[1]?.nameConstraints)
  })

  it('on URIs refuse every URI, which cannot be judged', async () => {
    const pair = await root(
      { nameConstraints: Buffer.from('3009a0073005860361 2e62'.replace(' ', ''), 'hex') },
      Date.now(),
    )
    const issuer = privateCaIssuer({ roots: [pair], additionalNames: ['uri:https://x.a.b/'] })
    const { request } = await requestFor()
    expect(
      (await failureOf(issuer.issue(request, context({ clock: fakeClock({ now: Date.now() }) })))).message,
    ).toContain('URIs')
  })
})

describe('the root', () => {
  it('is one, however many begin at once', async () => {
    const store = memoryStore()
    const results = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        issue(privateCaIssuer(), context({ store }), { certificate: String(index) }),
      ),
    )
    expect(new Set(results.map(({ trustedRoots }) => trustedRoots)).size).toBe(1)
    expect(await privateCaIssuer().trustBundle(context({ store }))).toBe(results[0]?.trustedRoots)
  })

  it('is an exact CA: critical constraints, path length 0, cert sign and CRL sign', async () => {
    const certificate = libraryOf(await privateCaIssuer({ rootKey: 'ecdsa-p384' }).trustBundle(context()))
    const constraints = certificate.getExtension(x509.BasicConstraintsExtension)
    expect([constraints?.ca, constraints?.pathLength, constraints?.critical]).toEqual([true, 0, true])
    const usages = certificate.getExtension(x509.KeyUsagesExtension)
    expect([usages?.usages, usages?.critical]).toEqual([0x60, true])
    expect(certificate.signatureAlgorithm).toMatchObject({ hash: { name: 'SHA-384' } })
    expect(certificate.subject).toMatch(/^CN=evercert private CA [0-9a-f]{8}$/)
  })

  it.each(['rsa-2048', 'rsa-3072', 'rsa-4096'] as const)(
    'of type %s signs with the hash of its strength',
    { timeout: 60_000 },
    async (rootKey) => {
      const { leaf } = await issue(privateCaIssuer({ rootKey }), context())
      expect(leaf.signatureHash).toBe({ 'rsa-2048': 'SHA-256', 'rsa-3072': 'SHA-384', 'rsa-4096': 'SHA-512' }[rootKey])
    },
  )

  it('that was imported signs, is stored, and may then be left out', async () => {
    const clock = fakeClock()
    const used = context({ clock })
    const pair = await root({ keyAlgorithm: 'rsa-2048' }, clock.now())
    expect(await privateCaIssuer({ importRoot: pair }).trustBundle(used)).toBe(pair.certificatePem)
    expect((await issue(privateCaIssuer(), used)).trustedRoots).toBe(pair.certificatePem)
    const other = privateCaIssuer({ importRoot: await root({}, clock.now()) })
    const error = await failureOf(other.trustBundle(used))
    expect(error).toMatchObject({ code: 'ERR_PLUGIN_FAILED', retryable: false })
    expect(error.message).toContain('another CA')
  })

  it('of the caller signs and is never stored; the others are trusted', async () => {
    const clock = fakeClock()
    const used = context({ clock })
    const pairs = [await root({}, clock.now()), await root({ lifetimeMs: day }, clock.now())]
    const issuer = privateCaIssuer({ roots: pairs })
    const { trustedRoots } = await issue(issuer, used)
    expect(trustedRoots).toBe(pairs.map(({ certificatePem }) => certificatePem).join(''))
    for await (const key of used.store.list('', used)) {
      expect(Buffer.from((await used.store.get(key, used))!.value).toString()).not.toContain('PRIVATE KEY')
    }
    await clock.advance(2 * day)
    expect(await issuer.trustBundle(used)).toBe(pairs[0]?.certificatePem)
    await clock.advance(400 * day)
    expect(await failureOf(issuer.trustBundle(used))).toMatchObject({ code: 'ERR_PLUGIN_FAILED', retryable: false })
  })

  it('is read from cfssl’s JSON', async () => {
    const { certificatePem: cert, privateKeyPem: key } = await root()
    expect(cfsslRoot(JSON.stringify({ cert, key, csr: 'x' }))).toEqual({ certificatePem: cert, privateKeyPem: key })
    const api = { success: true, result: { certificate: cert, private_key: key } }
    expect(cfsslRoot(JSON.stringify(api))).toEqual({ certificatePem: cert, privateKeyPem: key })
    for (const wrong of ['', '{', '[]', 'null', JSON.stringify({ key }), JSON.stringify({ cert, key: 7 })]) {
      expect(() => cfsslRoot(wrong)).toThrow(TypeError)
      expect(() => cfsslRoot(wrong)).not.toThrow(/PRIVATE/)
    }
  })

  it('is refused at construction when it is none', async () => {
    const [one, two] = [await root(), await root()]
    const leaf = await issue(privateCaIssuer(), context())
    const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey.export({ type: 'pkcs8', format: 'pem' })
    for (const [pair, why] of [
      [{ ...one, privateKeyPem: two.privateKeyPem }, "the key is not the root's"],
      [{ ...one, privateKeyPem: 'nonsense' }, 'unencrypted PEM'],
      [{ ...one, privateKeyPem: String(p521) }, 'private key must be one of'],
      [{ ...one, certificatePem: 'nonsense' }, 'no PEM certificate'],
      [{ ...one, certificatePem: one.certificatePem + two.certificatePem }, 'one certificate'],
      [{ ...one, certificatePem: leaf.certificatePem }, "the key is not the root's"],
    ] as const) {
      expect(() => privateCaIssuer({ importRoot: pair })).toThrow(why)
      expect(() => privateCaIssuer({ roots: [pair] })).toThrow(why)
    }
  })

  it('that has ended is not imported', async () => {
    const clock = fakeClock()
    const pair = await root({ lifetimeMs: day }, clock.now() - 2 * day)
    const error = await failureOf(privateCaIssuer({ importRoot: pair }).trustBundle(context({ clock })))
    expect(error).toMatchObject({ code: 'ERR_PLUGIN_FAILED', retryable: false })
  })
})

/** A store whose nth call fails: before it does anything, or after it has written. */
function failingStore(store: CertStore, nth: number, when: 'before' | 'after') {
  let calls = 0
  const trap = async <Result>(run: () => Promise<Result>): Promise<Result> => {
    calls += 1
    const fires = calls === nth
    const away = (): CertError =>
      new CertError({ code: 'ERR_STORE_UNAVAILABLE', message: 'the store is away', retryable: true })
    if (fires && when === 'before') throw away()
    const result = await run()
    if (fires) throw away()
    return result
  }
  const failing: CertStore = {
    name: store.name,
    get: (...call) => trap(() => store.get(...call)),
    put: (...call) => trap(() => store.put(...call)),
    delete: (...call) => trap(() => store.delete(...call)),
    list: (...call) => store.list(...call),
  }
  return { store: failing, fired: () => calls >= nth }
}

describe('faults of the store', () => {
  it.each(['before', 'after'] as const)(
    '%s any call leave one root, and no certificate without its key',
    async (when) => {
      let fired = 0
      for (let nth = 1; ; nth += 1) {
        const store = memoryStore()
        const trap = failingStore(store, nth, when)
        const { key, request } = await requestFor()
        // As a process that dies, and another one that goes on.
        const first = await privateCaIssuer()
          .issue(request, context({ store: trap.store }))
          .catch(() => undefined)
        const used = context({ store })
        const second = await privateCaIssuer().issue(request, used)
        const bundle = await privateCaIssuer().trustBundle(used)
        expect(readCertificates(bundle)).toHaveLength(1)
        for (const issued of [first, second]) {
          if (issued === undefined) continue
          expect(issued.trustedRoots).toBe(bundle)
          const expected = {
            publicKeyInfo: publicKeyInfo(key),
            identifiers: request.identifiers,
            now: used.clock.now(),
          }
          checkIssuedChain(issued.chainPem, { ...expected, trustedRoots: bundle })
        }
        if (first !== undefined) expect(second.chainPem).toBe(first.chainPem)
        if (!trap.fired()) break
        fired += 1
      }
      expect(fired).toBeGreaterThan(3)
    },
  )

  it.each(['before', 'after'] as const)('%s any call of a roll-over leave one next root', async (when) => {
    let fired = 0
    for (let nth = 1; ; nth += 1) {
      const clock = fakeClock()
      const store = memoryStore({ clock })
      const used = context({ clock, store })
      const issuer = privateCaIssuer({ lifetimeMs: 10 * day, rootLifetimeMs: 100 * day })
      await issuer.trustBundle(used)
      await clock.advance(75 * day)
      const trap = failingStore(store, nth, when)
      await issuer.trustBundle({ ...used, store: trap.store }).catch(() => undefined)
      const bundle = await issuer.trustBundle(used)
      expect(readCertificates(bundle)).toHaveLength(2)
      await clock.advance(11 * day)
      const { leaf } = await issue(issuer, used)
      expect(leaf.issuedBy(readCertificates(bundle)[0]!)).toBe(true)
      if (!trap.fired()) break
      fired += 1
    }
    expect(fired).toBeGreaterThan(1)
  })

  it.each([
    ['is no record', () => 'hello'],
    ['is empty', () => ''],
    ['is cut', (text: string) => text.slice(0, -100)],
    ['has no roots', () => JSON.stringify({ schema: 1, kind: 'private-ca', roots: [] })],
    [
      'has the key of another root',
      (text: string, other: string) => {
        const [record, foreign] = [text, other].map((one) => JSON.parse(one) as { roots: RootPair[] })
        return JSON.stringify({
          ...record,
          roots: [{ ...record!.roots[0], privateKeyPem: foreign!.roots[0]!.privateKeyPem }],
        })
      },
    ],
  ])('a record that %s is refused, and stays where it is', async (_, damage) => {
    const used = context()
    const issuer = privateCaIssuer()
    await issue(issuer, used)
    await privateCaIssuer({ id: 'other' }).trustBundle(used)
    const text = async (key: StoreKey) => Buffer.from((await used.store.get(key, used))!.value).toString()
    const damaged = damage(await text(recordKey), await text(storeKey('accounts', 'other')))
    await used.store.put(recordKey, Buffer.from(damaged), used)
    const { request } = await requestFor()
    const calls = [issuer.issue(request, used), issuer.trustBundle(used), issuer.revocationLists(used)]
    for (const error of await Promise.all(calls.map(failureOf))) {
      expect(error).toMatchObject({ code: 'ERR_STORE_CORRUPT', retryable: false, damaged: undefined })
      expect(error.message).toContain(recordKey)
      expect(error.message).toContain('backup')
    }
    expect(await text(recordKey)).toBe(damaged)
  })

  it.each([
    ['a clock that was ahead', 10 * day, false],
    ['a root that is trusted no longer', 0, true],
  ])('a certificate by %s is not handed out again for the same request', async (_, aheadMs, otherRoot) => {
    const [clock, ahead] = [fakeClock(), fakeClock()]
    const store = memoryStore({ clock })
    const own = await root({}, clock.now())
    const { request } = await requestFor()
    await ahead.advance(aheadMs)
    const before = await privateCaIssuer({ roots: [own] }).issue(request, context({ clock: ahead, store }))
    const issuer = privateCaIssuer({ roots: [otherRoot ? await root({}, clock.now()) : own] })
    const used = context({ clock, store })
    const after = await issuer.issue(request, used)
    expect(after.chainPem).not.toBe(before.chainPem)
    expect((await issuer.issue(request, used)).chainPem).toBe(after.chainPem)
  })

  it('a record that was lost after something was issued is not made anew', async () => {
    const used = context()
    const issuer = privateCaIssuer()
    await issue(issuer, used)
    await used.store.delete(recordKey, used)
    const error = await failureOf(issuer.trustBundle(used))
    expect(error).toMatchObject({ code: 'ERR_STORE_CORRUPT', retryable: false })
    expect(await used.store.get(recordKey, used)).toBeUndefined()
  })
})

describe('roll-over', () => {
  const options: PrivateCaIssuerOptions = { lifetimeMs: 9 * day, overlapMs: 9 * day, rootLifetimeMs: 60 * day }

  it(
    'fails no handshake: clients learn of the next root at their own renewals, before it signs',
    { timeout: 60_000 },
    async () => {
      const clock = fakeClock()
      const used = context({ clock })
      const issuer = privateCaIssuer(options)
      const start = clock.now()
      // Each node renews at a third of life left, in a phase of its own, and takes the bundle along: as a deployer does.
      const nodes = await Promise.all(
        Array.from({ length: 4 }, async (_, index) => ({
          name: `node-${String(index)}`,
          due: start + index * day,
          leaf: (await issue(issuer, used, { certificate: `node-${String(index)}`, profile: 'peer' })).leaf,
          bundle: readCertificates(await issuer.trustBundle(used)),
        })),
      )
      let handshakes = 0
      // What verifies once does so always; dates are looked at each time.
      const signed = new Map<string, boolean>()
      const isSignedBy = (leaf: ParsedCertificate, ca: ParsedCertificate): boolean => {
        const pair = leaf.fingerprintSha256 + ca.fingerprintSha256
        const known = signed.get(pair) ?? leaf.issuedBy(ca)
        signed.set(pair, known)
        return known
      }
      const signers = new Set<string>()
      for (let step = 0; step < 120 * 2; step += 1) {
        await clock.advance(day / 2)
        const now = clock.now()
        for (const node of nodes) {
          if (now < node.due) continue
          node.leaf = (await issue(issuer, used, { certificate: node.name, profile: 'peer' })).leaf
          node.bundle = readCertificates(await issuer.trustBundle(used))
          node.due = now + 6 * day
          signers.add(node.leaf.issuerName)
          expect(node.leaf.notAfter.getTime()).toBe(now + 9 * day)
        }
        for (const server of nodes) {
          for (const client of nodes) {
            handshakes += 1
            const trusted = client.bundle.some((ca) => ca.notAfter.getTime() > now && isSignedBy(server.leaf, ca))
            expect([trusted, server.leaf.notAfter.getTime() > now]).toEqual([true, true])
          }
        }
      }
      expect(handshakes).toBe(240 * 16)
      expect(signers.size).toBeGreaterThanOrEqual(3)
    },
  )

  it('has both roots in the bundle, newest first, and lets the old one go at its end', async () => {
    const clock = fakeClock()
    const used = context({ clock, logger: recordingLogger() })
    const issuer = privateCaIssuer(options)
    const [first] = readCertificates(await issuer.trustBundle(used))
    await clock.advance(33 * day - 1)
    expect(readCertificates(await issuer.trustBundle(used))).toHaveLength(1)
    await clock.advance(1)
    const [second, old] = readCertificates(await issuer.trustBundle(used))
    expect(old?.fingerprintSha256).toBe(first?.fingerprintSha256)
    await clock.advance(9 * day - 1)
    expect((await issue(issuer, used)).leaf.issuedBy(first!)).toBe(true)
    await clock.advance(1)
    expect((await issue(issuer, used)).leaf.issuedBy(second!)).toBe(true)
    expect(readCertificates(await issuer.trustBundle(used))).toHaveLength(2)
    await clock.advance(18 * day)
    const remaining = readCertificates(await issuer.trustBundle(used))
    expect(remaining.map(({ fingerprintSha256 }) => fingerprintSha256)).toEqual([second?.fingerprintSha256])
  })

  it('loses no key to a clock that was far ahead for a moment, and still takes place in time', async () => {
    const [clock, ahead] = [fakeClock(), fakeClock()]
    const store = memoryStore({ clock })
    const used = context({ clock, store })
    const issuer = privateCaIssuer(options)
    const [first] = readCertificates(await issuer.trustBundle(used))
    await ahead.advance(4000 * day)
    await issue(issuer, context({ clock: ahead, store }))
    expect((await issue(issuer, used)).leaf.issuedBy(first!)).toBe(true)
    expect(readCertificates(await issuer.trustBundle(used))).toHaveLength(2)
    await clock.advance(33 * day)
    expect(readCertificates(await issuer.trustBundle(used))).toHaveLength(3)
    await clock.advance(9 * day)
    const { leaf } = await issue(issuer, used)
    expect([leaf.issuedBy(first!), leaf.notAfter.getTime()]).toEqual([false, clock.now() + 9 * day])
  })

  it('keeps a few roots that have ended, not all', async () => {
    const clock = fakeClock()
    const used = context({ clock })
    const issuer = privateCaIssuer(options)
    for (let life = 0; life < 8; life += 1) {
      expect(readCertificates(await issuer.trustBundle(used)).length).toBeLessThanOrEqual(2)
      await clock.advance(60 * day)
    }
    const { value } = (await used.store.get(recordKey, used))!
    expect((JSON.parse(Buffer.from(value).toString()) as { roots: unknown[] }).roots).toHaveLength(4)
  })

  it('happens once, however many ask at once', async () => {
    const clock = fakeClock()
    const store = memoryStore({ clock })
    const used = context({ clock, store })
    await privateCaIssuer(options).trustBundle(used)
    await clock.advance(40 * day)
    const bundles = await Promise.all(Array.from({ length: 10 }, () => privateCaIssuer(options).trustBundle(used)))
    expect(new Set(bundles).size).toBe(1)
    expect(readCertificates(bundles[0]!)).toHaveLength(2)
  })

  it('is cut short, with a warning, after a long sleep; even past the end there is a new root, in the old one’s place', async () => {
    const clock = fakeClock()
    const logger = recordingLogger()
    const used = context({ clock, logger })
    const issuer = privateCaIssuer(options)
    await issuer.trustBundle(used)
    await clock.advance(57 * day)
    expect((await issue(issuer, used)).leaf.notAfter.getTime()).toBe(clock.now() + 3 * day - minute)
    expect(logger.entries.map(({ message }) => message)).toContain(
      'private ca rolls over late, clients have less time to learn of the next root',
    )
    await clock.advance(2 * day)
    expect((await issue(issuer, used)).leaf.notAfter.getTime()).toBe(clock.now() + 9 * day)
    await clock.advance(400 * day)
    const { leaf, trustedRoots } = await issue(issuer, used)
    expect(readCertificates(trustedRoots!)).toHaveLength(1)
    expect(leaf.notAfter.getTime()).toBe(clock.now() + 9 * day)
  })
})

describe('revocation', () => {
  const lists = async (issuer: PrivateCaIssuer, used: IssuerContext) =>
    (await issuer.revocationLists(used)).map((list) => ({ ...list, crl: new x509.X509Crl(list.pem) }))

  it('is in a list that the root signed, with its number and reason', async () => {
    const clock = fakeClock()
    const used = context({ clock })
    const issuer = privateCaIssuer()
    const { leaf, certificatePem } = await issue(issuer, used)
    const [before] = await lists(issuer, used)
    expect(before?.crl.entries).toEqual([])
    await clock.advance(minute)
    await issuer.revoke?.(certificatePem, 'keyCompromise', used)
    const [after] = await lists(issuer, used)
    expect(after!.number).toBeGreaterThan(before!.number)
    const [entry, second] = after!.crl.entries
    expect(second).toBeUndefined()
    expect(entry?.serialNumber).toBe(leaf.serialNumber.toString('hex'))
    expect(entry?.reason).toBe(x509.X509CrlReason.keyCompromise)
    const ca = libraryOf(await issuer.trustBundle(used))
    expect(await after!.crl.verify({ publicKey: ca })).toBe(true)
    expect(after!.nextUpdate.getTime() - clock.now()).toBe(7 * day)
    expect(after!.thisUpdate.getTime()).toBeLessThanOrEqual(clock.now())
  })

  it('is not signed anew before half of its time has passed, and forgets what has ended', async () => {
    const clock = fakeClock()
    const used = context({ clock })
    const issuer = privateCaIssuer({ lifetimeMs: 5 * day })
    await issuer.revoke?.((await issue(issuer, used)).certificatePem, 'superseded', used)
    const [first] = await lists(issuer, used)
    await clock.advance(3 * day)
    expect((await lists(privateCaIssuer(), used))[0]?.pem).toBe(first?.pem)
    await clock.advance(day)
    const [second] = await lists(issuer, used)
    expect(second!.number).toBeGreaterThan(first!.number)
    expect(second?.crl.entries).toHaveLength(1)
    // RFC 5280 section 3.3: it stays until it was in a list from after the certificate's end.
    await clock.advance(4 * day)
    expect((await lists(issuer, used))[0]?.crl.entries).toHaveLength(1)
    await clock.advance(4 * day)
    expect((await lists(issuer, used))[0]?.crl.entries).toEqual([])
  })

  it('is still known after a clock that was far ahead for a moment', async () => {
    const [clock, ahead] = [fakeClock(), fakeClock()]
    const store = memoryStore({ clock })
    const used = context({ clock, store })
    const roots = [await root({ lifetimeMs: 5000 * day }, clock.now())]
    const issuer = privateCaIssuer({ roots })
    await issuer.revoke?.((await issue(issuer, used)).certificatePem, 'keyCompromise', used)
    await ahead.advance(1000 * day)
    await lists(issuer, context({ clock: ahead, store }))
    expect((await lists(issuer, used))[0]?.crl.entries).toHaveLength(1)
  })

  it('is in the list of a root that was renewed with the same key as well', async () => {
    const clock = fakeClock()
    const used = context({ clock })
    const old = await root({}, clock.now())
    const key = importPrivateKey(old.privateKeyPem)
    const der = await createCertificate({
      subject: libraryOf(old.certificatePem).subject,
      publicKeyInfo: publicKeyInfo(key),
      identifiers: [],
      notBefore: new Date(clock.now() - day),
      notAfter: new Date(clock.now() + 1000 * day),
      isCa: true,
      signWith: { key },
    })
    const renewed = { ...old, certificatePem: encodePem('CERTIFICATE', der) }
    const issuer = privateCaIssuer({ roots: [renewed, old] })
    await issuer.revoke?.((await issue(issuer, used)).certificatePem, 'superseded', used)
    expect((await lists(issuer, used)).map(({ crl }) => crl.entries.length)).toEqual([1, 1])
  })

  it('loses none of ten at once, and numbers every list once', async () => {
    const store = memoryStore()
    const used = context({ store })
    const issuer = privateCaIssuer()
    const leaves = await Promise.all(
      Array.from({ length: 10 }, (_, index) => issue(issuer, used, { certificate: String(index) })),
    )
    const written: string[] = []
    const watched: CertStore = {
      ...store,
      async put(key, value, ...call) {
        const revision = await store.put(key, value, ...call)
        written.push(String((JSON.parse(Buffer.from(value).toString()) as { number: number }).number))
        return revision
      },
    }
    await Promise.all(
      leaves.map(({ certificatePem }) =>
        privateCaIssuer().revoke!(certificatePem, 'unspecified', { ...used, store: watched }),
      ),
    )
    expect((await lists(issuer, used))[0]?.crl.entries).toHaveLength(10)
    expect(new Set(written).size).toBe(written.length)
  })

  it('has a list of each root during a roll-over', async () => {
    const clock = fakeClock()
    const used = context({ clock })
    const issuer = privateCaIssuer({ lifetimeMs: 9 * day, rootLifetimeMs: 60 * day })
    await issuer.trustBundle(used)
    await clock.advance(40 * day)
    const { certificatePem } = await issue(issuer, used)
    await issuer.revoke?.(certificatePem, 'superseded', used)
    const [newest, oldest] = await lists(issuer, used)
    expect([newest?.crl.entries.length, oldest?.crl.entries.length]).toEqual([0, 1])
    expect(newest?.root).not.toBe(oldest?.root)
  })

  it('of a certificate by somebody else is refused, of one that has ended is nothing', async () => {
    const clock = fakeClock()
    const used = context({ clock })
    const issuer = privateCaIssuer()
    const foreign = await issue(privateCaIssuer({ id: 'other' }), used)
    expect(await failureOf(issuer.revoke!(foreign.certificatePem, 'superseded', used))).toMatchObject({
      code: 'ERR_CERT_INVALID',
    })
    const own = await issue(issuer, used)
    await clock.advance(91 * day)
    await issuer.revoke?.(own.certificatePem, 'superseded', used)
    expect((await lists(issuer, used))[0]?.crl.entries).toEqual([])
  })

  it('is not forgotten when its record is damaged', async () => {
    const used = context()
    const issuer = privateCaIssuer()
    await issuer.revoke?.((await issue(issuer, used)).certificatePem, 'superseded', used)
    const key = storeKey('accounts', 'private-ca', 'revocations')
    await used.store.put(key, Buffer.from('damaged'), used)
    expect(await failureOf(issuer.revocationLists(used))).toMatchObject({
      code: 'ERR_STORE_CORRUPT',
      damaged: undefined,
    })
  })

  it('is not forgotten when its record is lost: no list is signed, and nothing revoked, until it is restored', async () => {
    const clock = fakeClock()
    const used = context({ clock })
    const issuer = privateCaIssuer()
    const { certificatePem, leaf } = await issue(issuer, used)
    await issuer.revoke?.(certificatePem, 'superseded', used)
    const key = storeKey('accounts', 'private-ca', 'revocations')
    const kept = await used.store.get(key, used)
    await used.store.delete(key, used)
    const other = await issue(issuer, used, { certificate: 'other' })
    for (const work of [issuer.revocationLists(used), issuer.revoke!(other.certificatePem, 'superseded', used)]) {
      const error = await failureOf(work)
      expect(error).toMatchObject({ code: 'ERR_STORE_CORRUPT', retryable: false, key })
      expect(error.message).toContain('restore it from a backup')
    }
    expect(await used.store.get(key, used)).toBeUndefined()
    await used.store.put(key, kept!.value, used)
    const [list] = await lists(issuer, used)
    expect(list?.crl.entries.map(({ serialNumber }) => serialNumber)).toEqual([leaf.serialNumber.toString('hex')])
  })

  it('that is lost on purpose is gone with its mark', async () => {
    const used = context()
    const issuer = privateCaIssuer()
    await issuer.revoke?.((await issue(issuer, used)).certificatePem, 'superseded', used)
    await used.store.delete(storeKey('accounts', 'private-ca', 'revocations'), used)
    const error = await failureOf(issuer.revocationLists(used))
    const mark = /delete (orders\S+):/.exec(error.message)?.[1]
    await used.store.delete(mark as StoreKey, used)
    expect((await lists(issuer, used))[0]?.crl.entries).toEqual([])
  })

  it('that nobody asked for leaves no mark: lists are made anew', async () => {
    const used = context()
    const issuer = privateCaIssuer()
    await issue(issuer, used)
    await lists(issuer, used)
    await used.store.delete(storeKey('accounts', 'private-ca', 'revocations'), used)
    expect((await lists(issuer, used))[0]?.crl.entries).toEqual([])
  })

  it.each(['before', 'after'] as const)(
    'with a fault %s any call is there after the next try, and so is its mark',
    async (when) => {
      let fired = 0
      for (let nth = 1; ; nth += 1) {
        const store = memoryStore()
        const used = context({ store })
        const { certificatePem } = await issue(privateCaIssuer(), used)
        const trap = failingStore(store, nth, when)
        // As a process that dies, and another one that goes on.
        await privateCaIssuer()
          .revoke?.(certificatePem, 'superseded', context({ store: trap.store }))
          .catch(() => undefined)
        const issuer = privateCaIssuer()
        // Never taken for a loss, whatever the first one has left.
        await issuer.revocationLists(used)
        await issuer.revoke?.(certificatePem, 'superseded', used)
        expect((await lists(issuer, used))[0]?.crl.entries).toHaveLength(1)
        await store.delete(storeKey('accounts', 'private-ca', 'revocations'), used)
        await failureOf(issuer.revocationLists(used))
        if (!trap.fired()) break
        fired += 1
      }
      expect(fired).toBeGreaterThan(3)
    },
  )
})

describe('secrets', () => {
  it('of the CA are in no log, error, or answer', async () => {
    const clock = fakeClock()
    const logger = recordingLogger()
    const used = context({ clock, logger })
    const issuer = privateCaIssuer({ lifetimeMs: 9 * day, rootLifetimeMs: 60 * day })
    const issued = await issue(issuer, used)
    await issuer.revoke?.(issued.certificatePem, 'superseded', used)
    await clock.advance(40 * day)
    const answers = [issued, await issuer.trustBundle(used), await issuer.revocationLists(used), issuer]
    assertNoSecrets(answers)
    assertNoSecrets(logger.entries)
    expect(logger.entries.length).toBeGreaterThan(2)
  })
})

describe('privateCaIssuer', () => {
  it.each<[string, unknown]>([
    ['id', { id: '' }],
    ['commonName', { commonName: 'a, O=b' }],
    ['commonName', { commonName: 'a=b' }],
    ['commonName', { commonName: 'x'.repeat(51) }],
    ['rootKey', { rootKey: 'ed25519' }],
    ['rootLifetimeMs', { rootLifetimeMs: 100 * day }],
    ['rootLifetimeMs', { rootLifetimeMs: 26 * 365 * day }],
    ['lifetimeMs', { lifetimeMs: 0 }],
    ['profile', { profile: 'both' }],
    ['additionalNames', { additionalNames: ['spiffe://a'] }],
    ['additionalNames', { additionalNames: 'uri:a:b' }],
    ['nameConstraints', { nameConstraints: {} }],
    ['nameConstraints', { nameConstraints: { permitted: ['*.a'] } }],
    ['nameConstraints', { nameConstraints: { allowed: ['a'] } }],
    ['nameConstraints.permitted', { nameConstraints: { permitted: 'a' } }],
    ['overlapMs', { overlapMs: -1 }],
    ['revocationListLifetimeMs', { revocationListLifetimeMs: Infinity }],
    ['roots', { roots: [] }],
    ['importRoot', { importRoot: 'pem' }],
    ['lifetime', { lifetime: 1 }],
  ])('names the option %s', (option, options) => {
    const make = (): unknown => privateCaIssuer(options as PrivateCaIssuerOptions)
    expect(make).toThrow(TypeError)
    expect(make).toThrow(option)
  })

  it('takes one of importRoot and roots', async () => {
    const pair = await root()
    expect(() => privateCaIssuer({ importRoot: pair, roots: [pair] })).toThrow('importRoot')
    expect(() => privateCaIssuer({ nameConstraints: { permitted: ['a.example'] }, roots: [pair] })).toThrow(
      'nameConstraints',
    )
  })

  it('reads certificates as it wrote them', async () => {
    const used = context()
    const { leaf } = await issue(privateCaIssuer(), used)
    expect(parseCertificate(leaf.der).keyUsages).toBe(1)
  })
})
