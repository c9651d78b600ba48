/** The whole line on one machine, with nothing but Node installed. */
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { RenewalScheduler, type RenewalEventMap } from 'evercert'
import { acmeIssuer } from 'evercert/issuers/acme'
import { webrootSolver } from 'evercert/solvers/webroot'
import { fileStore } from 'evercert/stores/file'
import { fakeClock, startTestCa } from 'evercert/testing'
import { findProgram, haproxyTlsServer, nodeTlsServer, type TlsServer } from './tls-server.js'
import { createTimeline, follow, short } from './timeline.js'

const hour = 3_600_000
const name = 'www.demo.example'

export async function runEmbedded(options: { readonly tls: string | undefined }): Promise<void> {
  const started = performance.now()
  const directory = await mkdtemp(join(tmpdir(), 'evercert-demo-'))
  const webroot = join(directory, 'webroot')
  await mkdir(webroot)
  const web = await startWebServer(webroot)
  const httpPort = (web.address() as AddressInfo).port
  // The clock of this run can be moved: nobody wants to watch for two months.
  const clock = fakeClock({ now: Date.now(), autoAdvance: true })
  const ca = await startTestCa({ clock, httpPort })
  const tls = await startTls(options.tls, directory)
  const issuer = acmeIssuer({
    directory: ca.directoryUrl,
    ca: ca.httpsCaPem,
    termsOfServiceAgreed: true,
    solvers: [webrootSolver({ directory: webroot })],
    trustedRoots: ca.rootPem,
    preflight: { httpPort, resolve: () => Promise.resolve(['127.0.0.1']) },
    id: 'test-ca',
  })
  const scheduler = new RenewalScheduler({
    store: fileStore({ directory: join(directory, 'store') }),
    clock,
    certificates: [
      {
        name: 'www',
        identifiers: [name],
        issuers: [issuer],
        deployers: [tls.deployer],
        endpoints: [{ host: '127.0.0.1', port: tls.port, servername: name }],
        placeholder: true,
      },
    ],
  })
  const timeline = createTimeline(() => clock.now())
  follow(scheduler, timeline)

  /** Resolves when no pass is under way, with the instant of the next one. */
  const idle = async (): Promise<Date> => {
    for (;;) {
      await setImmediate()
      const [status] = await scheduler.status()
      if (status?.nextRunAt !== undefined && status.nextRunAt.getTime() > clock.now()) return status.nextRunAt
    }
  }
  /** Moves the clock from one pass to the next until something has happened. */
  const runUntil = async (event: Promise<unknown>, from: Date): Promise<void> => {
    let happened = false
    void event.then(() => (happened = true))
    for (let at = from; !happened; at = await idle()) await clock.setTime(at)
  }

  try {
    timeline.chapter(`1. Nothing is stored, and the CA is away: a placeholder lets ${tls.title} start`)
    const outage = ca.faults.add({ match: { times: Infinity }, action: { type: 'status', status: 503 } })
    scheduler.start()
    const nextRunAt = await idle()
    await tls.start()

    timeline.chapter('2. The CA is back: ordered, validated, stored, deployed, served')
    outage.remove()
    const served = once(scheduler, 'certificate-served')
    await runUntil(served, nextRunAt)
    const [{ fingerprintSha256: first }] = (await served) as RenewalEventMap['certificate-served']
    const requests = ca.countRequests()

    timeline.chapter('3. The CA moves its window (an incident, say): renewed although two months are left')
    const [issued] = ca.certificates
    const soon = clock.now() + 12 * hour
    if (issued === undefined) throw new Error('the CA has issued nothing')
    ca.setRenewalWindow(issued.pem, { start: new Date(soon), end: new Date(soon + hour) })
    const renewed = once(scheduler, 'certificate-served')
    await runUntil(renewed, await idle())
    const [{ fingerprintSha256: second }] = (await renewed) as RenewalEventMap['certificate-served']

    timeline.chapter('Summary')
    timeline.say('before', short(first))
    const { replaces } = ca.certificates.at(-1) ?? issued
    timeline.say('after', `${short(second)}; the order said which certificate it replaces: ${replaces ?? 'none'}`)
    timeline.say(
      'requests',
      `${String(ca.countRequests())} to the CA, ${String(ca.countRequests() - requests)} of them since the first certificate`,
    )
    console.log(
      `\nDone in ${((performance.now() - started) / 1000).toFixed(1)} s. See --help for a run against a real CA.`,
    )
  } finally {
    await scheduler.stop()
    await Promise.all([issuer.close(), tls.stop(), ca.close()])
    web.closeAllConnections()
    web.close()
    await rm(directory, { recursive: true })
  }
}

async function startWebServer(webroot: string): Promise<Server> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://web.invalid')
    createReadStream(join(webroot, pathname))
      .on('error', () => response.writeHead(404).end())
      .pipe(response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

async function startTls(kind: string | undefined, directory: string): Promise<TlsServer> {
  const haproxy = kind === 'node' ? undefined : await findProgram('haproxy')
  if (haproxy === undefined && kind === 'haproxy') throw new Error('haproxy is not on the PATH')
  return haproxy === undefined ? nodeTlsServer() : haproxyTlsServer(haproxy, directory)
}
