/**
 * The contract of deployers, as tests.
 *
 * @module
 */
import { equal, ok, rejects } from 'node:assert/strict'
import type { CertificateBundle } from '../core/certificate-bundle.js'
import type { Clock } from '../core/clock.js'
import type { OperationContext } from '../core/context.js'
import type { Deployer } from '../deployers/deployer.js'
import { CertError } from '../errors.js'
import type { ContractLevel, ContractRunner } from './contract-runner.js'
import { fakeClock } from './fake-clock.js'
import { operationContext } from './operation-context.js'
import { assertNoSecrets, recordingLogger } from './recording-logger.js'
import { createTestBundle } from './test-bundle.js'
import { createTestAuthority, type TestAuthority } from './test-ca/test-authority.js'

/** What is in service at a target. */
export interface DeployedPair {
  /** SHA-256 of the leaf's DER, lower-case hex without colons. */
  readonly fingerprintSha256: string
  /** Whether the key in service is that of the leaf; `true` where a TLS handshake has just proven it. */
  readonly keyMatches: boolean
}

/** A deployer under test, and the target it deploys to. */
export interface DeployerFixture {
  readonly deployer: Deployer
  /** What clients would be served at this moment; `undefined` when nothing has been deployed. */
  readDeployed(): Promise<DeployedPair | undefined>
  /** Makes the next change of the target fail, once, after it has begun. Needed for `strict`. */
  failNextWrite?(): void | Promise<void>
  /** How many changes the target has seen so far. @defaultValue only the result of a second deployment is checked */
  writes?(): number | Promise<number>
  /** Everything at the target that is not the deployer's, in a form that can be compared. @defaultValue not checked */
  unrelatedState?(): string | Promise<string>
  dispose?(): Promise<void>
}

/** Options of {@link deployerContract}. */
export interface DeployerContractOptions {
  /** Called for each test: each has a target of its own. */
  createDeployer(): Promise<DeployerFixture>
  readonly level: ContractLevel
  /** A name the target accepts certificates for. @defaultValue `'contract.example'` */
  readonly domain?: string | undefined
  /**
   * The clock of every operation. The default does not wait; a target that really works needs `systemClock`.
   *
   * @defaultValue a fake clock that advances by itself
   */
  readonly clock?: Clock | undefined
}

/**
 * Defines tests that hold a deployer to {@link Deployer}'s contract. `basic`: deploys, knows what it has deployed, deploys
 * the next one, heeds an abort. `strict`: faults, concurrency, readers that look all the time, secrets, other people's state.
 *
 * @example
 *
 * ```ts
 * import { describe, it } from 'node:test'
 * import { deployerContract } from 'evercert/testing'
 * import type { Deployer } from 'evercert'
 *
 * declare function startFakeCdn(): Promise<{
 *   deployer: Deployer
 *   served(): Promise<{ fingerprintSha256: string; keyMatches: boolean } | undefined>
 *   close(): Promise<void>
 * }>
 *
 * deployerContract({ describe, it }, {
 *   async createDeployer() {
 *     const cdn = await startFakeCdn()
 *     return { deployer: cdn.deployer, readDeployed: () => cdn.served(), dispose: () => cdn.close() }
 *   },
 *   level: 'basic',
 * })
 * ```
 *
 * @param runner - `describe` and `it` of any test runner
 */
