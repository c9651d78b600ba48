/**
 * A deployer that runs a program of yours.
 *
 * Published as `evercert/deployers/exec`.
 *
 * @module
 */
import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import type { CertificateBundle } from '../core/certificate-bundle.js'
import { DeployError } from '../errors.js'
import { errorCode } from '../internal/atomic-file.js'
import { deployStep } from '../internal/deploy-failure.js'
import { systemFiles, type FileSystem } from '../internal/file-system.js'
import { assertNumber, assertOneOf, assertOptions, assertPath, assertText } from '../internal/options.js'
import { checkedLeaf, renderPem, type PemPart } from '../internal/pem-layout.js'
import {
  commandOptions,
  defaultCommandTimeoutMs,
  describeFailure,
  runCommand,
  type Command,
  type CommandOptions,
} from '../internal/run-command.js'
import type { Deployer } from './deployer.js'

export type { Command } from '../internal/run-command.js'

/** Options of {@link execDeployer}. */
export interface ExecDeployerOptions extends CommandOptions {
  /**
   * The program and its arguments; no shell reads them. With `input: 'files'` an argument that is exactly `{certificate}`,
   * `{chain}`, `{fullchain}`, `{key}` or `{directory}` becomes the path of that file or of their directory.
   */
  readonly command: Command
  /**
   * How the program gets the certificate and the key.
   *
   * - `files`: PEM files `certificate.pem`, `chain.pem`, `fullchain.pem` and `key.pem` (0600) in a directory of their own
   *   (0700), removed when the program has ended. Paths by placeholders, or by `EVERCERT_DIRECTORY`.
   * - `stdin-pem`: leaf, intermediates and key, in this order, on standard input.
   * - `stdin-json`: one JSON object on standard input: `name`, `identifiers`, `certificate`, `chain`, `key`,
   *   `fingerprintSha256`, `notBefore`, `notAfter`.
   *
   * @defaultValue `'files'`
   */
  readonly input?: 'files' | 'stdin-pem' | 'stdin-json' | undefined
  /** Exit code by which the program says that nothing had to be done, 1 to 255. @defaultValue none: 0 means `deployed` */
  readonly unchangedExitCode?: number | undefined
  /** Where the directory for `files` is made; best a tmpfs. @defaultValue the system's */
  readonly temporaryDirectory?: string | undefined
  /** `cluster` when one replica runs the program for all. @defaultValue `'node'` */
  readonly scope?: 'node' | 'cluster' | undefined
  /** @defaultValue `exec:` and the program's file name */
  readonly name?: string | undefined
  /** For tests. @defaultValue `node:fs/promises` */
  readonly files?: FileSystem | undefined
}

const placeholders = {
  '{certificate}': 'certificate.pem',
  '{chain}': 'chain.pem',
  '{fullchain}': 'fullchain.pem',
  '{key}': 'key.pem',
}
const contents: Readonly<Record<string, readonly PemPart[]>> = {
  'certificate.pem': ['certificate'],
  'chain.pem': ['chain'],
  'fullchain.pem': ['fullchain'],
  'key.pem': ['key'],
}

/**
 * A deployer that hands the certificate to a program: 0 is success, anything else a failure that is tried again later.
 *
 * The program runs **at least once** per certificate: after a crash, or where the ledger is lost, it runs again with the
 * same one. It finds out by `EVERCERT_FINGERPRINT_SHA256`, and can say so by `unchangedExitCode`. In its environment are
 * also `EVERCERT_NAME`, `EVERCERT_IDENTIFIERS` (separated by spaces), `EVERCERT_NOT_AFTER` and, with `files`,
 * `EVERCERT_DIRECTORY`. The key is never in its arguments or environment.
 *
 * @example
 *
 * ```ts
 * import { execDeployer } from 'evercert/deployers/exec'
 *
 * const deployer = execDeployer({
 *   command: ['/usr/local/bin/install-certificate', '--cert', '{fullchain}', '--key', '{key}'],
 *   timeoutMs: 30_000,
 * })
 * ```
 *
 * @remarks
 * The program and everything it starts is ended when time runs out. Its output is kept to 64 kB and cleared of the key
 * before it appears in an error. When evercert itself is killed, the directory with the key stays behind until somebody
 * removes it: a tmpfs, or standard input, avoids that.
 *
 * Rejects with `ERR_DEPLOY_REJECTED` when the program cannot be started, `ERR_DEPLOY_UNAVAILABLE` when it fails or takes
 * too long.
 *
 * @param options - See {@link ExecDeployerOptions}. Validated and copied; later changes have no effect.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 */
export function execDeployer(options: ExecDeployerOptions): Deployer {
  const { input, unchangedExitCode, temporaryDirectory, scope, name, files, program } = checkOptions(options)
  const timeoutMs = program.timeoutMs ?? defaultCommandTimeoutMs

  return {
    name,
    scope,
    async deploy(bundle, { clock, signal }) {
      signal.throwIfAborted()
      checkedLeaf(bundle)
      const run = async (directory: string | undefined): Promise<'deployed' | 'unchanged'> => {
        const result = await runCommand(
          { ...program, command: fillIn(program.command, directory) },
          {
            clock,
            signal,
            env: environmentOf(bundle, directory),
            input: directory === undefined ? textFor(input, bundle) : undefined,
            secrets: secretLines(bundle),
          },
        ).catch((error: unknown) => {
          throw signal.aborted ? error : startFailure(name, program, error)
        })
        if (!result.timedOut && result.exitCode === unchangedExitCode) return 'unchanged'
        const failure = describeFailure(program.command, result, timeoutMs)
        if (failure === undefined) return 'deployed'
        throw new DeployError({ code: 'ERR_DEPLOY_UNAVAILABLE', message: `${name}: ${failure}`, deployer: name })
      }
      if (input !== 'files') return { status: await run(undefined) }
      return { status: await withPemDirectory({ name, parent: temporaryDirectory, files }, bundle, run) }
    },
  }
}

