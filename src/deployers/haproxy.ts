/**
 * A deployer for HAProxy: the PEM file first, then the running process, without a reload.
 *
 * Published as `evercert/deployers/haproxy`.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import type { CertificateBundle } from '../core/certificate-bundle.js'
import type { OperationContext } from '../core/context.js'
import { parsePem } from '../core/pem.js'
import { DeployError } from '../errors.js'
import { errorCode } from '../internal/atomic-file.js'
import { deployFailure } from '../internal/deploy-failure.js'
import { withFileLock } from '../internal/file-lock.js'
import { owedAction } from '../internal/owed-action.js'
import { checkedLeaf, renderPem } from '../internal/pem-layout.js'
import { removeLeftovers, replaceFile, type Replacement } from '../internal/replace-file.js'
import { describeFailure, runCommand } from '../internal/run-command.js'
import type { Deployer } from './deployer.js'
import {
  changeCertificate,
  isServed,
  waitForTurn,
  type HaproxyChange,
  type WantedCertificate,
} from './haproxy-change.js'
import { addToListFile, isListed } from './haproxy-crt-list.js'
import { reloadByMaster } from './haproxy-master.js'
import { checkHaproxyOptions, type HaproxyDeployerOptions } from './haproxy-options.js'
import { haproxyRuntime, nobodyListens, setCommandBytes, type HaproxyRuntime } from './haproxy-runtime.js'

export type { HaproxyDeployerOptions } from './haproxy-options.js'
export type { FileOwner } from '../internal/file-owner.js'
export type { Command } from '../internal/run-command.js'

/**
 * A deployer that replaces HAProxy's certificate while it serves: no reload, no connection lost.
 *
 * The file is written first, so that a restart keeps the certificate. Then HAProxy is given it through the runtime API, and
 * what HAProxy then reports is compared. Where HAProxy refuses, the change is aborted and the previous file put back. One
 * change is made at a time, and a change that another program has open is waited for, never touched.
 *
 * @example
 *
 * ```ts
 * import { haproxyDeployer } from 'evercert/deployers/haproxy'
 *
 * const deployer = haproxyDeployer({
 *   pemPath: '/etc/haproxy/certs/www.pem',
 *   runtimeSocket: '/run/haproxy/admin.sock',
 *   masterSocket: '/run/haproxy-master.sock', // only needed for what the runtime API cannot do
 * })
 * ```
 *
 * @remarks
 * When HAProxy is not running the file is in place for its start, and the deployment rejects all the same: nobody serves the
 * certificate yet. HAProxy takes no command larger than its `tune.bufsize` (16 kB): it would crash. evercert asks for the
 * size, and reloads instead, or refuses.
 *
 * Rejects with `ERR_DEPLOY_REJECTED` when HAProxy, or the file system, refuses; `ERR_DEPLOY_UNAVAILABLE` when HAProxy is
 * away, silent, or busy with somebody else's change; `ERR_DEPLOY_VERIFY_FAILED` when it reports another certificate than it
 * was given; `ERR_CERT_KEY_MISMATCH` when the pair is none.
 *
 * @param options - See {@link HaproxyDeployerOptions}. Validated and copied; later changes have no effect.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 *
 * @see {@link https://docs.haproxy.org/2.6/management.html#9.3 | HAProxy management guide, section 9.3}
 */
