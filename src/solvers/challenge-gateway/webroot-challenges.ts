/**
 * Open challenges as files below a web root, whoever put them there.
 *
 * @module
 */
import { constants } from 'node:fs'
import { join } from 'node:path'
import { errorCode } from '../../internal/atomic-file.js'
import { systemFiles, type FileSystem } from '../../internal/file-system.js'
import { assertOptions, assertPath } from '../../internal/options.js'
import type { ChallengeSource, OpenChallenge } from '../challenge-source.js'
import { isChallengeToken, isKeyAuthorization } from '../http-challenge.js'

/** Options of {@link webrootChallenges}: the same directory that `webrootSolver` was given. */
export type WebrootChallengesOptions = (
  | {
      /** The web root; challenges are in `.well-known/acme-challenge/` below it. Absolute. */
      readonly directory: string
      readonly challengeDirectory?: undefined
    }
  | {
      readonly directory?: undefined
      /** The directory of the challenges itself. Absolute. */
      readonly challengeDirectory: string
    }
) & {
  /** The file system. @defaultValue `node:fs/promises` */
  readonly files?: FileSystem | undefined
}

/** Token, dot and thumbprint, with a final newline or two. */
const largestFileBytes = 600
/** More are no challenges: a directory that nobody cleans must not slow the peers down. */
const mostListed = 1_000

/**
 * The challenges that `webrootSolver`, or another ACME client on this machine, has written. A file counts when it is a
 * regular one, named like a token, and holds a key authorization of that token; symbolic links are not followed. A missing
 * directory holds none.
 *
 * @throws `TypeError` if an option is missing, unknown or wrong.
 */
export function webrootChallenges(options: WebrootChallengesOptions): ChallengeSource {
  assertOptions(options, ['directory', 'challengeDirectory', 'files'], 'webrootChallenges')
  const { directory, challengeDirectory, files = systemFiles } = options
  if ((directory === undefined) === (challengeDirectory === undefined)) {
    throw new TypeError('webrootChallenges takes either the "directory" or the "challengeDirectory" option')
  }
  const root = directory ?? challengeDirectory
  assertPath(root, directory === undefined ? 'challengeDirectory' : 'directory')
  const location = directory === undefined ? root : join(root, '.well-known', 'acme-challenge')

  async function read(token: string): Promise<string | undefined> {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
    const handle = await files.open(join(location, token), flags).catch(nothing)
    if (handle === undefined) return undefined
    try {
      if (!(await handle.stat()).isFile()) return undefined
      const content = Buffer.alloc(largestFileBytes + 1)
      const { bytesRead } = await handle.read(content, 0, content.length, 0)
      if (bytesRead > largestFileBytes) return undefined
      const text = content.toString('latin1', 0, bytesRead).trimEnd()
      return isKeyAuthorization(text, token) ? text : undefined
    } finally {
      await handle.close()
    }
  }

  return {
    findChallenge: (_host, token) => read(token),
    async listChallenges({ signal }) {
      const names = ((await files.readdir(location).catch(nothing)) ?? []).filter(isChallengeToken)
      const open: OpenChallenge[] = []
      for (const token of names.slice(0, mostListed)) {
        signal.throwIfAborted()
        const keyAuthorization = await read(token)
        if (keyAuthorization !== undefined) open.push({ token, keyAuthorization })
      }
      return open
    },
  }
}

/** What is not there, or is something else, is no challenge. */
function nothing(error: unknown): undefined {
  if (!['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENAMETOOLONG'].includes(errorCode(error) ?? '')) throw error
  return undefined
}
