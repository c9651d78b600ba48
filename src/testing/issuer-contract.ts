/**
 * The contract of issuers, as tests.
 *
 * @module
 */
import { deepStrictEqual, equal, fail, match, notEqual, ok, rejects } from 'node:assert/strict'
import { checkIssuedChain, readCertificates, type CheckedChain } from '../core/certificate-bundle.js'
import { parseIdentifiers } from '../core/identifier.js'
import { generatePrivateKey, publicKeyInfo } from '../core/private-key.js'
import { certificateIdOf } from '../core/renewal-info.js'
import { createCsr } from '../core/x509.js'
import { CertError } from '../errors.js'
import type { IssuedChain, Issuer, IssueRequest, IssuerContext } from '../issuers/issuer.js'
import type { CertStore } from '../stores/cert-store.js'
import type { ContractLevel, ContractRunner } from './contract-runner.js'
import { assertNoSecrets, recordingLogger } from './recording-logger.js'

/** An issuer under test, and the CA behind it. */
export interface IssuerFixture {
  readonly issuer: Issuer
  /** With a store of its own; its clock must not make a test wait, and its logger is replaced by the kit's. */
  readonly context: IssuerContext
  /** One for another CA, or for the staging side of the same one. Its id must differ. */
  readonly otherIssuer?: Issuer | undefined
  /** Makes the issuer anew over the same CA, as after a restart. @defaultValue the same object goes on */
  reopen?(): Issuer
  /** Makes the CA refuse the next order until an instant, which is returned. */
  rateLimit?(): Date
  /** How many certificates the CA has issued. */
  certificatesIssued?(): number
  /** What is visible to the CA for validation at this moment, one text for each. */
  openChallenges?(): readonly string[]
  /** The predecessor that the last order named. */
  lastReplaces?(): string | undefined
  dispose?(): Promise<void>
}

/** Options of {@link issuerContract}. */
export interface IssuerContractOptions {
  /** Called for each test: each has a CA, a store and an issuer of its own. */
  createIssuer(): Promise<IssuerFixture>
  /** Names that the issuer can certify. */
  readonly identifiers: readonly string[]
  /**
   * `strict` needs `certificatesIssued`; and `openChallenges`, `rateLimit`, `lastReplaces` of issuers that validate names,
   * have limits, or renew with a reference.
   */
  readonly level: ContractLevel
}

/** More store calls than any issuer makes for one certificate. */
const maxStoreCalls = 60

/**
 * Defines tests that hold an issuer to {@link Issuer}'s contract. `basic`: what it issues is what was asked for, once for
 * each idempotency key, and its id is usable. `strict`: it survives an abort and a failing store at every call of the store
 * without a second certificate and without leaving challenges behind, and its errors tell the truth.
 *
 * @example
 *
 * ```ts
 * import { describe, it } from 'node:test'
 * import { issuerContract, operationContext, seededRandom } from 'evercert/testing'
 * import { selfSignedIssuer } from 'evercert/issuers/self-signed'
 * import { memoryStore } from 'evercert/stores/memory'
 *
 * issuerContract({ describe, it }, {
 *   async createIssuer() {
 *     const context = { ...operationContext(), random: seededRandom(1), store: memoryStore() }
 *     return { issuer: selfSignedIssuer(), context }
 *   },
 *   identifiers: ['localhost'],
 *   level: 'basic',
 * })
 * ```
 *
 * @param runner - `describe` and `it` of any test runner
 */
