import { execFileSync } from 'node:child_process'
import { chmod, link, lstat, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import type { ChallengeError } from '../../../src/errors.js'
import { systemFiles } from '../../../src/internal/file-system.js'
import { webrootSolver } from '../../../src/solvers/webroot.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { assertNoSecrets, recordingLogger } from '../../../src/testing/recording-logger.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../support/temporary-directory.js'
import { httpChallenge } from './challenges.js'
import { faultyFiles } from './faulty-files.js'

let root: TemporaryDirectory
let challenges: string
const context = operationContext()
const challenge = httpChallenge()

beforeEach(async () => {
  root = await temporaryDirectory()
  challenges = join(root.path, '.well-known/acme-challenge')
})
afterEach(() => root.remove())

/** Every path below the directory with what it is and holds; what must not change can be compared. */
async function snapshot(directory: string): Promise<Record<string, string>> {
  const entries: Record<string, string> = {}
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    entries[path] = entry.isFile() ? await readFile(path, 'utf8') : entry.isDirectory() ? 'directory' : 'special'
  }
  return entries
}

async function refused(work: Promise<unknown>, phase: ChallengeError['phase'] = 'present'): Promise<ChallengeError> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toMatchObject({ name: 'ChallengeError', code: 'ERR_CHALLENGE_FAILED', phase, retryable: true })
  assertNoSecrets(error, [challenge.keyAuthorization])
  return error as ChallengeError
}

describe('what it writes', () => {
  it('is the key authorization without a newline, readable by everybody, whatever the umask', async () => {
    const before = process.umask(0o077)
    try {
      await webrootSolver({ directory: root.path }).present(challenge, context)
    } finally {
      process.umask(before)
    }
    expect(await readFile(join(challenges, challenge.token), 'utf8')).toBe(challenge.keyAuthorization)
    const modes = await Promise.all(
      [join(root.path, '.well-known'), challenges, join(challenges, challenge.token)].map(
        async (path) => (await lstat(path)).mode & 0o7777,
      ),
    )
    expect(modes).toEqual([0o755, 0o755, 0o644])
    expect(await readdir(challenges)).toEqual([challenge.token])
  })

  it('goes right into challengeDirectory', async () => {
    await webrootSolver({ challengeDirectory: root.path }).present(challenge, context)
    expect(await readdir(root.path)).toEqual([challenge.token])
  })

  it('keeps the modes of directories that were there, and removes none', async () => {
    await mkdir(challenges, { recursive: true })
    await chmod(challenges, 0o750)
    const solver = webrootSolver({ directory: root.path })
    await solver.present(challenge, context)
    await solver.cleanUp(challenge, context)
    expect((await lstat(challenges)).mode & 0o777).toBe(0o750)
    expect(await readdir(challenges)).toEqual([])
  })

  it('may lie behind a link that the operator configured', async () => {
    const configured = join(root.path, 'configured')
    await mkdir(join(root.path, 'real'))
    await symlink('real', configured)
    await webrootSolver({ directory: configured }).present(challenge, context)
    expect(await readdir(join(root.path, 'real/.well-known/acme-challenge'))).toEqual([challenge.token])
  })

  it('serves two orders at once, and clean-up of one leaves the other', async () => {
    const solver = webrootSolver({ directory: root.path })
    const other = httpChallenge('www.example.com', 'other-token')
    await Promise.all([solver.present(challenge, context), solver.present(other, context)])
    await solver.cleanUp(challenge, context)
    expect(await readdir(challenges)).toEqual(['other-token'])
  })
})

describe('tokens that are not file names', () => {
  const hostile = [
    '../x',
    'a/b',
    '.',
    '..',
    '',
    'x'.repeat(513),
    'a\0b',
    '%2e%2e',
    'a\r\nb',
    'töken',
    'a\\b',
    ' a',
    '.well-known',
    'a.tmp',
  ]

  it.each(hostile.map((token) => [JSON.stringify(token.slice(0, 20)), token]))('refuses %s', async (_, token) => {
    await writeFile(join(root.path, 'x'), 'untouched')
    const solver = webrootSolver({ challengeDirectory: root.path })
    const before = await snapshot(root.path)
    const error = await refused(solver.present(httpChallenge('www.example.com', token), context))
    expect(error.message).toContain('the CA sent a token that must not become a file name')
    await solver.cleanUp(httpChallenge('www.example.com', token), context)
    expect(await snapshot(root.path)).toEqual(before)
  })

  it('takes one character, and says it when a long one does not fit a file name', async () => {
    const solver = webrootSolver({ challengeDirectory: root.path })
    await solver.present(httpChallenge('www.example.com', 'a'), context)
    const long = httpChallenge('www.example.com', 'a'.repeat(512))
    expect((await refused(solver.present(long, context))).message).toContain('too long for a file name')
    expect(await readdir(root.path)).toEqual(['a'])
  })
})

