/**
 * Which PEM files other programs expect, and where: for `pemFilesDeployer`.
 *
 * @module
 */
import { join } from 'node:path'
import type { KeyAlgorithm } from '../core/private-key.js'
import { assertExtraPem, type PemPart } from '../internal/pem-layout.js'
import type { PemFilePart } from './pem-file-content.js'
import { assertOptions, assertPath, assertText } from '../internal/options.js'

export type { PemPart } from '../internal/pem-layout.js'

/** One file to write. */
export interface PemFile {
  /** Absolute. */
  readonly path: string
  /** What it holds, in this order. */
  readonly content: readonly PemFilePart[]
  /** Permission bits. @defaultValue 0o600 with the key, else 0o644 */
  readonly mode?: number | undefined
}

/**
 * What `pemFilesDeployer` writes: one file, or several files of one directory that is switched as a whole.
 */
export interface PemLayout {
  readonly files: readonly PemFile[]
  /**
   * Where the versions of the directory live, when there are several files. On the same file system.
   *
   * @defaultValue `.<directory>.versions` beside the directory
   */
  readonly versions?: string | undefined
  /** Keys that the reader can use: a certificate with another one is refused. @defaultValue every key */
  readonly keyAlgorithms?: readonly KeyAlgorithm[] | undefined
}

/**
 * nginx, Apache, Postfix and most others: `fullchain.pem` and `privkey.pem` in a directory.
 *
 * @example
 *
 * ```ts
 * import { nginxPem, pemFilesDeployer } from 'evercert/deployers/pem-files'
 *
 * const deployer = pemFilesDeployer({
 *   ...nginxPem({ directory: '/etc/nginx/tls/www' }),
 *   afterwards: { command: ['/usr/sbin/nginx', '-s', 'reload'] },
 * })
 * ```
 */
export function nginxPem(options: { readonly directory: string }): PemLayout {
  assertOptions(options, ['directory'], 'nginxPem')
  assertPath(options.directory, 'directory')
  return {
    files: [
      { path: join(options.directory, 'fullchain.pem'), content: ['fullchain'] },
      { path: join(options.directory, 'privkey.pem'), content: ['key'] },
    ],
  }
}

/**
 * HAProxy: certificate, chain, key, and DH parameters if given, in one file. `haproxyDeployer` also brings them into a
 * running HAProxy.
 */
export function haproxyPem(options: { readonly path: string; readonly dhParams?: string | undefined }): PemLayout {
  assertOptions(options, ['path', 'dhParams'], 'haproxyPem')
  const { path, dhParams } = options
  assertPath(path, 'path')
  if (dhParams !== undefined) assertExtraPem(dhParams, 'dhParams')
  return { files: [{ path, content: ['fullchain', 'key', ...(dhParams === undefined ? [] : [{ pem: dhParams }])] }] }
}

/**
 * The paths certbot's users have in their configurations: `<directory>/live/<name>/{cert,chain,fullchain,privkey}.pem`.
 *
 * certbot has four symbolic links there, changed one after the other; here `live/<name>` is one link, to a directory
 * below `archive/`. certbot itself must not be let loose on it.
 *
 * @param options - `directory` is `/etc/letsencrypt` at certbot.
 */
export function certbotLive(options: { readonly directory: string; readonly name: string }): PemLayout {
  assertOptions(options, ['directory', 'name'], 'certbotLive')
  const { directory, name } = options
  assertPath(directory, 'directory')
  assertDirectoryName(name, 'name')
  return layoutOf(join(directory, 'live', name), join(directory, 'archive'), {
    'cert.pem': ['certificate'],
    'chain.pem': ['chain'],
    'fullchain.pem': ['fullchain'],
    'privkey.pem': ['key'],
  })
}

/**
 * The paths acmetool's users have in their configurations: `<directory>/live/<host>/{cert,chain,fullchain,privkey}`,
 * where `live/<host>` is a link to `../certs/<id>`; with `haproxy`, also the file its HAProxy hook makes (key first).
 *
 * @param options - `directory` is `/var/lib/acme` at acmetool.
 * @see {@link https://github.com/hlandau/acmetool/blob/master/_doc/SCHEMA.md | acmetool's state directory}
 */
export function acmetoolLive(options: {
  readonly directory: string
  readonly host: string
  /** @defaultValue false */
  readonly haproxy?: boolean | undefined
}): PemLayout {
  assertOptions(options, ['directory', 'host', 'haproxy'], 'acmetoolLive')
  const { directory, host, haproxy = false } = options
  assertPath(directory, 'directory')
  assertDirectoryName(host, 'host')
  return layoutOf(join(directory, 'live', host), join(directory, 'certs'), {
    cert: ['certificate'],
    chain: ['chain'],
    fullchain: ['fullchain'],
    privkey: ['key'],
    ...(haproxy ? { haproxy: ['key', 'fullchain'] } : {}),
  })
}

function layoutOf(
  directory: string,
  versions: string,
  contents: Readonly<Record<string, readonly PemPart[]>>,
): PemLayout {
  const files = Object.entries(contents).map(([name, content]) => ({ path: join(directory, name), content }))
  return { files, versions }
}

function assertDirectoryName(value: unknown, option: string): void {
  assertText(value, option, 255)
  if (value.includes('/') || value === '.' || value === '..') {
    throw new TypeError(`"${option}" option must be the name of a directory, got ${JSON.stringify(value)}`)
  }
}
