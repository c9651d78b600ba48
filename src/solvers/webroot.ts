/**
 * http-01 challenges as files for a web server that already runs.
 *
 * Sub-path export `'evercert/solvers/webroot'`.
 *
 * @module
 */
import { constants } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { OperationContext } from '../core/context.js'
import { ChallengeError } from '../errors.js'
import { errorCode, isTemporaryName, temporaryName } from '../internal/atomic-file.js'
import { systemFiles, type FileSystem } from '../internal/file-system.js'
import { assertOptions, assertPath, assertText } from '../internal/options.js'
import type { ChallengeSolver, Http01Challenge } from './challenge-solver.js'
import { isChallengeToken } from './http-challenge.js'
import { parseZones } from './zones.js'

/** Options of {@link webrootSolver}: one of `directory` and `challengeDirectory`. */
export type WebrootSolverOptions = WebrootLocation & {
  /** DNS zones this solver is for. @defaultValue every name */
  readonly zones?: readonly string[] | undefined
  /** Needed when several of these are in one issuer. @defaultValue `'http-01/webroot'` */
  readonly name?: string | undefined
  /** The file system. @defaultValue `node:fs/promises` */
  readonly files?: FileSystem | undefined
}

/** Where the files go. */
export type WebrootLocation =
  | {
      /**
       * What the web server serves as `/`: the files go to `.well-known/acme-challenge/` below it, which is made when
       * missing. Absolute, and it MUST exist.
       */
      readonly directory: string
      readonly challengeDirectory?: undefined
    }
  | {
      readonly directory?: undefined
      /**
       * What the web server serves as `/.well-known/acme-challenge/` (nginx `alias`, acmetool's
       * `/var/run/acme/acme-challenge`): the files go right into it. Absolute, and it MUST exist.
       */
      readonly challengeDirectory: string
    }

/**
 * A http-01 solver that writes challenge files where a running web server picks them up.
 *
 * A file appears with its whole content, readable by everybody (0644, made directories 0755, whatever the umask), and
 * only ever under a name that was free: nothing is overwritten, no symbolic link below the configured directory is
 * followed, and `cleanUp` removes a file only when it is a regular one that holds exactly this challenge. Directories
 * are never removed.
 *
 * @example
 *
 * ```ts
 * import { webrootSolver } from 'evercert/solvers/webroot'
 *
 * const solver = webrootSolver({ directory: '/var/www/html' })
 * const aliased = webrootSolver({ challengeDirectory: '/var/run/acme/acme-challenge', name: 'http-01/aliased' })
 * ```
 *
 * @remarks
 * Needs write access to the directory, on a file system with hard links (they make a file appear in one step without
 * replacing another).
 *
 * @param options - See {@link WebrootSolverOptions}. Validated and copied.
 * @returns A solver named `http-01/webroot`. It fails with `ChallengeError` `ERR_CHALLENGE_FAILED`, before the CA is asked
 *   to look.
 * @throws `TypeError` if an option is missing, unknown or out of range.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555.html#section-8.3 | RFC 8555 section 8.3, HTTP Challenge}
 */
