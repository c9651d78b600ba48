import type { Answer, StringAnswer } from 'dns-packet'
import { describe, expect, test } from 'vitest'
import {
  authoritativeReply,
  resolverReply,
  type DnsReply,
  type ServedZone,
} from '../../../servers/route53/dns-answers.js'
import type { RecordSet } from '../../../servers/route53/record-set.js'

const zone = (name: string, ...recordSets: RecordSet[]): ServedZone => ({
  name,
  recordSets: [
    { name, type: 'NS', ttl: 172_800, values: ['ns-1.awsdns.test.'] },
    { name, type: 'SOA', ttl: 900, values: ['ns-1.awsdns.test. hostmaster.awsdns.test. 1 7200 900 1209600 86400'] },
    ...recordSets,
  ],
})
const set = (name: string, type: string, ...values: string[]): RecordSet => ({ name, type, ttl: 60, values })
const zones = [
  zone(
    'example.com.',
    set('www.example.com.', 'A', '192.0.2.1', '192.0.2.2'),
    set('alias.example.com.', 'CNAME', 'www.example.com'),
    set('_acme-challenge.example.com.', 'CNAME', 'x.acme.example.net.'),
    set('deep.under.example.com.', 'TXT', '"a" "b"', '"c"'),
    set('\\052.example.com.', 'TXT', '"star"'),
    set('loop1.example.com.', 'CNAME', 'loop2.example.com.'),
    set('loop2.example.com.', 'CNAME', 'loop1.example.com.'),
    set('elsewhere.example.com.', 'NS', 'ns.elsewhere.test.'),
    set('hidden.sub.example.com.', 'TXT', '"never seen"'),
    set('outside.example.com.', 'CNAME', 'www.unknown.test.'),
    { ...set('multi.example.com.', 'TXT', '"1"'), setIdentifier: '1', multiValueAnswer: true },
    { ...set('multi.example.com.', 'TXT', '"2"'), setIdentifier: '2', multiValueAnswer: true },
  ),
  zone('sub.example.com.'),
  zone('acme.example.net.', set('x.acme.example.net.', 'TXT', '"token"')),
]

const shown = (record: Answer): string => {
  const { name, type } = record
  if (record.type === 'TXT') return `${name} ${type} ${(record.data as Buffer[]).join('|')}`
  return `${name} ${type} ${record.type === 'SOA' ? record.data.mname : (record as StringAnswer).data}`
}
const summary = ({ rcode, authoritative, answers, authorities }: DnsReply) => ({
  rcode,
  authoritative,
  answers: answers.map(shown),
  authorities: authorities.map(shown),
})
const soaOf = (name: string): string[] => [`${name} SOA ns-1.awsdns.test`]

