/**
 * What the test CA can be told.
 *
 * @module
 */
import { systemClock, type Clock } from '../../core/clock.js'
import { systemRandom, type Random } from '../../core/random.js'
import { checkOptions, nonNegative, positive, wholeNumber } from './check-options.js'
import type { TestAuthorityOptions } from './test-authority.js'

/** How the test CA can check control of a name. */
export type TestCaChallengeType = 'http-01' | 'dns-01'

/** Options of `startTestCa()`. All have defaults that stay on this machine. */
export interface TestCaOptions extends TestAuthorityOptions {
  /** Whether new accounts must be bound to an external one. RFC 8555 section 7.3.4. @defaultValue false */
  readonly externalAccountRequired?: boolean | undefined
  /** HMAC keys of external accounts, base64url, by key identifier. @defaultValue none */
  readonly externalAccountKeys?: Readonly<Record<string, string>> | undefined
  /** What is offered. Wildcards get dns-01 only, IP addresses http-01 only. @defaultValue both */
  readonly challengeTypes?: readonly TestCaChallengeType[] | undefined
  /** Adds a challenge of a type nobody solves, without token, to every authorization. @defaultValue false */
  readonly offerUnknownChallenge?: boolean | undefined
  /** Port that http-01 connects to; also that of redirects to `http:` without a port. @defaultValue 80 */
  readonly httpPort?: number | undefined
  /** Port of redirects to `https:` without a port. @defaultValue 443 */
  readonly httpsPort?: number | undefined
  /**
   * Addresses for http-01, for host names and IP identifiers alike. IPv6 is preferred, one IPv4 address is tried when
   * its connection fails, and the simultaneous validations are spread over the addresses. Throw, or answer with an
   * empty list, for a name that does not resolve.
   *
   * @defaultValue `127.0.0.1` for everything: nothing leaves the machine
   */
  readonly resolve?: ((hostname: string) => readonly string[] | Promise<readonly string[]>) | undefined
  /**
   * TXT values for dns-01, each value joined to one string. Throw for a failed look-up.
   *
   * @defaultValue asks `dnsServer`
   */
  readonly resolveTxt?: ((recordName: string) => Promise<readonly string[]>) | undefined
  /** `address:port` of the DNS server asked for TXT records. @defaultValue '127.0.0.1:5353' */
  readonly dnsServer?: string | undefined
  /** How many requests or look-ups validate one challenge, all at once; all must succeed. 1 to 16. @defaultValue 3, as Pebble */
  readonly validations?: number | undefined
  /** How long one validation may take, milliseconds of real time. @defaultValue 10000 (10 seconds) */
  readonly validationTimeoutMs?: number | undefined
  /** `Retry-After` on pending and processing orders and authorizations, seconds. @defaultValue no such header */
  readonly retryAfterSeconds?: number | undefined
  /** How `Retry-After` is written: RFC 9110 allows seconds and an HTTP date; Pebble alternates. @defaultValue 'seconds' */
  readonly retryAfterFormat?: 'seconds' | 'date' | 'either' | undefined
  /** Whether renewal information is offered. RFC 9773. @defaultValue true */
  readonly renewalInfo?: boolean | undefined
  /** Whether finalize answers `processing`, as Pebble does, or `valid` at once. @defaultValue true */
  readonly asyncFinalize?: boolean | undefined
  /** How many further looks at a finalized order still say `processing`; `Infinity` is possible. @defaultValue 0 */
  readonly processingPolls?: number | undefined
  /** Life of a pending or ready order, milliseconds. @defaultValue 7 days */
  readonly orderLifetimeMs?: number | undefined
  /** Life of an authorization, from its creation and again from its validation, milliseconds. @defaultValue 7 days */
  readonly authorizationLifetimeMs?: number | undefined
  /** Whether a valid authorization serves later orders of the account, as at Let's Encrypt. @defaultValue false */
  readonly reuseAuthorizations?: boolean | undefined
  /** Whether the same names and profile get the same pending or ready order back, as at Let's Encrypt. @defaultValue false */
  readonly reuseOrders?: boolean | undefined
  /** Names that are refused, with everything below them: `rejectedIdentifier`. @defaultValue none */
  readonly blockedNames?: readonly string[] | undefined
  /** Whether lists come in random order, which RFC 8555 allows and Pebble does. @defaultValue true */
  readonly shuffle?: boolean | undefined
  /** For shuffling and nonce rejection. Keys, serials and tokens come from `node:crypto`. @defaultValue `systemRandom` */
  readonly random?: Random | undefined
  /** https with a certificate of its own (valid by the machine's clock), or plain http. @defaultValue true */
  readonly tls?: boolean | undefined
}

