import { getEventListeners } from 'node:events'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseCertificate } from '../../../../src/core/x509.js'
import { CertError, StoreError, type AcmeError, type RateLimitedError } from '../../../../src/errors.js'
import type { AcmeIssuer } from '../../../../src/issuers/acme/index.js'
import type { ChallengeSolver } from '../../../../src/solvers/challenge-solver.js'
import type { CertStore } from '../../../../src/stores/cert-store.js'
import { fileStore } from '../../../../src/stores/file.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { assertNoSecrets } from '../../../../src/testing/recording-logger.js'
import type { FaultAction, RequestKind } from '../../../../src/testing/test-ca/index.js'
import { temporaryDirectory } from '../../../support/temporary-directory.js'
import { briefClock, createWorld, prepareRequest, type World } from './world.js'

const minute = 60_000
const hour = 60 * minute

async function failure(promise: Promise<unknown>): Promise<CertError> {
  const error: unknown = await promise.then(
    () => {
      throw new Error('did not fail')
    },
    (reason: unknown) => reason,
  )
  if (!CertError.isInstance(error)) throw error
  assertNoSecrets(error)
  return error
}

/** Kinds of the requests since the last call. */
function requestsOf(world: World): () => string[] {
  let seen = 0
  return () => {
    const kinds = world.ca.requests.slice(seen).map(({ kind }) => kind)
    seen = world.ca.requests.length
    return kinds
  }
}

describe('number of requests', () => {
  it('is 9 for one name with a known account and a cold start, 7 warm', async () => {
    await using world = await createWorld({ clock: briefClock() })
    const request = await prepareRequest(['www.example.com'])
    await world.issuer().account(world.context())
    const requests = requestsOf(world)
    requests()
    const issuer = world.issuer()
    world.check(await issuer.issue(request, world.context()), request)
    const steps = ['newOrder', 'authorization', 'challenge', 'order', 'finalize', 'order', 'certificate']
    expect(requests()).toEqual(['directory', 'newNonce', ...steps])

    const next = await prepareRequest(['www.example.com'], { idempotencyKey: 'second' })
    world.check(await issuer.issue(next, world.context()), next)
    expect(requests()).toEqual(steps)
  })

  it('is at most 225 for 100 names', async () => {
    await using world = await createWorld({ clock: briefClock(500) })
    const names = Array.from({ length: 100 }, (_, index) => `host-${String(index)}.example.com`)
    const request = await prepareRequest(names)
    world.check(await world.issuer().issue(request, world.context()), request)
    expect(world.ca.countRequests()).toBeLessThanOrEqual(225)
    expect(world.openChallenges).toEqual([])
  })

  it('needs no newNonce once as many nonces are there as requests at once', async () => {
    await using world = await createWorld({ clock: briefClock() })
    const issuer = world.issuer()
    const names = ['a.example.com', 'b.example.com', 'c.example.com']
    await issuer.issue(await prepareRequest(names), world.context())
    const before = world.ca.countRequests('newNonce')
    await issuer.issue(await prepareRequest(names, { idempotencyKey: 'second' }), world.context())
    expect(world.ca.countRequests('newNonce')).toBe(before)
  })
})

describe('nonces', () => {
  it.each([50, 90])(
    'are refused in %i percent of the requests, and the order is finished all the same',
    async (percent) => {
      await using world = await createWorld()
      world.ca.faults.rejectNonces(percent)
      const request = await prepareRequest(['a.example.com', 'b.example.com'])
      world.check(await world.issuer().issue(request, world.context()), request)
      expect(world.ca.requests.filter(({ status }) => status === 400).length).toBeGreaterThan(3)
    },
  )
})

describe('lost replies', () => {
  const kinds: readonly (readonly [kind: RequestKind, orders: number])[] = [
    ['directory', 1],
    ['newNonce', 1],
    ['newAccount', 1],
    ['newOrder', 2],
    ['authorization', 1],
    ['challenge', 1],
    ['order', 1],
    ['finalize', 1],
    ['certificate', 1],
  ]
  const faults: readonly FaultAction[] = [
    { type: 'drop-before' },
    { type: 'drop-after' },
    { type: 'truncate', bytes: 10 },
    { type: 'status', status: 500 },
    { type: 'status', status: 503, headers: { 'retry-after': '2' } },
    { type: 'problem', problemType: 'serverInternal', status: 500 },
  ]
  for (const [kind, orders] of kinds) {
    it.each(faults)(`${kind}: $type $status cost no second certificate`, async (action) => {
      // There is no body to cut off.
      if (kind === 'newNonce' && (action.type === 'truncate' || action.type === 'problem')) return
      await using world = await createWorld()
      const fault = world.ca.faults.add({ match: { kind }, action })
      const request = await prepareRequest(['www.example.com'])
      world.check(await world.issuer().issue(request, world.context()), request)
      expect(fault.fired).toBe(1)
      expect(world.ca.certificates).toHaveLength(1)
      expect(world.ca.orders.length).toBeLessThanOrEqual(orders)
      expect(world.ca.accounts).toHaveLength(1)
      expect(world.openChallenges).toEqual([])
    })

    it(`${kind}: three failures in a row end the attempt, the next one finishes the same order`, async () => {
      await using world = await createWorld()
      const issuer = world.issuer()
      const action: FaultAction = { type: 'status', status: 502 }
      const fault = world.ca.faults.add({ match: { kind, times: Infinity }, action })
      const request = await prepareRequest(['www.example.com'])
      const error = await failure(issuer.issue(request, world.context()))
      expect(error).toMatchObject({ code: 'ERR_ACME_PROBLEM', retryable: true })
      expect(fault.fired).toBeLessThanOrEqual(6)
      expect(world.openChallenges).toEqual([])
      fault.remove()
      world.check(await issuer.issue(request, world.context()), request)
      expect(world.ca.orders).toHaveLength(1)
      expect(world.ca.certificates).toHaveLength(1)
    })
  }
})

