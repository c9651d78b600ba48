/**
 * haproxyDeployer and a real HAProxy: what clients get is what a handshake shows.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { build } from 'tsup'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { CertificateBundle } from '../../src/core/certificate-bundle.js'
import { systemClock } from '../../src/core/clock.js'
import { haproxyDeployer, type HaproxyDeployerOptions } from '../../src/deployers/haproxy.js'
import type { Deployer } from '../../src/deployers/deployer.js'
import { deployerContract } from '../../src/testing/deployer-contract.js'
import { operationContext } from '../../src/testing/operation-context.js'
import { recordingLogger } from '../../src/testing/recording-logger.js'
import { createTestBundle } from '../../src/testing/test-bundle.js'
import { createTestAuthority } from '../../src/testing/test-ca/index.js'
import { startHaproxy, type Haproxy, type HaproxyOptions } from '../support/haproxy.js'
import { readCombined } from '../support/read-pair.js'
import { describeWith } from '../support/servers.js'
import { socketProxy, type Verdict } from '../support/socket-proxy.js'
import { temporaryDirectory, type TemporaryDirectory } from '../support/temporary-directory.js'
import { probeTls, startHandshakeLoad } from '../support/tls-probe.js'
import type { HaproxyProgramInput } from './programs/haproxy-program.js'

const authority = createTestAuthority()
const [www, shop] = ['www.example.com', 'shop.example.com'] as const

function newBundle(name: string = www): Promise<CertificateBundle> {
  return createTestBundle({ name: 'www', identifiers: [name], authority })
}

function pemOf(bundle: CertificateBundle): string {
  return bundle.fullChainPem + bundle.privateKey.exportPem()
}

const logger = recordingLogger()
function context(signal?: AbortSignal) {
  return operationContext({ clock: systemClock, logger, ...(signal === undefined ? {} : { signal }) })
}

/** An HAProxy with certificates for both names. */
interface World {
  readonly haproxy: Haproxy
  readonly directory: string
  readonly path: (name: string) => string
  /** What it started with. */
  readonly first: Readonly<Record<typeof www | typeof shop, CertificateBundle>>
  readonly served: (name: string) => Promise<string>
  readonly deployer: (name: string, options?: Partial<HaproxyDeployerOptions>) => Deployer
  readonly stop: () => Promise<void>
}

async function newWorld(options: Partial<HaproxyOptions> & { readonly crtDirectory?: boolean } = {}): Promise<World> {
  const { crtDirectory = false, ...rest } = options
  const temporary: TemporaryDirectory = await temporaryDirectory()
  const directory = join(temporary.path, 'certs')
  await mkdir(directory)
  const path = (name: string): string => join(directory, `${name}.pem`)
  const first = { [www]: await newBundle(www), [shop]: await newBundle(shop) }
  for (const [name, bundle] of Object.entries(first)) await writeFile(path(name), pemOf(bundle), { mode: 0o600 })
  const certificates: HaproxyOptions['certificates'] = crtDirectory
    ? { crtDirectory: directory }
    : [path(www), path(shop)]
  const haproxy = await startHaproxy({ certificates, ...rest })
  return {
    haproxy,
    directory,
    path,
    first,
    served: async (servername) => (await probeTls({ port: haproxy.tlsPort, servername })).fingerprintSha256,
    deployer: (name, more = {}) =>
      haproxyDeployer({ pemPath: path(name), runtimeSocket: haproxy.adminSocket, timeoutMs: 5_000, ...more }),
    async stop() {
      await haproxy.stop()
      await temporary.remove()
    },
  }
}

