/**
 * Whether a TXT record is visible at every authoritative name server: for any dns-01 solver.
 *
 * Sub-path export `'evercert/solvers/dns-propagation'`.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { ChallengeError } from '../errors.js'
import { withDeadline } from '../internal/deadline.js'
import { askServer } from '../internal/dns-client.js'
import { dnsName } from '../internal/dns-message.js'
import { systemDnsTransport, type DnsTransport } from '../internal/dns-transport.js'
import { assertDuration, assertMethod, assertNumber, assertOptions } from '../internal/options.js'
import { Semaphore } from '../internal/semaphore.js'
import type { Dns01Challenge } from './challenge-solver.js'
import { delegationFinder, DnsProblem, parseResolvers, type AskServer } from './dns-delegation.js'
import { linkProblem, recordObserver, type ObservationMemory } from './dns-observation.js'
import { describeReport, type PropagationOutcome, type PropagationReport } from './dns-report.js'
import { skipSilent } from './dns-silence.js'

export type { DnsServerAddress, DnsTransport } from '../internal/dns-transport.js'
export type { NameServerObservation, PropagationOutcome, PropagationReport } from './dns-report.js'

/** Options of {@link dnsPropagation}. */
export interface DnsPropagationOptions {
  /**
   * Recursive resolvers, as `1.1.1.1` or `[2606:4700:4700::1111]:53`: they tell which name servers are responsible, and are
   * asked in this order until one knows. They are never asked for the TXT record itself, so that they do not remember its
   * absence. At most 8.
   *
   * @defaultValue those of the system
   */
  readonly servers?: readonly string[] | undefined
  /** Where the authoritative servers listen. Only tests use anything but 53. @defaultValue 53 */
  readonly nameserverPort?: number | undefined
  /**
   * One try of one question, in milliseconds. A silent server gets three: UDP, UDP, TCP.
   *
   * @defaultValue 2_000 (2 seconds)
   */
  readonly queryTimeoutMs?: number | undefined
  /** Between two looks of a wait, in milliseconds. @defaultValue 2_000 (2 seconds) */
  readonly pollMs?: number | undefined
  /** For one `waitUntilVisible`, in milliseconds. @defaultValue 120_000 (2 minutes) */
  readonly timeoutMs?: number | undefined
  /** How messages reach servers. @defaultValue UDP and TCP sockets of this machine */
  readonly transport?: DnsTransport | undefined
}

/**
 * Looks at TXT records through the eyes of a CA whose resolver remembers nothing.
 *
 * Record names are A-labels; case and a final dot do not matter. All methods rethrow `context.signal.reason` when aborted,
 * and throw a `TypeError` for a name that no record can have.
 */
export interface DnsPropagation {
  /** One look: what each authoritative server has. Never throws for what DNS says, or fails to say. */
  look(record: { readonly name: string; readonly value: string }, context: OperationContext): Promise<PropagationReport>
  /**
   * Looks again and again, only at the servers that still lack the value, until the record is visible.
   *
   * @throws `ChallengeError` `ERR_CHALLENGE_PROPAGATION_TIMEOUT`, retryable, when `timeoutMs` is used up; its message says
   *   what each server had.
   */
  waitUntilVisible(challenge: Dns01Challenge, context: OperationContext): Promise<PropagationReport>
  /**
   * Where a record for this name must be written: the end of its CNAME chain, the name itself where there is none. The
   * authoritative servers are asked; the resolvers only where none of those can be reached.
   *
   * @returns The name in lower case, without final dot.
   * @throws `ChallengeError` `ERR_CHALLENGE_FAILED`, retryable, for a loop, a chain of more than eight, or when the zone of a
   *   name in it cannot be found.
   */
  resolveTarget(name: string, context: OperationContext): Promise<string>
}

/** More questions than this at once, over all names, look like an attack. To resolvers, and to name servers. */
const mostQuestions = 50

