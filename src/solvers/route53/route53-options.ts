/**
 * Options of `route53Solver`.
 *
 * @module
 */
import { systemRandom, type Random } from '../../core/random.js'
import {
  assertBoolean,
  assertDuration,
  assertFunction,
  assertMethod,
  assertNumber,
  assertOptions,
  assertText,
} from '../../internal/options.js'
import type { DnsPropagationOptions } from '../dns-propagation.js'
import { parseZones } from '../zones.js'
import type { Route53Client } from './route53-client.js'

/** Options of `route53Solver`. None is needed. */
export interface Route53SolverOptions {
  /**
   * A `Route53Client` of `@aws-sdk/client-route-53`, for other credentials than the default ones. Give it `maxAttempts: 1`:
   * requests are repeated by the solver, within the rate limits.
   *
   * @defaultValue a client with the default credentials of the AWS SDK (environment, shared files, role of the instance, task or pod)
   */
  readonly client?: Route53Client | undefined
  /**
   * Write to this hosted zone, whatever the name. The right to list hosted zones is not needed then.
   *
   * @defaultValue the longest public hosted zone the name is in; an error when there are two of that name
   */
  readonly hostedZoneId?: string | undefined
  /**
   * Where `_acme-challenge.example.com` is a CNAME, write the record where it points: the validation of a name can be
   * delegated to a zone of its own. Takes DNS look-ups; turn it off where no DNS server can be reached.
   *
   * @defaultValue true
   */
  readonly followCname?: boolean | undefined
  /** Of record sets that are made, in milliseconds, whole seconds. One that is there keeps its own. @defaultValue 10_000 (10 seconds) */
  readonly ttlMs?: number | undefined
  /**
   * How the record is looked for at every authoritative name server, once Route 53 says that it is there. When it is not seen
   * in time that is logged, and the CA is asked all the same: with split-horizon DNS this machine sees another zone than the
   * CA. `false` turns it off. Also how a CNAME is followed.
   *
   * @defaultValue on
   */
  readonly propagation?: DnsPropagationOptions | false | undefined
  /** How long Route 53 may take to bring a change to all its name servers, in milliseconds. @defaultValue 600_000 (10 minutes) */
  readonly syncTimeoutMs?: number | undefined
  /** For each request, in milliseconds. @defaultValue 15_000 (15 seconds) */
  readonly requestTimeoutMs?: number | undefined
  /** For each call of the API with all its repetitions, in milliseconds. @defaultValue 120_000 (2 minutes) */
  readonly timeoutMs?: number | undefined
  /** Of this solver; the account has 10, for everybody. @defaultValue 5 */
  readonly requestsPerSecond?: number | undefined
  /** Record sets that are created or deleted in a second. @defaultValue 100 */
  readonly changesPerSecond?: number | undefined
  /** DNS zones this solver is for. @defaultValue every name */
  readonly zones?: readonly string[] | undefined
  /** Needed when several of these are in one issuer. @defaultValue `'dns-01/route53'` */
  readonly name?: string | undefined
  /** For jitter. @defaultValue `Math.random` */
  readonly random?: Random | undefined
}

/** Options with defaults, checked and copied. */
export interface Route53SolverSettings {
  readonly client: Route53Client | undefined
  readonly hostedZoneId: string | undefined
  readonly followCname: boolean
  /** Seconds. */
  readonly ttl: number
  readonly propagation: DnsPropagationOptions | false
  readonly syncTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly timeoutMs: number
  readonly requestsPerSecond: number
  readonly changesPerSecond: number
  readonly zones: readonly string[] | undefined
  readonly name: string
  readonly random: Random
}

const optionNames = [
  ...['client', 'hostedZoneId', 'followCname', 'ttlMs', 'propagation', 'syncTimeoutMs', 'requestTimeoutMs'],
  ...['timeoutMs', 'requestsPerSecond', 'changesPerSecond', 'zones', 'name', 'random'],
]

/** @throws `TypeError` that names the option. */
export function checkRoute53Options(options: Route53SolverOptions): Route53SolverSettings {
  assertOptions(options, optionNames, 'route53Solver')
  const { client, hostedZoneId, followCname = true, ttlMs = 10_000, propagation = {} } = options
  const { syncTimeoutMs = 600_000, requestTimeoutMs = 15_000, timeoutMs = 120_000 } = options
  const { requestsPerSecond = 5, changesPerSecond = 100, name = 'dns-01/route53', random = systemRandom } = options
  if (client !== undefined) assertMethod(client, 'send', 'client')
  assertBoolean(followCname, 'followCname')
  assertNumber(ttlMs, 'ttlMs', { min: 0, max: 86_400_000 })
  if (ttlMs % 1000 !== 0) throw new TypeError('"ttlMs" option must be whole seconds: a multiple of 1000')
  assertDuration(syncTimeoutMs, 'syncTimeoutMs')
  assertDuration(requestTimeoutMs, 'requestTimeoutMs')
  assertDuration(timeoutMs, 'timeoutMs')
  assertNumber(requestsPerSecond, 'requestsPerSecond', { min: 0.1, max: 10_000 })
  assertNumber(changesPerSecond, 'changesPerSecond', { min: 0.1, max: 100_000 })
  assertText(name, 'name', 100)
  assertFunction(random, 'random')
  return {
    client,
    hostedZoneId: hostedZoneId === undefined ? undefined : checkZoneId(hostedZoneId),
    followCname,
    ttl: ttlMs / 1000,
    propagation: propagation === false ? propagation : { ...propagation },
    syncTimeoutMs,
    requestTimeoutMs,
    timeoutMs,
    requestsPerSecond,
    changesPerSecond,
    zones: parseZones(options.zones),
    name,
    random,
  }
}

/** It goes into a path, and into the resource of a policy. */
function checkZoneId(id: unknown): string {
  const short = typeof id === 'string' ? id.replace(/^\/hostedzone\//, '') : ''
  if (!/^[A-Z0-9]{1,32}$/.test(short)) {
    throw new TypeError('"hostedZoneId" option must be the id of a hosted zone, such as Z1D633PJN98FT9')
  }
  return short
}
