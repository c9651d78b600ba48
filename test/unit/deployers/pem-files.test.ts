import { chmod, lstat, mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { CertificateBundle } from '../../../src/core/certificate-bundle.js'
import { systemClock } from '../../../src/core/clock.js'
import {
  acmetoolLive,
  certbotLive,
  haproxyPem,
  nginxPem,
  pemFilesDeployer,
  type PemFilesDeployerOptions,
} from '../../../src/deployers/pem-files.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { createTestBundle } from '../../../src/testing/test-bundle.js'
import { createTestAuthority } from '../../../src/testing/test-ca/index.js'
import { faultyFiles } from '../../support/faulty-files.js'
import { readCombined, readDirectory } from '../../support/read-pair.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../support/temporary-directory.js'

const authority = createTestAuthority()
const newBundle = (): Promise<CertificateBundle> => createTestBundle({ name: 'www', authority })
const context = operationContext({ clock: systemClock })

let directory: TemporaryDirectory
beforeEach(async () => {
  directory = await temporaryDirectory()
})
afterEach(async () => {
  await directory.remove()
})
const at = (...names: string[]): string => join(directory.path, ...names)
const mode = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8)

const dhParams = '-----BEGIN DH PARAMETERS-----\r\nMAgCAQcCAQI=\r\n\r\n-----END DH PARAMETERS-----'

describe('one file', () => {
  it('holds the parts in the order asked for, without blank lines, closed to others', async () => {
    const bundle = await newBundle()
    const path = at('www.pem')
    await pemFilesDeployer(haproxyPem({ path, dhParams })).deploy(bundle, context)
    const dh = '-----BEGIN DH PARAMETERS-----\nMAgCAQcCAQI=\n-----END DH PARAMETERS-----\n'
    expect(await readFile(path, 'utf8')).toBe(bundle.fullChainPem + bundle.privateKey.exportPem() + dh)
    expect(await mode(path)).toBe('600')
    expect(await readdir(directory.path)).toEqual(['www.pem'])
  })

  it('is put right when its content, mode or owner is not what it should be', async () => {
    const bundle = await newBundle()
    const path = at('www.pem')
    const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
    const deployer = pemFilesDeployer({ files: [{ path, content: ['key'], mode: 0o640 }], owner })
    await deployer.deploy(bundle, context)
    for (const spoil of [() => writeFile(path, 'other'), () => chmod(path, 0o666), () => rm(path)]) {
      await spoil()
      expect(await deployer.inspect?.(bundle, context)).not.toBe('current')
      expect((await deployer.deploy(bundle, context)).status).toBe('deployed')
      expect(await mode(path)).toBe('640')
      expect(await readFile(path, 'utf8')).toBe(bundle.privateKey.exportPem())
      expect((await deployer.deploy(bundle, context)).status).toBe('unchanged')
    }
  })

  it('replaces a planted symbolic link instead of writing through it', async () => {
    const victim = at('victim')
    await writeFile(victim, 'untouched')
    await symlink('victim', at('www.pem'))
    await pemFilesDeployer(haproxyPem({ path: at('www.pem') })).deploy(await newBundle(), context)
    expect(await readFile(victim, 'utf8')).toBe('untouched')
    expect((await lstat(at('www.pem'))).isFile()).toBe(true)
  })

  it('takes away what a killed process left: it may hold a key', async () => {
    await writeFile(at('.www.pem.0123456789abcdef.tmp'), 'old key')
    await writeFile(at('.www.pem.bak.0123456789abcdef.tmp'), 'not ours')
    await pemFilesDeployer(haproxyPem({ path: at('www.pem') })).deploy(await newBundle(), context)
    expect((await readdir(directory.path)).sort()).toEqual(['.www.pem.bak.0123456789abcdef.tmp', 'www.pem'])
  })

  it('says what to do when the directory is missing', async () => {
    const deployer = pemFilesDeployer(haproxyPem({ path: at('missing', 'www.pem') }))
    await expect(deployer.deploy(await newBundle(), context)).rejects.toMatchObject({
      code: 'ERR_DEPLOY_REJECTED',
      message: expect.stringContaining('create the directory') as string,
    })
  })
})