export function webrootSolver(options: WebrootSolverOptions): ChallengeSolver<'http-01'> {
  assertOptions(options, ['directory', 'challengeDirectory', 'zones', 'name', 'files'], 'webrootSolver')
  const { directory, challengeDirectory, name = 'http-01/webroot', files = systemFiles } = options
  if ((directory === undefined) === (challengeDirectory === undefined)) {
    throw new TypeError('webrootSolver takes either the "directory" or the "challengeDirectory" option')
  }
  const root = directory ?? challengeDirectory
  assertPath(root, directory === undefined ? 'challengeDirectory' : 'directory')
  assertText(name, 'name', 100)
  const zones = parseZones(options.zones)
  const below = directory === undefined ? [] : ['.well-known', 'acme-challenge']
  const target = join(root, ...below)

  return {
    name,
    type: 'http-01',
    ...(zones === undefined ? {} : { zones }),

    async present(challenge, { signal }) {
      signal.throwIfAborted()
      const { token } = challenge
      if (!isChallengeToken(token))
        throw failure(challenge, 'present', 'the CA sent a token that must not become a file name')
      try {
        await openDirectories({ make: true })
        if ((await inspect(challenge)) === 'ours') return
        await write(challenge, signal)
      } catch (error) {
        signal.throwIfAborted()
        throw failure(challenge, 'present', reasonOf(error), error)
      }
    },

    async cleanUp(challenge, { signal, logger }: OperationContext) {
      signal.throwIfAborted()
      // Such a token was never presented.
      if (!isChallengeToken(challenge.token)) return
      try {
        await openDirectories({ make: false })
        const found = await inspect(challenge)
        if (found === 'ours') await files.rm(join(target, challenge.token), { force: true })
        if (found === 'foreign') logger.warn('foreign file left alone', { directory: target, token: challenge.token })
        await removeLeftovers(challenge)
      } catch (error) {
        signal.throwIfAborted()
        // Nothing of ours is behind a missing directory, nor behind one that is none: present() does not write there.
        if (error instanceof Obstacle || errorCode(error) === 'ENOENT') return
        throw failure(challenge, 'clean-up', reasonOf(error), error)
      }
    },
  }

  /** The configured directory may be a link, that is the operator's choice; what lies below it may not. */
  async function openDirectories({ make }: { readonly make: boolean }): Promise<void> {
    if (!(await files.stat(root)).isDirectory()) throw new Obstacle(`${root} is not a directory`)
    let path = root
    for (const component of below) {
      path = join(path, component)
      let found = await files.lstat(path).catch(absent)
      if (found === undefined && !make) return
      if (found === undefined) {
        await makeDirectory(path)
        found = await files.lstat(path)
      }
      if (found.isSymbolicLink()) throw new Obstacle(`${path} is a symbolic link, which is not followed`)
      if (!found.isDirectory()) throw new Obstacle(`${path} is not a directory`)
    }
  }

  /** It appears with its final mode: killed in between, a restrictive umask would lock the web server out for good. */
  async function makeDirectory(path: string): Promise<void> {
    const temporary = join(dirname(path), temporaryName(basename(path)))
    try {
      await files.mkdir(temporary, 0o700)
      const handle = await files.open(temporary, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
      await use(handle, () => handle.chmod(0o755))
      await files.rename(temporary, path)
    } catch (error) {
      await files.rm(temporary, { recursive: true, force: true }).catch(() => undefined)
      // Another order was faster, or something else is there: the caller looks.
      if (!['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(errorCode(error) ?? '')) throw error
    }
  }

  /** What is at the challenge's place. Reads no further than a challenge is long, and opens nothing that could block. */
  async function inspect(challenge: Http01Challenge): Promise<'nothing' | 'ours' | 'foreign'> {
    const path = join(target, challenge.token)
    const expected = Buffer.from(challenge.keyAuthorization)
    const entry = await files.lstat(path).catch(absent)
    if (entry === undefined) return 'nothing'
    if (!entry.isFile() || entry.size !== expected.length) return 'foreign'
    const handle = await files
      .open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
      .catch(absent)
    if (handle === undefined) return 'nothing'
    return use(handle, async () => {
      const content = Buffer.alloc(expected.length + 1)
      const { bytesRead } = await handle.read(content, 0, content.length, 0)
      return content.subarray(0, bytesRead).equals(expected) ? 'ours' : 'foreign'
    })
  }

  /** A link, not a rename: it refuses a name that is taken. Synced first, so that no crash leaves an empty file there. */
  async function write(challenge: Http01Challenge, signal: AbortSignal): Promise<void> {
    const { token, keyAuthorization } = challenge
    const temporary = join(target, temporaryName(token))
    try {
      const handle = await files.open(temporary, 'wx', 0o600)
      await use(handle, async () => {
        await handle.writeFile(keyAuthorization)
        await handle.chmod(0o644)
        await handle.sync()
      })
      signal.throwIfAborted()
      await files.link(temporary, join(target, token))
    } catch (error) {
      if (errorCode(error) !== 'EEXIST' || (await inspect(challenge)) !== 'ours') throw error
    } finally {
      await files.rm(temporary, { force: true }).catch(() => undefined)
    }
  }

  /** Temporary files of this token that a crash left behind. */
  async function removeLeftovers(challenge: Http01Challenge): Promise<void> {
    const prefix = `.${challenge.token.slice(0, 200)}.`
    for (const entry of await files.readdir(target)) {
      if (!entry.startsWith(prefix) || !isTemporaryName(entry)) continue
      await files.rm(join(target, entry), { force: true })
    }
  }

  function failure(
    challenge: Http01Challenge,
    phase: 'present' | 'clean-up',
    reason: string,
    cause?: unknown,
  ): ChallengeError {
    const what = phase === 'present' ? 'cannot put a challenge into' : 'cannot remove a challenge from'
    return new ChallengeError({
      code: 'ERR_CHALLENGE_FAILED',
      message: `${name}: ${what} ${target} for ${challenge.identifier.value}: ${reason}`,
      retryable: true,
      solver: name,
      identifier: challenge.identifier,
      phase,
      cause,
    })
  }
}

/** Something in the way that no retry of a system call would change. */
class Obstacle extends Error {}

const advice: Readonly<Record<string, string>> = {
  ENOENT: 'it does not exist; create it, or correct the option',
  ENOTDIR: 'a part of the path is not a directory',
  EACCES: 'this process has no write access; give it that',
  EPERM:
    'the operation is not permitted here; the file system must allow hard links, and the directory must not be immutable',
  ENOTSUP: 'the file system must allow hard links',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EEXIST: 'a foreign file has the name of the challenge; it was left alone',
  ESTALE: 'the network file system lost the directory; mount it again',
  ENAMETOOLONG: 'the token of the CA is too long for a file name',
}

function reasonOf(error: unknown): string {
  if (error instanceof Obstacle) return error.message
  const code = errorCode(error)
  if (code === undefined) return 'unexpected error, see cause'
  return `${advice[code] ?? 'the file system refused'} (${code})`
}

/** For `catch`: absence is an answer, everything else is not. */
function absent(error: unknown): undefined {
  if (errorCode(error) !== 'ENOENT') throw error
  return undefined
}

async function use<T>(handle: FileHandle, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } finally {
    await handle.close()
  }
}
