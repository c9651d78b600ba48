import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { CertificateBundle } from '../../../src/core/certificate-bundle.js'
import { systemClock } from '../../../src/core/clock.js'
import { execDeployer, type ExecDeployerOptions } from '../../../src/deployers/exec.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { assertNoSecrets } from '../../../src/testing/recording-logger.js'
import { createTestBundle } from '../../../src/testing/test-bundle.js'
import { faultyFiles } from '../../support/faulty-files.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../support/temporary-directory.js'

let directory: TemporaryDirectory
let bundle: CertificateBundle
beforeEach(async () => {
  directory = await temporaryDirectory()
  bundle = await createTestBundle({ name: 'www', identifiers: ['www.example.com', '*.example.com'] })
})
afterEach(async () => {
  expect((await readdir(directory.path)).filter((name) => name.startsWith('evercert-'))).toEqual([])
  await directory.remove()
})

const context = operationContext({ clock: systemClock })
const at = (name: string): string => join(directory.path, name)
/** A script whose first argument is the test's directory. */
function shell(script: string, options: Partial<ExecDeployerOptions> = {}, ...args: string[]) {
  return execDeployer({
    command: ['/bin/sh', '-c', script, 'hook', directory.path, ...args],
    temporaryDirectory: directory.path,
    ...options,
  })
}
const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'succeeded',
    (error: unknown) => error,
  )

describe('what the program gets', () => {
  it('is files that only it can read, gone afterwards', async () => {
    const script = `cat "$2" "$3" "$4" "$5" > "$1/out"; stat -c %a "$2" "$5" "$EVERCERT_DIRECTORY" > "$1/modes"; ls "$6" > "$1/ls"; pwd > "$1/pwd"`
    const deployer = shell(script, {}, '{certificate}', '{chain}', '{fullchain}', '{key}', '{directory}')
    expect(await deployer.deploy(bundle, context)).toEqual({ status: 'deployed' })
    const { certificatePem, chainPem, fullChainPem, privateKey } = bundle
    expect(await readFile(at('out'), 'utf8')).toBe(certificatePem + chainPem + fullChainPem + privateKey.exportPem())
    expect(await readFile(at('modes'), 'utf8')).toBe('600\n600\n700\n')
    expect(await readFile(at('ls'), 'utf8')).toBe('certificate.pem\nchain.pem\nfullchain.pem\nkey.pem\n')
    expect(await readFile(at('pwd'), 'utf8')).toBe('/\n')
  })

  it('is PEM on standard input', async () => {
    await shell('cat > "$1/out"', { input: 'stdin-pem' }).deploy(bundle, context)
    expect(await readFile(at('out'), 'utf8')).toBe(bundle.fullChainPem + bundle.privateKey.exportPem())
  })

  it('is JSON on standard input', async () => {
    await shell('cat > "$1/out"', { input: 'stdin-json' }).deploy(bundle, context)
    expect(JSON.parse(await readFile(at('out'), 'utf8'))).toEqual({
      name: 'www',
      identifiers: ['www.example.com', '*.example.com'],
      certificate: bundle.certificatePem,
      chain: bundle.chainPem,
      key: bundle.privateKey.exportPem(),
      fingerprintSha256: bundle.fingerprintSha256,
      notBefore: bundle.notBefore.toISOString(),
      notAfter: bundle.notAfter.toISOString(),
    })
  })

  it('never has the key in arguments or environment, and nothing of ours in the environment', async () => {
    process.env['EVERCERT_TEST_CANARY'] = 'inherited'
    try {
      const script =
        'tr "\\0" "\\n" < /proc/$$/environ > "$1/environ"; tr "\\0" "\\n" < /proc/$$/cmdline > "$1/cmdline"'
      await shell(script, { env: { PATH: '/usr/bin:/bin', MINE: 'yes' } }, '{key}').deploy(bundle, context)
    } finally {
      delete process.env['EVERCERT_TEST_CANARY']
    }
    const environment = (await readFile(at('environ'), 'utf8')).trim().split('\n')
    expect(environment.map((line) => line.split('=')[0]).sort()).toEqual(
      [
        'EVERCERT_DIRECTORY',
        'EVERCERT_FINGERPRINT_SHA256',
        'EVERCERT_IDENTIFIERS',
        'EVERCERT_NAME',
        'EVERCERT_NOT_AFTER',
        'MINE',
        'PATH',
      ].sort(),
    )
    expect(environment).toContain('EVERCERT_IDENTIFIERS=www.example.com *.example.com')
    const everything = environment.join('\n') + (await readFile(at('cmdline'), 'utf8'))
    expect(everything).not.toContain('PRIVATE KEY')
  })

  it('is not read by a shell', async () => {
    const marker = at('pwned')
    const deployer = execDeployer({
      command: ['/usr/bin/printf', '%s', `$(touch ${marker}); touch ${marker}`],
      temporaryDirectory: directory.path,
    })
    await deployer.deploy(bundle, context)
    expect(await readdir(directory.path)).toEqual([])
  })
})

