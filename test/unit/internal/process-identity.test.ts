import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { systemFiles, type FileSystem } from '../../../src/internal/file-system.js'
import { isProvenDead, processIdentity } from '../../../src/internal/process-identity.js'

const stat = (pid: number, state: string, startTime: string): string =>
  `${String(pid)} (a name) with (brackets) ${state} ${'0 '.repeat(18)}${startTime} 0 0\n`

/** A /proc of our making. */
function procOf(content: Readonly<Record<string, string>>): FileSystem {
  const read = (path: unknown): Promise<string> => {
    const text = content[String(path)]
    return text === undefined ? Promise.reject(new Error(`ENOENT: ${String(path)}`)) : Promise.resolve(text)
  }
  return { ...systemFiles, readFile: read as FileSystem['readFile'], readlink: read as FileSystem['readlink'] }
}

const own = {
  '/proc/sys/kernel/random/boot_id': 'boot-1\n',
  '/proc/self/ns/pid': 'pid:[1]',
  '/proc/self/stat': stat(process.pid, 'R', '100'),
}

it('names boot, namespace, process and start', async () => {
  expect(await processIdentity(procOf(own))).toBe(`boot-1 pid:[1] ${String(process.pid)} 100`)
})

it('is unknown where there is no /proc', async () => {
  expect(await processIdentity(procOf({}))).toBeUndefined()
})

describe('death is proven', () => {
  const self = `boot-1 pid:[1] ${String(process.pid)} 100`
  const statPath = `/proc/${String(process.pid)}/stat`
  // This process exists; what /proc says about it is made up.
  it.each([
    ['not of a process that runs', self, { [statPath]: stat(process.pid, 'S', '100') }, false],
    ['not of a process that is stopped', self, { [statPath]: stat(process.pid, 'T', '100') }, false],
    ['of a zombie', self, { [statPath]: stat(process.pid, 'Z', '100') }, true],
    ['when the process id is now somebody else', self, { [statPath]: stat(process.pid, 'S', '200') }, true],
    ['not when /proc hides the process', self, {}, false],
    ['not on another machine, or before a reboot', `boot-2 pid:[1] ${String(process.pid)} 1`, {}, false],
    ['not in another container', `boot-1 pid:[2] ${String(process.pid)} 1`, {}, false],
    ['not for a process number that is none', 'boot-1 pid:[1] -1 1', {}, false],
    ['not for something else', 'garbage', {}, false],
  ])('%s', async (_, holder, proc, dead) => {
    expect(await isProvenDead(holder, self, procOf(proc))).toBe(dead)
  })

  it('not by somebody who does not know himself', async () => {
    expect(await isProvenDead(self, undefined, procOf({}))).toBe(false)
  })

  it.runIf(existsSync('/proc/self/stat'))('of a real process once it is gone', async () => {
    const identity = await processIdentity(systemFiles)
    const child = spawn('sleep', ['60'])
    await once(child, 'spawn')
    const text = await systemFiles.readFile(`/proc/${String(child.pid)}/stat`, 'utf8')
    const startTime = text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? ''
    const holder = [...(identity ?? '').split(' ').slice(0, 2), String(child.pid), startTime].join(' ')
    expect(await isProvenDead(holder, identity, systemFiles)).toBe(false)
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(await isProvenDead(holder, identity, systemFiles)).toBe(true)
  })
})
