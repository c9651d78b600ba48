/**
 * lego and certbot: one process per certificate, which is what their users wait for. Their account is made beforehand.
 */
import { execFile, type ExecFileOptions } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { serverPath } from '../../test/support/server-paths.js'
import { temporaryDirectory } from '../../test/support/temporary-directory.js'
import type { Contestant } from '../contestant.js'
import type { PeerWorld } from './peer.js'

const timeoutMs = 15_000
const email = 'someone@example.com'

type Run = (names: readonly string[]) => Promise<void>

/** `undefined` when it is not installed. */
export const startLego = (world: PeerWorld): Promise<Contestant | undefined> =>
  startProgram('lego', world, async (path, directory, anchor) => {
    const help = await execute(path, ['run', '--help'])
    // Version 5: options follow the command.
    const modern = help.includes('--domains')
    const listen = modern ? '--http.address' : '--http.port'
    const options = [
      ...['--server', world.directoryUrl, '--path', directory, '--email', email, '--accept-tos'],
      ...['--http', listen, `127.0.0.1:${world.httpPort}`],
    ]
    return async (names) => {
      const domains = names.flatMap((name) => ['--domains', name])
      const args = modern ? ['run', ...options, ...domains] : [...options, ...domains, 'run']
      await execute(path, args, { env: { LEGO_CA_CERTIFICATES: anchor, HOME: directory } })
    }
  })

/** `undefined` when it is not installed. */
export const startCertbot = (world: PeerWorld): Promise<Contestant | undefined> =>
  startProgram('certbot', world, (path, directory, anchor) => {
    const directories = ['config', 'work', 'logs'].flatMap((name) => [`--${name}-dir`, join(directory, name)])
    const options = [
      ...['certonly', '--non-interactive', '--agree-tos', '--email', email, '--no-eff-email'],
      ...['--server', world.directoryUrl, '--standalone', '--http-01-port', String(world.httpPort)],
      ...['--http-01-address', '127.0.0.1', '--force-renewal', ...directories],
    ]
    return Promise.resolve(async (names) => {
      const domains = names.flatMap((name) => ['--domain', name])
      const env = { PATH: process.env['PATH'], REQUESTS_CA_BUNDLE: anchor, HOME: directory }
      await execute(path, [...options, ...domains], { env })
    })
  })

async function execute(path: string, args: readonly string[], options: ExecFileOptions = {}): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(path, args, { ...options, encoding: 'utf8', timeout: timeoutMs })
    return stdout
  } catch (error) {
    const { killed, stderr } = error as { readonly killed?: boolean; readonly stderr?: string }
    const reason = stderr?.trim().split('\n').at(-1) ?? String(error)
    throw new Error(killed === true ? `not finished after ${timeoutMs / 1000} s` : reason, { cause: error })
  }
}

async function startProgram(
  name: 'lego' | 'certbot',
  world: PeerWorld,
  prepare: (path: string, directory: string, anchor: string) => Promise<Run>,
): Promise<Contestant | undefined> {
  const path = serverPath(name)
  if (path === undefined) return undefined
  const directory = await temporaryDirectory()
  try {
    const anchor = join(directory.path, 'anchor.pem')
    await writeFile(anchor, world.caPem)
    const run = await prepare(path, directory.path, anchor)
    await run(['account.test'])
    return {
      label: name,
      async run({ orders }) {
        const started = performance.now()
        for (const { names } of orders) await run(names)
        return { wallMs: performance.now() - started }
      },
      stop: () => directory.remove(),
    }
  } catch (error) {
    await directory.remove()
    throw error
  }
}
