/**
 * What was seen of a TXT record, and what that means. Pure.
 *
 * @module
 */
import { rcodeName, type DnsMessage } from '../internal/dns-message.js'

/**
 * What a name server said:
 *
 * - `visible`: it has the value.
 * - `absent`: it has not, or not yet (no such name, no TXT record, other values).
 * - `alias`: a CNAME at this name; what counts is at its target, which is followed. A report has it only in a chain that
 *   leads nowhere.
 * - `failed`: it answers, with an error (SERVFAIL) or with something that is no answer.
 * - `refused`, `lame`: it is not responsible for the zone, whatever the delegation says.
 * - `unreachable`: no answer, or no way from this machine (often: no IPv6).
 * - `unresolved`: its address could not be found.
 *
 * The last four say nothing about the record: resolvers pass over such servers, and so does the verdict, unless nobody is
 * left.
 */
export type PropagationOutcome =
  'visible' | 'absent' | 'alias' | 'failed' | 'refused' | 'lame' | 'unreachable' | 'unresolved'

/** What was seen at one address of one name server. */
export interface NameServerObservation {
  /** The name that was asked for: in a CNAME chain, one of its links. */
  readonly recordName: string
  readonly nameserver: string
  /** `undefined` exactly when `unresolved`. */
  readonly address: string | undefined
  readonly outcome: PropagationOutcome
  /** For people. Never holds a TXT value. */
  readonly detail: string
}

/** What a look found out. */
export interface PropagationReport {
  /**
   * Whether a CA will find the value wherever it asks: every authoritative server that answers for its zone has it, and
   * there is at least one.
   */
  readonly visible: boolean
  /** Where the record has to be: the end of the CNAME chain, as far as that is known. */
  readonly recordName: string
  /** The zone of `recordName`. `undefined` when it could not be found. */
  readonly zone: string | undefined
  /** One entry for each address. */
  readonly servers: readonly NameServerObservation[]
  /** What kept the look from its end: no resolver answers, no such zone, a CNAME loop. For people. */
  readonly problem: string | undefined
}

/** What one answer means. */
export interface Sight {
  readonly outcome: PropagationOutcome
  readonly detail: string
  /** With `alias`: where it leads. */
  readonly target?: string | undefined
}

/** Reads the answer of an authoritative server to "TXT at `name`?". */
export function judgeAnswer(answer: DnsMessage, name: string, value: string): Sight {
  const rcode = rcodeName(answer.rcode)
  if (rcode === 'REFUSED') return { outcome: 'refused', detail: 'it refuses to answer for this zone (REFUSED)' }
  if (rcode !== 'NOERROR' && rcode !== 'NXDOMAIN')
    return { outcome: 'failed', detail: `it answers with an error (${rcode})` }
  if (!answer.authoritative) return { outcome: 'lame', detail: lameness(answer) }
  const alias = answer.answers.find((record) => record.type === 'CNAME' && record.name === name)
  if (alias?.type === 'CNAME') {
    const { target } = alias
    if (target === undefined) return { outcome: 'failed', detail: 'a CNAME to something that is no host name' }
    return { outcome: 'alias', detail: `a CNAME to ${target}`, target }
  }
  const values = answer.answers.flatMap((record) => (record.type === 'TXT' && record.name === name ? record.value : []))
  if (values.includes(value)) return { outcome: 'visible', detail: 'it has the value' }
  if (values.length > 0) return { outcome: 'absent', detail: `only other TXT values (${String(values.length)})` }
  return { outcome: 'absent', detail: rcode === 'NXDOMAIN' ? 'no such name (NXDOMAIN)' : 'no TXT record' }
}

function lameness(answer: DnsMessage): string {
  const referral = answer.answers.length === 0 && answer.authorities.find((record) => record.type === 'NS')
  return referral
    ? `it refers to the name servers of ${referral.name === '' ? 'the root' : referral.name}`
    : 'it answers, but not as an authority for this zone (lame delegation)'
}

/** The verdict on the servers of one name; those that only point elsewhere are judged there. */
export function isVisible(outcomes: readonly PropagationOutcome[]): boolean {
  return outcomes.includes('visible') && !outcomes.some((outcome) => outcome === 'absent' || outcome === 'failed')
}

const longestDescription = 1_500
const usefulFirst: readonly PropagationOutcome[] = [
  'absent',
  'failed',
  'alias',
  'lame',
  'refused',
  'unreachable',
  'unresolved',
  'visible',
]

/** For an error message: server by server, those that matter most first, bounded. */
export function describeReport({ servers, problem }: PropagationReport): string {
  const lines = [...servers]
    .sort((one, other) => usefulFirst.indexOf(one.outcome) - usefulFirst.indexOf(other.outcome))
    .map(({ nameserver, address, outcome, detail }) => {
      return `${nameserver}${address === undefined ? '' : ` (${address})`}: ${outcome}, ${detail}`
    })
  let shown = problem ?? ''
  for (const [index, line] of lines.entries()) {
    const longer = shown === '' ? line : `${shown}; ${line}`
    if (longer.length > longestDescription) return `${shown}; and ${String(lines.length - index)} more`
    shown = longer
  }
  return shown === '' ? 'nobody was asked' : shown
}
