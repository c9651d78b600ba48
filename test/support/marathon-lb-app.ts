/**
 * marathon-lb as DC/OS's package defines it, and what its tasks serve.
 */
import type { DeployedPair } from '../../src/testing/deployer-contract.js'
import type { AppDefinition } from '../servers/marathon/app.js'
import type { Marathon } from '../servers/marathon/marathon.js'
import { pairOf } from './read-pair.js'

export const lbId = '/marathon-lb'

/** Two instances on the host network, of which one is stopped before a new one is started. */
export function marathonLbApp(fields: Partial<AppDefinition> = {}): AppDefinition {
  return {
    id: lbId,
    args: ['sse', '--marathon', 'https://marathon.mesos:8443', '--group', 'external'],
    container: { type: 'DOCKER', docker: { image: 'mesosphere/marathon-lb:v1.15.0' } },
    instances: 2,
    env: {
      HAPROXY_SYSCTL_PARAMS: 'net.ipv4.tcp_tw_reuse=1',
      DCOS_SERVICE_ACCOUNT_CREDENTIAL: { secret: 'serviceCredential' },
    },
    secrets: { serviceCredential: { source: 'marathon-lb/service-account-secret' } },
    labels: { DCOS_PACKAGE_NAME: 'marathon-lb' },
    networks: [{ mode: 'host' }],
    requirePorts: true,
    portDefinitions: [80, 443, 9090, 9091].map((port) => ({ port, protocol: 'tcp' })),
    healthChecks: [{ protocol: 'MESOS_HTTP', path: '/_haproxy_health_check' }],
    upgradeStrategy: { minimumHealthCapacity: 0.5, maximumOverCapacity: 0 },
    resourceLimits: { mem: 2048 },
    executorResources: { cpus: 0.1, mem: 32 },
    ...fields,
  }
}

/** The certificate of the oldest task: what is really in service, whatever the app's definition says. */
export function servedPair(marathon: Marathon, variable = 'HAPROXY_SSL_CERT', id = lbId): DeployedPair | undefined {
  const value = marathon.tasks(id)[0]?.env[variable]
  return value === undefined || value === '' ? undefined : pairOf(value, value)
}

/** The app without what is a deployer's, and everything else there is. */
export function unrelatedState(marathon: Marathon, variable = 'HAPROXY_SSL_CERT'): string {
  return JSON.stringify(
    marathon.apps().map(({ definition }) => {
      if (definition.id !== lbId) return definition
      const { [variable]: own, ...env } = definition.env ?? {}
      return { ...definition, env }
    }),
  )
}

/** What somebody does who rolls back the one deployment there is. */
export async function rollBack(marathon: Marathon): Promise<void> {
  const id = marathon.deployments.running[0]?.id ?? 'none'
  const response = await fetch(`${marathon.url}/v2/deployments/${id}`, { method: 'DELETE' })
  if (response.status !== 200) throw new Error(`${String(response.status)} ${await response.text()}`)
}
