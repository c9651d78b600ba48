import { createPrivateKey } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import type { CertificateBundle } from '../../../../src/core/certificate-bundle.js'
import { wantedValue } from '../../../../src/deployers/marathon/environment-value.js'
import { createTestBundle } from '../../../../src/testing/test-bundle.js'
import { createTestAuthority } from '../../../../src/testing/test-ca/test-authority.js'

let bundle: CertificateBundle
let renewed: CertificateBundle
const authority = createTestAuthority()
beforeAll(async () => {
  bundle = await createTestBundle({ authority })
  renewed = await createTestBundle({ authority })
})

const key = (of = bundle): string => of.privateKey.exportPem()
const sec1 = (): string => createPrivateKey(key()).export({ type: 'sec1', format: 'pem' }).toString()

describe('the value', () => {
  it('is leaf, intermediates and key, each block ending in one newline', () => {
    expect(wantedValue(bundle, 'certificate-first').text).toBe(bundle.certificatePem + bundle.chainPem + key())
    expect(wantedValue(bundle, 'key-first').text).toBe(key() + bundle.certificatePem + bundle.chainPem)
  })

  it('is refused when key and certificate are no pair', () => {
    const mismatch = { ...bundle, privateKey: renewed.privateKey }
    expect(() => wantedValue(mismatch, 'certificate-first')).toThrow(
      expect.objectContaining({ code: 'ERR_CERT_KEY_MISMATCH' }),
    )
  })

  it.each<[string, () => unknown, boolean]>([
    ['itself', () => bundle.fullChainPem + key(), true],
    ['the other order', () => key() + bundle.fullChainPem, true],
    ['the key between leaf and chain', () => bundle.certificatePem + key() + bundle.chainPem, true],
    ['a key of the older form', () => bundle.fullChainPem + sec1(), true],
    ['literal \\n', () => (bundle.fullChainPem + key()).replaceAll('\n', '\\n'), true],
    ['CRLF', () => (bundle.fullChainPem + key()).replaceAll('\n', '\r\n'), true],
    ['no newline at the end', () => (bundle.fullChainPem + key()).trimEnd(), true],
    ['blank lines', () => `\n${bundle.fullChainPem}\n\n${key()}\n`, true],
    [
      'newlines taken away, which HAProxy does not read',
      () => (bundle.fullChainPem + key()).replaceAll('\n', ' '),
      false,
    ],
    ['no newline between blocks', () => bundle.fullChainPem.trimEnd() + key(), false],
    [
      'no newlines in a block',
      () => bundle.certificatePem.replace(/(?<=[A-Za-z0-9+/=])\n(?=[A-Za-z0-9])/g, '') + bundle.chainPem + key(),
      false,
    ],
    ['text between blocks', () => `subject=CN = x\n${bundle.fullChainPem}# key\n${key()}`, true],
    ['another certificate', () => renewed.fullChainPem + key(renewed), false],
    ['the key of another', () => bundle.fullChainPem + key(renewed), false],
    ['another leaf with this key', () => renewed.fullChainPem + key(), false],
    ['no chain', () => bundle.certificatePem + key(), false],
    ['the chain before the leaf', () => bundle.chainPem + bundle.certificatePem + key(), false],
    ['one certificate more', () => bundle.fullChainPem + renewed.certificatePem + key(), false],
    ['no key', () => bundle.fullChainPem, false],
    ['two keys', () => bundle.fullChainPem + key() + key(), false],
    ['half of it', () => (bundle.fullChainPem + key()).slice(0, -80), false],
    ['an encrypted key', () => bundle.fullChainPem + key().replaceAll('PRIVATE KEY', 'ENCRYPTED PRIVATE KEY'), false],
    ['garbage', () => '-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n' + key(), false],
    ['a megabyte', () => bundle.fullChainPem + key() + 'x'.repeat(1_000_000), false],
    ['nothing', () => '', false],
    ['no value', () => undefined, false],
    ['a secret', () => ({ secret: 'tls' }), false],
  ])('compared with %s', (_, other, same) => {
    expect(wantedValue(bundle, 'certificate-first').matches(other())).toBe(same)
    expect(wantedValue(bundle, 'key-first').matches(other())).toBe(same)
  })

  it('is compared for a certificate without chain as well: a placeholder', async () => {
    const placeholder = { ...bundle, chainPem: '', fullChainPem: bundle.certificatePem, placeholder: true }
    const { matches } = wantedValue(placeholder, 'certificate-first')
    expect(matches(bundle.certificatePem + key())).toBe(true)
    expect(matches(bundle.fullChainPem + key())).toBe(false)
  })
})
