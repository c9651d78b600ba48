import { getEventListeners } from 'node:events'
import { inspect } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import type { CertificateBundle } from '../../../../src/core/certificate-bundle.js'
import {
  marathonDeployer,
  type MarathonDeployError,
  type MarathonDeployerOptions,
} from '../../../../src/deployers/marathon/index.js'
import { fakeClock } from '../../../../src/testing/fake-clock.js'
import { operationContext } from '../../../../src/testing/operation-context.js'
import { assertNoSecrets, recordingLogger } from '../../../../src/testing/recording-logger.js'
import { createTestBundle } from '../../../../src/testing/test-bundle.js'
import { createTestAuthority } from '../../../../src/testing/test-ca/test-authority.js'
import {
  eventSource,
  networkError,
  scriptedMarathon,
  secondInstant,
  type Answer,
  type ScriptedMarathon,
} from './scripted-marathon.js'

let old: CertificateBundle
let bundle: CertificateBundle
const authority = createTestAuthority()
beforeAll(async () => {
  old = await createTestBundle({ authority })
  bundle = await createTestBundle({ authority })
})
const pemOf = (of: CertificateBundle): string => of.fullChainPem + of.privateKey.exportPem()

const url = 'https://marathon.example'
function deployerFor(marathon: ScriptedMarathon, options: Partial<MarathonDeployerOptions> = {}) {
  return marathonDeployer({ urls: url, appId: 'lb', fetch: marathon.fetch, ...options })
}
/** One deployment, by a clock that does not wait. Nothing it shows may hold a secret. */
async function deploy(
  marathon: ScriptedMarathon,
  options: Partial<MarathonDeployerOptions> = {},
  signal?: AbortSignal,
): Promise<{ result: unknown; error: MarathonDeployError; log: string; elapsedMs: number }> {
  const clock = fakeClock({ autoAdvance: true })
  const logger = recordingLogger()
  const started = clock.now()
  let [result, error]: [unknown, unknown] = [undefined, undefined]
  try {
    result = await deployerFor(marathon, options).deploy(
      bundle,
      operationContext({ clock, logger, ...(signal && { signal }) }),
    )
  } catch (thrown) {
    error = thrown
  }
  const keyLines = bundle.privateKey
    .exportPem()
    .split('\n')
    .filter((line) => line.length > 10 && !line.startsWith('--'))
  for (const shown of [result, error, logger.entries]) assertNoSecrets(shown, [...keyLines.slice(1), 'open-sesame'])
  return { result, error: error as MarathonDeployError, log: logger.text(), elapsedMs: clock.now() - started }
}

