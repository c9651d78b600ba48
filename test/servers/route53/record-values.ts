/**
 * Values of resource records: which of them Route 53 takes, and how they look on the wire.
 *
 * @see https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html
 */
import { isIPv4, isIPv6 } from 'node:net'
import type { Answer, RecordType } from 'dns-packet'
import { fatal, nameProblem, storedName, wireName } from './domain-name.js'

export const recordTypes = ['A', 'AAAA', 'CAA', 'CNAME', 'MX', 'NS', 'PTR', 'SOA', 'SPF', 'SRV', 'TXT'] as const

/** What is wrong with a value, in the words of the service. */
export function valueProblem(type: string, value: string): string | undefined {
  switch (type) {
    case 'A':
      return isIPv4(value) ? undefined : fatal('ARRDATAIllegalIPv4Address', 'Value is not a valid IPv4 address', value)
    case 'AAAA':
      return isIPv6(value)
        ? undefined
        : fatal('AAAARRDATAIllegalIPv6Address', 'Value is not a valid IPv6 address', value)
    case 'CNAME':
    case 'NS':
    case 'PTR':
      return nameProblem(storedName(value))
    case 'SPF':
    case 'TXT':
      return characterStringProblem(value)
    default:
      return undefined
  }
}

/** A record for dns-packet, or `undefined` for a type that the emulator's DNS does not serve. */
export function wireRecord(name: string, type: string, ttl: number, value: string): Answer | undefined {
  const data = wireData(type, value)
  return data === undefined ? undefined : ({ name, type: type as RecordType, class: 'IN', ttl, data } as Answer)
}

/** The strings of a TXT value: `"one" "two"` is two, which DNS clients join. */
export function characterStrings(value: string): Buffer[] {
  return [...value.matchAll(/"((?:[^"\\]|\\.)*)"/gs)].map(([, text]) => unescapeString(text!))
}

function characterStringProblem(value: string): string | undefined {
  if (!/^\s*"(?:[^"\\]|\\.)*"(?:\s*"(?:[^"\\]|\\.)*")*\s*$/s.test(value))
    return fatal('InvalidCharacterString', 'Value should be enclosed in quotation marks', value)
  return characterStrings(value).some((string) => string.length > 255)
    ? fatal('CharacterStringTooLong', 'Value is too long', value)
    : undefined
}

function unescapeString(text: string): Buffer {
  const octets = text.replace(/\\([0-3][0-7]{2}|.)/gs, (_, escaped: string) =>
    escaped.length === 3 ? String.fromCharCode(parseInt(escaped, 8)) : escaped,
  )
  return Buffer.from(octets, 'latin1')
}

function wireData(type: string, value: string): unknown {
  const fields = value.trim().split(/\s+/)
  const number = (index: number): number => Number(fields[index])
  const name = (index: number): string => wireName(storedName(fields[index] ?? ''))
  switch (type) {
    case 'A':
    case 'AAAA':
      return value
    case 'CNAME':
    case 'NS':
    case 'PTR':
      return name(0)
    case 'TXT':
      return characterStrings(value)
    case 'CAA':
      return { flags: number(0), tag: fields[1], value: fields.slice(2).join(' ').replaceAll('"', '') }
    case 'MX':
      return { preference: number(0), exchange: name(1) }
    case 'SRV':
      return { priority: number(0), weight: number(1), port: number(2), target: name(3) }
    case 'SOA':
      return {
        mname: name(0),
        rname: name(1),
        serial: number(2),
        refresh: number(3),
        retry: number(4),
        expire: number(5),
        minimum: number(6),
      }
    default:
      return undefined
  }
}
