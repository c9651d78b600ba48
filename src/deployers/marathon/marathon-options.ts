/**
 * Options of `marathonDeployer`.
 *
 * @module
 */
import { createHttpClient, type FetchFunction, type HttpClient } from '../../internal/http.js'
import type { Clock } from '../../core/clock.js'
import {
  assertArray,
  assertBoolean,
  assertDuration,
  assertHttpsUrl,
  assertOneOf,
  assertOptions,
  assertText,
} from '../../internal/options.js'
import { version } from '../../internal/version.js'
import { baseVariable } from './app-update.js'
import type { Authentication } from './authorization.js'
import type { PemOrder } from './environment-value.js'
import { authenticationOf, type MarathonAuthentication } from './marathon-authentication.js'

/** Where a Marathon is, which of its apps is meant, and how it is talked to. */
export interface MarathonConnectionOptions {
  /**
   * Where Marathon is: one URL, or several of one Marathon, which are tried in turn. With the path before `/v2` if there is
   * one: `https://marathon.mesos:8443`, `https://cluster.example.com/service/marathon`.
   */
  readonly urls: string | readonly string[]
  /** The app: `/marathon-lb`. The leading slash may be missing. */
  readonly appId: string
  /** @defaultValue none */
  readonly authentication?: MarathonAuthentication | undefined
  /**
   * PEM certificates trusted instead of Node's roots, for Marathon and for the log-in: DC/OS has a CA of its own
   * (`/ca/dcos-ca.crt`). Not together with `fetch`.
   *
   * @defaultValue the roots that come with Node
   */
  readonly ca?: string | undefined
  /** Sends the requests, with whatever proxy and trust it has. @defaultValue `fetch` of undici */
  readonly fetch?: FetchFunction | undefined
  /**
   * Accepts `http:` URLs. Everybody on the way then reads the private key: only inside a cluster that has nothing else.
   *
   * @defaultValue false
   */
  readonly allowHttp?: boolean | undefined
  /** For each request, milliseconds. @defaultValue 30_000 (30 seconds) */
  readonly requestTimeoutMs?: number | undefined
}

/** Options of `marathonDeployer`. */
export interface MarathonDeployerOptions extends MarathonConnectionOptions {
  /**
   * The variable of the app's environment. marathon-lb reads `HAPROXY_SSL_CERT`, and when that is set also `HAPROXY_SSL_CERT0` to
   * `HAPROXY_SSL_CERT100`.
   *
   * @defaultValue `'HAPROXY_SSL_CERT'`
   */
  readonly environmentVariable?: string | undefined
  /** Order of the PEM blocks: `certificate-first` is leaf, intermediates, key. @defaultValue `'certificate-first'` */
  readonly order?: PemOrder | undefined
  /**
   * For a whole deployment, in milliseconds: waiting for others that hold the app, and for its own. Best below the scheduler's
   * own limit of 15 minutes.
   *
   * @defaultValue 600_000 (10 minutes)
   */
  readonly deploymentTimeoutMs?: number | undefined
  /** Time between two looks at a deployment, milliseconds. Events make it shorter. @defaultValue 5_000 */
  readonly pollIntervalMs?: number | undefined
  /**
   * Overwrites a variable that refers to a secret (`{"secret": "name"}`). The key is then in the app's definition in clear.
   *
   * @defaultValue false
   */
  readonly replaceSecret?: boolean | undefined
  /**
   * Sends changes with `force=true`, which cancels whatever else is being done to the app and may leave tasks of several
   * versions. Never done without this option.
   *
   * @defaultValue false
   */
  readonly force?: boolean | undefined
  /**
   * Says that there is always one more agent on which the app can run. Otherwise an app whose new task cannot start before
   * the old one has stopped is refused: its deployment would never end.
   *
   * @defaultValue false
   */
  readonly spareAgent?: boolean | undefined
  /**
   * Has Marathon bring back what was before when a deployment has not ended in time. That is a deployment as well, and waits
   * for an agent as the first one did.
   *
   * @defaultValue false: it goes on, and the next attempt joins it
   */
  readonly rollBackOnTimeout?: boolean | undefined
  /** @defaultValue `marathon:`, the app id and the variable */
  readonly name?: string | undefined
}

const connectionOptions = ['urls', 'appId', 'authentication', 'ca', 'fetch', 'allowHttp', 'requestTimeoutMs']
const optionNames = {
  readMarathonLabels: connectionOptions,
  marathonDeployer: [
    ...connectionOptions,
    ...[
      'environmentVariable',
      'order',
      'deploymentTimeoutMs',
      'pollIntervalMs',
      'replaceSecret',
      'force',
      'spareAgent',
    ],
    ...['rollBackOnTimeout', 'name'],
  ],
}