describe('Retry-After', () => {
  const kinds: readonly RequestKind[] = ['directory', 'newNonce', 'newAccount', 'newOrder', 'challenge', 'finalize']
  it.each(kinds)('of an hour on %s is passed on, not waited for', async (kind) => {
    await using world = await createWorld()
    const fault = world.ca.faults.add({
      match: { kind },
      action: { type: 'status', status: 503, headers: { 'retry-after': '3600' } },
    })
    const error = await failure(world.issuer().issue(await prepareRequest(['www.example.com']), world.context()))
    expect(fault.fired).toBe(1)
    expect(error.retryable).toBe(true)
    const waitMs = Number(error.retryAt) - world.clock.now()
    expect(waitMs).toBeGreaterThan(hour - minute)
    expect(waitMs).toBeLessThanOrEqual(hour)
  })

  it('of a few seconds is waited for, never shorter', async () => {
    await using world = await createWorld()
    const fault = world.ca.faults.add({
      match: { kind: 'newOrder', times: 2 },
      action: { type: 'problem', problemType: 'rateLimited', status: 429, retryAfter: 8 },
    })
    await world.issuer().issue(await prepareRequest(['www.example.com']), world.context())
    expect(fault.fired).toBe(2)
    const at = world.ca.requests.filter(({ kind }) => kind === 'newOrder').map(({ at: arrived }) => Number(arrived))
    expect(at.map((time, index) => time - (at[index - 1] ?? time))).toEqual([
      0,
      expect.toSatisfy((gap: number) => gap >= 8000 && gap <= 10_000),
      expect.toSatisfy((gap: number) => gap >= 8000 && gap <= 10_000),
    ])
  })

  it('is found in the text of a rate limit', async () => {
    await using world = await createWorld()
    const detail = 'too many certificates, retry after 2026-01-02 10:18:15 UTC: see https://letsencrypt.org/docs/'
    const action: FaultAction = { type: 'problem', problemType: 'rateLimited', status: 429, detail }
    const fault = world.ca.faults.add({ match: { kind: 'newOrder' }, action })
    const error = (await failure(
      world.issuer().issue(await prepareRequest(['www.example.com']), world.context()),
    )) as RateLimitedError
    expect(fault.fired).toBe(1)
    expect(error).toMatchObject({ code: 'ERR_ACME_RATE_LIMITED', retryAt: new Date('2026-01-02T10:18:15Z') })
    expect(error.problem?.detail).toBe(detail)
  })

  it.each(['seconds', 'date'] as const)('in %s is obeyed between looks at an order', async (retryAfterFormat) => {
    const ca = { retryAfterSeconds: 7, retryAfterFormat, processingPolls: 3 }
    await using world = await createWorld({ ca })
    await world.issuer().issue(await prepareRequest(['www.example.com']), world.context())
    const finalized = world.ca.requests.findIndex(({ kind }) => kind === 'finalize')
    const looks = world.ca.requests.slice(finalized).filter(({ kind }) => kind === 'order' || kind === 'finalize')
    const at = looks.map(({ at: arrived }) => Number(arrived))
    expect(at.length).toBeGreaterThan(3)
    for (const [index, time] of at.entries()) {
      if (index > 0) expect(time - (at[index - 1] ?? 0)).toBeGreaterThanOrEqual(6000)
    }
  })

  it('of a day between looks is shortened to a minute', async () => {
    await using world = await createWorld({ ca: { retryAfterSeconds: 86_400, processingPolls: 2 } })
    const start = world.clock.now()
    await world.issuer().issue(await prepareRequest(['www.example.com']), world.context())
    expect(world.clock.now() - start).toBeLessThan(10 * minute)
  })
})

describe('answers that are no answers', () => {
  const jsonKinds: readonly RequestKind[] = [
    'directory',
    'newAccount',
    'newOrder',
    'authorization',
    'order',
    'finalize',
  ]
  const bodies: (readonly [what: string, body: string])[] = [
    ['an error page', '<html>hello</html>'],
    ['half of a document', '{"status":"valid","fin'],
    ['a list', '[]'],
    ['null', 'null'],
    ['nothing', ''],
    ['an empty object', '{}'],
    ['a polluted prototype', '{"__proto__":{"status":"valid","newOrder":"https://a.example/"}}'],
    ['a very deep document', `${'['.repeat(30_000)}${']'.repeat(30_000)}`],
    ['a very long document', `{"status":"${'x'.repeat(70_000)}"}`],
  ]
  for (const kind of jsonKinds) {
    it.each(bodies)(`${kind}: %s`, async (_, body) => {
      await using world = await createWorld()
      const action: FaultAction = { type: 'replace-body', body }
      const fault = world.ca.faults.add({ match: { kind, times: Infinity }, action })
      const error = await failure(world.issuer().issue(await prepareRequest(['www.example.com']), world.context()))
      expect(fault.fired).toBeGreaterThan(0)
      expect(error.code).toBe(body.length > 65_536 ? 'ERR_HTTP_BODY' : 'ERR_ACME_PROTOCOL')
      expect(error.message.length).toBeLessThan(500)
      expect(world.openChallenges).toEqual([])
    })
  }

  it.each(jsonKinds)('%s that is JSON but does not say so', async (kind) => {
    await using world = await createWorld()
    const action: FaultAction = { type: 'replace-body', body: '{}', contentType: 'text/html' }
    const fault = world.ca.faults.add({ match: { kind, times: Infinity }, action })
    const error = await failure(world.issuer().issue(await prepareRequest(['www.example.com']), world.context()))
    expect(fault.fired).toBeGreaterThan(0)
    expect(error.code).toBe('ERR_ACME_PROTOCOL')
  })

  it.each([
    ['http:', 'http://ca.example/order'],
    ['relative', '/order'],
    ['file:', 'file:///etc/passwd'],
    ['with credentials', 'https://user:secret@ca.example/order'],
  ])('a directory URL that is %s', async (_, newOrder) => {
    await using world = await createWorld()
    const urls = { newNonce: 'https://127.0.0.1/n', newAccount: 'https://127.0.0.1/a', newOrder }
    const action: FaultAction = { type: 'replace-body', body: JSON.stringify(urls) }
    const fault = world.ca.faults.add({ match: { kind: 'directory' }, action })
    const error = await failure(world.issuer().issue(await prepareRequest(['www.example.com']), world.context()))
    expect(fault.fired).toBe(1)
    expect(error.code).toBe('ERR_ACME_PROTOCOL')
    expect(error.message).toContain('newOrder')
    expect(world.ca.countRequests()).toBe(1)
  })

  it.each([301, 302, 307, 308])('a redirect (%i) is not followed', async (status) => {
    await using world = await createWorld()
    const action: FaultAction = { type: 'status', status, headers: { location: world.ca.directoryUrl } }
    const fault = world.ca.faults.add({ match: { kind: 'newOrder' }, action })
    const error = await failure(world.issuer().issue(await prepareRequest(['www.example.com']), world.context()))
    expect(fault.fired).toBe(1)
    expect(error.code).toBe('ERR_ACME_PROTOCOL')
    expect(error.message).toContain('redirect')
  })
})

describe('wrong certificates', () => {
  it('are passed up as they came, and not accepted again from the finished order', async () => {
    await using world = await createWorld()
    const issuer = world.issuer()
    const request = await prepareRequest(['www.example.com'])
    const variant = 'other-names'
    const fault = world.ca.faults.add({ action: { type: 'wrong-certificate', variant } })
    const issued = await issuer.issue(request, world.context())
    expect(fault.fired).toBe(1)
    expect(() => world.check(issued, request)).toThrow(expect.objectContaining({ code: 'ERR_CERT_NAME_MISMATCH' }))
    const again = world.ca.faults.add({ action: { type: 'wrong-certificate', variant } })
    world.check(await issuer.issue(request, world.context()), request)
    expect(again.fired).toBe(1)
    expect(world.ca.orders).toHaveLength(2)
  })

  it('of more than 100 kB are not read', async () => {
    await using world = await createWorld()
    const body = `${'x'.repeat(200_000)}\n`
    const fault = world.ca.faults.add({
      match: { kind: 'certificate', times: Infinity },
      action: { type: 'replace-body', body },
    })
    const error = await failure(world.issuer().issue(await prepareRequest(['www.example.com']), world.context()))
    expect(fault.fired).toBeGreaterThan(0)
    expect(error.code).toBe('ERR_HTTP_BODY')
  })
})

