/**
 * The file store among processes that are killed at every system call, run into errors, stop, and race.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { lstat, mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { build } from 'tsup'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import type { CertStore } from '../../src/stores/cert-store.js'
import { fileStore } from '../../src/stores/file.js'
import { fakeClock } from '../../src/testing/fake-clock.js'
import { operationContext } from '../../src/testing/operation-context.js'
import { describeWith, requireServer } from '../support/servers.js'
import { temporaryDirectory, type TemporaryDirectory } from '../support/temporary-directory.js'

const key = 'certificates/www'
const context = operationContext({ clock: systemClock })
const program = fileURLToPath(new URL('programs/file-store-program.ts', import.meta.url))

let work: TemporaryDirectory
let bundle: string
let directories = 0

beforeAll(async () => {
  work = await temporaryDirectory()
  // One plain file: a process that loads forty modules through a loader makes thousands of calls of its own.
  await build({
    entry: { program },
    outDir: join(work.path, 'bundle'),
    format: 'esm',
    target: 'node20',
    config: false,
    silent: true,
    splitting: false,
    clean: false,
    outExtension: () => ({ js: '.mjs' }),
  })
  bundle = join(work.path, 'bundle', 'program.mjs')
})

afterAll(async () => {
  await work.remove()
})

async function freshDirectory(): Promise<string> {
  directories += 1
  const directory = join(work.path, `store-${String(directories)}`)
  await mkdir(directory, { mode: 0o700 })
  return directory
}

interface Ended {
  readonly signal: NodeJS.Signals | null
  readonly code: number | null
  readonly said: readonly Readonly<Record<string, unknown>>[]
  readonly stderr: string
}

function start(
  command: string,
  args: readonly string[],
): { readonly child: ChildProcess; readonly lines: Interface; readonly ended: Promise<Ended> } {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    // One thread for the file system: the order of its calls is then the same in every run.
    env: { PATH: process.env['PATH'] ?? '', UV_THREADPOOL_SIZE: '1' },
  })
  const lines = createInterface({ input: child.stdout })
  const said: Readonly<Record<string, unknown>>[] = []
  lines.on('line', (line) => said.push(JSON.parse(line) as Readonly<Record<string, unknown>>))
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const ended = once(child, 'close').then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
    said,
    stderr,
  }))
  return { child, lines, ended }
}

const run = (...args: readonly string[]): ReturnType<typeof start> => start(process.execPath, [bundle, ...args])

describeWith(['strace'], 'file store under strace', () => {
  // Everything that changes a disk, and the calls in between at which a process can be killed or refused.
  const calls = 'openat,write,pwrite64,fsync,fdatasync,rename,renameat2,mkdir,rmdir,unlink,unlinkat,link,linkat,access'
  let traces = 0

  /** One system call between the two marks. `nth` counts the calls of this name by its thread, as strace does. */
  interface Point {
    readonly call: string
    readonly nth: number
    readonly text: string
  }

  const strace = (injection: readonly string[], log: string, args: readonly string[]): Promise<Ended> =>
    start(requireServer('strace'), [
      '-f',
      '-qq',
      '-s',
      '64',
      '-o',
      log,
      `-etrace=${calls}`,
      ...injection,
      process.execPath,
      bundle,
      ...args,
    ]).ended

  async function trace(args: readonly string[]): Promise<Point[]> {
    traces += 1
    const log = join(work.path, `trace-${String(traces)}`)
    const ended = await strace([], log, args)
    expect(ended, ended.stderr).toMatchObject({ code: 0, said: [{ outcome: 'done' }] })
    const lines = parseTrace(await readFile(log, 'utf8'))
    const thread = lines.find(({ text }) => text.startsWith('"/evercert-sweep-begin"'))?.thread
    expect(thread).toBeDefined()
    const counts = new Map<string, number>()
    const points: Point[] = []
    let swept = false
    for (const line of lines) {
      if (line.thread !== thread) continue
      const nth = (counts.get(line.call) ?? 0) + 1
      counts.set(line.call, nth)
      if (line.text.startsWith('"/evercert-sweep-end"')) break
      if (swept && !isWakeUp(line)) points.push({ call: line.call, nth, text: line.text })
      if (line.text.startsWith('"/evercert-sweep-begin"')) swept = true
    }
    // Else the fault would strike the main thread while it starts.
    for (const { call, nth } of points) {
      const byOthers = Math.max(
        0,
        ...[...countBy(lines.filter((line) => line.call === call && line.thread !== thread))],
      )
      expect(byOthers, `${call} of other threads`).toBeLessThan(nth)
    }
    return points
  }

  /** Threads wake each other by writing eight bytes. That is no disk's business, and a failure of it the end of Node. */
  function isWakeUp({ call, text }: { readonly call: string; readonly text: string }): boolean {
    return call === 'write' && text.includes('"\\1\\0\\0\\0\\0\\0\\0\\0", 8)')
  }

  /** Arguments without what differs from run to run; the result of a call that was killed is missing or `?`. */
  function masked(text: string): string {
    return text
      .replace(/\)? +(?:= \?)?$/, '')
      .replaceAll(/[0-9a-f]{8,}/g, 'H')
      .replaceAll(/\d+/g, 'N')
  }

  interface TraceLine {
    readonly thread: string
    readonly call: string
    readonly text: string
  }

  function parseTrace(log: string): TraceLine[] {
    const lines: { thread: string; call: string; text: string }[] = []
    for (const line of log.split('\n')) {
      // A call that another thread interrupted in the log is written in two parts.
      const [, resumedThread, rest = ''] = /^(\d+) +<\.\.\. \w+ resumed>(.*)$/.exec(line) ?? []
      const begun = lines.findLast(({ thread }) => thread === resumedThread)
      if (begun !== undefined) begun.text += rest
      const [, thread, call = '', text = ''] = /^(\d+) +(\w+)\((.*)$/.exec(line) ?? []
      if (thread !== undefined) lines.push({ thread, call, text: text.replace(/ <unfinished \.\.\.>$/, '') })
    }
    return lines
  }

  /** Kills a process at the point. Resolves the directory it worked in. */
  async function killAt({ call, nth, text }: Point, scenario: Scenario): Promise<string> {
    const log = join(work.path, 'trace-kill')
    for (let attempt = 0; attempt < 10; attempt += 1) {
      const { directory, args } = await scenario.prepare()
      const ended = await strace([`-einject=${call}:signal=SIGKILL:when=${String(nth)}`], log, args)
      // A fault that did not strike proves nothing. Wake-ups are merged now and then, so a write may be off by one.
      const struck = parseTrace(await readFile(log, 'utf8')).findLast((line) => line.call === call)
      if (ended.signal === 'SIGKILL' && masked(text).startsWith(masked(struck?.text ?? 'none'))) return directory
    }
    throw new Error(`no process could be killed at ${call}(${text}`)
  }

  function countBy(lines: readonly { readonly thread: string }[]): Iterable<number> {
    const counts = new Map<string, number>()
    for (const { thread } of lines) counts.set(thread, (counts.get(thread) ?? 0) + 1)
    return counts.values()
  }

  /** What may lie in the directory after a crash: entries, and leftovers that only we can read and that get swept. */
  async function expectOnlyOurFiles(directory: string): Promise<void> {
    for (const name of await readdir(directory, { recursive: true })) {
      const status = await lstat(join(directory, name))
      expect((status.mode & 0o777).toString(8), name).toBe(status.isDirectory() ? '700' : '600')
    }
    const later = fakeClock({ now: Date.now() + 2 * 3_600_000 })
    await fileStore({ directory }).get('certificates/none', operationContext({ clock: later }))
    for (const name of await readdir(directory)) expect(name).toMatch(/^[^.].*\.(?:entry|lease)$/)
  }

  interface Scenario {
    readonly name: string
    prepare(): Promise<{ readonly directory: string; readonly args: readonly string[] }>
    /** What a value may be afterwards. */
    readonly values: readonly (string | undefined)[]
    readonly done: string | undefined
  }

  async function withOldValue(command: string): Promise<{ directory: string; args: readonly string[] }> {
    const directory = await freshDirectory()
    const revision = await fileStore({ directory }).put(key, Buffer.from('old'), context)
    return { directory, args: [command, directory, revision] }
  }

  const scenarios: readonly Scenario[] = [
    { name: 'replacing a value', prepare: () => withOldValue('replace'), values: ['old', 'new'], done: 'new' },
    {
      name: 'the first value, in a directory that is yet to be made',
      async prepare() {
        const directory = join(await freshDirectory(), 'a', 'b')
        return { directory, args: ['put', directory] }
      },
      values: [undefined, 'new'],
      done: 'new',
    },
    { name: 'deleting a value', prepare: () => withOldValue('delete'), values: ['old', undefined], done: undefined },
    { name: 'taking and releasing a lock', prepare: () => withOldValue('lock'), values: ['old'], done: 'old' },
  ]

  for (const scenario of scenarios) {
    it(`survives kill -9 at every system call: ${scenario.name}`, async () => {
      const points = await trace((await scenario.prepare()).args)
      expect(points.length).toBeGreaterThan(10)
      for (const point of points) {
        const where = `killed at ${point.call}(${point.text}`
        const directory = await killAt(point, scenario)
        const store = fileStore({ directory })
        const found = await valueOf(store)
        expect(scenario.values, where).toContain(found)
        expect(await keysOf(store), where).toEqual(found === undefined ? [] : [key])
        const revision = (await store.get(key, context))?.revision ?? null
        await store.put(key, Buffer.from('next'), context, { ifRevision: revision })
        expect(await valueOf(fileStore({ directory })), where).toBe('next')
        // Its holder is dead, and this machine can prove it: nobody waits for the lease to end.
        const lock = await store.lock?.('www', context, { ttlMs: 60_000 })
        expect(lock, where).toBeDefined()
        await lock?.release()
        await expectOnlyOurFiles(directory)
      }
      console.log(`${scenario.name}: killed at ${String(points.length)} system calls`)
    })
  }

  for (const error of ['ENOSPC', 'EIO', 'EMFILE'] as const) {
    it(`reports ${error} at every system call, and keeps a whole value`, async () => {
      const scenario = scenarios[0]
      if (scenario === undefined) throw new Error('no scenario')
      // Threads wake each other by writing eight bytes; if that fails it is the end of Node, and no disk's fault.
      const points = await trace((await scenario.prepare()).args)
      let refused = 0
      for (const { call, nth, text } of points) {
        const { directory, args } = await scenario.prepare()
        const where = `${error} at ${call}(${text}`
        const log = join(work.path, 'trace-error')
        const ended = await strace([`-einject=${call}:error=${error}:when=${String(nth)}`], log, args)
        expect(await readFile(log, 'utf8'), where).toContain('(INJECTED)')
        expect(ended.code, `${where}\n${ended.stderr}`).toBe(0)
        const said = ended.said[0]
        const store = fileStore({ directory })
        const found = await valueOf(store)
        if (said?.['outcome'] === 'done') {
          expect(found, where).toBe('new')
        } else {
          refused += 1
          expect(said?.['outcome'], where).toBe('ERR_STORE_UNAVAILABLE')
          expect(said?.['message'], where).toMatch(new RegExp(`${error}, .*${directory}`))
          expect(['old', 'new'], where).toContain(found)
        }
        await store.put(key, Buffer.from('next'), context)
        await expectOnlyOurFiles(directory)
      }
      expect(refused).toBeGreaterThanOrEqual(6)
      console.log(`${error}: ${String(points.length)} system calls failed, ${String(refused)} of them were reported`)
    })
  }

  it('syncs the file before it appears, and the directory before it reports', async () => {
    const points = await trace((await withOldValue('replace')).args)
    const shown = points.map(({ call, text }) => `${call}(${text}`)
    const position = (pattern: RegExp, from = 0): number => {
      const found = shown.findIndex((line, index) => index >= from && pattern.test(line))
      expect(found, `${String(pattern)} in\n${shown.join('\n')}`).not.toBe(-1)
      return found
    }
    const made = position(/^openat\(.*O_WRONLY\|O_CREAT\|O_EXCL\|O_TRUNC\|O_CLOEXEC, 0600\) += \d+$/)
    const file = /= (\d+)$/.exec(shown[made] ?? '')?.[1] ?? ''
    const written = position(new RegExp(`^write\\(${file}, "evercert-entry `), made)
    const synced = position(new RegExp(`^fsync\\(${file}\\) += 0`), written)
    const committed = position(/^rename\(".*\.entry\.turn\/.*\.entry"/, synced)
    const opened = position(/^openat\(AT_FDCWD, "[^"]*\/store-\d+", O_RDONLY/, committed)
    const directory = /= (\d+)$/.exec(shown[opened] ?? '')?.[1] ?? ''
    position(new RegExp(`^fsync\\(${directory}\\) += 0`), opened)
  })
})

describe('file store among processes', () => {
  it('counts every compare-and-set of five processes', async () => {
    const directory = await freshDirectory()
    const ended = await Promise.all(Array.from({ length: 5 }, () => run('increment', directory, '200').ended))
    for (const each of ended) expect(each, each.stderr).toMatchObject({ code: 0, said: [{ outcome: 'done' }] })
    expect(await valueOf(fileStore({ directory }))).toBe('1000')
    const conflicts = ended.reduce((sum, { said }) => sum + Number(said[0]?.['conflicts']), 0)
    expect(conflicts, 'the processes never met').toBeGreaterThan(0)
    expect(await readdir(directory)).toEqual(['certificates+www.entry'])
    console.log(`1000 increments by 5 processes, ${String(conflicts)} conflicts`)
  })

  it('goes on counting while writers are stopped and continued at random', async () => {
    const directory = await freshDirectory()
    const writers = Array.from({ length: 3 }, () => run('increment', directory, '150'))
    let running = true
    const ended = Promise.all(writers.map((writer) => writer.ended)).finally(() => {
      running = false
    })
    let stops = 0
    const disturb = async (): Promise<void> => {
      while (running) {
        const { child } = writers[stops % writers.length] ?? {}
        if (child?.exitCode === null) {
          child.kill('SIGSTOP')
          await systemClock.sleep(20)
          child.kill('SIGCONT')
        }
        stops += 1
        await systemClock.sleep(3)
      }
    }
    await Promise.all([ended, disturb()])
    for (const each of await ended) expect(each, each.stderr).toMatchObject({ code: 0, said: [{ outcome: 'done' }] })
    expect(stops).toBeGreaterThan(5)
    expect(await valueOf(fileStore({ directory }))).toBe('450')
    console.log(`450 increments by 3 processes that were stopped ${String(stops)} times`)
  })

  it('replaces a holder that was stopped, tells it, and refuses what it writes', async () => {
    const directory = await freshDirectory()
    const ttlMs = 600
    const store = fileStore({ directory })
    await store.put(key, Buffer.from('before'), context)
    const holder = run('hold', directory, String(ttlMs))
    const [said] = (await once(holder.lines, 'line')) as [string]
    const { token } = JSON.parse(said) as { token: string }
    expect(await store.lock?.('www', context, { ttlMs })).toBeUndefined()

    holder.child.kill('SIGSTOP')
    const stoppedAt = performance.now()
    let lock
    while (lock === undefined) {
      expect(performance.now() - stoppedAt, 'the lock was never taken over').toBeLessThan(20 * ttlMs)
      lock = await store.lock?.('www', context, { ttlMs })
      if (lock === undefined) await systemClock.sleep(ttlMs / 10)
    }
    expect(performance.now() - stoppedAt).toBeGreaterThan(ttlMs * 0.6)
    expect(BigInt(lock.fencingToken)).toBeGreaterThan(BigInt(token))
    await store.put(key, Buffer.from('by the next holder'), context)
    await systemClock.sleep(Math.max(0, stoppedAt + 3 * ttlMs - performance.now()))
    holder.child.kill('SIGCONT')

    const ended = await holder.ended
    expect(ended.said[1], ended.stderr).toEqual({
      outcome: 'lost',
      reason: 'ERR_STORE_LOCK_LOST',
      write: 'ERR_STORE_CONFLICT',
    })
    expect(await valueOf(store)).toBe('by the next holder')
    expect(lock.signal.aborted).toBe(false)
    expect(
      await fileStore({ directory }).lock?.('www', context, { ttlMs }),
      'the old holder released it',
    ).toBeUndefined()
    await lock.release()
  })

  it('gives the lock of a killed process away at once', async () => {
    const directory = await freshDirectory()
    const holder = run('hold', directory, '3600000')
    const [said] = (await once(holder.lines, 'line')) as [string]
    const { token } = JSON.parse(said) as { token: string }
    const store = fileStore({ directory })
    expect(await store.lock?.('www', context, { ttlMs: 1000 }), 'a living holder keeps it').toBeUndefined()
    holder.child.kill('SIGKILL')
    await holder.ended
    const lock = await store.lock?.('www', context, { ttlMs: 1000 })
    expect(BigInt(lock?.fencingToken ?? 0)).toBeGreaterThan(BigInt(token))
    await lock?.release()
  })
})

async function valueOf(store: CertStore): Promise<string | undefined> {
  const stored = await store.get(key, context)
  return stored === undefined ? undefined : Buffer.from(stored.value).toString()
}

async function keysOf(store: CertStore): Promise<string[]> {
  const keys: string[] = []
  for await (const each of store.list('', context)) keys.push(each)
  return keys
}
