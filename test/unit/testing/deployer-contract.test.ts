/**
 * The kit finds every fault it claims to find: deployers that are broken in one way each fail it.
 */
import { X509Certificate, createPrivateKey } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { CertificateBundle } from '../../../src/core/certificate-bundle.js'
import type { OperationContext } from '../../../src/core/context.js'
import type { Deployer, DeployResult } from '../../../src/deployers/deployer.js'
import { DeployError } from '../../../src/errors.js'
import { checkedLeaf } from '../../../src/internal/pem-layout.js'
import { deployerContract, type DeployerFixture } from '../../../src/testing/deployer-contract.js'
import type { ContractLevel } from '../../../src/testing/contract-runner.js'

/** A target in memory: two slots, written one after the other unless they are written as one. */
interface Target {
  pair: { certificatePem: string; keyPem: string } | undefined
  writes: number
  failures: number
  unrelated: string
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

class TargetDeployer implements Deployer {
  readonly name: string = 'target'
  readonly target: Target
  constructor(target: Target) {
    this.target = target
  }

  async deploy(bundle: CertificateBundle, context: OperationContext): Promise<DeployResult> {
    context.signal.throwIfAborted()
    this.check(bundle)
    await turn()
    context.signal.throwIfAborted()
    if (this.isCurrent(bundle)) return { status: 'unchanged' }
    await this.write(bundle, context)
    return { status: 'deployed', details: { size: bundle.fullChainPem.length } }
  }

  inspect(bundle: CertificateBundle): Promise<'absent' | 'current' | 'stale'> {
    if (this.target.pair === undefined) return Promise.resolve('absent')
    return Promise.resolve(this.isCurrent(bundle) ? 'current' : 'stale')
  }

  check(bundle: CertificateBundle): void {
    checkedLeaf(bundle)
  }

  isCurrent(bundle: CertificateBundle): boolean {
    return this.target.pair?.certificatePem === bundle.certificatePem
  }

  async write(bundle: CertificateBundle, context: OperationContext): Promise<void> {
    await turn()
    context.signal.throwIfAborted()
    this.fault()
    this.target.writes += 1
    this.target.pair = { certificatePem: bundle.certificatePem, keyPem: bundle.privateKey.exportPem() }
  }

  fault(): void {
    if (this.target.failures === 0) return
    this.target.failures -= 1
    throw this.failure('the disk is full')
  }

