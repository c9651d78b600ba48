/**
 * marathon-lb with certificates in files: the reload that its HAProxy needs.
 *
 * @module
 */
import type { Clock } from '../../core/clock.js'
import type { OperationContext } from '../../core/context.js'
import { CertError, DeployError } from '../../errors.js'
import { createHttpClient, type FetchFunction } from '../../internal/http.js'
import { assertArray, assertDuration, assertHttpsUrl, assertOptions } from '../../internal/options.js'
import { version } from '../../internal/version.js'

/** Options of {@link marathonLbReload}. */
export interface MarathonLbReloadOptions {
  /** The port 9090 of each marathon-lb: `http://10.0.0.4:9090`. It has neither TLS nor authentication. */
  readonly urls: readonly string[]
  /** For each of them, milliseconds. @defaultValue 10_000 */
  readonly timeoutMs?: number | undefined
  /** @defaultValue `fetch` of undici */
  readonly fetch?: FetchFunction | undefined
}

/**
 * Has each marathon-lb validate its configuration and reload HAProxy, which then reads its certificate files anew. For
 * `afterwards` of `pemFilesDeployer`, where marathon-lb runs with `--ssl-certs` and a volume that this process writes to.
 *
 * `marathonDeployer` itself does not need it: a changed environment starts marathon-lb anew.
 *
 * @example
 *
 * ```ts
 * import { marathonLbReload } from 'evercert/deployers/marathon'
 * import { haproxyPem, pemFilesDeployer } from 'evercert/deployers/pem-files'
 *
 * const deployer = pemFilesDeployer({
 *   ...haproxyPem({ path: '/var/lib/marathon-lb/certs/www.pem' }),
 *   afterwards: marathonLbReload({ urls: ['http://127.0.0.1:9090'] }),
 * })
 * ```
 *
 * @remarks
 * marathon-lb answers before it has reloaded, and where the new configuration is not valid it goes on with the old one: give the
 * certificate `endpoints`, so that a handshake has the last word. The function rejects with `ERR_DEPLOY_UNAVAILABLE`,
 * which names those that did not take the signal; all are tried.
 *
 * @param options - See {@link MarathonLbReloadOptions}. Validated and copied; later changes have no effect.
 * @throws `TypeError` if an option is missing, unknown or wrong.
 */
export function marathonLbReload(options: MarathonLbReloadOptions): (context: OperationContext) => Promise<void> {
  assertOptions(options, ['urls', 'timeoutMs', 'fetch'], 'marathonLbReload')
  const { timeoutMs = 10_000, fetch } = options
  assertArray(options.urls, 'urls')
  assertDuration(timeoutMs, 'timeoutMs')
  const urls = options.urls.map((value) => {
    const url = assertHttpsUrl(value, 'urls', 'anywhere')
    if (url.search !== '') throw new TypeError('"urls" option must be without query')
    return url.href.replace(/\/+$/, '')
  })
  if (urls.length === 0) throw new TypeError('"urls" option must hold at least one URL')
  const httpClient = (clock: Clock) =>
    createHttpClient({
      clock,
      userAgent: `evercert/${version}`,
      fetch,
      timeoutMs,
      allowHttp: true,
      maxBodyBytes: 65_536,
    })
  httpClient({ now: () => 0, sleep: () => Promise.resolve() })

  return async ({ clock, signal }) => {
    const http = httpClient(clock)
    const reload = async (url: string): Promise<string | undefined> => {
      try {
        const { status } = await http.request({ url: `${url}/_mlb_signal/usr1`, method: 'GET', signal })
        // 500 where marathon-lb polls Marathon instead of listening to its events.
        return status === 200 ? undefined : `${url} answered ${String(status)}`
      } catch (error) {
        signal.throwIfAborted()
        if (CertError.isInstance(error)) return error.message
        throw error
      }
    }
    try {
      const failures = (await Promise.all(urls.map(reload))).filter((failure) => failure !== undefined)
      if (failures.length === 0) return
      const message = `marathon-lb was not reloaded: ${failures.join('; ')}`
      throw new DeployError({ code: 'ERR_DEPLOY_UNAVAILABLE', message, deployer: 'marathon-lb' })
    } finally {
      void http.close().catch(() => undefined)
    }
  }
}