export function deployerContract(runner: ContractRunner, options: DeployerContractOptions): void {
  const { level } = options

  const test = (name: string, run: (subject: Subject) => Promise<void>): void => {
    runner.it(name, async () => {
      const fixture = await options.createDeployer()
      try {
        await run(subjectOf(fixture, options))
      } finally {
        await fixture.dispose?.()
      }
    })
  }

  runner.describe(`deployer contract, ${level}`, () => {
    test('has a name, and a scope that is known', async ({ deployer }) => {
      ok(deployer.name !== '', 'a deployer must have a name')
      ok([undefined, 'node', 'cluster'].includes(deployer.scope), `unknown scope ${String(deployer.scope)}`)
      await Promise.resolve()
    })

    test('a deployed certificate is served, with its key', async ({ deployer, bundle, context, expectServed }) => {
      const one = await bundle()
      await expectServed(undefined, 'nothing must be served before the first deployment')
      const result = await deployer.deploy(one, context())
      equal(result.status, 'deployed', 'the first deployment must say "deployed"')
      await expectServed(one, 'after deploy() the certificate must be served')
    })

    test('deploying it again changes nothing', async ({ deployer, bundle, context, expectServed, fixture }) => {
      const one = await bundle()
      await deployer.deploy(one, context())
      const writes = await fixture.writes?.()
      const again = await deployer.deploy(one, context())
      equal(again.status, 'unchanged', 'a second deployment of the same certificate must say "unchanged"')
      equal(await fixture.writes?.(), writes, 'a second deployment of the same certificate must write nothing')
      await expectServed(one, 'and it must still be served')
    })

    test('a renewed certificate takes the place of the old one', async ({
      deployer,
      bundle,
      context,
      expectServed,
    }) => {
      const [one, two] = [await bundle(), await bundle()]
      await deployer.deploy(one, context())
      equal((await deployer.deploy(two, context())).status, 'deployed')
      await expectServed(two, 'after deploy() of a second certificate it must be served')
      equal((await deployer.deploy(one, context())).status, 'deployed', 'a certificate of before is a change as well')
      await expectServed(one, 'and be served')
    })

    test('inspect tells absent, stale and current', async ({ deployer, bundle, context }) => {
      if (deployer.inspect === undefined) return
      const [one, two] = [await bundle(), await bundle()]
      equal(await deployer.inspect(one, context()), 'absent', 'before the first deployment')
      await deployer.deploy(one, context())
      equal(await deployer.inspect(one, context()), 'current', 'of the deployed certificate')
      equal(await deployer.inspect(two, context()), 'stale', 'of another one')
    })

    test('aborted before it began, it changes nothing', async ({
      deployer,
      bundle,
      context,
      expectServed,
      fixture,
    }) => {
      const [one, two] = [await bundle(), await bundle()]
      await deployer.deploy(one, context())
      const writes = await fixture.writes?.()
      const reason = new Error('stopped by the contract')
      await rejectsWithReason(() => deployer.deploy(two, context(AbortSignal.abort(reason))), reason)
      equal(await fixture.writes?.(), writes, 'an aborted deployment must write nothing')
      await expectServed(one, 'after an aborted deployment the previous certificate must be served')
    })

    if (level === 'basic') return

    test('a fault while it writes leaves the previous certificate in service', async (subject) => {
      const { deployer, bundle, context, expectServed, failNextWrite } = subject
      const [one, two] = [await bundle(), await bundle()]
      await deployer.deploy(one, context())
      await failNextWrite()
      const error = await rejectionOf(deployer.deploy(two, context()), 'the fault must make deploy() reject')
      ok(CertError.isInstance(error), `a failure must be a CertError (DeployError), not ${String(error)}`)
      await expectServed(one, 'after a failed deployment the previous certificate must be served')
      equal((await deployer.deploy(two, context())).status, 'deployed', 'the next attempt must deploy it')
      await expectServed(two, 'and it must be served')
    })

    test('a fault at the first deployment does not stop the second attempt', async (subject) => {
      const { deployer, bundle, context, expectServed, failNextWrite } = subject
      const one = await bundle()
      await failNextWrite()
      await rejectionOf(deployer.deploy(one, context()), 'the fault must make deploy() reject')
      await deployer.deploy(one, context())
      await expectServed(one, 'after the second attempt the certificate must be served')
    })

    test('readers never see half of a change', async ({ deployer, bundle, context, fixture }) => {
      const bundles = [await bundle(), await bundle(), await bundle(), await bundle()]
      const [first] = bundles
      ok(first !== undefined)
      await deployer.deploy(first, context())
      let done = false
      const reading = readUntil(fixture, () => done, bundles)
      // Looked at below; it may fail long before.
      reading.catch(() => undefined)
      try {
        for (const next of [...bundles, ...bundles]) await deployer.deploy(next, context())
      } finally {
        done = true
      }
      ok((await reading) > 0, 'the reader must have read something')
    })

    test("a key that is not the certificate's is refused", async ({ deployer, bundle, context, expectServed }) => {
      const [one, two] = [await bundle(), await bundle()]
      await deployer.deploy(one, context())
      const mismatch = Object.freeze({ ...two, privateKey: one.privateKey })
      const error = await rejectionOf(
        deployer.deploy(mismatch, context()),
        'a pair that does not match must be refused',
      )
      ok(CertError.isInstance(error), `the refusal must be a CertError, not ${String(error)}`)
      await expectServed(one, 'and the previous certificate must be served')
    })

    test('deployments at the same time end with one whole certificate', async ({
      deployer,
      bundle,
      context,
      fixture,
    }) => {
      const [one, two] = [await bundle(), await bundle()]
      const all = [one, two, one].map((each) => deployer.deploy(each, context()))
      for (const result of await Promise.allSettled(all)) {
        if (result.status === 'rejected') ok(CertError.isInstance(result.reason), String(result.reason))
      }
      const served = await fixture.readDeployed()
      ok(served?.keyMatches === true, 'whoever came last: certificate and key must belong together')
      await deployer.deploy(two, context())
      equal((await fixture.readDeployed())?.fingerprintSha256, two.fingerprintSha256, 'and the next one must be served')
    })

    test('aborted at any moment, it leaves the old certificate or the new one', async (subject) => {
      const { deployer, bundle, context, fixture } = subject
      let previous = await bundle()
      await deployer.deploy(previous, context())
      const attempt = async (abortAfterTurns: number): Promise<number> => {
        const next = await bundle()
        const controller = new AbortController()
        const reason = new Error('stopped by the contract')
        let settled = false
        const outcome = deployer.deploy(next, context(controller.signal)).then(
          () => 'deployed' as const,
          (error: unknown) => error,
        )
        void outcome.then(() => (settled = true))
        let turns = 0
        for (; turns < abortAfterTurns && !settled; turns += 1) await nextTurn()
        controller.abort(reason)
        const result = await outcome
        if (result !== 'deployed') {
          equal(result, reason, 'an aborted deployment must reject with the reason of the signal as it is')
        }
        const served = await fixture.readDeployed()
        ok(served?.keyMatches === true, 'after an abort certificate and key must belong together')
        const allowed = result === 'deployed' ? [next] : [previous, next]
        ok(
          allowed.some((one) => one.fingerprintSha256 === served.fingerprintSha256),
          `after a deployment that was ${result === 'deployed' ? 'not stopped' : 'aborted'} something else is served`,
        )
        await deployer.deploy(next, context())
        equal(
          (await fixture.readDeployed())?.fingerprintSha256,
          next.fingerprintSha256,
          'the next attempt must deploy it',
        )
        previous = next
        return turns
      }
      // How many turns of the event loop one takes; then stopped after the first ones, and at moments all along.
      const whole = await attempt(Number.POSITIVE_INFINITY)
      const moments = Array.from({ length: 16 }, (_, index) => Math.ceil((whole * index) / 16))
      for (const moment of new Set([0, 1, 2, 3, ...moments])) await attempt(moment)
    })

    test('what is not its own stays as it is', async ({ deployer, bundle, context, fixture, failNextWrite }) => {
      const unrelated = await fixture.unrelatedState?.()
      const [one, two] = [await bundle(), await bundle()]
      await deployer.deploy(one, context())
      equal(await fixture.unrelatedState?.(), unrelated, 'deploy() must leave other state alone')
      await failNextWrite()
      await rejectionOf(deployer.deploy(two, context()), 'the fault must make deploy() reject')
      equal(await fixture.unrelatedState?.(), unrelated, 'a failed deploy() must leave other state alone')
      await deployer.deploy(two, context())
      await deployer.deploy(two, context())
      equal(await fixture.unrelatedState?.(), unrelated, 'a renewal must leave other state alone')
    })

    test('no key is shown in results, errors and logs', async (subject) => {
      const { deployer, bundle, context, failNextWrite, logger } = subject
      const [one, two] = [await bundle(), await bundle()]
      const mismatch = Object.freeze({ ...two, privateKey: one.privateKey })
      const shown: unknown[] = [await deployer.deploy(one, context()), await deployer.deploy(one, context())]
      await failNextWrite()
      shown.push(await rejectionOf(deployer.deploy(two, context()), 'the fault must make deploy() reject'))
      shown.push(await rejectionOf(deployer.deploy(mismatch, context()), 'a pair that does not match must be refused'))
      shown.push(await deployer.deploy(two, context()), await deployer.inspect?.(two, context()))
      for (const value of [...shown, logger.entries]) assertNoSecrets(value, [...keyLines(one), ...keyLines(two)])
    })
  })
}

