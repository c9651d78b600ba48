import { describe, expect, it } from 'vitest'
import { parseIdentifier } from '../../../src/core/identifier.js'
import type { AnyChallengeSolver, ChallengeType } from '../../../src/solvers/challenge-solver.js'
import { selectSolver } from '../../../src/solvers/select-solver.js'

function solver(name: string, type: ChallengeType, rest: Partial<AnyChallengeSolver> = {}): AnyChallengeSolver {
  const nothing = (): Promise<void> => Promise.resolve()
  return { name, type, present: nothing, cleanUp: nothing, ...rest } as AnyChallengeSolver
}

const all = ['http-01', 'dns-01', 'tls-alpn-01']
const http = solver('http', 'http-01')
const dns = solver('dns', 'dns-01')
const alpn = solver('alpn', 'tls-alpn-01')
const zone = (name: string, ...zones: string[]): AnyChallengeSolver => solver(name, 'dns-01', { zones })

describe('selectSolver', () => {
  it.each<[why: string, name: string, offered: string[], solvers: AnyChallengeSolver[], chosen: string]>([
    ['the first of equals', 'www.example.com', all, [http, dns], 'http'],
    ['the first of equals, other order', 'www.example.com', all, [dns, http], 'dns'],
    ['only what is offered', 'www.example.com', ['dns-01'], [http, dns], 'dns'],
    ['unknown offers passed over', 'www.example.com', ['dns-persist-01', 'http-01'], [dns, http], 'http'],
    ['dns-01 for a wildcard', '*.example.com', all, [http, alpn, dns], 'dns'],
    ['never dns-01 for an address', '192.0.2.7', all, [dns, alpn], 'alpn'],
    ['never dns-01 for an IPv6 address', '2001:db8::7', all, [dns, http], 'http'],
    ['a zone before every name', 'www.example.com', all, [http, zone('z', 'example.com')], 'z'],
    ['the longest zone', 'a.b.example.com', all, [zone('short', 'example.com'), zone('long', 'b.example.com')], 'long'],
    [
      'the exact name before a zone',
      'www.example.com',
      all,
      [zone('z', 'example.com'), solver('exact', 'http-01', { zones: ['www.example.com'] })],
      'exact',
    ],
    [
      'the base of a wildcard as exact',
      '*.example.com',
      all,
      [zone('parent', 'com'), zone('exact', 'example.com')],
      'exact',
    ],
    [
      'the best of several zones of one solver',
      'a.b.example.com',
      all,
      [zone('one', 'b.example.com'), zone('many', 'com', 'a.b.example.com')],
      'many',
    ],
    ['no zone by mere ending', 'notexample.com', all, [zone('z', 'example.com'), http], 'http'],
    [
      'list order between equal zones',
      'www.example.com',
      all,
      [zone('first', 'example.com'), zone('second', 'example.com')],
      'first',
    ],
    ['zones in any spelling', 'www.example.com', all, [http, zone('z', 'Example.COM.')], 'z'],
    ['an address as exact zone', '192.0.2.7', all, [http, solver('ip', 'http-01', { zones: ['192.0.2.7'] })], 'ip'],
    ['no address by ending', '192.0.2.7', all, [solver('ip', 'http-01', { zones: ['0.2.7'] }), http], 'http'],
    ['what supports it', 'www.example.com', all, [solver('picky', 'http-01', { supports: () => false }), http], 'http'],
  ])('takes %s', (_, name, offered, solvers, chosen) => {
    expect(selectSolver(parseIdentifier(name), offered, solvers).name).toBe(chosen)
  })

  it.each<[name: string, offered: string[], solvers: AnyChallengeSolver[], message: RegExp]>([
    [
      'www.example.com',
      ['dns-01'],
      [http],
      /no solver for www\.example\.com: the CA offers dns-01; configured are http \(http-01\)\. Add a solver/,
    ],
    ['*.example.com', all, [http, alpn], /A wildcard can only be proved over dns-01: add a dns-01 solver/],
    ['192.0.2.7', all, [dns], /An IP address cannot be proved over dns-01/],
    ['www.example.com', all, [zone('z', 'example.org')], /z \(dns-01, only example\.org\)/],
    ['www.example.com', all, [zone('z')], /no solver/],
    ['www.example.com', all, [], /configured are no solvers/],
    ['www.example.com', [], [http], /the CA offers no challenge/],
    ['www.example.com', ['evil\r\n\u001b[31m'], [http], /the CA offers no challenge/],
  ])('says why nothing fits %s over %j', (name, offered, solvers, message) => {
    const identifier = parseIdentifier(name)
    const select = (): unknown => selectSolver(identifier, offered, solvers)
    expect(select).toThrow(message)
    expect(select).toThrow(
      expect.objectContaining({ code: 'ERR_CHALLENGE_NO_SOLVER', phase: 'select', retryable: false, identifier }),
    )
  })
})