  failure(message: string): Error {
    return new DeployError({ code: 'ERR_DEPLOY_UNAVAILABLE', message, deployer: this.name })
  }
}

type Make = (target: Target) => Deployer

/** Runs the kit with a runner that collects; resolves with the titles of the tests that failed. */
async function failuresOf(
  level: ContractLevel,
  make: Make,
  adjust: (fixture: DeployerFixture) => DeployerFixture = (fixture) => fixture,
): Promise<string[]> {
  const tests: { readonly name: string; readonly run: () => Promise<void> }[] = []
  let disposed = 0
  const runner = {
    describe: (_: string, define: () => void) => {
      define()
    },
    it: (name: string, run: () => Promise<void>) => tests.push({ name, run }),
  }
  deployerContract(runner, {
    level,
    createDeployer() {
      const target: Target = { pair: undefined, writes: 0, failures: 0, unrelated: 'theirs' }
      return Promise.resolve(
        adjust({
          deployer: make(target),
          readDeployed() {
            if (target.pair === undefined) return Promise.resolve(undefined)
            const leaf = new X509Certificate(target.pair.certificatePem)
            return Promise.resolve({
              fingerprintSha256: leaf.fingerprint256.replaceAll(':', '').toLowerCase(),
              keyMatches: leaf.checkPrivateKey(createPrivateKey(target.pair.keyPem)),
            })
          },
          failNextWrite: () => {
            target.failures = 1
          },
          writes: () => target.writes,
          unrelatedState: () => target.unrelated,
          dispose() {
            disposed += 1
            return Promise.resolve()
          },
        }),
      )
    },
  })
  const failed: string[] = []
  for (const { name, run } of tests) await run().catch(() => failed.push(name))
  expect(disposed, 'every fixture must be disposed of').toBe(tests.length)
  return failed
}

it('passes a deployer that keeps the contract', async () => {
  expect(await failuresOf('basic', (target) => new TargetDeployer(target))).toEqual([])
  expect(await failuresOf('strict', (target) => new TargetDeployer(target))).toEqual([])
})

/** One fault each, and words of a test that finds it. */
const broken: readonly [fault: string, level: ContractLevel, foundBy: string, make: Make][] = [
  [
    'says it deployed, and did not',
    'basic',
    'is served, with its key',
    (target) =>
      new (class extends TargetDeployer {
        override write(): Promise<void> {
          return Promise.resolve()
        }
      })(target),
  ],
  [
    'has no name',
    'basic',
    'has a name',
    (target) =>
      new (class extends TargetDeployer {
        override readonly name = ''
      })(target),
  ],
  [
    'says "deployed" again',
    'basic',
    'again changes nothing',
    (target) =>
      new (class extends TargetDeployer {
        override async deploy(bundle: CertificateBundle, context: OperationContext) {
          return { ...(await super.deploy(bundle, context)), status: 'deployed' as const }
        }
      })(target),
  ],
  [
    'writes although nothing changed',
    'basic',
    'again changes nothing',
    (target) =>
      new (class extends TargetDeployer {
        override isCurrent(bundle: CertificateBundle) {
          const current = super.isCurrent(bundle)
          if (current) this.target.writes += 1
          return current
        }
      })(target),
  ],
  [
    'never replaces',
    'basic',
    'takes the place of the old one',
    (target) =>
      new (class extends TargetDeployer {
        override isCurrent() {
          return this.target.pair !== undefined
        }
      })(target),
  ],
  [
    'refuses an older certificate',
    'basic',
    'takes the place of the old one',
    (target) => {
      const seen = new Set<string>()
      return new (class extends TargetDeployer {
        override isCurrent(bundle: CertificateBundle) {
          return seen.size < seen.add(bundle.fingerprintSha256).size ? super.isCurrent(bundle) : true
        }
      })(target)
    },
  ],
  [
    'does not look when asked what is there',
    'basic',
    'inspect tells',
    (target) =>
      new (class extends TargetDeployer {
        override inspect() {
          return Promise.resolve('current' as const)
        }
      })(target),
  ],
  [
    'ignores an abort',
    'basic',
    'aborted before it began',
    (target) =>
      new (class extends TargetDeployer {
        override deploy(bundle: CertificateBundle, context: OperationContext) {
          return super.deploy(bundle, { ...context, signal: new AbortController().signal })
        }
      })(target),
  ],
  [
    'wraps the reason of an abort',
    'basic',
    'aborted before it began',
    (target) =>
      new (class extends TargetDeployer {
        override async deploy(bundle: CertificateBundle, context: OperationContext) {
          return super.deploy(bundle, context).catch((cause: unknown) => {
            throw this.failure(String(cause))
          })
        }
      })(target),
  ],
  [
    'empties the target before it fails',
    'strict',
    'a fault while it writes',
    (target) =>
      new (class extends TargetDeployer {
        override fault() {
          if (this.target.failures > 0) this.target.pair = undefined
          super.fault()
        }
      })(target),
  ],
  [
    'hides a fault',
    'strict',
    'a fault while it writes',
    (target) =>
      new (class extends TargetDeployer {
        override async write(bundle: CertificateBundle, context: OperationContext) {
          await super.write(bundle, context).catch(() => undefined)
        }
      })(target),
  ],
  [
    'fails with a bare Error',
    'strict',
    'a fault while it writes',
    (target) =>
      new (class extends TargetDeployer {
        override failure(message: string) {
          return new Error(message)
        }
      })(target),
  ],
  [
    'remembers a deployment that failed',
    'strict',
    'first deployment does not stop',
    (target) => {
      let last = ''
      return new (class extends TargetDeployer {
        override isCurrent(bundle: CertificateBundle) {
          const same = last === bundle.fingerprintSha256
          last = bundle.fingerprintSha256
          return same
        }
      })(target)
    },
  ],
  [
    'writes the certificate first and the key later',
    'strict',
    'readers never see half',
    (target) =>
      new (class extends TargetDeployer {
        override async write(bundle: CertificateBundle, context: OperationContext) {
          context.signal.throwIfAborted()
          this.fault()
          this.target.writes += 1
          const keyPem = bundle.privateKey.exportPem()
          this.target.pair = { certificatePem: bundle.certificatePem, keyPem: this.target.pair?.keyPem ?? keyPem }
          for (let turns = 0; turns < 3; turns += 1) await turn()
          this.target.pair = { certificatePem: bundle.certificatePem, keyPem }
        }
      })(target),
  ],
  [
    'takes the old one away before it writes the new one',
    'strict',
    'readers never see half',
    (target) =>
      new (class extends TargetDeployer {
        override async write(bundle: CertificateBundle, context: OperationContext) {
          const previous = this.target.pair
          this.target.pair = undefined
          for (let turns = 0; turns < 3; turns += 1) await turn()
          try {
            await super.write(bundle, context)
          } catch (error) {
            this.target.pair = previous
            throw error
          }
        }
      })(target),
  ],
  [
    "deploys a key that is another certificate's",
    'strict',
    'is refused',
    (target) =>
      new (class extends TargetDeployer {
        override check() {
          /* nothing */
        }
      })(target),
  ],
  [
    'is left in the middle by an abort',
    'strict',
    'aborted at any moment',
    (target) =>
      new (class extends TargetDeployer {
        override async write(bundle: CertificateBundle, context: OperationContext) {
          const before = this.target.pair
          await super.write(bundle, context)
          if (before !== undefined && context.signal.aborted) return
          const whole = this.target.pair
          if (before !== undefined && whole !== undefined) {
            this.target.pair = { ...whole, keyPem: before.keyPem }
            await turn()
            context.signal.throwIfAborted()
            this.target.pair = whole
          }
        }
      })(target),
  ],
  [
    'changes what is not its own',
    'strict',
    'is not its own',
    (target) =>
      new (class extends TargetDeployer {
        override async write(bundle: CertificateBundle, context: OperationContext) {
          this.target.unrelated = bundle.name
          await super.write(bundle, context)
        }
      })(target),
  ],
  [
    'shows the key in its result',
    'strict',
    'no key is shown',
    (target) =>
      new (class extends TargetDeployer {
        override async deploy(bundle: CertificateBundle, context: OperationContext) {
          return { ...(await super.deploy(bundle, context)), details: { request: bundle.privateKey.exportPem() } }
        }
      })(target),
  ],
  [
    'shows the key in its error, without a frame',
    'strict',
    'no key is shown',
    (target) =>
      new (class extends TargetDeployer {
        override async write(bundle: CertificateBundle, context: OperationContext) {
          await super.write(bundle, context).catch(() => {
            throw this.failure(`body: ${bundle.privateKey.exportPem().split('\n')[1] ?? ''}`)
          })
        }
      })(target),
  ],
  [
    'logs the key',
    'strict',
    'no key is shown',
    (target) =>
      new (class extends TargetDeployer {
        override async write(bundle: CertificateBundle, context: OperationContext) {
          context.logger.debug('deploying', { body: { key: bundle.privateKey.exportPem() } })
          await super.write(bundle, context)
        }
      })(target),
  ],
]

describe('fails a deployer that', () => {
  it.each(broken)('%s (%s)', async (_, level, foundBy, make) => {
    const failed = await failuresOf(level, make)
    expect(
      failed.filter((name) => name.includes(foundBy)),
      `failed: ${failed.join('; ')}`,
    ).not.toEqual([])
  })
})

it('fails a strict fixture that cannot make a fault, or whose fault never happens', async () => {
  const none = await failuresOf(
    'strict',
    (target) => new TargetDeployer(target),
    ({ failNextWrite: _, ...fixture }) => fixture,
  )
  expect(none).toEqual(expect.arrayContaining([expect.stringContaining('a fault while it writes')]))
  const idle = await failuresOf(
    'strict',
    (target) => new TargetDeployer(target),
    (fixture) => ({ ...fixture, failNextWrite: () => undefined }),
  )
  expect(idle).toEqual(expect.arrayContaining([expect.stringContaining('a fault while it writes')]))
})
