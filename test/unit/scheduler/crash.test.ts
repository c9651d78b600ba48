import { describe, expect, it } from 'vitest'
import type { ManagedCertificate } from '../../../src/scheduler/managed-certificate.js'
import { RenewalScheduler } from '../../../src/scheduler/renewal-scheduler.js'
import type { CertStore } from '../../../src/stores/cert-store.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { seededRandom } from '../../../src/testing/seeded-random.js'
import { recordingDeployer, type RecordingDeployer } from '../../support/recording-deployer.js'
import { scriptedIssuer } from '../../support/scripted-issuer.js'

/**
 * Dies at the n-th thing it does to the outside: from then on nothing it does has any effect, as after kill -9. `after`:
 * the n-th one still takes effect, and the reply is lost.
 */
class Mortal {
  #left: number
  readonly #after: boolean
  dead = false
  readonly controller = new AbortController()

  constructor(steps: number, after: boolean) {
    this.#left = steps
    this.#after = after
  }

  async step<T>(act: () => Promise<T>): Promise<T> {
    if (this.dead) return new Promise<never>(() => undefined)
    this.#left -= 1
    if (this.#left > 0) return act()
    if (this.#after) await act()
    this.dead = true
    this.controller.abort(new Error('killed'))
    return new Promise<never>(() => undefined)
  }

  store(inner: CertStore): CertStore {
    return {
      name: inner.name,
      get: (...args) => this.step(() => inner.get(...args)),
      put: (...args) => this.step(() => inner.put(...args)),
      delete: (...args) => this.step(() => inner.delete(...args)),
      list: (...args) => inner.list(...args),
    }
  }
}

describe.each([
  ['before', false],
  ['after', true],
])('killed %s the n-th step, for every n', (_, after) => {
  it.each([
    ['the first issuance', false],
    ['a renewal', true],
  ])('%s is finished by the next process with the same key, and yields one certificate', async (__, renewal) => {
    let fired = 0
    for (let steps = 1; ; steps += 1) {
      const clock = fakeClock()
      const inner = memoryStore({ clock })
      const issuer = await scriptedIssuer({ clock })
      const deployer = recordingDeployer()
      const run = async (mortal: Mortal | undefined): Promise<void> => {
        const through = (deployed: RecordingDeployer): ManagedCertificate['deployers'] => [
          {
            name: deployed.name,
            deploy: (...args) =>
              mortal === undefined ? deployed.deploy(...args) : mortal.step(() => deployed.deploy(...args)),
            inspect: (bundle) =>
              Promise.resolve(deployed.current === undefined ? 'absent' : bundle.placeholder ? 'stale' : 'stale'),
          },
        ]
        const scheduler = new RenewalScheduler({
          store: mortal === undefined ? inner : mortal.store(inner),
          certificates: [
            {
              name: 'www',
              identifiers: ['www.example.com'],
              issuers: [
                {
                  ...issuer,
                  issue: (...args) =>
                    mortal === undefined ? issuer.issue(...args) : mortal.step(() => issuer.issue(...args)),
                },
              ],
              deployers: through(deployer),
              placeholder: true,
            },
          ],
          clock,
          random: seededRandom(7),
        })
        const signal = mortal?.controller.signal
        await Promise.race([
          scheduler.reconcile({ signal }),
          new Promise((resolve) => signal?.addEventListener('abort', resolve)),
        ]).catch((error: unknown) => {
          if (mortal?.dead !== true) throw error
        })
      }
      if (renewal) {
        await run(undefined)
        await clock.advance(70 * 86_400_000)
      }
      const before = issuer.issued.size
      const mortal = new Mortal(steps, after)
      await run(mortal)
      if (!mortal.dead) break
      fired += 1
      await run(undefined)
      await run(undefined)
      const label = `${String(steps)} steps`
      expect(issuer.issued.size - before, label).toBe(1)
      expect(
        new Set(issuer.requests.slice(before).map(({ csr }) => Buffer.from(csr).toString('hex'))).size,
        label,
      ).toBe(1)
      expect(deployer.current?.placeholder, label).toBe(false)
      expect(deployer.current?.certificatePem, label).toBe(firstBlock([...issuer.issued.values()].at(-1)))
      const context = operationContext({ clock })
      const [status] = await new RenewalScheduler({
        store: inner,
        certificates: [{ name: 'www', identifiers: ['www.example.com'], issuers: [issuer] }],
        clock,
      }).status()
      expect(status, label).toMatchObject({ health: 'ok', failures: [] })
      for await (const key of inner.list('quarantine/', context)) expect.fail(`${label}: ${key} was set aside`)
    }
    expect(fired).toBeGreaterThan(8)
  })
})

function firstBlock(pem: string | undefined): string | undefined {
  return pem?.slice(0, pem.indexOf('-----END CERTIFICATE-----') + 26)
}