interface Subject {
  readonly deployer: Deployer
  readonly fixture: DeployerFixture
  readonly logger: ReturnType<typeof recordingLogger>
  /** A certificate nobody has seen yet. */
  readonly bundle: () => Promise<CertificateBundle>
  readonly context: (signal?: AbortSignal) => OperationContext
  readonly expectServed: (bundle: CertificateBundle | undefined, message: string) => Promise<void>
  readonly failNextWrite: () => Promise<void>
}

function subjectOf(fixture: DeployerFixture, options: DeployerContractOptions): Subject {
  const { domain = 'contract.example', clock = fakeClock({ now: Date.now(), autoAdvance: true }) } = options
  const logger = recordingLogger()
  let authority: TestAuthority | undefined
  return {
    deployer: fixture.deployer,
    fixture,
    logger,
    bundle() {
      authority ??= createTestAuthority({ clock })
      return createTestBundle({ name: 'contract', identifiers: [domain], authority })
    },
    context: (signal) => operationContext({ clock, logger, ...(signal === undefined ? {} : { signal }) }),
    async expectServed(bundle, message) {
      const served = await fixture.readDeployed()
      equal(served?.fingerprintSha256, bundle?.fingerprintSha256, message)
      if (served !== undefined) ok(served.keyMatches, `${message}: the key in service is not the certificate's`)
    },
    async failNextWrite() {
      ok(fixture.failNextWrite !== undefined, 'the strict level needs failNextWrite() of the fixture')
      await fixture.failNextWrite()
    },
  }
}

