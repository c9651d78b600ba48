import {
  chmod,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
  type FileHandle,
} from 'node:fs/promises'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  errorCode,
  isTemporaryName,
  syncDirectory,
  temporaryName,
  temporaryPrefix,
  writeFileAtomic,
} from '../../../src/internal/atomic-file.js'
import { systemFiles, type FileSystem } from '../../../src/internal/file-system.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../support/temporary-directory.js'
import { faultyFiles } from '../solvers/faulty-files.js'

let directory: TemporaryDirectory
let target: string
beforeEach(async () => {
  directory = await temporaryDirectory()
  target = join(directory.path, 'www.pem')
})
afterEach(() => directory.remove())

const entries = (): Promise<string[]> => readdir(directory.path)
const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o7777

/** The real file system, with a note of every call. */
function watchedFiles(before: (call: string) => Promise<void> = async () => {}): {
  files: FileSystem
  calls: string[]
} {
  const calls: string[] = []
  const wrap = <T extends object>(target: T, prefix: string): T =>
    new Proxy(target, {
      get(_, property) {
        const member: unknown = Reflect.get(target, property, target)
        if (typeof member !== 'function') return member
        return async (...parameters: unknown[]) => {
          const shown = parameters.map((parameter) =>
            typeof parameter === 'string' ? basename(parameter) : String(parameter),
          )
          const call = `${prefix}${String(property)}(${shown.join(' ')})`.replace(/[0-9a-f]{16}/g, 'RANDOM')
          calls.push(call)
          await before(call)
          const result: unknown = await (member as (...all: unknown[]) => unknown).apply(target, parameters)
          return property === 'open'
            ? wrap(result as FileHandle, `${shown[0]!.startsWith('.') ? 'file' : 'directory'}.`)
            : result
        }
      },
    })
  return { files: wrap({ ...systemFiles }, ''), calls }
}

