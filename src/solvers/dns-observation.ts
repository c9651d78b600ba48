/**
 * Asks every authoritative server for a TXT record, and follows CNAME records into their own zones.
 *
 * @module
 */
import type { OperationContext } from '../core/context.js'
import { DnsFailure } from '../internal/dns-client.js'
import {
  delegationLifetimeMs,
  DnsProblem,
  type AskServer,
  type Delegation,
  type DelegationFinder,
  type NameServerAddress,
} from './dns-delegation.js'
import { isVisible, judgeAnswer, type NameServerObservation, type PropagationReport, type Sight } from './dns-report.js'

/** What the looks of one wait know already, so that only servers that may have changed are asked again. */
export type ObservationMemory = Map<string, { readonly sight: Sight; readonly at: number }>

/** A record to look for. */
export interface WantedRecord {
  /** In normal form. */
  readonly name: string
  readonly value: string
}

/** Looks for records. */
export interface RecordObserver {
  look(record: WantedRecord, memory: ObservationMemory, context: OperationContext): Promise<PropagationReport>
  /** The servers of one name, without following anything. @throws `DnsProblem` */
  lookAtName(
    record: WantedRecord,
    memory: ObservationMemory,
    context: OperationContext,
  ): Promise<{ readonly delegation: Delegation; readonly sights: readonly ServerSight[] }>
}

/** {@link Sight} of one server. */
export interface ServerSight extends Sight {
  readonly server: NameServerAddress
}

/** What a look carries along its way. */
interface Look {
  readonly value: string
  readonly memory: ObservationMemory
  readonly context: OperationContext
  /** Names seen so far, on all branches: servers that disagree about a CNAME must not multiply the work. */
  readonly names: Set<string>
}

/** A CNAME chain may have so many links; resolvers give up at about this length, too. */
export const mostLinks = 8

/** Makes a {@link RecordObserver}. */
export function recordObserver(parts: {
  readonly delegations: DelegationFinder
  readonly askServer: AskServer
  readonly nameserverPort: number
}): RecordObserver {
  const { delegations, askServer, nameserverPort } = parts

  return {
    look: (record, memory, context) =>
      lookAlong([record.name], { value: record.value, memory, context, names: new Set([record.name]) }),
    lookAtName,
  }

  /** Looks at the last name of `chain`, and at what lies behind it. */
  async function lookAlong(chain: readonly string[], look: Look): Promise<PropagationReport> {
    const name = chain.at(-1) ?? ''
    let found: Awaited<ReturnType<typeof lookAtName>>
    try {
      found = await lookAtName({ name, value: look.value }, look.memory, look.context)
    } catch (error) {
      look.context.signal.throwIfAborted()
      if (!(error instanceof DnsProblem)) throw error
      return { visible: false, recordName: name, zone: undefined, servers: [], problem: error.message }
    }
    const { zone } = found.delegation
    const targets = [...new Set(found.sights.flatMap(({ target }) => target ?? []))]
    const here = found.sights.map((sight) => observation(name, sight))
    const report = (visible: boolean, servers = here, problem?: string): PropagationReport => {
      return { visible, recordName: name, zone, servers, problem }
    }
    if (targets.length === 0) return report(isVisible(here.map(({ outcome }) => outcome)))

    const behind: PropagationReport[] = []
    for (const target of targets) {
      const obstacle = linkProblem(chain, target, look.names)
      if (obstacle !== undefined) return report(false, here, obstacle)
      look.names.add(target)
      behind.push(await lookAlong([...chain, target], look))
    }
    const ends = here.filter(({ outcome }) => outcome !== 'alias')
    const [first = report(false)] = behind
    return {
      ...first,
      // The servers that have no CNAME yet, or still an old one, count as well.
      visible: behind.every(({ visible }) => visible) && isVisible(['visible', ...ends.map(({ outcome }) => outcome)]),
      servers: [...ends, ...behind.flatMap(({ servers }) => servers)],
      problem: behind.find(({ problem }) => problem !== undefined)?.problem,
    }
  }

  async function lookAtName(
    { name, value }: WantedRecord,
    memory: ObservationMemory,
    context: OperationContext,
  ): Promise<{ readonly delegation: Delegation; readonly sights: readonly ServerSight[] }> {
    const delegation = await delegations.find(name, context)
    const sights = await Promise.all(
      delegation.servers.map(async (server): Promise<ServerSight> => {
        const key = `${name} ${server.address ?? server.nameserver}`
        const before = memory.get(key)
        const age = context.clock.now() - (before?.at ?? 0)
        if (before !== undefined && mayStay(before.sight, age)) return { ...before.sight, server }
        const sight = keepBlocking(before?.sight, await lookAtServer(server, { name, value }, context))
        memory.set(key, { sight, at: context.clock.now() })
        return { ...sight, server }
      }),
    )
    return { delegation, sights }
  }

  async function lookAtServer(
    server: NameServerAddress,
    { name, value }: WantedRecord,
    context: OperationContext,
  ): Promise<Sight> {
    if (server.address === undefined) return { outcome: 'unresolved', detail: server.problem }
    try {
      const question = { name, type: 'TXT', recursionDesired: false } as const
      const answer = await askServer({ address: server.address, port: nameserverPort }, question, context)
      return judgeAnswer(answer, name, value)
    } catch (error) {
      context.signal.throwIfAborted()
      if (!(error instanceof DnsFailure)) throw error
      return { outcome: error.reason === 'unreachable' ? 'unreachable' : 'failed', detail: error.message }
    }
  }
}

/** Why a CNAME is not followed. */
export function linkProblem(chain: readonly string[], target: string, names: ReadonlySet<string>): string | undefined {
  if (chain.includes(target)) return `a CNAME loop: ${[...chain, target].join(' -> ')}`
  if (names.size > mostLinks) return `more than ${String(mostLinks)} CNAME records lead away from ${chain[0] ?? ''}`
  return undefined
}

/** Has the value: done. Is of no use: asked again when the delegation is read again, too. */
function mayStay({ outcome }: Sight, age: number): boolean {
  if (outcome === 'visible') return true
  if (outcome === 'absent' || outcome === 'failed') return false
  return age >= 0 && age < delegationLifetimeMs
}

/** A server that lacked the value a moment ago and is silent now still lacks it, as far as anybody knows. */
function keepBlocking(before: Sight | undefined, now: Sight): Sight {
  if (now.outcome !== 'unreachable' || (before?.outcome !== 'absent' && before?.outcome !== 'failed')) return now
  const [detail = ''] = before.detail.split(', and now')
  return { ...before, detail: `${detail}, and now ${now.detail}` }
}

function observation(recordName: string, { server, outcome, detail }: ServerSight): NameServerObservation {
  return { recordName, nameserver: server.nameserver, address: server.address, outcome, detail }
}
