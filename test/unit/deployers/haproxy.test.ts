import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { CertificateBundle } from '../../../src/core/certificate-bundle.js'
import type { Clock } from '../../../src/core/clock.js'
import { systemClock } from '../../../src/core/clock.js'
import { haproxyDeployer, type HaproxyDeployerOptions } from '../../../src/deployers/haproxy.js'
import { parseProcesses } from '../../../src/deployers/haproxy-master.js'
import { haproxyRuntime, parseCertificate, parseListing } from '../../../src/deployers/haproxy-runtime.js'
import { fakeClock, type FakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { assertNoSecrets, recordingLogger } from '../../../src/testing/recording-logger.js'
import { createTestBundle } from '../../../src/testing/test-bundle.js'
import { createTestAuthority } from '../../../src/testing/test-ca/index.js'
import { fakeHaproxy, type FakeHaproxy, type OddReply } from '../../support/fake-haproxy.js'
import { faultyFiles } from '../../support/faulty-files.js'
import { readCombined } from '../../support/read-pair.js'

const authority = createTestAuthority()
const newBundle = (): Promise<CertificateBundle> => createTestBundle({ name: 'www', authority })
const pemOf = (bundle: CertificateBundle): string => bundle.fullChainPem + bundle.privateKey.exportPem()
const [storageName, otherName] = ['/certs/www.pem', '/certs/other.pem']
const logger = recordingLogger()
const contextWith = (clock: Clock) => operationContext({ clock, logger })

let haproxy: FakeHaproxy
let first: CertificateBundle
let pemPath: string
beforeEach(async () => {
  first = await newBundle()
  haproxy = await fakeHaproxy({ [storageName]: pemOf(first), [otherName]: pemOf(await newBundle()) })
  await mkdir(join(haproxy.directory, 'certs'))
  pemPath = join(haproxy.directory, 'certs', 'www.pem')
  await writeFile(pemPath, pemOf(first), { mode: 0o600 })
})
afterEach(async () => {
  await haproxy.close()
})

function deployer(options: Partial<HaproxyDeployerOptions> = {}) {
  return haproxyDeployer({ pemPath, storageName, runtimeSocket: haproxy.socket, timeoutMs: 1_000, ...options })
}

async function failure(clock: Clock = systemClock, options: Partial<HaproxyDeployerOptions> = {}): Promise<unknown> {
  const outcome: unknown = await deployer(options)
    .deploy(await newBundle(), contextWith(clock))
    .catch((error: unknown) => error)
  assertNoSecrets(outcome)
  assertNoSecrets(logger.entries)
  return outcome
}

async function expectUntouched(): Promise<void> {
  expect(haproxy.served(storageName)?.fingerprintSha256).toBe(first.fingerprintSha256)
  expect(await readFile(pemPath, 'utf8')).toBe(pemOf(first))
  expect(await readdir(join(haproxy.directory, 'certs'))).toEqual(['www.pem'])
}

/** Moves time whenever somebody waits, until the work is done. */
async function advanceUntilDone<T>(clock: FakeClock, work: Promise<T>, stepMs = 1_000): Promise<T> {
  let done = false
  const settle = (): void => {
    done = true
  }
  const settled = work.then(settle, settle)
  while (!done) {
    // Real sockets and files answer in real time, and keys are made in it: give them some before the clock moves.
    await Promise.race([settled, systemClock.sleep(80)])
    if (!done) await clock.advance(stepMs)
  }
  return work
}

describe('odd replies', () => {
  const refusals: readonly [title: string, command: string, reply: OddReply, code: string, message: RegExp][] = [
    [
      'another name in the reply to set',
      'set',
      `Transaction created for certificate ${otherName}!`,
      'ERR_DEPLOY_REJECTED',
      /refused/,
    ],
    [
      'a longer reply to set',
      'set',
      `Transaction created for certificate ${storageName}!\nand more`,
      'ERR_DEPLOY_REJECTED',
      /refused/,
    ],
    [
      'a payload that is refused',
      'set',
      `unable to load certificate\nCan't update ${storageName}!`,
      'ERR_DEPLOY_REJECTED',
      /unable to load/,
    ],
    ['no right to change', 'set', 'Permission denied', 'ERR_DEPLOY_REJECTED', /level admin/],
    ['an old HAProxy', 'show ssl cert', 'Unknown command. Please enter one of:', 'ERR_DEPLOY_REJECTED', /needs 2\.2/],
    [
      'a commit that fails',
      'commit',
      `Committing ${storageName}\nCan't commit ${storageName}!`,
      'ERR_DEPLOY_REJECTED',
      /into service/,
    ],
    ['a commit of another name', 'commit', `Committing ${otherName}.\nSuccess!`, 'ERR_DEPLOY_REJECTED', /into service/],
    ['a listing that is none', 'show ssl cert', 'hello there', 'ERR_DEPLOY_REJECTED', /does not (?:list|describe)/],
    ['a set that was cut', 'set', { cut: 'Transaction created for cert' }, 'ERR_DEPLOY_UNAVAILABLE', /cut off/],
    ['a commit that was cut', 'commit', { cut: `Committing ${storageName}` }, 'ERR_DEPLOY_UNAVAILABLE', /cut off/],
    ['a connection that is closed', 'set', 'hang-up', 'ERR_DEPLOY_UNAVAILABLE', /cut off|closed the connection/],
    ['a reply of 2 MB', 'set', 'x'.repeat(2_000_000), 'ERR_DEPLOY_REJECTED', /too long/],
    [
      'terminal control characters',
      'set',
      '\u001b[2Jgone\u0007',
      'ERR_DEPLOY_REJECTED',
      /refused the certificate for \S+: \[2Jgone/,
    ],
  ]
  it.each(refusals)('%s', async (_, command, reply, code, message) => {
    let fired = 0
    haproxy.onCommand = (text) => {
      if (!text.startsWith(command)) return undefined
      fired += 1
      return reply
    }
    const error = await failure()
    expect(fired).toBeGreaterThan(0)
    expect(error).toMatchObject({ code })
    expect(String(error)).toMatch(message)
    // eslint-disable-next-line no-control-regex -- it is what must not get through
    expect(String(error)).not.toMatch(/[\u0000-\u0009\u001b]/)
    haproxy.onCommand = () => undefined
    await expectUntouched()
    expect(haproxy.transaction).toBeUndefined()
    // And once HAProxy is itself again, it works.
    expect((await deployer().deploy(await newBundle(), contextWith(systemClock))).status).toBe('deployed')
  })

  it.each(['show pools', 'show ssl cert', 'set', 'commit'])(
    'silence after "%s" ends by the deadline',
    async (command) => {
      const clock = fakeClock({ now: Date.now() })
      let silences = 0
      haproxy.onCommand = (text) => {
        if (!text.startsWith(command)) return undefined
        silences += 1
        return 'silence'
      }
      const failing = failure(clock)
      await vi.waitUntil(() => silences > 0, { interval: 1, timeout: 50_000 })
      const error = await advanceUntilDone(clock, failing)
      expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
      expect(String(error)).toContain('did not answer in time')
      // Each costs one deadline: a silent HAProxy must not be asked over and over.
      expect(silences).toBeLessThanOrEqual(5)
      expect(clock.sleeping).toBe(0)
      await expectUntouched()
    },
  )

  it('a commit whose reply is lost is found to be done', async () => {
    haproxy.onCommand = (text) => {
      if (!text.startsWith('commit')) return undefined
      haproxy.certificates.set(storageName, haproxy.transaction?.pem ?? '')
      haproxy.transaction = undefined
      return 'hang-up'
    }
    const bundle = await newBundle()
    expect((await deployer().deploy(bundle, contextWith(systemClock))).status).toBe('deployed')
    expect(await readFile(pemPath, 'utf8')).toBe(pemOf(bundle))
  })

  it('a success that is a lie is found out', async () => {
    haproxy.onCommand = (text) => {
      if (!text.startsWith('commit')) return undefined
      haproxy.transaction = undefined
      return `Committing ${storageName}.\nSuccess!`
    }
    expect(await failure()).toMatchObject({ code: 'ERR_DEPLOY_VERIFY_FAILED', retryable: true })
    await expectUntouched()
  })

  it('a chain that got lost is found out', async () => {
    haproxy.onCommand = (text) => {
      if (!text.startsWith('commit')) return undefined
      const [leaf = ''] = (haproxy.transaction?.pem ?? '').split(/(?<=-----END CERTIFICATE-----\n)/)
      const key = (haproxy.transaction?.pem ?? '').split(/(?=-----BEGIN PRIVATE KEY-----)/).at(-1) ?? ''
      haproxy.certificates.set(storageName, leaf + key)
      haproxy.transaction = undefined
      return `Committing ${storageName}.\nSuccess!`
    }
    expect(await failure()).toMatchObject({
      code: 'ERR_DEPLOY_VERIFY_FAILED',
      message: expect.stringContaining('with 0 intermediates') as string,
    })
  })

  it('waits while HAProxy commits other certificates', async () => {
    let busy = 3
    haproxy.onCommand = (text) =>
      /^(?:set|commit)/.test(text) && busy-- > 0 ? 'Operations on certificates are currently locked!' : undefined
    const bundle = await newBundle()
    expect((await deployer().deploy(bundle, contextWith(systemClock))).status).toBe('deployed')
    expect(haproxy.served(storageName)?.fingerprintSha256).toBe(bundle.fingerprintSha256)
  })
})

describe('the transaction of another program', () => {
  it('is waited for, reported and never touched', async () => {
    const clock = fakeClock({ now: Date.now() })
    const foreign = { name: otherName, pem: pemOf(await newBundle()) }
    haproxy.transaction = foreign
    const error = await advanceUntilDone(clock, failure(clock), 200)
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
    expect(String(error)).toContain(otherName)
    expect(haproxy.transaction).toEqual(foreign)
    expect(haproxy.commands.filter((command) => !command.startsWith('show '))).toEqual([])
    await expectUntouched()
  })

  it('for our own name is not touched either, when it is not our certificate', async () => {
    const foreign = { name: storageName, pem: pemOf(await newBundle()) }
    haproxy.transaction = foreign
    // A note of ours about the same name, from a process that was killed before it could send anything.
    await writeFile(
      join(haproxy.directory, '.admin.sock.evercert-lock.open'),
      JSON.stringify({ storageName, fingerprintSha1: 'a'.repeat(40) }),
    )
    const clock = fakeClock({ now: Date.now() })
    expect(await advanceUntilDone(clock, failure(clock), 200)).toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE' })
    expect(haproxy.transaction).toEqual(foreign)
  })

  it('cannot put control characters into the error', async () => {
    haproxy.transaction = { name: '/x\u001b[31m', pem: '' }
    const clock = fakeClock({ now: Date.now() })
    // eslint-disable-next-line no-control-regex -- it is what must not get through
    expect(String(await advanceUntilDone(clock, failure(clock), 200))).not.toMatch(/\u001b/)
  })
})

describe('what is sent', () => {
  it('has no blank line and no foreign text, however the bundle was written', async () => {
    const bundle = await newBundle()
    const sloppy = (pem: string): string =>
      `comment; show info\r\n\r\n${pem.replaceAll('\n', '\r\n')}\r\n\r\nshow info\r\n`
    const messy = Object.freeze({
      ...bundle,
      certificatePem: sloppy(bundle.certificatePem),
      chainPem: sloppy(bundle.chainPem),
      privateKey: { ...bundle.privateKey, exportPem: () => sloppy(bundle.privateKey.exportPem()) },
    })
    await deployer().deploy(messy, contextWith(systemClock))
    expect(haproxy.certificates.get(storageName)).toBe(pemOf(bundle))
    expect(haproxy.commands).not.toContain('show info')
  })

  it.each(['/c/a.pem;show info', '/c/a\nb', '/c/a b', '/c/a\\b', '/c/<<', '*/c/a', '/c/a"', '/c/ä.pem', '/c/a$b'])(
    'never has the name %j',
    async (name) => {
      expect(() => deployer({ storageName: name })).toThrow('"storageName"')
      const runtime = haproxyRuntime({
        socket: haproxy.socket,
        deployer: 'test',
        clock: systemClock,
        signal: new AbortController().signal,
        timeoutMs: 1_000,
      })
      await expect(runtime.show(name)).rejects.toThrow(TypeError)
      await expect(runtime.set(name, 'x\n')).rejects.toThrow(TypeError)
      await expect(runtime.abort(name)).rejects.toThrow(TypeError)
      expect(haproxy.commands).toEqual([])
    },
  )

  it("is never larger than HAProxy's buffer", async () => {
    haproxy.bufferBytes = 1_024
    expect(await failure()).toMatchObject({
      code: 'ERR_DEPLOY_REJECTED',
      message: expect.stringContaining('tune.bufsize') as string,
    })
    expect(haproxy.commands.filter((command) => command.startsWith('set'))).toEqual([])
    await expectUntouched()
    // With a reload to fall back on it goes that way.
    const bundle = await newBundle()
    const reloading = deployer({
      reloadCommand: ['/bin/sh', '-c', ': >"$1"', 'reload', join(haproxy.directory, 'reloaded')],
      runtimeSocket: undefined,
    })
    expect(await reloading.deploy(bundle, contextWith(systemClock))).toEqual({
      status: 'deployed',
      details: { by: 'reload' },
    })
  })
})

describe('the file', () => {
  it('can have the key first, DH parameters, another mode', async () => {
    const bundle = await newBundle()
    const dhParams = '-----BEGIN DH PARAMETERS-----\nMAgCAQcCAQI=\n-----END DH PARAMETERS-----\n'
    await deployer({ order: 'key-first', dhParams, mode: 0o640 }).deploy(bundle, contextWith(systemClock))
    expect(await readFile(pemPath, 'utf8')).toBe(bundle.privateKey.exportPem() + bundle.fullChainPem + dhParams)
  })

  it('and HAProxy are the old pair or the new one, whatever call of the file system fails', async () => {
    let previous = first
    let fired = true
    let n = 1
    for (; fired; n += 1) {
      const [next, faulty] = [await newBundle(), faultyFiles()]
      faulty.failCall(n, 'ENOSPC')
      const outcome: unknown = await deployer({ files: faulty.files })
        .deploy(next, contextWith(systemClock))
        .catch((error: unknown) => error)
      fired = faulty.faults > 0
      const [file, memory] = [await readCombined(pemPath), haproxy.served(storageName)]
      const at = `call ${String(n)}: ${faulty.calls.slice(-3).join(', ')}`
      expect(file?.keyMatches, at).toBe(true)
      expect(memory?.keyMatches, at).toBe(true)
      expect(haproxy.transaction, at).toBeUndefined()
      if ((outcome as { status?: string }).status !== 'deployed') {
        expect([previous.fingerprintSha256, next.fingerprintSha256]).toContain(memory?.fingerprintSha256)
        expect([previous.fingerprintSha256, next.fingerprintSha256]).toContain(file?.fingerprintSha256)
      }
      await deployer().deploy(next, contextWith(systemClock))
      expect(haproxy.served(storageName)?.fingerprintSha256).toBe(next.fingerprintSha256)
      expect((await readCombined(pemPath))?.fingerprintSha256).toBe(next.fingerprintSha256)
      previous = next
    }
    expect(n).toBeGreaterThan(20)
  }, 60_000)

  it('is in place for the start of an HAProxy that is not there, which is no success', async () => {
    const bundle = await newBundle()
    const away = deployer({ runtimeSocket: join(haproxy.directory, 'run', 'none.sock') })
    await expect(away.deploy(bundle, contextWith(systemClock))).rejects.toMatchObject({
      code: 'ERR_DEPLOY_UNAVAILABLE',
      message: expect.stringContaining('is HAProxy running') as string,
    })
    expect(await readFile(pemPath, 'utf8')).toBe(pemOf(bundle))
  })

  it('says which option helps when the lock cannot be made', async () => {
    const lockPath = join(haproxy.directory, 'missing', 'lock')
    expect(await failure(systemClock, { lockPath })).toMatchObject({
      code: 'ERR_DEPLOY_REJECTED',
      message: expect.stringContaining('"lockPath"') as string,
    })
  })
})

describe('replies, read', () => {
  it('listings', () => {
    expect(parseListing('# transaction\n*/a.pem\n# filename\n/a.pem\n/b.pem\n\n')).toEqual({
      transaction: '/a.pem',
      names: ['/a.pem', '/b.pem'],
    })
    expect(parseListing('# filename\n\n')).toEqual({ transaction: undefined, names: [] })
    for (const odd of ['*a\n*b', '# something else', 'Permission denied', 'a b'])
      expect(parseListing(odd)).toBeUndefined()
  })

  it('certificates', () => {
    const reply = `Filename: /a.pem\nStatus: Used\nSerial: 01\nSHA1 FingerPrint: ${'AB'.repeat(20)}\nChain Subject: /CN=i\nChain Issuer: /CN=r\n\n`
    expect(parseCertificate(reply)).toEqual({ status: 'Used', fingerprintSha1: 'ab'.repeat(20), chainLength: 1 })
    expect(parseCertificate('Filename: /a.pem\nStatus: Empty\n\n')).toEqual({
      status: 'Empty',
      fingerprintSha1: undefined,
      chainLength: 0,
    })
    expect(parseCertificate('Status: Used\n')).toBeUndefined()
  })

  it('processes of HAProxy 2.0 to 2.6', () => {
    const header = '#<PID>          <type>          <reloads>       <uptime>        <version>      \n'
    const reply = `${header}21604           master          2 [failed: 1]   0d00h00m44s     2.6.12\n# workers\n21641           worker          1               0d00h00m43s     2.6.12\n# old workers\n1233            worker          3               0d00h00m43s     2.0\n# programs\n\n`
    expect(parseProcesses(reply)).toEqual({ reloads: 2, workers: ['21641'] })
    expect(parseProcesses('Unknown command')).toBeUndefined()
  })
})

describe('options', () => {
  const base = { pemPath: '/certs/www.pem', runtimeSocket: '/run/haproxy/admin.sock' }
  it.each<[string, object]>([
    ['unknown option "pem"', { ...base, pem: '/x' }],
    ['"pemPath"', { ...base, pemPath: 'www.pem' }],
    ['leading dot', { ...base, pemPath: '/certs/.www.pem' }],
    ['needs one of the options', { pemPath: base.pemPath }],
    ['exclude each other', { ...base, masterSocket: '/m', reloadCommand: ['/bin/true'] }],
    ['"reloadCommand"', { ...base, reloadCommand: 'systemctl reload haproxy' }],
    ['"mode"', { ...base, mode: 0o644 }],
    ['"order"', { ...base, order: 'chain-first' }],
    ['"dhParams"', { ...base, dhParams: 'none' }],
    ['"owner.gid"', { ...base, owner: { uid: 0, gid: -1 } }],
    ['"crtList"', { ...base, crtList: '/etc/list;x' }],
    ['"timeoutMs"', { ...base, timeoutMs: 0 }],
  ])('refuses with %s', (message, options) => {
    expect(() => haproxyDeployer(options as HaproxyDeployerOptions)).toThrow(TypeError)
    expect(() => haproxyDeployer(options as HaproxyDeployerOptions)).toThrow(message)
  })
})