describe('writeFileAtomic', () => {
  it('creates exclusively and unreadably, then writes, sets the mode, syncs, renames, and syncs the directory', async () => {
    const { files, calls } = watchedFiles()
    await writeFileAtomic(target, 'new', { mode: 0o640, files })
    expect(calls).toEqual([
      'open(.www.pem.RANDOM.tmp wx 384)',
      'file.writeFile(new)',
      'file.chmod(416)',
      'file.sync()',
      'file.close()',
      'rename(.www.pem.RANDOM.tmp www.pem)',
      `open(${basename(directory.path)} r)`,
      'directory.sync()',
      'directory.close()',
    ])
    expect(384).toBe(0o600)
  })

  it.each([
    ['text', 'grün\n'],
    ['octets', new Uint8Array([0, 255, 10, 13])],
    ['nothing', ''],
    ['a megabyte', 'x'.repeat(1_000_000)],
  ])('writes %s', async (_, data) => {
    await writeFileAtomic(target, data, { mode: 0o600 })
    expect((await readFile(target)).equals(Buffer.from(data))).toBe(true)
    expect(await entries()).toEqual(['www.pem'])
  })

  it.each([0o600, 0o640, 0o644, 0o400, 0o666])(
    'gives the file mode %o, whatever the umask and the file that was there',
    async (mode) => {
      for (const umask of [0o077, 0o777, 0o000]) {
        for (const before of [undefined, 0o666, 0o400]) {
          await rm(target, { force: true })
          if (before !== undefined) {
            await writeFile(target, 'old')
            await chmod(target, before)
          }
          const previous = process.umask(umask)
          try {
            await writeFileAtomic(target, 'new', { mode })
          } finally {
            process.umask(previous)
          }
          expect((await modeOf(target)).toString(8)).toBe(mode.toString(8))
          expect(await readFile(target, 'utf8')).toBe('new')
        }
      }
    },
  )

  it('shows the content to nobody before it has its owner and mode', async () => {
    const modes: string[] = []
    const { files } = watchedFiles(async (call) => {
      if (!call.startsWith('file.')) return
      const [temporary] = (await entries()).filter(isTemporaryName)
      modes.push(`${call.replace(/\(.*/, '')} ${(await modeOf(join(directory.path, temporary!))).toString(8)}`)
    })
    await writeFileAtomic(target, 'new', { mode: 0o644, files })
    expect(modes).toEqual(['file.writeFile 600', 'file.chmod 600', 'file.sync 644', 'file.close 644'])
  })

  it('sets owner and group before the mode', async () => {
    const { files, calls } = watchedFiles()
    const { uid, gid } = await stat(directory.path)
    await writeFileAtomic(target, 'new', { mode: 0o640, owner: { uid, gid }, files })
    expect(calls.slice(1, 5)).toEqual([
      'file.writeFile(new)',
      `file.chown(${uid} ${gid})`,
      'file.chmod(416)',
      'file.sync()',
    ])
  })

  it('replaces a symlink instead of writing through it', async () => {
    const victim = join(directory.path, 'victim')
    await writeFile(victim, 'untouched')
    await symlink(victim, target)
    await writeFileAtomic(target, 'new', { mode: 0o600 })
    expect((await lstat(target)).isFile()).toBe(true)
    expect(await readFile(victim, 'utf8')).toBe('untouched')
  })

  it.each(['symlink', 'file', 'directory'])('refuses a %s that was planted under the temporary name', async (kind) => {
    const victim = join(directory.path, 'victim')
    await writeFile(victim, 'untouched')
    let planted = ''
    // Nobody can guess the name; who could, gains nothing.
    const files: FileSystem = {
      ...systemFiles,
      open: (async (path: string, flags: string, mode?: number) => {
        if (flags === 'wx') {
          planted = path
          if (kind === 'symlink') await symlink(victim, path)
          else if (kind === 'file') await writeFile(path, 'planted')
          else await mkdir(path)
        }
        return open(path, flags, mode)
      }) as FileSystem['open'],
    }
    await expect(writeFileAtomic(target, 'secret', { mode: 0o600, files })).rejects.toMatchObject({ code: 'EEXIST' })
    expect(await readFile(victim, 'utf8')).toBe('untouched')
    expect((await entries()).sort()).toEqual([basename(planted), 'victim'])
  })

  it.each([
    ['ENOENT', () => join(directory.path, 'missing', 'www.pem')],
    ['EISDIR', () => join(directory.path, 'a-directory')],
    ['ENOTDIR', () => join(directory.path, 'a-file', 'www.pem')],
  ])('says %s and leaves nothing behind', async (code, path) => {
    await mkdir(join(directory.path, 'a-directory'))
    await writeFile(join(directory.path, 'a-file'), '')
    await expect(writeFileAtomic(path(), 'new', { mode: 0o600 })).rejects.toMatchObject({ code })
    expect((await entries()).sort()).toEqual(['a-directory', 'a-file'])
  })

  it.each(['ü'.repeat(120), '中'.repeat(80), 'a'.repeat(255), '😀'.repeat(60)])(
    'writes a file with the long name %s',
    async (name) => {
      await writeFileAtomic(join(directory.path, name), 'new', { mode: 0o600 })
      expect(await entries()).toEqual([name])
    },
  )

  describe.each(['ENOSPC', 'EIO', 'EROFS', 'EDQUOT', 'EMFILE', 'EACCES'])('when a call fails with %s', (code) => {
    it.each([
      ['a file is there', 'old'],
      ['no file is there', undefined],
    ])('keeps the old content or has the new one, whole, and leaves no temporary file: %s', async (_, old) => {
      const fired: string[] = []
      for (let at = 0; ; at += 1) {
        await rm(target, { force: true })
        if (old !== undefined) await writeFile(target, old)
        const { files, fired: name } = faultyFiles({ at, code })
        const outcome = await writeFileAtomic(target, 'new', { mode: 0o600, files }).catch((error: unknown) =>
          errorCode(error),
        )
        const failed = name()
        if (failed === undefined) {
          expect(outcome).toBeUndefined()
          break
        }
        fired.push(failed)
        expect([failed, outcome]).toEqual([failed, code])
        const content = await readFile(target, 'utf8').catch(() => undefined)
        // After the rename the new file is there; whether it survives a power cut is what the error is about.
        expect([failed, content]).toEqual([failed, fired.includes('rename') && failed !== 'rename' ? 'new' : old])
        expect([failed, await entries()]).toEqual([failed, content === undefined ? [] : ['www.pem']])
      }
      expect(fired).toEqual([
        ...['open', 'handle.writeFile', 'handle.chmod', 'handle.sync', 'handle.close', 'rename'],
        ...['open', 'handle.sync', 'handle.close'],
      ])
    })
  })

  it('keeps the old content, with one leftover at most, when the process dies at any call', async () => {
    let deaths = 0
    for (let at = 0; ; at += 1) {
      await rm(directory.path, { recursive: true })
      await mkdir(directory.path)
      await writeFile(target, 'old')
      const { files, fired } = faultyFiles({ at, code: 'EIO', thenDead: true })
      await writeFileAtomic(target, 'new', { mode: 0o600, files }).catch(() => undefined)
      if (fired() === undefined) break
      deaths += 1
      expect(['old', 'new']).toContain(await readFile(target, 'utf8'))
      const others = (await entries()).filter((name) => name !== 'www.pem')
      expect(others.length).toBeLessThanOrEqual(1)
      expect(others.every(isTemporaryName)).toBe(true)
    }
    expect(deaths).toBe(9)
  })

  it('reports the failure of the write when the clean-up fails too', async () => {
    const files: FileSystem = {
      ...systemFiles,
      rename: () => Promise.reject(Object.assign(new Error('first'), { code: 'EXDEV' })),
      rm: () => Promise.reject(new Error('second')),
    }
    await expect(writeFileAtomic(target, 'new', { mode: 0o600, files })).rejects.toMatchObject({ code: 'EXDEV' })
  })

  it('never shows a reader a part of a file', async () => {
    const versions = ['a', 'b'].map((letter) => letter.repeat(200_000))
    await writeFileAtomic(target, versions[0]!, { mode: 0o600 })
    let writing = true
    let reads = 0
    const reader = async (): Promise<void> => {
      while (writing) {
        const seen = await readFile(target, 'utf8')
        // Compared by hand: a message with 200,000 letters helps nobody.
        if (!versions.includes(seen)) throw new Error(`a reader saw ${String(seen.length)} characters`)
        reads += 1
      }
    }
    const readers = Promise.all([reader(), reader()])
    for (let round = 1; round <= 60; round += 1) await writeFileAtomic(target, versions[round % 2]!, { mode: 0o600 })
    writing = false
    await readers
    expect(reads).toBeGreaterThan(20)
  })

  it('lets one of many writers win, whole', async () => {
    const contents = Array.from({ length: 20 }, (_, at) => String(at).repeat(10_000))
    await Promise.all(contents.map((content) => writeFileAtomic(target, content, { mode: 0o600 })))
    expect(contents.includes(await readFile(target, 'utf8'))).toBe(true)
    expect(await entries()).toEqual(['www.pem'])
  })
})