describeWith(['haproxy'], 'haproxyDeployer and HAProxy', () => {
  let world: World
  beforeEach(async () => {
    world = await newWorld()
  })
  afterEach(async () => {
    await world.stop()
  })

  /** Nothing is open, nothing lies about, and the other certificate is as it was. */
  async function expectTidy(): Promise<void> {
    expect(await world.haproxy.command('show ssl cert')).not.toContain('transaction')
    expect((await readdir(world.directory)).sort()).toEqual([`${shop}.pem`, `${www}.pem`])
    expect(await world.served(shop)).toBe(world.first[shop].fingerprintSha256)
    expect(await readFile(world.path(shop), 'utf8')).toBe(pemOf(world.first[shop]))
  }

  it('replaces the certificate in the running process, and in the file for the next one', async () => {
    const bundle = await newBundle()
    const deployer = world.deployer(www)
    expect(await deployer.inspect?.(bundle, context())).toBe('stale')
    expect(await deployer.deploy(bundle, context())).toEqual({ status: 'deployed', details: { by: 'runtime' } })
    expect(await world.served(www)).toBe(bundle.fingerprintSha256)
    expect(await deployer.inspect?.(bundle, context())).toBe('current')
    expect(await deployer.deploy(bundle, context())).toEqual({ status: 'unchanged' })
    await expectTidy()
    await world.haproxy.reload()
    expect(await world.served(www)).toBe(bundle.fingerprintSha256)
  })

  it('puts right what drifted: HAProxy reloaded with an old file, or the file changed by hand', async () => {
    const bundle = await newBundle()
    const deployer = world.deployer(www)
    await deployer.deploy(bundle, context())
    await writeFile(world.path(www), pemOf(world.first[www]))
    await world.haproxy.reload()
    expect(await world.served(www)).toBe(world.first[www].fingerprintSha256)
    expect((await deployer.deploy(bundle, context())).status).toBe('deployed')
    expect(await world.served(www)).toBe(bundle.fingerprintSha256)
    await writeFile(world.path(www), pemOf(world.first[www]))
    expect(await deployer.inspect?.(bundle, context())).toBe('stale')
    expect((await deployer.deploy(bundle, context())).status).toBe('deployed')
    expect((await readCombined(world.path(www)))?.fingerprintSha256).toBe(bundle.fingerprintSha256)
  })

  it('swaps 20 times under load without a failed handshake', async () => {
    const load = startHandshakeLoad({ port: world.haproxy.tlsPort, servername: www, perSecond: 80 })
    const deployer = world.deployer(www)
    const deployed: string[] = [world.first[www].fingerprintSha256]
    for (let swap = 0; swap < 20; swap += 1) {
      const bundle = await newBundle()
      await deployer.deploy(bundle, context())
      deployed.push(bundle.fingerprintSha256)
      expect(await world.served(www)).toBe(bundle.fingerprintSha256)
      await systemClock.sleep(100)
    }
    const { failures, fingerprints, handshakes, perSecond } = await load.stop()
    console.log(
      `20 swaps, ${String(handshakes)} handshakes (${perSecond.toFixed(0)}/s), ${String(failures.length)} failed`,
    )
    expect(failures).toEqual([])
    expect(perSecond).toBeGreaterThan(50)
    expect([...fingerprints.keys()].filter((fingerprint) => !deployed.includes(fingerprint))).toEqual([])
    expect(fingerprints.size).toBeGreaterThan(15)
    await expectTidy()
  })

  it('never mixes two certificates that are deployed at the same moment', async () => {
    const deployers = { [www]: world.deployer(www), [shop]: world.deployer(shop) }
    for (let round = 0; round < 10; round += 1) {
      const bundles = { [www]: await newBundle(www), [shop]: await newBundle(shop) }
      await Promise.all([
        deployers[www].deploy(bundles[www], context()),
        deployers[shop].deploy(bundles[shop], context()),
      ])
      expect(await world.served(www)).toBe(bundles[www].fingerprintSha256)
      expect(await world.served(shop)).toBe(bundles[shop].fingerprintSha256)
    }
  })

  it('waits for a transaction of another program, and never touches it', async () => {
    const [foreign, bundle] = [await newBundle(shop), await newBundle(www)]
    await world.haproxy.command(`set ssl cert ${world.path(shop)} <<\n${pemOf(foreign)}`)
    const error: unknown = await world
      .deployer(www, { timeoutMs: 1_000 })
      .deploy(bundle, context())
      .catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
    expect(String(error)).toContain(world.path(shop))
    expect(await world.served(www)).toBe(world.first[www].fingerprintSha256)
    expect(await readFile(world.path(www), 'utf8')).toBe(pemOf(world.first[www]))
    // It is still there, holds what its owner put in, and can be committed.
    const waiting = world.deployer(www).deploy(bundle, context())
    expect(await world.haproxy.command(`commit ssl cert ${world.path(shop)}`)).toContain('Success!')
    expect((await waiting).status).toBe('deployed')
    expect(await world.served(shop)).toBe(foreign.fingerprintSha256)
    expect(await world.served(www)).toBe(bundle.fingerprintSha256)
  })

  /** Another program begins its change, at the worst moments. */
  for (const moment of ['set ssl cert', 'show ssl cert *', 'commit ssl cert'] as const) {
    it(`is not mixed up with another program that comes just before "${moment}"`, async () => {
      const [foreign, bundle] = [await newBundle(shop), await newBundle(www)]
      const directory = await temporaryDirectory()
      const proxy = await socketProxy(join(directory.path, 's'), world.haproxy.adminSocket!)
      let fired = 0
      proxy.onCommand = async (command): Promise<Verdict> => {
        if (command.startsWith(moment) && fired === 0) {
          fired += 1
          await world.haproxy.command(`set ssl cert ${world.path(shop)} <<\n${pemOf(foreign)}`)
        }
        return 'pass'
      }
      const deployer = world.deployer(www, { runtimeSocket: proxy.socket })
      const outcome: unknown = await deployer.deploy(bundle, context()).catch((error: unknown) => error)
      expect(fired).toBe(1)
      if (moment === 'set ssl cert') {
        // Ours went into their transaction. Their commit must not serve it.
        expect(outcome).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
        expect(await world.served(www)).toBe(world.first[www].fingerprintSha256)
        expect(await readFile(world.path(www), 'utf8')).toBe(pemOf(world.first[www]))
      } else {
        // Theirs went into ours: it was not committed, or put right at once.
        expect(outcome).toMatchObject({ status: 'deployed' })
        expect(await world.served(www)).toBe(bundle.fingerprintSha256)
      }
      expect(await world.haproxy.command(`commit ssl cert ${world.path(shop)}`)).toContain('No ongoing transaction')
      await expectTidy()
      expect((await deployer.deploy(bundle, context())).status).toBe(
        moment === 'set ssl cert' ? 'deployed' : 'unchanged',
      )
      await proxy.close()
      await directory.remove()
    })
  }

  it('reports a missing socket, and has the file ready for the start of HAProxy', async () => {
    const bundle = await newBundle()
    const runtimeSocket = join(world.directory, '..', 'gone.sock')
    await expect(world.deployer(www, { runtimeSocket }).deploy(bundle, context())).rejects.toMatchObject({
      code: 'ERR_DEPLOY_UNAVAILABLE',
      message: expect.stringContaining('is HAProxy running') as string,
    })
    expect((await readCombined(world.path(www)))?.fingerprintSha256).toBe(bundle.fingerprintSha256)
  })

  it('reports a certificate that HAProxy does not know', async () => {
    const pemPath = join(world.directory, '..', 'new.pem')
    const deployer = world.deployer(www, { pemPath })
    await expect(deployer.deploy(await newBundle(), context())).rejects.toMatchObject({
      code: 'ERR_DEPLOY_REJECTED',
      message: expect.stringContaining('"crtList"') as string,
    })
  })

  it("refuses what would not fit into HAProxy's buffer, which would crash it", async () => {
    const bundle = await newBundle()
    const big = Object.freeze({ ...bundle, chainPem: bundle.chainPem.repeat(30) })
    await expect(world.deployer(www).deploy(big, context())).rejects.toMatchObject({
      code: 'ERR_DEPLOY_REJECTED',
      message: expect.stringContaining('tune.bufsize') as string,
    })
    expect(await world.served(www)).toBe(world.first[www].fingerprintSha256)
    await expectTidy()
    // Just below the limit HAProxy takes it.
    const room = 16_384 - 64 - 60 - Buffer.byteLength(pemOf(bundle)) - world.path(www).length
    const fits = Math.floor(room / Buffer.byteLength(bundle.chainPem))
    const chainPem = bundle.chainPem.repeat(fits + 1)
    await world.deployer(www).deploy(Object.freeze({ ...bundle, chainPem }), context())
    expect(await world.served(www)).toBe(bundle.fingerprintSha256)
  })

  it('puts the previous file back when HAProxy refuses the certificate', async () => {
    const bundle = await newBundle()
    // A chain that is no certificate passes every check but OpenSSL's in HAProxy.
    const broken = Object.freeze({
      ...bundle,
      chainPem: '-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n',
    })
    await expect(world.deployer(www).deploy(broken, context())).rejects.toMatchObject({ code: 'ERR_DEPLOY_REJECTED' })
    expect(await readFile(world.path(www), 'utf8')).toBe(pemOf(world.first[www]))
    expect(await world.served(www)).toBe(world.first[www].fingerprintSha256)
    await expectTidy()
  })

  it('leaves nothing open when it is aborted at any command', async () => {
    const directory = await temporaryDirectory()
    const proxy = await socketProxy(join(directory.path, 's'), world.haproxy.adminSocket!)
    const deployer = world.deployer(www, { runtimeSocket: proxy.socket })
    let previous = world.first[www]
    let fired = true
    let aborted = 0
    for (let at = 1; fired; at += 1) {
      fired = false
      const [bundle, controller, reason] = [await newBundle(), new AbortController(), new Error('stopped')]
      proxy.commands.length = 0
      proxy.onCommand = (_, count) => {
        if (count === at) {
          fired = true
          controller.abort(reason)
        }
        return 'pass'
      }
      const outcome: unknown = await deployer
        .deploy(bundle, context(controller.signal))
        .catch((error: unknown) => error)
      if (outcome === reason) {
        aborted += 1
        expect(await world.served(www)).toBe(previous.fingerprintSha256)
        expect((await readCombined(world.path(www)))?.fingerprintSha256).toBe(previous.fingerprintSha256)
      } else {
        expect(outcome).toMatchObject({ status: 'deployed' })
        expect(await world.served(www)).toBe(bundle.fingerprintSha256)
        previous = bundle
      }
      await expectTidy()
    }
    expect(aborted).toBeGreaterThan(4)
    await proxy.close()
    await directory.remove()
  })

  describe('in processes of their own', () => {
    let work: TemporaryDirectory
    let program: string
    beforeAll(async () => {
      work = await temporaryDirectory()
      await build({
        entry: { program: fileURLToPath(new URL('programs/haproxy-program.ts', import.meta.url)) },
        outDir: work.path,
        // One plain file, that starts fast and finds nothing to import where it is.
        format: 'cjs',
        noExternal: [/./],
        target: 'node20',
        config: false,
        silent: true,
        outExtension: () => ({ js: '.cjs' }),
      })
      program = join(work.path, 'program.cjs')
    })
    afterAll(async () => {
      await work.remove()
    })

    function run(name: string, bundles: readonly CertificateBundle[], more: Partial<HaproxyDeployerOptions> = {}) {
      const child = spawn(process.execPath, [program], { stdio: ['pipe', 'pipe', 'inherit'], cwd: process.cwd() })
      const input: HaproxyProgramInput = {
        options: { pemPath: world.path(name), runtimeSocket: world.haproxy.adminSocket, timeoutMs: 5_000, ...more },
        bundles: bundles.map(({ certificatePem, chainPem, privateKey }) => ({
          certificatePem,
          chainPem,
          keyPem: privateKey.exportPem(),
        })),
      }
      child.stdin.end(JSON.stringify(input))
      const ended = once(child, 'exit')
      const said = text(child.stdout)
      return { child, ended, said }
    }

    it('never mixes two certificates', async () => {
      const count = 8
      const make = (name: string) => Promise.all(Array.from({ length: count }, () => newBundle(name)))
      const bundles = { [www]: await make(www), [shop]: await make(shop) }
      const [one, two] = [run(www, bundles[www]), run(shop, bundles[shop])]
      const all = Array.from({ length: count }, () => 'deployed')
      expect(JSON.parse(await one.said)).toEqual(all)
      expect(JSON.parse(await two.said)).toEqual(all)
      expect(await world.served(www)).toBe(bundles[www].at(-1)?.fingerprintSha256)
      expect(await world.served(shop)).toBe(bundles[shop].at(-1)?.fingerprintSha256)
    })

    for (const when of ['drop', 'keep-reply'] as const) {
      it(`converges after kill -9 ${when === 'drop' ? 'before' : 'after'} each of its commands`, async () => {
        const directory = await temporaryDirectory()
        let killed = 0
        let previous = world.first[www]
        const killedAt: string[] = []
        for (let at = 1; killed === at - 1; at += 1) {
          const socket = join(directory.path, `s${String(at)}`)
          const proxy = await socketProxy(socket, world.haproxy.adminSocket!)
          proxy.onCommand = (_, count) => (count === at ? when : 'pass')
          const [doomed, next] = [await newBundle(), await newBundle()]
          const lockPath = join(directory.path, 'lock')
          const { child, ended } = run(www, [doomed], { runtimeSocket: socket, lockPath })
          void proxy.held.then((command) => {
            killed += 1
            killedAt.push(command.split(' ', 2).join(' '))
            child.kill('SIGKILL')
          })
          await ended
          await proxy.close()
          expect([previous.fingerprintSha256, doomed.fingerprintSha256]).toContain(await world.served(www))
          expect((await readCombined(world.path(www)))?.keyMatches).toBe(true)
          // A deployment of the other name must not be stopped, or be mixed up, by what was left behind.
          const other = await newBundle(shop)
          await world.deployer(shop, { lockPath }).deploy(other, context())
          expect(await world.served(shop)).toBe(other.fingerprintSha256)
          await world.deployer(shop, { lockPath }).deploy(world.first[shop], context())
          expect([previous.fingerprintSha256, doomed.fingerprintSha256]).toContain(await world.served(www))
          const result = await world.deployer(www, { lockPath }).deploy(next, context())
          expect(result.status).toBe('deployed')
          expect(await world.served(www)).toBe(next.fingerprintSha256)
          expect(await readdir(directory.path)).toEqual([])
          await expectTidy()
          previous = next
        }
        console.log(`killed ${when === 'drop' ? 'before' : 'after'}: ${killedAt.join(', ')}`)
        expect(killedAt).toEqual(expect.arrayContaining(['show ssl', 'set ssl', 'commit ssl']))
        await directory.remove()
      })
    }
  })
})

