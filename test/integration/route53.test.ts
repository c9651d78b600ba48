/**
 * route53Solver end to end: the AWS SDK talks to an emulator of Route 53 that publishes in DNS what is written there, and
 * Pebble validates what it finds. The credentials may do what `requiredPermissions()` says, and nothing else.
 */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../src/core/clock.js'
import { acmeIssuer } from '../../src/issuers/acme/index.js'
import { RenewalScheduler } from '../../src/scheduler/renewal-scheduler.js'
import type { Challenge } from '../../src/solvers/challenge-solver.js'
import {
  route53Solver,
  type PermissionOptions,
  type Route53Solver,
  type Route53SolverOptions,
} from '../../src/solvers/route53/index.js'
import { memoryStore } from '../../src/stores/memory.js'
import { recordingLogger } from '../../src/testing/recording-logger.js'
import { seededRandom } from '../../src/testing/seeded-random.js'
import { challengeSolverContract } from '../../src/testing/solver-contract.js'
import { startRoute53, type Principal, type Route53Emulator, type Route53Options } from '../servers/route53/index.js'
import { sdkClient } from '../servers/route53/sdk-client.js'
import { bundleProgram } from '../support/bundle-program.js'
import { issueOnce } from '../support/issue-once.js'
import { startPebble, type Pebble } from '../support/pebble.js'
import { describeWith } from '../support/servers.js'
import { temporaryDirectory, type TemporaryDirectory } from '../support/temporary-directory.js'
import { dnsChallenge } from '../unit/solvers/challenges.js'
import type { Instructions } from './programs/route53-program.js'

const seed = 20261125
const record = '_acme-challenge.example.com'
const zone = { name: 'example.com', id: 'Z1' }
const atOnce = { pendingPolls: 0 }

const root = fileURLToPath(new URL('../..', import.meta.url))
let work: TemporaryDirectory
const closers: (() => Promise<unknown>)[] = []

beforeEach(async () => {
  work = await temporaryDirectory()
})
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
  await work.remove()
})

interface World {
  readonly route53: Route53Emulator
  readonly pebble: Pebble
  readonly principal: Principal
  readonly logger: ReturnType<typeof recordingLogger>
  readonly client: NonNullable<Route53SolverOptions['client']>
  solver(options?: Route53SolverOptions): Route53Solver
  /** Orders a certificate for the names, and checks what comes. */
  issue(names: readonly string[], solver?: Route53Solver): Promise<void>
  txtValues(zoneId?: string): readonly string[]
  changes(): number
}

async function start(options: Route53Options = {}, permissions?: PermissionOptions): Promise<World> {
  const route53 = await startRoute53({ zones: [zone], pace: atOnce, ...options })
  closers.push(() => route53.close())
  const pebble = await startPebble({ dnsServer: route53.resolverEndpoint })
  closers.push(() => pebble.stop())
  const principal: Principal = { accessKeyId: 'AKIDEVERCERT', secretAccessKey: 'the/secret' }
  principal.policy = route53Solver().requiredPermissions(permissions)
  route53.principals.push(principal)
  const client = sdkClient(route53, principal)
  closers.push(async () => client.destroy())
  const trustedRoots = await pebble.rootPem()
  const logger = recordingLogger()
  const solver = (more: Route53SolverOptions = {}): Route53Solver =>
    route53Solver({ client, propagation: propagationOf(route53), random: seededRandom(seed), ...more })
  return {
    route53,
    pebble,
    principal,
    logger,
    client,
    solver,
    txtValues: (zoneId = 'Z1') => route53.recordSets(zoneId, ['TXT']).flatMap(({ values = [] }) => values),
    changes: () => route53.counts().ChangeResourceRecordSets,
    async issue(names, subject = solver()) {
      const issuer = acmeIssuer({
        directory: pebble.directoryUrl,
        ca: pebble.caPem,
        termsOfServiceAgreed: true,
        solvers: [subject],
        trustedRoots,
      })
      closers.push(() => issuer.close())
      await issueOnce(issuer, names, { trustedRoots, logger })
    },
  }
}

function propagationOf(route53: Route53Emulator) {
  return { servers: [route53.resolverEndpoint], nameserverPort: route53.dnsPort, pollMs: 200, timeoutMs: 20_000 }
}

