import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/core/clock.js'
import { withFileLock, type FileLockOptions } from '../../../src/internal/file-lock.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../support/temporary-directory.js'

let directory: TemporaryDirectory
let path: string
beforeEach(async () => {
  directory = await temporaryDirectory()
  path = join(directory.path, '.lock')
})
afterEach(async () => {
  await directory.remove()
})

function options(more: Partial<FileLockOptions> = {}): FileLockOptions {
  return {
    path,
    clock: systemClock,
    signal: new AbortController().signal,
    waitMs: 10_000,
    staleMs: 60_000,
    onBusy: () => new Error('busy'),
    onUnusable: (cause) => cause,
    ...more,
  }
}

it('lets one in at a time, and leaves nothing behind', async () => {
  let inside = 0
  let most = 0
  const enter = () =>
    withFileLock(options(), async () => {
      most = Math.max(most, ++inside)
      await new Promise((resolve) => setImmediate(resolve))
      inside -= 1
    })
  await Promise.all(Array.from({ length: 10 }, enter))
  expect(most).toBe(1)
  expect(await readdir(directory.path)).toEqual([])
})

it('is given back after a failure', async () => {
  await expect(withFileLock(options(), () => Promise.reject(new Error('inside')))).rejects.toThrow('inside')
  expect(await readdir(directory.path)).toEqual([])
})

it('is waited for within limits only, and left alone', async () => {
  await withFileLock(options(), async () => {
    const clock = fakeClock({ now: Date.now(), autoAdvance: true })
    await expect(withFileLock(options({ clock, waitMs: 1_000 }), () => Promise.resolve())).rejects.toThrow('busy')
    const [controller, reason] = [new AbortController(), new Error('stopped')]
    const waiting = withFileLock(options({ signal: controller.signal }), () => Promise.resolve())
    setImmediate(() => {
      controller.abort(reason)
    })
    await expect(waiting).rejects.toBe(reason)
  })
})

describe('a holder that is gone', () => {
  /** A claim as another process would have left it. */
  async function claimOf(change: (identity: string) => string, staleAt = Date.now() + 60_000): Promise<void> {
    let claim = { identity: '', token: '', staleAt: 0 }
    await rm(path, { force: true })
    await withFileLock(options(), async () => {
      claim = JSON.parse(await readFile(path, 'utf8')) as typeof claim
    })
    await writeFile(path, JSON.stringify({ identity: change(claim.identity), token: 'another', staleAt }))
  }
  const entered = (more: Partial<FileLockOptions> = {}) =>
    withFileLock(options({ waitMs: 200, ...more }), () => Promise.resolve('in'))

  it.runIf(process.platform === 'linux')(
    'is replaced at once when it ran here: killed, or its process id is reused',
    async () => {
      await claimOf((identity) => identity.replace(/ \d+ \d+$/, ' 4194303 1'))
      expect(await entered()).toBe('in')
      await claimOf((identity) => identity.replace(/\d+$/, '1'))
      expect(await entered()).toBe('in')
    },
  )

  it('is replaced after its time when nobody can tell: another container', async () => {
    await claimOf((identity) => identity.replace('pid:', 'pid:9'))
    await expect(entered()).rejects.toThrow('busy')
    await claimOf((identity) => identity.replace('pid:', 'pid:9'), Date.now() - 1)
    expect(await entered()).toBe('in')
  })

  it('is replaced when its claim was lost in a power cut', async () => {
    await writeFile(path, '')
    expect(await entered()).toBe('in')
  })

  it('is replaced by one of many who find it', async () => {
    await claimOf(() => '', Date.now() - 1)
    let inside = 0
    let most = 0
    const enter = () =>
      withFileLock(options(), async () => {
        most = Math.max(most, ++inside)
        await new Promise((resolve) => setImmediate(resolve))
        inside -= 1
      })
    await Promise.all(Array.from({ length: 20 }, enter))
    expect(most).toBe(1)
    expect(await readdir(directory.path)).toEqual([])
  })
})
