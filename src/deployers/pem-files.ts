/**
 * A deployer that writes PEM files, in whatever layout their reader expects.
 *
 * Published as `evercert/deployers/pem-files`.
 *
 * @module
 */
import { basename, dirname, join } from 'node:path'
import type { CertificateBundle } from '../core/certificate-bundle.js'
import type { OperationContext } from '../core/context.js'
import { keyAlgorithms, type KeyAlgorithm } from '../core/private-key.js'
import { DeployError } from '../errors.js'
import { errorCode, writeFileAtomic } from '../internal/atomic-file.js'
import { withDeadline } from '../internal/deadline.js'
import { deployFailure } from '../internal/deploy-failure.js'
import { withFileLock } from '../internal/file-lock.js'
import { ownerOption, type FileOwner } from '../internal/file-owner.js'
import { systemFiles, type FileSystem } from '../internal/file-system.js'
import {
  assertArray,
  assertDuration,
  assertNumber,
  assertOneOf,
  assertOptions,
  assertPath,
  assertText,
} from '../internal/options.js'
import { owedAction, type OwedAction } from '../internal/owed-action.js'
import { checkedLeaf } from '../internal/pem-layout.js'
import { removeLeftovers } from '../internal/replace-file.js'
import {
  commandOptions,
  defaultCommandTimeoutMs,
  describeFailure,
  runCommand,
  type CommandOptions,
} from '../internal/run-command.js'
import { readLink, removeOldVersions, switchVersion, type VersionedDirectory } from '../internal/versioned-directory.js'
import type { Deployer, DeploymentState } from './deployer.js'
import { contentHoldsKey, contentHoldsTrust, contentOption, renderContent } from './pem-file-content.js'
import type { PemFile, PemLayout } from './pem-layouts.js'

export { mesosTls, type MesosTlsOptions } from './mesos-tls.js'
export type { PemFilePart, TextPart, TrustBundlePart } from './pem-file-content.js'
export { acmetoolLive, certbotLive, haproxyPem, nginxPem } from './pem-layouts.js'
export type { PemFile, PemLayout, PemPart } from './pem-layouts.js'
export type { FileOwner } from '../internal/file-owner.js'
export type { CommandOptions } from '../internal/run-command.js'

/** Options of {@link pemFilesDeployer}: a {@link PemLayout} and what concerns its files. */
export interface PemFilesDeployerOptions extends PemLayout {
  /**
   * One file, or several files of one directory. What belongs together should be one file, or one directory.
   */
  readonly files: readonly PemFile[]
  /** Numeric user and group id of the files; needs the right to change owners. @defaultValue those of the process */
  readonly owner?: FileOwner | undefined
  /**
   * What makes the reader load the files: a program or a function. Runs only after a change; when it fails, or the process
   * ends before it succeeded, it runs again at the next deployment although the files are current.
   *
   * @defaultValue nothing
   */
  readonly afterwards?: CommandOptions | ((context: OperationContext) => void | Promise<void>) | undefined
  /**
   * Limit for the function `afterwards`, and for waiting until another deployment to the same files is done. Milliseconds.
   *
   * @defaultValue 60_000 (one minute)
   */
  readonly timeoutMs?: number | undefined
  /** @defaultValue `pem-files:` and the path */
  readonly name?: string | undefined
  /** For tests. @defaultValue `node:fs/promises` */
  readonly fileSystem?: FileSystem | undefined
}

/**
 * A deployer that writes PEM files, each deployment as one step for their readers.
 *
 * A single file is replaced by rename. Several files are a directory: each deployment makes a new one, and a symbolic link
 * at the path readers know is switched to it. No reader ever finds a new certificate beside an old key, and a power cut or
 * a kill at any point leaves the old pair or the new one.
 *
 * @example
 *
 * ```ts
 * import { pemFilesDeployer } from 'evercert/deployers/pem-files'
 *
 * const deployer = pemFilesDeployer({
 *   files: [
 *     { path: '/etc/mesos/tls/localhost.pem', content: ['fullchain'] },
 *     { path: '/etc/mesos/tls/localhost-key.pem', content: ['key'], mode: 0o640 },
 *   ],
 *   owner: { uid: 0, gid: 998 },
 *   afterwards: { command: ['/usr/bin/systemctl', 'restart', 'mesos-slave'] },
 * })
 * ```
 *
 * @remarks
 * With several files the directory itself becomes a symbolic link: one that exists already is not replaced, but refused.
 * Only evercert's own versions are removed, and the one before the current one is kept. A program that opens the files one
 * by one at the very moment of the switch may get one of each; a reload afterwards is what cures that.
 *
 * Rejects with `ERR_DEPLOY_REJECTED` when a directory is missing or may not be written, `ERR_DEPLOY_UNAVAILABLE` when the
 * disk is full, another deployment goes on for too long, or `afterwards` failed, `ERR_CERT_KEY_MISMATCH` when the pair is
 * none.
 *
 * @param options - See {@link PemFilesDeployerOptions}. Validated and copied; later changes have no effect.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 */
