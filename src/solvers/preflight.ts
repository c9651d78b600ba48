/**
 * A look at a challenge through the eyes of the CA, before the CA is asked to: a failure here costs no quota.
 *
 * @module
 */
import { isIP } from 'node:net'
import type { OperationContext } from '../core/context.js'
import type { Identifier } from '../core/identifier.js'
import { ChallengeError } from '../errors.js'
import { withDeadline } from '../internal/deadline.js'
import { assertDuration, assertFunction, assertNumber, assertOneOf, assertOptions } from '../internal/options.js'
import type { Challenge } from './challenge-solver.js'
import { lookAtHttpChallenge, type HttpSight } from './preflight-http.js'
import { dnsResolve, type ResolveAddresses } from './preflight-resolve.js'

export type { ResolveAddresses } from './preflight-resolve.js'

/** How the http-01 pre-flight looks at a name. */
export interface PreflightOptions {
  /** Where the CA makes its first request. Only test CAs use anything but 80. @defaultValue 80 */
  readonly httpPort?: number | undefined
  /** Where redirects to https lead. Only test CAs use anything but 443. @defaultValue 443 */
  readonly httpsPort?: number | undefined
  /** For each address, redirects and name look-ups included, in milliseconds. @defaultValue 10_000 (10 seconds) */
  readonly timeoutMs?: number | undefined
  /**
   * What a failure means. `'stop'`: the order ends before the CA is asked, and is tried again later. `'warn'`: it is logged,
   * and the CA is asked all the same. Choose `'warn'` where this machine sees another network than the CA does: split-horizon
   * DNS, NAT without hairpinning, a firewall that lets nothing out.
   *
   * @defaultValue `'stop'`
   */
  readonly onFailure?: 'stop' | 'warn' | undefined
  /**
   * DNS servers to ask, as `1.1.1.1` or `[2606:4700:4700::1111]:53`. Not together with `resolve`.
   *
   * @defaultValue those of the system (`/etc/hosts` is not read: the CA does not read it either)
   */
  readonly servers?: readonly string[] | undefined
  /** Looks up names instead of DNS. */
  readonly resolve?: ResolveAddresses | undefined
}

/** What was seen at one address. */
export interface PreflightObservation {
  readonly address: string
  /**
   * `ready`: the CA will find the challenge. `failed`: it will not. `unreachable`: this machine has no route to the address
   * (often: no IPv6), so nothing is known; that counts as a failure only when it is so for all addresses.
   */
  readonly outcome: HttpSight['outcome']
  /** For people. Holds at most the first 64 bytes of an answer, escaped, and never a key authorization. */
  readonly detail: string
}

/** What {@link Preflight.check} found out. */
export type PreflightReport =
  | { readonly status: 'ready'; readonly observations: readonly PreflightObservation[] }
  /** Only with `onFailure: 'warn'`; otherwise this is an error. */
  | {
      readonly status: 'failed'
      readonly observations: readonly PreflightObservation[]
      readonly error: ChallengeError
    }
  | { readonly status: 'skipped'; readonly reason: 'turned-off' | 'challenge-type' }

/** Checks that presented challenges are visible. */
export interface Preflight {
  /**
   * http-01: every A and AAAA address of the name must answer with the key authorization. Other types are `skipped`.
   *
   * @throws `ChallengeError` with `ERR_CHALLENGE_PREFLIGHT`, retryable, that says for each address what was seen; the
   *   reason of `context.signal` as it is.
   */
  check(challenge: Challenge, context: OperationContext): Promise<PreflightReport>
}

/** More than any real name has; a hostile answer must not turn into a port scan. */
const mostAddresses = 32

/**
 * Makes a {@link Preflight}; with `false` one that skips everything.
 *
 * The look follows what CAs do: port 80, `Host` is the name, up to 10 redirects (301, 302, 307, 308) to http or https on
 * ports 80 and 443, certificates not checked, status 200, white space after the key authorization ignored. A CA asks one
 * address (IPv6 first) from several places; this asks all of them, because the CA will come to each of them sooner or later.
 *
 * The name's own addresses may be private. A redirect at a private address is followed only to the same name and path
 * (http to https), and one to a private address not at all, so that whoever answers for the name, or has its DNS, cannot
 * make this process call into its network; a public CA would not get there either.
 *
 * @throws `TypeError` if an option is unknown or out of range.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555.html#section-8.3 | RFC 8555 section 8.3}
 */