/**
 * Makes a {@link DnsPropagation}, for the `waitUntilReady` of any dns-01 solver.
 *
 * The zone of a name and its name servers are found by asking recursive resolvers; then each address of each name server is
 * asked itself, IPv4 and IPv6, UDP first and TCP where UDP does not do. Only authoritative answers count. A CNAME is
 * followed into its own zone. Servers that cannot be reached, or are not responsible for the zone they are listed for, are
 * passed over as resolvers do, unless nobody is left.
 *
 * What is known of zones and servers is shared by everything that one instance does, for 30 seconds: make one and keep it.
 * At most 50 questions to name servers are under way at once, and 50 to resolvers; of a zone, at most 13 name servers with 4
 * addresses each are asked, 32 in all. A server that kept silent is passed over for 10 seconds, whatever the name.
 *
 * @remarks
 * This machine must be allowed to send to port 53 (UDP and TCP) of the authoritative servers. Whoever runs the DNS of a name
 * decides which addresses that are, private ones included; they get one DNS question for a name they already know, and
 * nothing of what they answer is passed on but host names. DNSSEC is not checked, and a CA may see another view of a zone
 * than this machine does (split horizon): treat a failure as a reason to wait or warn where that can be.
 *
 * @example
 *
 * ```ts
 * import type { ChallengeSolver } from 'evercert'
 * import { dnsPropagation } from 'evercert/solvers/dns-propagation'
 *
 * declare const myDns: Record<'addTxt' | 'removeTxt', (name: string, value: string, signal: AbortSignal) => Promise<void>>
 *
 * const propagation = dnsPropagation()
 * const solver: ChallengeSolver<'dns-01'> = {
 *   name: 'dns-01/my-dns',
 *   type: 'dns-01',
 *   async present({ recordName, recordValue }, context) {
 *     await myDns.addTxt(await propagation.resolveTarget(recordName, context), recordValue, context.signal)
 *   },
 *   async waitUntilReady(challenge, context) {
 *     await propagation.waitUntilVisible(challenge, context)
 *   },
 *   async cleanUp({ recordName, recordValue }, context) {
 *     await myDns.removeTxt(await propagation.resolveTarget(recordName, context), recordValue, context.signal)
 *   },
 * }
 * ```
 *
 * @param options - See {@link DnsPropagationOptions}. Validated and copied.
 * @throws `TypeError` if an option is unknown or out of range.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555.html#section-8.4 | RFC 8555 section 8.4, DNS Challenge}
 */
export function dnsPropagation(options: DnsPropagationOptions = {}): DnsPropagation {
  assertOptions(
    options,
    ['servers', 'nameserverPort', 'queryTimeoutMs', 'pollMs', 'timeoutMs', 'transport'],
    'dnsPropagation',
  )
  const { nameserverPort = 53, queryTimeoutMs = 2_000, pollMs = 2_000, timeoutMs = 120_000 } = options
  const { transport = systemDnsTransport } = options
  const resolvers = parseResolvers(options.servers)
  assertNumber(nameserverPort, 'nameserverPort', { min: 1, max: 65_535, integer: true })
  assertDuration(queryTimeoutMs, 'queryTimeoutMs')
  assertDuration(pollMs, 'pollMs')
  assertDuration(timeoutMs, 'timeoutMs')
  assertMethod(transport, 'udp', 'transport')
  assertMethod(transport, 'tcp', 'transport')

  const ask: AskServer = (server, question, context) =>
    askServer(server, question, { transport, tryTimeoutMs: queryTimeoutMs }, context)
  // Each with room of its own: name servers that keep silent must not hold up what resolvers know.
  const delegations = delegationFinder(resolvers, inTurn(ask))
  const observer = recordObserver({ delegations, askServer: inTurn(skipSilent(ask)), nameserverPort })

  return {
    async look({ name, value }, context) {
      context.signal.throwIfAborted()
      return observer.look({ name: recordNameOf(name), value }, new Map(), context)
    },

    async waitUntilVisible(challenge, context) {
      const name = recordNameOf(challenge.recordName)
      let seen: PropagationReport | undefined
      const onTimeout = (): Error => timeoutError({ challenge, name, timeoutMs, seen })
      const { clock, signal, logger } = context
      return withDeadline({ clock, signal, ms: timeoutMs, onTimeout }, async (inner) => {
        const end = clock.now() + timeoutMs
        const memory: ObservationMemory = new Map()
        for (;;) {
          seen = await observer.look({ name, value: challenge.recordValue }, memory, { ...context, signal: inner })
          logger.debug('looked for a TXT record', { recordName: seen.recordName, report: seen })
          if (seen.visible) return seen
          // Nobody answers: that may be over at any moment, so that it is not remembered.
          if (!seen.servers.some(({ outcome }) => answers.has(outcome))) memory.clear()
          const leftMs = end - clock.now()
          if (leftMs <= 0) throw onTimeout()
          await clock.sleep(Math.min(pollMs, leftMs), { signal: inner })
        }
      })
    },

    async resolveTarget(name, context) {
      context.signal.throwIfAborted()
      const chain = [recordNameOf(name)]
      for (;;) {
        const last = chain.at(-1) ?? ''
        let target: string | undefined
        try {
          target = await aliasAt(last, context)
        } catch (error) {
          context.signal.throwIfAborted()
          if (error instanceof DnsProblem) throw targetError(chain, error.message, error)
          throw error
        }
        if (target === undefined) return last
        const obstacle = linkProblem(chain, target, new Set(chain))
        if (obstacle !== undefined) throw targetError(chain, obstacle)
        chain.push(target)
      }
    },
  }

  async function aliasAt(name: string, context: OperationContext): Promise<string | undefined> {
    // Only the outcomes matter here, not the value.
    const { sights } = await observer.lookAtName({ name, value: '' }, new Map(), context)
    const target = sights.find((sight) => sight.outcome === 'alias')?.target
    if (target !== undefined || sights.some(({ outcome }) => answers.has(outcome))) return target
    return delegations.aliasOf(name, context)
  }
}

