/**
 * What testssl.sh says of the TLS of the example haproxy-fleet.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { testAuthority, type TestCertificate } from '../support/certificates.js'
import { exampleFile, fleetName } from '../support/fleet.js'
import { createNetwork, describeWithNamespaces, type Network } from '../support/network-namespaces.js'
import { describeWith, requireServer } from '../support/servers.js'
import { temporaryDirectory, type TemporaryDirectory } from '../support/temporary-directory.js'

interface Finding {
  readonly id: string
  readonly severity: string
  readonly finding: string
}

/** The certificate is of a throw-away root, for a day, and names no place to ask about revocation: T is for trust. */
function isOfTheTestRoot({ id, finding }: Finding): boolean {
  return (
    /^cert_(chain_of_trust|expirationStatus|revocation|trust|crlDistributionPoints|notAfter|ocsp)/i.test(id) ||
    (id === 'overall_grade' && finding === 'T')
  )
}

/**
 * Mozilla's intermediate profile lets the client choose, all of its ciphers being good. testssl before 3.2 (Debian 12's) wants the
 * server to, whatever there is to choose from; 3.2 grades it OK.
 */
function isOfTheClientsChoice({ id }: Finding): boolean {
  return id === 'cipher_order'
}

describeWithNamespaces('the TLS profile of haproxy-fleet', (name) => {
  describeWith(['haproxy', 'nginx', 'testssl'], name, () => {
    let work: TemporaryDirectory
    let network: Network
    let certificate: TestCertificate

    beforeAll(async () => {
      work = await temporaryDirectory()
      network = await createNetwork(2)
      certificate = await (await testAuthority()).issue([fleetName])
    })

    afterAll(async () => {
      await network?.remove()
      await work?.remove()
    })

    /** All findings: protocols, ciphers, forward secrecy, server's preference and defaults, headers, vulnerabilities. */
    async function testssl(address: string): Promise<Finding[]> {
      const report = join(work.path, `${address}.json`)
      const checks = ['-p', '-s', '-f', '-P', '-S', '-h', '-U']
      await promisify(execFile)(
        requireServer('testssl'),
        [
          ...['--quiet', '--color', '0', '--warnings', 'batch', '--nodns', 'none', '--jsonfile', report],
          ...[...checks, '--ip', address, `${fleetName}:443`],
        ],
        // Its exit code counts findings of its own.
      ).catch(() => undefined)
      return JSON.parse(await readFile(report, 'utf8')) as Finding[]
    }

    /** WARN is no grade: a check that could not be made, as for GOST with the OpenSSL on this side. */
    function grave(findings: readonly Finding[]): Finding[] {
      return findings.filter(
        (finding) =>
          ['MEDIUM', 'HIGH', 'CRITICAL', 'FATAL'].includes(finding.severity) &&
          !isOfTheTestRoot(finding) &&
          !isOfTheClientsChoice(finding),
      )
    }

    it.for(['haproxy', 'nginx'] as const)(
      'has nothing of medium severity or worse with %s',
      { timeout: 400_000 },
      async (server) => {
        const directory = join(work.path, server)
        const certificates = join(directory, 'certs')
        await mkdir(join(certificates, 'www'), { recursive: true })
        const namespace = network.namespaces[server === 'haproxy' ? 0 : 1]!
        const ready = [80, 443].map((port) => ({ port, host: namespace.ipv4 }))
        // The application is outside: what it says is passed on.
        const application = createServer((_request, response) => response.end('hello')).listen(0, network.ipv4)
        await new Promise((resolve) => application.once('listening', resolve))
        const { port } = application.address() as { port: number }
        const config = join(directory, 'server.conf')
        if (server === 'haproxy') {
          await writeFile(join(certificates, 'www.pem'), certificate.bundlePem)
          await writeFile(
            config,
            await exampleFile('haproxy.cfg', {
              '/dev/log': 'stdout format raw',
              '/run/haproxy/admin.sock': join(directory, 'admin.sock'),
              '/etc/haproxy/certs': certificates,
              '127.0.0.1:8080': `${network.ipv4}:${port}`,
              '  user haproxy\n  group haproxy\n': '',
            }),
          )
          await namespace.spawn({ command: requireServer('haproxy'), args: ['-W', '-f', config], ready })
        } else {
          await writeFile(join(certificates, 'www/fullchain.pem'), certificate.certificatePem)
          await writeFile(join(certificates, 'www/privkey.pem'), certificate.privateKeyPem)
          await writeFile(
            config,
            await exampleFile('nginx.conf', {
              '/run/nginx.pid': join(directory, 'pid'),
              '/var/log/nginx/access.log': 'off',
              '/etc/nginx/certs': certificates,
              'http://127.0.0.1:8080': `http://${network.ipv4}:${port}`,
            }),
          )
          const args = ['-p', directory, '-e', 'stderr', '-g', 'daemon off;', '-c', config]
          await namespace.spawn({ command: requireServer('nginx'), args, ready })
        }
        for (const host of [namespace.ipv4, `[${namespace.ipv6}]`]) {
          const redirected = await fetch(`http://${host}/a?b`, { redirect: 'manual' })
          expect([redirected.status, redirected.headers.get('location')]).toEqual([301, `https://${host}/a?b`])
          expect((await fetch(`http://${host}/`, { redirect: 'manual', method: 'POST' })).status).toBe(308)
        }
        const began = performance.now()
        const findings = await testssl(namespace.ipv4)
        application.close()
        const unchecked = findings.filter(({ severity }) => severity === 'WARN').map(({ id }) => id)
        console.log(server, `${findings.length} findings in ${((performance.now() - began) / 1_000).toFixed(0)} s`, {
          unchecked,
        })
        expect(unchecked.length).toBeLessThan(5)
        // It has looked: otherwise nothing was shown.
        for (const looked of ['TLS1_3', 'HSTS_time', 'heartbleed']) {
          expect(findings.find(({ id }) => id === looked)?.severity, looked).toBe('OK')
        }
        expect(findings.length).toBeGreaterThan(60)
        expect(grave(findings)).toEqual([])
      },
    )
  })
})