describe('things in the way', () => {
  const victim = () => join(root.path, 'victim')
  const token = () => join(challenges, challenge.token)
  const plants: { what: string; plant: () => Promise<unknown> }[] = [
    { what: 'a symbolic link to a file', plant: () => symlink(victim(), token()) },
    { what: 'a symbolic link to nothing', plant: () => symlink(join(root.path, 'nothing'), token()) },
    { what: 'a hard link to a file', plant: () => link(victim(), token()) },
    { what: 'a directory', plant: () => mkdir(token()) },
    { what: 'a FIFO', plant: async () => execFileSync('mkfifo', [token()]) },
    { what: 'a foreign file', plant: () => writeFile(token(), 'foreign') },
    {
      what: 'a foreign file of the same length',
      plant: () => writeFile(token(), 'x'.repeat(challenge.keyAuthorization.length)),
    },
    { what: 'an empty file', plant: () => writeFile(token(), '') },
  ]

  it.each(plants)('$what at the token is refused, and left alone by clean-up', async ({ plant }) => {
    await mkdir(challenges, { recursive: true })
    await writeFile(victim(), 'victim')
    await plant()
    const before = await snapshot(root.path)
    const logger = recordingLogger()
    const solver = webrootSolver({ directory: root.path })
    expect((await refused(solver.present(challenge, context))).message).toContain('foreign file')
    await solver.cleanUp(challenge, { ...context, logger })
    expect(await snapshot(root.path)).toEqual(before)
    expect(logger.entries.map(({ message }) => message)).toEqual(['foreign file left alone'])
  })

  it.each(['.well-known', '.well-known/acme-challenge'])('a symbolic link at %s is not followed', async (component) => {
    const elsewhere = join(root.path, 'elsewhere')
    await mkdir(join(elsewhere, 'acme-challenge'), { recursive: true })
    // Even the right content is out of bounds there.
    await writeFile(join(elsewhere, challenge.token), challenge.keyAuthorization)
    await writeFile(join(elsewhere, 'acme-challenge', challenge.token), challenge.keyAuthorization)
    if (component !== '.well-known') await mkdir(join(root.path, '.well-known'))
    await symlink(elsewhere, join(root.path, component))
    const before = await snapshot(root.path)
    const solver = webrootSolver({ directory: root.path })
    expect((await refused(solver.present(challenge, context))).message).toContain(`${component} is a symbolic link`)
    await solver.cleanUp(challenge, context)
    expect(await snapshot(root.path)).toEqual(before)
  })

  it.each(['.well-known', '.well-known/acme-challenge'])('a file at %s is refused', async (component) => {
    if (component !== '.well-known') await mkdir(join(root.path, '.well-known'))
    await writeFile(join(root.path, component), '')
    expect((await refused(webrootSolver({ directory: root.path }).present(challenge, context))).message).toContain(
      'is not a directory',
    )
  })

  it('refuses a link that takes the place of a directory it is about to make', async () => {
    const elsewhere = join(root.path, 'elsewhere')
    await mkdir(elsewhere)
    let planted = false
    const solver = webrootSolver({
      directory: root.path,
      files: {
        ...systemFiles,
        rename: async (from, to) => {
          if (!planted) await symlink(elsewhere, to.toString())
          planted = true
          await systemFiles.rename(from, to)
        },
      },
    })
    await refused(solver.present(challenge, context))
    expect(planted).toBe(true)
    expect(await readdir(elsewhere)).toEqual([])
    expect((await readdir(root.path)).sort()).toEqual(['.well-known', 'elsewhere'])
  })

  it('removes a leftover of its own and no other dot file', async () => {
    await mkdir(challenges, { recursive: true })
    const own = `.${challenge.token}.0123456789abcdef.tmp`
    const others = ['.other-token.0123456789abcdef.tmp', '.htaccess', `.${challenge.token}`]
    for (const name of [own, ...others]) await writeFile(join(challenges, name), '')
    await webrootSolver({ directory: root.path }).cleanUp(challenge, context)
    expect((await readdir(challenges)).sort()).toEqual(others.sort())
  })
})