export function pemFilesDeployer(options: PemFilesDeployerOptions): Deployer {
  const { target, layout, accepted, owner, afterwards, timeoutMs, name, files } = checkOptions(options)
  const owed = afterwards === undefined ? undefined : owedAction(target, 'afterwards', files)
  const place = layout.length === 1 ? singleFile() : directoryOfFiles()
  const holdsTrust = layout.some(({ content }) => contentHoldsTrust(content))

  /** What readers can see. Pure reading. */
  async function stateOf(wanted: readonly WantedFile[]): Promise<DeploymentState> {
    const states = await Promise.all(wanted.map((file) => stateOfFile(file, owner, files)))
    if (states.every((state) => state === 'current')) return 'current'
    return states.every((state) => state === 'absent') ? 'absent' : 'stale'
  }

  async function isDone(wanted: readonly WantedFile[]): Promise<boolean> {
    return (await stateOf(wanted)) === 'current' && (await owed?.isOwed()) !== true
  }

  /** The files as they should be. */
  async function render(bundle: CertificateBundle, context: OperationContext): Promise<readonly WantedFile[]> {
    const renderAll = (signal: AbortSignal): Promise<WantedFile[]> =>
      Promise.all(
        layout.map(async (file) => ({
          ...file,
          text: await renderContent(bundle, file.content, { ...context, signal }),
        })),
      )
    const { clock, signal } = context
    if (!holdsTrust) return renderAll(signal)
    const onTimeout = (): Error => failed(`the trust bundle was not there within ${String(timeoutMs)} ms`)
    return withDeadline({ clock, signal, ms: timeoutMs, onTimeout }, renderAll)
  }

  function assertUsable({ name: certificate, privateKey }: CertificateBundle): void {
    if (accepted.includes(privateKey.algorithm)) return
    throw new DeployError({
      code: 'ERR_DEPLOY_REJECTED',
      message: `${name}: whoever reads ${target} cannot use a key of type ${privateKey.algorithm}; set "key" of certificate ${certificate} to one of ${accepted.join(', ')}`,
      deployer: name,
    })
  }

  function singleFile(): Place {
    return {
      async put([file]) {
        await removeLeftovers(target, files)
        if (file !== undefined) await writeFileAtomic(target, file.text, { mode: file.mode, owner, files })
      },
    }
  }

  function directoryOfFiles(): Place {
    const versions = options.versions ?? join(dirname(target), `.${basename(target)}.versions`)
    const directory: VersionedDirectory = { link: target, versions, owner, files }
    return {
      async put(wanted, bundle) {
        const previous = await readLink(directory)
        if (previous.kind === 'other') {
          throw new DeployError({
            code: 'ERR_DEPLOY_REJECTED',
            message: `${name}: ${target} is a directory or a file, and evercert has to make a symbolic link there; move it away once`,
            deployer: name,
          })
        }
        await removeLeftovers(target, files).catch(ignoreAbsent)
        await switchVersion(directory, bundle.fingerprintSha256.slice(0, 16), wanted)
        await removeOldVersions(directory, previous.kind === 'link' ? previous.target : undefined)
      },
    }
  }

  async function runAfterwards(
    bundle: CertificateBundle,
    context: OperationContext,
    action: OwedAction,
  ): Promise<void> {
    const { clock, signal } = context
    if (typeof afterwards === 'function') {
      const onTimeout = (): Error => failed(`"afterwards" did not end within ${String(timeoutMs)} ms`)
      await withDeadline({ clock, signal, ms: timeoutMs, onTimeout }, async (inner) => {
        await afterwards({ ...context, signal: inner })
      })
    } else if (afterwards !== undefined) {
      const env = { EVERCERT_NAME: bundle.name, EVERCERT_FINGERPRINT_SHA256: bundle.fingerprintSha256 }
      const result = await runCommand(afterwards, { clock, signal, env })
      const failure = describeFailure(afterwards.command, result, afterwards.timeoutMs ?? defaultCommandTimeoutMs)
      if (failure !== undefined) throw failed(`the files are in place, but ${failure}`)
    }
    await action.settle()
  }

  function failed(why: string): DeployError {
    return new DeployError({ code: 'ERR_DEPLOY_UNAVAILABLE', message: `${name}: ${why}`, deployer: name })
  }

  return {
    name,
    scope: 'node',
    exclusive: true,
    // The roots to trust change without the certificate: a CA rolls over.
    everyPass: holdsTrust,
    async deploy(bundle, context) {
      const { clock, signal } = context
      signal.throwIfAborted()
      checkedLeaf(bundle)
      assertUsable(bundle)
      try {
        const wanted = await render(bundle, context)
        if (await isDone(wanted)) return { status: 'unchanged' }
        const lock = {
          path: join(dirname(target), `.${basename(target)}.lock`),
          clock,
          signal,
          files,
          waitMs: timeoutMs,
          staleMs: 10 * timeoutMs,
          onUnusable: (cause: unknown) => deployFailure(name, `write into ${dirname(target)}`, cause, signal),
          onBusy: () => failed(`another deployment to ${target} has not ended within ${String(timeoutMs)} ms`),
        }
        if (layout.length > 1) await files.mkdir(dirname(target), { recursive: true, mode: 0o755 })
        return await withFileLock(lock, async () => {
          if (await isDone(wanted)) return { status: 'unchanged' }
          signal.throwIfAborted()
          if ((await stateOf(wanted)) !== 'current') {
            // First the note, then the change: whatever ends this process in between, the reader will be told.
            await owed?.owe()
            await place.put(wanted, bundle)
          }
          if (owed !== undefined) await runAfterwards(bundle, context, owed)
          return { status: 'deployed' }
        })
      } catch (error) {
        throw deployFailure(name, `write ${target}`, error, signal)
      }
    },
    async inspect(bundle, context) {
      const { signal } = context
      signal.throwIfAborted()
      try {
        const state = await stateOf(await render(bundle, context))
        return state === 'current' && (await owed?.isOwed()) === true ? 'stale' : state
      } catch (error) {
        throw deployFailure(name, `read ${target}`, error, signal)
      }
    },
  }
}