describeWith(['haproxy'], 'haproxyDeployer and HAProxy that is reloaded', () => {
  let world: World
  beforeEach(async () => {
    world = await newWorld({ adminSocket: false, crtDirectory: true })
  })
  afterEach(async () => {
    await world.stop()
  })

  const byMaster = (): Deployer =>
    haproxyDeployer({ pemPath: world.path(www), masterSocket: world.haproxy.masterSocket, timeoutMs: 5_000 })

  async function eventuallyServed(name: string, fingerprint: string): Promise<void> {
    await expect.poll(() => world.served(name), { timeout: 60_000 }).toBe(fingerprint)
  }

  it('reloads by the master socket', async () => {
    for (let round = 0; round < 3; round += 1) {
      const bundle = await newBundle()
      expect(await byMaster().deploy(bundle, context())).toEqual({ status: 'deployed', details: { by: 'reload' } })
      await eventuallyServed(www, bundle.fingerprintSha256)
      expect(await byMaster().deploy(bundle, context())).toEqual({ status: 'unchanged' })
      expect((await readdir(world.directory)).sort()).toEqual(expect.arrayContaining([`${shop}.pem`, `${www}.pem`]))
    }
    expect((await readdir(world.directory)).filter((file) => !file.endsWith('.pem'))).toEqual([])
  })

  it('reloads by a command', async () => {
    const bundle = await newBundle()
    const reloadCommand = ['/bin/kill', '-HUP', String(world.haproxy.pid)] as const
    const deployer = haproxyDeployer({ pemPath: world.path(www), reloadCommand })
    expect((await deployer.deploy(bundle, context())).status).toBe('deployed')
    await eventuallyServed(www, bundle.fingerprintSha256)
  })

  it('puts the previous file back when the reload is refused, whoever is to blame', async () => {
    const bundle = await newBundle()
    const stranger = join(world.directory, 'stranger.pem')
    await writeFile(stranger, 'not a certificate')
    await expect(byMaster().deploy(bundle, context())).rejects.toMatchObject({
      code: 'ERR_DEPLOY_REJECTED',
      retryable: true,
      message: expect.stringContaining('refused to reload') as string,
    })
    expect(await readFile(world.path(www), 'utf8')).toBe(pemOf(world.first[www]))
    expect(await world.served(www)).toBe(world.first[www].fingerprintSha256)
    await rm(stranger)
    expect((await byMaster().deploy(bundle, context())).status).toBe('deployed')
    await eventuallyServed(www, bundle.fingerprintSha256)
  })

  it('puts the previous file back when the command fails', async () => {
    const deployer = haproxyDeployer({
      pemPath: world.path(www),
      reloadCommand: ['/bin/sh', '-c', 'echo "[ALERT] no such file" >&2; exit 1'],
    })
    await expect(deployer.deploy(await newBundle(), context())).rejects.toMatchObject({
      code: 'ERR_DEPLOY_UNAVAILABLE',
      message: expect.stringContaining('[ALERT] no such file') as string,
    })
    expect(await readFile(world.path(www), 'utf8')).toBe(pemOf(world.first[www]))
  })

  it('adds a new certificate to a crt directory by reload', async () => {
    const name = 'new.example.com'
    const bundle = await newBundle(name)
    const deployer = haproxyDeployer({ pemPath: world.path(name), masterSocket: world.haproxy.masterSocket })
    expect((await deployer.deploy(bundle, context())).status).toBe('deployed')
    await eventuallyServed(name, bundle.fingerprintSha256)
  })
})