/** Options with their defaults filled in. */
export type ResolvedOptions = Required<{
  readonly [
    Name in Exclude<keyof TestCaOptions, keyof TestAuthorityOptions | 'resolveTxt' | 'retryAfterSeconds'>
  ]: Exclude<TestCaOptions[Name], undefined>
}> & {
  readonly clock: Clock
  readonly resolveTxt: TestCaOptions['resolveTxt']
  readonly retryAfterSeconds: number | undefined
}

const day = 86_400_000
const supportedChallengeTypes: readonly TestCaChallengeType[] = ['http-01', 'dns-01']
const optionNames = [
  ...['clock', 'lifetimeMs', 'profiles', 'backdateMs', 'intermediates', 'alternateChains', 'externalAccountRequired'],
  ...['externalAccountKeys', 'challengeTypes', 'offerUnknownChallenge', 'httpPort', 'httpsPort', 'resolve'],
  ...['resolveTxt', 'dnsServer', 'validations', 'validationTimeoutMs', 'retryAfterSeconds', 'retryAfterFormat'],
  ...['renewalInfo', 'asyncFinalize', 'processingPolls', 'orderLifetimeMs', 'authorizationLifetimeMs'],
  ...['reuseAuthorizations', 'reuseOrders', 'blockedNames', 'shuffle', 'random', 'tls'],
]

/** Checks, copies and completes. @throws `TypeError` if an option is unknown or out of range. */
export function resolveOptions(options: TestCaOptions): ResolvedOptions {
  checkOptions('startTestCa', options, optionNames)
  const challengeTypes = [...(options.challengeTypes ?? supportedChallengeTypes)]
  if (challengeTypes.length === 0 || challengeTypes.some((type) => !supportedChallengeTypes.includes(type))) {
    throw new TypeError('"challengeTypes" option must list "http-01", "dns-01" or both')
  }
  const processingPolls = options.processingPolls ?? 0
  if (!(processingPolls >= 0)) throw new TypeError('"processingPolls" option must be a number of at least 0')
  if (options.retryAfterSeconds !== undefined) nonNegative('retryAfterSeconds', options.retryAfterSeconds)
  return {
    clock: options.clock ?? systemClock,
    externalAccountRequired: options.externalAccountRequired ?? false,
    externalAccountKeys: { ...options.externalAccountKeys },
    challengeTypes,
    offerUnknownChallenge: options.offerUnknownChallenge ?? false,
    httpPort: wholeNumber('httpPort', options.httpPort ?? 80, 65_535),
    httpsPort: wholeNumber('httpsPort', options.httpsPort ?? 443, 65_535),
    resolve: options.resolve ?? (() => ['127.0.0.1']),
    resolveTxt: options.resolveTxt,
    dnsServer: options.dnsServer ?? '127.0.0.1:5353',
    validations: positive('validations', wholeNumber('validations', options.validations ?? 3, 16), 1),
    validationTimeoutMs: positive('validationTimeoutMs', options.validationTimeoutMs ?? 10_000, 1),
    retryAfterSeconds: options.retryAfterSeconds,
    retryAfterFormat: options.retryAfterFormat ?? 'seconds',
    renewalInfo: options.renewalInfo ?? true,
    asyncFinalize: options.asyncFinalize ?? true,
    processingPolls,
    orderLifetimeMs: positive('orderLifetimeMs', options.orderLifetimeMs ?? 7 * day, 1),
    authorizationLifetimeMs: positive('authorizationLifetimeMs', options.authorizationLifetimeMs ?? 7 * day, 1),
    reuseAuthorizations: options.reuseAuthorizations ?? false,
    reuseOrders: options.reuseOrders ?? false,
    blockedNames: (options.blockedNames ?? []).map((name) => name.toLowerCase()),
    shuffle: options.shuffle ?? true,
    random: options.random ?? systemRandom,
    tls: options.tls ?? true,
  }
}
