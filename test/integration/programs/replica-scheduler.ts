/**
 * A replica of a service, with its connection to the store that it shares with others and two targets: one of its own, and one
 * that all replicas share.
 */
import { appendFileSync, readFileSync } from 'node:fs'
import { KubeConfig } from '@kubernetes/client-node'
import { createClient } from '@redis/client'
import { Redis } from 'ioredis'
import pg from 'pg'
import { systemClock, type Clock } from '../../../src/core/clock.js'
import type { KeyAlgorithm } from '../../../src/core/private-key.js'
import type { Deployer } from '../../../src/deployers/deployer.js'
import { acmeIssuer } from '../../../src/issuers/acme/index.js'
import { RenewalScheduler } from '../../../src/scheduler/renewal-scheduler.js'
import { webrootSolver } from '../../../src/solvers/webroot.js'
import type { CertStore } from '../../../src/stores/cert-store.js'
import { fileStore } from '../../../src/stores/file.js'
import { kubernetesStore } from '../../../src/stores/kubernetes/index.js'
import { postgresStore } from '../../../src/stores/postgres.js'
import { redisStore } from '../../../src/stores/redis.js'

/** Where a replica keeps its certificates. */
export interface ReplicaStore {
  readonly engine: 'redis' | 'ioredis' | 'postgres' | 'kubernetes' | 'file'
  /** Of the server. */
  readonly port: number
  /** Prefix, table or directory. */
  readonly place: string
  /** Who asks Kubernetes. */
  readonly kubeConfigFile?: string | undefined
  /** Limit of one operation. @defaultValue that of the store */
  readonly timeoutMs?: number | undefined
}

export interface ReplicaOptions {
  readonly directoryUrl: string
  readonly caPem: string
  readonly httpPort: number
  readonly webroot: string
  readonly node: string
  /** Every deployment is noted here: node, target, fingerprint. */
  readonly journal: string
  readonly lockTtlMs: number
  /** Another key than the stored one makes a renewal due. */
  readonly key: KeyAlgorithm
}

/** Called at what the outside could notice. */
export interface ReplicaSteps {
  /** Before something is stored or deployed. */
  beforeWrite(): void
  /** After that, and at every step of an order. */
  atStep(): void
}

export interface OpenReplicaStore {
  readonly store: CertStore
  close(): unknown
}

