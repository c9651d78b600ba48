/**
 * A CA, or something before it, answers with status 200 and the wrong thing: refused, and the old certificate keeps serving.
 */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { acmeIssuer } from '../../../src/issuers/acme/index.js'
import { RenewalScheduler } from '../../../src/scheduler/renewal-scheduler.js'
import { httpResponder } from '../../../src/solvers/http-responder.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { startTestCa, type WrongCertificate } from '../../../src/testing/test-ca/index.js'
import { recordingDeployer } from '../../support/recording-deployer.js'

const responder = httpResponder()
let server: Server

beforeAll(async () => {
  server = createServer((request, response) => {
    if (!responder.requestListener(request, response)) response.writeHead(404).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
})

afterAll(() => server.close())

describe('the CA answers with status 200 and', () => {
  it.each<[WrongCertificate, string]>([
    ['other-key', 'ERR_CERT_KEY_MISMATCH'],
    ['other-names', 'ERR_CERT_NAME_MISMATCH'],
    ['extra-name', 'ERR_CERT_NAME_MISMATCH'],
    ['missing-name', 'ERR_CERT_NAME_MISMATCH'],
    ['expired', 'ERR_CERT_EXPIRED'],
    ['not-yet-valid', 'ERR_CERT_EXPIRED'],
    ['no-intermediate', 'ERR_CERT_CHAIN'],
    ['html', 'ERR_CERT_INVALID'],
    ['empty', 'ERR_CERT_INVALID'],
    ['private-key-inside', 'ERR_CERT_INVALID'],
    ['ca-true', 'ERR_CERT_INVALID'],
    // These have one right reading, and are written anew.
    ['wrong-order', 'renewed'],
    ['root-appended', 'renewed'],
    ['duplicate-leaf', 'renewed'],
    ['comments-and-crlf', 'renewed'],
  ])('%s: %s', async (variant, expected) => {
    const clock = fakeClock({ now: Date.now(), autoAdvance: true })
    const ca = await startTestCa({ clock, httpPort: (server.address() as AddressInfo).port })
    const issuer = acmeIssuer({
      directory: ca.directoryUrl,
      ca: ca.httpsCaPem,
      termsOfServiceAgreed: true,
      solvers: [responder],
      preflight: false,
    })
    onTestFinished(async () => {
      await issuer.close()
      await ca.close()
    })
    const deployer = recordingDeployer()
    const scheduler = new RenewalScheduler({
      store: memoryStore({ clock }),
      certificates: [
        { name: 'www', identifiers: ['a.example', 'b.example'], issuers: [issuer], deployers: [deployer] },
      ],
      clock,
    })
    await scheduler.reconcile()
    const before = deployer.current
    const fault = ca.faults.add({ match: { kind: 'certificate' }, action: { type: 'wrong-certificate', variant } })
    const outcome = await scheduler.renew('www', { force: true })
    expect(fault.fired).toBeGreaterThan(0)
    if (expected === 'renewed') {
      expect(outcome).toMatchObject({ status: 'renewed', error: undefined })
      expect(deployer.current?.certificatePem).toBe(`${ca.certificates.at(-1)?.pem.trim() ?? ''}\n`)
      expect(deployer.current?.fullChainPem).not.toMatch(/\r|\n\n|#/)
      expect(deployer.current?.chainPem.match(/BEGIN CERTIFICATE/g)).toHaveLength(1)
      return
    }
    expect(outcome).toMatchObject({ status: 'failed', error: { code: expected } })
    expect(before).toBeDefined()
    expect(deployer.current).toBe(before)
    // The next attempt is answered rightly, and yields a good certificate.
    await clock.advance(2 * 86_400_000)
    const again = await scheduler.renew('www', { force: true })
    expect(again).toMatchObject({ status: 'renewed' })
  })
})