describe('several files', () => {
  it('are one directory that is switched as a whole; the version before is kept', async () => {
    const target = at('tls', 'www')
    const deployer = pemFilesDeployer(nginxPem({ directory: target }))
    const versions = at('tls', '.www.versions')
    const seen: string[] = []
    for (let round = 0; round < 4; round += 1) {
      const bundle = await newBundle()
      await deployer.deploy(bundle, context)
      expect(await readFile(join(target, 'fullchain.pem'), 'utf8')).toBe(bundle.fullChainPem)
      expect(await readFile(join(target, 'privkey.pem'), 'utf8')).toBe(bundle.privateKey.exportPem())
      const link = await readlink(target)
      expect(link).toMatch(
        new RegExp(`^\\.www\\.versions/www\\.${bundle.fingerprintSha256.slice(0, 16)}\\.[0-9a-f]{8}$`),
      )
      seen.push(link.slice('.www.versions/'.length))
      expect((await readdir(versions)).sort()).toEqual(seen.slice(-2).sort())
    }
    expect(await mode(join(target, 'privkey.pem'))).toBe('600')
    expect(await mode(join(target, 'fullchain.pem'))).toBe('644')
    expect(await mode(target)).toBe('755')
  })

  it('leaves an existing directory alone, and says so', async () => {
    await mkdir(at('www'))
    await writeFile(at('www', 'privkey.pem'), 'theirs')
    const deployer = pemFilesDeployer(nginxPem({ directory: at('www') }))
    await expect(deployer.deploy(await newBundle(), context)).rejects.toMatchObject({
      code: 'ERR_DEPLOY_REJECTED',
      message: expect.stringContaining('move it away once') as string,
    })
    expect(await readdir(at('www'))).toEqual(['privkey.pem'])
  })

  it('have the paths that users of certbot and acmetool know', async () => {
    const bundle = await newBundle()
    await pemFilesDeployer(certbotLive({ directory: at('letsencrypt'), name: 'www' })).deploy(bundle, context)
    const live = at('letsencrypt', 'live', 'www')
    expect((await readdir(live)).sort()).toEqual(['cert.pem', 'chain.pem', 'fullchain.pem', 'privkey.pem'])
    expect(await readFile(join(live, 'chain.pem'), 'utf8')).toBe(bundle.chainPem)
    expect(await readlink(live)).toMatch(/^\.\.\/archive\/www\./)

    await pemFilesDeployer(acmetoolLive({ directory: at('acme'), host: 'h.example', haproxy: true })).deploy(
      bundle,
      context,
    )
    const host = at('acme', 'live', 'h.example')
    expect((await readdir(host)).sort()).toEqual(['cert', 'chain', 'fullchain', 'haproxy', 'privkey'])
    expect(await readFile(join(host, 'haproxy'), 'utf8')).toBe(bundle.privateKey.exportPem() + bundle.fullChainPem)
    expect(await readlink(host)).toMatch(/^\.\.\/certs\/h\.example\./)
    expect(await mode(join(host, 'haproxy'))).toBe('600')
  })
})

/** Every call fails in turn, as a fault or as the death of the process, until there are no more calls. */
describe.each(['fault', 'death'] as const)('swept: %s at every call of the file system', (kind) => {
  it.each(['one file', 'several files'] as const)(
    '%s',
    async (layout) => {
      const path = at('www')
      const layoutOf = (): Pick<PemFilesDeployerOptions, 'files' | 'versions'> =>
        layout === 'one file' ? haproxyPem({ path }) : nginxPem({ directory: path })
      const read = () =>
        layout === 'one file'
          ? readCombined(path)
          : readDirectory(path, { certificate: 'fullchain.pem', key: 'privkey.pem' })
      let notified = 0
      const afterwards = (): void => {
        notified += 1
      }
      let previous = await newBundle()
      await pemFilesDeployer({ ...layoutOf(), afterwards }).deploy(previous, context)
      let fired = true
      let n = 1
      for (; fired; n += 1) {
        const [next, faulty] = [await newBundle(), faultyFiles()]
        if (kind === 'fault') faulty.failCall(n)
        else faulty.dieAt(n)
        notified = 0
        const outcome: unknown = await pemFilesDeployer({ ...layoutOf(), afterwards, fileSystem: faulty.files })
          .deploy(next, context)
          .catch((error: unknown) => error)
        fired = faulty.faults > 0
        const served = await read()
        expect(served?.keyMatches, `call ${String(n)}: ${faulty.calls.at(-1) ?? ''}`).toBe(true)
        expect([previous.fingerprintSha256, next.fingerprintSha256]).toContain(served?.fingerprintSha256)
        if (!fired) expect(outcome).toMatchObject({ status: 'deployed' })
        const again = await pemFilesDeployer({ ...layoutOf(), afterwards }).deploy(next, context)
        expect((await read())?.fingerprintSha256).toBe(next.fingerprintSha256)
        expect(notified, 'whoever reads the files must have been told').toBeGreaterThan(0)
        if (!fired) expect(again.status).toBe('unchanged')
        const left = await readdir(directory.path)
        expect(left.filter((name) => name.endsWith('-owed'))).toEqual([])
        // A dead process's lock is in nobody's way until something is to be changed.
        if (again.status === 'deployed') expect(left.filter((name) => name.endsWith('.lock'))).toEqual([])
        previous = next
      }
      expect(n).toBeGreaterThan(15)
    },
    60_000,
  )
})

