/**
 * One process that uses a file store, for tests that kill, stop or starve it. Commands: see the end of the file.
 */
import { access, open } from 'node:fs/promises'
import { systemClock } from '../../../src/core/clock.js'
import { silentLogger } from '../../../src/core/logger.js'
import { CertError } from '../../../src/errors.js'
import type { CertStore, Revision } from '../../../src/stores/cert-store.js'
import { fileStore } from '../../../src/stores/file.js'

const [command = '', directory = '', ...rest] = process.argv.slice(2)
const key = 'certificates/www'
const context = { signal: new AbortController().signal, clock: systemClock, logger: silentLogger }
const bytes = (value: string): Uint8Array => Buffer.from(value)
const say = (what: object): void => {
  process.stdout.write(`${JSON.stringify(what)}\n`)
}

/**
 * Runs what is to be swept between two system calls that a trace can be searched for. strace counts calls per thread;
 * opening a file very often first takes the counter of the file system's thread beyond whatever the main thread counted
 * while it started.
 */
async function swept(run: () => Promise<unknown>): Promise<void> {
  for (let count = 0; count < 300; count += 1) await (await open(process.execPath)).close()
  await access('/evercert-sweep-begin').catch(() => undefined)
  try {
    await run()
    say({ outcome: 'done' })
  } catch (error) {
    if (!CertError.isInstance(error)) throw error
    say({ outcome: error.code, message: error.message })
  }
  await access('/evercert-sweep-end').catch(() => undefined)
}

async function increment(store: CertStore, times: number): Promise<void> {
  let conflicts = 0
  for (let count = 0; count < times;) {
    const stored = await store.get(key, context)
    const next = Number(Buffer.from(stored?.value ?? bytes('0')).toString()) + 1
    try {
      await store.put(key, bytes(String(next)), context, { ifRevision: stored?.revision ?? null })
      count += 1
    } catch (error) {
      if (!CertError.isInstance(error) || error.code !== 'ERR_STORE_CONFLICT') throw error
      conflicts += 1
    }
  }
  say({ outcome: 'done', conflicts })
}

async function hold(store: CertStore, ttlMs: number): Promise<void> {
  const before = await store.get(key, context)
  const lock = await store.lock?.('www', context, { ttlMs })
  if (lock === undefined) {
    say({ outcome: 'busy' })
    return
  }
  say({ outcome: 'held', token: lock.fencingToken })
  // Keeps the process alive, as an operation under the lock would.
  const working = setInterval(() => undefined, 1000)
  await new Promise<void>((resolve) => {
    lock.signal.addEventListener('abort', () => {
      resolve()
    })
  })
  clearInterval(working)
  const write = await store.put(key, bytes('stale'), context, { ifRevision: before?.revision ?? null }).then(
    () => 'written',
    (error: unknown) => (CertError.isInstance(error) ? error.code : String(error)),
  )
  await lock.release()
  const reason: unknown = lock.signal.reason
  say({ outcome: 'lost', reason: CertError.isInstance(reason) ? reason.code : String(reason), write })
}

const store = fileStore({ directory })
switch (command) {
  case 'put':
    await swept(() => store.put(key, bytes('new'), context))
    break
  case 'replace':
    await swept(() => store.put(key, bytes('new'), context, { ifRevision: rest[0] as Revision }))
    break
  case 'delete':
    await swept(() => store.delete(key, context))
    break
  case 'lock':
    await swept(async () => (await store.lock?.('www', context, { ttlMs: 60_000 }))?.release())
    break
  case 'increment':
    await increment(store, Number(rest[0]))
    break
  case 'hold':
    await hold(store, Number(rest[0]))
    break
  default:
    throw new Error(`unknown command ${command}`)
}
