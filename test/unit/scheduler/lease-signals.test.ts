/** What a scheduler listens to while it holds a lease: nothing of it may stay when the lease is over. */
import { getEventListeners } from 'node:events'
import { expect, it } from 'vitest'
import { DeployError } from '../../../src/errors.js'
import { RenewalScheduler } from '../../../src/scheduler/renewal-scheduler.js'
import type { CertStore } from '../../../src/stores/cert-store.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { recordingLogger } from '../../../src/testing/recording-logger.js'
import { seededRandom } from '../../../src/testing/seeded-random.js'
import { recordingDeployer } from '../../support/recording-deployer.js'
import { scriptedIssuer } from '../../support/scripted-issuer.js'

const listenersOf = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length

it.each(['deploys', 'fails'])('a pass that %s leaves nothing on the signals of its leases', async (what) => {
  const clock = fakeClock()
  const memory = memoryStore({ clock })
  const leases = new Map<string, AbortSignal>()
  const store: CertStore = {
    ...memory,
    async lock(key, ...rest) {
      const lock = await memory.lock?.(key, ...rest)
      if (lock === undefined) return undefined
      // What the store itself listens to is not counted.
      const controller = new AbortController()
      leases.set(key, controller.signal)
      return { ...lock, signal: controller.signal }
    },
  }
  const issuer = await scriptedIssuer({ clock })
  const deployer = recordingDeployer('edge', 'cluster')
  const during: [string, boolean][] = []
  const look = (): void => {
    for (const [key, signal] of leases) during.push([key, listenersOf(signal) > 0])
  }
  issuer.onIssue = look
  deployer.onDeploy = () => {
    look()
    if (what === 'fails') {
      throw new DeployError({ code: 'ERR_DEPLOY_UNAVAILABLE', message: 'no route', deployer: 'edge' })
    }
  }
  const scheduler = new RenewalScheduler({
    store,
    certificates: [{ name: 'www', identifiers: ['www.example.com'], issuers: [issuer], deployers: [deployer] }],
    clock,
    random: seededRandom(1),
    logger: recordingLogger(),
    node: 'test',
  })
  await scheduler.reconcile()
  expect(during).toEqual([
    ['certificates/www', true],
    ['certificates/www', false],
    ['deployments/www/*', true],
  ])
  expect([...leases.values()].map(listenersOf)).toEqual([0, 0])
})
