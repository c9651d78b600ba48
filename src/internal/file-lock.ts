/**
 * Mutual exclusion of the processes of one machine, and of the plug-ins of one process, by a lock file.
 *
 * It keeps honest parties apart; it is no proof. Whoever holds it still checks what the other side answers.
 *
 * @module
 */
import { randomBytes } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import type { Clock } from '../core/clock.js'
import { isProvenDead, processIdentity } from './process-identity.js'
import { errorCode, temporaryName } from './atomic-file.js'
import { systemFiles, type FileSystem } from './file-system.js'

/** Parts of {@link withFileLock}. */
export interface FileLockOptions {
  readonly path: string
  readonly clock: Clock
  readonly signal: AbortSignal
  /** How long to wait for another holder. */
  readonly waitMs: number
  /** After this time a holder that cannot be proven dead (another container) is taken for dead. */
  readonly staleMs: number
  /** Made when the wait was in vain. */
  readonly onBusy: () => Error
  /** Turns an error of the file system, met while taking the lock, into what is thrown. */
  readonly onUnusable: (cause: unknown) => unknown
  readonly files?: FileSystem | undefined
}

interface Claim {
  readonly identity: string
  /** Tells this claim from all others. */
  readonly token: string
  /** Epoch milliseconds. */
  readonly staleAt: number
}

const pollMs = 25

/** Runs something while holding the lock. A holder of this machine that was killed is replaced at once. */
export async function withFileLock<Result>(options: FileLockOptions, run: () => Promise<Result>): Promise<Result> {
  const { path, clock, files = systemFiles } = options
  const identity = (await processIdentity(files)) ?? ''
  const token = randomBytes(16).toString('hex')
  const claim: Claim = { identity, token, staleAt: clock.now() + options.waitMs + options.staleMs }
  try {
    await acquire(claim, options, files)
  } catch (error) {
    throw options.onUnusable(error)
  }
  try {
    return await run()
  } finally {
    await release(token, path, files)
  }
}

/**
 * What was done under the lock is done, whatever becomes of the file: a passing fault is tried again, a lasting one leaves
 * a lock that goes stale.
 */
async function release(token: string, path: string, files: FileSystem): Promise<void> {
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    try {
      const holder = await readClaim(path, files)
      if (holder?.token === token) await files.rm(path, { force: true })
      return
    } catch {
      // Again.
    }
  }
}

/** The claim is linked into place: the lock file is there with its content, or not at all. */
async function acquire(claim: Claim, options: FileLockOptions, files: FileSystem): Promise<void> {
  const { path, clock, signal, waitMs, onBusy } = options
  const draft = join(dirname(path), temporaryName(basename(path)))
  const giveUpAt = clock.now() + waitMs
  signal.throwIfAborted()
  const handle = await files.open(draft, 'wx', 0o600)
  try {
    try {
      await handle.writeFile(JSON.stringify(claim))
    } finally {
      await handle.close()
    }
    for (;;) {
      if (await linked(draft, path, files)) return
      const holder = await readClaim(path, files)
      const stale = holder !== undefined && (await isStale(holder, claim, clock, files))
      if (stale && (await removedStale(holder, claim, draft, options, files))) continue
      if (clock.now() >= giveUpAt) throw onBusy()
      if (holder !== undefined) await clock.sleep(pollMs, { signal })
    }
  } finally {
    // Holds no secret; a leftover does no harm.
    await files.rm(draft, { force: true }).catch(() => undefined)
  }
}

async function linked(draft: string, path: string, files: FileSystem): Promise<boolean> {
  try {
    await files.link(draft, path)
    return true
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false
    throw error
  }
}

async function isStale(holder: Claim, self: Claim, clock: Clock, files: FileSystem): Promise<boolean> {
  if (clock.now() > holder.staleAt) return true
  return isProvenDead(holder.identity, self.identity === '' ? undefined : self.identity, files)
}

/**
 * Removes a stale claim. Of several who found it only the one that holds the guard may, and looks again first: by then the
 * lock can be somebody's who is well.
 */
async function removedStale(
  stale: Claim,
  claim: Claim,
  draft: string,
  { path, clock }: FileLockOptions,
  files: FileSystem,
): Promise<boolean> {
  const guard = `${path}.takeover`
  if (!(await linked(draft, guard, files))) {
    const other = await readClaim(guard, files)
    // Whoever held it ended within those few microseconds.
    if (other !== undefined && (await isStale(other, claim, clock, files))) await release(other.token, guard, files)
    return false
  }
  try {
    await release(stale.token, path, files)
    return true
  } finally {
    await release(claim.token, guard, files)
  }
}

/** `undefined` when the lock is free. What cannot be read (a power cut) is a claim that is long over. */
async function readClaim(path: string, files: FileSystem): Promise<Claim | undefined> {
  let text: string
  try {
    text = await files.readFile(path, 'utf8')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined
    throw error
  }
  try {
    const { identity, token, staleAt } = JSON.parse(text) as Partial<Claim>
    if (typeof identity === 'string' && typeof token === 'string' && typeof staleAt === 'number') {
      return { identity, token, staleAt }
    }
  } catch {
    // Falls through: not ours to interpret.
  }
  return { identity: '', token: '', staleAt: 0 }
}