describe('a deployment', () => {
  it('changes one entry and is done when the app runs with it', async () => {
    const secrets = { sa: { source: 'lb/sa' } }
    const marathon = scriptedMarathon({
      env: { HAPROXY_SSL_CERT: pemOf(old), SA: { secret: 'sa' }, OTHER: 'x' },
      secrets,
      resourceLimits: { mem: 'unlimited' },
      labels: { HAPROXY_GROUP: 'external' },
    })
    const { result, error } = await deploy(marathon)
    expect(error).toBeUndefined()
    expect(result).toEqual({ status: 'deployed', details: { app: '/lb', deployment: 'deployment-2' } })
    expect(marathon.calls()).toEqual([
      ...['GET /v2/apps/lb', 'GET /v2/apps/lb'],
      'PATCH /v2/apps/lb',
      ...['GET /v2/deployments', 'GET /v2/apps/lb'],
      ...['GET /v2/deployments', 'GET /v2/apps/lb'],
      'GET /v2/apps/lb/versions',
    ])
    expect(marathon.sent.find(({ method }) => method === 'PATCH')?.body).toEqual({
      env: { HAPROXY_SSL_CERT: pemOf(bundle), SA: { secret: 'sa' }, OTHER: 'x' },
      secrets,
      resourceLimits: { mem: 'unlimited' },
    })
  })

  it('listens before it writes, and writes back what is there once it listens', async () => {
    const marathon = scriptedMarathon({ env: { A: 'before' } })
    marathon.intercept = ({ path }) => {
      if (path.startsWith('/v2/events')) marathon.app['env'] = { A: 'after' }
      return undefined
    }
    await deploy(marathon)
    const kinds = marathon.sent.map(({ method, path }) => (path.startsWith('/v2/events') ? 'EVENTS' : method))
    expect(kinds.slice(0, 4)).toEqual(['GET', 'EVENTS', 'GET', 'PATCH'])
    expect(marathon.sent[1]).toMatchObject({ headers: { accept: 'text/event-stream' } })
    expect(marathon.app['env']).toEqual({ A: 'after', HAPROXY_SSL_CERT: pemOf(bundle) })
  })

  it('of what is there is none: one request, and no stream', async () => {
    const marathon = scriptedMarathon({ env: { HAPROXY_SSL_CERT: pemOf(bundle).replaceAll('\n', '\\n') } })
    expect((await deploy(marathon)).result).toEqual({ status: 'unchanged' })
    expect(marathon.sent).toHaveLength(1)
  })

  it('to an app without environment begins one', async () => {
    const marathon = scriptedMarathon()
    expect((await deploy(marathon)).result).toMatchObject({ status: 'deployed' })
    expect(marathon.app['env']).toEqual({ HAPROXY_SSL_CERT: pemOf(bundle) })
  })

  it('that is under way already is joined', async () => {
    const marathon = scriptedMarathon({
      env: { HAPROXY_SSL_CERT: pemOf(bundle) },
      deployments: [{ id: 'earlier' }],
      version: secondInstant(5),
      versionInfo: { lastConfigChangeAt: secondInstant(5) },
    })
    marathon.deployments = [{ id: 'earlier' }]
    expect((await deploy(marathon)).result).toEqual({ status: 'deployed', details: { app: '/lb', joined: true } })
    expect(marathon.changes).toBe(0)
  })

  it('that was cancelled by force earlier is begun again by a restart', async () => {
    const marathon = scriptedMarathon({
      env: { HAPROXY_SSL_CERT: pemOf(bundle) },
      versionInfo: { lastConfigChangeAt: secondInstant(5) },
    })
    expect((await deploy(marathon)).result).toMatchObject({ status: 'deployed' })
    expect(marathon.calls()).toContain('POST /v2/apps/lb/restart')
  })

  it('whose tasks have it, though a later change of something else was cancelled, begins nothing', async () => {
    const [env, instance] = [{ HAPROXY_SSL_CERT: pemOf(bundle) }, secondInstant(0)]
    const cancelled = { env: { ...env, OTHER: 'new' }, versionInfo: { lastConfigChangeAt: secondInstant(5) } }
    // Also where another deployment would never end.
    for (const more of [{}, { requirePorts: true, upgradeStrategy: {} }]) {
      const marathon = scriptedMarathon({ ...cancelled, ...more })
      marathon.intercept = ({ path }) =>
        path === `/v2/apps/lb/versions/${encodeURIComponent(instance)}` ? { body: { id: '/lb', env } } : undefined
      expect(await deployerFor(marathon).inspect!(bundle, operationContext())).toBe('current')
      expect((await deploy(marathon)).result).toEqual({ status: 'unchanged' })
      expect(marathon.changes).toBe(0)
    }
  })

  it('of whose tasks nobody can say what they have at the moment begins nothing blindly', async () => {
    const marathon = scriptedMarathon({
      env: { HAPROXY_SSL_CERT: pemOf(bundle) },
      versionInfo: { lastConfigChangeAt: secondInstant(5) },
    })
    marathon.intercept = ({ path }) => (path.includes('/versions/') ? { status: 503, body: '<html>' } : undefined)
    expect((await deploy(marathon)).error).toMatchObject({ reason: 'no-leader', retryable: true })
    expect(marathon.changes).toBe(0)
  })

  it('with force says so to Marathon, and only then', async () => {
    const marathon = scriptedMarathon()
    await deploy(marathon, { force: true })
    expect(marathon.calls()).toContain('PATCH /v2/apps/lb?force=true')
  })

  it('goes to the path and the credentials that are configured', async () => {
    const marathon = scriptedMarathon()
    const stripped: ScriptedMarathon = {
      ...marathon,
      fetch: (input, init) => marathon.fetch((input as string).replace('/service/marathon', ''), init),
    }
    const authentication = { type: 'basic', username: 'user', password: 'open-sesame' } as const
    await deploy(stripped, { urls: [`${url}/service/marathon//`], authentication })
    expect(marathon.changes).toBe(1)
    const credentials = `Basic ${Buffer.from('user:open-sesame').toString('base64')}`
    expect(new Set(marathon.sent.map(({ headers }) => headers['authorization']))).toEqual(new Set([credentials]))
  })

  it('of a pair that is none does not even ask', async () => {
    const marathon = scriptedMarathon()
    const deployer = deployerFor(marathon)
    const mismatch = { ...bundle, privateKey: old.privateKey }
    await expect(deployer.deploy(mismatch, operationContext())).rejects.toMatchObject({ code: 'ERR_CERT_KEY_MISMATCH' })
    expect(marathon.sent).toEqual([])
  })
})

