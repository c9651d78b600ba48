import { chmod, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/core/clock.js'
import { parseIdentifier } from '../../../src/core/identifier.js'
import {
  acmetoolDnsSolver,
  acmetoolHttpSolver,
  type AcmetoolSolverOptions,
} from '../../../src/solvers/acmetool-hooks.js'
import type { Dns01Challenge, Http01Challenge } from '../../../src/solvers/challenge-solver.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { recordingLogger } from '../../../src/testing/recording-logger.js'
import { writeHook } from '../../support/hook-scripts.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../support/temporary-directory.js'

let work: TemporaryDirectory
beforeEach(async () => {
  work = await temporaryDirectory()
})
afterEach(() => work.remove())

const hooks = (): string => join(work.path, 'hooks')
const options = (more: Partial<AcmetoolSolverOptions> = {}): AcmetoolSolverOptions => ({
  stateDirectory: work.path,
  directories: [hooks()],
  ...more,
})
const logger = recordingLogger()
const context = operationContext({ clock: systemClock, logger })
const keyAuthorization = 'token-1.thumbprint'
const base = { identifier: parseIdentifier('www.example.com'), wildcard: false, token: 'token-1', keyAuthorization }
const http: Http01Challenge = { ...base, type: 'http-01', path: '/.well-known/acme-challenge/token-1' }
const dns: Dns01Challenge = {
  ...base,
  type: 'dns-01',
  recordName: '_acme-challenge.www.example.com',
  recordValue: 'digest',
}
/** What a hook was told: arguments, a line each in brackets, and its input. */
const record = `{ for argument; do echo "[$argument]"; done; cat; } > "$ACME_STATE_DIR/told"`
const told = (): Promise<string> => readFile(join(work.path, 'told'), 'utf8')

describe('acmetoolHttpSolver', () => {
  it('tells host, target file and token, and the key authorization without a newline on standard input', async () => {
    await writeHook(hooks(), 'a', record)
    const solver = acmetoolHttpSolver(options({ targetFile: 'example.com' }))
    await solver.present(http, context)
    expect(await told()).toBe(
      `[challenge-http-start]\n[www.example.com]\n[example.com]\n[token-1]\n${keyAuthorization}`,
    )
    await solver.cleanUp(http, context)
    expect(await told()).toBe(`[challenge-http-stop]\n[www.example.com]\n[example.com]\n[token-1]\n${keyAuthorization}`)
  })

  it('has no token for an argument that could be anything else', async () => {
    await writeHook(hooks(), 'a', record)
    const solver = acmetoolHttpSolver(options())
    for (const token of ['', '../x', '-rf /', 'a\nb']) {
      await expect(solver.present({ ...http, token }, context)).rejects.toMatchObject({ code: 'ERR_CHALLENGE_FAILED' })
      await solver.cleanUp({ ...http, token }, context)
    }
    await expect(told()).rejects.toMatchObject({ code: 'ENOENT' })
  })
})

describe('acmetoolDnsSolver', () => {
  it('tells host, target file, value, and whether it is for a wildcard', async () => {
    await writeHook(hooks(), 'a', record)
    const solver = acmetoolDnsSolver(options())
    await solver.present(dns, context)
    expect(await told()).toBe('[challenge-dns-start]\n[www.example.com]\n[]\n[digest]\n[]\n')
    await solver.cleanUp({ ...dns, wildcard: true }, context)
    expect(await told()).toBe('[challenge-dns-stop]\n[www.example.com]\n[]\n[digest]\n[wildcard]\n')
  })
})

describe.each([
  [
    'acmetoolHttpSolver',
    () => acmetoolHttpSolver(options()).present(http, context),
    () => acmetoolHttpSolver(options()).cleanUp(http, context),
  ],
  [
    'acmetoolDnsSolver',
    () => acmetoolDnsSolver(options()).present(dns, context),
    () => acmetoolDnsSolver(options()).cleanUp(dns, context),
  ],
])('%s', (_, present, cleanUp) => {
  it('is content with one hook that has done it', async () => {
    await writeHook(hooks(), 'a', 'exit 1')
    await writeHook(hooks(), 'b', 'exit 42')
    await writeHook(hooks(), 'c', 'exit 0')
    await present()
    await cleanUp()
  })

  it('fails when no hook knows the event, and has nothing to take down then', async () => {
    await expect(present()).rejects.toThrow('no hook knows the event')
    await writeHook(hooks(), 'a', 'exit 42')
    await expect(present()).rejects.toMatchObject({ code: 'ERR_CHALLENGE_FAILED', phase: 'present', retryable: true })
    await cleanUp()
  })

  it('fails when every hook that knows it has failed, and does not show the key authorization', async () => {
    await writeHook(hooks(), 'a', `echo "refused ${keyAuthorization}"; cat; exit 1`)
    for (const [work, phase] of [
      [present, 'present'],
      [cleanUp, 'clean-up'],
    ] as const) {
      const error: unknown = await work().catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({
        code: 'ERR_CHALLENGE_FAILED',
        phase,
        solver: expect.stringContaining('/acmetool-hooks') as string,
      })
      expect(String(error)).toContain('refused')
      expect(String(error)).not.toContain(keyAuthorization)
    }
    expect(JSON.stringify(logger.entries)).not.toContain(keyAuthorization)
  })

  it('runs nothing in a directory that everybody may write', async () => {
    await writeHook(hooks(), 'a', record)
    await chmod(hooks(), 0o777)
    await expect(present()).rejects.toMatchObject({
      code: 'ERR_CHALLENGE_FAILED',
      message: expect.stringContaining('may be written by everybody') as string,
      retryable: false,
    })
    await expect(told()).rejects.toMatchObject({ code: 'ENOENT' })
  })
})

describe.each([
  ['acmetoolHttpSolver', acmetoolHttpSolver],
  ['acmetoolDnsSolver', acmetoolDnsSolver],
] as const)('options of %s', (of, make) => {
  it.each<[string, unknown]>([
    ['targetFile', { targetFile: 'a\nb' }],
    ['zones', { zones: ['*.example.com'] }],
    ['name', { name: '' }],
    ['stateDirectory', { stateDirectory: 'relative' }],
    [of, { hosts: ['a'] }],
  ])('names %s', (option, wrong) => {
    expect(() => make(wrong as AcmetoolSolverOptions)).toThrow(TypeError)
    expect(() => make(wrong as AcmetoolSolverOptions)).toThrow(option)
  })

  it('keeps name and zones', () => {
    expect(make({ name: 'mine', zones: ['Example.com'] })).toMatchObject({ name: 'mine', zones: ['example.com'] })
    expect(make().name).toMatch(/^(http|dns)-01\/acmetool-hooks$/)
  })
})