describe('a name server', () => {
  const ask = (name: string, type: string) => summary(authoritativeReply(zones, { name, type }))

  test('answers with the set, and with the spelling of the question', () => {
    expect(ask('WWW.example.com', 'A')).toEqual({
      rcode: 'NOERROR',
      authoritative: true,
      answers: ['WWW.example.com A 192.0.2.1', 'WWW.example.com A 192.0.2.2'],
      authorities: [],
    })
  })

  test('keeps the strings of a TXT value apart', () => {
    expect(ask('deep.under.example.com', 'TXT').answers).toEqual([
      'deep.under.example.com TXT a|b',
      'deep.under.example.com TXT c',
    ])
  })

  test('tells a name without that type from a name that is not there', () => {
    const nothing = { authoritative: true, answers: [], authorities: soaOf('example.com') }
    expect(ask('www.example.com', 'TXT')).toEqual({ rcode: 'NOERROR', ...nothing })
    expect(ask('nowhere.example.com', 'TXT')).toEqual({ rcode: 'NXDOMAIN', ...nothing })
    // There is something below it.
    expect(ask('under.example.com', 'TXT')).toEqual({ rcode: 'NOERROR', ...nothing })
  })

  test('knows SOA and NS of the apex', () => {
    expect(ask('example.com', 'NS').answers).toEqual(['example.com NS ns-1.awsdns.test'])
    expect(ask('example.com', 'SOA').answers).toEqual(soaOf('example.com'))
  })

  test('follows a CNAME within the zone, and no further', () => {
    expect(ask('alias.example.com', 'A').answers).toEqual([
      'alias.example.com CNAME www.example.com',
      'www.example.com A 192.0.2.1',
      'www.example.com A 192.0.2.2',
    ])
    expect(ask('_acme-challenge.example.com', 'TXT')).toMatchObject({
      rcode: 'NOERROR',
      answers: ['_acme-challenge.example.com CNAME x.acme.example.net'],
    })
    expect(ask('alias.example.com', 'CNAME').answers).toEqual(['alias.example.com CNAME www.example.com'])
  })

  test('refuses what it is not responsible for', () => {
    expect(ask('unknown.test', 'A')).toEqual({ rcode: 'REFUSED', authoritative: false, answers: [], authorities: [] })
  })

  test('refers to the servers that a part of the zone is delegated to', () => {
    expect(ask('a.elsewhere.example.com', 'TXT')).toEqual({
      rcode: 'NOERROR',
      authoritative: false,
      answers: [],
      authorities: ['elsewhere.example.com NS ns.elsewhere.test'],
    })
  })

  test('a hosted zone below hides what the one above says of it', () => {
    expect(ask('hidden.sub.example.com', 'TXT')).toMatchObject({
      rcode: 'NXDOMAIN',
      authorities: soaOf('sub.example.com'),
    })
  })

  test('joins the sets of a multivalue answer', () => {
    expect(ask('multi.example.com', 'TXT').answers).toEqual(['multi.example.com TXT 1', 'multi.example.com TXT 2'])
  })

  test('serves the asterisk as a name', () => {
    expect(ask('*.example.com', 'TXT').answers).toEqual(['*.example.com TXT star'])
  })
})

describe('a resolver', () => {
  const ask = (name: string, type: string, addresses = {}) => summary(resolverReply(zones, { name, type }, addresses))

  test('follows a CNAME into another zone', () => {
    expect(ask('_acme-challenge.example.com', 'TXT')).toEqual({
      rcode: 'NOERROR',
      authoritative: false,
      answers: ['_acme-challenge.example.com CNAME x.acme.example.net', 'x.acme.example.net TXT token'],
      authorities: [],
    })
  })

  test('tells the zone of a name that is not there', () => {
    expect(ask('a.b.sub.example.com', 'SOA')).toMatchObject({
      rcode: 'NXDOMAIN',
      authorities: soaOf('sub.example.com'),
    })
    expect(ask('www.example.com', 'CAA')).toMatchObject({ rcode: 'NOERROR', answers: [] })
  })

  test('gives up a loop', () => {
    expect(ask('loop1.example.com', 'TXT')).toMatchObject({ rcode: 'SERVFAIL', answers: [] })
  })

  test('cannot ask the servers of others', () => {
    expect(ask('a.elsewhere.example.com', 'TXT')).toMatchObject({ rcode: 'SERVFAIL' })
  })

  test('gives names without addresses the default one', () => {
    const addresses = { A: '127.0.0.1' }
    expect(ask('nowhere.example.com', 'A', addresses).answers).toEqual(['nowhere.example.com A 127.0.0.1'])
    expect(ask('unknown.test', 'A', addresses).answers).toEqual(['unknown.test A 127.0.0.1'])
    expect(ask('outside.example.com', 'A', addresses).answers).toEqual([
      'outside.example.com CNAME www.unknown.test',
      'www.unknown.test A 127.0.0.1',
    ])
    expect(ask('www.example.com', 'A', addresses).answers).toContain('www.example.com A 192.0.2.1')
    expect(ask('unknown.test', 'AAAA', addresses)).toMatchObject({ rcode: 'NOERROR', answers: [] })
    expect(ask('unknown.test', 'CAA', addresses)).toMatchObject({ rcode: 'NOERROR', answers: [] })
  })

  test('knows nothing of other names without it', () => {
    expect(ask('unknown.test', 'A')).toMatchObject({ rcode: 'NXDOMAIN', answers: [] })
  })
})