describe('before anything is sent', () => {
  it.each<[string, Record<string, unknown>, Partial<MarathonDeployerOptions>, string]>([
    ['a secret', { env: { HAPROXY_SSL_CERT: { secret: 'tls' } } }, {}, 'secret-reference'],
    ['a missing base', {}, { environmentVariable: 'HAPROXY_SSL_CERT3' }, 'base-variable-missing'],
    ['a deadlock', { requirePorts: true, upgradeStrategy: {} }, {}, 'deadlock'],
  ])('%s is refused', async (_, app, options, reason) => {
    const marathon = scriptedMarathon(app)
    const { error } = await deploy(marathon, options)
    expect(error).toMatchObject({
      name: 'MarathonDeployError',
      code: 'ERR_DEPLOY_REJECTED',
      reason,
      deployer: expect.stringContaining('marathon:/lb') as string,
    })
    expect(marathon.sent).toHaveLength(1)
  })
})

describe('a Marathon that is busy', () => {
  it('is waited for, and the app read again: nothing of the other change is lost', async () => {
    const marathon = scriptedMarathon({ env: { A: 'before' } })
    let locked = true
    let looks = 0
    marathon.intercept = ({ method, path }) => {
      if (method === 'PATCH' && locked) {
        marathon.app['env'] = { A: 'after' }
        marathon.app['version'] = secondInstant(30)
        return { status: 409, body: { message: 'App is locked', deployments: [{ id: 'theirs' }] } }
      }
      if (path !== '/v2/deployments' || !locked) return undefined
      looks += 1
      if (looks < 4) return { body: [{ id: 'theirs' }] }
      locked = false
      return { body: [] }
    }
    const { result, elapsedMs } = await deploy(marathon)
    expect(result).toMatchObject({ status: 'deployed' })
    expect(marathon.app['env']).toEqual({ A: 'after', HAPROXY_SSL_CERT: pemOf(bundle) })
    expect(looks).toBe(4)
    expect(elapsedMs).toBeGreaterThanOrEqual(4 * 5_000)
  })

  it('is not waited for for ever', async () => {
    const marathon = scriptedMarathon()
    marathon.intercept = ({ method, path }) => {
      if (method === 'PATCH') return { status: 409, body: { deployments: [{ id: 'theirs' }] } }
      return path === '/v2/deployments' ? { body: [{ id: 'theirs' }] } : undefined
    }
    const { error, elapsedMs } = await deploy(marathon)
    expect(error).toMatchObject({ reason: 'locked', retryable: true, deploymentId: 'theirs' })
    expect(elapsedMs).toBe(600_000)
  })

  it('is asked again at intervals when it names a deployment nobody may see', async () => {
    const marathon = scriptedMarathon()
    let refusals = 0
    marathon.intercept = ({ method }) =>
      method === 'PATCH' && (refusals += 1) <= 3
        ? { status: 409, body: { deployments: [{ id: 'hidden' }] } }
        : undefined
    const { result, elapsedMs } = await deploy(marathon)
    expect(result).toMatchObject({ status: 'deployed' })
    expect(elapsedMs).toBeGreaterThanOrEqual(3 * 5_000)
  })

  it('with too many deployments is waited for as well', async () => {
    const message = 'Max number (100) of running deployments is achieved. Wait for existing deployments to complete'
    const marathon = scriptedMarathon()
    let refusals = 0
    marathon.intercept = ({ method }) =>
      method === 'PATCH' && (refusals += 1) <= 3 ? { status: 403, body: { message } } : undefined
    expect((await deploy(marathon)).result).toMatchObject({ status: 'deployed' })
    marathon.app['env'] = {}
    refusals = Number.NEGATIVE_INFINITY
    expect((await deploy(marathon)).error).toMatchObject({
      reason: 'busy',
      code: 'ERR_DEPLOY_UNAVAILABLE',
      retryable: true,
    })
  })
})

describe('an older Marathon', () => {
  it.each<[string, Answer]>([
    ['405', { status: 405, body: '<html>Method Not Allowed</html>' }],
    ['an unknown route', { status: 500, body: { message: 'URI not found' } }],
  ])('that answers PATCH with %s gets a PUT', async (_, answer) => {
    const marathon = scriptedMarathon({ env: { A: 'b' } })
    marathon.intercept = ({ method }) => (method === 'PATCH' ? answer : undefined)
    expect((await deploy(marathon)).result).toMatchObject({ status: 'deployed' })
    expect(marathon.calls().filter((call) => /^P/.test(call))).toEqual(['PATCH /v2/apps/lb', 'PUT /v2/apps/lb'])
    expect(marathon.app['env']).toEqual({ A: 'b', HAPROXY_SSL_CERT: pemOf(bundle) })
  })

  it('whose PUT has made a new app is told of', async () => {
    const marathon = scriptedMarathon()
    marathon.intercept = ({ method }) =>
      method === 'PATCH' ? { status: 405 } : method === 'PUT' ? { status: 201, body: {} } : undefined
    expect((await deploy(marathon)).error).toMatchObject({
      reason: 'not-found',
      message: expect.stringContaining('removed meanwhile') as string,
    })
  })
})