describeWith(['haproxy'], 'haproxyDeployer and certificates that HAProxy does not know yet', () => {
  it('adds one to a crt-list, in the process and in the file', async () => {
    const temporary = await temporaryDirectory()
    const [crtList, firstPath, newPath] = ['list', 'first.pem', 'new.pem'].map((file) => join(temporary.path, file))
    const first = await newBundle(shop)
    await writeFile(firstPath!, pemOf(first))
    await writeFile(crtList!, `# kept\n${firstPath!} [alpn h2] ${shop}\n`)
    await chmod(crtList!, 0o640)
    const haproxy = await startHaproxy({ certificates: { crtList: crtList! } })
    try {
      const bundle = await newBundle()
      const deployer = haproxyDeployer({ pemPath: newPath!, runtimeSocket: haproxy.adminSocket, crtList })
      const served = async (): Promise<string> =>
        (await probeTls({ port: haproxy.tlsPort, servername: www })).fingerprintSha256
      expect(await served()).toBe(first.fingerprintSha256)
      expect((await deployer.deploy(bundle, context())).status).toBe('deployed')
      expect(await served()).toBe(bundle.fingerprintSha256)
      expect((await deployer.deploy(bundle, context())).status).toBe('unchanged')
      expect(await readFile(crtList!, 'utf8')).toBe(`# kept\n${firstPath!} [alpn h2] ${shop}\n${newPath!}\n`)
      await haproxy.reload()
      expect(await served()).toBe(bundle.fingerprintSha256)
      const renewed = await newBundle()
      expect((await deployer.deploy(renewed, context())).status).toBe('deployed')
      expect(await served()).toBe(renewed.fingerprintSha256)
    } finally {
      await haproxy.stop()
      await temporary.remove()
    }
  })
})