function inTurn(ask: AskServer): AskServer {
  const room = new Semaphore(mostQuestions)
  return (server, question, context) => room.run(() => ask(server, question, context), context.signal)
}

/** Outcomes that say something about the record. */
const answers: ReadonlySet<PropagationOutcome> = new Set(['visible', 'absent', 'alias'])

function recordNameOf(name: string): string {
  const normal = typeof name === 'string' ? dnsName(name) : undefined
  if (normal === undefined || normal === '') {
    throw new TypeError(`${JSON.stringify(name)} is no name a TXT record can have; write it in A-labels`)
  }
  return normal
}

function timeoutError(parts: {
  readonly challenge: Dns01Challenge
  readonly name: string
  readonly timeoutMs: number
  readonly seen: PropagationReport | undefined
}): ChallengeError {
  const { challenge, name, timeoutMs, seen } = parts
  const end = seen === undefined || seen.recordName === name ? '' : ` (a CNAME to ${seen.recordName})`
  const zone = seen?.zone === undefined ? '' : ` of the zone ${seen.zone}`
  return new ChallengeError({
    code: 'ERR_CHALLENGE_PROPAGATION_TIMEOUT',
    message:
      `the TXT record ${name}${end} is not visible at every authoritative name server${zone} after ` +
      `${String(timeoutMs)} ms: ${seen === undefined ? 'no look has come to its end' : describeReport(seen)}. ` +
      'Check that the record was written to the zone these servers serve, and that this machine may send to port 53 ' +
      'of them',
    retryable: true,
    identifier: challenge.identifier,
    phase: 'wait',
  })
}

function targetError(chain: readonly string[], why: string, cause?: unknown): ChallengeError {
  const [name = ''] = chain
  const resolvers = 'check that the resolvers of this machine work'
  // Without a CNAME on the way there is none to correct.
  const advice = cause !== undefined && chain.length === 1 ? resolvers : `correct the CNAME records, or ${resolvers}`
  return new ChallengeError({
    code: 'ERR_CHALLENGE_FAILED',
    message: `cannot find out where the TXT record for ${name} must be written: ${why}; ${advice}`,
    retryable: true,
    identifier: { type: 'dns', value: name.replace(/^_acme-challenge\./, '') },
    phase: 'present',
    cause,
  })
}