describe('syncDirectory', () => {
  it.each(['EINVAL', 'EPERM', 'ENOTSUP', 'EISDIR'])('is content with a file system that answers %s', async (code) => {
    for (const at of [0, 1]) {
      const { files, fired } = faultyFiles({ at, code })
      await syncDirectory(directory.path, files)
      expect(fired()).toBe(['open', 'handle.sync'][at])
    }
  })

  it.each(['EIO', 'ENOSPC', 'EACCES'])('reports %s, and closes what it opened', async (code) => {
    for (const [at, name] of ['open', 'handle.sync', 'handle.close'].entries()) {
      const { files, fired, calls } = faultyFiles({ at, code })
      await expect(syncDirectory(directory.path, files)).rejects.toMatchObject({ code })
      expect(fired()).toBe(name)
      expect(calls()).toBe(at === 0 ? 1 : 3)
    }
  })
})

describe('temporary names', () => {
  it('begin with a dot, are hidden from HAProxy, recognisable, and different each time', () => {
    const names = Array.from({ length: 100 }, () => temporaryName('www.pem'))
    expect(new Set(names).size).toBe(100)
    for (const name of names) {
      expect(name).toMatch(/^\.www\.pem\.[0-9a-f]{16}\.tmp$/)
      expect(isTemporaryName(name)).toBe(true)
      expect(name.startsWith(temporaryPrefix('www.pem'))).toBe(true)
    }
  })

  it.each(['a', 'a\nb', 'x'.repeat(255), 'ü'.repeat(127), '😀'.repeat(63)])('fit a directory entry, for %j', (name) => {
    const temporary = temporaryName(name)
    expect(Buffer.byteLength(temporary)).toBeLessThanOrEqual(255)
    expect(isTemporaryName(temporary)).toBe(true)
    expect(temporary.startsWith(temporaryPrefix(name))).toBe(true)
  })

  it.each([
    'www.pem',
    '.www.pem',
    '.tmp',
    'www.0123456789abcdef.tmp',
    '.www.0123456789ABCDEF.tmp',
    '.www.0123456789abcde.tmp',
    '.www.0123456789abcdef.tmp.bak',
  ])('are not taken for %s', (name) => {
    expect(isTemporaryName(name)).toBe(false)
  })
})

it.each([
  [Object.assign(new Error('x'), { code: 'ENOENT' }), 'ENOENT'],
  [Object.assign(new Error('x'), { code: 7 }), undefined],
  [new Error('x'), undefined],
  ['ENOENT', undefined],
  [null, undefined],
  [undefined, undefined],
])('reads the code of %s', (error, code) => {
  expect(errorCode(error)).toBe(code)
})