describeWith(['haproxy'], 'haproxyDeployer held to the contract', () => {
  deployerContract(
    { describe, it },
    {
      level: 'strict',
      clock: systemClock,
      domain: www,
      async createDeployer() {
        const world = await newWorld()
        const proxied = await temporaryDirectory()
        const proxy = await socketProxy(join(proxied.path, 's'), world.haproxy.adminSocket!)
        await rm(world.path(www))
        return {
          deployer: world.deployer(www, { runtimeSocket: proxy.socket }),
          async readDeployed() {
            const fingerprintSha256 = await world.served(www)
            if (fingerprintSha256 === world.first[www].fingerprintSha256) return undefined
            return { fingerprintSha256, keyMatches: true }
          },
          failNextWrite() {
            proxy.onCommand = async (command): Promise<Verdict> => {
              if (!command.startsWith('commit')) return 'pass'
              proxy.onCommand = () => 'pass'
              // Somebody aborts it first: the commit then fails.
              await world.haproxy.command(`abort ssl cert ${world.path(www)}`)
              return 'pass'
            }
          },
          writes: () => proxy.commands.filter((command) => !command.startsWith('show ')).length,
          unrelatedState: async () =>
            JSON.stringify([await world.served(shop), await readFile(world.path(shop), 'utf8')]),
          async dispose() {
            await proxy.close()
            await world.stop()
            await proxied.remove()
          },
        }
      },
    },
  )
})