describe('resuming', () => {
  const steps = [
    ...[
      'account.stored',
      'order.created',
      'order.persisted',
      'challenge.presented',
      'challenge.answered',
      'order.ready',
    ],
    ...['finalize.journalled', 'finalize.sent', 'certificate.downloaded'],
  ]

  it.each(steps)('after an abort at %s ends with the same order, account and key', async (step) => {
    await using world = await createWorld()
    const controller = new AbortController()
    const reason = new Error('stop')
    let seen = 0
    const observe = (at: string): void => {
      if (at !== step) return
      seen += 1
      controller.abort(reason)
    }
    const request = await prepareRequest(['www.example.com'])
    const interrupted = world.issuer({ observe }).issue(request, world.context({ signal: controller.signal }))
    await expect(interrupted.catch((error: unknown) => Promise.reject(error as Error))).rejects.toBe(reason)
    expect(seen).toBe(1)
    expect(world.openChallenges).toEqual([])

    world.check(await world.issuer().issue(request, world.context()), request)
    expect(world.ca.orders).toHaveLength(1)
    expect(world.ca.certificates).toHaveLength(1)
    expect(world.ca.accounts).toHaveLength(1)
    expect(world.openChallenges).toEqual([])
  })

  it.each(steps)('after a crash at %s ends with one certificate, and nothing left up', async (step) => {
    await using world = await createWorld()
    // A crashed process neither answers nor cleans up: its solver and its store stop working in the middle.
    let crashed = false
    const observe = (at: string): Promise<void> => {
      if (at === step) crashed = true
      return crashed ? new Promise(() => undefined) : Promise.resolve()
    }
    const request = await prepareRequest(['www.example.com'])
    const dead = new AbortController()
    void world
      .issuer({ observe })
      .issue(request, world.context({ signal: dead.signal }))
      .catch(() => undefined)
    await expect.poll(() => crashed).toBe(true)

    world.check(await world.issuer().issue(request, world.context()), request)
    // The reply to newOrder is not stored anywhere yet at order.created.
    expect(world.ca.orders).toHaveLength(step === 'order.created' ? 2 : 1)
    expect(world.ca.certificates).toHaveLength(1)
    expect(world.ca.accounts).toHaveLength(1)
    expect(world.openChallenges).toEqual([])
  })

  it('gives the same certificate again for the same idempotency key', async () => {
    await using world = await createWorld()
    const request = await prepareRequest(['www.example.com'])
    const first = await world.issuer().issue(request, world.context())
    const second = await world.issuer().issue(request, world.context())
    expect(second.chainPem).toBe(first.chainPem)
    expect(world.ca.certificates).toHaveLength(1)
  })

  it('orders anew for a new idempotency key, and for other names', async () => {
    await using world = await createWorld()
    const issuer = world.issuer()
    for (const [index, names] of [['a.example.com'], ['a.example.com'], ['a.example.com', 'b.example.com']].entries()) {
      const request = await prepareRequest(names, { idempotencyKey: String(index) })
      world.check(await issuer.issue(request, world.context()), request)
    }
    expect(world.ca.certificates).toHaveLength(3)
  })

  it('takes over an unfinished order of another idempotency key for the same names', async () => {
    await using world = await createWorld()
    const controller = new AbortController()
    const reason = new Error('stop')
    const observe = (step: string): void => {
      if (step === 'order.ready') controller.abort(reason)
    }
    const names = ['b.example.com', 'a.example.com']
    const first = await prepareRequest(names)
    const interrupted = world.issuer({ observe }).issue(first, world.context({ signal: controller.signal }))
    await expect(interrupted).rejects.toBe(reason)
    const second = await prepareRequest([...names].reverse(), { idempotencyKey: 'second' })
    world.check(await world.issuer().issue(second, world.context()), second)
    expect(world.ca.orders).toHaveLength(1)
  })

  it('orders anew when the key of the request has changed since the order was finished', async () => {
    await using world = await createWorld()
    const first = await prepareRequest(['www.example.com'])
    await world.issuer().issue(first, world.context())
    const second = await prepareRequest(['www.example.com'])
    world.check(await world.issuer().issue(second, world.context()), second)
    expect(world.ca.orders).toHaveLength(2)
  })

  it('orders anew when the order has expired', async () => {
    const clock = fakeClock({ autoAdvance: true })
    await using world = await createWorld({ clock, ca: { orderLifetimeMs: hour } })
    const controller = new AbortController()
    const reason = new Error('stop')
    const observe = (step: string): void => {
      if (step === 'challenge.presented') controller.abort(reason)
    }
    const request = await prepareRequest(['www.example.com'])
    const interrupted = world.issuer({ observe }).issue(request, world.context({ signal: controller.signal }))
    await expect(interrupted).rejects.toBe(reason)
    await clock.advance(2 * hour)
    world.check(await world.issuer().issue(request, world.context()), request)
    expect(world.ca.orders).toHaveLength(2)
  })

  it('survives damaged records, which are put aside', async () => {
    await using world = await createWorld()
    const request = await prepareRequest(['www.example.com'])
    await world.issuer().issue(request, world.context())
    const context = world.context()
    const damaged: string[] = []
    for await (const key of world.store.list('', context)) {
      damaged.push(key)
      await world.store.put(key, Buffer.from('{"schema":1,'), context)
    }
    expect(damaged.length).toBeGreaterThanOrEqual(2)
    const next = await prepareRequest(['www.example.com'], { idempotencyKey: 'second' })
    world.check(await world.issuer().issue(next, context), next)
    const aside: string[] = []
    for await (const key of world.store.list('quarantine/', context)) aside.push(key)
    expect(aside).toHaveLength(damaged.length)
  })

  it('leaves a damaged record alone that the store cannot hand out', async () => {
    await using world = await createWorld()
    const request = await prepareRequest(['www.example.com'])
    await world.issuer().issue(request, world.context())
    const corrupt = new StoreError({ code: 'ERR_STORE_CORRUPT', message: 'torn', store: 'memory' })
    for (const space of ['accounts/', 'orders/']) {
      const changes: string[] = []
      const store: CertStore = {
        ...world.store,
        get: (key, context) => (key.startsWith(space) ? Promise.reject(corrupt) : world.store.get(key, context)),
        put: (key, ...rest) => {
          changes.push(key)
          return world.store.put(key, ...rest)
        },
        delete: (key, ...rest) => {
          changes.push(key)
          return world.store.delete(key, ...rest)
        },
      }
      expect(await failure(world.issuer().issue(request, world.context({ store })))).toBe(corrupt)
      expect(changes).toEqual([])
    }
  })

  it('puts aside what the store itself found damaged, and goes on', async () => {
    const directory = await temporaryDirectory()
    try {
      await using world = await createWorld()
      const store = fileStore({ directory: directory.path })
      const request = await prepareRequest(['www.example.com'])
      await world.issuer().issue(request, world.context({ store }))
      const files = (await readdir(directory.path)).filter((file) => file.endsWith('.entry'))
      expect(files.length).toBeGreaterThanOrEqual(2)
      for (const file of files) await writeFile(join(directory.path, file), `torn ${file}`)
      const next = await prepareRequest(['www.example.com'], { idempotencyKey: 'second' })
      const context = world.context({ store })
      world.check(await world.issuer().issue(next, context), next)
      const aside: string[] = []
      for await (const key of store.list('quarantine/', context)) {
        aside.push(Buffer.from((await store.get(key, context))?.value ?? []).toString())
      }
      expect(aside.sort()).toEqual(files.map((file) => `torn ${file}`).sort())
    } finally {
      await directory.remove()
    }
  })

  it('does not take a store that cannot be reached for a damaged account', async () => {
    await using world = await createWorld()
    const request = await prepareRequest(['www.example.com'])
    await world.issuer().issue(request, world.context())
    const down = new TypeError('fetch failed')
    let fired = 0
    const store: CertStore = {
      ...world.store,
      get(key, context) {
        fired += 1
        return fired === 1 ? Promise.reject(down) : world.store.get(key, context)
      },
    }
    await expect(world.issuer().issue(request, world.context({ store }))).rejects.toBe(down)
    expect(fired).toBe(1)
    world.check(await world.issuer().issue(request, world.context({ store })), request)
    expect(world.ca.accounts).toHaveLength(1)
  })

  it('puts an account aside whose key cannot be used', async () => {
    await using world = await createWorld()
    const context = world.context()
    await world.issuer().issue(await prepareRequest(['www.example.com']), context)
    for await (const key of world.store.list('accounts/', context)) {
      const stored = Buffer.from((await world.store.get(key, context))?.value ?? []).toString()
      await world.store.put(
        key,
        Buffer.from(stored.replace(/PRIVATE KEY-----[^-]*-/, 'PRIVATE KEY-----AAAA-')),
        context,
      )
    }
    const next = await prepareRequest(['www.example.com'], { idempotencyKey: 'second' })
    world.check(await world.issuer().issue(next, context), next)
    expect(world.ca.accounts).toHaveLength(2)
    const aside: string[] = []
    for await (const key of world.store.list('quarantine/', context)) aside.push(key)
    expect(aside).toHaveLength(1)
  })

  it('finds the order again that was on its way when it was aborted', async () => {
    await using world = await createWorld()
    const request = await prepareRequest(['www.example.com'])
    const fault = world.ca.faults.add({ match: { kind: 'newOrder' }, action: { type: 'slow', bytesPerSecond: 1000 } })
    const controller = new AbortController()
    const reason = new Error('stop')
    const interrupted = world.issuer().issue(request, world.context({ signal: controller.signal }))
    const outcome = interrupted.catch((error: unknown) => error)
    while (world.ca.orders.length === 0) await new Promise((resolve) => setTimeout(resolve, 1))
    controller.abort(reason)
    expect(await outcome).toBe(reason)
    expect(fault.fired).toBe(1)
    expect(world.openChallenges).toEqual([])
    world.check(await world.issuer().issue(request, world.context()), request)
    expect(world.ca.orders).toHaveLength(1)
  })

  it('ends an order that takes too long, to be resumed', async () => {
    await using world = await createWorld({ ca: { processingPolls: 30, retryAfterSeconds: 60 } })
    const request = await prepareRequest(['www.example.com'])
    const error = await failure(world.issuer({ orderTimeoutMs: 10 * minute }).issue(request, world.context()))
    expect(error).toMatchObject({ code: 'ERR_ACME_ORDER_TIMEOUT', retryable: true })
    expect(Number(error.retryAt)).toBeGreaterThan(world.clock.now())
    world.check(await world.issuer({ orderTimeoutMs: hour }).issue(request, world.context()), request)
    expect(world.ca.orders).toHaveLength(1)
  })
})

