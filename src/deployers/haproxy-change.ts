/**
 * One certificate changed in a running HAProxy, from the open transaction to the proof, and the way back.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { DeployError } from '../errors.js'
import { errorCode, writeFileAtomic } from '../internal/atomic-file.js'
import type { FileSystem } from '../internal/file-system.js'
import type { HaproxyRuntime, LoadedCertificate } from './haproxy-runtime.js'

const pollMs = 50

/** What HAProxy is to hold under a name. */
export interface WantedCertificate {
  /** The name `show ssl cert` lists it under. */
  readonly storageName: string
  readonly pem: string
  /** Of the leaf's DER, lower-case hex: HAProxy reports no other. */
  readonly fingerprintSha1: string
  readonly chainLength: number
  /** Where it is added when HAProxy does not use it yet. */
  readonly crtList: string | undefined
}

/** Parts of a change. */
export interface HaproxyChange {
  readonly deployer: string
  readonly wanted: WantedCertificate
  readonly context: OperationContext
  /** Where the note of the open transaction is kept. */
  readonly notePath: string
  readonly files: FileSystem
  /** How long to wait for others. */
  readonly timeoutMs: number
  /** Heeds the caller's signal. */
  readonly runtime: HaproxyRuntime
  /** Does not: what has been begun is brought to an end or taken back. */
  readonly steadfast: HaproxyRuntime
}

/** Whether HAProxy serves exactly this. */
export function isServed(loaded: LoadedCertificate | undefined, wanted: WantedCertificate): boolean {
  return holds(loaded, wanted) && loaded?.status === 'Used'
}

/**
 * Returns when no transaction is open. One that a killed evercert left behind is aborted: the note says which, and the
 * fingerprint proves it. One of anybody else is waited for, and never touched.
 *
 * @throws {@link DeployError} `ERR_DEPLOY_UNAVAILABLE` that names the transaction in the way.
 */
export async function waitForTurn(change: HaproxyChange): Promise<void> {
  const { runtime, context, deployer, timeoutMs } = change
  await abortLeftover(change)
  const giveUpAt = context.clock.now() + timeoutMs
  for (;;) {
    const { transaction } = await runtime.list()
    if (transaction === undefined) return
    if (context.clock.now() >= giveUpAt) {
      throw new DeployError({
        code: 'ERR_DEPLOY_UNAVAILABLE',
        message:
          `${deployer}: another program has an open change of ${printable(transaction)} in HAProxy and has not ended it ` +
          `within ${String(timeoutMs)} ms; if it is abandoned: "abort ssl cert ${printable(transaction)}" on the runtime socket`,
        deployer,
      })
    }
    await context.clock.sleep(pollMs, { signal: context.signal })
  }
}

/**
 * Puts the certificate into service and proves it by what HAProxy then reports. When that fails the transaction is
 * aborted and the certificate of before goes on being served.
 */
export async function changeCertificate(change: HaproxyChange): Promise<void> {
  const { steadfast, wanted } = change
  const { storageName, crtList } = wanted
  const before = await steadfast.show(storageName)
  if (before === undefined) await steadfast.create(storageName)
  if (!holds(before, wanted)) await swap(change)
  // A name that was new, or was left unused by a deployment that ended here.
  if (crtList !== undefined && (await steadfast.show(storageName))?.status !== 'Used') {
    await steadfast.addToList(crtList, storageName)
  }
  const after = await steadfast.show(storageName)
  if (!isServed(after, wanted)) throw verifyFailed(change, after)
}

/** HAProxy mixes up changes that overlap: another program's, begun in the middle of ours, costs one more attempt. */
async function swap(change: HaproxyChange): Promise<void> {
  const { deployer, wanted, context } = change
  if (isDisturbed(await attempt(change))) {
    context.logger.warn('haproxy certificate was mixed up with a change of another program', { deployer })
    const held = await attempt(change)
    if (isDisturbed(held)) throw verifyFailed(change, held.found)
  }
  context.logger.debug('haproxy certificate committed', { deployer, storageName: wanted.storageName })
}

/** What was found where our certificate should have been. */
interface Disturbed {
  readonly found: LoadedCertificate | undefined
}

function isDisturbed(outcome: Disturbed | 'done'): outcome is Disturbed {
  return outcome !== 'done'
}

async function attempt(change: HaproxyChange): Promise<Disturbed | 'done'> {
  const { steadfast, wanted, context } = change
  const { storageName } = wanted
  await open(change)
  try {
    // Commit only what is ours: "set" of another program may have gone into our transaction.
    const pending = await steadfast.show(storageName, 'pending')
    if (!holds(pending, wanted)) {
      await undo(change, 'opened')
      return { found: pending }
    }
    context.signal.throwIfAborted()
    await commit(change)
  } catch (error) {
    await undo(change, 'opened')
    throw error
  }
  await forget(change)
  const loaded = await steadfast.show(storageName)
  return holds(loaded, wanted) ? 'done' : { found: loaded }
}