describe('an answer that is lost', () => {
  it.each<[string, boolean, Answer]>([
    ['after the change was made', true, networkError('ECONNRESET')],
    ['before the change was made', false, networkError('ECONNRESET')],
    ['behind a proxy, after', true, { status: 504, body: '<html>' }],
    ['behind a proxy, before', false, { status: 503, body: { message: 'Could not determine the current leader' } }],
    ['in an error, before', false, { status: 500, body: { message: 'oops' } }],
    ['in a page of somebody else, after', true, { status: 200, body: '<html>log in</html>' }],
    ['in a page of somebody else, before', false, { status: 200, body: '<html>log in</html>' }],
  ])('%s is made up for by reading', async (_, made, answer) => {
    const marathon = scriptedMarathon({ env: { A: 'b' } })
    let lost = 0
    marathon.intercept = async (request) => {
      if (request.method !== 'PATCH' || lost > 0) return undefined
      lost += 1
      if (made) await marathon.fetch(request.url, { method: 'PATCH', body: JSON.stringify(request.body) })
      return answer
    }
    const { result, error } = await deploy(marathon)
    expect(error).toBeUndefined()
    expect(result).toMatchObject({ status: 'deployed' })
    expect(marathon.changes).toBe(1)
    expect(lost).toBe(1)
  })

  it.each([
    [60, 'is waited for', true],
    [3_600, 'is left to the next attempt where that is too long', false],
  ])('with a Retry-After of %i seconds %s', async (seconds, _, succeeds) => {
    const marathon = scriptedMarathon()
    let refused = 0
    marathon.intercept = ({ method }) =>
      method === 'PATCH' && (refused += 1) === 1
        ? { status: 503, body: '<html>', headers: { 'retry-after': String(seconds) } }
        : undefined
    const { result, error, elapsedMs } = await deploy(marathon)
    if (succeeds) {
      expect(result).toMatchObject({ status: 'deployed' })
      expect(elapsedMs).toBeGreaterThanOrEqual(seconds * 1000)
      return
    }
    expect(error).toMatchObject({ reason: 'no-leader', retryAt: new Date(Date.UTC(2026, 0, 1, 1)) })
    expect(marathon.calls().filter((call) => call.startsWith('PATCH'))).toHaveLength(1)
  })

  it('again and again is an error in the end', async () => {
    const marathon = scriptedMarathon()
    marathon.intercept = ({ method }) => (method === 'PATCH' ? networkError('ECONNRESET') : undefined)
    const { error } = await deploy(marathon)
    expect(error).toMatchObject({
      reason: 'unreachable',
      code: 'ERR_DEPLOY_UNAVAILABLE',
      message: expect.stringContaining('ECONNRESET') as string,
    })
    expect(marathon.calls().filter((call) => call.startsWith('PATCH'))).toHaveLength(4)
  })
})

