import { chmod, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/core/clock.js'
import { acmetoolHooksOption, runHooks, type AcmetoolHooksOptions } from '../../../src/internal/acmetool-hooks.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { recordingLogger } from '../../../src/testing/recording-logger.js'
import { faultyFiles } from '../../support/faulty-files.js'
import { writeHook } from '../../support/hook-scripts.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../support/temporary-directory.js'

let work: TemporaryDirectory
beforeEach(async () => {
  work = await temporaryDirectory()
})
afterEach(() => work.remove())

const at = (name: string): string => join(work.path, name)
const logger = recordingLogger()
const context = operationContext({ clock: systemClock, logger })
const event = { name: 'live-updated', args: ['one', 'two words'], input: 'a.example\nb.example\n' } as const
/** Leaves its name in a file, in the order of the calls. */
const note = `basename "$0" >> "$ACME_STATE_DIR/order"`

const run = (options: Partial<AcmetoolHooksOptions> = {}) =>
  runHooks(
    acmetoolHooksOption({ stateDirectory: work.path, directories: [at('first'), at('second')], ...options }, 'test', {
      timeoutMs: 10_000,
    }),
    event,
    context,
  )
const order = async (): Promise<string[]> =>
  (await readFile(at('order'), 'utf8').catch(() => '')).split('\n').filter(Boolean)

describe('runHooks', () => {
  it('runs those of all directories, in order of directories, then names', async () => {
    for (const [directory, name] of [
      ['second', 'a'],
      ['first', 'z'],
      ['first', 'b'],
      ['first', 'B'],
    ] as const) {
      await writeHook(at(directory), name, note)
    }
    const { done, failures } = await run()
    expect(await order()).toEqual(['B', 'b', 'z', 'a'])
    expect([done.map((path) => path.slice(work.path.length)), failures]).toEqual([
      ['/first/B', '/first/b', '/first/z', '/second/a'],
      [],
    ])
  })

  it('passes over directories that are not there, and is content without any', async () => {
    await writeHook(at('second'), 'a', note)
    expect((await run()).done).toHaveLength(1)
    expect(await run({ directories: [at('nowhere')] })).toEqual({ done: [], failures: [] })
    await writeFile(at('file'), '')
    expect(await run({ directories: [at('file/below')] })).toEqual({ done: [], failures: [] })
  })

  it('gives event, arguments, standard input, environment and directory, and nothing of ours', async () => {
    await writeHook(
      at('first'),
      'a',
      `printf '%s\\n' "$@" > "$ACME_STATE_DIR/args"; cat > "$ACME_STATE_DIR/in"; pwd > "$ACME_STATE_DIR/pwd"; env > "$ACME_STATE_DIR/env"`,
    )
    process.env['EVERCERT_TEST_CANARY'] = 'inherited'
    try {
      await run({ env: { PATH: '/usr/bin:/bin', TARGET: 'yes' } })
    } finally {
      delete process.env['EVERCERT_TEST_CANARY']
    }
    expect(await readFile(at('args'), 'utf8')).toBe('live-updated\none\ntwo words\n')
    expect(await readFile(at('in'), 'utf8')).toBe(event.input)
    expect(await readFile(at('pwd'), 'utf8')).toBe('/\n')
    const environment = await readFile(at('env'), 'utf8')
    expect(environment).toContain(`ACME_STATE_DIR=${work.path}\n`)
    expect(environment).toContain('TARGET=yes\n')
    expect(environment).not.toContain('CANARY')
  })

  it('tells done, not supported and failed apart, and stops at none of them', async () => {
    await writeHook(at('first'), 'a', `${note}; exit 42`)
    await writeHook(at('first'), 'b', `${note}; echo "went wrong" >&2; exit 1`)
    await writeHook(at('first'), 'c', `${note}; kill -9 $$`)
    await writeHook(at('first'), 'd', `${note}; exit 0`)
    await writeFile(at('first/e'), 'no program')
    await chmod(at('first/e'), 0o755)
    await writeHook(at('first'), 'f', note)
    const { done, failures } = await run()
    expect(await order()).toEqual(['a', 'b', 'c', 'd', 'f'])
    expect(done).toEqual([at('first/d'), at('first/f')])
    expect(failures).toHaveLength(3)
    expect(failures[0]).toContain(`${at('first/b')} exited with code 1: went wrong`)
    expect(failures[1]).toContain('SIGKILL')
    expect(failures[2]).toContain(at('first/e'))
  })

  it('ends a hook that takes too long, and goes on', async () => {
    await writeHook(at('first'), 'a', 'sleep 60')
    await writeHook(at('first'), 'b', note)
    const { done, failures } = await run({ timeoutMs: 200 })
    expect(done).toEqual([at('first/b')])
    expect(failures[0]).toContain('did not end within 200 ms')
  })

  it('passes over hidden files, directories, files that are not executable or that everybody may write', async () => {
    await writeHook(at('first'), '.hidden', note)
    await writeHook(at('first'), 'not-executable', note, 0o644)
    await writeHook(at('first'), 'everybody', note, 0o757)
    await mkdir(at('first/directory'))
    await symlink('/nowhere', at('first/dangling'))
    await writeHook(at('elsewhere'), 'linked', note)
    await symlink(at('elsewhere/linked'), at('first/link'))
    expect((await run()).done).toEqual([at('first/link')])
    expect(logger.entries.map(({ message }) => message)).toContain('hook may be written by everybody and is not run')
  })

  it('refuses a directory that everybody may write, before any hook has run', async () => {
    await writeHook(at('first'), 'a', note)
    await writeHook(at('second'), 'b', note)
    await chmod(at('second'), 0o777)
    await expect(run()).rejects.toThrow(`${at('second')} may be written by everybody`)
    expect(await order()).toEqual([])
  })

  it('ends with the abort reason, and runs nothing more', async () => {
    await writeHook(at('first'), 'a', 'sleep 60')
    await writeHook(at('first'), 'b', note)
    const controller = new AbortController()
    const reason = new Error('stopped by the test')
    const hooks = acmetoolHooksOption({ stateDirectory: work.path, directories: [at('first')] }, 'test', {
      timeoutMs: 10_000,
    })
    const running = runHooks(hooks, event, { ...context, signal: controller.signal })
    controller.abort(reason)
    await expect(running).rejects.toBe(reason)
    await expect(runHooks(hooks, event, { ...context, signal: controller.signal })).rejects.toBe(reason)
    expect(await order()).toEqual([])
  })

  it('never shows a secret, whatever a hook prints', async () => {
    await writeHook(at('first'), 'a', 'cat >&2; exit 1')
    const hooks = acmetoolHooksOption({ stateDirectory: work.path, directories: [at('first')] }, 'test', {
      timeoutMs: 10_000,
    })
    const { failures } = await runHooks(
      hooks,
      { ...event, input: 'token.thumbprint', secrets: ['token.thumbprint'] },
      context,
    )
    expect(failures).toHaveLength(1)
    expect(failures[0]).not.toContain('token.thumbprint')
  })

  it('passes on what the file system says, at every call', async () => {
    await writeHook(at('first'), 'a', note)
    for (const pattern of [/^stat .*first$/, /^readdir .*first$/, /^stat .*first\/a$/]) {
      const faulty = faultyFiles()
      faulty.failNext(pattern, 'EIO')
      await expect(run({ fileSystem: faulty.files }), String(pattern)).rejects.toMatchObject({ code: 'EIO' })
    }
  })
})

describe('acmetoolHooksOption', () => {
  it.each<[string, unknown]>([
    ['stateDirectory', { stateDirectory: 'relative' }],
    ['directories', { directories: [] }],
    ['directories', { directories: ['relative'] }],
    ['directories', { directories: '/usr/lib/acme/hooks' }],
    ['env', { env: { A: 7 } }],
    ['timeoutMs', { timeoutMs: 0 }],
    ['hookDirectories', { hookDirectories: [] }],
  ])('names the option %s', (option, options) => {
    const make = (): unknown => acmetoolHooksOption(options as AcmetoolHooksOptions, 'test', { timeoutMs: 1 })
    expect(make).toThrow(TypeError)
    expect(make).toThrow(option)
  })

  it('looks where acmetool does', () => {
    const { directories, stateDirectory } = acmetoolHooksOption({}, 'test', { timeoutMs: 1 })
    expect(directories).toEqual(['/usr/libexec/acme/hooks', '/usr/lib/acme/hooks'])
    expect(stateDirectory).toBe('/var/lib/acme')
  })
})
