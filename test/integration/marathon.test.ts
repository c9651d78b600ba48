/**
 * marathonDeployer against a Marathon that keeps the contract of the real one.
 */
import { generateKeyPairSync } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { RenewalScheduler } from '../../src/index.js'
import type { CertificateBundle } from '../../src/core/certificate-bundle.js'
import { systemClock } from '../../src/core/clock.js'
import {
  marathonDeployer,
  type MarathonDeployError,
  type MarathonDeployerOptions,
} from '../../src/deployers/marathon/index.js'
import { memoryStore } from '../../src/stores/memory.js'
import {
  assertNoSecrets,
  createTestAuthority,
  createTestBundle,
  operationContext,
  recordingLogger,
} from '../../src/testing/index.js'
import type { AppDefinition } from '../servers/marathon/app.js'
import { credentialDigest, startMarathon, type Marathon, type MarathonOptions } from '../servers/marathon/marathon.js'
import type { FaultAction } from '../support/fault-rules.js'
import { lbId, marathonLbApp, rollBack, servedPair } from '../support/marathon-lb-app.js'
import { scriptedIssuer } from '../support/scripted-issuer.js'

const [path, password] = [`/v2/apps${lbId}`, 'correct-horse-battery']
const authority = createTestAuthority()
const serviceKeys = generateKeyPairSync('rsa', { modulusLength: 2048 })
const serviceKeyPem = serviceKeys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
const publicKeyPem = serviceKeys.publicKey.export({ type: 'spki', format: 'pem' }).toString()

let [old, renewed]: CertificateBundle[] = []
beforeAll(async () => {
  old = await createTestBundle({ authority })
  renewed = await createTestBundle({ authority })
})
const pemOf = (bundle: CertificateBundle): string => bundle.fullChainPem + bundle.privateKey.exportPem()

/** Everything that anybody could read of what happened, in all scenarios: looked through for secrets at the end of each. */
const shown: unknown[] = []
const otherSecrets = new Set<string>()
function secrets(): string[] {
  const lines = [old!.privateKey.exportPem(), renewed!.privateKey.exportPem(), serviceKeyPem].flatMap((pem) =>
    // The first line of every key of one type is much the same.
    pem.split('\n').slice(2, -2),
  )
  const basic = Buffer.from(`user:${password}`).toString('base64')
  return [...lines.filter((line) => line.length > 8), password, basic, ...otherSecrets]
}
afterEach(() => {
  for (const value of shown) assertNoSecrets(value, secrets())
})
afterAll(() => expect(shown).not.toEqual([]))

async function start(app: Partial<AppDefinition> = {}, options: MarathonOptions = {}): Promise<Marathon> {
  const marathon = await startMarathon({ apps: [marathonLbApp(app)], ...options })
  onTestFinished(() => marathon.close())
  return marathon
}

function deployerFor(marathon: Marathon, options: Partial<MarathonDeployerOptions> = {}) {
  return marathonDeployer({
    urls: marathon.urls,
    appId: lbId,
    allowHttp: true,
    pollIntervalMs: 10,
    deploymentTimeoutMs: 30_000,
    ...(marathon.caPem === undefined ? {} : { ca: marathon.caPem }),
    ...options,
  })
}

interface Outcome {
  readonly result: { readonly status: string; readonly details?: object | undefined } | undefined
  readonly error: MarathonDeployError | undefined
}

/** One attempt, of which everything that is visible is kept. */
async function deploy(
  deployer: ReturnType<typeof deployerFor>,
  signal = new AbortController().signal,
  bundle = renewed!,
): Promise<Outcome> {
  const logger = recordingLogger()
  const context = operationContext({ clock: systemClock, logger, signal })
  const outcome = await deployer.deploy(bundle, context).then(
    (result) => ({ result, error: undefined }),
    (error: unknown) => ({ result: undefined, error: error as MarathonDeployError }),
  )
  shown.push(outcome.result, outcome.error, logger.entries)
  return outcome
}