describe('how it ends', () => {
  it.each<[string, string, string, RegExp]>([
    [
      'a code',
      'echo doing; echo "cannot reload" >&2; exit 3',
      'ERR_DEPLOY_UNAVAILABLE',
      /\/bin\/sh exited with code 3: .*cannot reload/,
    ],
    ['a signal', 'kill -KILL $$', 'ERR_DEPLOY_UNAVAILABLE', /was ended by SIGKILL/],
  ])('with %s', async (_, script, code, message) => {
    const error = await failureOf(shell(script).deploy(bundle, context))
    expect(error).toMatchObject({ code, retryable: true })
    expect(String(error)).toMatch(message)
  })

  it('with the code that means "unchanged"', async () => {
    expect(await shell('exit 42', { unchangedExitCode: 42 }).deploy(bundle, context)).toEqual({ status: 'unchanged' })
    expect(await shell('exit 0', { unchangedExitCode: 42 }).deploy(bundle, context)).toEqual({ status: 'deployed' })
  })

  it('before it began: no such program, not executable, no such directory', async () => {
    await writeFile(at('plain'), 'text')
    await chmod(at('plain'), 0o644)
    const missing = execDeployer({ command: ['/nowhere/hook'], temporaryDirectory: directory.path })
    const plain = execDeployer({ command: [at('plain')], temporaryDirectory: directory.path })
    const nowhere = shell('exit 0', { cwd: '/nowhere' })
    for (const [deployer, words] of [
      [missing, 'no such program'],
      [plain, 'not executable'],
      [nowhere, '/nowhere'],
    ] as const) {
      const error = await failureOf(deployer.deploy(bundle, context))
      expect(error).toMatchObject({ code: 'ERR_DEPLOY_REJECTED', retryable: false })
      expect(String(error)).toContain(words)
    }
  })

  it('without having read its input', async () => {
    const big = Object.freeze({ ...bundle, chainPem: bundle.chainPem.repeat(200) })
    expect(await shell('exec 0<&-; exit 0', { input: 'stdin-pem' }).deploy(big, context)).toEqual({
      status: 'deployed',
    })
  })

  it('while something it started holds its output open', async () => {
    const started = Date.now()
    const deployer = shell('sleep 30 & echo $! > "$1/pid"; exit 0')
    expect(await deployer.deploy(bundle, context)).toEqual({ status: 'deployed' })
    expect(Date.now() - started).toBeLessThan(10_000)
    process.kill(Number(await readFile(at('pid'), 'utf8')), 'SIGKILL')
  })

  it('after very much output, of which the end is kept', async () => {
    const error = await failureOf(
      shell('head -c 20000000 /dev/zero | tr "\\0" x; echo; echo the end; exit 1').deploy(bundle, context),
    )
    expect(String(error)).toContain('the end')
    expect(String(error).length).toBeLessThan(2_000)
  })

  it('with the key in its output, which is not shown', async () => {
    for (const script of [
      'cat "$2"; exit 1',
      'grep -v -- ----- "$2"; exit 1',
      'head -c 150 "$2"; exit 1',
      'tail -c 120 "$2"; exit 1',
    ]) {
      const error = await failureOf(shell(script, {}, '{key}').deploy(bundle, context))
      const lines = bundle.privateKey
        .exportPem()
        .split('\n')
        .filter((line) => line.length > 16 && !line.startsWith('---'))
      assertNoSecrets(error, lines)
      expect(String(error)).toContain('exited with code 1')
    }
  })
})