describe('afterwards', () => {
  it('runs after a change only, and again after it failed, also in a new process', async () => {
    let calls = 0
    let fail = true
    const make = () =>
      pemFilesDeployer({
        ...haproxyPem({ path: at('www.pem') }),
        afterwards() {
          calls += 1
          if (fail) throw new Error('reload failed')
        },
      })
    const bundle = await newBundle()
    await expect(make().deploy(bundle, context)).rejects.toThrow('reload failed')
    expect(await make().inspect?.(bundle, context)).toBe('stale')
    await expect(make().deploy(bundle, context)).rejects.toThrow('reload failed')
    fail = false
    expect((await make().deploy(bundle, context)).status).toBe('deployed')
    expect(calls).toBe(3)
    expect((await make().deploy(bundle, context)).status).toBe('unchanged')
    expect(await make().inspect?.(bundle, context)).toBe('current')
    expect(calls).toBe(3)
  })

  it('is a program whose failure is told', async () => {
    const deployer = pemFilesDeployer({
      ...haproxyPem({ path: at('www.pem') }),
      afterwards: { command: ['/bin/sh', '-c', 'echo "nginx: [emerg] bad config" >&2; exit 1'] },
    })
    await expect(deployer.deploy(await newBundle(), context)).rejects.toMatchObject({
      code: 'ERR_DEPLOY_UNAVAILABLE',
      message: expect.stringMatching(
        /the files are in place, but \/bin\/sh exited with code 1: nginx: \[emerg\] bad config/,
      ) as string,
    })
  })

  it('must not hang', async () => {
    const clock = fakeClock()
    const deployer = pemFilesDeployer({
      ...haproxyPem({ path: at('www.pem') }),
      afterwards: () => new Promise<void>(() => undefined),
      timeoutMs: 1_000,
    })
    const deploying = deployer.deploy(await newBundle(), operationContext({ clock }))
    const outcome = deploying.catch((error: unknown) => error)
    while (clock.sleeping === 0) await new Promise((resolve) => setImmediate(resolve))
    await clock.advance(1_000)
    expect(await outcome).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE' })
  })
})

describe('options', () => {
  const path = '/etc/tls/www.pem'
  it.each<[string, unknown]>([
    ['"files"', {}],
    ['"files"', { files: [] }],
    ['unknown option "file"', { file: path }],
    ['"files.path"', { files: [{ path: 'relative', content: ['key'] }] }],
    ['unknown part', { files: [{ path, content: ['secret'] }] }],
    ['"files.content"', { files: [{ path, content: [] }] }],
    ['open to everybody', { files: [{ path, content: ['key'], mode: 0o644 }] }],
    [
      'one directory',
      {
        files: [
          { path, content: ['key'] },
          { path: '/other/www.pem', content: ['key'] },
        ],
      },
    ],
    [
      'named twice',
      {
        files: [
          { path, content: ['key'] },
          { path, content: ['chain'] },
        ],
      },
    ],
    [
      'without certificates and keys',
      { files: [{ path, content: [{ pem: '-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----' }] }] },
    ],
    ['"owner.uid"', { files: [{ path, content: ['key'] }], owner: { uid: 'root', gid: 0 } }],
    [
      '"afterwards.command"',
      { files: [{ path, content: ['key'] }], afterwards: { command: 'systemctl reload nginx' } },
    ],
    ['"afterwards"', { files: [{ path, content: ['key'] }], afterwards: 'systemctl' }],
  ])('refuses with %s', (message, options) => {
    expect(() => pemFilesDeployer(options as PemFilesDeployerOptions)).toThrow(TypeError)
    expect(() => pemFilesDeployer(options as PemFilesDeployerOptions)).toThrow(message)
  })

  it('refuses names that would lead elsewhere', () => {
    for (const name of ['..', 'a/b', '', '.']) expect(() => certbotLive({ directory: '/etc', name })).toThrow('"name"')
  })
})
