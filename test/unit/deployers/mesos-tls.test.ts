import { X509Certificate } from 'node:crypto'
import { readFile, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/core/clock.js'
import { mesosTls, nginxPem, pemFilesDeployer, type MesosTlsOptions } from '../../../src/deployers/pem-files.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { createTestBundle } from '../../../src/testing/test-bundle.js'
import { createTestAuthority } from '../../../src/testing/test-ca/index.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../support/temporary-directory.js'

const [first, second] = [createTestAuthority(), createTestAuthority()]
const context = operationContext({ clock: systemClock })

let work: TemporaryDirectory
beforeEach(async () => {
  work = await temporaryDirectory()
})
afterEach(() => work.remove())

const directory = (): string => join(work.path, 'tls')
const layout = (more: Partial<MesosTlsOptions> = {}) =>
  mesosTls({ directory: directory(), trustBundle: () => first.rootPem, ...more })
const read = (name: string): Promise<string> => readFile(join(directory(), name), 'utf8')
/** What systemd, or a shell, makes of the environment file. */
const variables = async (name = 'mesos-tls.env'): Promise<Record<string, string>> =>
  Object.fromEntries(
    (await read(name))
      .trimEnd()
      .split('\n')
      .map((line) => line.split('=', 2) as [string, string]),
  )

describe('mesosTls', () => {
  it('writes what libprocess reads, under the names it knows, in one switch', async () => {
    const bundle = await createTestBundle({ keyAlgorithm: 'rsa-2048', authority: first })
    await pemFilesDeployer(layout()).deploy(bundle, context)
    expect(await read('localhost.pem')).toBe(bundle.fullChainPem)
    expect(await read('localhost-key.pem')).toBe(bundle.privateKey.exportPem())
    expect(new X509Certificate(await read('ca.pem')).raw).toEqual(new X509Certificate(first.rootPem).raw)
    expect(((await stat(join(directory(), 'localhost-key.pem'))).mode & 0o777).toString(8)).toBe('600')
    expect(await readlink(directory())).toContain('.tls.versions/')
    expect(await variables()).toEqual({
      LIBPROCESS_SSL_ENABLED: 'true',
      LIBPROCESS_SSL_CERT_FILE: join(directory(), 'localhost.pem'),
      LIBPROCESS_SSL_KEY_FILE: join(directory(), 'localhost-key.pem'),
      LIBPROCESS_SSL_CA_FILE: join(directory(), 'ca.pem'),
      LIBPROCESS_SSL_VERIFY_SERVER_CERT: 'true',
      LIBPROCESS_SSL_REQUIRE_CLIENT_CERT: 'true',
      // All that libprocess knew before 1.10: without them nothing would be verified there.
      LIBPROCESS_SSL_VERIFY_CERT: 'true',
      LIBPROCESS_SSL_REQUIRE_CERT: 'true',
      LIBPROCESS_SSL_SUPPORT_DOWNGRADE: 'false',
      LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME: 'openssl',
      LIBPROCESS_SSL_VERIFICATION_DEPTH: '4',
      LIBPROCESS_SSL_ECDH_CURVES: 'auto',
      LIBPROCESS_SSL_VERIFY_IPADD: 'true',
      LIBPROCESS_SSL_ENABLE_TLS_V1_2: 'true',
    })
  })

  it('writes other names and settings', async () => {
    const names = { ca: 'root.pem', certificate: 'agent.pem', key: 'agent.key', environment: 'agent.env' }
    const ciphers = 'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256'
    const settings = { supportDowngrade: true, requireClientCertificate: false, verificationDepth: 2, ciphers } as const
    const bundle = await createTestBundle({ authority: first })
    const deployer = pemFilesDeployer(
      layout({ names, ...settings, ecdhCurves: 'P-256:P-384', hostnameValidation: 'legacy' }),
    )
    await deployer.deploy(bundle, context)
    expect(await read('agent.pem')).toBe(bundle.fullChainPem)
    expect(await variables('agent.env')).toMatchObject({
      LIBPROCESS_SSL_KEY_FILE: join(directory(), 'agent.key'),
      LIBPROCESS_SSL_CA_FILE: join(directory(), 'root.pem'),
      LIBPROCESS_SSL_SUPPORT_DOWNGRADE: 'true',
      LIBPROCESS_SSL_REQUIRE_CLIENT_CERT: 'false',
      LIBPROCESS_SSL_REQUIRE_CERT: 'false',
      LIBPROCESS_SSL_VERIFICATION_DEPTH: '2',
      LIBPROCESS_SSL_CIPHERS: ciphers,
      LIBPROCESS_SSL_ECDH_CURVES: 'P-256:P-384',
      LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME: 'legacy',
    })
  })

  it('refuses a key that Mesos cannot use, before anything is touched', async () => {
    const deployer = pemFilesDeployer(layout())
    const deployed = deployer.deploy(await createTestBundle({ name: 'agent', authority: first }), context)
    await expect(deployed).rejects.toMatchObject({ code: 'ERR_DEPLOY_REJECTED', retryable: false })
    await expect(deployed).rejects.toThrow('set "key" of certificate agent to one of rsa-2048')
    await expect(stat(directory())).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('writes anew when the roots to trust have changed, and the certificate has not', async () => {
    let roots = first.rootPem
    let restarts = 0
    const deployer = pemFilesDeployer({
      ...layout({ trustBundle: () => Promise.resolve(roots) }),
      afterwards: () => void (restarts += 1),
    })
    const bundle = await createTestBundle({ keyAlgorithm: 'rsa-2048', authority: first })
    expect(await deployer.deploy(bundle, context)).toEqual({ status: 'deployed' })
    expect(await deployer.deploy(bundle, context)).toEqual({ status: 'unchanged' })
    roots = second.rootPem + first.rootPem
    expect(await deployer.inspect?.(bundle, context)).toBe('stale')
    expect(await deployer.deploy(bundle, context)).toEqual({ status: 'deployed' })
    expect(await read('ca.pem')).toBe(roots)
    expect(restarts).toBe(2)
  })

  it('is looked at in every pass, and files without roots are not', () => {
    expect(pemFilesDeployer(layout()).everyPass).toBe(true)
    expect(pemFilesDeployer(nginxPem({ directory: directory() })).everyPass).toBe(false)
  })

  it.each([
    ['nothing', ''],
    ['an error page', '<html>'],
    ['a private key', '-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n'],
  ])('keeps what is there when the trust bundle is %s', async (_, roots) => {
    const bundle = await createTestBundle({ keyAlgorithm: 'rsa-2048', authority: first })
    await pemFilesDeployer(layout()).deploy(bundle, context)
    const before = await readlink(directory())
    const next = await createTestBundle({ keyAlgorithm: 'rsa-2048', authority: first })
    await expect(pemFilesDeployer(layout({ trustBundle: () => roots })).deploy(next, context)).rejects.toMatchObject({
      code: 'ERR_CERT_INVALID',
    })
    expect(await readlink(directory())).toBe(before)
  })

  it('does not wait for ever for the trust bundle', async () => {
    const clock = fakeClock()
    const deployer = pemFilesDeployer({
      ...layout({ trustBundle: () => new Promise(() => undefined) }),
      timeoutMs: 500,
    })
    const bundle = await createTestBundle({ keyAlgorithm: 'rsa-2048', authority: first })
    const deployed = deployer.deploy(bundle, operationContext({ clock }))
    const refused = expect(deployed).rejects.toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE' })
    await clock.advance(500)
    await refused
  })

  it.each<[string, unknown]>([
    ['directory', { directory: 'relative' }],
    ['directory', { directory: '/etc/mesos tls' }],
    ['directory', { directory: '/etc/$(id)' }],
    ['trustBundle', { trustBundle: first.rootPem }],
    ['names', { names: { cert: 'x' } }],
    ['names.ca', { names: { ca: '../ca.pem' } }],
    ['names.key', { names: { key: '' } }],
    ['supportDowngrade', { supportDowngrade: 'no' }],
    ['requireClientCertificate', { requireClientCertificate: 1 }],
    ['hostnameValidation', { hostnameValidation: 'none' }],
    ['verificationDepth', { verificationDepth: 0 }],
    ['ecdhCurves', { ecdhCurves: 'a b' }],
    ['ciphers', { ciphers: 'a\nLIBPROCESS_SSL_ENABLED=false' }],
    ['cipher', { cipher: 'x' }],
  ])('names the option %s', (option, options) => {
    const make = (): unknown => layout(options as Partial<MesosTlsOptions>)
    expect(make).toThrow(TypeError)
    expect(make).toThrow(option)
  })

  it('refuses two files of one name', () => {
    expect(() => pemFilesDeployer(layout({ names: { ca: 'localhost.pem' } }))).toThrow('named twice')
  })
})

describe('content of a file', () => {
  it.each<[string, unknown]>([
    ['unknown part', ['root']],
    ['one thing', [{ text: 'a', pem: 'b' }]],
    ['one thing', [{}]],
    ['text', [{ text: '-----BEGIN PRIVATE KEY-----' }]],
    ['text', [{ text: 7 }]],
    ['trustBundle', [{ trustBundle: 'pem' }]],
    ['list of parts', []],
  ])('must be what it can be: %s', (message, content) => {
    const files = [{ path: '/etc/x', content: content as [] }]
    expect(() => pemFilesDeployer({ files })).toThrow(message)
  })

  it('is refused for a list of keys that are none', () => {
    const files = [{ path: '/etc/x', content: ['key'] as const }]
    expect(() => pemFilesDeployer({ files, keyAlgorithms: ['dsa' as 'rsa-2048'] })).toThrow('keyAlgorithms')
  })
})
