/**
 * The whole line on real servers: Pebble orders, nginx serves the webroot, HAProxy terminates TLS, clients keep coming.
 */
import { X509Certificate } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock, type Clock } from '../../src/core/clock.js'
import { haproxyDeployer } from '../../src/deployers/haproxy.js'
import { acmeIssuer, type AcmeIssuer } from '../../src/issuers/acme/index.js'
import { RenewalScheduler } from '../../src/scheduler/renewal-scheduler.js'
import { webrootSolver } from '../../src/solvers/webroot.js'
import { fileStore } from '../../src/stores/file.js'
import { assertNoSecrets, recordingLogger, type RecordingLogger } from '../../src/testing/recording-logger.js'
import { startHaproxy, type Haproxy } from '../support/haproxy.js'
import { startNginx, type Nginx } from '../support/nginx.js'
import { startPebble, type Pebble } from '../support/pebble.js'
import { freePort } from '../support/processes.js'
import { describeWith } from '../support/servers.js'
import { temporaryDirectory, type TemporaryDirectory } from '../support/temporary-directory.js'
import { probeTls, startHandshakeLoad } from '../support/tls-probe.js'

const name = 'www.example.com'

describeWith(['pebble', 'pebble-challtestsrv', 'nginx', 'haproxy'], 'from order to handshake', () => {
  let work: TemporaryDirectory
  let nginx: Nginx
  let pebble: Pebble
  let haproxy: Haproxy | undefined
  let issuer: AcmeIssuer
  let logger: RecordingLogger
  let tlsPort: number
  let pemPath: string
  let runtimeSocket: string
  /** How far the clock of the scheduler runs ahead. */
  let offset: number
  const clock: Clock = { ...systemClock, now: () => systemClock.now() + offset }

  beforeEach(async () => {
    work = await temporaryDirectory()
    const webroot = join(work.path, 'webroot')
    await mkdir(webroot)
    await mkdir(join(work.path, 'certificates'))
    nginx = await startNginx({ webroot })
    pebble = await startPebble({ httpPort: nginx.httpPort })
    tlsPort = await freePort()
    pemPath = join(work.path, 'certificates', 'www.pem')
    offset = 0
    // HAProxy does not start without a certificate, so it is not there for the first pass.
    runtimeSocket = join(work.path, 'not-yet.sock')
    haproxy = undefined
    logger = recordingLogger()
    issuer = acmeIssuer({
      directory: pebble.directoryUrl,
      ca: pebble.caPem,
      termsOfServiceAgreed: true,
      solvers: [webrootSolver({ directory: webroot })],
      preflight: { httpPort: nginx.httpPort, resolve: () => Promise.resolve(['127.0.0.1']) },
      trustedRoots: await pebble.rootPem(),
    })
  })

  afterEach(async () => {
    assertNoSecrets(logger.entries)
    await issuer.close()
    await haproxy?.stop()
    await pebble.stop()
    await nginx.stop()
    await work.remove()
  })

  function scheduler(): RenewalScheduler {
    return new RenewalScheduler({
      store: fileStore({ directory: join(work.path, 'store') }),
      certificates: [
        {
          name: 'www',
          identifiers: [name],
          issuers: [issuer],
          deployers: [haproxyDeployer({ pemPath, runtimeSocket })],
          endpoints: [{ host: '127.0.0.1', port: tlsPort, servername: name }],
          placeholder: true,
        },
      ],
      clock,
      logger,
      node: 'test',
    })
  }

  it('starts HAProxy with a placeholder, then renews 20 times under load without a failed handshake', async () => {
    const firstPass = await scheduler().reconcile()
    expect(firstPass.outcomes).toMatchObject([{ status: 'failed', deployments: [{ status: 'failed' }] }])
    haproxy = await startHaproxy({ certificates: [pemPath], tlsPort })
    runtimeSocket = haproxy.adminSocket ?? ''
    offset = 60_000
    const running = scheduler()
    const served: string[] = []
    running.on('certificate-served', ({ fingerprintSha256 }) => served.push(fingerprintSha256))
    const first = await running.reconcile()
    expect(first.outcomes).toMatchObject([{ endpoints: [{ status: 'served' }] }])

    const load = startHandshakeLoad({ port: tlsPort, servername: name, perSecond: 80 })
    for (let renewal = 0; renewal < 20; renewal += 1) {
      const outcome = await running.renew('www', { force: true })
      expect(
        outcome,
        `${String(renewal)}: ${JSON.stringify(outcome.deployments)} ${String(outcome.error)}`,
      ).toMatchObject({ status: 'renewed', endpoints: [{ status: 'served' }] })
    }
    const { handshakes, failures, fingerprints, perSecond } = await load.stop()
    expect(failures).toEqual([])
    expect(perSecond).toBeGreaterThanOrEqual(50)
    expect(handshakes).toBeGreaterThan(50)
    expect(new Set(served).size).toBe(21)
    for (const fingerprint of fingerprints.keys()) expect(served).toContain(fingerprint)

    const last = await probeTls({ port: tlsPort, servername: name, caPem: await pebble.rootPem() })
    expect(last).toMatchObject({ authorized: true, fingerprintSha256: served.at(-1) })
  })

  it('renews when the window of the CA moves, and says which certificate is replaced', async () => {
    await scheduler().reconcile()
    haproxy = await startHaproxy({ certificates: [pemPath], tlsPort })
    runtimeSocket = haproxy.adminSocket ?? ''
    const running = scheduler()
    await running.reconcile()
    const before = await probeTls({ port: tlsPort, servername: name })
    const pem = new X509Certificate(before.peerCertificate.raw).toString()
    await pebble.setRenewalInfo(pem, { start: new Date(Date.now() - 7_200_000), end: new Date(Date.now() - 3_600_000) })
    offset = 7 * 3_600_000
    const planned: string[] = []
    running.on('renewal-planned', ({ source }) => planned.push(source))
    const { outcomes } = await running.reconcile()
    expect(outcomes).toMatchObject([{ status: 'renewed', reason: 'renewal-info', endpoints: [{ status: 'served' }] }])
    expect(planned[0]).toBe('renewal-info')
    const after = await probeTls({ port: tlsPort, servername: name })
    expect(after.fingerprintSha256).not.toBe(before.fingerprintSha256)
    // Pebble refuses a second certificate that replaces the same one: proof that the first order named it.
    expect(logger.text()).not.toContain('alreadyReplaced')
    expect(pebble.output()).toMatch(/replac/i)
  })
})
