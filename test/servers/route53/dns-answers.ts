/**
 * What a name server says to a question about the zones it has, and what a resolver makes of all of them.
 */
import type { Answer } from 'dns-packet'
import { isWithin, storedName, wireName } from './domain-name.js'
import type { RecordSet } from './record-set.js'
import { wireRecord } from './record-values.js'

export interface ServedZone {
  /** As {@link storedName} gives it. */
  readonly name: string
  readonly recordSets: readonly RecordSet[]
}

export interface DnsReply {
  readonly rcode: 'NOERROR' | 'SERVFAIL' | 'NXDOMAIN' | 'REFUSED'
  readonly authoritative: boolean
  readonly answers: readonly Answer[]
  readonly authorities: readonly Answer[]
}

export interface DnsQuestion {
  readonly name: string
  readonly type: string
}

/** Addresses of names that have none of their own, as seen by a resolver. */
export interface DefaultAddresses {
  readonly A?: string | undefined
  readonly AAAA?: string | undefined
}

const longestChain = 8
/** Of the sets of a multivalue answer. */
const mostAnswers = 8

/** What a name server answers that has these zones and no others. CNAMEs are followed as far as the zone goes. */
export function authoritativeReply(zones: readonly ServedZone[], question: DnsQuestion): DnsReply {
  const name = storedName(question.name)
  const zone = closestZone(zones, name)
  if (zone === undefined) return { rcode: 'REFUSED', authoritative: false, answers: [], authorities: [] }

  const answers: Answer[] = []
  let current = name
  // The first answer repeats the name as it was asked, capital letters included.
  let spelling = question.name
  for (let hops = 0; hops <= longestChain; hops += 1) {
    const cut = delegation(zone, current)
    if (cut !== undefined)
      return {
        rcode: 'NOERROR',
        authoritative: answers.length > 0,
        answers,
        authorities: records(cut, wireName(cut.name)),
      }
    const atName = zone.recordSets.filter((set) => set.name === current)
    const found = atName.filter((set) => set.type === question.type)
    const alias = atName.find((set) => set.type === 'CNAME')
    if (found.length > 0 || alias === undefined) {
      answers.push(...chosen(found).flatMap((set) => records(set, spelling)))
      if (found.length > 0) return { rcode: 'NOERROR', authoritative: true, answers, authorities: [] }
      const exists = zone.recordSets.some((set) => isWithin(set.name, current))
      const rcode = exists ? 'NOERROR' : 'NXDOMAIN'
      return { rcode, authoritative: true, answers, authorities: negative(zone) }
    }
    answers.push(...records(alias, spelling))
    current = storedName(alias.values?.[0] ?? '')
    spelling = wireName(current)
    if (!isWithin(current, zone.name) || closestZone(zones, current) !== zone) break
  }
  return { rcode: 'NOERROR', authoritative: true, answers, authorities: [] }
}

/** What a recursive resolver answers, to which every zone is delegated. */
export function resolverReply(
  zones: readonly ServedZone[],
  question: DnsQuestion,
  defaultAddresses: DefaultAddresses,
): DnsReply {
  const answers: Answer[] = []
  let name = question.name
  for (let hops = 0; hops <= longestChain; hops += 1) {
    const reply = authoritativeReply(zones, { name, type: question.type })
    answers.push(...reply.answers)
    const last = reply.answers.at(-1)
    const alias = last?.type === 'CNAME' && question.type !== 'CNAME' ? last.data : undefined
    const ended = reply.authorities.length > 0 || reply.rcode !== 'NOERROR'
    if (alias !== undefined && !ended) {
      name = alias
      continue
    }
    const positive = last !== undefined && alias === undefined
    if (positive) return { rcode: 'NOERROR', authoritative: false, answers, authorities: [] }

    const owner = alias ?? name
    const address = question.type === 'A' || question.type === 'AAAA' ? defaultAddresses[question.type] : undefined
    if (address !== undefined) {
      const record = wireRecord(wireName(storedName(owner)), question.type, 60, address)!
      return { rcode: 'NOERROR', authoritative: false, answers: [...answers, record], authorities: [] }
    }
    // Somebody else's name server: there is none.
    const referral = reply.authorities.some(({ type }) => type === 'NS')
    if (referral) return { rcode: 'SERVFAIL', authoritative: false, answers: [], authorities: [] }
    const outside = reply.rcode === 'REFUSED'
    const outsideCode = Object.values(defaultAddresses).every((value) => value === undefined) ? 'NXDOMAIN' : 'NOERROR'
    return {
      rcode: outside ? outsideCode : reply.rcode,
      authoritative: false,
      answers,
      authorities: outside ? rootSoa : reply.authorities,
    }
  }
  return { rcode: 'SERVFAIL', authoritative: false, answers: [], authorities: [] }
}

const rootSoa: readonly Answer[] = [
  wireRecord('', 'SOA', 86_400, 'a.root-servers.net. nstld.verisign-grs.com. 1 1800 900 604800 86400')!,
]

function closestZone(zones: readonly ServedZone[], name: string): ServedZone | undefined {
  let closest: ServedZone | undefined
  for (const zone of zones)
    if (isWithin(name, zone.name) && zone.name.length > (closest?.name.length ?? -1)) closest = zone
  return closest
}

/** Where the zone says that somebody else knows more, as close to its apex as may be. */
function delegation(zone: ServedZone, name: string): RecordSet | undefined {
  return zone.recordSets
    .filter((set) => set.type === 'NS' && set.name !== zone.name && isWithin(name, set.name))
    .sort((left, right) => left.name.length - right.name.length)[0]
}

/** Of the sets of one name and type. Weights are not drawn: the first one wins. */
function chosen(recordSets: readonly RecordSet[]): readonly RecordSet[] {
  return recordSets[0]?.multiValueAnswer === undefined ? recordSets.slice(0, 1) : recordSets.slice(0, mostAnswers)
}

function records({ type, ttl = 60, values = [] }: RecordSet, name: string): Answer[] {
  return values.map((value) => wireRecord(name, type, ttl, value)).filter((record) => record !== undefined)
}

function negative(zone: ServedZone): Answer[] {
  const soa = zone.recordSets.find((set) => set.name === zone.name && set.type === 'SOA')
  return soa === undefined ? [] : records(soa, wireName(zone.name))
}
