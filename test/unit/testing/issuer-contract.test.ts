import { expect, it } from 'vitest'
import { CertError } from '../../../src/errors.js'
import type { Issuer, IssuerContext, IssueRequest } from '../../../src/issuers/issuer.js'
import { memoryStore } from '../../../src/stores/memory.js'
import { storeKey } from '../../../src/stores/cert-store.js'
import { fakeClock } from '../../../src/testing/fake-clock.js'
import { issuerContract, type IssuerFixture } from '../../../src/testing/issuer-contract.js'
import { operationContext } from '../../../src/testing/operation-context.js'
import { seededRandom } from '../../../src/testing/seeded-random.js'
import { createTestAuthority } from '../../../src/testing/test-ca/index.js'

const names = ['www.example.com']

interface Ca {
  readonly authority: ReturnType<typeof createTestAuthority>
  issued: number
}

/** A right issuer over a CA in memory; each broken one changes one thing. */
function rightIssuer(ca: Ca): Issuer {
  const key = (request: IssueRequest) => storeKey('orders', 'right', request.certificate, request.idempotencyKey)
  return {
    id: 'right',
    async issue(request, context) {
      context.signal.throwIfAborted()
      const known = await context.store.get(key(request), context)
      if (known !== undefined) return { chainPem: Buffer.from(known.value).toString() }
      await context.store.put(storeKey('orders', 'right', 'probe'), Buffer.from('x'), context)
      const chainPem = await sign(ca, request)
      // It exists now, whatever the caller wants meanwhile.
      await keep(() =>
        context.store.put(key(request), Buffer.from(chainPem), { ...context, signal: new AbortController().signal }),
      )
      context.signal.throwIfAborted()
      return { chainPem }
    },
  }
}

async function keep(write: () => Promise<unknown>): Promise<void> {
  await write().catch(() => write())
}

async function sign(ca: Ca, request: IssueRequest): Promise<string> {
  let issued
  try {
    issued = await ca.authority.issue({ csr: request.csr, identifiers: request.identifiers })
  } catch (cause) {
    throw new CertError({ code: 'ERR_PLUGIN_FAILED', message: 'unreadable request', retryable: false, cause })
  }
  ca.issued += 1
  return issued.chainPem.includes(issued.certificatePem) ? issued.chainPem : issued.certificatePem + issued.chainPem
}

async function failures(broken: (right: Issuer, ca: Ca) => Issuer): Promise<string[]> {
  const cases: { name: string; run: () => Promise<void> }[] = []
  issuerContract(
    {
      describe: (_, define) => {
        define()
      },
      it: (name, run) => cases.push({ name, run }),
    },
    {
      identifiers: names,
      level: 'strict',
      async createIssuer(): Promise<IssuerFixture> {
        const clock = fakeClock()
        const ca: Ca = { authority: createTestAuthority({ clock }), issued: 0 }
        const context: IssuerContext = {
          ...operationContext({ clock }),
          store: memoryStore({ clock }),
          random: seededRandom(1),
        }
        return {
          issuer: broken(rightIssuer(ca), ca),
          context,
          certificatesIssued: () => ca.issued,
          otherIssuer: { ...rightIssuer(ca), id: 'other' },
        }
      },
    },
  )
  expect(cases.length).toBe(14)
  const failed: string[] = []
  for (const { name, run } of cases) await run().catch((error: unknown) => failed.push(`${name}: ${String(error)}`))
  return failed
}

it('lets a right issuer pass', async () => {
  expect(await failures((right) => right)).toEqual([])
})

const asked = 'it issues for the key'
const repeated = 'the same request again, after a restart too, is the same certificate'
it.each<[what: string, seen: string, broken: (right: Issuer, ca: Ca) => Issuer]>([
  ['has the id of another', 'its id is short', (right) => ({ ...right, id: 'other' })],
  ['has an id that no store can keep', 'its id is short', (right) => ({ ...right, id: 'a b' })],
  ['supports nothing', 'it says that it supports', (right) => ({ ...right, supports: () => 'no' })],
  [
    'issues for other names',
    asked,
    (right, ca) => ({
      ...right,
      issue: async (request) => ({
        chainPem: await sign(ca, { ...request, identifiers: [{ type: 'dns', value: 'other.example' }] }),
      }),
    }),
  ],
  [
    'issues anew for a repeated request',
    repeated,
    (right, ca) => ({ ...right, issue: async (request) => ({ chainPem: await sign(ca, request) }) }),
  ],
  [
    'issues the same for every request',
    'another idempotency key is another certificate',
    (right) => ({ ...right, issue: (request, context) => right.issue({ ...request, idempotencyKey: 'one' }, context) }),
  ],
  [
    'wraps the reason of an abort',
    'an aborted signal rejects with its reason',
    (right) => ({
      ...right,
      issue: (request, context) =>
        right.issue(request, context).catch((cause: unknown) => Promise.reject(new Error('failed', { cause }))),
    }),
  ],
  [
    'forgets what it has issued when the store fails',
    'a failure at any call of the store',
    (right, ca) => ({
      ...right,
      async issue(request, context) {
        const key = storeKey('orders', 'right', request.idempotencyKey)
        const known = await context.store.get(key, context)
        if (known !== undefined) return { chainPem: Buffer.from(known.value).toString() }
        const chainPem = await sign(ca, request)
        await context.store.put(key, Buffer.from(chainPem), context)
        return { chainPem }
      },
    }),
  ],
  [
    'crashes over a bad request',
    'an unreadable request',
    (right) => ({
      ...right,
      issue: (request, context) => {
        if (request.csr.length < 10) return Promise.reject(new RangeError('index out of range'))
        return right.issue(request, context)
      },
    }),
  ],
  [
    'logs a key',
    asked,
    (right) => ({
      ...right,
      issue(request, context) {
        context.logger.info('ready', { key: '-----BEGIN PRIVATE KEY-----' })
        return right.issue(request, context)
      },
    }),
  ],
])('sees an issuer that %s', async (_, seen, broken) => {
  const failed = await failures(broken)
  expect(failed.join('\n')).toContain(seen)
})