const cname = (name: string, target: string) => ({ name, type: 'CNAME', ttl: 300, values: [`${target}.`] })

describeWith(['pebble', 'pebble-challtestsrv'], 'route53Solver with Pebble', () => {
  it('a wildcard', async () => {
    const { issue, txtValues, changes, logger } = await start()
    await issue(['*.example.com'])
    expect(txtValues()).toEqual([])
    expect(changes()).toBe(2)
    expect(logger.entries.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([])
  })

  it('a name and its wildcard in one order, through the scheduler, and their renewal', async () => {
    const { route53, pebble, solver } = await start()
    const issuer = acmeIssuer({
      directory: pebble.directoryUrl,
      ca: pebble.caPem,
      termsOfServiceAgreed: true,
      solvers: [solver()],
    })
    closers.push(() => issuer.close())
    const identifiers = ['example.com', '*.example.com']
    await using scheduler = new RenewalScheduler({
      store: memoryStore(),
      certificates: [{ name: 'www', identifiers, issuers: [issuer] }],
    })
    const { outcomes } = await scheduler.reconcile()
    expect(outcomes).toMatchObject([{ certificate: 'www', status: 'renewed' }])
    const [up, down] = route53.requests.filter(({ operation }) => operation === 'ChangeResourceRecordSets')
    expect(up?.changes).toMatchObject([
      { action: 'CREATE', recordSet: { name: `${record}.`, values: [expect.anything(), expect.anything()] } },
    ])
    expect(down?.changes).toMatchObject([{ action: 'DELETE', recordSet: { name: `${record}.` } }])
    expect(await scheduler.renew('www', { force: true })).toMatchObject({ status: 'renewed' })
    expect(route53.counts().ChangeResourceRecordSets).toBeLessThanOrEqual(4)
    expect(route53.recordSets('Z1', ['TXT'])).toEqual([])
  })

  it('a name that is delegated by CNAME to another hosted zone', async () => {
    const target = 'example-com.acme.example.net'
    const { route53, issue, txtValues } = await start(
      {
        zones: [
          { ...zone, recordSets: [cname(record, target)] },
          { name: 'acme.example.net', id: 'Z2' },
        ],
      },
      { recordNames: [target] },
    )
    await issue(['example.com', '*.example.com'])
    const changed = route53.requests.filter(({ operation }) => operation === 'ChangeResourceRecordSets')
    expect(changed.map(({ id }) => id)).toEqual(['Z2', 'Z2'])
    expect([...txtValues(), ...txtValues('Z2')]).toEqual([])
  })

  it('a delegation that changes while the record is there: what was written is removed', async () => {
    const zones = [
      { ...zone, recordSets: [cname(record, 'one.acme.example.net')] },
      { name: 'acme.example.net', id: 'Z2' },
    ]
    const { route53, solver, txtValues } = await start({ zones }, { recordNames: ['*.acme.example.net'] })
    const context = { signal: new AbortController().signal, clock: systemClock, logger: recordingLogger() }
    const subject = solver()
    await subject.present(dnsChallenge('example.com'), context)
    expect(txtValues('Z2')).toHaveLength(1)
    route53.put('Z1', cname(record, 'two.acme.example.net'))
    await subject.cleanUp(dnsChallenge('example.com'), context)
    expect(txtValues('Z2')).toEqual([])
  })

  it('a CNAME into a circle, or to a zone that these credentials do not see, is explained', async () => {
    const delegated = cname(record, 'elsewhere.example.org')
    const looping = cname('_acme-challenge.www.example.com', 'a.example.com')
    const back = cname('a.example.com', '_acme-challenge.www.example.com')
    const { client, solver } = await start({
      zones: [{ ...zone, recordSets: [delegated, looping, back] }, { name: 'example.org' }],
    })
    const withoutOrg: Route53SolverOptions['client'] = {
      async send(command, options) {
        const reply = (await client.send(command, options)) as { HostedZones?: readonly { Name: string }[] }
        return { ...reply, HostedZones: reply.HostedZones?.filter(({ Name }) => Name !== 'example.org.') }
      },
    }
    const context = { signal: new AbortController().signal, clock: systemClock, logger: recordingLogger() }
    const subject = solver({ client: withoutOrg })
    for (const [name, message] of [
      ['example.com', /it is a CNAME to elsewhere\.example\.org.*looked for elsewhere\.example\.org, example\.org/],
      ['www.example.com', /cannot find out where the TXT record for _acme-challenge\.www\.example\.com/],
    ] as const) {
      await expect(subject.present(dnsChallenge(name), context)).rejects.toMatchObject({
        code: 'ERR_CHALLENGE_FAILED',
        message: expect.stringMatching(message) as string,
      })
    }
  })

  it('a hundred names of one zone, with one change up and one down', async () => {
    const { route53, issue, txtValues, changes } = await start()
    await issue(Array.from({ length: 100 }, (_, index) => `host${String(index)}.example.com`))
    const [up, down] = route53.requests.filter(({ operation }) => operation === 'ChangeResourceRecordSets')
    expect(changes()).toBe(2)
    expect(up?.changes.map(({ action }) => action)).toEqual(Array.from({ length: 100 }, () => 'CREATE'))
    expect(down?.changes.map(({ action }) => action)).toEqual(Array.from({ length: 100 }, () => 'DELETE'))
    expect(txtValues()).toEqual([])
    // Zones, record sets twice, changes twice, one look at the change.
    expect(route53.requests.length).toBeLessThanOrEqual(7)
  })

  it('throttling, of requests and of changes, while others use up the account', async () => {
    const { route53, issue, txtValues } = await start()
    route53.limitRate({ requests: { perSecond: 2, burst: 1 }, changes: { perSecond: 2, burst: 3 } })
    await issue(['example.com', '*.example.com', 'www.example.com'])
    expect(route53.requests.some(({ code }) => code === 'Throttling')).toBe(true)
    expect(txtValues()).toEqual([])
  })

  it('a zone that is busy with somebody else’s change', async () => {
    const { route53, issue, txtValues } = await start()
    const faults = [1, 2].map((nth) =>
      route53.addFault({
        match: { operation: 'ChangeResourceRecordSets', nth },
        action: { error: 'PriorRequestNotComplete' },
      }),
    )
    route53.processingMs = 700
    await issue(['example.com'])
    expect(faults.map(({ fired }) => fired)).toEqual([1, 1])
    expect(txtValues()).toEqual([])
  })

  it.each(['drop-before', 'drop-after', 'truncate'] as const)(
    'a connection that breaks (%s) at any call',
    async (action) => {
      const { route53, issue, txtValues } = await start()
      const faults = (
        ['ListHostedZones', 'ListResourceRecordSets', 'ChangeResourceRecordSets', 'GetChange'] as const
      ).map((operation) => route53.addFault({ match: { operation, nth: 1 }, action }))
      faults.push(route53.addFault({ match: { operation: 'ChangeResourceRecordSets', nth: 3 }, action }))
      route53.put('Z1', { name: record, type: 'TXT', ttl: 77, values: ['"foreign"'] })
      await issue(['example.com', '*.example.com'])
      expect(faults.map(({ fired }) => fired).slice(0, 4)).toEqual([1, 1, 1, 1])
      expect(txtValues()).toEqual(['"foreign"'])
    },
  )

  it('a record set that moves between read and write', async () => {
    const { route53, client, solver, issue, txtValues } = await start()
    let moves = 0
    const subject = solver({
      client: {
        async send(command, options) {
          if (command.constructor.name === 'ChangeResourceRecordSetsCommand' && moves < 3) {
            moves += 1
            route53.put('Z1', { name: record, type: 'TXT', ttl: 60, values: [`"foreign ${String(moves)}"`] })
          }
          return client.send(command, options)
        },
      },
    })
    await issue(['example.com', '*.example.com'], subject)
    const refused = route53.requests.filter(({ code }) => code === 'InvalidChangeBatch')
    expect([moves, refused.length]).toEqual([3, 3])
    expect(txtValues()).toEqual(['"foreign 3"'])
  })

  it('split horizon does not block an order: what Route 53 has in sync is enough', async () => {
    const { route53, solver, issue, logger, txtValues } = await start()
    for (const server of route53.nameServers) server.freeze()
    await issue(['example.com'], solver({ propagation: { ...propagationOf(route53), timeoutMs: 500 } }))
    expect(logger.entries.filter(({ level }) => level === 'warn')).toMatchObject([
      { message: expect.stringContaining('the CA is asked all the same') as string },
    ])
    expect(txtValues()).toEqual([])
  })

  it('slow name servers are waited for, so that the CA is not asked too early', async () => {
    const { route53, issue, logger } = await start({ pace: { delayMs: 1500 } })
    for (const server of route53.nameServers) server.lagMs = 1000
    await issue(['example.com'])
    expect(logger.entries.filter(({ level }) => level === 'warn')).toEqual([])
  })

  it.each(['FindHostedZone', 'ReadRecordSets', 'ChangeChallenges', 'FollowChanges'])(
    'the policy without %s is not enough, and the error says what is missing',
    async (sid) => {
      const { principal, solver, issue } = await start()
      const policy = solver().requiredPermissions()
      const missing = policy.Statement.find(({ Sid }) => Sid === sid)
      principal.policy = { ...policy, Statement: policy.Statement.filter(({ Sid }) => Sid !== sid) }
      await expect(issue(['example.com'])).rejects.toMatchObject({
        message: expect.stringContaining(missing?.Action[0] ?? '?') as string,
        cause: { kind: 'denied', awsCode: 'AccessDenied' },
      })
    },
  )
})

describeWith(['pebble', 'pebble-challtestsrv'], 'processes that use route53Solver', () => {
  let program: string
  const children: ChildProcessWithoutNullStreams[] = []

  beforeAll(async () => {
    program = await bundleProgram('route53-program')
  })
  afterAll(() => {
    for (const child of children) if (child.exitCode === null) child.kill('SIGKILL')
  })

  /** Credentials come from a program that the AWS SDK runs: its configuration file is all that it is told. */
  async function credentialsFile({ accessKeyId, secretAccessKey }: Principal): Promise<string> {
    const path = join(work.path, 'credentials.json')
    const AccessKeyId = accessKeyId
    await writeFile(path, JSON.stringify({ Version: 1, AccessKeyId, SecretAccessKey: secretAccessKey }))
    const config = join(work.path, 'aws-config')
    await writeFile(config, `[default]\ncredential_process = /bin/cat ${path}\n`)
    return config
  }

  async function run({ route53, pebble, principal }: World, instructions: Partial<Instructions> = {}) {
    const all: Instructions = {
      directoryUrl: pebble.directoryUrl,
      caPem: pebble.caPem,
      names: ['example.com', '*.example.com'],
      storeDirectory: join(work.path, 'store'),
      solver: { propagation: propagationOf(route53) },
      ...instructions,
    }
    const child = spawn(process.execPath, [program, JSON.stringify(all)], {
      env: await awsEnvironment(route53, principal),
    })
    children.push(child)
    return { ended: outputOf(child) }
  }

  async function awsEnvironment({ endpoint }: Route53Emulator, principal: Principal): Promise<Record<string, string>> {
    return {
      PATH: process.env['PATH'] ?? '',
      AWS_CONFIG_FILE: await credentialsFile(principal),
      AWS_SHARED_CREDENTIALS_FILE: join(work.path, 'none'),
      AWS_ENDPOINT_URL_ROUTE_53: endpoint,
      AWS_EC2_METADATA_DISABLED: 'true',
    }
  }

  /** What it said, once it has ended. */
  async function outputOf(child: ChildProcessWithoutNullStreams) {
    let said = ''
    let complained = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (complained += text))
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
    return { code, signal, said, complained }
  }

  const renewed = expect.stringContaining('"status":"renewed"') as string

  it('two at once on the same names lose no value', async () => {
    const world = await start({ pace: 'manual' })
    const { route53, txtValues } = world
    route53.put('Z1', { name: record, type: 'TXT', ttl: 60, values: ['"foreign"'] })
    const runs = await Promise.all(['one', 'two'].map((name) => run(world, { storeDirectory: join(work.path, name) })))
    // Both have put up both of their values, and wait for Route 53.
    await vi.waitUntil(() => txtValues().length === 5, { timeout: 60_000, interval: 50 })
    route53.pace = atOnce
    route53.release()
    for (const { ended } of runs) expect(await ended).toMatchObject({ code: 0, said: renewed })
    expect(txtValues()).toEqual(['"foreign"'])
  })

  it('kill -9 after the write: the next process cleans up, and gets its certificate', async () => {
    const world = await start()
    const { route53, txtValues } = world
    route53.put('Z1', { name: record, type: 'TXT', ttl: 60, values: ['"foreign"'] })
    const first = await run(world, { killAfter: 'ChangeResourceRecordSets' })
    expect(await first.ended).toMatchObject({ signal: 'SIGKILL' })
    expect(txtValues()).toHaveLength(3)
    const second = await run(world)
    expect(await second.ended).toMatchObject({ code: 0, said: renewed })
    expect(txtValues()).toEqual(['"foreign"'])
  })

  it('credentials that expire midway are looked for again', async () => {
    const world = await start({ pace: 'manual' })
    const { route53, principal, txtValues, changes } = world
    const { ended } = await run(world)
    await vi.waitUntil(() => changes() === 1, { timeout: 60_000, interval: 50 })
    const next = { accessKeyId: 'AKIDNEXT', secretAccessKey: 'another/secret', policy: principal.policy }
    route53.principals.push(next)
    await credentialsFile(next)
    principal.expired = true
    route53.release()
    expect(await ended).toMatchObject({ code: 0, said: renewed })
    expect(route53.requests.some(({ code }) => code === 'ExpiredToken')).toBe(true)
    expect(route53.requests.at(-1)?.accessKeyId).toBe('AKIDNEXT')
    expect(txtValues()).toEqual([])
  })

  it('examples/route53 prints its policy, obtains a wildcard with it, and does nothing the second time', async () => {
    const world = await start({}, {})
    const { route53, pebble, principal } = world
    await writeFile(join(work.path, 'ca.pem'), pebble.caPem)
    const example = async (...flags: string[]) => {
      const child = spawn(
        process.execPath,
        [
          join(root, 'node_modules/tsx/dist/cli.mjs'),
          '--tsconfig',
          'tsconfig.check.json',
          'examples/route53/main.ts',
          ...flags,
        ],
        {
          cwd: root,
          env: {
            ...(await awsEnvironment(route53, principal)),
            NAMES: 'example.com,*.example.com',
            DIRECTORY: join(work.path, 'pem'),
            STORE: join(work.path, 'store'),
            ACME_DIRECTORY: pebble.directoryUrl,
            ACME_CA: join(work.path, 'ca.pem'),
            DNS_SERVER: route53.resolverEndpoint,
            DNS_PORT: String(route53.dnsPort),
          },
        },
      )
      children.push(child)
      return outputOf(child)
    }
    const policy = JSON.parse((await example('--policy')).said) as NonNullable<Principal['policy']>
    expect(policy).toEqual(world.solver().requiredPermissions())
    principal.policy = policy
    const first = await example()
    expect(first).toMatchObject({ code: 0, said: expect.stringContaining('www renewed') as string })
    const pem = await readFile(join(work.path, 'pem', 'fullchain.pem'), 'utf8')
    const names = new X509Certificate(pem).subjectAltName?.split(', ').sort()
    expect(names).toEqual(['DNS:*.example.com', 'DNS:example.com'])
    expect(world.txtValues()).toEqual([])
    expect((await example()).said).toContain('www unchanged')
    expect(world.changes()).toBe(2)
  })

  it('credentials that expire for good are named', async () => {
    const world = await start()
    world.principal.expired = true
    const { ended } = await run(world)
    const { said } = await ended
    expect(said).toContain('the AWS credentials have expired (ExpiredToken)')
    expect(said).not.toContain('the/secret')
  })
})

describe('route53Solver over the emulator', () => {
  challengeSolverContract(
    { describe, it },
    {
      level: 'strict',
      async createSolver() {
        const route53 = await startRoute53({ zones: [{ name: 'contract.example', id: 'Z1' }], pace: atOnce })
        const client = sdkClient(route53)
        const open = () => route53Solver({ client, propagation: propagationOf(route53) })
        const nameOf = (challenge: Challenge): string => (challenge.type === 'dns-01' ? challenge.recordName : '')
        return {
          solver: open(),
          readPresented: async (challenge) =>
            route53
              .recordSets('Z1', ['TXT'])
              .filter(({ name }) => name === `${nameOf(challenge)}.`)
              .flatMap(({ values = [] }) => values.map((value) => value.slice(1, -1))),
          plantForeign: async (challenge, value) =>
            route53.put('Z1', { name: nameOf(challenge), type: 'TXT', ttl: 60, values: [`"${value}"`] }),
          reopen: async () => open(),
          async dispose() {
            client.destroy()
            await route53.close()
          },
        }
      },
    },
  )
})