const deployed = (marathon: Marathon): void => {
  expect(servedPair(marathon)).toEqual({ fingerprintSha256: renewed!.fingerprintSha256, keyMatches: true })
  for (const task of marathon.tasks(lbId)) expect(task.env['HAPROXY_SSL_CERT']).toBe(pemOf(renewed!))
  expect(marathon.tasks(lbId)).toHaveLength(2)
}
const accepted = (marathon: Marathon): number => marathon.deployments.all.length

describe('a deployment', () => {
  it('brings the certificate into all tasks and leaves everything else as it was', async () => {
    const marathon = await start()
    const before = marathon.app(lbId)!.definition
    expect(await deploy(deployerFor(marathon))).toMatchObject({ result: { status: 'deployed' } })
    deployed(marathon)
    const { env, ...after } = marathon.app(lbId)!.definition
    expect(env).toEqual({ ...before.env, HAPROXY_SSL_CERT: pemOf(renewed!) })
    expect(after).toEqual({ ...before, env: undefined, ...after })
    expect(after).toMatchObject({ secrets: before.secrets, resourceLimits: before['resourceLimits'] })
    expect(after).toMatchObject({ executorResources: before['executorResources'] })
  })

  it('of what is there is no deployment', async () => {
    const marathon = await start({ env: { HAPROXY_SSL_CERT: pemOf(renewed!).replaceAll('\n', '\\n') } })
    expect(await deploy(deployerFor(marathon))).toMatchObject({ result: { status: 'unchanged' } })
    expect(marathon.requests.map(({ method }) => method)).toEqual(['GET'])
    expect(accepted(marathon)).toBe(0)
  })

  it('begins an environment where there is none', async () => {
    const marathon = await start({ env: {}, secrets: {} })
    expect(await deploy(deployerFor(marathon))).toMatchObject({ result: { status: 'deployed' } })
    expect(marathon.app(lbId)!.definition.env).toEqual({ HAPROXY_SSL_CERT: pemOf(renewed!) })
  })

  it('is a PUT where there is no PATCH', async () => {
    const marathon = await start({}, { features: { patch: false, deploymentIdHeader: false } })
    expect(await deploy(deployerFor(marathon))).toMatchObject({ result: { status: 'deployed' } })
    deployed(marathon)
    expect(marathon.requests.filter(({ method }) => /^P/.test(method)).map(({ method }) => method)).toEqual([
      'PATCH',
      'PUT',
    ])
  })

  it('of a second certificate goes beside the first', async () => {
    const marathon = await start({ env: { HAPROXY_SSL_CERT: pemOf(old!) } })
    const second = deployerFor(marathon, { environmentVariable: 'HAPROXY_SSL_CERT0' })
    expect(await deploy(second)).toMatchObject({ result: { status: 'deployed' } })
    expect(marathon.app(lbId)!.definition.env).toEqual({
      HAPROXY_SSL_CERT: pemOf(old!),
      HAPROXY_SSL_CERT0: pemOf(renewed!),
    })
  })

  it('of two certificates at once loses neither', async () => {
    const marathon = await start({ env: { HAPROXY_SSL_CERT: pemOf(old!) } })
    const [base, second] = [deployerFor(marathon), deployerFor(marathon, { environmentVariable: 'HAPROXY_SSL_CERT0' })]
    const outcomes = await Promise.all([deploy(base), deploy(second)])
    expect(outcomes).toMatchObject([{ result: { status: 'deployed' } }, { result: { status: 'deployed' } }])
    expect(marathon.app(lbId)!.definition.env).toEqual({
      HAPROXY_SSL_CERT: pemOf(renewed!),
      HAPROXY_SSL_CERT0: pemOf(renewed!),
    })
  })

  it('waits for tasks that are slow to become healthy', async () => {
    const marathon = await start()
    marathon.setTaskOutcome(lbId, 'unhealthy')
    const deploying = deploy(deployerFor(marathon))
    await looks(marathon, 4)
    expect(accepted(marathon)).toBe(1)
    marathon.setTaskHealth(lbId, true)
    marathon.setTaskOutcome(lbId, 'healthy')
    expect(await deploying).toMatchObject({ result: { status: 'deployed' } })
    deployed(marathon)
  })

  it('notices its end by an event, long before it would look again', async () => {
    const marathon = await start()
    const slow = deployerFor(marathon, { pollIntervalMs: 86_400_000, deploymentTimeoutMs: 86_400_000 })
    marathon.deployments.hold()
    const deploying = deploy(slow)
    await looks(marathon, 1)
    marathon.deployments.release()
    expect(await deploying).toMatchObject({ result: { status: 'deployed' } })
    deployed(marathon)
  })

  it.each<[string, MarathonOptions['features'] & object]>([
    ['an event filter and light plans', { eventFilter: false, heavyPlans: true, version: '1.3.0' }],
    ['reasons in its events', { failureReason: false }],
  ])('needs no Marathon with %s', async (_, features) => {
    const marathon = await start({}, { features })
    expect(await deploy(deployerFor(marathon))).toMatchObject({ result: { status: 'deployed' } })
  })
})

