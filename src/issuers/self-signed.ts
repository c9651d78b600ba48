/**
 * An offline issuer for development, exported from `evercert/issuers/self-signed`.
 *
 * @module
 */
import { randomUUID } from 'node:crypto'
import { encodePem } from '../core/pem.js'
import { generatePrivateKey, importPrivateKey, publicKeyInfo } from '../core/private-key.js'
import { recordCodec } from '../core/record.js'
import { csrPublicKeyInfo } from '../core/x509.js'
import { createCertificate } from '../core/x509-signing.js'
import { readCertificates } from '../core/certificate-bundle.js'
import { CertError, StoreError } from '../errors.js'
import { assertDuration, assertOptions, assertText } from '../internal/options.js'
import { storeKey, type StoreKey } from '../stores/cert-store.js'
import type { Issuer, IssuerContext } from './issuer.js'

/** Options of {@link selfSignedIssuer}. */
export interface SelfSignedIssuerOptions {
  /** Life of a certificate, milliseconds. @defaultValue 2_592_000_000 (30 days) */
  readonly lifetimeMs?: number | undefined
  /** Id of the issuer: key of its root in the store. @defaultValue 'self-signed' */
  readonly id?: string | undefined
}

/** An {@link Issuer} with a root of its own. */
export interface SelfSignedIssuer extends Issuer {
  /** The root (PEM), made at first use and kept in the store: trust it on development machines. */
  rootPem(context: IssuerContext): Promise<string>
}

interface Root {
  readonly privateKeyPem: string
  readonly certificatePem: string
}

const rootLifeMs = 3650 * 86_400_000

const rootRecord = recordCodec<Root>('self-signed-root', (fields) => {
  const root = { privateKeyPem: fields.text('privateKeyPem'), certificatePem: fields.text('certificatePem') }
  const [certificate] = readCertificates(root.certificatePem, '"certificatePem"')
  if (certificate?.publicKeyInfo.equals(publicKeyInfo(importPrivateKey(root.privateKeyPem))) !== true) {
    throw new TypeError("the key is not the certificate's")
  }
  return root
})

/**
 * Certifies anything with a self-signed root that is made at first use. For development and tests: nobody else trusts it.
 *
 * @example
 *
 * ```ts
 * import { selfSignedIssuer } from 'evercert/issuers/self-signed'
 *
 * const issuer = selfSignedIssuer({ lifetimeMs: 7 * 86_400_000 })
 * ```
 *
 * @throws `TypeError` that names the option
 */
export function selfSignedIssuer(options: SelfSignedIssuerOptions = {}): SelfSignedIssuer {
  assertOptions(options, ['lifetimeMs', 'id'], 'selfSignedIssuer')
  const { lifetimeMs = 30 * 86_400_000, id = 'self-signed' } = options
  assertDuration(lifetimeMs, 'lifetimeMs')
  assertText(id, 'id', 200)
  return {
    id,
    async issue({ csr, identifiers }, context) {
      const root = await provideRoot(id, context)
      const now = context.clock.now()
      const [rootCertificate] = readCertificates(root.certificatePem)
      if (rootCertificate === undefined || rootCertificate.notAfter.getTime() < now + lifetimeMs) {
        throw new CertError({
          code: 'ERR_PLUGIN_FAILED',
          message: `the root of issuer ${id} is at its end; delete accounts/${encodeURIComponent(id)} from the store for a new one`,
          retryable: false,
        })
      }
      const der = await createCertificate({
        subject: 'CN=evercert development certificate',
        publicKeyInfo: csrPublicKeyInfo(csr),
        identifiers,
        notBefore: new Date(now - 5 * 60_000),
        notAfter: new Date(now + lifetimeMs),
        isCa: false,
        signWith: { key: importPrivateKey(root.privateKeyPem), certificate: rootCertificate },
      })
      return { chainPem: encodePem('CERTIFICATE', der), trustedRoots: root.certificatePem }
    },
    rootPem: async (context) => (await provideRoot(id, context)).certificatePem,
  }
}

/** Reads the root, or makes it; when two processes do so at once, the first to write wins. */
async function provideRoot(id: string, context: IssuerContext): Promise<Root> {
  const key = storeKey('accounts', id)
  const { store } = context
  for (let conflicts = 0; ; conflicts += 1) {
    const found = await readRoot(key, context)
    if (found !== undefined) return found
    const root = await createRoot(context.clock.now())
    try {
      await store.put(key, rootRecord.encode(root), context, { ifRevision: null })
      return root
    } catch (error) {
      if (!CertError.isInstance(error) || error.code !== 'ERR_STORE_CONFLICT' || conflicts === 3) throw error
    }
  }
}

/** Development machines trust the root: a person has to know when it is replaced. */
async function readRoot(key: StoreKey, context: IssuerContext): Promise<Root | undefined> {
  const { store } = context
  try {
    const stored = await store.get(key, context)
    return stored && rootRecord.decode(stored.value, { store: store.name, key })
  } catch (error) {
    if (!CertError.isInstance(error) || error.code !== 'ERR_STORE_CORRUPT') throw error
    throw new StoreError({
      code: 'ERR_STORE_CORRUPT',
      message: `${error.message}; delete ${key} from the store to have a new root made, which then has to be trusted anew`,
      store: store.name,
      key,
      cause: error.cause,
    })
  }
}

async function createRoot(now: number): Promise<Root> {
  const key = await generatePrivateKey('ecdsa-p256')
  const der = await createCertificate({
    subject: `CN=evercert development root ${randomUUID().slice(0, 8)}`,
    publicKeyInfo: publicKeyInfo(key),
    identifiers: [],
    notBefore: new Date(now - 86_400_000),
    notAfter: new Date(now + rootLifeMs),
    isCa: true,
    signWith: { key },
  })
  return { privateKeyPem: key.exportPem(), certificatePem: encodePem('CERTIFICATE', der) }
}
