import { execFileSync } from 'node:child_process'
import { link, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { webrootChallenges } from '../../../../src/solvers/challenge-gateway/index.js'
import { webrootSolver } from '../../../../src/solvers/webroot.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { temporaryDirectory, type TemporaryDirectory } from '../../../support/temporary-directory.js'
import { httpChallenge, thumbprint } from '../challenges.js'
import { faultyFiles } from '../faulty-files.js'

const context = operationContext()
let work: TemporaryDirectory
let location: string

beforeEach(async () => {
  work = await temporaryDirectory()
  location = join(work.path, '.well-known', 'acme-challenge')
  await mkdir(location, { recursive: true })
})
afterEach(() => work.remove())

const put = (token: string, content = `${token}.${thumbprint}`): Promise<void> =>
  writeFile(join(location, token), content)

it('finds what webrootSolver has put up, until it is taken down', async () => {
  const challenges = webrootChallenges({ directory: work.path })
  const solver = webrootSolver({ directory: work.path })
  const challenge = httpChallenge()
  const find = () => challenges.findChallenge('any.example', challenge.token, context)
  expect(await find()).toBeUndefined()
  await solver.present(challenge, context)
  expect(await find()).toBe(challenge.keyAuthorization)
  expect(await challenges.listChallenges(context)).toEqual([
    { token: challenge.token, keyAuthorization: challenge.keyAuthorization },
  ])
  await solver.cleanUp(challenge, context)
  expect(await find()).toBeUndefined()
  expect(await challenges.listChallenges(context)).toEqual([])
})

it('reads files of other clients, final newline or not, from the directory itself', async () => {
  await put('one', `one.${thumbprint}\n`)
  const challenges = webrootChallenges({ challengeDirectory: location })
  expect(await challenges.findChallenge('', 'one', context)).toBe(`one.${thumbprint}`)
})

describe('what is no challenge', () => {
  it.each([
    ['another token', `two.${thumbprint}`],
    ['an empty file', ''],
    ['a page', '<html>'],
    ['a key authorization with more behind it', `one.${thumbprint} x`],
    ['a long file', `one.${thumbprint}${' '.repeat(600)}`],
  ])('is not served: %s', async (_, content) => {
    await put('one', content)
    const challenges = webrootChallenges({ directory: work.path })
    expect(await challenges.findChallenge('', 'one', context)).toBeUndefined()
    expect(await challenges.listChallenges(context)).toEqual([])
  })

  it('is neither a link, a directory nor a pipe', async () => {
    const elsewhere = join(work.path, 'secret')
    await writeFile(elsewhere, `link.${thumbprint}`)
    await symlink(elsewhere, join(location, 'link'))
    await mkdir(join(location, 'directory'))
    execFileSync('mkfifo', [join(location, 'pipe')])
    await put('sound')
    await link(join(location, 'sound'), join(location, '.sound.temporary'))
    const challenges = webrootChallenges({ directory: work.path })
    for (const token of ['link', 'directory', 'pipe']) {
      expect(await challenges.findChallenge('', token, context)).toBeUndefined()
    }
    expect((await challenges.listChallenges(context)).map(({ token }) => token)).toEqual(['sound'])
  })
})

it('takes a missing directory for an empty one', async () => {
  const challenges = webrootChallenges({ directory: join(work.path, 'missing') })
  expect(await challenges.findChallenge('', 'one', context)).toBeUndefined()
  expect(await challenges.listChallenges(context)).toEqual([])
})

it('lists a thousand at most', async () => {
  await Promise.all(Array.from({ length: 1_010 }, (_, index) => put(`t${String(index)}`)))
  expect(await webrootChallenges({ directory: work.path }).listChallenges(context)).toHaveLength(1_000)
})

it('passes on what is wrong with the disk, at every call', async () => {
  await put('one')
  let fired = 0
  for (let at = 0; ; at += 1) {
    const faulty = faultyFiles({ at, code: 'EIO' })
    const challenges = webrootChallenges({ directory: work.path, files: faulty.files })
    const outcome = await challenges.findChallenge('', 'one', context).catch((error: unknown) => error)
    if (faulty.fired() === undefined) break
    fired += 1
    expect(outcome).toMatchObject({ code: 'EIO' })
  }
  expect(fired).toBeGreaterThan(2)
})

it.each([
  [{}, /either the "directory"/],
  [{ directory: '/a', challengeDirectory: '/b' }, /either the "directory"/],
  [{ directory: 'a' }, /"directory" option must be an absolute path/],
  [{ challengeDirectory: '' }, /"challengeDirectory"/],
  [{ directory: '/a', other: 1 }, /unknown option "other"/],
])('refuses %j', (options, message) => {
  expect(() => webrootChallenges(options as never)).toThrow(message)
})