/** Waits until a deployment has been looked at so often. */
async function looks(marathon: Marathon, count: number): Promise<void> {
  while (marathon.count('GET', '/v2/deployments') < count) await new Promise((resolve) => setTimeout(resolve, 2))
}

describe('an app that somebody else works on', () => {
  it('is waited for, and nothing of the other change is lost', async () => {
    const marathon = await start()
    marathon.deployments.hold()
    const env = { ...marathon.app(lbId)!.definition.env, ADDED: 'meanwhile' }
    marathon.update(lbId, { env })
    const deploying = deploy(deployerFor(marathon))
    await looks(marathon, 3)
    expect(marathon.count('PATCH', path)).toBe(1)
    marathon.deployments.release()
    expect(await deploying).toMatchObject({ result: { status: 'deployed' } })
    deployed(marathon)
    expect(marathon.app(lbId)!.definition.env).toMatchObject({ ADDED: 'meanwhile' })
    expect(marathon.count('PATCH', path)).toBe(2)
  })

  it('is not waited for for ever', async () => {
    const marathon = await start()
    marathon.deployments.hold()
    const { deploymentId } = marathon.update(lbId, { cmd: 'other' })
    const { error } = await deploy(deployerFor(marathon, { deploymentTimeoutMs: 200 }))
    expect(error).toMatchObject({ reason: 'locked', deploymentId, retryable: true })
    expect(marathon.app(lbId)!.definition.env).not.toHaveProperty('HAPROXY_SSL_CERT')
  })

  it('is only taken by force when that is asked for', async () => {
    const marathon = await start()
    marathon.deployments.hold()
    marathon.update(lbId, { cmd: 'other' })
    const deploying = deploy(deployerFor(marathon, { force: true }))
    await looks(marathon, 1)
    marathon.deployments.release()
    expect(await deploying).toMatchObject({ result: { status: 'deployed' } })
    expect(marathon.deployments.all.map(({ outcome }) => outcome)).toEqual(['overridden', 'succeeded'])
  })

  it('between reading and writing keeps both changes', async () => {
    const marathon = await start()
    const env = { ...marathon.app(lbId)!.definition.env, ADDED: 'meanwhile' }
    const edited = marathon.addFault({
      match: { method: 'PATCH', nth: 1 },
      action: { first: () => void marathon.update(lbId, { env }) },
    })
    expect(await deploy(deployerFor(marathon))).toMatchObject({ result: { status: 'deployed' } })
    expect(edited.fired).toBe(1)
    deployed(marathon)
    expect(marathon.app(lbId)!.definition.env).toMatchObject({ ADDED: 'meanwhile' })
  })

  it('between reading and writing, and done with it already, gets everything back', async () => {
    const fields = { env: { HAPROXY_SSL_CERT: pemOf(old!), KEPT: 'a', CHANGED: 'b', REMOVED: 'c' } }
    const marathon = await start({ ...fields, resourceLimits: { mem: 1 } })
    const env = { HAPROXY_SSL_CERT: 'theirs', KEPT: 'a', CHANGED: 'B', ADDED: 'd' }
    const first = async (): Promise<void> => {
      marathon.update(lbId, { env, resourceLimits: { mem: 2 }, executorResources: { cpus: 0.1, mem: 32 } })
      await marathon.deployments.settled()
    }
    const edited = marathon.addFault({ match: { method: 'PATCH', nth: 1 }, action: { first } })
    expect(await deploy(deployerFor(marathon))).toMatchObject({ result: { status: 'deployed' } })
    expect(edited.fired).toBe(1)
    deployed(marathon)
    expect(marathon.app(lbId)!.definition).toMatchObject({
      env: { HAPROXY_SSL_CERT: pemOf(renewed!), KEPT: 'a', CHANGED: 'B', ADDED: 'd' },
      resourceLimits: { mem: 2 },
      executorResources: { cpus: 0.1, mem: 32 },
    })
    expect(marathon.app(lbId)!.definition.env).not.toHaveProperty('REMOVED')
    expect(marathon.deployments.all.map(({ outcome }) => outcome)).toEqual(['succeeded', 'succeeded', 'succeeded'])
  })

  it('is waited for when too many deployments are running', async () => {
    const other: AppDefinition = { id: '/other', cmd: 'sleep 1' }
    const marathon = await start({}, { apps: [marathonLbApp(), other], features: { maxRunningDeployments: 1 } })
    marathon.deployments.hold()
    marathon.update('/other', { cmd: 'sleep 2' })
    const deploying = deploy(deployerFor(marathon))
    while (marathon.count('PATCH', path) < 2) await new Promise((resolve) => setTimeout(resolve, 2))
    marathon.deployments.release()
    expect(await deploying).toMatchObject({ result: { status: 'deployed' } })
    deployed(marathon)
  })
})

