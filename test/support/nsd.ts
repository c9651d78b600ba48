/**
 * NSD: an authoritative name server on any loopback address, with zones that tests can rewrite.
 */
import { Resolver } from 'node:dns/promises'
import { readFile, writeFile } from 'node:fs/promises'
import { isIPv6 } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { spawnServer } from './processes.js'
import { requireServer } from './server-paths.js'
import { temporaryDirectory } from './temporary-directory.js'

export interface NsdOptions {
  readonly address: string
  readonly port: number
  /** Zones it is responsible for, with their records as in a zone file; SOA and TTL are added. */
  readonly zones: Readonly<Record<string, readonly string[]>>
}

export interface Nsd {
  readonly address: string
  /** Replaces the records of a zone; they are served when this resolves. */
  setZone(zone: string, records: readonly string[]): Promise<void>
  output(): string
  stop(): Promise<void>
}

export async function startNsd({ address, port, zones }: NsdOptions): Promise<Nsd> {
  const directory = await temporaryDirectory()
  const serials = new Map<string, number>()
  const fileOf = (zone: string): string => join(directory.path, `${zone}.zone`)
  const write = async (zone: string, records: readonly string[]): Promise<number> => {
    const serial = (serials.get(zone) ?? 0) + 1
    serials.set(zone, serial)
    const soa = `@ SOA ns1.${zone}. mail.${zone}. ${serial} 3600 600 86400 60`
    await writeFile(fileOf(zone), [`$ORIGIN ${zone}.`, '$TTL 60', soa, ...records, ''].join('\n'))
    return serial
  }
  const configPath = join(directory.path, 'nsd.conf')
  const inDirectory = (name: string): string => `"${join(directory.path, name)}"`
  const server = await (async () => {
    try {
      for (const [zone, records] of Object.entries(zones)) await write(zone, records)
      const config = [
        'server:',
        ` ip-address: ${address}@${port}`,
        ' username: ""',
        ' server-count: 1',
        ' database: ""',
        ' rrl-ratelimit: 0',
        ' verbosity: 2',
        ` zonesdir: "${directory.path}"`,
        ` xfrdir: "${directory.path}"`,
        ` pidfile: ${inDirectory('nsd.pid')}`,
        ` xfrdfile: ${inDirectory('xfrd.state')}`,
        ` zonelistfile: ${inDirectory('zone.list')}`,
        'remote-control:',
        ' control-enable: no',
        ...Object.keys(zones).flatMap((zone) => ['zone:', ` name: ${zone}`, ` zonefile: "${fileOf(zone)}"`]),
      ]
      await writeFile(configPath, `${config.join('\n')}\n`)
      return await spawnServer({
        command: requireServer('nsd'),
        args: ['-d', '-c', configPath],
        ready: [{ log: /nsd started/ }],
      })
    } catch (error) {
      await directory.remove()
      throw error
    }
  })()

  const resolver = new Resolver({ timeout: 1_000, tries: 5 })
  resolver.setServers([isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`])
  return {
    address,
    async setZone(zone, records) {
      const before = await descendants(server.pid)
      const serial = await write(zone, records)
      // Reads zones again whose files have changed, and hands over to a new process. For a moment the old one answers, too.
      process.kill(server.pid, 'SIGHUP')
      for (let attempt = 0; ; attempt += 1) {
        if (attempt === 1_000) throw new Error(`nsd does not serve the new ${zone}:\n${server.output()}`)
        const now = await descendants(server.pid)
        const handedOver = now.length === before.length && now.some((pid) => !before.includes(pid))
        if (handedOver && (await resolver.resolveSoa(zone)).serial === serial) return
        await sleep(10)
      }
    },
    output: server.output,
    async stop() {
      await server.stop()
      await directory.remove()
    },
  }
}

async function descendants(pid: number): Promise<readonly number[]> {
  const list = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
  const children = list.split(' ').filter(Boolean).map(Number)
  return [...children, ...(await Promise.all(children.map(descendants))).flat()]
}
