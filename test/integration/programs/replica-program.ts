/**
 * One replica of a service: obtains a certificate on a store that it shares with others, and brings it to two targets, one of
 * its own and one that all replicas share. Kills or stops itself at the step it is told to; a step is anything the outside
 * could notice. Argument: JSON of {@link ReplicaInstructions}. Says what happens in lines of JSON.
 */
import { appendFile, readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { createClient } from '@redis/client'
import { Redis } from 'ioredis'
import pg from 'pg'
import { systemClock } from '../../../src/core/clock.js'
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

export interface ReplicaInstructions {
  readonly engine: 'redis' | 'ioredis' | 'postgres' | 'kubernetes' | 'file'
  /** Of the server. */
  readonly port: number
  /** Prefix, table or directory. */
  readonly place: string
  /** For Kubernetes. */
  readonly kubeConfigFile?: string | undefined
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
  /**
   * `start`: runs as a service does, from the first line on standard input to the second. `passes`: one pass after the
   * other until nothing is left to do; then a forced renewal if `renewAgain`.
   */
  readonly mode: 'start' | 'passes'
  readonly renewAgain?: boolean | undefined
  /** Writes: only before what is stored or deployed, which is what a process that was stopped does when it goes on. */
  readonly steps: 'all' | 'writes'
  /** 0: never. */
  readonly endAtStep: number
  readonly signal: 'SIGKILL' | 'SIGSTOP'
}

const instructions = JSON.parse(process.argv[2] ?? '{}') as ReplicaInstructions
const { engine, port, place, node } = instructions
const say = (what: object): void => void process.stdout.write(`${JSON.stringify(what)}\n`)

let steps = 0
function step(): void {
  steps += 1
  if (steps === instructions.endAtStep) process.kill(process.pid, instructions.signal)
}

const everyStep = (): void => {
  if (instructions.steps === 'all') step()
}

async function around<T>(act: () => Promise<T>): Promise<T> {
  step()
  const result = await act()
  everyStep()
  return result
}

async function openStore(): Promise<{ store: CertStore; close: () => unknown }> {
  switch (engine) {
    case 'redis': {
      const client = createClient({ socket: { port, host: '127.0.0.1' } })
      client.on('error', () => undefined)
      const subscriber = client.duplicate()
      subscriber.on('error', () => undefined)
      await Promise.all([client.connect(), subscriber.connect()])
      return {
        store: redisStore({ client, subscriber, prefix: place }),
        close: () => {
          client.destroy()
          subscriber.destroy()
        },
      }
    }
    case 'ioredis': {
      const client = new Redis({ port, host: '127.0.0.1' })
      const subscriber = client.duplicate()
      return {
        store: redisStore({ client, subscriber, prefix: place }),
        close: () => {
          client.disconnect()
          subscriber.disconnect()
        },
      }
    }
    case 'postgres': {
      const pool = new pg.Pool({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' })
      return { store: postgresStore({ pool, listener: pool, table: place }), close: () => pool.end() }
    }
    case 'kubernetes': {
      const { kubeConfigFile } = instructions
      const prefix = place.replaceAll('_', '-')
      return { store: kubernetesStore({ kubeConfigFile, namespace: 'default', prefix }), close: () => undefined }
    }
    case 'file':
      return { store: fileStore({ directory: place }), close: () => undefined }
  }
}

function stepping(store: CertStore): CertStore {
  return {
    ...store,
    put: (...args) => around(() => store.put(...args)),
    delete: (...args) => around(() => store.delete(...args)),
  }
}

/** A target is a file; what was written to it last is what it serves. */
function deployer(scope: 'node' | 'cluster'): Deployer {
  const { journal } = instructions
  async function served(): Promise<string | undefined> {
    const lines = (await readFile(journal, 'utf8').catch(() => '')).split('\n')
    return lines.findLast((line) => line.includes(scope === 'node' ? `${node} node` : ' cluster '))?.split(' ')[2]
  }
  return {
    name: scope,
    scope,
    deploy: (bundle, { signal }) =>
      around(async () => {
        if ((await served()) === bundle.fingerprintSha256) return { status: 'unchanged' }
        signal.throwIfAborted()
        // One line is one write: it is there, or it is not.
        await appendFile(journal, `${node} ${scope} ${bundle.fingerprintSha256}\n`)
        return { status: 'deployed' }
      }),
  }
}

const { store, close } = await openStore()
const scheduler = new RenewalScheduler({
  store: stepping(store),
  node,
  lockTtlMs: instructions.lockTtlMs,
  certificates: [
    {
      name: 'www',
      identifiers: ['www.example.com'],
      issuers: [
        acmeIssuer({
          directory: instructions.directoryUrl,
          termsOfServiceAgreed: true,
          ca: instructions.caPem,
          solvers: [webrootSolver({ directory: instructions.webroot })],
          preflight: { httpPort: instructions.httpPort, resolve: () => Promise.resolve(['127.0.0.1']) },
          observe: everyStep,
        }),
      ],
      key: instructions.key,
      deployers: [deployer('node'), deployer('cluster')],
    },
  ],
})
scheduler.on('issuance-failed', ({ error }) => say({ failed: String(error) }))
scheduler.on('deployment-failed', ({ error }) => say({ failed: String(error) }))
scheduler.on('pass-failed', ({ error }) => say({ failed: String(error) }))

async function passes(force: boolean): Promise<void> {
  const startedAt = systemClock.now()
  let renewed = false
  for (;;) {
    // Forced once: a target that is busy is waited for, not answered with another certificate.
    const { status, deployments, error } = await scheduler.renew('www', { force: force && !renewed })
    renewed ||= status === 'renewed'
    const waits = deployments.some((outcome) => outcome.status === 'waiting' || outcome.status === 'failed')
    if (status !== 'busy' && status !== 'failed' && !waits) {
      say({ status: renewed ? 'renewed' : status, steps, tookMs: systemClock.now() - startedAt })
      return
    }
    if (status === 'failed') say({ failed: String(error) })
    await systemClock.sleep(50)
  }
}

if (instructions.mode === 'passes') {
  await passes(false)
  if (instructions.renewAgain === true) await passes(true)
} else {
  scheduler.on('certificate-deployed', ({ deployer: target, fingerprintSha256 }) => say({ target, fingerprintSha256 }))
  const lines = createInterface(process.stdin)[Symbol.asyncIterator]()
  say({ ready: true })
  await lines.next()
  scheduler.start()
  await lines.next()
  await scheduler.stop()
}
await store.close?.()
await close()