/** A file of the layout, ready to be written. */
interface WantedFile {
  readonly path: string
  /** Within its directory. */
  readonly name: string
  readonly mode: number
  readonly text: string
}

interface Place {
  put(wanted: readonly WantedFile[], bundle: CertificateBundle): Promise<void>
}

async function stateOfFile(
  { path, text, mode }: WantedFile,
  owner: FileOwner | undefined,
  files: FileSystem,
): Promise<DeploymentState> {
  try {
    const stat = await files.stat(path)
    if ((stat.mode & 0o777) !== mode) return 'stale'
    if (owner !== undefined && (stat.uid !== owner.uid || stat.gid !== owner.gid)) return 'stale'
    return (await files.readFile(path, 'utf8')) === text ? 'current' : 'stale'
  } catch (error) {
    const code = errorCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return 'absent'
    throw error
  }
}

function checkOptions(options: PemFilesDeployerOptions) {
  const known = ['files', 'versions', 'keyAlgorithms', 'owner', 'afterwards', 'timeoutMs', 'name', 'fileSystem']
  assertOptions(options, known, 'pemFilesDeployer')
  const { versions, owner, timeoutMs = defaultCommandTimeoutMs, fileSystem = systemFiles } = options
  const layout = checkFiles(options.files)
  const [first] = layout
  if (first === undefined) throw new TypeError('"files" option must name at least one file')
  const target = layout.length === 1 ? first.path : dirname(first.path)
  if (layout.length > 1 && layout.some(({ path }) => dirname(path) !== target)) {
    throw new TypeError('"files" option: several files must be in one directory, which is switched as a whole')
  }
  if (versions !== undefined) assertPath(versions, 'versions')
  assertDuration(timeoutMs, 'timeoutMs')
  const name = options.name ?? `pem-files:${target}`
  assertText(name, 'name')
  const { afterwards } = options
  return {
    target,
    layout,
    accepted: keyAlgorithmsOption(options.keyAlgorithms),
    owner: ownerOption(owner),
    afterwards: typeof afterwards === 'object' ? commandOptions(afterwards, 'afterwards') : checkFunction(afterwards),
    timeoutMs,
    name,
    files: fileSystem,
  }
}

function checkFiles(value: readonly PemFile[]): readonly (Required<PemFile> & { name: string; mode: number })[] {
  if (!Array.isArray(value)) throw new TypeError('"files" option must be a list of files')
  const seen = new Set<string>()
  return value.map((file: PemFile) => {
    assertOptions(file, ['path', 'content', 'mode'], '"files" option')
    assertPath(file.path, 'files.path')
    if (file.path.endsWith('/') || seen.has(file.path)) {
      throw new TypeError(`"files" option: ${file.path} is named twice, or is no file name`)
    }
    seen.add(file.path)
    const content = contentOption(file.content)
    const mode = file.mode ?? (contentHoldsKey(content) ? 0o600 : 0o644)
    assertNumber(mode, 'files.mode', { min: 0o400, max: 0o777, integer: true })
    if (contentHoldsKey(content) && (mode & 0o007) !== 0) {
      throw new TypeError(
        `"files" option: ${file.path} holds the key and would be open to everybody (mode ${mode.toString(8)})`,
      )
    }
    return { path: file.path, name: basename(file.path), content, mode }
  })
}

function keyAlgorithmsOption(value: PemLayout['keyAlgorithms']): readonly KeyAlgorithm[] {
  if (value === undefined) return keyAlgorithms
  assertArray(value, 'keyAlgorithms')
  for (const algorithm of value) assertOneOf(algorithm, 'keyAlgorithms', keyAlgorithms)
  return [...value]
}

function checkFunction<Value>(value: Value): Value {
  if (value !== undefined && typeof value !== 'function') {
    throw new TypeError('"afterwards" option must be a function, or an object with a command')
  }
  return value
}

function ignoreAbsent(error: unknown): void {
  if (errorCode(error) !== 'ENOENT') throw error
}
