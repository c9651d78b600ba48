import { X509Certificate } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { checkIssuedChain, type CheckedChain } from '../../../src/core/certificate-bundle.js'
import { parseIdentifier } from '../../../src/core/identifier.js'
import { generatePrivateKey, keyAlgorithms, publicKeyInfo, type KeyAlgorithm } from '../../../src/core/private-key.js'
import { createCsr } from '../../../src/core/x509.js'
import { CertError } from '../../../src/errors.js'
import type { IssuedChain, Issuer, IssuerContext } from '../../../src/issuers/issuer.js'
import { selfSignedIssuer, type SelfSignedIssuerOptions } from '../../../src/issuers/self-signed.js'
import { storeKey, type CertStore } from '../../../src/stores/cert-store.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { assertNoSecrets, recordingLogger } from '../../../src/testing/recording-logger.js'
import { seededRandom } from '../../../src/testing/seeded-random.js'

const day = 86_400_000
const names = ['a.example', '*.b.example', '192.0.2.7', '2001:db8::1']

function context(parts: Partial<IssuerContext> = {}): IssuerContext {
  return { ...operationContext(parts), store: parts.store ?? memoryStore(), random: seededRandom(1) }
}

/** Asks for a certificate and lets it pass through the check that everything passes through. */
async function issue(
  issuer: Issuer,
  used: IssuerContext,
  parts: { names?: readonly string[]; algorithm?: KeyAlgorithm } = {},
): Promise<CheckedChain & IssuedChain> {
  const key = await generatePrivateKey(parts.algorithm)
  const identifiers = (parts.names ?? names).map(parseIdentifier)
  const csr = await createCsr(key, identifiers)
  const issued = await issuer.issue({ certificate: 'www', idempotencyKey: 'once', csr, identifiers }, used)
  const { chainPem, trustedRoots } = issued
  const now = used.clock.now()
  return {
    ...issued,
    ...checkIssuedChain(chainPem, { publicKeyInfo: publicKeyInfo(key), identifiers, now, trustedRoots }),
  }
}