describe('a deployment that does not come to a good end', () => {
  it.each<[string, (marathon: Marathon) => unknown, string]>([
    ['cancelled by force', (marathon) => marathon.deployments.cancel(), 'cancelled'],
    ['rolled back', (marathon) => rollBack(marathon), 'rolled-back'],
    [
      'overridden',
      (marathon) => marathon.update(lbId, { env: { HAPROXY_SSL_CERT: 'theirs' } }, { force: true }),
      'overridden',
    ],
    [
      'edited away once it was over',
      async (marathon) => {
        await marathon.deployments.finish()
        marathon.update(lbId, { env: { HAPROXY_SSL_CERT: 'theirs' } })
        await marathon.deployments.finish()
      },
      'edited',
    ],
  ])('is told as %s, and the next attempt deploys', async (_, happen, reason) => {
    const marathon = await start({ env: { HAPROXY_SSL_CERT: pemOf(old!) } })
    marathon.deployments.hold()
    const first = async (): Promise<void> => {
      await happen(marathon)
    }
    const fault = marathon.addFault({ match: { method: 'GET', path: '/v2/deployments', nth: 2 }, action: { first } })
    const { error } = await deploy(deployerFor(marathon))
    expect(fault.fired).toBe(1)
    expect(error).toMatchObject({ code: 'ERR_DEPLOY_VERIFY_FAILED', reason, retryable: true })
    expect(error?.deploymentId).toBe(marathon.deployments.all[0]?.id)
    marathon.deployments.release()
    await marathon.deployments.settled()
    expect(await deploy(deployerFor(marathon))).toMatchObject({ result: { status: 'deployed' } })
    deployed(marathon)
  })

  it('that was cancelled half way is told, and the next attempt restarts what is old', async () => {
    const marathon = await start({ env: { HAPROXY_SSL_CERT: pemOf(old!) } })
    marathon.deployments.hold()
    const first = async (): Promise<void> => {
      const isMixed = (): boolean =>
        new Set(marathon.tasks(lbId).map(({ env }) => env['HAPROXY_SSL_CERT'])).size === 2 &&
        marathon.tasks(lbId).length === 2
      while (!isMixed()) await marathon.deployments.advance()
      marathon.deployments.cancel()
    }
    marathon.addFault({ match: { method: 'GET', path: '/v2/deployments', nth: 2 }, action: { first } })
    expect((await deploy(deployerFor(marathon))).error).toMatchObject({ reason: 'cancelled' })
    marathon.deployments.release()
    expect(await deployerFor(marathon).inspect!(renewed!, operationContext({ clock: systemClock }))).toBe('stale')
    expect(await deploy(deployerFor(marathon))).toMatchObject({ result: { status: 'deployed' } })
    expect(marathon.count('POST', `${path}/restart`)).toBe(1)
    deployed(marathon)
  })

  it('that never ends is given up, joined by the next attempt, and begun only once', async () => {
    const marathon = await start()
    marathon.deployments.hold()
    const deployer = deployerFor(marathon, { deploymentTimeoutMs: 100 })
    const { error } = await deploy(deployer)
    expect(error).toMatchObject({ reason: 'timed-out', code: 'ERR_DEPLOY_UNAVAILABLE', retryable: true })
    expect(error?.message).toMatch(/step 0 of 1; 2 of 2 tasks run, 2 healthy, 0 staged/)
    expect((await deploy(deployer)).error).toMatchObject({ reason: 'timed-out' })
    marathon.deployments.release()
    expect(await deploy(deployerFor(marathon))).toMatchObject({
      result: { status: 'deployed', details: { joined: true } },
    })
    deployed(marathon)
    expect(accepted(marathon)).toBe(1)
  })

  it('because a new task gets no agent is refused before it begins, unless somebody says there is one', async () => {
    const one = { instances: 1, upgradeStrategy: { minimumHealthCapacity: 0.5, maximumOverCapacity: 0.2 } }
    const marathon = await start(one, { agents: 1 })
    const { error } = await deploy(deployerFor(marathon))
    expect(error).toMatchObject({ reason: 'deadlock', code: 'ERR_DEPLOY_REJECTED', retryable: false })
    expect(accepted(marathon)).toBe(0)
    // And it was right: told otherwise, Marathon waits for an offer.
    const sure = deployerFor(marathon, { spareAgent: true, deploymentTimeoutMs: 100, rollBackOnTimeout: true })
    expect((await deploy(sure)).error).toMatchObject({
      reason: 'timed-out',
      message: expect.stringContaining('rolled back') as string,
    })
    // The way back is as narrow: what runs is of an older version than what was brought back.
    await marathon.deployments.settled()
    expect(marathon.deployments.running).toMatchObject([{ waitingFor: 'an offer' }])
    expect(marathon.app(lbId)!.definition.env).not.toHaveProperty('HAPROXY_SSL_CERT')
    marathon.deployments.cancel()
    await marathon.setApp(
      marathonLbApp({ ...one, upgradeStrategy: { minimumHealthCapacity: 0, maximumOverCapacity: 0 } }),
    )
    expect(await deploy(deployerFor(marathon))).toMatchObject({ result: { status: 'deployed' } })
  })

  it('because tasks crash shows why, and nothing of their environment', async () => {
    const marathon = await start()
    marathon.setTaskOutcome(lbId, 'crash')
    const { error } = await deploy(deployerFor(marathon, { deploymentTimeoutMs: 100 }))
    expect(error?.message).toMatch(/the last task that failed: Command exited with status 1/)
  })

  it('is no success while the list is late', async () => {
    const marathon = await start({}, { features: { lateListings: 4 } })
    marathon.deployments.hold()
    const deploying = deploy(deployerFor(marathon))
    await looks(marathon, 6)
    expect(servedPair(marathon)).toBeUndefined()
    marathon.deployments.release()
    expect(await deploying).toMatchObject({ result: { status: 'deployed' } })
    deployed(marathon)
  })
})