describe('several processes', () => {
  it('have one account, and finish one order for the same certificate', async () => {
    await using world = await createWorld({ clock: briefClock() })
    const issuers = [world.issuer(), world.issuer(), world.issuer()]
    const request = await prepareRequest(['www.example.com'])
    const issue = async (issuer: AcmeIssuer): Promise<unknown> => issuer.issue(request, world.context())
    const results = await Promise.allSettled(issuers.map(issue))
    expect(results.some(({ status }) => status === 'fulfilled')).toBe(true)
    expect(world.ca.accounts).toHaveLength(1)
    expect(world.ca.countRequests('newAccount')).toBe(1)
    // Without the scheduler's lock several may have ordered; one order at most got as far as a certificate.
    expect(world.ca.certificates).toHaveLength(1)
  })

  it('leave nothing on the signal of a lock, or of the caller, that they are done with', async () => {
    await using world = await createWorld()
    const { signal } = new AbortController()
    const locks: AbortSignal[] = []
    const lock: CertStore['lock'] = async (...args) => {
      const taken = await world.store.lock?.(...args)
      if (taken !== undefined) locks.push(taken.signal)
      return taken
    }
    await world.issuer().account(world.context({ signal, store: { ...world.store, lock } }))
    expect(locks.length).toBeGreaterThan(0)
    for (const held of [signal, ...locks]) expect(getEventListeners(held, 'abort')).toEqual([])
  })

  it('do not wait for long for one that died while it made the account', async () => {
    await using world = await createWorld()
    const dead = await world.store.lock?.('accounts/shared', world.context(), { ttlMs: 3_600_000 })
    expect(dead).toBeDefined()
    const startedAt = world.clock.now()
    const { url } = await world.issuer({ id: 'shared' }).account(world.context())
    expect(world.ca.accounts.map((account) => account.url)).toEqual([url])
    expect(world.clock.now() - startedAt).toBeGreaterThan(1_000)
    expect(world.clock.now() - startedAt).toBeLessThanOrEqual(3_500)
    await dead?.release()
  })

  it('share an account also when the store has no locks', async () => {
    await using world = await createWorld()
    const { lock: _, ...store } = world.store
    const contexts = [1, 2, 3].map(() => world.context({ store }))
    const accounts = await Promise.all(contexts.map((context) => world.issuer().account(context)))
    expect(new Set(accounts.map(({ url }) => url)).size).toBe(1)
    expect(world.ca.accounts).toHaveLength(1)
  })
})