describe('selfSignedIssuer', () => {
  it.each(keyAlgorithms.filter((algorithm) => algorithm !== 'rsa-4096' && algorithm !== 'rsa-3072'))(
    'certifies a key of type %s for exactly the names asked for',
    async (algorithm) => {
      const used = context()
      const issuer = selfSignedIssuer()
      const { leaf, trustedRoots } = await issue(issuer, used, { algorithm })
      expect(leaf.identifiers.map(({ value }) => value)).toEqual(names)
      expect(leaf.notAfter.getTime()).toBe(used.clock.now() + 30 * day)
      expect(leaf.notBefore.getTime()).toBeLessThanOrEqual(used.clock.now())
      expect(trustedRoots).toBe(await issuer.rootPem(used))
    },
  )

  it('keeps its root in the store, over restarts', async () => {
    const used = context()
    const rootPem = await selfSignedIssuer().rootPem(used)
    const { leaf, trustedRoots } = await issue(selfSignedIssuer(), used)
    expect(trustedRoots).toBe(rootPem)
    const root = new X509Certificate(rootPem)
    expect(root.ca && root.verify(root.publicKey) && new X509Certificate(leaf.der).verify(root.publicKey)).toBe(true)
    expect(Date.parse(root.validTo) - used.clock.now()).toBeGreaterThan(9 * 365 * day)
  })

  it('has a root of its own for each id, and for each store', async () => {
    const used = context()
    const roots = await Promise.all([
      selfSignedIssuer({ id: 'one' }).rootPem(used),
      selfSignedIssuer({ id: 'two' }).rootPem(used),
      selfSignedIssuer({ id: 'one' }).rootPem(context()),
    ])
    expect(new Set(roots).size).toBe(3)
    expect(selfSignedIssuer().id).toBe('self-signed')
    expect(selfSignedIssuer({ id: 'one' }).id).toBe('one')
  })

  it('agrees with other processes on one root when all of them start at once', async () => {
    const store = memoryStore()
    const roots = await Promise.all(Array.from({ length: 8 }, () => selfSignedIssuer().rootPem(context({ store }))))
    expect(new Set(roots).size).toBe(1)
  })

  it('issues for the life it was told', async () => {
    const used = context()
    const { leaf } = await issue(selfSignedIssuer({ lifetimeMs: 60_000 }), used)
    expect(leaf.notAfter.getTime() - used.clock.now()).toBe(60_000)
  })

  it('refuses to outlive its root, and says what to do', async () => {
    const clock = fakeClock()
    const used = context({ clock })
    const issuer = selfSignedIssuer({ id: 'dev ca' })
    await issuer.rootPem(used)
    await clock.advance(3650 * day - 29 * day)
    const error: unknown = await issue(issuer, used).catch((caught: unknown) => caught)
    expect(error).toMatchObject({ code: 'ERR_PLUGIN_FAILED', retryable: false })
    expect((error as CertError).message).toContain('accounts/dev%20ca')
    await used.store.delete(storeKey('accounts', 'dev ca'), used)
    expect((await issue(issuer, used)).leaf.notAfter.getTime()).toBe(clock.now() + 30 * day)
  })

  it.each([
    ['garbage', () => Buffer.from('garbage')],
    ['nothing', () => Buffer.alloc(0)],
    ['another kind', () => record({ kind: 'certificate' })],
    ['no key', () => record({ privateKeyPem: undefined })],
    ['a damaged key', () => record({ privateKeyPem: 'canary-key' })],
    ['a damaged certificate', () => record({ certificatePem: 'canary-certificate' })],
    ['the key of another root', async () => record({ privateKeyPem: (await generatePrivateKey()).exportPem() })],
  ])('calls a stored root with %s corrupt, in a way that the scheduler understands', async (_, damage) => {
    const store = memoryStore()
    const logger = recordingLogger()
    const used = context({ store, logger })
    const key = storeKey('accounts', 'self-signed')
    const damaged = await damage()
    await store.put(key, damaged, used)
    const error: unknown = await issue(selfSignedIssuer(), used).catch((caught: unknown) => caught)
    expect(error).toMatchObject({ name: 'StoreError', code: 'ERR_STORE_CORRUPT', key })
    expect((error as CertError).message).toContain(`delete ${key} from the store`)
    assertNoSecrets(error, ['canary-key', 'canary-certificate', damaged.toString()])
    // It is for a person to decide: nothing was written over it.
    expect(Buffer.from((await store.get(key, used))!.value).equals(damaged)).toBe(true)
  })

  it('shows its key to nobody', async () => {
    const logger = recordingLogger()
    const used = context({ logger })
    const issuer = selfSignedIssuer()
    const issued = await issue(issuer, used)
    assertNoSecrets([issuer, issued, logger.entries])
  })

  it('passes on what the store throws, and gives up when it loses again and again', async () => {
    const conflict = new CertError({ code: 'ERR_STORE_CONFLICT', message: 'conflict', retryable: true })
    const away = new CertError({ code: 'ERR_STORE_UNAVAILABLE', message: 'away', retryable: true })
    let puts = 0
    const broken = (error: Error): CertStore => ({
      ...memoryStore(),
      name: 'broken',
      put: async () => {
        puts += 1
        throw error
      },
    })
    await expect(selfSignedIssuer().rootPem(context({ store: broken(conflict) }))).rejects.toBe(conflict)
    expect(puts).toBe(4)
    await expect(selfSignedIssuer().rootPem(context({ store: broken(away) }))).rejects.toBe(away)
    expect(puts).toBe(5)
  })

  it('rejects with the reason of an aborted signal, and writes nothing', async () => {
    const store = memoryStore()
    const reason = new Error('stop')
    await expect(issue(selfSignedIssuer(), context({ store, signal: AbortSignal.abort(reason) }))).rejects.toBe(reason)
    expect(await store.get(storeKey('accounts', 'self-signed'), operationContext())).toBeUndefined()
  })

  it.each([
    [{ lifetimeMs: 0 }, 'lifetimeMs'],
    [{ lifetimeMs: Infinity }, 'lifetimeMs'],
    [{ lifetimeMs: '30d' }, 'lifetimeMs'],
    [{ lifetimeMs: 401 * day }, 'lifetimeMs'],
    [{ id: '' }, 'id'],
    [{ id: 'a\nb' }, 'id'],
    [{ id: 7 }, 'id'],
    [{ lifetime: day }, 'lifetime'],
    [null, 'selfSignedIssuer'],
    ['dev', 'selfSignedIssuer'],
  ])('refuses the options %j', (options, named) => {
    expect(() => selfSignedIssuer(options as SelfSignedIssuerOptions)).toThrow(TypeError)
    expect(() => selfSignedIssuer(options as SelfSignedIssuerOptions)).toThrow(named)
  })

  it('copies its options', async () => {
    const options = { lifetimeMs: day }
    const issuer = selfSignedIssuer(options)
    options.lifetimeMs = 2 * day
    const used = context()
    expect((await issue(issuer, used)).leaf.notAfter.getTime()).toBe(used.clock.now() + day)
  })
})

/** A stored root, as this version writes it, with something changed. */
async function record(change: Readonly<Record<string, unknown>>): Promise<Buffer> {
  const used = context()
  await selfSignedIssuer().rootPem(used)
  const stored = await used.store.get(storeKey('accounts', 'self-signed'), used)
  const fields = JSON.parse(Buffer.from(stored?.value ?? []).toString()) as Record<string, unknown>
  return Buffer.from(JSON.stringify({ ...fields, ...change }))
}