describe('a program that does not end', () => {
  /** Waits until the script has said that it runs. */
  async function running(file: string): Promise<void> {
    await expect
      .poll(
        () =>
          stat(at(file)).then(
            () => true,
            () => false,
          ),
        { timeout: 50_000 },
      )
      .toBe(true)
  }
  const gone = (pid: number): boolean => {
    try {
      process.kill(pid, 0)
      return false
    } catch {
      return true
    }
  }
  const stubborn =
    'trap "" TERM; (trap "" TERM; echo "$(exec sh -c \'echo $PPID\')" > "$1/child"; touch "$1/ready"; while :; do sleep 1; done) & while :; do sleep 1; done'

  it('is ended with all it has started, by the clock, even if it ignores SIGTERM', async () => {
    const clock = fakeClock()
    const work = failureOf(shell(stubborn, { timeoutMs: 5_000 }).deploy(bundle, operationContext({ clock })))
    await running('ready')
    await clock.advance(4_999)
    expect(await Promise.race([work, delay(50, 'running')])).toBe('running')
    await clock.advance(1)
    await clock.advance(2_000)
    expect(await work).toMatchObject({
      code: 'ERR_DEPLOY_UNAVAILABLE',
      message: expect.stringContaining('within 5000 ms') as string,
    })
    const child = Number(await readFile(at('child'), 'utf8'))
    await expect.poll(() => gone(child), { timeout: 50_000 }).toBe(true)
    expect(clock.sleeping).toBe(0)
  })

  it('is ended by an abort, whose reason is passed on', async () => {
    const [controller, reason] = [new AbortController(), new Error('stopped')]
    const script = 'touch "$1/ready"; while :; do sleep 0.1; done'
    const work = failureOf(
      shell(script).deploy(bundle, operationContext({ clock: fakeClock(), signal: controller.signal })),
    )
    await running('ready')
    controller.abort(reason)
    expect(await work).toBe(reason)
  })
})

it('leaves no key behind when writing fails at any point', async () => {
  let fired = true
  for (let n = 1; fired; n += 1) {
    const faulty = faultyFiles()
    faulty.failCall(n, 'ENOSPC')
    const outcome = await failureOf(shell('exit 0', { files: faulty.files }).deploy(bundle, context))
    fired = faulty.faults > 0
    expect(outcome).toEqual(fired ? expect.objectContaining({ code: 'ERR_DEPLOY_UNAVAILABLE' }) : 'succeeded')
    const left = (await readdir(directory.path)).filter((name) => name.startsWith('evercert-'))
    // Only the removal itself can leave something; it says so.
    if (left.length > 0) expect(faulty.calls.at(-1)).toMatch(/^rm /)
    for (const name of left) await faulty.files.rm(at(name), { recursive: true })
  }
})

describe('options', () => {
  it.each<[string, object]>([
    ['"execDeployer.command"', {}],
    ['"execDeployer.command"', { command: 'hook --now' }],
    ['"execDeployer.command"', { command: [] }],
    ['must hold strings', { command: ['/hook', 1] }],
    ['unknown placeholder {privkey}', { command: ['/hook', '{privkey}'] }],
    ['needs "input" to be files', { command: ['/hook', '{key}'], input: 'stdin-pem' }],
    ['"input"', { command: ['/hook'], input: 'env' }],
    ['"execDeployer.timeoutMs"', { command: ['/hook'], timeoutMs: Number.NaN }],
    ['"execDeployer.cwd"', { command: ['/hook'], cwd: 'here' }],
    ['"execDeployer.env"', { command: ['/hook'], env: { 'A=B': 'x' } }],
    ['"execDeployer.env"', { command: ['/hook'], env: { A: 1 } }],
    ['"unchangedExitCode"', { command: ['/hook'], unchangedExitCode: 0 }],
    ['unknown option "shell"', { command: ['/hook'], shell: true }],
  ])('refuses with %s', (message, options) => {
    expect(() => execDeployer(options as ExecDeployerOptions)).toThrow(TypeError)
    expect(() => execDeployer(options as ExecDeployerOptions)).toThrow(message)
  })
})
