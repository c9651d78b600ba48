import { generateKeyPairSync } from 'node:crypto'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { parseIdentifiers } from '../../../../src/core/identifier.js'
import { acmeIssuer, googleTrustServices, letsEncrypt, zeroSsl } from '../../../../src/issuers/acme/index.js'
import { httpResponder } from '../../../../src/solvers/http-responder.js'

const good = { directory: letsEncrypt.staging, termsOfServiceAgreed: true as const, solvers: [httpResponder()] }
const secret = 'c2VjcmV0LWhtYWMta2V5LXRoYXQtbXVzdC1ub3Qtc2hvdw'
const ed25519 = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()

describe('options of acmeIssuer', () => {
  it.each<[option: string, options: Record<string, unknown>]>([
    ['directory', { directory: 'http://ca.example/dir' }],
    ['directory', { directory: 'ca.example' }],
    ['directory', { directory: 'http://127.0.0.1:14000/dir' }],
    ['directory', { directory: 'http://192.0.2.1/dir', allowLoopbackHttp: true }],
    ['termsOfServiceAgreed', { termsOfServiceAgreed: false }],
    ['termsOfServiceAgreed', { termsOfServiceAgreed: undefined }],
    ['solvers', { solvers: [] }],
    ['solvers', { solvers: undefined }],
    ['solvers', { solvers: [httpResponder(), httpResponder()] }],
    ['solvers[].type', { solvers: [{ ...httpResponder(), type: 'dns-persist-01' }] }],
    ['contact', { contact: 'mailto:a@example.com' }],
    ['contact', { contact: ['a@example.com'] }],
    ['contact', { contact: ['mailto:a@example.com,b@example.com'] }],
    ['contact', { contact: ['mailto:mailto:a@example.com'] }],
    ['externalAccountBinding.kid', { externalAccountBinding: { kid: '', hmacKey: secret } }],
    ['externalAccountBinding.hmacKey', { externalAccountBinding: { kid: 'k', hmacKey: `${secret} ` } }],
    ['accountKeyAlgorithm', { accountKeyAlgorithm: 'ed25519' }],
    ['accountKey', { accountKey: ed25519 }],
    ['accountKey', { accountKey: 'none' }],
    ['profile', { profile: {} }],
    ['profile', { profile: { prefer: 'a', require: 'b' } }],
    ['profile.prefer', { profile: { prefer: '' } }],
    ['trustedRoots', { trustedRoots: 'none' }],
    ['ca', { ca: 'none' }],
    ['ca', { ca: 'x', fetch: globalThis.fetch }],
    ['preflight', { preflight: { port: 80 } }],
    ['requestTimeoutMs', { requestTimeoutMs: 0 }],
    ['orderTimeoutMs', { orderTimeoutMs: Number.NaN }],
    ['userAgent', { userAgent: 'a\r\nb: c' }],
    ['id', { id: '../x' }],
    ['dirctory', { dirctory: 'x' }],
  ])('%s is refused when wrong', (option, options) => {
    const make = (): unknown => acmeIssuer({ ...good, ...options })
    expect(make).toThrow(TypeError)
    expect(make).toThrow(option)
    try {
      make()
    } catch (error) {
      expect(inspect(error)).not.toContain(secret)
    }
  })

  it('are copied', () => {
    const solvers = [httpResponder()]
    const issuer = acmeIssuer({ ...good, solvers })
    solvers.length = 0
    expect(issuer.supports(parseIdentifiers(['www.example.com']))).toBe(true)
  })

  it('lead to ids that differ between CAs, and between staging and production', () => {
    const directories = [letsEncrypt, googleTrustServices].flatMap(({ production, staging }) => [production, staging])
    const ids = [...directories, zeroSsl.production].map((directory) => acmeIssuer({ ...good, directory }).id)
    expect(new Set(ids).size).toBe(5)
    expect(ids[0]).toBe('acme-v02.api.letsencrypt.org-directory')
    expect(acmeIssuer({ ...good, id: 'mine' }).id).toBe('mine')
  })

  it('say what cannot be certified', () => {
    const issuer = acmeIssuer(good)
    expect(issuer.supports(parseIdentifiers(['www.example.com', '192.0.2.1']))).toBe(true)
    expect(issuer.supports(parseIdentifiers(['*.example.com']))).toContain('dns-01')
    expect(issuer.supports(parseIdentifiers(['*.example.com', 'www.example.com']))).toContain('covered by')
  })
})