describe('several masters', () => {
  it.each(['proxy', 'redirect'] as const)('of which the first is a standby that does %s', async (standby) => {
    const marathon = await start(
      {},
      { nodes: 3, standby, authentication: { type: 'basic', username: 'user', password } },
    )
    marathon.elect(2)
    const authentication = { type: 'basic', username: 'user', password } as const
    expect(await deploy(deployerFor(marathon, { authentication }))).toMatchObject({ result: { status: 'deployed' } })
    deployed(marathon)
    const events = marathon.requests.filter(({ path }) => path === '/v2/events')
    expect(events.map(({ node, status }) => [node, status])).toEqual([
      [0, 302],
      [2, 200],
    ])
    const credentials = `Basic ${Buffer.from(`user:${password}`).toString('base64')}`
    expect(new Set(marathon.requests.map(({ headers }) => headers.authorization))).toEqual(
      new Set([credentialDigest(credentials)]),
    )
  })

  it('of which only the standby is configured lead to the leader that they announce', async () => {
    const marathon = await start({}, { nodes: 2, standby: 'proxy' })
    marathon.elect(1)
    expect(await deploy(deployerFor(marathon, { urls: marathon.urls[0]! }))).toMatchObject({
      result: { status: 'deployed' },
    })
    expect(marathon.requests.filter(({ path, status }) => path === '/v2/events' && status === 200)).toHaveLength(1)
  })

  it('of which the first is gone, and the leader changes in the middle', async () => {
    const marathon = await start({}, { nodes: 3 })
    await marathon.nodes[0]!.stop()
    marathon.elect(1)
    marathon.deployments.hold()
    const first = async (): Promise<void> => {
      await marathon.nodes[1]!.stop()
      marathon.elect(2)
      marathon.deployments.release()
    }
    const fault = marathon.addFault({ match: { method: 'GET', path: '/v2/deployments', nth: 2 }, action: { first } })
    expect(await deploy(deployerFor(marathon))).toMatchObject({ result: { status: 'deployed' } })
    expect(fault.fired).toBe(1)
    deployed(marathon)
    expect(accepted(marathon)).toBe(1)
  })

  it('without any leader say so', async () => {
    const marathon = await start({}, { nodes: 2 })
    marathon.elect(undefined)
    expect((await deploy(deployerFor(marathon))).error).toMatchObject({
      reason: 'no-leader',
      code: 'ERR_DEPLOY_UNAVAILABLE',
      message: expect.stringContaining('502 with text/html') as string,
    })
  })
})