export function issuerContract(runner: ContractRunner, options: IssuerContractOptions): void {
  const { level } = options
  const identifiers = parseIdentifiers(options.identifiers)

  const test = (name: string, run: (subject: Subject) => Promise<void>): void => {
    runner.it(name, async () => {
      const fixture = await options.createIssuer()
      const log = recordingLogger()
      try {
        await run(subjectOf({ ...fixture, context: { ...fixture.context, logger: log } }))
        assertNoSecrets(log.entries)
      } finally {
        await fixture.dispose?.()
      }
    })
  }

  runner.describe(`issuer contract, ${level}`, () => {
    test('its id is short, printable, and its own', async ({ issuer, otherIssuer }) => {
      match(issuer.id, /^[\x21-\x7e]{1,200}$/, 'id must be 1 to 200 printable ASCII characters')
      equal(issuer.id, issuer.id, 'id must not change')
      notEqual(otherIssuer?.id, issuer.id, 'issuers of different CAs must have different ids')
    })

    test('it says that it supports what it is tested with', async ({ issuer }) => {
      equal(issuer.supports?.(identifiers) ?? true, true)
    })

    test('it issues for the key and exactly the names of the request, leaf first', async ({
      issuer,
      request,
      check,
      context,
    }) => {
      const prepared = await request('first')
      const issued = await issuer.issue(prepared, context)
      const { leaf } = check(issued, prepared)
      const [first] = readCertificates(issued.chainPem)
      equal(first?.fingerprintSha256, leaf.fingerprintSha256, 'the leaf must come first')
    })

    test('another idempotency key is another certificate', async ({ issuer, request, check, context }) => {
      const one = await request('first')
      const two = await request('second')
      const first = check(await issuer.issue(one, context), one)
      const second = check(await issuer.issue(two, context), two)
      notEqual(first.leaf.fingerprintSha256, second.leaf.fingerprintSha256)
    })

    test('the same request again gives a certificate for the same key', async ({ issuer, request, check, context }) => {
      const prepared = await request('first')
      check(await issuer.issue(prepared, context), prepared)
      check(await issuer.issue(prepared, context), prepared)
    })

    test('an aborted signal rejects with its reason', async ({ issuer, request, context }) => {
      const reason = new Error('stopped by the contract')
      const aborted = { ...context, signal: AbortSignal.abort(reason) }
      await rejectsWith(reason, issuer.issue(await request('first'), aborted))
    })

    test('renewal information, if there is any, lies within the life of the certificate', async ({
      issuer,
      request,
      check,
      context,
    }) => {
      const prepared = await request('first')
      const { certificatePem, leaf } = check(await issuer.issue(prepared, context), prepared)
      const info = await issuer.renewalInfo?.(certificatePem, context)
      if (info === undefined) return
      ok(info.windowStart < info.windowEnd, 'the window must have a length')
      ok(info.windowStart > leaf.notBefore, 'a fresh certificate must not be due at once')
      ok(info.windowEnd < leaf.notAfter, 'the window must end before the certificate does')
      ok(info.retryAt.getTime() > context.clock.now(), 'retryAt must lie in the future')
    })

    test('revoking twice is the same as once', async ({ issuer, request, check, context }) => {
      const prepared = await request('first')
      const { certificatePem } = check(await issuer.issue(prepared, context), prepared)
      await issuer.revoke?.(certificatePem, 'superseded', context)
      await issuer.revoke?.(certificatePem, 'superseded', context)
    })

    if (level === 'basic') return

    test('the same request again, after a restart too, is the same certificate', async (subject) => {
      const { issuer, request, check, context } = subject
      const prepared = await request('first')
      const first = check(await issuer.issue(prepared, context), prepared)
      const second = check(await subject.reopen().issue(prepared, context), prepared)
      equal(second.leaf.fingerprintSha256, first.leaf.fingerprintSha256)
      equal(subject.certificatesIssued(), 1, 'the CA must have issued one certificate')
    })

    for (const interruption of ['abort', 'failure'] as const) {
      test(`${interruption === 'abort' ? 'an abort' : 'a failure'} at any call of the store costs no second certificate`, async (subject) => {
        const { request, check, context } = subject
        let interrupted = 0
        for (let nth = 1; ; nth += 1) {
          if (nth > maxStoreCalls) fail(`issue() calls the store more than ${String(maxStoreCalls)} times`)
          const before = subject.certificatesIssued()
          const prepared = await request(String(nth))
          const controller = new AbortController()
          const reason = new Error('stopped by the contract')
          const trap = trapStore(context.store, nth, () => {
            if (interruption === 'failure') throw unavailable()
            controller.abort(reason)
          })
          const trapped = { ...context, store: trap.store, signal: controller.signal }
          const outcome = await settle(subject.reopen().issue(prepared, trapped))
          if (outcome.error !== undefined && interruption === 'abort') {
            equal(outcome.error, reason, 'an abort must reject with its reason')
          }
          if (outcome.error !== undefined && interruption === 'failure') assertTruthful(outcome.error)
          deepStrictEqual(interruption === 'abort' ? subject.openChallenges() : [], [], 'no challenge must stay behind')
          check(await subject.reopen().issue(prepared, context), prepared)
          ok(subject.certificatesIssued() - before <= 1, `interrupted at store call ${String(nth)}: issued twice`)
          deepStrictEqual(subject.openChallenges(), [], 'no challenge must stay behind')
          if (!trap.sprung()) break
          interrupted += 1
        }
        ok(interrupted > 0 || trapFree(subject), 'the fault was never seen')
      })
    }

    test('an unreadable request is an error of evercert, not a crash', async ({ issuer, request, context }) => {
      const prepared = { ...(await request('first')), csr: Uint8Array.of(0x30, 0x00) }
      const { error } = await settle(issuer.issue(prepared, context))
      assertTruthful(error)
    })

    test('a rate limit says until when', async (subject) => {
      const { issuer, request, check, context } = subject
      const until = subject.rateLimit?.()
      if (until === undefined) return
      const prepared = await request('first')
      const { error } = await settle(issuer.issue(prepared, context))
      assertTruthful(error)
      equal(error.code, 'ERR_ACME_RATE_LIMITED')
      equal(error.retryable, true)
      const late = Number(error.retryAt) - until.getTime()
      ok(Math.abs(late) <= 60_000, `retryAt must be the CA's instant, it is ${String(late)} ms later`)
      check(await issuer.issue(prepared, context), prepared)
    })

    test('the predecessor of a renewal is passed on', async (subject) => {
      const { issuer, request, check, context } = subject
      if (subject.lastReplaces === undefined) return
      const one = await request('first')
      const { leaf } = check(await issuer.issue(one, context), one)
      const replaces = certificateIdOf(leaf)
      const two = { ...(await request('second')), replaces }
      check(await issuer.issue(two, context), two)
      equal(subject.lastReplaces(), replaces?.value)
    })
  })

  function subjectOf(fixture: IssuerFixture): Subject {
    const keys = new Map<string, Buffer>()
    return {
      ...fixture,
      reopen: () => fixture.reopen?.() ?? fixture.issuer,
      certificatesIssued: () => fixture.certificatesIssued?.() ?? fail('"strict" needs certificatesIssued()'),
      openChallenges: () => fixture.openChallenges?.() ?? [],
      async request(idempotencyKey) {
        const key = await generatePrivateKey()
        keys.set(idempotencyKey, publicKeyInfo(key))
        return { certificate: 'contract', idempotencyKey, csr: await createCsr(key, identifiers), identifiers }
      },
      check({ chainPem, trustedRoots }, { idempotencyKey }) {
        const info = keys.get(idempotencyKey) ?? fail('unknown request')
        const now = fixture.context.clock.now()
        const traits = fixture.issuer.traits?.({ certificate: 'contract', profile: undefined })
        return checkIssuedChain(chainPem, { publicKeyInfo: info, identifiers, traits, now, trustedRoots })
      },
    }
  }
}

