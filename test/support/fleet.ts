/**
 * Three balancers as examples/haproxy-fleet has them, in network namespaces, with Pebble outside.
 */
import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { testAuthority } from './certificates.js'
import { createNetwork, type Network, type NetworkNamespace } from './network-namespaces.js'
import { startPebble, type Pebble } from './pebble.js'
import type { ServerProcess, SpawnServerOptions } from './processes.js'
import { requireServer } from './server-paths.js'
import { temporaryDirectory } from './temporary-directory.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** The one name of the fleet. */
export const fleetName = 'fleet.example.com'
export const peerPort = 31_080

export interface Balancer {
  readonly namespace: NetworkNamespace
  readonly directory: string
  readonly webroot: string
  readonly store: string
  /** RFC 7638, of its account; known once evercert has run. */
  thumbprint(): string
  readonly evercert: ServerProcess
  readonly haproxy: ServerProcess
  startHaproxy(): Promise<void>
  /** With the accounts of the list, all where there is none. */
  startEvercert(thumbprints?: readonly string[]): Promise<void>
}

export interface Fleet {
  readonly network: Network
  readonly pebble: Pebble
  readonly balancers: readonly [Balancer, Balancer, Balancer]
  /** A machine outside the fleet: it floods, measures, and is named as a peer. */
  readonly stranger: NetworkNamespace
  /** Makes the name resolve to these addresses and no others. */
  resolveTo(addresses: readonly string[]): Promise<void>
  remove(): Promise<void>
}

/** Options for `spawn` that run a TypeScript program of the repository in one process. */
export function program(
  path: string,
  args: readonly string[],
  rest: Pick<SpawnServerOptions, 'ready' | 'env' | 'onLine'>,
): SpawnServerOptions {
  return {
    command: process.execPath,
    args: ['--import', import.meta.resolve('tsx'), join(root, path), ...args],
    readyTimeoutMs: 60_000,
    ...rest,
    env: { TSX_TSCONFIG_PATH: join(root, 'tsconfig.check.json'), ...rest.env },
  }
}

/** A file of the example, with each of its paths and addresses replaced by ours; one that is not there is an error. */
export async function exampleFile(name: string, replacements: Readonly<Record<string, string>>): Promise<string> {
  let text = await readFile(join(root, 'examples/haproxy-fleet', name), 'utf8')
  for (const [from, to] of Object.entries(replacements)) {
    if (!text.includes(from)) throw new Error(`${name} does not say ${from}`)
    text = text.replaceAll(from, to)
  }
  return text
}

export async function startFleet(): Promise<Fleet> {
  const work = await temporaryDirectory()
  const network = await createNetwork(4)
  try {
    const pebble = await startPebble({ listenAddress: network.ipv4, httpPort: 80 })
    const [one, two, three, stranger] = network.namespaces as Four
    const peers = [one, two, three, stranger].map(({ ipv4 }) => ipv4).join(',')
    const caFile = join(work.path, 'ca.pem')
    await writeFile(caFile, pebble.caPem)
    const settings = {
      NAMES: fleetName,
      PEERS: peers,
      ACME_DIRECTORY: pebble.directoryUrl,
      ACME_CA: caFile,
      DNS_SERVERS: `${network.ipv4}:${pebble.challtestsrv.dnsPort}`,
    }
    const made = [one, two, three].map((namespace, index) =>
      balancer(namespace, join(work.path, `balancer-${index + 1}`), settings),
    )
    for (const each of made) await each.prepare()
    const balancers = made as readonly Balancer[] as Fleet['balancers']
    return {
      network,
      pebble,
      balancers,
      stranger,
      async resolveTo(addresses) {
        const { challtestsrv } = pebble
        await challtestsrv.clearA(fleetName)
        await challtestsrv.clearAAAA(fleetName)
        const [four, six] = [false, true].map((wanted) =>
          addresses.filter((address) => address.includes(':') === wanted),
        ) as [string[], string[]]
        // An empty set of records would be answered with the default address.
        await challtestsrv.setDefaultIPv4('')
        if (four.length > 0) await challtestsrv.addA(fleetName, four)
        if (six.length > 0) await challtestsrv.addAAAA(fleetName, six)
      },
      async remove() {
        await network.remove()
        await pebble.stop()
        await work.remove()
      },
    }
  } catch (error) {
    await network.remove()
    throw error
  }
}

type Four = [NetworkNamespace, NetworkNamespace, NetworkNamespace, NetworkNamespace]

function balancer(namespace: NetworkNamespace, directory: string, settings: Readonly<Record<string, string>>) {
  const [webroot, store, certificates] = ['webroot', 'store', 'certs'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ]
  const [pem, socket, configPath] = [
    join(certificates, 'www.pem'),
    join(directory, 'admin.sock'),
    join(directory, 'haproxy.cfg'),
  ]
  let evercert: ServerProcess | undefined
  let haproxy: ServerProcess | undefined
  const running = (server: ServerProcess | undefined): ServerProcess => {
    if (server === undefined) throw new Error('not started')
    return server
  }
  return {
    namespace,
    directory,
    webroot,
    store,
    get evercert() {
      return running(evercert)
    },
    get haproxy() {
      return running(haproxy)
    },
    thumbprint() {
      const found = /account thumbprint (\S{43})/.exec(running(evercert).output())?.[1]
      if (found === undefined) throw new Error(`no thumbprint: ${running(evercert).output()}`)
      return found
    },
    async prepare() {
      for (const path of [directory, webroot, certificates]) await mkdir(path)
      // HAProxy does not start without a certificate.
      await writeFile(pem, (await (await testAuthority()).issue([fleetName])).bundlePem)
      const text = await exampleFile('haproxy.cfg', {
        '/dev/log': 'stdout format raw',
        '/run/haproxy/admin.sock': socket,
        '/etc/haproxy/certs': certificates,
        '  user haproxy\n  group haproxy\n': '',
      })
      await writeFile(configPath, text)
    },
    async startHaproxy() {
      haproxy = await namespace.spawn({
        command: requireServer('haproxy'),
        args: ['-W', '-f', configPath],
        ready: [{ socket }, ...[80, 443].map((port) => ({ port, host: namespace.ipv4 }))],
      })
    },
    async startEvercert(thumbprints: readonly string[] = []) {
      const env = {
        ...settings,
        PEER_ADDRESS: namespace.ipv4,
        ACCOUNT_THUMBPRINTS: thumbprints.join(','),
        WEBROOT: webroot,
        PEM: pem,
        HAPROXY_SOCKET: socket,
        STORE: store,
      }
      evercert = await namespace.spawn(
        program('examples/haproxy-fleet/main.ts', [], {
          env,
          ready: [{ port: peerPort, host: namespace.ipv4 }, { log: /account thumbprint/ }],
        }),
      )
    },
  }
}

/** Resident memory of a process, in MiB. */
export async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1_024
}

/** What `ip` says inside. */
export async function addressesOf(namespace: NetworkNamespace): Promise<string> {
  return (await promisify(execFile)('ip', ['-netns', namespace.name, '-oneline', 'address'])).stdout
}