/** {@link MarathonDeployerOptions}, checked and complete. */
export interface MarathonSettings {
  /** Without a slash at the end. */
  readonly urls: readonly string[]
  /** With a slash at the start. */
  readonly appId: string
  readonly variable: string
  readonly order: PemOrder
  readonly authentication: Authentication
  readonly deploymentTimeoutMs: number
  readonly pollIntervalMs: number
  readonly replaceSecret: boolean
  readonly force: boolean
  readonly spareAgent: boolean
  readonly rollBackOnTimeout: boolean
  readonly name: string
  /** A client for one operation. */
  httpClient(clock: Clock): HttpClient
}

/** Marathon's rule for each part of a path: letters, digits and inner hyphens, with dots between. */
const appIdPattern = /^(?:\/[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*)+$/

/** Checks and copies the options. @throws `TypeError` that names the option */
export function checkMarathonOptions(
  options: MarathonDeployerOptions,
  of: 'marathonDeployer' | 'readMarathonLabels',
): MarathonSettings {
  assertOptions(options, optionNames[of], of)
  const { environmentVariable: variable = baseVariable, order = 'certificate-first', fetch, ca } = options
  const { allowHttp = false, replaceSecret = false, force = false, spareAgent = false } = options
  const { rollBackOnTimeout = false, requestTimeoutMs = 30_000 } = options
  const { deploymentTimeoutMs = 600_000, pollIntervalMs = 5_000 } = options
  for (const [option, value] of Object.entries({ allowHttp, replaceSecret, force, spareAgent, rollBackOnTimeout })) {
    assertBoolean(value, option)
  }
  for (const [option, value] of Object.entries({ requestTimeoutMs, deploymentTimeoutMs, pollIntervalMs })) {
    assertDuration(value, option)
  }
  assertOneOf(order, 'order', ['certificate-first', 'key-first'])
  const plainHttp = allowHttp && 'anywhere'
  const urls = checkUrls(options.urls, plainHttp)
  const appId = checkAppId(options.appId)
  checkVariable(variable)
  const { name = `marathon:${appId}:${variable}` } = options
  assertText(name, 'name', 500)
  const httpClient = (clock: Clock): HttpClient =>
    createHttpClient({ clock, userAgent: `evercert/${version}`, fetch, ca, timeoutMs: requestTimeoutMs, allowHttp })
  // Made once for nothing, so that "ca" and "fetch" are checked now.
  httpClient({ now: () => 0, sleep: () => Promise.resolve() })
  return {
    urls,
    appId,
    variable,
    order,
    authentication: authenticationOf(options.authentication, plainHttp),
    deploymentTimeoutMs,
    pollIntervalMs,
    replaceSecret,
    force,
    spareAgent,
    rollBackOnTimeout,
    name,
    httpClient,
  }
}

function checkUrls(option: string | readonly string[], plainHttp: boolean | 'anywhere'): readonly string[] {
  const list = typeof option === 'string' ? [option] : option
  assertArray(list, 'urls')
  if (list.length === 0 || list.length > 20) throw new TypeError('"urls" option must hold 1 to 20 URLs')
  const urls = list.map((value) => {
    // Most clusters have no other.
    if (plainHttp === false && /^http:/i.test(value)) {
      throw new TypeError(
        '"urls" option must be https URLs; for a cluster that has http only, set the option "allowHttp"',
      )
    }
    const url = assertHttpsUrl(value, 'urls', plainHttp)
    if (url.search !== '') throw new TypeError('"urls" option must be without query')
    if (/\/v2\/*(?:apps\/*)?$/.test(url.pathname)) throw new TypeError('"urls" option must end before /v2')
    return url.origin + url.pathname.replace(/\/+$/, '')
  })
  return [...new Set(urls)]
}

function checkAppId(value: unknown): string {
  assertText(value, 'appId', 1024)
  const appId = value.startsWith('/') ? value : `/${value}`
  if (!appIdPattern.test(appId)) {
    throw new TypeError(
      '"appId" option must be the path of an app: lower-case letters, digits, - and . between slashes',
    )
  }
  return appId
}

function checkVariable(value: unknown): void {
  if (typeof value !== 'string' || !/^[A-Za-z_][A-Za-z0-9_]{0,254}$/.test(value)) {
    throw new TypeError('"environmentVariable" option must be a name of letters, digits and _')
  }
  if (value.startsWith(baseVariable) && !/^HAPROXY_SSL_CERT(?:\d|[1-9]\d|100)?$/.test(value)) {
    throw new TypeError('"environmentVariable" option: marathon-lb reads HAPROXY_SSL_CERT and HAPROXY_SSL_CERT0 to 100')
  }
}