interface Subject extends IssuerFixture {
  reopen(): Issuer
  certificatesIssued(): number
  openChallenges(): readonly string[]
  readonly request: (idempotencyKey: string) => Promise<IssueRequest>
  /** Checks as the scheduler does before it stores. */
  readonly check: (issued: IssuedChain, request: IssueRequest) => CheckedChain
}

/** A store whose nth call, of any kind, springs the trap first. */
function trapStore(store: CertStore, nth: number, spring: () => void): { store: CertStore; sprung(): boolean } {
  let calls = 0
  const count = (): void => {
    calls += 1
    if (calls === nth) spring()
  }
  const trapped: CertStore = {
    name: store.name,
    async get(...call) {
      count()
      return store.get(...call)
    },
    async put(...call) {
      count()
      return store.put(...call)
    },
    async delete(...call) {
      count()
      await store.delete(...call)
    },
    list: (...call) => store.list(...call),
  }
  return { store: trapped, sprung: () => calls >= nth }
}

/** An issuer that keeps nothing has nothing to be interrupted at. */
function trapFree({ issuer }: Subject): boolean {
  return issuer.renewalInfo === undefined && issuer.revoke === undefined
}

function unavailable(): CertError {
  return new CertError({
    code: 'ERR_STORE_UNAVAILABLE',
    message: 'the store fails, says the contract',
    retryable: true,
  })
}

function assertTruthful(error: unknown): asserts error is CertError {
  ok(CertError.isInstance(error), `a failure must be a CertError, not ${String(error)}`)
  assertNoSecrets(error)
}

async function settle(promise: Promise<unknown>): Promise<{ readonly error: unknown }> {
  return promise.then(
    () => ({ error: undefined }),
    (error: unknown) => ({ error }),
  )
}

async function rejectsWith(reason: Error, promise: Promise<unknown>): Promise<void> {
  await rejects(promise, (error) => {
    equal(error, reason, 'an abort must reject with its reason, as it is')
    return true
  })
}
