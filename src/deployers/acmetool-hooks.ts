/**
 * Runs the hooks that acmetool's users have, exported from `evercert/deployers/acmetool-hooks`.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { DeployError } from '../errors.js'
import { acmetoolHooksOption, runHooks, UnsafeHooks, type AcmetoolHooksOptions } from '../internal/acmetool-hooks.js'
import { deployFailure } from '../internal/deploy-failure.js'
import { assertArray, assertOneOf, assertText } from '../internal/options.js'
import { defaultCommandTimeoutMs } from '../internal/run-command.js'

export type { AcmetoolHooksOptions } from '../internal/acmetool-hooks.js'

/** Options of {@link acmetoolHooks}. */
export interface AcmetoolLiveUpdatedOptions extends AcmetoolHooksOptions {
  /** Names in the state directory's `live/` that have changed: one line each on the hooks' standard input. */
  readonly hosts: readonly string[]
  /**
   * What a hook that fails means: `retry`, that the deployment has failed and is tried again; `log`, nothing more, as at
   * acmetool.
   *
   * @defaultValue 'retry'
   */
  readonly failures?: 'retry' | 'log' | undefined
  /** Limit for each hook, milliseconds. @defaultValue 60_000 (one minute) */
  readonly timeoutMs?: number | undefined
}

/**
 * What `pemFilesDeployer` does `afterwards` in a directory that was acmetool's: every hook is told `live-updated`, with the
 * names on standard input.
 *
 * It is no deployer of its own, because the deployers of a certificate run side by side, and the hooks must find the new
 * files.
 *
 * @example
 *
 * ```ts
 * import { acmetoolHooks } from 'evercert/deployers/acmetool-hooks'
 * import { acmetoolLive, pemFilesDeployer } from 'evercert/deployers/pem-files'
 *
 * const [directory, host] = ['/var/lib/acme', 'www.example.com']
 * const deployer = pemFilesDeployer({
 *   ...acmetoolLive({ directory, host }),
 *   afterwards: acmetoolHooks({ stateDirectory: directory, hosts: [host] }),
 *   timeoutMs: 300_000, // for all hooks together
 * })
 * ```
 *
 * @remarks
 * The hooks run one after the other in the order of their names, with `ACME_STATE_DIR` in their environment and `/` as their
 * directory; one that fails stops no other. Exit code 42 says that a hook does not know the event. Hidden files, files that
 * are not executable and files that everybody may write are not run; a directory that everybody may write is refused as a
 * whole. They run at least once for each certificate: a hook must bear being told twice. Hooks of two certificates may run
 * at the same time, as they never do at acmetool, unless both deployers are given the result of one call.
 *
 * Rejects with `ERR_DEPLOY_UNAVAILABLE` when a hook failed, after all of them have run, and with `ERR_DEPLOY_REJECTED` when
 * a directory is refused.
 *
 * @throws `TypeError` that names the option
 * @see {@link https://github.com/hlandau/acmetool/blob/master/_doc/SCHEMA.md#notification-hooks | acmetool's hooks}
 */
export function acmetoolHooks(options: AcmetoolLiveUpdatedOptions): (context: OperationContext) => Promise<void> {
  const hooks = acmetoolHooksOption(options, 'acmetoolHooks', {
    timeoutMs: defaultCommandTimeoutMs,
    more: ['hosts', 'failures'],
  })
  const { failures: onFailure = 'retry' } = options
  assertOneOf(onFailure, 'failures', ['retry', 'log'])
  assertArray(options.hosts, 'hosts')
  for (const host of options.hosts) assertText(host, 'hosts', 253)
  if (options.hosts.length === 0) throw new TypeError('"hosts" option must name at least one host')
  const input = options.hosts.map((host) => `${host}\n`).join('')
  const name = 'acmetool-hooks'

  return async (context) => {
    try {
      const { failures } = await runHooks(hooks, { name: 'live-updated', args: [], input }, context)
      if (failures.length === 0 || onFailure === 'log') return
      throw new DeployError({
        code: 'ERR_DEPLOY_UNAVAILABLE',
        message: `${name}: ${failures.join('; ')}`,
        deployer: name,
      })
    } catch (error) {
      if (!(error instanceof UnsafeHooks)) throw deployFailure(name, 'look for hooks', error, context.signal)
      throw new DeployError({ code: 'ERR_DEPLOY_REJECTED', message: `${name}: ${error.message}`, deployer: name })
    }
  }
}