describe('access', () => {
  const credential = (loginUrl: string) => ({ uid: 'evercert', private_key: serviceKeyPem, login_endpoint: loginUrl })
  const dcos = { type: 'dcos', accounts: [{ uid: 'evercert', publicKeyPem }] } as const
  const account = (marathon: Marathon, options: Partial<MarathonDeployerOptions> = {}) =>
    deployerFor(marathon, {
      authentication: { type: 'service-account', credential: JSON.stringify(credential(marathon.loginUrl)) },
      ...options,
    })

  it('by a service account, over TLS with the CA of the cluster, through Admin Router', async () => {
    const marathon = await start({}, { tls: true, authentication: dcos, basePath: '/service/marathon' })
    const deployer = account(marathon, { allowHttp: false })
    expect(await deploy(deployer)).toMatchObject({ result: { status: 'deployed' } })
    deployed(marathon)
    expect(marathon.login.succeeded).toBe(1)
    expect(deployer.requiredPermissions()[0]).toMatchObject({ resource: 'dcos:adminrouter:service:marathon' })
  })

  it('logs in again, once, when its token is worth nothing any more, at every request that may happen at', async () => {
    for (let nth = 1; ; nth += 1) {
      const marathon = await start({}, { authentication: dcos })
      const fault = marathon.addFault({
        match: { path: /^\/v2\//, nth },
        action: { first: () => marathon.login.revokeTokens() },
      })
      expect(await deploy(account(marathon))).toMatchObject({ result: { status: 'deployed' } })
      expect(accepted(marathon)).toBe(1)
      deployed(marathon)
      if (fault.fired === 0) {
        expect(nth).toBeGreaterThan(4)
        return
      }
      expect(marathon.login.succeeded).toBe(2)
      await marathon.close()
    }
  })

  it('with a token from elsewhere, asked for again when it is refused', async () => {
    const marathon = await start({}, { authentication: dcos })
    let provided = 0
    const token = (): string => {
      provided += 1
      const issued = marathon.login.issueToken('evercert')
      otherSecrets.add(issued)
      if (provided === 1) marathon.login.revokeTokens()
      return issued
    }
    expect(await deploy(deployerFor(marathon, { authentication: { type: 'token', token } }))).toMatchObject({
      result: { status: 'deployed' },
    })
    expect(provided).toBe(2)
  })

  it.each<[string, MarathonOptions['authentication'], Partial<MarathonDeployerOptions>]>([
    ['no credentials', dcos, {}],
    [
      'a wrong password',
      { type: 'basic', username: 'user', password: 'other' },
      { authentication: { type: 'basic', username: 'user', password } },
    ],
  ])('with %s is refused in HTML, and told', async (_, authentication, options) => {
    const marathon = await start({}, { authentication })
    const { error } = await deploy(deployerFor(marathon, options))
    expect(error).toMatchObject({ reason: 'unauthenticated', code: 'ERR_DEPLOY_REJECTED' })
    expect(error?.message).toMatch(/answered 401 with text\/html/)
  })

  it('of an account that is not known', async () => {
    const marathon = await start({}, { authentication: { type: 'dcos', accounts: [] } })
    expect((await deploy(account(marathon))).error).toMatchObject({ reason: 'unauthenticated' })
    expect(marathon.login.refused).toBe(1)
  })

  it.each([
    ['view', 'not-found'],
    ['update', 'forbidden'],
  ] as const)('without the right to %s', async (action, reason) => {
    const marathon = await start({}, { authentication: dcos })
    const prohibition = marathon.forbid({ action })
    expect((await deploy(account(marathon))).error).toMatchObject({ reason, code: 'ERR_DEPLOY_REJECTED' })
    expect(prohibition.fired).toBeGreaterThan(0)
  })

  it('without the right to events goes on by polling', async () => {
    const marathon = await start({}, { authentication: dcos })
    const prohibition = marathon.forbid({ action: 'view-events' })
    expect(await deploy(account(marathon))).toMatchObject({ result: { status: 'deployed' } })
    expect(prohibition.fired).toBe(1)
  })
})

describe('errors that are no JSON', () => {
  it.each<[number, string]>([
    [403, 'forbidden'],
    [404, 'unreadable'],
    [500, 'unreachable'],
    [502, 'no-leader'],
    [503, 'no-leader'],
    [200, 'unreadable'],
  ])('%i while reading', async (status, reason) => {
    const marathon = await start()
    const body = `<html><body>${pemOf(renewed!)}</body></html>`
    const fault = marathon.addFault({
      match: { method: 'GET', path },
      action: { status, headers: { 'content-type': 'text/html' }, body },
    })
    const { error } = await deploy(deployerFor(marathon))
    expect(error).toMatchObject({
      reason,
      message: expect.stringContaining(`${String(status)} with text/html`) as string,
    })
    expect(fault.fired).toBe(1)
  })
})

describe('whatever goes wrong with one request, whichever it is', () => {
  const faults: readonly [string, FaultAction][] = [
    ['its reply is lost', 'drop-after'],
    ['it is lost', 'drop-before'],
    ['its reply is cut off', 'truncate'],
    ['it is answered by a proxy', { status: 503, headers: { 'content-type': 'text/html' }, body: '<html>down</html>' }],
    ['it is answered in HTML', { status: 200, headers: { 'content-type': 'text/html' }, body: '<html>log in</html>' }],
  ]
  it.each(faults)('when %s, the change is made once and the certificate gets there', async (_, action) => {
    for (let nth = 1; ; nth += 1) {
      const marathon = await start({ env: { HAPROXY_SSL_CERT: pemOf(old!), OTHER: 'kept' } })
      const fault = marathon.addFault({ match: { nth }, action })
      const { error } = await deploy(deployerFor(marathon))
      if (error !== undefined) expect(error.retryable, error.message).toBe(true)
      expect(servedPair(marathon)?.keyMatches).toBe(true)
      if (fault.fired === 0) {
        expect(error).toBeUndefined()
        expect(nth).toBeGreaterThan(4)
        return
      }
      expect((await deploy(deployerFor(marathon))).error).toBeUndefined()
      deployed(marathon)
      expect(marathon.app(lbId)!.definition.env).toMatchObject({ OTHER: 'kept' })
      expect(accepted(marathon)).toBe(1)
      await marathon.close()
    }
  })

  it('when it is aborted, the reason passes through, and the next attempt comes to the end', async () => {
    for (let nth = 1; ; nth += 1) {
      const marathon = await start()
      const controller = new AbortController()
      const reason = new Error('stopped by the test')
      const fault = marathon.addFault({ match: { nth }, action: { first: () => controller.abort(reason) } })
      const { error, result } = await deploy(deployerFor(marathon), controller.signal)
      if (fault.fired === 0) {
        expect(result).toMatchObject({ status: 'deployed' })
        expect(nth).toBeGreaterThan(4)
        return
      }
      expect(error).toBe(reason)
      expect((await deploy(deployerFor(marathon))).error).toBeUndefined()
      deployed(marathon)
      // A change that was under way when it was aborted may have been made, and is then joined or found.
      expect(accepted(marathon)).toBe(1)
      await marathon.close()
    }
  })

  it('when it never comes back, it is given up', async () => {
    for (let nth = 1; ; nth += 1) {
      const marathon = await start()
      const fault = marathon.addFault({ match: { nth }, action: { delayMs: Infinity } })
      const { error } = await deploy(deployerFor(marathon, { requestTimeoutMs: 300 }))
      if (fault.fired === 0) {
        expect(error).toBeUndefined()
        expect(nth).toBeGreaterThan(4)
        return
      }
      if (error !== undefined) expect(error).toMatchObject({ reason: 'unreachable', retryable: true })
      await marathon.close()
    }
  })
})

describe('in a scheduler', () => {
  it('a server that repeats what it was sent gets nothing into events, status and log', async () => {
    const marathon = await start({ env: { HAPROXY_SSL_CERT: pemOf(old!) } })
    const patched = (): string => marathon.requests.find(({ method }) => method === 'PATCH')?.body ?? ''
    const action = {
      status: 422,
      get body() {
        return JSON.stringify({ message: patched(), details: [{ path: patched(), errors: [patched()] }] })
      },
    }
    marathon.addFault({ match: { method: 'PATCH' }, action })
    const logger = recordingLogger()
    const scheduler = new RenewalScheduler({
      store: memoryStore(),
      logger,
      certificates: [
        {
          name: 'lb',
          identifiers: ['www.example.com'],
          issuers: [await scriptedIssuer({ clock: systemClock })],
          deployers: [deployerFor(marathon)],
        },
      ],
    })
    const events: unknown[] = []
    scheduler.on('deployment-failed', (event) => events.push(event))
    const report = await scheduler.reconcile()
    const status = await scheduler.status()
    await scheduler.stop()
    expect(events).toMatchObject([{ deployer: `marathon:${lbId}:HAPROXY_SSL_CERT`, error: { reason: 'refused' } }])
    const sent = (JSON.parse(patched()) as { env: Record<string, string> }).env['HAPROXY_SSL_CERT']!
    const keyLines = sent.slice(sent.indexOf('PRIVATE KEY')).split('\n').slice(2, -2)
    expect(keyLines.length).toBeGreaterThan(0)
    for (const line of keyLines) otherSecrets.add(line)
    shown.push(events, report, status, logger.entries)
  })
})
