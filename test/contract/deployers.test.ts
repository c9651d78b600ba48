import { once } from 'node:events'
import { readFile, symlink, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import { acmetoolHooks } from '../../src/deployers/acmetool-hooks.js'
import { execDeployer } from '../../src/deployers/exec.js'
import { haproxyDeployer } from '../../src/deployers/haproxy.js'
import { kubernetesSecretDeployer } from '../../src/deployers/kubernetes-secret/index.js'
import { marathonDeployer } from '../../src/deployers/marathon/index.js'
import { nodeTlsDeployer, sniCertificates, type SecureServer } from '../../src/deployers/node-tls.js'
import { acmetoolLive, mesosTls, nginxPem, pemFilesDeployer } from '../../src/deployers/pem-files.js'
import { deployerContract, type DeployerFixture } from '../../src/testing/deployer-contract.js'
import { createTestBundle } from '../../src/testing/test-bundle.js'
import { createTestAuthority } from '../../src/testing/test-ca/index.js'
import { startMarathon } from '../servers/marathon/marathon.js'
import { fakeHaproxy } from '../support/fake-haproxy.js'
import { fakeKubeApi } from '../support/fake-kube-api.js'
import { faultyFiles } from '../support/faulty-files.js'
import { marathonLbApp, rollBack, servedPair, unrelatedState } from '../support/marathon-lb-app.js'
import { pairOf, readCombined, readDirectory } from '../support/read-pair.js'
import { writeHook } from '../support/hook-scripts.js'
import { temporaryDirectory } from '../support/temporary-directory.js'
import { probeTls } from '../support/tls-probe.js'

const runner = { describe, it }

describe('pemFilesDeployer, one file', () => {
  deployerContract(runner, {
    level: 'strict',
    async createDeployer() {
      const directory = await temporaryDirectory()
      const path = join(directory.path, 'www.pem')
      const other = join(directory.path, 'other.pem')
      await writeFile(other, 'not ours')
      const faulty = faultyFiles()
      const target = { files: [{ path, content: ['fullchain', 'key'] as const }], fileSystem: faulty.files }
      return {
        deployer: pemFilesDeployer(target),
        readDeployed: () => readCombined(path),
        failNextWrite: () => {
          faulty.failNext(/^rename .*www\.pem$/, 'EIO')
        },
        writes: () => faulty.changes,
        unrelatedState: () => readFile(other, 'utf8'),
        dispose: () => directory.remove(),
      }
    },
  })
})

describe('pemFilesDeployer, a directory', () => {
  deployerContract(runner, {
    level: 'strict',
    async createDeployer() {
      const directory = await temporaryDirectory()
      const path = join(directory.path, 'tls', 'www')
      const faulty = faultyFiles()
      return {
        deployer: pemFilesDeployer({
          ...nginxPem({ directory: path }),
          afterwards: () => undefined,
          fileSystem: faulty.files,
        }),
        readDeployed: () => readDirectory(path, { certificate: 'fullchain.pem', key: 'privkey.pem' }),
        failNextWrite: () => {
          faulty.failNext(/^sync .*privkey\.pem/, 'ENOSPC')
        },
        writes: () => faulty.changes,
        dispose: () => directory.remove(),
      }
    },
  })
})

describe('pemFilesDeployer, for Mesos', () => {
  deployerContract(runner, {
    level: 'strict',
    async createDeployer() {
      const directory = await temporaryDirectory()
      const path = join(directory.path, 'tls')
      const { rootPem } = createTestAuthority()
      const faulty = faultyFiles()
      return {
        // With ciphers that take the kit's keys.
        deployer: pemFilesDeployer({
          ...mesosTls({ directory: path, trustBundle: () => rootPem, ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' }),
          fileSystem: faulty.files,
        }),
        readDeployed: () => readDirectory(path, { certificate: 'localhost.pem', key: 'localhost-key.pem' }),
        failNextWrite: () => {
          faulty.failNext(/^sync .*mesos-tls\.env/, 'ENOSPC')
        },
        writes: () => faulty.changes,
        dispose: () => directory.remove(),
      }
    },
  })
})

describe('pemFilesDeployer, beside other hosts of acmetool', () => {
  deployerContract(runner, {
    level: 'strict',
    async createDeployer() {
      const directory = await temporaryDirectory()
      const faulty = faultyFiles()
      const layout = (host: string) => acmetoolLive({ directory: directory.path, host, haproxy: true })
      const path = join(directory.path, 'live', 'www.example.com')
      // A neighbour whose name begins like ours, and one of acmetool itself.
      const neighbour = pemFilesDeployer(layout('www.example.com.evil'))
      const bundle = await createTestBundle()
      const context = { signal: new AbortController().signal, clock: systemClock, logger: console }
      await neighbour.deploy(bundle, context)
      await symlink('../certs/abcdef', join(directory.path, 'live', 'mail.example.com'))
      return {
        deployer: pemFilesDeployer({ ...layout('www.example.com'), fileSystem: faulty.files }),
        readDeployed: () => readDirectory(path, { certificate: 'cert', key: 'privkey' }),
        failNextWrite: () => {
          faulty.failNext(/^rename .*live\/www\.example\.com$/, 'EACCES')
        },
        writes: () => faulty.changes,
        unrelatedState: async () =>
          JSON.stringify(await readDirectory(`${path}.evil`, { certificate: 'cert', key: 'privkey' })),
        dispose: () => directory.remove(),
      }
    },
  })
})

describe('haproxyDeployer, runtime API', () => {
  deployerContract(runner, {
    level: 'strict',
    clock: systemClock,
    async createDeployer() {
      const [path, other] = ['/certs/www.pem', '/certs/other.pem']
      const placeholder = await createTestBundle({ identifiers: ['other.example'] })
      const neighbour = placeholder.fullChainPem + placeholder.privateKey.exportPem()
      const haproxy = await fakeHaproxy({ [path]: '', [other]: neighbour })
      const pemPath = join(haproxy.directory, 'www.pem')
      const faulty = faultyFiles()
      return {
        deployer: haproxyDeployer({
          pemPath,
          storageName: path,
          runtimeSocket: haproxy.socket,
          files: faulty.files,
          timeoutMs: 2_000,
        }),
        readDeployed: async () => {
          // What is on the disk must be what is served, or whole at least.
          const [file, memory] = [await readCombined(pemPath), haproxy.served(path)]
          return memory === undefined ? file : { ...memory, keyMatches: memory.keyMatches && file?.keyMatches === true }
        },
        failNextWrite: () => {
          haproxy.onCommand = (command) => {
            if (!command.startsWith('commit')) return undefined
            haproxy.onCommand = () => undefined
            return `Committing ${path}.\nunable to load certificate!\nCan't commit ${path}!`
          }
        },
        writes: () => faulty.changes + haproxy.commands.filter((command) => !command.startsWith('show ')).length,
        unrelatedState: () => JSON.stringify([haproxy.certificates.get(other), haproxy.transaction]),
        dispose: () => haproxy.close(),
      }
    },
  })
})

describe('pemFilesDeployer with the hooks of acmetool', () => {
  deployerContract(runner, {
    level: 'strict',
    clock: systemClock,
    async createDeployer() {
      const directory = await temporaryDirectory()
      const [state, hooks] = [join(directory.path, 'acme'), join(directory.path, 'hooks')]
      const [active, fault] = [join(directory.path, 'active.pem'), join(directory.path, 'fault')]
      // As acmetool's haproxy hook, but in one step.
      const script = `[ "$1" = live-updated ] || exit 42
        if [ -e "${fault}" ]; then rm "${fault}"; exit 1; fi
        while read -r host; do
          cat "$ACME_STATE_DIR/live/$host/fullchain" "$ACME_STATE_DIR/live/$host/privkey" > "${active}.new" && mv "${active}.new" "${active}"
        done`
      await writeHook(hooks, 'haproxy', script)
      const host = 'www.example.com'
      const faulty = faultyFiles()
      return {
        deployer: pemFilesDeployer({
          ...acmetoolLive({ directory: state, host }),
          afterwards: acmetoolHooks({ stateDirectory: state, hosts: [host], directories: [hooks] }),
          fileSystem: faulty.files,
        }),
        readDeployed: () => readCombined(active),
        failNextWrite: () => writeFile(fault, ''),
        writes: () => faulty.changes,
        dispose: () => directory.remove(),
      }
    },
  })
})

describe('haproxyDeployer, reload by a command', () => {
  deployerContract(runner, {
    level: 'strict',
    clock: systemClock,
    async createDeployer() {
      const directory = await temporaryDirectory()
      const [pemPath, active, fault] = ['www.pem', 'active', 'fault'].map((name) => join(directory.path, name))
      // As a reload does: takes the file, or fails and goes on with the one it has.
      const script = `if [ -e "$3" ]; then rm "$3"; echo "config error" >&2; exit 1; fi; cp "$1" "$2.new" && mv "$2.new" "$2"`
      const faulty = faultyFiles()
      return {
        deployer: haproxyDeployer({
          pemPath: pemPath!,
          reloadCommand: ['/bin/sh', '-c', script, 'reload', pemPath!, active!, fault!],
          files: faulty.files,
        }),
        readDeployed: () => readCombined(active!),
        failNextWrite: () => writeFile(fault!, ''),
        writes: () => faulty.changes,
        dispose: () => directory.remove(),
      }
    },
  })
})

describe('kubernetesSecretDeployer', () => {
  deployerContract(runner, {
    level: 'strict',
    async createDeployer() {
      const api = fakeKubeApi()
      // Made beforehand by somebody else, with an entry of theirs.
      api.put('web', 'www-tls', { type: 'Opaque', data: { other: 'eA==' }, annotations: { team: 'web' } })
      const { kubeConfig, fetch } = api
      return {
        deployer: kubernetesSecretDeployer({ secretName: 'www-tls', namespaces: ['web'], kubeConfig, fetch }),
        readDeployed: async () => {
          const [chain, key] = ['tls.crt', 'tls.key'].map((entry) => api.secret('web', 'www-tls')?.data[entry])
          if (chain === undefined || key === undefined) return undefined
          return pairOf(Buffer.from(chain, 'base64').toString(), Buffer.from(key, 'base64').toString())
        },
        failNextWrite: () => {
          api.onWrite = () => {
            api.onWrite = () => undefined
            return new Response('no healthy upstream', { status: 503 })
          }
        },
        writes: () => api.writes,
        unrelatedState: () => {
          const { type, data, annotations } = api.secret('web', 'www-tls')!
          return JSON.stringify([type, data['other'], annotations])
        },
      }
    },
  })
})

describe('marathonDeployer', () => {
  deployerContract(runner, {
    level: 'strict',
    clock: systemClock,
    async createDeployer() {
      const marathon = await startMarathon({
        apps: [marathonLbApp(), { id: '/other', cmd: 'sleep 1', env: { A: 'b' } }],
      })
      return {
        deployer: marathonDeployer({
          urls: marathon.url,
          appId: 'marathon-lb',
          allowHttp: true,
          pollIntervalMs: 5,
          deploymentTimeoutMs: 10_000,
        }),
        readDeployed: async () => servedPair(marathon),
        failNextWrite: () => {
          // The deployment has begun, and somebody takes it back before a task is replaced.
          marathon.deployments.hold()
          const first = async (): Promise<void> => {
            await rollBack(marathon)
            marathon.deployments.release()
          }
          marathon.addFault({ match: { method: 'GET', path: '/v2/deployments', nth: 1 }, action: { first } })
        },
        writes: () => marathon.requests.filter(({ method }) => method !== 'GET').length,
        unrelatedState: () => unrelatedState(marathon),
        dispose: () => marathon.close(),
      }
    },
  })
})

describe('execDeployer', () => {
  deployerContract(runner, {
    level: 'strict',
    clock: systemClock,
    async createDeployer() {
      const directory = await temporaryDirectory()
      const [target, fault] = [join(directory.path, 'installed.pem'), join(directory.path, 'fault')]
      const script = `
        cat "$1" "$2" > "$3.$$"
        if [ -e "$4" ]; then rm "$4" "$3.$$"; cat "$2"; exit 9; fi
        if cmp -s "$3.$$" "$3"; then rm "$3.$$"; exit 42; fi
        mv "$3.$$" "$3"`
      return {
        deployer: execDeployer({
          command: ['/bin/sh', '-c', script, 'install', '{fullchain}', '{key}', target, fault],
          unchangedExitCode: 42,
          temporaryDirectory: directory.path,
        }),
        readDeployed: () => readCombined(target),
        failNextWrite: () => writeFile(fault, ''),
        dispose: () => directory.remove(),
      }
    },
  })
})

for (const kind of ['servers', 'certificates'] as const) {
  describe(`nodeTlsDeployer, ${kind}`, () => {
    deployerContract(runner, {
      level: 'strict',
      clock: systemClock,
      async createDeployer(): Promise<DeployerFixture> {
        const certificates = sniCertificates()
        const server: Server = createServer(kind === 'certificates' ? { SNICallback: certificates.sniCallback } : {})
        server.on('tlsClientError', () => undefined)
        await once(server.listen(0, '127.0.0.1'), 'listening')
        const { port } = server.address() as AddressInfo
        let fail = false
        let writes = 0
        const counted: SecureServer = {
          setSecureContext(options) {
            writes += 1
            server.setSecureContext(options)
          },
        }
        const deployer = nodeTlsDeployer(kind === 'servers' ? { servers: [counted] } : { certificates })
        return {
          deployer: {
            ...deployer,
            // The only thing that can fail is OpenSSL; a certificate that is none makes it.
            deploy: (bundle, context) => {
              if (!fail) return deployer.deploy(bundle, context)
              fail = false
              const chainPem = '-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n'
              return deployer.deploy({ ...bundle, chainPem, fullChainPem: bundle.certificatePem + chainPem }, context)
            },
          },
          readDeployed: async () => {
            const served = await probeTls({ port, servername: 'contract.example' }).catch(() => undefined)
            return served && { fingerprintSha256: served.fingerprintSha256, keyMatches: true }
          },
          failNextWrite: () => {
            fail = true
          },
          writes: () => writes,
          dispose: async () => {
            server.closeAllConnections()
            await once(server.close(), 'close')
          },
        }
      },
    })
  })
}
