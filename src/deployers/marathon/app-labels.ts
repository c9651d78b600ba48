/**
 * The labels of an app, and the host names that marathon-lb reads from them.
 *
 * @module
 */
import { systemClock } from '../../core/clock.js'
import type { OperationContext } from '../../core/context.js'
import { silentLogger } from '../../core/logger.js'
import { marathonApi } from './marathon-api.js'
import { checkMarathonOptions, type MarathonConnectionOptions } from './marathon-options.js'
import { withMarathon } from './marathon-session.js'

/**
 * Reads the labels of an app, by the same rules as `marathonDeployer`: any of several masters, the same authentication.
 *
 * @example
 *
 * ```ts
 * import { marathonLbHosts, readMarathonLabels } from 'evercert/deployers/marathon'
 *
 * const labels = await readMarathonLabels({ urls: 'https://marathon.mesos:8443', appId: '/web' })
 * console.log(marathonLbHosts(labels)) // ['www.example.com', 'example.com']
 * ```
 *
 * @param options - See {@link MarathonConnectionOptions}.
 * @param context - signal, clock and logger; without it the system's clock, and a signal that never aborts
 * @returns Values that are texts; empty when the app has no labels.
 * @throws `MarathonDeployError`; `TypeError` if an option is missing, unknown or wrong; the abort reason.
 */
export async function readMarathonLabels(
  options: MarathonConnectionOptions,
  context: Partial<OperationContext> = {},
): Promise<Readonly<Record<string, string>>> {
  const settings = checkMarathonOptions(options, 'readMarathonLabels')
  const { signal = new AbortController().signal, clock = systemClock, logger = silentLogger } = context
  signal.throwIfAborted()
  const session = { settings, masters: { urls: settings.urls, preferred: 0 }, deployer: 'readMarathonLabels' }
  return withMarathon(session, { signal, clock, logger }, async ({ transport, login }) => {
    const secrets = (): readonly string[] => settings.authentication.secrets()
    const api = marathonApi({ appId: settings.appId, force: false, transport, context: login, secrets })
    return (await api.app()).labels
  })
}

/**
 * The names in the labels `HAPROXY_0_VHOST`, `HAPROXY_1_VHOST`, ... of an app, as marathon-lb reads them: separated by commas,
 * lower case. In the order of the ports, each name once.
 */
export function marathonLbHosts(labels: Readonly<Record<string, string>>): readonly string[] {
  const ports = Object.entries(labels).flatMap(([label, hosts]) => {
    const port = /^HAPROXY_(\d{1,4})_VHOST$/.exec(label)?.[1]
    return port === undefined ? [] : [{ port: Number(port), hosts }]
  })
  const names = ports
    .sort((one, other) => one.port - other.port)
    .flatMap(({ hosts }) => hosts.split(','))
    .map((host) => host.trim().toLowerCase())
    .filter((host) => host !== '')
  return [...new Set(names)]
}