describe('a file system that refuses', () => {
  it('names the missing directory and what to do', async () => {
    const missing = join(root.path, 'missing')
    const error = await refused(webrootSolver({ directory: missing }).present(challenge, context))
    expect(error.message).toContain(missing)
    expect(error.message).toContain('it does not exist; create it, or correct the option (ENOENT)')
    await webrootSolver({ directory: missing }).cleanUp(challenge, context)
  })

  /** How many file system calls a fault-free run makes. */
  async function callsOf(run: (solver: ReturnType<typeof webrootSolver>) => Promise<void>): Promise<number> {
    const world = await temporaryDirectory()
    const counting = faultyFiles({ at: -1, code: 'none' })
    await run(webrootSolver({ directory: world.path, files: counting.files }))
    await world.remove()
    return counting.calls()
  }

  it.each(['ENOSPC', 'EROFS', 'EACCES', 'EIO', 'ESTALE', 'EDQUOT'])(
    '%s at any call is a typed error, leaves no half of a challenge, and the next attempt succeeds',
    async (code) => {
      const total = await callsOf((solver) => solver.present(challenge, context))
      expect(total).toBeGreaterThan(10)
      for (let at = 0; at < total; at += 1) {
        const world = await temporaryDirectory()
        const faulty = faultyFiles({ at, code })
        const work = webrootSolver({ directory: world.path, files: faulty.files }).present(challenge, context)
        const file = join(world.path, '.well-known/acme-challenge', challenge.token)
        // Removing the temporary file comes last: the challenge is there then, and that is success.
        const tolerated = await work.then(
          () => true,
          async (error: unknown) => {
            expect((await refused(Promise.reject(error as Error))).message).toContain(code)
            return false
          },
        )
        expect(faulty.fired(), `call ${String(at)}`).toBeDefined()
        if (tolerated) expect(faulty.fired()).toBe('rm')
        const content = await readFile(file, 'utf8').catch(() => undefined)
        expect([undefined, challenge.keyAuthorization]).toContain(content)
        await webrootSolver({ directory: world.path }).present(challenge, context)
        expect(await readFile(file, 'utf8')).toBe(challenge.keyAuthorization)
        await webrootSolver({ directory: world.path }).cleanUp(challenge, context)
        expect(await readdir(join(world.path, '.well-known/acme-challenge'))).toEqual([])
        await world.remove()
      }
    },
  )

  it('killed at any call of present and clean-up, a new instance presents and cleans up', async () => {
    const run = async (solver: ReturnType<typeof webrootSolver>): Promise<void> => {
      await solver.present(challenge, context)
      await solver.cleanUp(challenge, context)
    }
    const total = await callsOf(run)
    const before = process.umask(0o077)
    onTestFinished(() => void process.umask(before))
    for (let at = 0; at < total; at += 1) {
      const world = await temporaryDirectory()
      const faulty = faultyFiles({ at, code: 'EIO', thenDead: true })
      await run(webrootSolver({ directory: world.path, files: faulty.files })).catch(() => undefined)
      expect(faulty.fired(), `call ${String(at)}`).toBeDefined()
      const successor = webrootSolver({ directory: world.path })
      await successor.present(challenge, context)
      const directory = join(world.path, '.well-known/acme-challenge')
      expect(await readFile(join(directory, challenge.token), 'utf8')).toBe(challenge.keyAuthorization)
      expect((await lstat(join(directory, challenge.token))).mode & 0o777).toBe(0o644)
      expect((await lstat(directory)).mode & 0o005).toBe(0o005)
      await successor.cleanUp(challenge, context)
      expect(await readdir(directory)).toEqual([])
      await world.remove()
    }
  })

  it('tells when clean-up is refused', async () => {
    await webrootSolver({ directory: root.path }).present(challenge, context)
    const readOnly = webrootSolver({
      directory: root.path,
      files: { ...systemFiles, rm: () => Promise.reject(Object.assign(new Error('injected'), { code: 'EROFS' })) },
    })
    expect((await refused(readOnly.cleanUp(challenge, context), 'clean-up')).message).toContain('read-only (EROFS)')
  })
})

describe('options', () => {
  it.each([
    [{}, 'either the "directory" or the "challengeDirectory"'],
    [{ directory: '/a', challengeDirectory: '/b' }, 'either the "directory" or the "challengeDirectory"'],
    [{ directory: 'relative' }, '"directory" option must be an absolute path'],
    [{ challengeDirectory: '/a\0b' }, '"challengeDirectory" option'],
    [{ directory: '/a', zones: [] }, '"zones" option'],
    [{ directory: '/a', zones: ['*.example.com'] }, '"zones" option must not have wildcards'],
    [{ directory: '/a', directroy: '/b' }, 'unknown option "directroy"'],
  ])('%j is refused', (options, message) => {
    expect(() => webrootSolver(options as never)).toThrow(TypeError)
    expect(() => webrootSolver(options as never)).toThrow(message)
  })

  it('are copied', async () => {
    const zones = ['Example.COM.']
    const solver = webrootSolver({ directory: root.path, zones })
    zones.push('evil.example')
    expect(solver.zones).toEqual(['example.com'])
  })
})
