import { describe, expect, it } from 'vitest'
import { decideRenewal, type CertificateFacts, type RenewalFacts } from '../../../src/scheduler/decide-renewal.js'

const day = 86_400_000
const issued = Date.UTC(2026, 0, 1)
const name = { type: 'dns', value: 'example.com' } as const

const certificate: CertificateFacts = {
  identifiers: [name],
  issuerId: 'ca-a',
  keyAlgorithm: 'ecdsa-p256',
  profile: undefined,
  fingerprintSha256: 'aa',
  notBefore: issued,
  notAfter: issued + 90 * day,
}
const selectedAt = issued + 60 * day

const facts = (change: Partial<RenewalFacts> = {}): RenewalFacts => ({
  now: issued + day,
  wanted: { identifiers: [name], issuerIds: ['ca-a', 'ca-b'], keyAlgorithm: 'ecdsa-p256', profile: undefined },
  certificate,
  plan: { fingerprintSha256: 'aa', source: 'renewal-info', selectedAt },
  backoff: new Map(),
  recentIssuances: [],
  ...change,
})
const wanted = (change: Partial<RenewalFacts['wanted']>): Partial<RenewalFacts> => ({
  wanted: { ...facts().wanted, ...change },
})
const renew = (reason: string): object => ({ action: 'renew', reason })

describe('decideRenewal', () => {
  it.each([
    ['nothing is stored', { certificate: undefined }, 'absent'],
    ['what was stored was corrupt', { certificate: 'corrupt' }, 'corrupt'],
    [
      'another name is wanted',
      wanted({ identifiers: [name, { type: 'dns', value: 'www.example.com' }] }),
      'identifiers-changed',
    ],
    ['its issuer is not wanted any more', wanted({ issuerIds: ['ca-b'] }), 'issuer-changed'],
    ['another key is wanted', wanted({ keyAlgorithm: 'rsa-2048' }), 'key-changed'],
    ['another profile is wanted', wanted({ profile: 'shortlived' }), 'profile-changed'],
    ['the drawn instant has come', { now: selectedAt }, 'renewal-info'],
    [
      'the share of life has come',
      { now: selectedAt, plan: { fingerprintSha256: 'aa', source: 'lifetime', selectedAt } },
      'renew-before',
    ],
    [
      'the CA suggests later than the emergency',
      {
        now: issued + 81 * day,
        plan: { fingerprintSha256: 'aa', source: 'renewal-info', selectedAt: issued + 85 * day },
      },
      'emergency',
    ],
    ['there is no plan and a tenth is left', { now: issued + 81 * day, plan: undefined }, 'emergency'],
    ['it has expired', { now: issued + 91 * day }, 'renewal-info'],
    ['it is forced', { force: true }, 'forced'],
  ] satisfies [string, Partial<RenewalFacts>, string][])('renews when %s', (_, change, reason) => {
    expect(decideRenewal(facts(change))).toEqual(renew(reason))
  })

  it('waits until exactly the drawn instant', () => {
    expect(decideRenewal(facts({ now: selectedAt - 1 }))).toEqual({
      action: 'wait',
      until: selectedAt,
      because: 'not-due',
      reason: 'renewal-info',
    })
    expect(decideRenewal(facts({ now: selectedAt }))).toEqual(renew('renewal-info'))
    expect(decideRenewal(facts({ now: selectedAt + 1 }))).toEqual(renew('renewal-info'))
  })

  it('does not mind order and duplicates of names', () => {
    const www = { type: 'dns', value: 'www.example.com' } as const
    const both = facts({
      certificate: { ...certificate, identifiers: [www, name] },
      ...wanted({ identifiers: [name, www] }),
    })
    expect(decideRenewal(both).action).toBe('wait')
  })

  it('ignores a plan made for another certificate: a new one must not be renewed by the window of the last', () => {
    const stale = facts({ plan: { fingerprintSha256: 'bb', source: 'renewal-info', selectedAt: issued } })
    expect(decideRenewal(stale)).toMatchObject({ action: 'wait', until: issued + 81 * day })
  })

  it('uses the second issuer while the first must wait', () => {
    const backoff = new Map([['ca-a', { notBefore: selectedAt + day, rateLimited: false }]])
    expect(decideRenewal(facts({ now: selectedAt, backoff }))).toEqual(renew('renewal-info'))
  })

  it('waits for the first issuer that is free again, and says why', () => {
    const now = selectedAt
    const backoff = new Map([
      ['ca-a', { notBefore: now + 2 * day, rateLimited: false }],
      ['ca-b', { notBefore: now + day, rateLimited: true }],
    ])
    expect(decideRenewal(facts({ now, backoff }))).toEqual({
      action: 'wait',
      until: now + day,
      because: 'rate-limited',
      reason: 'renewal-info',
    })
    expect(decideRenewal(facts({ now: now + day, backoff }))).toEqual(renew('renewal-info'))
  })

  it('lets force override its own back-off, never the CA', () => {
    const own = new Map([
      ['ca-a', { notBefore: issued + 2 * day, rateLimited: false }],
      ['ca-b', { notBefore: issued + 2 * day, rateLimited: true }],
    ])
    expect(decideRenewal(facts({ force: true, backoff: own }))).toEqual(renew('forced'))
    const limited = new Map(['ca-a', 'ca-b'].map((id) => [id, { notBefore: issued + 2 * day, rateLimited: true }]))
    expect(decideRenewal(facts({ force: true, backoff: limited }))).toMatchObject({ because: 'rate-limited' })
  })

  it('does not renew a third time within a tenth of a lifetime, whatever the window says', () => {
    const now = issued + day
    const past = { fingerprintSha256: 'aa', source: 'renewal-info', selectedAt: issued } as const
    expect(decideRenewal(facts({ now, plan: past, recentIssuances: [issued] })).action).toBe('renew')
    expect(decideRenewal(facts({ now, plan: past, recentIssuances: [issued, issued + 1] }))).toEqual({
      action: 'wait',
      until: issued + 9 * day,
      because: 'renewed-too-often',
      reason: 'renewal-info',
    })
    const later = facts({ now: issued + 9 * day + 1, plan: past, recentIssuances: [issued, issued + 1] })
    expect(decideRenewal(later)).toEqual(renew('renewal-info'))
  })
})
