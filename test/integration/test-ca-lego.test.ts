/**
 * The test CA under a client that somebody else wrote: lego. Its command line differs between the versions that
 * distributions ship; what a version lacks (profiles, ARI) is not asked of it.
 */
import { execFile, execFileSync } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it, onTestFinished } from 'vitest'
import { startTestCa, type TestCa, type TestCaOptions } from '../../src/testing/test-ca/index.js'
import { freePort } from '../support/ports.js'
import { describeWith, requireServer, serverPath } from '../support/servers.js'
import { temporaryDirectory } from '../support/temporary-directory.js'

const run = promisify(execFile)
const email = 'someone@example.com'
const hour = 3_600_000

describeWith(['lego'], 'the test CA with lego', () => {
  // Known before the tests are defined: a test that the installed lego cannot do is not there, rather than skipped.
  const features = featuresOf(serverPath('lego'))

  it('issues by http-01, renews and revokes', async () => {
    const names = ['www.example.com', 'example.com']
    const { ca, lego, files } = await start({ intermediates: 2, alternateChains: 1, offerUnknownChallenge: true })
    await lego.run(names)
    const [first] = ca.certificates
    const { certificatePem, privateKeyPem } = await files('www.example.com')
    // The leaf and its intermediates, as the CA sent them.
    expect(certificatePem.trim()).toBe(`${first!.pem}${first!.chainPem}`.trim())
    expect(new X509Certificate(certificatePem).checkPrivateKey(createPrivateKey(privateKeyPem))).toBe(true)
    expect(ca.orders).toMatchObject([{ status: 'valid', identifiers: names.map((value) => ({ type: 'dns', value })) }])
    expect(ca.accounts).toMatchObject([{ status: 'valid' }])

    await lego.renew(names, { force: true })
    expect(ca.certificates).toHaveLength(2)
    const second = ca.certificates[1]!
    expect((await files('www.example.com')).certificatePem.trim()).toBe(`${second.pem}${second.chainPem}`.trim())

    await lego.revoke('www.example.com')
    expect(ca.certificates.map(({ revoked }) => revoked?.reason)).toEqual([undefined, 4])
  })

  it.each(features.renewalInfo ? ['ARI'] : [])(
    'renews when the CA suggests it, and says what it replaces: %s',
    async () => {
      const { ca, lego } = await start()
      await lego.run(['www.example.com'])
      await lego.renew(['www.example.com'])
      expect(ca.certificates).toHaveLength(1)
      expect(ca.countRequests('renewalInfo')).toBe(1)

      const [first] = ca.certificates
      ca.setRenewalWindow(first!.pem, {
        start: new Date(Date.now() - 2 * hour),
        end: new Date(Date.now() - hour),
        explanationUrl: 'https://example.com/why',
      })
      await lego.renew(['www.example.com'])
      expect(ca.certificates).toHaveLength(2)
      expect(ca.certificates[1]!.replaces).toBe(first!.certificateId)
    },
  )

  it.each(features.profile ? ['profiles'] : [])('issues by profile: %s', async () => {
    const profiles = { classic: { description: 'c' }, shortlived: { description: 's', lifetimeMs: 160 * hour } }
    const { ca, lego } = await start({ profiles })
    await lego.run(['www.example.com'], ['--profile', 'shortlived'])
    const [issued] = ca.certificates
    expect(issued).toMatchObject({ profile: 'shortlived' })
    expect(issued!.notAfter.getTime() - issued!.notBefore.getTime()).toBe(160 * hour - 1000)
    await expect(lego.run(['b.example.com'], ['--profile', 'unknown'])).rejects.toThrow('invalidProfile')
  })

  it('binds accounts to external ones', async () => {
    const key = Buffer.from('a secret of at least 32 octets...').toString('base64url')
    const { ca, lego } = await start({ externalAccountRequired: true, externalAccountKeys: { kid1: key } })
    await lego.run(['www.example.com'], [], { keyId: 'kid1', key })
    expect(ca.accounts).toMatchObject([{ externalAccountKeyId: 'kid1' }])
    expect(ca.certificates).toHaveLength(1)
  })

  it.each(features.modern ? ['127.0.0.1'] : [])('certifies the IP address %s', async (address) => {
    const { ca, lego } = await start()
    await lego.run([address])
    expect(ca.certificates).toMatchObject([{ identifiers: [{ type: 'ip', value: '127.0.0.1' }] }])
  })

  it('bears rejected nonces and Retry-After', async () => {
    const { ca, lego } = await start({ retryAfterFormat: 'either' })
    ca.faults.rejectNonces(20)
    await lego.run(['www.example.com'])
    expect(ca.certificates).toHaveLength(1)
  })

  it('tells why it refuses', async () => {
    const { lego } = await start({ blockedNames: ['blocked.example'] })
    await expect(lego.run(['www.blocked.example'])).rejects.toThrow('rejectedIdentifier')
    const { lego: unreachable } = await start({ httpPort: await freePort() })
    await expect(unreachable.run(['www.example.com'])).rejects.toThrow(/connection.*Connection refused/)
  })

  interface Lego {
    run(names: readonly string[], options?: readonly string[], external?: { keyId: string; key: string }): Promise<void>
    renew(names: readonly string[], options?: { readonly force: boolean }): Promise<void>
    revoke(name: string): Promise<void>
  }

  interface Started {
    readonly ca: TestCa
    readonly lego: Lego
    files(name: string): Promise<{ certificatePem: string; privateKeyPem: string }>
  }

  async function start(options: TestCaOptions = {}): Promise<Started> {
    const port = await freePort()
    // Without Retry-After lego waits for many seconds.
    const ca = await startTestCa({ httpPort: port, retryAfterSeconds: 1, ...options })
    onTestFinished(() => ca.close())
    const directory = await temporaryDirectory()
    onTestFinished(() => directory.remove())
    const anchor = join(directory.path, 'anchor.pem')
    await writeFile(anchor, ca.httpsCaPem)
    const execute = async (args: readonly string[]): Promise<void> => {
      const env = { LEGO_CA_CERTIFICATES: anchor, HOME: directory.path }
      try {
        await run(requireServer('lego'), args, { env, timeout: 60_000 })
      } catch (error) {
        const { stdout, stderr } = error as { stdout: string; stderr: string }
        throw new Error(`lego ${args.join(' ')} failed:\n${stdout}${stderr}`, { cause: error })
      }
    }
    const where = ['--server', ca.directoryUrl, '--path', directory.path, '--email', email]
    const domains = (names: readonly string[]): string[] => names.flatMap((name) => ['--domains', name])
    const listen = features.modern ? '--http.address' : '--http.port'
    const solving = ['--accept-tos', '--http', listen, `127.0.0.1:${port}`]
    const lego: Lego = {
      run(names, more = [], external) {
        const [keyId, hmac] = features.modern ? (['--eab.kid', '--eab.hmac'] as const) : (['--kid', '--hmac'] as const)
        const binding = external === undefined ? [] : ['--eab', keyId, external.keyId, hmac, external.key]
        const common = [...where, ...solving, ...domains(names), ...binding]
        return execute(features.modern ? ['run', ...common, ...more] : [...common, 'run', ...more])
      },
      renew(names, { force } = { force: false }) {
        const common = [...where, ...solving, ...domains(names)]
        if (features.modern) {
          return execute(['run', ...common, '--no-random-sleep', ...(force ? ['--renew-force'] : [])])
        }
        return execute([...common, 'renew', '--no-random-sleep', ...(force ? ['--days', '9999'] : [])])
      },
      revoke: (name) =>
        execute(
          features.modern
            ? ['certificates', 'revoke', ...where, '--cert.name', name, '--reason', '4']
            : [...where, '--domains', name, 'revoke', '--reason', '4'],
        ),
    }
    const read = (name: string): Promise<string> => readFile(join(directory.path, 'certificates', name), 'utf8')
    return {
      ca,
      lego,
      files: async (name) => ({ certificatePem: await read(`${name}.crt`), privateKeyPem: await read(`${name}.key`) }),
    }
  }
})

interface Features {
  /** Version 5 and later: options after the command, and `run` renews. */
  readonly modern: boolean
  readonly profile: boolean
  readonly renewalInfo: boolean
}

function featuresOf(lego: string | undefined): Features {
  if (lego === undefined) return { modern: false, profile: false, renewalInfo: false }
  const help = (command: string): string => execFileSync(lego, [command, '--help'], { encoding: 'utf8' })
  const runHelp = help('run')
  const modern = runHelp.includes('--domains')
  const renewHelp = modern ? runHelp : help('renew')
  return { modern, profile: runHelp.includes('--profile'), renewalInfo: renewHelp.includes('--ari-disable') }
}