/** Opens our transaction, noting it first: if this process is killed, the next one knows whose it is. */
async function open(change: HaproxyChange): Promise<void> {
  const { steadfast, wanted, context, deployer, notePath, files, timeoutMs } = change
  const { storageName, pem, fingerprintSha1 } = wanted
  const note: Note = { storageName, fingerprintSha1 }
  await writeFileAtomic(notePath, JSON.stringify(note), { mode: 0o600, files })
  const giveUpAt = context.clock.now() + timeoutMs
  try {
    for (;;) {
      const outcome = await steadfast.set(storageName, pem)
      if (outcome.kind === 'created') return
      if (outcome.kind === 'went-elsewhere') {
        // Somebody opened a transaction after we looked, and our certificate is in it now. Left alone, their commit would
        // serve it under their name; aborted, their commit fails and is tried again.
        await abortIfOurs(change, outcome.name)
        throw unavailable(deployer, `another program began a change of ${outcome.name} in HAProxy at the same moment`)
      }
      if (context.clock.now() >= giveUpAt) throw unavailable(deployer, 'HAProxy is committing other certificates')
      await context.clock.sleep(pollMs, { signal: context.signal })
    }
  } catch (error) {
    // Also when no reply came: the transaction may be open none the less.
    await undo(change, 'unknown')
    throw error
  }
}

async function commit(change: HaproxyChange): Promise<void> {
  const { steadfast, wanted, context, deployer, timeoutMs } = change
  const giveUpAt = context.clock.now() + timeoutMs
  for (;;) {
    let outcome: 'committed' | 'busy'
    try {
      outcome = await steadfast.commit(wanted.storageName)
    } catch (error) {
      // The reply may be lost although the commit was done.
      if (holds(await steadfast.show(wanted.storageName).catch(() => undefined), wanted)) return
      throw error
    }
    if (outcome === 'committed') return
    if (context.clock.now() >= giveUpAt) throw unavailable(deployer, 'HAProxy is committing other certificates')
    await context.clock.sleep(pollMs, { signal: context.signal })
  }
}

/** Aborts what we opened. What fails here is logged: the error that led here is the one to report. */
async function undo(change: HaproxyChange, transaction: 'opened' | 'unknown'): Promise<void> {
  const { wanted, context, steadfast } = change
  try {
    // One that we have opened is ours whatever is in it by now.
    const ours = transaction === 'opened' && (await steadfast.list()).transaction === wanted.storageName
    if (ours) await steadfast.abort(wanted.storageName)
    else await abortIfOurs(change, wanted.storageName)
    await forget(change)
  } catch (error) {
    // The note stays, so that the next deployment tries again.
    context.logger.warn('haproxy transaction could not be aborted', { storageName: wanted.storageName, error })
  }
}

async function abortLeftover(change: HaproxyChange): Promise<void> {
  const { context, notePath, files, runtime } = change
  const note = await readNote(notePath, files)
  if (note === undefined) return
  const { transaction } = await runtime.list()
  if (transaction === note.storageName) {
    const pending = await runtime.show(note.storageName, 'pending')
    if (pending?.fingerprintSha1 === note.fingerprintSha1) {
      context.logger.warn('haproxy transaction of an interrupted deployment aborted', { storageName: transaction })
      await runtime.abort(note.storageName)
    }
  }
  await forget(change)
}

async function abortIfOurs({ steadfast, wanted }: HaproxyChange, name: string): Promise<void> {
  const { transaction } = await steadfast.list()
  if (transaction !== name) return
  const pending = await steadfast.show(name, 'pending')
  if (pending?.fingerprintSha1 === wanted.fingerprintSha1) await steadfast.abort(name)
}

function forget({ notePath, files }: HaproxyChange): Promise<void> {
  return files.rm(notePath, { force: true })
}

/** Which transaction we are about to open. */
interface Note {
  readonly storageName: string
  readonly fingerprintSha1: string
}

async function readNote(path: string, files: FileSystem): Promise<Note | undefined> {
  let text: string
  try {
    text = await files.readFile(path, 'utf8')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined
    throw error
  }
  try {
    const { storageName, fingerprintSha1 } = JSON.parse(text) as Partial<Note>
    if (typeof storageName === 'string' && typeof fingerprintSha1 === 'string') return { storageName, fingerprintSha1 }
  } catch {
    // Not a note of ours; it proves nothing.
  }
  return { storageName: '', fingerprintSha1: '' }
}

function holds(loaded: LoadedCertificate | undefined, wanted: WantedCertificate): boolean {
  return loaded?.fingerprintSha1 === wanted.fingerprintSha1 && loaded.chainLength === wanted.chainLength
}

function verifyFailed({ deployer, wanted }: HaproxyChange, loaded: LoadedCertificate | undefined): DeployError {
  const found =
    loaded === undefined
      ? 'nothing'
      : `${loaded.fingerprintSha1 ?? 'no certificate'} with ${String(loaded.chainLength)} intermediates, "${loaded.status}"`
  return new DeployError({
    code: 'ERR_DEPLOY_VERIFY_FAILED',
    message:
      `${deployer}: HAProxy holds ${found} under ${wanted.storageName}; expected was ${wanted.fingerprintSha1} ` +
      `with ${String(wanted.chainLength)}, "Used"`,
    deployer,
  })
}

function unavailable(deployer: string, why: string): DeployError {
  return new DeployError({ code: 'ERR_DEPLOY_UNAVAILABLE', message: `${deployer}: ${why}`, deployer })
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 300)
}