export function haproxyDeployer(options: HaproxyDeployerOptions): Deployer {
  const settings = checkHaproxyOptions(options)
  const { pemPath, storageName, runtimeSocket, masterSocket, reloadCommand, crtList, name, timeoutMs, files } = settings
  const canReload = masterSocket !== undefined || reloadCommand !== undefined
  const reloadOwed = owedAction(pemPath, 'reload', files)

  function wantedOf(bundle: CertificateBundle): WantedCertificate {
    const leaf = checkedLeaf(bundle)
    return {
      storageName,
      pem: renderPem(bundle, settings.content),
      fingerprintSha1: createHash('sha1').update(leaf.raw).digest('hex'),
      chainLength: parsePem(bundle.chainPem).length,
      crtList,
    }
  }

  function runtimeFor({ clock }: OperationContext, signal: AbortSignal): HaproxyRuntime | undefined {
    if (runtimeSocket === undefined) return undefined
    return haproxyRuntime({ socket: runtimeSocket, deployer: name, clock, signal, timeoutMs })
  }

  /** Whether both the file and HAProxy have it already. Pure reading. */
  async function isDone(wanted: WantedCertificate, runtime: HaproxyRuntime | undefined): Promise<boolean> {
    if ((await fileState(wanted.pem)) !== 'current' || (await reloadOwed.isOwed())) return false
    if (crtList !== undefined && !(await isListed(crtList, storageName, files))) return false
    return runtime === undefined || isServed(await runtime.show(storageName), wanted)
  }

  async function fileState(pem: string): Promise<'absent' | 'stale' | 'current'> {
    const { owner, mode } = settings
    try {
      const [text, stat] = await Promise.all([files.readFile(pemPath, 'utf8'), files.stat(pemPath)])
      const sameOwner = owner === undefined || (stat.uid === owner.uid && stat.gid === owner.gid)
      return text === pem && (stat.mode & 0o777) === mode && sameOwner ? 'current' : 'stale'
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return 'absent'
      throw error
    }
  }

  async function bring(
    wanted: WantedCertificate,
    lockPath: string,
    context: OperationContext,
  ): Promise<'runtime' | 'reload'> {
    await removeLeftovers(pemPath, files)
    const route = await chooseRoute(wanted, context)
    if (route.kind === 'refused') {
      // HAProxy does not use the file now; it is in place for the moment it does.
      if (route.writeFile) await (await putFile(wanted.pem)).keep()
      throw route.error
    }
    if (route.kind === 'reload') {
      await bringByReload(wanted, context)
      return 'reload'
    }
    const steadfast = runtimeFor(context, new AbortController().signal) ?? route.runtime
    const notePath = `${lockPath}.open`
    const { runtime } = route
    const change: HaproxyChange = { deployer: name, wanted, context, notePath, files, timeoutMs, runtime, steadfast }
    await waitForTurn(change)
    context.signal.throwIfAborted()
    await withFile(wanted.pem, context, async () => {
      await changeCertificate(change)
      if (crtList !== undefined && !(await isListed(crtList, storageName, files))) {
        await addToListFile(crtList, storageName, files)
      }
    })
    await reloadOwed.settle()
    return 'runtime'
  }

  /** What HAProxy can do is found out before anything is changed. */
  async function chooseRoute(wanted: WantedCertificate, context: OperationContext): Promise<Route> {
    const runtime = runtimeFor(context, context.signal)
    if (runtime === undefined) return { kind: 'reload' }
    const instead = (error: DeployError, writeFile: boolean): Route => {
      if (!canReload) return { kind: 'refused', error, writeFile }
      context.logger.info('haproxy is reloaded instead', { deployer: name, because: error.message })
      return { kind: 'reload' }
    }
    try {
      const [limit, loaded] = [await runtime.commandLimit(), await runtime.show(storageName)]
      if (loaded === undefined && crtList === undefined) {
        const hint = 'name it on a "bind" line and reload once, or set the option "crtList"'
        return instead(rejected(`HAProxy does not know a certificate ${storageName}; ${hint}`), true)
      }
      const bytes = setCommandBytes(storageName, wanted.pem)
      if (bytes <= limit) return { kind: 'runtime', runtime }
      const hint = 'raise tune.bufsize, or set "masterSocket" or "reloadCommand"'
      return instead(
        rejected(`${String(bytes)} bytes do not fit into HAProxy's buffer (${String(limit)}); ${hint}`),
        false,
      )
    } catch (error) {
      if (error instanceof DeployError) return instead(error, nobodyListens(error))
      throw error
    }
  }

  async function bringByReload(wanted: WantedCertificate, context: OperationContext): Promise<void> {
    context.signal.throwIfAborted()
    await reloadOwed.owe()
    await withFile(wanted.pem, context, async () => {
      if (crtList !== undefined && !(await isListed(crtList, storageName, files))) {
        await addToListFile(crtList, storageName, files)
      }
      await reload(context)
      await waitUntilServed(wanted, context)
    })
    await reloadOwed.settle()
  }

  /** A reload goes on after the command that asked for it has ended; where HAProxy can be asked, it is. */
  async function waitUntilServed(wanted: WantedCertificate, context: OperationContext): Promise<void> {
    const { clock, signal } = context
    const runtime = runtimeFor(context, signal)
    const giveUpAt = clock.now() + timeoutMs
    for (;;) {
      const served = await runtime?.show(storageName).catch((error: unknown) => {
        if (!(error instanceof DeployError) || clock.now() >= giveUpAt) throw error
        return undefined
      })
      if (runtime === undefined || isServed(served, wanted)) return
      if (clock.now() >= giveUpAt) {
        throw new DeployError({
          code: 'ERR_DEPLOY_VERIFY_FAILED',
          message: `${name}: HAProxy was reloaded, and does not serve the new certificate under ${storageName}`,
          deployer: name,
        })
      }
      await clock.sleep(pollMs, { signal })
    }
  }

  async function reload({ clock, signal }: OperationContext): Promise<void> {
    if (masterSocket !== undefined)
      return reloadByMaster({ socket: masterSocket, deployer: name, clock, signal, timeoutMs })
    if (reloadCommand === undefined) return
    const result = await runCommand({ command: reloadCommand, timeoutMs }, { clock, signal })
    const failure = describeFailure(reloadCommand, result, timeoutMs)
    if (failure !== undefined) {
      throw new DeployError({ code: 'ERR_DEPLOY_UNAVAILABLE', message: `${name}: ${failure}`, deployer: name })
    }
  }

  /** Runs with the new file in place, and puts the previous one back when that fails. */
  async function withFile(pem: string, context: OperationContext, run: () => Promise<void>): Promise<void> {
    const previous = await fileState(pem)
    const file = previous === 'current' ? undefined : await putFile(pem)
    try {
      await run()
    } catch (error) {
      // Without a previous file there is nothing to go back to, and an HAProxy that is down needs this one to start.
      const keep = previous === 'absent' && error instanceof DeployError && error.code === 'ERR_DEPLOY_UNAVAILABLE'
      try {
        await (keep ? file?.keep() : file?.undo())
        if (file !== undefined && !keep) await reloadOwed.settle()
      } catch (failure) {
        context.logger.error('previous haproxy file could not be put back', { path: pemPath, error: failure })
      }
      throw error
    }
    await file?.keep()
  }

  function putFile(pem: string): Promise<Replacement> {
    return replaceFile(pemPath, pem, { mode: settings.mode, owner: settings.owner, files })
  }

  /** Beside the socket, which every deployer of this HAProxy has in common; HAProxy's directory may not exist yet. */
  async function findLock(): Promise<string> {
    if (settings.lockPath !== undefined) return settings.lockPath
    const beside = join(dirname(pemPath), '.haproxy.evercert-lock')
    const socket = runtimeSocket ?? masterSocket
    if (socket === undefined) return beside
    try {
      const directory = await files.realpath(dirname(socket))
      return join(directory, `.${basename(socket)}.evercert-lock`)
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return beside
      throw error
    }
  }

  const rejected = (why: string): DeployError =>
    new DeployError({ code: 'ERR_DEPLOY_REJECTED', message: `${name}: ${why}`, deployer: name })

  return {
    name,
    scope: 'node',
    exclusive: true,
    async deploy(bundle, context) {
      const { clock, signal } = context
      signal.throwIfAborted()
      const wanted = wantedOf(bundle)
      const runtime = runtimeFor(context, signal)
      try {
        const done = await isDone(wanted, runtime).catch((error: unknown) => {
          // Whoever is away, or cannot be asked, is dealt with below, where something can be done about it.
          if (error instanceof DeployError) return 'unknown'
          throw error
        })
        if (done === true) return { status: 'unchanged' }
        const path = await findLock()
        const lock = {
          path,
          clock,
          signal,
          files,
          waitMs: 2 * timeoutMs,
          staleMs: 20 * timeoutMs,
          onUnusable: (cause: unknown) =>
            deployFailure(name, `take the lock file ${path} (option "lockPath")`, cause, signal),
          onBusy: () =>
            new DeployError({
              code: 'ERR_DEPLOY_UNAVAILABLE',
              message: `${name}: another deployment to this HAProxy holds ${path}`,
              deployer: name,
            }),
        }
        return await withFileLock(lock, async () => {
          // Somebody else may have done it while this one waited.
          if (done === false && (await isDone(wanted, runtime))) return { status: 'unchanged' }
          return { status: 'deployed', details: { by: await bring(wanted, path, context) } }
        })
      } catch (error) {
        throw deployFailure(name, `write ${pemPath}`, error, signal)
      }
    },
    async inspect(bundle, context) {
      context.signal.throwIfAborted()
      const wanted = wantedOf(bundle)
      try {
        const file = await fileState(wanted.pem)
        if (file === 'absent') return 'absent'
        return (await isDone(wanted, runtimeFor(context, context.signal))) ? 'current' : 'stale'
      } catch (error) {
        throw deployFailure(name, `read ${pemPath}`, error, context.signal)
      }
    },
  }
}

const pollMs = 50

type Route =
  | { readonly kind: 'runtime'; readonly runtime: HaproxyRuntime }
  | { readonly kind: 'reload' }
  | { readonly kind: 'refused'; readonly error: DeployError; readonly writeFile: boolean }