function checkOptions(options: ExecDeployerOptions) {
  const known = [
    'command',
    'timeoutMs',
    'cwd',
    'env',
    'input',
    'unchangedExitCode',
    'temporaryDirectory',
    'scope',
    'name',
    'files',
  ]
  assertOptions(options, known, 'execDeployer')
  const {
    command,
    timeoutMs,
    cwd,
    env,
    unchangedExitCode,
    temporaryDirectory = tmpdir(),
    files = systemFiles,
  } = options
  const { input = 'files', scope = 'node' } = options
  const program = commandOptions({ command, timeoutMs, cwd, env }, 'execDeployer')
  assertOneOf(input, 'input', ['files', 'stdin-pem', 'stdin-json'])
  assertOneOf(scope, 'scope', ['node', 'cluster'])
  assertPath(temporaryDirectory, 'temporaryDirectory')
  if (unchangedExitCode !== undefined)
    assertNumber(unchangedExitCode, 'unchangedExitCode', { min: 1, max: 255, integer: true })
  const name = options.name ?? `exec:${basename(program.command[0])}`
  assertText(name, 'name', 200)
  for (const arg of program.command) {
    if (!/^\{.*\}$/.test(arg)) continue
    if (input !== 'files') throw new TypeError(`"command" option: ${arg} needs "input" to be files`)
    if (arg !== '{directory}' && !(arg in placeholders)) {
      throw new TypeError(
        `"command" option: unknown placeholder ${arg}; known are ${Object.keys(placeholders).join(', ')}, {directory}`,
      )
    }
  }
  return { input, unchangedExitCode, temporaryDirectory, scope, name, files, program }
}

/** The files exist while `run` does; the directory goes whatever happens. */
async function withPemDirectory<Result>(
  { name, parent, files }: { readonly name: string; readonly parent: string; readonly files: FileSystem },
  bundle: CertificateBundle,
  run: (directory: string) => Promise<Result>,
): Promise<Result> {
  const directory = join(parent, `evercert-${randomBytes(8).toString('hex')}`)
  await deployStep(name, `make ${directory}`, () => files.mkdir(directory, { mode: 0o700 }))
  try {
    for (const [file, parts] of Object.entries(contents)) {
      const path = join(directory, file)
      await deployStep(name, `write ${path}`, async () => {
        const handle = await files.open(path, 'wx', 0o600)
        try {
          await handle.writeFile(renderPem(bundle, parts))
        } finally {
          await handle.close()
        }
      })
    }
    return await run(directory)
  } finally {
    await deployStep(name, `remove ${directory}`, () => files.rm(directory, { recursive: true, force: true }))
  }
}

function fillIn([file, ...args]: Command, directory: string | undefined): Command {
  if (directory === undefined) return [file, ...args]
  const paths = new Map(Object.entries(placeholders).map(([token, path]) => [token, join(directory, path)]))
  paths.set('{directory}', directory)
  return [file, ...args.map((arg) => paths.get(arg) ?? arg)]
}

function environmentOf(bundle: CertificateBundle, directory: string | undefined): Record<string, string> {
  return {
    EVERCERT_NAME: bundle.name,
    EVERCERT_IDENTIFIERS: bundle.identifiers.map(({ value }) => value).join(' '),
    EVERCERT_FINGERPRINT_SHA256: bundle.fingerprintSha256,
    EVERCERT_NOT_AFTER: bundle.notAfter.toISOString(),
    ...(directory === undefined ? {} : { EVERCERT_DIRECTORY: directory }),
  }
}

function textFor(input: 'files' | 'stdin-pem' | 'stdin-json', bundle: CertificateBundle): string {
  if (input === 'stdin-pem') return renderPem(bundle, ['fullchain', 'key'])
  const { name, identifiers, fingerprintSha256, notBefore, notAfter } = bundle
  return `${JSON.stringify({
    name,
    identifiers: identifiers.map(({ value }) => value),
    certificate: renderPem(bundle, ['certificate']),
    chain: renderPem(bundle, ['chain']),
    key: renderPem(bundle, ['key']),
    fingerprintSha256,
    notBefore,
    notAfter,
  })}\n`
}

/** The key's base64, line by line: a program may print it without its PEM frame. */
function secretLines(bundle: CertificateBundle): readonly string[] {
  return renderPem(bundle, ['key'])
    .split('\n')
    .filter((line) => line.length >= 8 && !line.startsWith('-----'))
}

function startFailure(name: string, { command, cwd = '/' }: CommandOptions, error: unknown): unknown {
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: `no such program, or its interpreter or the directory ${cwd} is missing`,
    EACCES: 'it is not executable for this user',
    ENOEXEC: 'it is no program, and a script needs a #! line',
    E2BIG: 'its arguments or environment are too long',
  }
  const code = errorCode(error)
  if (code === undefined) return error
  const reason = reasons[code]
  return new DeployError({
    code: reason === undefined ? 'ERR_DEPLOY_UNAVAILABLE' : 'ERR_DEPLOY_REJECTED',
    message: `${name}: cannot run ${command[0]}: ${reason ?? 'the system refused'} (${code})`,
    deployer: name,
    cause: error,
  })
}