describe('a deployment that does not come to a good end', () => {
  it.each<[string, (marathon: ScriptedMarathon) => void, string]>([
    [
      'cancelled by force',
      (marathon) => {
        marathon.deployments = []
        marathon.app['deployments'] = []
      },
      'cancelled',
    ],
    [
      'rolled back',
      (marathon) => {
        const version = secondInstant(50)
        marathon.deployments = [{ id: 'roll-back' }]
        Object.assign(marathon.app, {
          env: { HAPROXY_SSL_CERT: pemOf(old) },
          version,
          deployments: [{ id: 'roll-back' }],
        })
      },
      'rolled-back',
    ],
    [
      'overridden',
      (marathon) => {
        marathon.deployments = [{ id: 'theirs' }]
        Object.assign(marathon.app, { env: {}, version: secondInstant(50), deployments: [{ id: 'theirs' }] })
      },
      'overridden',
    ],
    [
      'edited afterwards',
      (marathon) => {
        marathon.deployments = []
        Object.assign(marathon.app, { env: { HAPROXY_SSL_CERT: 'x' }, version: secondInstant(50), deployments: [] })
      },
      'edited',
    ],
  ])('is told as %s', async (_, happen, reason) => {
    const marathon = scriptedMarathon({ env: { HAPROXY_SSL_CERT: pemOf(old) } })
    marathon.onLook = (look) => {
      if (look === 2) happen(marathon)
    }
    const { error } = await deploy(marathon)
    expect(error).toMatchObject({
      code: 'ERR_DEPLOY_VERIFY_FAILED',
      reason,
      retryable: true,
      deploymentId: 'deployment-2',
    })
    expect(error.message).toContain('deployment-2')
  })

  it('is given up in time, with what it waits for', async () => {
    const marathon = scriptedMarathon({
      lastTaskFailure: { message: `docker run -e HAPROXY_SSL_CERT=${pemOf(bundle)}` },
      tasksStaged: 0,
    })
    marathon.onLook = () => undefined
    const { error, elapsedMs } = await deploy(marathon, { deploymentTimeoutMs: 60_000 })
    expect(error).toMatchObject({ reason: 'timed-out', code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
    expect(error.message).toMatch(/step 1 of 1, RestartApplication; 1 of 1 tasks run.*ports free\?; it goes on/)
    expect(elapsedMs).toBe(60_000)
    expect(marathon.calls().some((call) => call.startsWith('DELETE'))).toBe(false)
  })

  it('that is over with tasks that are not healthy is not said to go on', async () => {
    const marathon = scriptedMarathon({ healthChecks: [{ path: '/' }], tasksHealthy: 0 })
    const { error } = await deploy(marathon, { deploymentTimeoutMs: 60_000, rollBackOnTimeout: true })
    expect(error).toMatchObject({ reason: 'timed-out', retryable: true })
    expect(error.message).toMatch(/is over, and the app is not as it should be: not all tasks .*, 0 healthy/)
    expect(error.message).not.toMatch(/goes on|rolled back|ports free/)
  })

  it('is rolled back when that is asked for', async () => {
    const marathon = scriptedMarathon()
    marathon.onLook = () => undefined
    const { error } = await deploy(marathon, { deploymentTimeoutMs: 60_000, rollBackOnTimeout: true })
    expect(error.message).toContain('it is being rolled back')
    expect(marathon.calls().at(-1)).toBe('DELETE /v2/deployments/deployment-2')
  })

  it('is not waited for by a Marathon that cannot be asked, for longer than that', async () => {
    const marathon = scriptedMarathon()
    marathon.intercept = ({ path }) => (path === '/v2/deployments' ? { status: 503, body: '<html>' } : undefined)
    const { error, elapsedMs } = await deploy(marathon, { deploymentTimeoutMs: 60_000 })
    expect(error).toMatchObject({ reason: 'timed-out', cause: { reason: 'no-leader' } })
    expect(elapsedMs).toBe(60_000)
  })

  it('survives a Marathon that cannot be asked for a while', async () => {
    const marathon = scriptedMarathon()
    let failures = 0
    marathon.intercept = ({ path }) =>
      path === '/v2/deployments' && (failures += 1) <= 5 ? { status: 502, body: '<html>' } : undefined
    expect((await deploy(marathon)).result).toMatchObject({ status: 'deployed' })
    expect(failures).toBeGreaterThan(5)
  })
})

describe('a listing that comes late', () => {
  it('is no success: the tasks are old', async () => {
    const marathon = scriptedMarathon()
    let looks = 0
    marathon.intercept = ({ path }) => {
      if (path !== '/v2/deployments') return undefined
      looks += 1
      // Neither the list nor the app shows it at first.
      if (looks <= 2) {
        marathon.app['deployments'] = []
        return { body: [] }
      }
      if (looks === 3) marathon.app['deployments'] = [{ id: 'deployment-2' }]
      if (looks === 6) marathon.succeed()
      return { body: marathon.deployments }
    }
    expect((await deploy(marathon)).result).toMatchObject({ status: 'deployed' })
    expect(looks).toBe(6)
  })
})

describe('events', () => {
  const withEvents = (marathon: ScriptedMarathon) => {
    const source = eventSource()
    marathon.intercept = ({ path }) => (path.startsWith('/v2/events') ? source.stream : undefined)
    return source
  }

  it('make the next look come at once', async () => {
    const marathon = scriptedMarathon()
    const source = withEvents(marathon)
    marathon.onLook = (look) => {
      if (look !== 1) return
      setImmediate(() => {
        marathon.succeed()
        source.send({ eventType: 'deployment_success', id: 'deployment-2', plan: {} })
      })
    }
    const { result, elapsedMs } = await deploy(marathon, { pollIntervalMs: 3_600_000, deploymentTimeoutMs: 86_400_000 })
    expect(result).toMatchObject({ status: 'deployed' })
    // The clock runs by itself, so one interval may have passed; never two.
    expect(elapsedMs).toBeLessThanOrEqual(3_600_000)
  })

  it('of other deployments do not make it look without a pause', async () => {
    const marathon = scriptedMarathon()
    const source = withEvents(marathon)
    marathon.onLook = (look) => {
      source.send({ eventType: 'deployment_success', id: `other-${String(look)}` })
      if (look === 5) marathon.succeed()
    }
    const { result, elapsedMs } = await deploy(marathon, { pollIntervalMs: 5_000 })
    expect(result).toMatchObject({ status: 'deployed' })
    expect(elapsedMs).toBe(20_000)
  })

  it('are not believed', async () => {
    const marathon = scriptedMarathon()
    const source = withEvents(marathon)
    marathon.onLook = (look) => {
      if (look === 1) source.send({ eventType: 'deployment_success', id: 'deployment-2' })
      if (look === 5) marathon.succeed()
    }
    await deploy(marathon)
    expect(marathon.calls().filter((call) => call === 'GET /v2/deployments')).toHaveLength(5)
  })

  it.each<[string, (source: ReturnType<typeof eventSource>) => void]>([
    [
      'ends',
      (source) => {
        source.close()
      },
    ],
    [
      'brings nonsense',
      (source) => {
        source.send(['x'])
        source.send({ eventType: 'deployment_success', id: 7 })
        source.send({ eventType: '__proto__', id: 'deployment-2' })
      },
    ],
  ])('go without a stream that %s', async (_, happen) => {
    const marathon = scriptedMarathon()
    const source = withEvents(marathon)
    marathon.onLook = (look) => {
      if (look === 1) happen(source)
      if (look === 3) marathon.succeed()
    }
    expect((await deploy(marathon)).result).toMatchObject({ status: 'deployed' })
  })
})

describe('an error of Marathon', () => {
  it.each<[string, Answer, string, string, RegExp]>([
    [
      '401',
      { status: 401, body: '<html>Unauthorized</html>' },
      'unauthenticated',
      'ERR_DEPLOY_REJECTED',
      /answered 401 with text\/html; the credentials/,
    ],
    [
      '403',
      { status: 403, body: { message: 'Not authorized' } },
      'forbidden',
      'ERR_DEPLOY_REJECTED',
      /requiredPermissions.*Not authorized/,
    ],
    [
      '404',
      { status: 404, body: { message: "App '/lb' does not exist" } },
      'not-found',
      'ERR_DEPLOY_REJECTED',
      /is there an app \/lb/,
    ],
    [
      'a 404 of something else',
      { status: 404, body: '<html>nginx</html>' },
      'unreadable',
      'ERR_DEPLOY_UNAVAILABLE',
      /"urls" right/,
    ],
    [
      'a log-in page',
      { status: 200, body: '<html>log in</html>' },
      'unreadable',
      'ERR_DEPLOY_UNAVAILABLE',
      /answered 200 with text\/html/,
    ],
    [
      '422',
      { status: 422, body: { message: 'Object is not valid', details: [{ path: '/env', errors: ['bad'] }] } },
      'refused',
      'ERR_DEPLOY_REJECTED',
      /Object is not valid; \/env; bad/,
    ],
    [
      '400',
      { status: 400, body: { message: 'Invalid JSON', details: 'text' } },
      'refused',
      'ERR_DEPLOY_REJECTED',
      /Invalid JSON; text/,
    ],
    [
      '503',
      { status: 503, body: '<html>', headers: { 'retry-after': '60' } },
      'no-leader',
      'ERR_DEPLOY_UNAVAILABLE',
      /no leader/,
    ],
    [
      'a redirect',
      { status: 302, headers: { location: 'https://evil.example/?key' } },
      'redirected',
      'ERR_DEPLOY_REJECTED',
      /https:\/\/evil\.example\/, which gets no credentials/,
    ],
  ])('%s while reading is told', async (_, answer, reason, code, message) => {
    const marathon = scriptedMarathon()
    marathon.intercept = ({ path }) => (path === '/v2/leader' ? { status: 404 } : answer)
    const { error } = await deploy(marathon, { authentication: { type: 'token', token: 'open-sesame' } })
    expect(error).toMatchObject({ reason, code, message: expect.stringMatching(message) as string })
    if (answer instanceof Error || answer instanceof ReadableStream || answer.status !== 503) return
    expect(error.retryAt).toEqual(new Date(Date.UTC(2026, 0, 1, 0, 1)))
  })

  // The worst server there is: it says all it knows, in every place that could be quoted.
  const echo = (request: { readonly body: unknown; readonly headers: object }): object => {
    const everything = JSON.stringify([request.body, request.headers])
    const env = JSON.stringify((request.body as { env?: unknown } | undefined)?.env ?? '')
    return {
      message: `cannot take ${everything}`,
      details: [
        { path: env, errors: [everything, inspect(request, { depth: 9 })] },
        { path: '/env', errors: [env] },
      ],
    }
  }
  it.each([400, 401, 403, 404, 409, 422, 429, 500, 502, 503])(
    '%i that repeats the request shows no secret',
    async (status) => {
      const marathon = scriptedMarathon({ env: { PASSWORD: 'open-sesame', HAPROXY_SSL_CERT: pemOf(old) } })
      let echoed = 0
      marathon.intercept = (request) => {
        if (request.method !== 'PATCH') return undefined
        echoed += 1
        return { status, body: echo(request) }
      }
      const { error, log } = await deploy(marathon, {
        authentication: { type: 'basic', username: 'u', password: 'open-sesame' },
      })
      expect(error).toMatchObject({ name: 'MarathonDeployError' })
      expect(echoed).toBeGreaterThan(0)
      const chain = error.cause instanceof Error ? error.cause : undefined
      const shown = [error.message, error.stack, inspect(chain, { depth: 9 }), log].join('\n')
      for (const line of [...pemOf(old).split('\n'), ...pemOf(bundle).split('\n')]) {
        if (line.length > 10 && !line.startsWith('--')) expect(shown).not.toContain(line)
      }
    },
  )
})

describe('a piece of the key', () => {
  it('is not shown either, however short, and though it was sent for the first time', async () => {
    const lines = bundle.privateKey.exportPem().trim().split('\n')
    const piece = lines.at(-2)!.slice(0, 20)
    const marathon = scriptedMarathon()
    marathon.intercept = ({ method }) =>
      method === 'PATCH' ? { status: 422, body: { message: `bad near ${lines.at(-2)!} of` } } : undefined
    const { error } = await deploy(marathon)
    expect(error.message).toContain('Marathon says: bad near [hidden] of')
    expect(error.message).not.toContain(piece)
  })
})

describe('an abort', () => {
  it('is rethrown as it is, at every request it may come at, and the next attempt deploys', async () => {
    for (let at = 1; ; at += 1) {
      const marathon = scriptedMarathon()
      const controller = new AbortController()
      const reason = new Error('stop')
      let requests = 0
      let fired = false
      marathon.intercept = () => {
        requests += 1
        if (requests !== at) return undefined
        fired = true
        controller.abort(reason)
        return undefined
      }
      const { error, result } = await deploy(marathon, {}, controller.signal)
      expect(getEventListeners(controller.signal, 'abort')).toEqual([])
      if (!fired) {
        expect(result).toMatchObject({ status: 'deployed' })
        expect(at).toBeGreaterThan(5)
        return
      }
      expect(error ?? reason).toBe(reason)
      marathon.intercept = () => undefined
      marathon.succeed()
      expect((await deploy(marathon)).error).toBeUndefined()
      expect(marathon.app['env']).toEqual({ HAPROXY_SSL_CERT: pemOf(bundle) })
    }
  })

  it('before the start sends nothing', async () => {
    const marathon = scriptedMarathon()
    const reason = new Error('stop')
    const { error } = await deploy(marathon, {}, AbortSignal.abort(reason))
    expect(error).toBe(reason)
    expect(marathon.sent).toEqual([])
  })
})

describe('inspect', () => {
  it.each<[string, () => Record<string, unknown>, string]>([
    ['no environment', () => ({}), 'absent'],
    ['an empty variable', () => ({ env: { HAPROXY_SSL_CERT: '' } }), 'absent'],
    ['another certificate', () => ({ env: { HAPROXY_SSL_CERT: pemOf(old) } }), 'stale'],
    ['a secret', () => ({ env: { HAPROXY_SSL_CERT: { secret: 'tls' } } }), 'stale'],
    ['it', () => ({ env: { HAPROXY_SSL_CERT: pemOf(bundle) } }), 'current'],
    [
      'it, still being deployed',
      () => ({ env: { HAPROXY_SSL_CERT: pemOf(bundle) }, deployments: [{ id: 'x' }] }),
      'stale',
    ],
    [
      'it, and tasks without it',
      () => ({ env: { HAPROXY_SSL_CERT: pemOf(bundle) }, versionInfo: { lastConfigChangeAt: secondInstant(9) } }),
      'stale',
    ],
  ])('of %s', async (_, app, state) => {
    const marathon = scriptedMarathon(app())
    expect(await deployerFor(marathon).inspect!(bundle, operationContext())).toBe(state)
    expect(marathon.sent.every(({ method }) => method === 'GET')).toBe(true)
  })
})

describe('options', () => {
  const good = { urls: url, appId: '/lb' }
  it.each<[unknown, string]>([
    [undefined, 'options object'],
    [{ ...good, url }, 'url'],
    [{ appId: '/lb' }, 'urls'],
    [{ ...good, urls: [] }, 'urls'],
    [{ ...good, urls: ['http://marathon.mesos:8080'] }, 'set the option "allowHttp"'],
    [{ ...good, urls: ['marathon'], allowHttp: true }, '"urls" option must be an absolute http or https URL'],
    [{ ...good, urls: 'https://user:password@marathon' }, 'urls'],
    [{ ...good, urls: 'https://marathon/?token=x' }, 'urls'],
    [{ ...good, urls: 'https://marathon/v2' }, '"urls" option must end before /v2'],
    [{ ...good, urls: 'https://marathon/v2/apps/' }, '"urls" option must end before /v2'],
    [{ ...good, appId: undefined }, 'appId'],
    [{ ...good, appId: '/lb/*' }, 'appId'],
    [{ ...good, appId: '/lb/../other' }, 'appId'],
    [{ ...good, appId: '/lb?force=true' }, 'appId'],
    [{ ...good, appId: '/LB' }, 'appId'],
    [{ ...good, environmentVariable: 'A=B' }, 'environmentVariable'],
    [{ ...good, environmentVariable: 'HAPROXY_SSL_CERT101' }, 'environmentVariable'],
    [{ ...good, environmentVariable: 'HAPROXY_SSL_CERT00' }, 'environmentVariable'],
    [{ ...good, order: 'chain-first' }, 'order'],
    [{ ...good, ca: 'no pem' }, 'ca'],
    [{ ...good, fetch: 7 }, 'fetch'],
    [{ ...good, force: 'yes' }, 'force'],
    [{ ...good, replaceSecret: 1 }, 'replaceSecret'],
    [{ ...good, deploymentTimeoutMs: 0 }, 'deploymentTimeoutMs'],
    [{ ...good, pollIntervalMs: Number.NaN }, 'pollIntervalMs'],
    [{ ...good, requestTimeoutMs: -1 }, 'requestTimeoutMs'],
    [{ ...good, name: '' }, 'name'],
  ])('%j is refused', (options, named) => {
    const make = (): unknown => marathonDeployer(options as MarathonDeployerOptions)
    expect(make).toThrow(TypeError)
    expect(make).toThrow(named)
  })

  it.each([
    [{ ...good, appId: 'a/b.c-d/e' }, 'marathon:/a/b.c-d/e:HAPROXY_SSL_CERT'],
    [{ ...good, environmentVariable: 'HAPROXY_SSL_CERT100' }, 'marathon:/lb:HAPROXY_SSL_CERT100'],
    [{ ...good, urls: ['http://marathon.mesos:8080/'], allowHttp: true }, 'marathon:/lb:HAPROXY_SSL_CERT'],
    [{ ...good, name: 'mine' }, 'mine'],
  ])('%j makes %s', (options, name) => {
    const { scope, exclusive, ...deployer } = marathonDeployer(options)
    expect(deployer.name).toBe(name)
    expect([scope, exclusive]).toEqual(['cluster', true])
  })
})

describe('the permissions', () => {
  const listed = (urls: string | readonly string[]): string[] =>
    marathonDeployer({ urls, appId: '/edge/lb' })
      .requiredPermissions()
      .map(({ resource, action }) => `${resource} ${action}`)

  it('are those of the app, for a Marathon that is reached directly', () => {
    expect(listed('https://marathon.mesos:8443')).toEqual([
      'dcos:service:marathon:marathon:services:/edge/lb read',
      'dcos:service:marathon:marathon:services:/edge/lb update',
      'dcos:service:marathon:marathon:admin:events read',
    ])
  })

  it.each(['https://cluster/service/marathon', 'https://cluster/marathon/'])('have one more for %s', (urls) => {
    expect(listed(urls)[0]).toBe('dcos:adminrouter:service:marathon full')
    expect(listed(urls)).toHaveLength(4)
  })

  it('are those of another Marathon where it is one', () => {
    expect(listed('https://cluster/service/marathon-user').slice(0, 2)).toEqual([
      'dcos:adminrouter:service:marathon-user full',
      'dcos:service:marathon:marathon-user:services:/edge/lb read',
    ])
  })
})
