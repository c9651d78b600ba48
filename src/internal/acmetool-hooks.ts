/**
 * acmetool's hook protocol: every program of some directories is told of an event, and says whether it can do something
 * with it.
 *
 * @module
 */
import { join } from 'node:path'
import type { Clock } from '../core/clock.js'
import type { Logger } from '../core/logger.js'
import { errorCode } from './atomic-file.js'
import type { FileSystem } from './file-system.js'
import { systemFiles } from './file-system.js'
import { assertArray, assertOptions, assertPath } from './options.js'
import { Semaphore } from './semaphore.js'
import { commandOptions, describeFailure, runCommand, type CommandOptions } from './run-command.js'

/** Where the hooks are, and how they are run. */
export interface AcmetoolHooksOptions {
  /** acmetool's state directory; `ACME_STATE_DIR` of the hooks. @defaultValue '/var/lib/acme' */
  readonly stateDirectory?: string | undefined
  /** Directories of the hooks, in this order; those that do not exist are passed over. @defaultValue acmetool's two */
  readonly directories?: readonly string[] | undefined
  /** The environment besides `ACME_STATE_DIR`: nothing is inherited. @defaultValue `PATH` with the system directories, `LANG=C` */
  readonly env?: Readonly<Record<string, string>> | undefined
  /** Limit for each hook and everything it starts, milliseconds. */
  readonly timeoutMs?: number | undefined
  /** For tests. @defaultValue `node:fs/promises` */
  readonly fileSystem?: FileSystem | undefined
}

/** {@link AcmetoolHooksOptions}, checked. */
export interface AcmetoolHooks {
  readonly stateDirectory: string
  readonly directories: readonly string[]
  readonly command: Omit<CommandOptions, 'command'>
  readonly timeoutMs: number
  readonly files: FileSystem
  /** acmetool tells its hooks of one event at a time, and they rely on it. */
  readonly turns: Semaphore
}

/** Names of the options, for plug-ins that have more. */
export const acmetoolHooksOptionNames: readonly string[] = [
  'stateDirectory',
  'directories',
  'env',
  'timeoutMs',
  'fileSystem',
]

/** What the hooks are told. */
export interface HookEvent {
  readonly name:
    'live-updated' | 'challenge-http-start' | 'challenge-http-stop' | 'challenge-dns-start' | 'challenge-dns-stop'
  readonly args: readonly string[]
  readonly input: string
  /** Never shown, whatever a hook prints. */
  readonly secrets?: readonly string[] | undefined
}

/** What became of an event. */
export interface HookOutcomes {
  /** Paths of the hooks that did something with it. */
  readonly done: readonly string[]
  /** One sentence for each hook that failed. */
  readonly failures: readonly string[]
}

/** acmetool's, for `libexec` and for distributions without it. */
const defaultDirectories = ['/usr/libexec/acme/hooks', '/usr/lib/acme/hooks']
/** A hook says that it does not know the event. */
const unsupportedExitCode = 42

/** Checks and copies. Further options of a plug-in are its own to check. @throws `TypeError` */
export function acmetoolHooksOption(
  options: AcmetoolHooksOptions,
  of: string,
  defaults: { readonly timeoutMs: number; readonly more?: readonly string[] },
): AcmetoolHooks {
  assertOptions(options, [...acmetoolHooksOptionNames, ...(defaults.more ?? [])], of)
  const { stateDirectory = '/var/lib/acme', directories = defaultDirectories, env, fileSystem = systemFiles } = options
  const { timeoutMs = defaults.timeoutMs } = options
  assertPath(stateDirectory, 'stateDirectory')
  assertArray(directories, 'directories')
  if (directories.length === 0) throw new TypeError('"directories" option must name at least one directory')
  for (const directory of directories) assertPath(directory, 'directories')
  const { command: _, ...command } = commandOptions({ command: ['/'], timeoutMs, env }, of)
  return {
    stateDirectory,
    directories: [...directories],
    command,
    timeoutMs,
    files: fileSystem,
    turns: new Semaphore(1),
  }
}

interface HookContext {
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly logger: Logger
}

/**
 * Tells every hook, one after the other; one that fails stops no other. Resolves however they ended.
 *
 * @throws {@link UnsafeHooks} when anybody may write into one of the directories; no hook is run then; the abort reason
 */
export async function runHooks(hooks: AcmetoolHooks, event: HookEvent, context: HookContext): Promise<HookOutcomes> {
  return hooks.turns.run(() => tellAll(hooks, event, context), context.signal)
}

async function tellAll(hooks: AcmetoolHooks, event: HookEvent, context: HookContext): Promise<HookOutcomes> {
  const { clock, signal, logger } = context
  const done: string[] = []
  const failures: string[] = []
  for (const path of await findHooks(hooks, logger)) {
    const command = [path, event.name, ...event.args] as const
    try {
      const result = await runCommand(
        { ...hooks.command, command },
        {
          clock,
          signal,
          input: event.input,
          env: { ACME_STATE_DIR: hooks.stateDirectory },
          secrets: event.secrets,
        },
      )
      if (!result.timedOut && result.exitCode === unsupportedExitCode) continue
      const failure = describeFailure(command, result, hooks.timeoutMs)
      if (failure === undefined) done.push(path)
      else failures.push(failure)
    } catch (error) {
      signal.throwIfAborted()
      failures.push(`${path} cannot be run (${errorCode(error) ?? 'unexpected error'})`)
    }
  }
  for (const failure of failures) logger.warn('hook failed', { event: event.name, failure })
  return { done, failures }
}

/** Anybody may put a program where it would be run. */
export class UnsafeHooks extends Error {}

/** All directories are looked at before the first hook runs. */
async function findHooks({ directories, files }: AcmetoolHooks, logger: Logger): Promise<readonly string[]> {
  const found: string[] = []
  for (const directory of directories) {
    const stat = await files.stat(directory).catch(absent)
    if (stat === undefined) continue
    if (isWorldWritable(stat.mode)) throw new UnsafeHooks(`${directory} may be written by everybody: chmod o-w it`)
    for (const name of (await files.readdir(directory)).sort()) {
      if (name.startsWith('.')) continue
      const path = join(directory, name)
      const hook = await files.stat(path).catch(absent)
      if (hook?.isFile() !== true || (hook.mode & 0o111) === 0) continue
      if (isWorldWritable(hook.mode)) logger.warn('hook may be written by everybody and is not run', { hook: path })
      else found.push(path)
    }
  }
  return found
}

function isWorldWritable(mode: number): boolean {
  return (mode & 0o002) !== 0
}

/** For `catch`: absence is an answer, everything else is not. */
function absent(error: unknown): undefined {
  const code = errorCode(error)
  if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error
  return undefined
}
