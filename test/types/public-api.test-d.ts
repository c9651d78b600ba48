/**
 * What the public types accept, refuse and narrow. Checked by the compiler, never run.
 */
import {
  CertError,
  RenewalScheduler,
  systemClock,
  type AnyCertError,
  type AnyChallengeSolver,
  type CertErrorCode,
  type CertStore,
  type CertificateBundle,
  type Challenge,
  type ChallengeOf,
  type ChallengeSolver,
  type Clock,
  type Deployer,
  type Issuer,
  type Logger,
  type ManagedCertificate,
  type OperationContext,
  type Problem,
  type RenewalSchedulerOptions,
} from 'evercert'
import { acmeIssuer } from 'evercert/issuers/acme'
import { selfSignedIssuer } from 'evercert/issuers/self-signed'
import { haproxyDeployer } from 'evercert/deployers/haproxy'
import { webrootSolver } from 'evercert/solvers/webroot'
import { fileStore } from 'evercert/stores/file'
import { memoryStore } from 'evercert/stores/memory'
import { describe, expectTypeOf, it } from 'vitest'

describe('errors', () => {
  it('narrow by code', () => {
    const explain = (error: AnyCertError): void => {
      switch (error.code) {
        case 'ERR_ACME_RATE_LIMITED':
          expectTypeOf(error.problem).toEqualTypeOf<Problem | undefined>()
          break
        case 'ERR_STORE_CONFLICT':
          expectTypeOf(error.store).toEqualTypeOf<string>()
          break
        case 'ERR_DEPLOY_REJECTED':
          expectTypeOf(error.deployer).toEqualTypeOf<string>()
          break
        case 'ERR_HTTP_STATUS':
          expectTypeOf(error.status).toEqualTypeOf<number | undefined>()
          break
        default:
          // @ts-expect-error -- not every error knows a store
          expectTypeOf(error.store).toBeAny()
      }
    }
    expectTypeOf(explain).parameter(0).toExtend<CertError>()
  })

  it('have every code in the union, so that a switch can be exhaustive', () => {
    expectTypeOf<AnyCertError['code']>().toEqualTypeOf<CertErrorCode>()
  })

  it('are recognised by a guard', () => {
    expectTypeOf(CertError.isInstance).guards.toEqualTypeOf<AnyCertError>()
  })
})

describe('plug-ins', () => {
  it('are what their factories promise', () => {
    expectTypeOf(acmeIssuer).returns.toExtend<Issuer>()
    expectTypeOf(selfSignedIssuer).returns.toExtend<Issuer>()
    expectTypeOf(fileStore).returns.toExtend<CertStore>()
    expectTypeOf(memoryStore).returns.toExtend<CertStore>()
    expectTypeOf(haproxyDeployer).returns.toExtend<Deployer>()
    expectTypeOf(webrootSolver).returns.toExtend<ChallengeSolver<'http-01'>>()
    expectTypeOf(webrootSolver).returns.toExtend<AnyChallengeSolver>()
  })

  it('can be written as a literal', () => {
    expectTypeOf({
      name: 'my-cdn',
      async deploy(bundle: CertificateBundle, { signal }: OperationContext) {
        signal.throwIfAborted()
        await Promise.resolve(bundle.privateKey.exportPem())
        return { status: 'deployed' as const }
      },
    }).toExtend<Deployer>()
  })

  it('see only challenges of their type', () => {
    expectTypeOf<Parameters<ChallengeSolver<'dns-01'>['present']>[0]>().toEqualTypeOf<ChallengeOf<'dns-01'>>()
    expectTypeOf<ChallengeOf<'dns-01'>['recordName']>().toEqualTypeOf<string>()
    expectTypeOf<Challenge>().not.toHaveProperty('recordName')
  })
})

describe('seams', () => {
  it('accept what users have', () => {
    expectTypeOf(systemClock).toExtend<Clock>()
    expectTypeOf<Console>().toExtend<Logger>()
  })

  it('keep the private key out of what the issuer sees', () => {
    expectTypeOf<Parameters<Issuer['issue']>[0]>().not.toHaveProperty('privateKey')
  })
})

describe('RenewalScheduler', () => {
  it('types its events', () => {
    new RenewalScheduler({} as RenewalSchedulerOptions).on('issuance-failed', (event) => {
      expectTypeOf(event.certificate).toEqualTypeOf<string>()
      expectTypeOf(event.nextAttemptAt).toExtend<Date | undefined>()
    })
  })

  it('refuses an empty list of issuers', () => {
    // @ts-expect-error -- at least one issuer
    const certificate: ManagedCertificate = { name: 'www', identifiers: ['example.com'], issuers: [] }
    expectTypeOf(certificate).toEqualTypeOf<ManagedCertificate>()
  })

  it('can be disposed', () => {
    expectTypeOf<RenewalScheduler>().toExtend<AsyncDisposable>()
  })
})

describe('events', () => {
  it('have known names and typed payloads', () => {
    const listen = (scheduler: RenewalScheduler): void => {
      scheduler.on('certificate-served', ({ endpoint, notAfter }) => {
        expectTypeOf(endpoint).toEqualTypeOf<string>()
        expectTypeOf(notAfter).toEqualTypeOf<Date>()
      })
      // @ts-expect-error -- a misspelt name would never be called
      scheduler.on('certificate-serve', () => undefined)
      // @ts-expect-error -- there is no such event
      scheduler.once('error', () => undefined)
    }
    expectTypeOf(listen).toBeFunction()
  })
})
