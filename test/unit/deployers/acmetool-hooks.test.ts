import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/core/clock.js'
import { acmetoolHooks, type AcmetoolLiveUpdatedOptions } from '../../../src/deployers/acmetool-hooks.js'
import { acmetoolLive, pemFilesDeployer } from '../../../src/deployers/pem-files.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { createTestBundle } from '../../../src/testing/test-bundle.js'
import { faultyFiles } from '../../support/faulty-files.js'
import { writeHook } from '../../support/hook-scripts.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../support/temporary-directory.js'

let work: TemporaryDirectory
beforeEach(async () => {
  work = await temporaryDirectory()
})
afterEach(() => work.remove())

const at = (name: string): string => join(work.path, name)
const context = operationContext({ clock: systemClock })
const hooks = (more: Partial<AcmetoolLiveUpdatedOptions> = {}) =>
  acmetoolHooks({
    stateDirectory: work.path,
    directories: [at('hooks')],
    hosts: ['www.example.com', 'b.example'],
    ...more,
  })

describe('acmetoolHooks', () => {
  it('tells every hook live-updated, with the names on standard input', async () => {
    await writeHook(at('hooks'), 'a', `{ echo "$@"; cat; } > "$ACME_STATE_DIR/told"`)
    await hooks()(context)
    expect(await readFile(at('told'), 'utf8')).toBe('live-updated\nwww.example.com\nb.example\n')
  })

  it('is content without hooks, and with hooks that do not know the event', async () => {
    await hooks()(context)
    await writeHook(at('hooks'), 'a', 'exit 42')
    await hooks()(context)
  })

  it('fails after all have run when one has failed, or only says so', async () => {
    await writeHook(at('hooks'), 'a', 'echo "no such service" >&2; exit 1')
    await writeHook(at('hooks'), 'b', 'touch "$ACME_STATE_DIR/ran"')
    const failed = hooks()(context)
    await expect(failed).rejects.toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
    await expect(failed).rejects.toThrow('exited with code 1: no such service')
    expect(await readFile(at('ran'), 'utf8')).toBe('')
    await hooks({ failures: 'log' })(context)
  })

  it('refuses a directory that everybody may write, for good', async () => {
    await writeHook(at('hooks'), 'a', 'exit 0')
    await chmod(at('hooks'), 0o777)
    for (const failures of ['retry', 'log'] as const) {
      const error = { code: 'ERR_DEPLOY_REJECTED', retryable: false }
      await expect(hooks({ failures })(context)).rejects.toMatchObject(error)
    }
  })

  it('says what the file system says', async () => {
    await writeHook(at('hooks'), 'a', 'exit 0')
    const faulty = faultyFiles()
    faulty.failNext(/^readdir/, 'EACCES')
    await expect(hooks({ fileSystem: faulty.files })(context)).rejects.toMatchObject({ code: 'ERR_DEPLOY_REJECTED' })
  })

  it('runs after the files are in place, and again until it has succeeded', async () => {
    const host = 'www.example.com'
    await writeHook(
      at('hooks'),
      'a',
      `
      read -r host
      cat "$ACME_STATE_DIR/live/$host/privkey" "$ACME_STATE_DIR/live/$host/fullchain" > "$ACME_STATE_DIR/haproxy.pem"
      [ -e "$ACME_STATE_DIR/up" ]`,
    )
    const deployer = pemFilesDeployer({
      ...acmetoolLive({ directory: work.path, host }),
      afterwards: hooks({ hosts: [host] }),
    })
    const bundle = await createTestBundle()
    await expect(deployer.deploy(bundle, context)).rejects.toMatchObject({ code: 'ERR_DEPLOY_UNAVAILABLE' })
    expect(await deployer.inspect?.(bundle, context)).toBe('stale')
    await writeFile(at('up'), '')
    expect(await deployer.deploy(bundle, context)).toEqual({ status: 'deployed' })
    expect(await deployer.deploy(bundle, context)).toEqual({ status: 'unchanged' })
    expect(await readFile(at('haproxy.pem'), 'utf8')).toBe(bundle.privateKey.exportPem() + bundle.fullChainPem)
  })

  it.each<[string, unknown]>([
    ['hosts', { hosts: [] }],
    ['hosts', { hosts: 'www.example.com' }],
    ['hosts', { hosts: ['a\nb'] }],
    ['failures', { failures: 'ignore' }],
    ['zones', { zones: ['a'] }],
  ])('names the option %s', (option, options) => {
    expect(() => hooks(options as Partial<AcmetoolLiveUpdatedOptions>)).toThrow(TypeError)
    expect(() => hooks(options as Partial<AcmetoolLiveUpdatedOptions>)).toThrow(option)
  })
})
