/**
 * Options of `haproxyDeployer`.
 *
 * @module
 */
import { basename } from 'node:path'
import { ownerOption, type FileOwner } from '../internal/file-owner.js'
import { systemFiles, type FileSystem } from '../internal/file-system.js'
import {
  assertDuration,
  assertNumber,
  assertOneOf,
  assertOptions,
  assertPath,
  assertText,
} from '../internal/options.js'
import { assertExtraPem, type PemPart } from '../internal/pem-layout.js'
import { commandOption, type Command } from '../internal/run-command.js'
import { haproxyName } from './haproxy-runtime.js'

/** Options of `haproxyDeployer`. At least one of `runtimeSocket`, `masterSocket` and `reloadCommand` is needed. */
export interface HaproxyDeployerOptions {
  /**
   * Absolute path of the PEM file that HAProxy's `crt` names, or that is in its `crt` directory: certificate, chain and key.
   */
  readonly pemPath: string
  /** The `stats socket` with `level admin`. Certificates are then changed without a reload. HAProxy 2.2 or newer. */
  readonly runtimeSocket?: string | undefined
  /** The master's socket (`haproxy -W -S <path>`). HAProxy is reloaded where the runtime API cannot do it. */
  readonly masterSocket?: string | undefined
  /**
   * Program that reloads HAProxy, instead of `masterSocket`: `['/usr/bin/systemctl', 'reload', 'haproxy']`. No shell reads it;
   * exit code 0 means that HAProxy has taken the new files.
   */
  readonly reloadCommand?: Command | undefined
  /**
   * Path of a crt-list, or of a `crt` directory, as HAProxy's configuration names it. A certificate that HAProxy does not
   * know yet is added to it, in the running process and in the file.
   *
   * @defaultValue none: HAProxy must know the certificate already
   */
  readonly crtList?: string | undefined
  /** Order in the file; HAProxy takes both. @defaultValue `'certificate-first'` */
  readonly order?: 'certificate-first' | 'key-first' | undefined
  /** Permission bits of the file. @defaultValue 0o600 */
  readonly mode?: number | undefined
  /** Numeric user and group id of the file; needs the right to change owners. @defaultValue those of the process */
  readonly owner?: FileOwner | undefined
  /**
   * The name `show ssl cert` lists the file under, when HAProxy sees it under another path (a container's mount). Letters,
   * digits and `_ . / @ -`.
   *
   * @defaultValue `pemPath`
   */
  readonly storageName?: string | undefined
  /** DH parameters (PEM) to add at the end of the file. @defaultValue none */
  readonly dhParams?: string | undefined
  /**
   * Limit for each step: one command on a socket, one reload, waiting for somebody else's change. Milliseconds.
   *
   * @defaultValue 15_000
   */
  readonly timeoutMs?: number | undefined
  /**
   * Lock file by which all deployers of one HAProxy take turns, in all processes. Set it when the socket's directory is not
   * writable, or when there are several sockets of one HAProxy; a note of the open change is kept beside it.
   *
   * @defaultValue `.<socket>.evercert-lock` beside the socket
   */
  readonly lockPath?: string | undefined
  /** @defaultValue `haproxy:` and `pemPath` */
  readonly name?: string | undefined
  /** For tests. @defaultValue `node:fs/promises` */
  readonly files?: FileSystem | undefined
}

const optionNames = [
  'pemPath',
  'runtimeSocket',
  'masterSocket',
  'reloadCommand',
  'crtList',
  'order',
  'mode',
  'owner',
  'storageName',
  'dhParams',
  'timeoutMs',
  'lockPath',
  'name',
  'files',
]

/** {@link HaproxyDeployerOptions}, checked and complete. */
export interface HaproxySettings {
  readonly pemPath: string
  readonly runtimeSocket: string | undefined
  readonly masterSocket: string | undefined
  readonly reloadCommand: Command | undefined
  readonly crtList: string | undefined
  readonly mode: number
  readonly owner: FileOwner | undefined
  readonly storageName: string
  /** What the file holds, in order. */
  readonly content: readonly PemPart[]
  readonly timeoutMs: number
  readonly lockPath: string | undefined
  readonly name: string
  readonly files: FileSystem
}

/** Checks and copies the options. @throws `TypeError` that names the option */
export function checkHaproxyOptions(options: HaproxyDeployerOptions): HaproxySettings {
  assertOptions(options, optionNames, 'haproxyDeployer')
  const { pemPath, runtimeSocket, masterSocket, reloadCommand, crtList, owner, dhParams, lockPath } = options
  const { order = 'certificate-first', mode = 0o600, timeoutMs = 15_000, files = systemFiles } = options
  assertPath(pemPath, 'pemPath')
  const { storageName = pemPath, name = `haproxy:${pemPath}` } = options
  if (basename(pemPath).startsWith('.') || pemPath.endsWith('/')) {
    throw new TypeError('"pemPath" option must be a file name; one with a leading dot is ignored by HAProxy')
  }
  for (const [option, path] of Object.entries({ runtimeSocket, masterSocket, crtList, lockPath })) {
    if (path !== undefined) assertPath(path, option)
  }
  for (const [option, text] of Object.entries({ storageName, crtList })) {
    if (text !== undefined && !(typeof text === 'string' && haproxyName.test(text))) {
      throw new TypeError(
        `"${option}" option must consist of letters, digits and _ . / @ -, got ${JSON.stringify(text)}`,
      )
    }
  }
  if (runtimeSocket === undefined && masterSocket === undefined && reloadCommand === undefined) {
    throw new TypeError('haproxyDeployer needs one of the options "runtimeSocket", "masterSocket", "reloadCommand"')
  }
  if (masterSocket !== undefined && reloadCommand !== undefined) {
    throw new TypeError('the options "masterSocket" and "reloadCommand" exclude each other')
  }
  assertOneOf(order, 'order', ['certificate-first', 'key-first'])
  assertNumber(mode, 'mode', { min: 0o400, max: 0o770, integer: true })
  if ((mode & 0o007) !== 0) throw new TypeError('"mode" option would open the key to everybody')
  if (dhParams !== undefined) assertExtraPem(dhParams, 'dhParams')
  assertDuration(timeoutMs, 'timeoutMs')
  assertText(name, 'name')
  const pair: readonly PemPart[] = order === 'key-first' ? ['key', 'fullchain'] : ['fullchain', 'key']
  return {
    pemPath,
    runtimeSocket,
    masterSocket,
    reloadCommand: reloadCommand && commandOption(reloadCommand, 'reloadCommand'),
    crtList,
    mode,
    owner: ownerOption(owner),
    storageName,
    content: dhParams === undefined ? pair : [...pair, { pem: dhParams }],
    timeoutMs,
    lockPath,
    name,
    files,
  }
}