describe('validation', () => {
  const wrong = (world: World): ChallengeSolver<'http-01'> => ({
    ...world.responder,
    present: (challenge, context) =>
      world.responder.present({ ...challenge, keyAuthorization: `${challenge.token}.wrong` }, context),
    cleanUp: (challenge, context) =>
      world.responder.cleanUp({ ...challenge, keyAuthorization: `${challenge.token}.wrong` }, context),
  })

  it('that fails names every identifier with what the CA saw, and no token', async () => {
    await using world = await createWorld()
    const issuer = world.issuer({ solvers: [wrong(world)], preflight: false })
    const names = ['a.example.com', 'b.example.com']
    const tokens: string[] = []
    const error = (await failure(
      issuer.issue(await prepareRequest(names), world.context()).catch((reason: unknown) => {
        for (const { path } of world.ca.requests) tokens.push(path)
        throw reason
      }),
    )) as AcmeError & { authorizations: { identifier: { value: string }; problem?: { type: string } }[] }
    expect(error.code).toBe('ERR_ACME_AUTHORIZATION_FAILED')
    expect(error.authorizations.length).toBeGreaterThan(0)
    for (const { identifier, problem } of error.authorizations) {
      expect(names).toContain(identifier.value)
      expect(error.message).toContain(identifier.value)
      expect(problem?.type).toMatch(/^urn:ietf:params:acme:error:/)
    }
    expect(world.openChallenges).toEqual([])
  })

  it('is not asked for a fifth time within an hour', async () => {
    const clock = fakeClock({ autoAdvance: true })
    await using world = await createWorld({ clock })
    const issuer = world.issuer({ solvers: [wrong(world)], preflight: false })
    const request = await prepareRequest(['www.example.com'])
    const codes: string[] = []
    for (let attempt = 0; attempt < 6; attempt += 1) {
      const error = await failure(issuer.issue(request, world.context()))
      codes.push(error.code)
      if (error.code === 'ERR_ACME_RATE_LIMITED') {
        expect(Number(error.retryAt)).toBeGreaterThan(clock.now())
        expect(Number(error.retryAt)).toBeLessThanOrEqual(clock.now() + hour)
      }
    }
    expect(codes.filter((code) => code === 'ERR_ACME_AUTHORIZATION_FAILED')).toHaveLength(4)
    expect(codes.slice(4)).toEqual(['ERR_ACME_RATE_LIMITED', 'ERR_ACME_RATE_LIMITED'])
    expect(world.ca.countRequests('challenge')).toBe(4)
    await clock.advance(hour)
    // Also for a new process.
    world.check(await world.issuer().issue(request, world.context()), request)
  })

  it('that pre-flight sees fail is not asked for at all', async () => {
    await using world = await createWorld()
    const issuer = world.issuer({ solvers: [wrong(world)] })
    const request = await prepareRequest(['www.example.com'])
    const error = await failure(issuer.issue(request, world.context()))
    expect(error.code).toBe('ERR_CHALLENGE_PREFLIGHT')
    expect(world.ca.countRequests('challenge')).toBe(0)
    world.check(await world.issuer().issue(request, world.context()), request)
    expect(world.ca.orders).toHaveLength(1)
  })

  it('presents nothing for authorizations that are valid already', async () => {
    await using world = await createWorld({ ca: { reuseAuthorizations: true } })
    const issuer = world.issuer()
    await issuer.issue(await prepareRequest(['www.example.com']), world.context())
    const request = await prepareRequest(['www.example.com'], { idempotencyKey: 'second' })
    world.check(await issuer.issue(request, world.context()), request)
    expect(world.ca.countRequests('challenge')).toBe(1)
  })

  it.each<[what: string, forged: (url: string) => object]>([
    ['for another name', (url) => authorizationFor('other.example', url)],
    ['for a wildcard', (url) => ({ ...authorizationFor('www.example.com', url), wildcard: true })],
    [
      'for an address',
      (url) => ({ ...authorizationFor('127.0.0.1', url), identifier: { type: 'ip', value: '127.0.0.1' } }),
    ],
    ['of a type that it is not', (url) => ({ ...authorizationFor('127.0.0.1', url) })],
    ['with a path as token', (url) => authorizationFor('www.example.com', url, '../../etc/passwd')],
    ['with an endless token', (url) => authorizationFor('www.example.com', url, 'a'.repeat(513))],
    ['with a challenge elsewhere', () => authorizationFor('www.example.com', 'http://127.0.0.1/challenge')],
    ['of no known status', (url) => ({ ...authorizationFor('www.example.com', url), status: 'maybe' })],
  ])('is refused when the CA sends an authorization %s', async (_, forged) => {
    const presented: string[] = []
    await using world = await createWorld()
    const spy: ChallengeSolver<'http-01'> = {
      ...world.responder,
      present({ token }) {
        presented.push(token)
        return Promise.resolve()
      },
    }
    const body = JSON.stringify(forged(`${new URL(world.ca.directoryUrl).origin}/challenge/1`))
    const fault = world.ca.faults.add({ match: { kind: 'authorization' }, action: { type: 'replace-body', body } })
    const issuer = world.issuer({ solvers: [spy] })
    const error = await failure(issuer.issue(await prepareRequest(['www.example.com']), world.context()))
    expect(fault.fired).toBe(1)
    expect(error.code).toBe('ERR_ACME_PROTOCOL')
    expect(presented).toEqual([])
    expect(world.ca.countRequests('challenge')).toBe(0)
  })

  it('passes over challenges of unknown types', async () => {
    await using world = await createWorld({ ca: { offerUnknownChallenge: true } })
    const request = await prepareRequest(['www.example.com'])
    world.check(await world.issuer().issue(request, world.context()), request)
  })

  it('of a wildcard over http-01 is refused with a way out', async () => {
    await using world = await createWorld()
    const issuer = world.issuer()
    const request = await prepareRequest(['*.example.com'])
    const error = await failure(issuer.issue(request, world.context()))
    expect(error).toMatchObject({ code: 'ERR_CHALLENGE_NO_SOLVER', retryable: false })
    expect(error.message).toContain('dns-01')
    expect(issuer.supports(request.identifiers)).toContain('dns-01')
    expect(issuer.supports((await prepareRequest(['www.example.com'])).identifiers)).toBe(true)
  })

  it('of a name and its wildcard goes through one record over dns-01', async () => {
    const records = new Map<string, Set<string>>()
    const solver: ChallengeSolver<'dns-01'> = {
      name: 'dns-01/memory',
      type: 'dns-01',
      present({ recordName, recordValue }) {
        records.set(recordName, (records.get(recordName) ?? new Set()).add(recordValue))
        return Promise.resolve()
      },
      cleanUp({ recordName, recordValue }) {
        records.get(recordName)?.delete(recordValue)
        return Promise.resolve()
      },
    }
    const resolveTxt = (name: string): Promise<readonly string[]> => Promise.resolve([...(records.get(name) ?? [])])
    await using world = await createWorld({ ca: { resolveTxt }, issuer: { solvers: [solver] } })
    const request = await prepareRequest(['example.com', '*.example.com'])
    world.check(await world.issuer().issue(request, world.context()), request)
    expect([...records.keys()]).toEqual(['_acme-challenge.example.com'])
    expect([...(records.get('_acme-challenge.example.com') ?? [])]).toEqual([])
  })

  it.each([
    ['ten by default', undefined, 10],
    ['as many as the solver takes', 3, 3],
    ['all at once when it takes them all', 1000, 25],
  ])('are presented, awaited and cleaned up %s', async (_, concurrency, expected) => {
    const records = new Map<string, string>()
    const running = { present: 0, waitUntilReady: 0, cleanUp: 0 }
    const most = { ...running }
    const counted = async (method: keyof typeof running, run: () => void): Promise<void> => {
      running[method] += 1
      most[method] = Math.max(most[method], running[method])
      await new Promise((resolve) => setImmediate(resolve))
      run()
      running[method] -= 1
    }
    const solver: ChallengeSolver<'dns-01'> = {
      name: 'dns-01/memory',
      type: 'dns-01',
      concurrency,
      present: ({ recordName, recordValue }) => counted('present', () => records.set(recordName, recordValue)),
      waitUntilReady: () => counted('waitUntilReady', () => undefined),
      cleanUp: ({ recordName }) => counted('cleanUp', () => records.delete(recordName)),
    }
    const resolveTxt = async (name: string): Promise<readonly string[]> => {
      const value = records.get(name)
      return value === undefined ? [] : [value]
    }
    await using world = await createWorld({ ca: { resolveTxt }, issuer: { solvers: [solver] } })
    const request = await prepareRequest(Array.from({ length: 25 }, (__, index) => `host${String(index)}.example.com`))
    world.check(await world.issuer().issue(request, world.context()), request)
    expect(most).toEqual({ present: expected, waitUntilReady: expected, cleanUp: expected })
    expect(records.size).toBe(0)
  })

  it('of two solvers run side by side, and a failure of one stops the other from starting more', async () => {
    await using world = await createWorld()
    const started: string[] = []
    const solver = (name: string, zone: string, fails: boolean): ChallengeSolver<'http-01'> => ({
      ...world.responder,
      name,
      zones: [zone],
      concurrency: 1,
      async present({ identifier }) {
        started.push(identifier.value)
        for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve))
        if (fails) throw new Error('disk full')
      },
    })
    const solvers = [solver('one', 'a.example', true), solver('other', 'b.example', false)]
    const names = ['x.a.example', 'y.a.example', 'x.b.example', 'y.b.example', 'z.b.example']
    const error = await failure(world.issuer({ solvers }).issue(await prepareRequest(names), world.context()))
    expect(error.message).toContain('one could not present')
    expect(started.filter((name) => name.endsWith('.a.example'))).toHaveLength(1)
    expect(started.filter((name) => name.endsWith('.b.example')).length).toBeLessThan(3)
    expect(started.some((name) => name.endsWith('.b.example'))).toBe(true)
  })

  it('of an IP address works over http-01', async () => {
    await using world = await createWorld()
    const request = await prepareRequest(['127.0.0.1'])
    world.check(await world.issuer().issue(request, world.context()), request)
  })

  it.each(['present', 'waitUntilReady'] as const)('whose %s fails names the solver, and cleans up', async (method) => {
    await using world = await createWorld()
    const fail = (): Promise<void> => Promise.reject(new Error('disk full'))
    const cleaned: string[] = []
    const solver: ChallengeSolver<'http-01'> = {
      ...world.responder,
      [method]: fail,
      cleanUp(challenge, context) {
        cleaned.push(challenge.identifier.value)
        return world.responder.cleanUp(challenge, context)
      },
    }
    const issuer = world.issuer({ solvers: [solver] })
    const error = await failure(issuer.issue(await prepareRequest(['www.example.com']), world.context()))
    expect(error).toMatchObject({ code: 'ERR_CHALLENGE_FAILED', retryable: true })
    expect(error.message).toContain(solver.name)
    expect(cleaned).toEqual(['www.example.com'])
    expect(world.ca.countRequests('challenge')).toBe(0)
  })

  it('cleans up with a signal of its own, and only logs when that fails', async () => {
    await using world = await createWorld()
    const signals: boolean[] = []
    const solver: ChallengeSolver<'http-01'> = {
      ...world.responder,
      cleanUp(_, { signal }) {
        signals.push(signal.aborted)
        return Promise.reject(new Error('unreachable'))
      },
    }
    const controller = new AbortController()
    const reason = new Error('stop')
    const observe = (step: string): void => {
      if (step === 'challenge.answered') controller.abort(reason)
    }
    const request = await prepareRequest(['www.example.com'])
    const issuer = world.issuer({ solvers: [solver], observe })
    await expect(issuer.issue(request, world.context({ signal: controller.signal }))).rejects.toBe(reason)
    expect(signals).toEqual([false])
    const said = world.log.entries.find(({ message }) => message === 'challenge could not be cleaned up')
    expect(said?.level).toBe('warn')
    // What was left is taken down by whoever comes next.
    world.check(await world.issuer().issue(request, world.context()), request)
    expect(world.openChallenges).toEqual([])
  })

  it.each([
    ['nothing', 0, ['debug', 'debug']],
    ['one of two', 1, ['warn', 'warn']],
  ])(
    'that a solver which put up %s cannot clean up are warned of, unless the order says why',
    async (_, works, levels) => {
      await using world = await createWorld()
      const away = (): Promise<void> => Promise.reject(new Error('no credentials'))
      let calls = 0
      const solver: ChallengeSolver<'http-01'> = {
        ...world.responder,
        concurrency: 1,
        present: () => ((calls += 1) > works ? away() : Promise.resolve()),
        cleanUp: away,
      }
      const request = await prepareRequest(['a.example', 'b.example'])
      const error = await failure(world.issuer({ solvers: [solver] }).issue(request, world.context()))
      expect(error).toMatchObject({ code: 'ERR_CHALLENGE_FAILED', cause: new Error('no credentials') })
      const said = world.log.entries.filter(({ message }) => message === 'challenge could not be cleaned up')
      expect(said.map(({ level }) => level)).toEqual(levels)
    },
  )
})