export function createPreflight(options: PreflightOptions | false = {}): Preflight {
  if (options === false) {
    return { check: () => Promise.resolve({ status: 'skipped', reason: 'turned-off' }) }
  }
  assertOptions(options, ['httpPort', 'httpsPort', 'timeoutMs', 'onFailure', 'servers', 'resolve'], 'preflight')
  const { httpPort = 80, httpsPort = 443, timeoutMs = 10_000, onFailure = 'stop', servers } = options
  assertNumber(httpPort, 'preflight.httpPort', { min: 1, max: 65_535, integer: true })
  assertNumber(httpsPort, 'preflight.httpsPort', { min: 1, max: 65_535, integer: true })
  assertDuration(timeoutMs, 'preflight.timeoutMs')
  assertOneOf(onFailure, 'preflight.onFailure', ['stop', 'warn'])
  if (options.resolve !== undefined) {
    assertFunction(options.resolve, 'preflight.resolve')
    if (servers !== undefined)
      throw new TypeError('"preflight.servers" option has no effect together with "preflight.resolve"')
  }
  const resolve = checkedResolve(options.resolve ?? dnsResolve(servers))

  return {
    async check(challenge, context) {
      context.signal.throwIfAborted()
      if (challenge.type !== 'http-01') return { status: 'skipped', reason: 'challenge-type' }
      const { identifier } = challenge
      const { signal, clock, logger } = context
      const limit = (onTimeout: () => Error) => ({ clock, signal, ms: timeoutMs, onTimeout })

      const fail = (
        problem: string,
        observations: readonly PreflightObservation[],
        cause?: unknown,
      ): PreflightReport => {
        const error = preflightError(identifier, problem, onFailure, cause)
        if (onFailure === 'stop') throw error
        logger.warn('pre-flight failed', { identifier: identifier.value, observations, reason: problem })
        return { status: 'failed', observations, error }
      }

      let addresses: readonly string[]
      try {
        addresses =
          identifier.type === 'ip'
            ? [identifier.value]
            : await withDeadline(
                limit(() => new Error(`DNS did not answer within ${String(timeoutMs)} ms`)),
                (inner) => resolve(identifier.value, inner),
              )
      } catch (error) {
        signal.throwIfAborted()
        const why = error instanceof Error ? error.message.slice(0, 200) : 'unknown error'
        return fail(`its addresses could not be looked up: ${why}`, [], error)
      }
      if (addresses.length === 0) return fail('it has no address, neither A nor AAAA', [])
      if (addresses.length > mostAddresses) {
        return fail(`it has ${String(addresses.length)} addresses, more than ${String(mostAddresses)}`, [])
      }

      const observations = await Promise.all(
        addresses.map(async (address): Promise<PreflightObservation> => {
          const late = new Error('late')
          try {
            const seen = await withDeadline(
              limit(() => late),
              (inner) => lookAtHttpChallenge({ challenge, address, httpPort, httpsPort, resolve, signal: inner }),
            )
            return { address, ...seen }
          } catch (error) {
            if (error !== late) throw error
            return { address, outcome: 'failed', detail: `no complete answer within ${String(timeoutMs)} ms` }
          }
        }),
      )
      const ready = observations.some(({ outcome }) => outcome === 'ready')
      const bad = observations.filter(({ outcome }) => outcome === 'failed' || (outcome === 'unreachable' && !ready))
      logger.debug('pre-flight done', { identifier: identifier.value, observations })
      if (bad.length === 0) return { status: 'ready', observations }
      return fail(bad.map(({ address, detail }) => `${address}: ${detail}`).join('; '), observations)
    },
  }
}

function preflightError(
  identifier: Identifier,
  problem: string,
  onFailure: 'stop' | 'warn',
  cause: unknown,
): ChallengeError {
  return new ChallengeError({
    code: 'ERR_CHALLENGE_PREFLIGHT',
    message:
      `http-01 pre-flight for ${identifier.value}: ${problem}. ` +
      (onFailure === 'stop' ? 'The CA was not asked, so no quota is used. ' : '') +
      'Make port 80 of every address of the name serve /.well-known/acme-challenge/, or take the address out of DNS; ' +
      `if the CA sees more than this machine does, set the preflight option to { onFailure: 'warn' } or false`,
    retryable: true,
    identifier,
    phase: 'preflight',
    cause,
  })
}

/** What a resolver says is data: only IP addresses pass, each once. */
function checkedResolve(resolve: ResolveAddresses): ResolveAddresses {
  return async (hostname, signal) => {
    const answer: unknown = await resolve(hostname, signal)
    const addresses = Array.isArray(answer) ? [...new Set(answer.map(String))] : ['']
    if (addresses.every((address) => isIP(address) !== 0)) return addresses
    throw new Error('the resolver answered with something that is no IP address')
  }
}
