/**
 * Three balancers behind one name, each in a network namespace with addresses of its own: the example haproxy-fleet with
 * real HAProxy and keepalived, and Pebble outside, on port 80.
 */
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { request, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import { parseIdentifiers } from '../../src/core/identifier.js'
import { generatePrivateKey } from '../../src/core/private-key.js'
import { createCsr } from '../../src/core/x509.js'
import { acmeIssuer } from '../../src/issuers/acme/index.js'
import { webrootSolver } from '../../src/solvers/webroot.js'
import type { ChallengeSolver } from '../../src/solvers/challenge-solver.js'
import { fileStore } from '../../src/stores/file.js'
import { operationContext } from '../../src/testing/operation-context.js'
import {
  addressesOf,
  exampleFile,
  fleetName,
  peerPort,
  program,
  residentMiB,
  startFleet,
  type Balancer,
  type Fleet,
} from '../support/fleet.js'
import { describeWithNamespaces, innerInterface } from '../support/network-namespaces.js'
import type { ServerProcess } from '../support/processes.js'
import { describeWith, requireServer } from '../support/servers.js'
import { probeTls, type ProbeResult } from '../support/tls-probe.js'

const servers = ['pebble', 'pebble-challtestsrv', 'haproxy', 'nginx', 'keepalived'] as const
const context = { ...operationContext({ clock: systemClock }), random: Math.random }
const challengePath = '/.well-known/acme-challenge/'

describeWithNamespaces('a fleet of balancers', (name) => {
  describeWith(servers, name, () => {
    let fleet: Fleet
    let recorder: ServerProcess
    let asked: { readonly method: string; readonly url: string; readonly rawHeaders: readonly string[] }[] = []
    /** What a test started or changed, undone in reverse order. */
    const undo: (() => Promise<unknown>)[] = []
    let orders = 0

    beforeAll(async () => {
      fleet = await startFleet()
      const { ipv4 } = fleet.stranger
      recorder = await fleet.stranger.spawn(
        program('test/integration/programs/peer-program.ts', ['empty', ipv4, String(peerPort)], {
          ready: [{ port: peerPort, host: ipv4 }],
          onLine(line) {
            if (line.startsWith('{')) asked.push(JSON.parse(line) as (typeof asked)[number])
          },
        }),
      )
      await fleet.resolveTo(fleet.balancers.flatMap(({ namespace }) => [namespace.ipv4, namespace.ipv6]))
      await Promise.all(fleet.balancers.map((each) => each.startHaproxy()))
      // As the README says: the accounts are made first, then everybody is told of them.
      await Promise.all(fleet.balancers.map((each) => each.startEvercert()))
      const thumbprints = fleet.balancers.map((each) => each.thumbprint())
      await Promise.all(fleet.balancers.map((each) => each.evercert.stop()))
      await Promise.all(fleet.balancers.map((each) => each.startEvercert(thumbprints)))
    }, 180_000)

    afterEach(async () => {
      for (const each of undo.splice(0).reverse()) await each()
      asked = []
    })

    afterAll(async () => {
      await recorder?.stop()
      await fleet?.remove()
    })

    /** Orders as evercert on that balancer does: its account, its web root. */
    async function order(
      balancer: Balancer,
      presented: () => Promise<void> = () => Promise.resolve(),
    ): Promise<number> {
      const files = webrootSolver({ directory: balancer.webroot })
      const solver: ChallengeSolver<'http-01'> = {
        ...files,
        async present(challenge, inner) {
          await files.present(challenge, inner)
          await presented()
        },
      }
      const issuer = acmeIssuer({
        directory: fleet.pebble.directoryUrl,
        termsOfServiceAgreed: true,
        ca: fleet.pebble.caPem,
        solvers: [solver],
        preflight: false,
      })
      const identifiers = parseIdentifiers([fleetName])
      const csr = await createCsr(await generatePrivateKey(), identifiers)
      const store = fileStore({ directory: balancer.store })
      const began = performance.now()
      orders += 1
      const { chainPem } = await issuer.issue(
        { certificate: 'extra', idempotencyKey: String(orders), identifiers, csr },
        { ...context, store },
      )
      await issuer.close()
      expect(chainPem).toContain('BEGIN CERTIFICATE')
      return performance.now() - began
    }

    /** A challenge that is open on a balancer until the test is over. */
    async function openChallenge(balancer: Balancer): Promise<{ readonly path: string; readonly body: string }> {
      const token = `t${String(orders)}-${String(performance.now()).replace('.', '-')}`
      orders += 1
      const body = `${token}.${balancer.thumbprint()}`
      const directory = join(balancer.webroot, challengePath)
      await mkdir(directory, { recursive: true })
      await writeFile(join(directory, token), body)
      return { path: challengePath + token, body }
    }

    interface Seen {
      readonly status: number
      readonly location: string | undefined
      readonly body: string
      readonly ms: number
    }

    async function ask(address: string, path: string, port = 80, method = 'GET'): Promise<Seen> {
      const began = performance.now()
      const sent = request({ host: address, port, path, method, headers: { host: fleetName }, agent: false }).end()
      const [response] = (await once(sent, 'response')) as [IncomingMessage]
      let body = ''
      for await (const chunk of response.setEncoding('utf8')) body += chunk as string
      const { statusCode: status = 0, headers } = response
      return { status, location: headers.location, body, ms: performance.now() - began }
    }

    function served(balancer: Balancer, address = balancer.namespace.ipv4): Promise<ProbeResult> {
      return fleet.pebble
        .rootPem()
        .then((caPem) => probeTls({ host: address, port: 443, servername: fleetName, caPem }))
    }

    /** Puts a peer that misbehaves into the place of a balancer's evercert, until the test is over. */
    async function replace(balancer: Balancer, behaviour: string, sound: Balancer): Promise<ServerProcess> {
      const { ipv4 } = balancer.namespace
      const thumbprints = fleet.balancers.map((each) => each.thumbprint())
      // Known to be well until now: it is not its past that the others go by.
      const [one] = fleet.balancers
      const logged = (line: string): number => one.evercert.output().split(line).length
      const well = async (): Promise<boolean> => {
        await ask(one.namespace.ipv4, `${challengePath}nobody`)
        return logged('peer does not answer') === logged('peer answers again')
      }
      await vi.waitUntil(well, { timeout: 20_000, interval: 50 })
      await balancer.evercert.stop()
      const origin = `http://${sound.namespace.ipv4}:${peerPort}`
      const peer = await balancer.namespace.spawn(
        program('test/integration/programs/peer-program.ts', [behaviour, ipv4, String(peerPort), origin], {
          ready: [{ port: peerPort, host: ipv4 }],
        }),
      )
      undo.push(async () => {
        await peer.stop()
        await balancer.startEvercert(thumbprints)
        // The others have heard of it again before the next test begins.
        await Promise.all(fleet.balancers.map(({ namespace }) => ask(namespace.ipv4, `${challengePath}nobody`)))
      })
      return peer
    }

    it('obtains a certificate for each, with keys and accounts of their own', async () => {
      const probes = await vi.waitUntil(
        async () => {
          const seen = await Promise.all(fleet.balancers.map((each) => served(each)))
          return seen.every(({ authorized }) => authorized) && seen
        },
        { timeout: 90_000, interval: 500 },
      )
      const distinct = (pick: (probe: ProbeResult) => string): number => new Set(probes.map(pick)).size
      expect(distinct(({ peerCertificate }) => peerCertificate.serialNumber)).toBe(3)
      expect(
        distinct(({ peerCertificate }) =>
          peerCertificate.publicKey.export({ format: 'der', type: 'spki' }).toString('hex'),
        ),
      ).toBe(3)
      expect(new Set(fleet.balancers.map((each) => each.thumbprint())).size).toBe(3)
      for (const each of fleet.balancers) {
        expect((await served(each, each.namespace.ipv6)).authorized).toBe(true)
      }
    })

    it('answers on every address, IPv4 and IPv6, for the order of another balancer', async () => {
      const used: string[] = []
      for (const [index, { namespace }] of fleet.balancers.entries()) {
        for (const [turn, address] of [namespace.ipv4, namespace.ipv6].entries()) {
          const other = fleet.balancers[(index + 1 + turn) % 3]!
          await fleet.resolveTo([address])
          await order(other)
          used.push(address)
        }
      }
      expect(new Set(used).size).toBe(6)
    })

    it('redirects everything else to https, and only well-formed tokens make peers be asked', async () => {
      const [one] = fleet.balancers
      const { ipv4, ipv6 } = one.namespace
      // The last question of the orders before may still be on its way.
      let before = -1
      await vi.waitUntil(
        () => {
          const quiet = asked.length === before
          before = asked.length
          return quiet
        },
        { interval: 250, timeout: 60_000 },
      )
      asked = []
      for (const address of [ipv4, ipv6]) {
        const seen = await ask(address, '/shop?item=7')
        expect([seen.status, seen.location]).toEqual([301, `https://${fleetName}/shop?item=7`])
        expect((await ask(address, '/', 80, 'POST')).status).toBe(308)
      }
      const malformed = [
        ...[
          'a.b',
          '../../etc/passwd',
          '%2e%2e%2fetc',
          'a/b',
          'a%00b',
          'ä',
          '',
          'a?b=c',
          'a;b',
          'x'.repeat(513),
          'a%20b',
        ],
        ...['http://169.254.169.254/', '//evil.example/', 'a#b', 'a:b', 'a@b'],
      ]
      for (const token of malformed) {
        const { status } = await ask(ipv4, challengePath + encodeURI(token).replaceAll('%25', '%'))
        expect([400, 404], token).toContain(status)
      }
      expect((await ask(ipv4, `${challengePath}well-formed`, 80, 'POST')).status).toBe(405)
      await sleep(100)
      expect(asked).toEqual([])
      // What is seen of a well-formed one: that there was a question, and nothing of it.
      expect((await ask(ipv4, `${challengePath}well-formed-token`)).status).toBe(404)
      await vi.waitUntil(() => asked.length > 0, { timeout: 60_000 })
      for (const { method, url, rawHeaders } of asked) {
        expect([method, url]).toEqual(['GET', '/open-challenges'])
        expect(rawHeaders.join(' ')).not.toMatch(/well-formed|fleet\.example/)
      }
    })

    it('goes on when a balancer has died, at once where the published nginx set-up waits 5 seconds', async () => {
      const [one, two, dead] = fleet.balancers
      await dead.namespace.setLink(false)
      undo.push(() => dead.namespace.setLink(true))
      const { path, body } = await openChallenge(two)
      const ours = await ask(one.namespace.ipv4, path)
      expect([ours.status, ours.body]).toEqual([200, body])

      const directory = join(one.directory, 'nginx')
      await mkdir(directory)
      await writeFile(
        join(directory, 'nginx.conf'),
        `daemon off; master_process off; pid ${directory}/pid; events {}
        http {
          access_log off;
          ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((each) => `${each}_temp_path ${directory}/${each};`).join(' ')}
          upstream challenges { server ${dead.namespace.ipv4}:${peerPort}; server ${two.namespace.ipv4}:${peerPort}; }
          server {
            listen 8081;
            location ${challengePath} {
              proxy_pass http://challenges;
              proxy_set_header Host $host;
              proxy_connect_timeout 5s; proxy_read_timeout 5s; proxy_send_timeout 5s;
              proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504 http_403 http_404;
            }
          }
        }`,
      )
      const nginx = await one.namespace.spawn({
        command: requireServer('nginx'),
        args: ['-p', directory, '-e', 'stderr', '-c', join(directory, 'nginx.conf')],
        ready: [{ port: 8081, host: one.namespace.ipv4 }],
      })
      const theirs = await ask(one.namespace.ipv4, path, 8081)
      await nginx.stop()
      expect([theirs.status, theirs.body]).toEqual([200, body])
      expect(theirs.ms).toBeGreaterThan(4_000)
      expect(ours.ms).toBeLessThan(theirs.ms / 5)

      const orderMs: number[] = []
      for (const [from, at] of [
        [one, two],
        [two, one],
      ] as const) {
        await fleet.resolveTo([at.namespace.ipv4, at.namespace.ipv6])
        orderMs.push(Math.round(await order(from)))
      }
      // Until it is known to be away, whoever asks for an unknown token waits for it; then nobody does.
      await ask(one.namespace.ipv4, `${challengePath}unknown`)
      const unknown = await ask(one.namespace.ipv4, `${challengePath}unknown`)
      expect(unknown.status).toBe(404)
      expect(unknown.ms).toBeLessThan(2_000)
      console.log('one of three dead', {
        ours: `${ours.ms.toFixed(1)} ms`,
        nginx: `${theirs.ms.toFixed(0)} ms`,
        orders: orderMs,
        unknown: `${unknown.ms.toFixed(0)} ms`,
      })
    })

    for (const behaviour of ['slow', 'failing', 'lying', 'garbage', 'huge']) {
      it(`goes on when a peer is ${behaviour}`, async () => {
        const [one, two, bad] = fleet.balancers
        const peer = await replace(bad, behaviour, two)
        const { path, body } = await openChallenge(two)
        const seen = await ask(one.namespace.ipv4, path)
        expect([seen.status, seen.body]).toEqual([200, body])
        expect((await ask(one.namespace.ipv4, `${challengePath}of-the-liar`)).status).toBe(404)
        await fleet.resolveTo([one.namespace.ipv4, one.namespace.ipv6])
        const orderMs = await order(two)
        expect(orderMs).toBeLessThan(5_000)
        // It was asked: otherwise nothing was shown.
        await vi.waitUntil(() => peer.output().includes('/open-challenges'), { timeout: 20_000, interval: 50 })
        console.log(`a peer is ${behaviour}`, { via: `${seen.ms.toFixed(1)} ms`, order: `${orderMs.toFixed(0)} ms` })
      })
    }

    it('goes on when keepalived moves the address while an order runs', async () => {
      const [one, two] = fleet.balancers
      const { floating } = fleet.network
      const virtual = [one, two].map(async ({ namespace, directory }, index, all) => {
        const other = all[1 - index]!.namespace
        const configPath = join(directory, 'keepalived.conf')
        const text = await exampleFile('keepalived.conf', {
          'router_id balancer-1': `router_id balancer-${String(index + 1)}`,
          'interface eth0': `interface ${innerInterface}`,
          'priority 150': `priority ${String(150 - index * 50)}`,
          '192.0.2.100/24': `${floating.ipv4}/24`,
          '2001:db8::100/64': `${floating.ipv6}/64`,
          '    192.0.2.12\n    192.0.2.13\n': `    ${other.ipv4}\n`,
          '    2001:db8::12\n    2001:db8::13\n': `    ${other.ipv6}\n`,
          '192.0.2.11': namespace.ipv4,
          '2001:db8::11': namespace.ipv6,
        })
        await writeFile(configPath, text)
        const pidFiles = ['-p', '-r', '-c', '-b'].map((option) => [option, join(directory, `keepalived${option}.pid`)])
        const keepalived = await namespace.spawn({
          command: requireServer('keepalived'),
          args: ['--dont-fork', '--log-console', '-P', '-f', configPath, ...pidFiles.slice(0, 2).flat()],
          ready: [{ log: /Entering BACKUP STATE|Entering MASTER STATE/ }],
        })
        undo.push(() => keepalived.stop())
      })
      await Promise.all(virtual)
      const holds = async ({ namespace }: Balancer): Promise<boolean> => {
        const addresses = await addressesOf(namespace)
        return addresses.includes(floating.ipv4) && addresses.includes(floating.ipv6)
      }
      await vi.waitUntil(() => holds(one), { timeout: 30_000, interval: 100 })
      await fleet.resolveTo([floating.ipv4, floating.ipv6])
      await order(two)

      let moved = false
      await order(one, async () => {
        await one.haproxy.stop()
        undo.push(() => one.startHaproxy())
        await vi.waitUntil(() => holds(two), { timeout: 30_000, interval: 100 })
        moved = true
      })
      expect(moved).toBe(true)
    })

    it.each([
      ['all are there', false],
      ['one has died', true],
    ])('answers the CA in time while 2,000 unknown tokens a second are asked for and %s', async (_, died) => {
      const [one, two, dead] = fleet.balancers
      if (died) {
        await dead.namespace.setLink(false)
        undo.push(() => dead.namespace.setLink(true))
      }
      await fleet.resolveTo([one.namespace.ipv4, one.namespace.ipv6])
      const quiet = await order(two)
      const { pid } = one.evercert
      const before = await residentMiB(pid)
      // Until the death is known, whoever asks for an unknown token waits for the dead one.
      const seconds = died ? 20 : 10
      const lines: string[] = []
      const flood = await fleet.stranger.spawn(
        program('test/integration/programs/flood-program.ts', [one.namespace.ipv4, '2000', String(seconds)], {
          ready: [],
          onLine: (line) => lines.push(line),
        }),
      )
      undo.push(() => flood.stop())
      const early = await openChallenge(two)
      const first = await ask(one.namespace.ipv4, early.path)
      expect([first.status, first.body]).toEqual([200, early.body])
      await vi.waitUntil(() => asked.length > 100, { timeout: 30_000, interval: 50 })
      const [countedFrom, from] = [asked.length, performance.now()]
      const { path, body } = await openChallenge(two)
      const seen: number[] = []
      let mostMiB = before
      const orderMs = await order(two)
      while (performance.now() - from < 5_000) {
        const answer = await ask(one.namespace.ipv4, path)
        expect([answer.status, answer.body]).toEqual([200, body])
        seen.push(answer.ms)
        mostMiB = Math.max(mostMiB, await residentMiB(pid))
        await sleep(100)
      }
      const perSecond = (asked.length - countedFrom) / ((performance.now() - from) / 1_000)
      await vi.waitUntil(() => lines.some((line) => line.startsWith('{')), { timeout: 30_000, interval: 100 })
      const flooded = JSON.parse(lines.find((line) => line.startsWith('{')) ?? '') as {
        readonly perSecond: number
        readonly statuses: Readonly<Record<string, number>>
      }
      seen.sort((a, b) => a - b)
      console.log(died ? 'flood, one of three dead' : 'flood', {
        ...flooded,
        questionsPerSecondAtPeer: perSecond.toFixed(1),
        memoryMiB: [before, mostMiB].map(Math.round),
        order: [quiet, orderMs].map(Math.round),
        viaPeerMs: {
          first: first.ms.toFixed(1),
          median: seen[seen.length >> 1]?.toFixed(1),
          most: seen.at(-1)?.toFixed(1),
        },
      })
      expect(flooded.perSecond).toBeGreaterThan(500)
      expect(perSecond).toBeLessThanOrEqual(42)
      expect(perSecond).toBeGreaterThan(5)
      expect(mostMiB - before).toBeLessThan(150)
      // A CA waits about ten seconds.
      expect(orderMs).toBeLessThan(8_000)
      expect(Math.max(first.ms, ...seen)).toBeLessThan(5_000)
    })
  })
})
