/**
 * Machines of their own on one machine: network namespaces on a bridge, with real addresses, whose cables can be pulled.
 *
 * Needs Linux, root and iproute2. Nothing leaves the bridge: there is no route from it to anywhere.
 */
import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { accessSync } from 'node:fs'
import { promisify } from 'node:util'
import { describe } from 'vitest'
import { atExit } from './at-exit.js'
import { spawnServer, type ServerProcess, type SpawnServerOptions } from './processes.js'

export interface NetworkNamespace {
  readonly name: string
  readonly ipv4: string
  readonly ipv6: string
  /** Starts a server inside. `ready` may name the namespace's addresses: they are reached from outside, too. */
  spawn(options: SpawnServerOptions): Promise<ServerProcess>
  /** Runs a program inside; resolves with its standard output. */
  run(command: string, ...args: readonly string[]): Promise<string>
  /** `false` pulls the cable: what is sent here is lost without a word, as when a machine has died. */
  setLink(up: boolean): Promise<void>
}

export interface Network {
  /** Of this process's end of the bridge. */
  readonly ipv4: string
  readonly ipv6: string
  readonly namespaces: readonly NetworkNamespace[]
  /** Addresses on the same network that nobody has: for those that move. */
  readonly floating: { readonly ipv4: string; readonly ipv6: string }
  /** Ends what was started inside, and removes everything. */
  remove(): Promise<void>
}

/** Name of the interface inside a namespace. */
export const innerInterface = 'eth0'

const ip = async (...args: readonly string[]): Promise<string> => (await promisify(execFile)('ip', [...args])).stdout

/** A bridge and `count` namespaces on it, each with an IPv4 and an IPv6 address. */
export async function createNetwork(count: number): Promise<Network> {
  await removeLeftOvers()
  const id = `ec${String(process.pid)}`
  const bridge = `${id}b`
  const prefix4 = await freeNetwork()
  const [fd1 = '', fd2 = '', fd3 = ''] =
    randomBytes(5)
      .toString('hex')
      .match(/^..|.{4}/g) ?? []
  const canonical = (ipv6: string): string => new URL(`http://[${ipv6}]`).hostname.slice(1, -1)
  const address = (host: number) => ({
    ipv4: `${prefix4}.${String(host)}`,
    ipv6: canonical(`fd${fd1}:${fd2}:${fd3}:1::${host.toString(16)}`),
  })
  const mac = (host: number): string => `02:ec:00:00:00:${host.toString(16).padStart(2, '0')}`
  const hosts = Array.from({ length: count }, (_, index) => index + 11)
  const names = hosts.map((_, index) => `${id}n${String(index)}`)
  const cables = hosts.map((_, index) => `${id}v${String(index)}`)
  const servers: ServerProcess[] = []

  const removeNow = (): void => {
    for (const args of [
      ...cables.map((cable) => ['link', 'delete', cable]),
      ...names.map((name) => ['netns', 'delete', name]),
      ['link', 'delete', bridge],
    ]) {
      try {
        execFileSync('ip', args, { stdio: 'ignore' })
      } catch {
        // Not made, or gone already.
      }
    }
  }
  atExit(removeNow)

  const own = address(1)
  /** Known once and for all: a machine that is gone is then not noticed by its neighbours, which lose packets instead. */
  const neighbours = (self: number): string[][] =>
    [1, ...hosts]
      .filter((host) => host !== self)
      .flatMap((host) =>
        Object.values(address(host)).map((to) => ['neighbour', 'replace', to, 'lladdr', mac(host), 'nud', 'permanent']),
      )

  try {
    await ip('link', 'add', bridge, 'address', mac(1), 'type', 'bridge', 'forward_delay', '0', 'mcast_snooping', '0')
    await ip('address', 'add', `${own.ipv4}/24`, 'dev', bridge)
    await ip('address', 'add', `${own.ipv6}/64`, 'dev', bridge, 'nodad')
    await ip('link', 'set', bridge, 'up')
    for (const [index, host] of hosts.entries()) {
      const [name, cable] = [names[index] ?? '', cables[index] ?? '']
      const { ipv4, ipv6 } = address(host)
      await ip('netns', 'add', name)
      await ip(
        'link',
        'add',
        cable,
        'type',
        'veth',
        'peer',
        'name',
        innerInterface,
        'netns',
        name,
        'address',
        mac(host),
      )
      await ip('link', 'set', cable, 'master', bridge, 'up')
      for (const args of [
        ['link', 'set', 'lo', 'up'],
        ['address', 'add', `${ipv4}/24`, 'dev', innerInterface],
        ['address', 'add', `${ipv6}/64`, 'dev', innerInterface, 'nodad'],
        ['link', 'set', innerInterface, 'up'],
        ...neighbours(host).map((entry) => [...entry, 'dev', innerInterface]),
      ]) {
        await ip('-netns', name, ...args)
      }
    }
    for (const entry of neighbours(1)) await ip(...entry, 'dev', bridge)
  } catch (error) {
    removeNow()
    throw error
  }

  return {
    ...own,
    floating: address(100),
    namespaces: hosts.map((host, index) => {
      const [name, cable] = [names[index] ?? '', cables[index] ?? '']
      return {
        name,
        ...address(host),
        async spawn(options) {
          const args = ['netns', 'exec', name, options.command, ...(options.args ?? [])]
          const server = await spawnServer({ ...options, command: 'ip', args })
          servers.push(server)
          return server
        },
        run: (...command) => ip('netns', 'exec', name, ...command),
        async setLink(up) {
          await ip('link', 'set', cable, up ? 'up' : 'down')
        },
      }
    }),
    async remove() {
      await Promise.all(servers.map((server) => server.stop()))
      removeNow()
    },
  }
}

/** A /24 that no route of this machine leads to, its first three numbers. */
async function freeNetwork(): Promise<string> {
  const taken = await ip('-4', 'route', 'show', 'table', 'all')
  if (/\b10\.0\.0\.0\/8/.test(taken)) throw new Error('10.0.0.0/8 is routed: there is no room for a test network')
  for (;;) {
    const [second = 0, third = 0] = randomBytes(2)
    const half = `10.${String(200 + (second % 51))}.`
    if (!taken.includes(half)) return half + String(third)
  }
}

/** What test runs that were killed have left behind: its names hold the id of a process that is no more. */
async function removeLeftOvers(): Promise<void> {
  const listed = `${await ip('netns', 'list')}\n${await ip('-brief', 'link')}`
  const names = new Set(listed.match(/^ec\d+[nvb]\d*/gm))
  for (const name of names) {
    const pid = Number(/\d+/.exec(name)?.[0])
    if (isAlive(pid)) continue
    const kind = /^ec\d+n/.test(name) ? 'netns' : 'link'
    await ip(kind, 'delete', name).catch(() => '')
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Why there can be no namespaces here. */
function obstacle(): string | undefined {
  if (process.platform !== 'linux') return 'network namespaces need Linux'
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  try {
    accessSync('/proc/self/ns/net')
    execFileSync('ip', ['-V'], { stdio: 'ignore' })
    return undefined
  } catch {
    return 'network namespaces need iproute2'
  }
}

/** `define` where there can be namespaces, else nothing; as `describeWith`, which is the one to call inside. */
export function describeWithNamespaces(name: string, define: (name: string) => void): void {
  const reason = obstacle()
  if (reason === undefined) {
    define(name)
    return
  }
  if (['true', '1'].includes(process.env['CI'] ?? '')) throw new Error(`${name}: ${reason}`)
  console.warn(`skipped "${name}": ${reason}`)
  describe.skip(name, () => undefined)
}