/** Reads without pause, and gives the deployer its turn in between. */
async function readUntil(
  fixture: DeployerFixture,
  isDone: () => boolean,
  bundles: readonly CertificateBundle[],
): Promise<number> {
  const known = new Set(bundles.map(({ fingerprintSha256 }) => fingerprintSha256))
  let reads = 0
  const check = async (): Promise<void> => {
    const served = await fixture.readDeployed()
    reads += 1
    ok(served !== undefined, 'a reader found nothing while a certificate was being replaced')
    ok(served.keyMatches, 'a reader found a certificate beside the key of another one')
    ok(known.has(served.fingerprintSha256), 'a reader found a certificate that was never deployed')
  }
  while (!isDone()) {
    await check()
    await nextTurn()
  }
  return reads
}

async function rejectsWithReason(run: () => Promise<unknown>, reason: Error): Promise<void> {
  await rejects(run, (error) => {
    equal(error, reason, 'an aborted deployment must reject with the reason of the signal as it is')
    return true
  })
}

async function rejectionOf(work: Promise<unknown>, message: string): Promise<unknown> {
  const outcome = await work.then(
    () => undefined,
    (error: unknown) => ({ error }),
  )
  ok(outcome !== undefined, message)
  return outcome.error
}

/** The key's base64, line by line: it may be shown without its PEM frame. */
function keyLines({ privateKey }: CertificateBundle): readonly string[] {
  return (
    privateKey
      .exportPem()
      .split('\n')
      .filter((line) => line.length >= 16 && !line.startsWith('-----'))
      // The first line of every key of one type is much the same: the header of its encoding.
      .map((line, index) => (index === 0 ? line.slice(48) : line))
  )
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
