/**
 * What replicas of a service have around them: the servers of their stores, a web server for challenges, and for each scenario
 * a CA and a place in the store of its own.
 */
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { StoreKey } from '../../src/stores/cert-store.js'
import { operationContext } from '../../src/testing/operation-context.js'
import { startTestCa, type TestCa } from '../../src/testing/test-ca/index.js'
import { openStore, type ReplicaOptions, type ReplicaStore } from '../integration/programs/replica-scheduler.js'
import { startKubeApiserver } from './kube-apiserver.js'
import { startPostgres } from './postgres.js'
import { startRedis } from './redis.js'
import { temporaryDirectory } from './temporary-directory.js'

export type Engine = ReplicaStore['engine']

/** A deployment as the journal has it. */
export interface Deployed {
  readonly node: string
  readonly target: string
  readonly fingerprint: string
}

export interface ReplicaScenario {
  readonly ca: TestCa
  readonly replica: ReplicaStore & ReplicaOptions
}

export interface ReplicaWorld {
  scenario(engine: Engine, change?: Partial<ReplicaOptions>): Promise<ReplicaScenario>
  stop(): Promise<void>
}

export async function startReplicaWorld(): Promise<ReplicaWorld> {
  const work = await temporaryDirectory()
  const webroot = join(work.path, 'webroot')
  await mkdir(webroot)
  const web = createServer((request, response) => {
    createReadStream(join(webroot, request.url ?? ''))
      .on('error', () => response.writeHead(404).end())
      .pipe(response)
  }).listen(0, '127.0.0.1')
  await once(web, 'listening')
  const httpPort = (web.address() as AddressInfo).port
  const [redis, postgres, kube] = await Promise.all([startRedis(), startPostgres(), startKubeApiserver()])
  const ports = { postgres: postgres.port, kubernetes: Number(new URL(kube.url).port), redis: redis.port }
  let count = 0
  return {
    async scenario(engine, change = {}) {
      // As Let's Encrypt does: a reply to newOrder that was lost costs nothing, the same order comes back.
      const ca = await startTestCa({ httpPort, reuseOrders: true })
      const name = `replicas_${String((count += 1))}`
      return {
        ca,
        replica: {
          engine,
          port: engine === 'postgres' || engine === 'kubernetes' ? ports[engine] : ports.redis,
          kubeConfigFile: kube.adminKubeConfigPath,
          place: engine === 'file' ? join(work.path, name) : name,
          directoryUrl: ca.directoryUrl,
          caPem: ca.httpsCaPem,
          httpPort,
          webroot,
          node: 'one',
          journal: join(work.path, `${name}.journal`),
          lockTtlMs: 60_000,
          key: 'ecdsa-p256',
          ...change,
        },
      }
    },
    async stop() {
      web.close()
      await Promise.all([redis.stop(), postgres.stop(), kube.stop()])
      await work.remove()
    },
  }
}

export async function journalOf({ journal }: ReplicaOptions): Promise<Deployed[]> {
  const text = await readFile(journal, 'utf8').catch(() => '')
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(' '))
    .map(([node = '', target = '', fingerprint = '']) => ({ node, target, fingerprint }))
}

/** Revisions of all that is stored, but for what a replica writes about its own target. */
export async function storedIn(
  replica: ReplicaScenario['replica'],
): Promise<Readonly<Record<StoreKey, string | undefined>>> {
  const { store, close } = await openStore(replica)
  const found: Record<StoreKey, string | undefined> = {}
  for await (const key of store.list('', operationContext())) {
    if (key !== `deployments/www/${replica.node}`) found[key] = (await store.get(key, operationContext()))?.revision
  }
  await close()
  return found
}

/**
 * At step 1, 2, ... until a step is not reached any more; a few at once, because most of the time is waiting. `at` tells
 * whether the step was reached.
 *
 * @returns how many were
 */
export async function sweepSteps(atOnce: number, at: (step: number) => Promise<boolean>): Promise<number> {
  let next = 1
  let fired = 0
  let ended = false
  const takeSteps = async (): Promise<void> => {
    while (!ended) {
      const reached = await at(next++)
      if (reached) fired += 1
      else ended = true
    }
  }
  await Promise.all(Array.from({ length: atOnce }, takeSteps))
  return fired
}