describe('refusals', () => {
  it('of names say which, from the subproblems', async () => {
    await using world = await createWorld({ ca: { blockedNames: ['blocked.example'] } })
    const request = await prepareRequest(['good.example', 'www.blocked.example'])
    const error = (await failure(world.issuer().issue(request, world.context()))) as AcmeError
    expect(error).toMatchObject({ code: 'ERR_ACME_PROBLEM', retryable: false })
    expect(error.message).toContain('www.blocked.example')
    expect(error.problem?.type).toBe('urn:ietf:params:acme:error:rejectedIdentifier')
  })

  it('with an unpause link ask for a person', async () => {
    await using world = await createWorld()
    const url = 'https://acme.example/sfe/v1/unpause?jwt=eyJhbGciOi.J9.x_-'
    const action: FaultAction = {
      type: 'problem',
      problemType: 'rateLimited',
      status: 429,
      detail: `Your account is temporarily prevented from requesting certificates for www.example.com. Please visit: ${url}`,
    }
    const fault = world.ca.faults.add({ match: { kind: 'newOrder' }, action })
    const error = await failure(world.issuer().issue(await prepareRequest(['www.example.com']), world.context()))
    expect(fault.fired).toBe(1)
    expect(error).toMatchObject({ code: 'ERR_ACME_USER_ACTION_REQUIRED', retryable: false, instructionsUrl: url })
  })

  it.each(['alreadyReplaced', 'malformed', 'unauthorized'])(
    'of a predecessor (%s) lead to one order without it',
    async (problemType) => {
      await using world = await createWorld()
      const fault = world.ca.faults.add({
        match: { kind: 'newOrder' },
        action: { type: 'problem', problemType, status: problemType === 'alreadyReplaced' ? 409 : 403 },
      })
      const request = await prepareRequest(['www.example.com'], { replaces: { value: 'abcd.ef' } })
      world.check(await world.issuer().issue(request, world.context()), request)
      expect(fault.fired).toBe(1)
      expect(world.ca.countRequests('newOrder')).toBe(2)
    },
  )

  it('of a predecessor that the CA cannot find, each time it is asked, lead to one order without it', async () => {
    await using world = await createWorld()
    const action = { type: 'problem', problemType: 'serverInternal', status: 500 } as const
    const faults = [1, 2].map((nth) => world.ca.faults.add({ match: { kind: 'newOrder', nth }, action }))
    const request = await prepareRequest(['www.example.com'], { replaces: { value: 'abcd.ef' } })
    world.check(await world.issuer().issue(request, world.context()), request)
    expect(faults.map(({ fired }) => fired)).toEqual([1, 1])
    expect(world.ca.orders).toHaveLength(1)
  })

  it('of an order that is done already lead to its certificate', async () => {
    await using world = await createWorld()
    const fault = world.ca.faults.add({ match: { kind: 'finalize' }, action: { type: 'drop-after' } })
    const request = await prepareRequest(['www.example.com'])
    world.check(await world.issuer().issue(request, world.context()), request)
    expect(fault.fired).toBe(1)
    expect(world.ca.certificates).toHaveLength(1)
  })

  it('of a bad CSR are final', async () => {
    await using world = await createWorld()
    const fault = world.ca.faults.add({
      match: { kind: 'finalize' },
      action: { type: 'problem', problemType: 'badCSR', status: 400 },
    })
    const error = await failure(world.issuer().issue(await prepareRequest(['www.example.com']), world.context()))
    expect(fault.fired).toBe(1)
    expect(error).toMatchObject({ code: 'ERR_ACME_PROBLEM', retryable: false })
  })
})

