/**
 * Certificates with keys for tests of deployers.
 *
 * @module
 */
import { createBundle, type CertificateBundle } from '../core/certificate-bundle.js'
import type { Clock } from '../core/clock.js'
import { parseIdentifiers } from '../core/identifier.js'
import { generatePrivateKey, type KeyAlgorithm } from '../core/private-key.js'
import { createCsr } from '../core/x509.js'
import { assertOptions } from '../internal/options.js'
import { createTestAuthority, type TestAuthority } from './test-ca/test-authority.js'

/** Options of {@link createTestBundle}. */
export interface TestBundleOptions {
  /** Of the managed certificate. @defaultValue `'test'` */
  readonly name?: string | undefined
  /** As people write them. @defaultValue `['test.example']` */
  readonly identifiers?: readonly string[] | undefined
  /** @defaultValue `'ecdsa-p256'` */
  readonly keyAlgorithm?: KeyAlgorithm | undefined
  /** Where validity starts from. @defaultValue `systemClock` */
  readonly clock?: Clock | undefined
  /** @defaultValue an hour ago */
  readonly notBefore?: Date | undefined
  /** @defaultValue 90 days after `notBefore` */
  readonly notAfter?: Date | undefined
  /** Who signs it. @defaultValue a new CA with one intermediate */
  readonly authority?: TestAuthority | undefined
  /** @defaultValue false */
  readonly placeholder?: boolean | undefined
}

const dayMs = 86_400_000

/**
 * A certificate as deployers receive it: a new key each time, signed by a test CA, one intermediate in the chain.
 *
 * @example
 *
 * ```ts
 * import { createTestAuthority, createTestBundle, operationContext } from 'evercert/testing'
 * import type { Deployer } from 'evercert'
 *
 * declare const deployer: Deployer
 * const authority = createTestAuthority()
 * const bundle = await createTestBundle({ identifiers: ['www.example.com'], authority })
 * await deployer.deploy(bundle, operationContext())
 * ```
 *
 * @param options - See {@link TestBundleOptions}.
 */
export async function createTestBundle(options: TestBundleOptions = {}): Promise<CertificateBundle> {
  const known = ['name', 'identifiers', 'keyAlgorithm', 'clock', 'notBefore', 'notAfter', 'authority', 'placeholder']
  assertOptions(options, known, 'createTestBundle')
  const { name = 'test', keyAlgorithm, clock, placeholder = false } = options
  const { authority = createTestAuthority({ clock }), identifiers: names = ['test.example'] } = options
  const identifiers = parseIdentifiers(names)
  const privateKey = await generatePrivateKey(keyAlgorithm)
  const csr = await createCsr(privateKey, identifiers)
  const issued = await authority.issue({ csr, identifiers, validity: validityOf(options) })
  return createBundle({ name, ...issued, privateKey, issuerId: 'test-authority', placeholder })
}

function validityOf({
  clock,
  notBefore,
  notAfter,
}: TestBundleOptions): { notBefore: Date; notAfter: Date } | undefined {
  if (notBefore === undefined && notAfter === undefined) return undefined
  const start = notBefore ?? new Date((clock?.now() ?? Date.now()) - dayMs / 24)
  return { notBefore: start, notAfter: notAfter ?? new Date(start.getTime() + 90 * dayMs) }
}