export async function openStore(options: ReplicaStore): Promise<OpenReplicaStore> {
  const { engine, port, place, timeoutMs } = options
  switch (engine) {
    case 'redis': {
      const client = createClient({ socket: { port, host: '127.0.0.1' } })
      client.on('error', () => undefined)
      const subscriber = client.duplicate()
      subscriber.on('error', () => undefined)
      await Promise.all([client.connect(), subscriber.connect()])
      return {
        store: redisStore({ client, subscriber, prefix: place, timeoutMs }),
        close: () => {
          client.destroy()
          subscriber.destroy()
        },
      }
    }
    case 'ioredis': {
      const client = new Redis({ port, host: '127.0.0.1' })
      client.on('error', () => undefined)
      const subscriber = client.duplicate()
      subscriber.on('error', () => undefined)
      return {
        store: redisStore({ client, subscriber, prefix: place, timeoutMs }),
        close: () => {
          client.disconnect()
          subscriber.disconnect()
        },
      }
    }
    case 'postgres': {
      const pool = new pg.Pool({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' })
      pool.on('error', () => undefined)
      return { store: postgresStore({ pool, listener: pool, table: place, timeoutMs }), close: () => pool.end() }
    }
    case 'kubernetes': {
      const kubeConfig = new KubeConfig()
      kubeConfig.loadFromFile(options.kubeConfigFile ?? '')
      kubeConfig.clusters = kubeConfig.clusters.map((each) => ({
        ...each,
        server: `https://127.0.0.1:${String(port)}`,
      }))
      const store = kubernetesStore({ kubeConfig, namespace: 'default', prefix: place.replace('_', '-'), timeoutMs })
      return { store, close: () => store.close?.() }
    }
    case 'file':
      return { store: fileStore({ directory: place }), close: () => undefined }
  }
}

/** A target is a file; what was written to it last is what it serves. */
export function served(journal: string, scope: 'node' | 'cluster', node: string): string | undefined {
  let text = ''
  try {
    text = readFileSync(journal, 'utf8')
  } catch {
    // Nothing was deployed yet.
  }
  const target = scope === 'node' ? `${node} node ` : ' cluster '
  return text
    .split('\n')
    .findLast((line) => line.includes(target))
    ?.split(' ')[2]
}

export function replicaScheduler(
  store: CertStore,
  options: ReplicaOptions,
  { beforeWrite, atStep }: ReplicaSteps,
  clock: Clock = systemClock,
): RenewalScheduler {
  const { node, journal, lockTtlMs, key } = options
  async function around<T>(act: () => T | Promise<T>): Promise<T> {
    beforeWrite()
    const result = await act()
    atStep()
    return result
  }
  const stepping: CertStore = {
    ...store,
    put: (...args) => around(() => store.put(...args)),
    delete: (...args) => around(() => store.delete(...args)),
  }
  const deployer = (scope: 'node' | 'cluster'): Deployer => ({
    name: scope,
    scope,
    deploy: ({ fingerprintSha256 }, { signal }) =>
      around(() => {
        // From here to the write nothing waits: a process that is stopped at a step is stopped before the one or after the other.
        signal.throwIfAborted()
        if (served(journal, scope, node) === fingerprintSha256) return { status: 'unchanged' }
        appendFileSync(journal, `${node} ${scope} ${fingerprintSha256}\n`)
        return { status: 'deployed' }
      }),
  })
  return new RenewalScheduler({
    store: stepping,
    node,
    lockTtlMs,
    clock,
    certificates: [
      {
        name: 'www',
        identifiers: ['www.example.com'],
        issuers: [
          acmeIssuer({
            directory: options.directoryUrl,
            termsOfServiceAgreed: true,
            ca: options.caPem,
            solvers: [webrootSolver({ directory: options.webroot })],
            preflight: { httpPort: options.httpPort, resolve: () => Promise.resolve(['127.0.0.1']) },
            observe: atStep,
          }),
        ],
        key,
        deployers: [deployer('node'), deployer('cluster')],
      },
    ],
  })
}

/** Options of {@link untilSettled}. */
export interface SettleOptions {
  readonly force?: boolean
  readonly onFailure?: (error: unknown) => void
  /** Moves the scheduler's clock over the wait after a failure. @defaultValue such a wait is the end */
  readonly skipTo?: (instant: Date) => void
}

/** What {@link untilSettled} came to. */
export interface Settled {
  readonly status: string
  readonly tookMs: number
}

/** One pass after the other until nothing is left to do. */
export async function untilSettled(
  scheduler: RenewalScheduler,
  { force = false, onFailure, skipTo }: SettleOptions = {},
): Promise<Settled> {
  const startedAt = systemClock.now()
  const stored = async (): Promise<string | undefined> => (await scheduler.status())[0]?.fingerprintSha256
  const before = force ? await stored() : undefined
  let renewed = false
  for (;;) {
    // Forced until another certificate is stored: what goes wrong afterwards is not answered with one more.
    const again = force && !renewed && (await stored()) === before
    const { status, deployments, error } = await scheduler.renew('www', { force: again })
    renewed ||= status === 'renewed'
    const waits = deployments.some((outcome) => outcome.status === 'waiting' || outcome.status === 'failed')
    if (status !== 'busy' && status !== 'failed' && !waits) {
      const [planned] = skipTo === undefined ? [] : await scheduler.plan().catch(() => [])
      if (skipTo === undefined || planned?.because === 'not-due') {
        return { status: renewed ? 'renewed' : status, tookMs: systemClock.now() - startedAt }
      }
      if (planned?.because === 'backoff') skipTo(planned.at)
    }
    if (status === 'failed') onFailure?.(error)
    await systemClock.sleep(50)
  }
}