describe('profiles', () => {
  const profiles = {
    classic: { description: 'usual' },
    shortlived: { description: 'six days', lifetimeMs: 160 * hour },
  }

  it('are asked for when required or preferred', async () => {
    await using world = await createWorld({ ca: { profiles } })
    const required = await prepareRequest(['www.example.com'], { profile: 'shortlived' })
    expect((await world.issuer().issue(required, world.context())).profile).toBe('shortlived')
    const preferred = await prepareRequest(['www.example.com'], { certificate: 'other' })
    const issuer = world.issuer({ profile: { prefer: 'classic' } })
    expect((await issuer.issue(preferred, world.context())).profile).toBe('classic')
    expect(world.ca.orders.map(({ profile }) => profile)).toEqual(['shortlived', 'classic'])
  })

  it('that are not offered are dropped when preferred, refused when required', async () => {
    await using world = await createWorld({ ca: { profiles } })
    const request = await prepareRequest(['www.example.com'])
    await world.issuer({ profile: { prefer: 'tlsserver' } }).issue(request, world.context())
    const issuer = world.issuer({ profile: { require: 'tlsserver' } })
    const error = await failure(issuer.issue({ ...request, idempotencyKey: 'second' }, world.context()))
    expect(error).toMatchObject({ code: 'ERR_ACME_PROFILE_UNAVAILABLE', retryable: false })
    expect(error.message).toContain('classic, shortlived')
    expect(world.ca.orders).toHaveLength(1)
  })
})

describe('the account', () => {
  it('is made anew, once, when the CA has forgotten it', async () => {
    await using world = await createWorld()
    const issuer = world.issuer()
    await issuer.account(world.context())
    const fault = world.ca.faults.add({
      match: { kind: 'newOrder' },
      action: { type: 'problem', problemType: 'accountDoesNotExist', status: 400 },
    })
    const request = await prepareRequest(['www.example.com'])
    world.check(await issuer.issue(request, world.context()), request)
    expect(fault.fired).toBe(1)
    expect(world.ca.countRequests('newAccount')).toBe(2)
    const forever = world.ca.faults.add({
      match: { kind: 'newOrder', times: Infinity },
      action: { type: 'problem', problemType: 'accountDoesNotExist', status: 400 },
    })
    const error = await failure(issuer.issue({ ...request, idempotencyKey: 'second' }, world.context()))
    expect(forever.fired).toBe(2)
    expect(error).toMatchObject({ code: 'ERR_ACME_PROBLEM', retryable: false })
  })

  it('is bound to an external one, once', async () => {
    const hmacKey = Buffer.alloc(32, 7).toString('base64url')
    const ca = { externalAccountRequired: true, externalAccountKeys: { 'kid-1': hmacKey } }
    await using world = await createWorld({ ca })
    const error = await failure(world.issuer().account(world.context()))
    expect(error).toMatchObject({ code: 'ERR_ACME_PROBLEM', retryable: false })
    expect(error.message).toContain('externalAccountBinding')
    const externalAccountBinding = { kid: 'kid-1', hmacKey }
    await world.issuer({ externalAccountBinding }).account(world.context())
    expect(world.ca.accounts).toMatchObject([{ externalAccountKeyId: 'kid-1' }])
    assertNoSecrets(world.log.entries, [hmacKey])
  })

  it('whose reply was lost is looked up before an external account is used again', async () => {
    const hmacKey = Buffer.alloc(32, 7).toString('base64url')
    const ca = { externalAccountRequired: true, externalAccountKeys: { 'kid-1': hmacKey } }
    await using world = await createWorld({ ca, issuer: { externalAccountBinding: { kid: 'kid-1', hmacKey } } })
    const fault = world.ca.faults.add({ match: { kind: 'newAccount' }, action: { type: 'drop-after' } })
    const { url } = await world.issuer().account(world.context())
    expect(fault.fired).toBe(1)
    expect(world.ca.accounts.map((account) => account.url)).toEqual([url])
  })

  it('gets a new key, and the old one is refused', async () => {
    await using world = await createWorld()
    const issuer = world.issuer()
    const before = await issuer.account(world.context())
    const after = await issuer.rollOverAccountKey(world.context())
    expect(after.url).toBe(before.url)
    expect(after.thumbprint).not.toBe(before.thumbprint)
    expect(world.ca.accounts).toMatchObject([{ url: after.url, thumbprint: after.thumbprint }])
    for (const user of [issuer, world.issuer()]) {
      const request = await prepareRequest(['www.example.com'], { idempotencyKey: String(Math.random()) })
      world.check(await user.issue(request, world.context()), request)
    }
  })

  it.each(['account.next-key-stored', 'account.key-changed'])(
    'keeps a usable key after a crash at %s',
    async (step) => {
      await using world = await createWorld()
      let crashed = false
      const observe = (at: string): Promise<void> => {
        if (at === step) crashed = true
        return crashed ? new Promise(() => undefined) : Promise.resolve()
      }
      void world
        .issuer({ observe })
        .rollOverAccountKey(world.context())
        .catch(() => undefined)
      await expect.poll(() => crashed).toBe(true)
      const issuer = world.issuer()
      const request = await prepareRequest(['www.example.com'])
      world.check(await issuer.issue(request, world.context()), request)
      const { thumbprint } = await issuer.rollOverAccountKey(world.context())
      expect(world.ca.accounts).toMatchObject([{ thumbprint }])
    },
  )

  it('gets its new key also when the reply is lost', async () => {
    await using world = await createWorld()
    const issuer = world.issuer()
    await issuer.account(world.context())
    const fault = world.ca.faults.add({ match: { kind: 'keyChange' }, action: { type: 'drop-after' } })
    const { thumbprint } = await issuer.rollOverAccountKey(world.context())
    expect(fault.fired).toBe(1)
    expect(world.ca.accounts).toMatchObject([{ thumbprint }])
  })

  it("with the caller's own key is not stored with it", async () => {
    await using world = await createWorld()
    const { key } = await prepareRequest(['www.example.com'])
    const issuer = world.issuer({ accountKey: key.exportPem() })
    const { url } = await issuer.account(world.context())
    const stored = await world.store.get(`accounts/${encodeURIComponent(issuer.id)}`, world.context())
    expect(Buffer.from(stored?.value ?? []).toString()).not.toContain('PRIVATE KEY')
    expect((await world.issuer({ accountKey: key.exportPem() }).account(world.context())).url).toBe(url)
    await expect(issuer.rollOverAccountKey(world.context())).rejects.toThrow(TypeError)
  })
})

describe('renewal information and revocation', () => {
  it('is what the CA says, and moves with it', async () => {
    await using world = await createWorld()
    const issuer = world.issuer()
    const request = await prepareRequest(['www.example.com'])
    const { certificatePem } = world.check(await issuer.issue(request, world.context()), request)
    const info = await issuer.renewalInfo(certificatePem, world.context())
    const leaf = parseCertificate(Buffer.from(certificatePem.replace(/-----[A-Z ]+-----|\s/g, ''), 'base64'))
    expect(Number(info?.windowStart)).toBeGreaterThan(Number(leaf.notBefore))
    expect(Number(info?.windowEnd)).toBeLessThan(Number(leaf.notAfter))
    expect(Number(info?.retryAt)).toBeGreaterThan(world.clock.now())
    await issuer.revoke(certificatePem, 'superseded', world.context())
    await issuer.revoke(certificatePem, 'superseded', world.context())
    const afterwards = await issuer.renewalInfo(certificatePem, world.context())
    expect(Number(afterwards?.windowEnd)).toBeLessThan(world.clock.now())
  })

  it('is undefined where the CA offers none', async () => {
    await using world = await createWorld({ ca: { renewalInfo: false } })
    const issuer = world.issuer()
    const request = await prepareRequest(['www.example.com'])
    const { certificatePem } = world.check(await issuer.issue(request, world.context()), request)
    expect(await issuer.renewalInfo(certificatePem, world.context())).toBeUndefined()
  })

  it.each([
    ['no window', '{}'],
    ['a window that ends before it starts', window('2026-02-02T00:00:00Z', '2026-02-01T00:00:00Z')],
    ['a window without a length', window('2026-02-01T00:00:00Z', '2026-02-01T00:00:00Z')],
    ['a date that is none', window('yesterday', '2026-02-01T00:00:00Z')],
    ['a day that is none', window('2026-02-31T99:00:00Z', '2026-03-01T00:00:00Z')],
    ['an error page', '<html>'],
  ])('that is %s is asked for again after six hours', async (_, body) => {
    await using world = await createWorld()
    const issuer = world.issuer()
    const request = await prepareRequest(['www.example.com'])
    const { certificatePem } = world.check(await issuer.issue(request, world.context()), request)
    const fault = world.ca.faults.add({ match: { kind: 'renewalInfo' }, action: { type: 'replace-body', body } })
    const error = await failure(issuer.renewalInfo(certificatePem, world.context()))
    expect(fault.fired).toBe(1)
    expect(error).toMatchObject({ code: 'ERR_ACME_PROTOCOL', retryable: true })
    expect(Number(error.retryAt) - world.clock.now()).toBe(6 * hour)
  })

  it('does not lead to pages that are no web pages', async () => {
    await using world = await createWorld()
    const issuer = world.issuer()
    const request = await prepareRequest(['www.example.com'])
    const { certificatePem } = world.check(await issuer.issue(request, world.context()), request)
    const suggestedWindow = { start: '2026-02-01T00:00:00Z', end: '2026-02-02T00:00:00Z' }
    for (const [explanationURL, expected] of [
      ['javascript:alert(1)', undefined],
      ['https://ca.example/why', 'https://ca.example/why'],
    ] as const) {
      const body = JSON.stringify({ suggestedWindow, explanationURL })
      const fault = world.ca.faults.add({ match: { kind: 'renewalInfo' }, action: { type: 'replace-body', body } })
      const info = await issuer.renewalInfo(certificatePem, world.context())
      expect(fault.fired).toBe(1)
      expect(info?.explanationUrl?.href).toBe(expected)
    }
  })
})

describe('chains', () => {
  it('are chosen by the name of their root or by a fingerprint, else the default', async () => {
    await using world = await createWorld({ ca: { alternateChains: 2 } })
    const roots = [world.ca.rootPem, ...world.ca.alternateRootPems]
    const parsed = roots.map((pem) => parseCertificate(Buffer.from(pem.replace(/-----[A-Z ]+-----|\s/g, ''), 'base64')))
    for (const [index, root] of parsed.entries()) {
      const request = await prepareRequest(['www.example.com'], { certificate: String(index) })
      const trustedRoots = roots[index] ?? ''
      const issuer = world.issuer({ preferredChain: root.subject, trustedRoots })
      const issued = await issuer.issue(request, world.context())
      expect(issued.trustedRoots).toBe(trustedRoots)
      expect(issued.chainPem.length).toBeGreaterThan(0)
      const { identifiers, publicKeyInfo } = request
      const { checkIssuedChain } = await import('../../../../src/core/certificate-bundle.js')
      checkIssuedChain(issued.chainPem, { identifiers, publicKeyInfo, now: world.clock.now(), trustedRoots })
    }
    const request = await prepareRequest(['www.example.com'], { certificate: 'unknown' })
    const issued = await world.issuer({ preferredChain: 'No Such Root' }).issue(request, world.context())
    world.check(issued, request)
    expect(world.log.entries.map(({ message }) => message)).toContain('the CA has no such chain, its default is used')
  })
})

it('logs no secret in the whole life of a certificate', async () => {
  await using world = await createWorld()
  const issuer = world.issuer()
  const tokens: string[] = []
  const { present } = world.responder
  const spy: ChallengeSolver<'http-01'> = {
    ...world.responder,
    present(challenge, context) {
      tokens.push(challenge.token, challenge.keyAuthorization)
      return present(challenge, context)
    },
  }
  const request = await prepareRequest(['www.example.com'])
  await world.issuer({ solvers: [spy] }).issue(request, world.context())
  await issuer.rollOverAccountKey(world.context())
  expect(tokens).toHaveLength(2)
  assertNoSecrets(world.log.entries, tokens)
  expect(world.log.entries.length).toBeGreaterThan(5)
})

function authorizationFor(value: string, url: string, token = 'a_token-1'): object {
  const challenges = [{ type: 'http-01', status: 'pending', url, token }]
  return { status: 'pending', identifier: { type: 'dns', value }, challenges }
}

function window(start: string, end: string): string {
  return JSON.stringify({ suggestedWindow: { start, end } })
}
