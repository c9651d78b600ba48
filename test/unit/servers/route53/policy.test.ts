import { describe, expect, test } from 'vitest'
import type { Change } from '../../../servers/route53/change-batch.js'
import { checkAccess, checkPolicy, type AccessRequest, type PolicyDocument } from '../../../servers/route53/policy.js'

const arn = 'arn:aws:iam::123456789012:user/test'
const change = (action: Change['action'], name: string, type = 'TXT'): Change => ({
  action,
  recordSet: { name, type, ttl: 10, values: ['"a"'] },
})
const changing = (...changes: Change[]): AccessRequest => ({ operation: 'ChangeResourceRecordSets', id: 'Z1', changes })
const policy = (...Statement: PolicyDocument['Statement'][]): PolicyDocument => ({
  Version: '2012-10-17',
  Statement: Statement.flat(),
})
const allow = (Action: string, Resource: string, Condition?: Record<string, Record<string, string | string[]>>) => ({
  Effect: 'Allow',
  Action,
  Resource,
  ...(Condition && { Condition }),
})
const allowed = (document: PolicyDocument, request: AccessRequest): string => {
  try {
    checkAccess(document, arn, request)
    return 'allowed'
  } catch (error) {
    return (error as Error).message
  }
}

describe('actions and resources', () => {
  test('nothing is allowed that no statement allows', () => {
    expect(allowed(policy(allow('route53:GetChange', '*')), changing())).toBe(
      `User: ${arn} is not authorized to perform: route53:ChangeResourceRecordSets on resource: arn:aws:route53:::hostedzone/Z1 because no identity-based policy allows the route53:ChangeResourceRecordSets action`,
    )
  })

  test('a zone by its ARN, and no other zone', () => {
    const document = policy(allow('route53:ChangeResourceRecordSets', 'arn:aws:route53:::hostedzone/Z1'))
    expect(allowed(document, changing())).toBe('allowed')
    expect(allowed(document, { ...changing(), id: 'Z2' })).toContain('hostedzone/Z2')
  })

  test('changes by a pattern', () => {
    const document = policy(allow('route53:GetChange', 'arn:aws:route53:::change/*'))
    expect(allowed(document, { operation: 'GetChange', id: 'C1', changes: [] })).toBe('allowed')
  })

  test('lists of zones only for any resource', () => {
    const list: AccessRequest = { operation: 'ListHostedZonesByName', id: '', changes: [] }
    expect(allowed(policy(allow('route53:ListHostedZonesByName', '*')), list)).toBe('allowed')
    expect(allowed(policy(allow('route53:*', 'arn:aws:route53:::hostedzone/*')), list)).toBe(
      `User: ${arn} is not authorized to perform: route53:ListHostedZonesByName because no identity-based policy allows the route53:ListHostedZonesByName action`,
    )
  })

  test('a denial outweighs', () => {
    const deny = { Effect: 'Deny', Action: ['route53:Change*'], Resource: ['*'] }
    expect(allowed(policy(allow('route53:*', '*'), deny), changing())).toContain('with an explicit deny')
  })
})

describe('conditions', () => {
  const key = (name: string): string => `route53:ChangeResourceRecordSets${name}`
  const when = (operator: string, name: string, ...values: string[]): PolicyDocument =>
    policy(allow('route53:ChangeResourceRecordSets', '*', { [operator]: { [key(name)]: values } }))

  test('record types of all changes', () => {
    const document = when('ForAllValues:StringEquals', 'RecordTypes', 'TXT')
    expect(allowed(document, changing(change('CREATE', 'a.example.com.')))).toBe('allowed')
    expect(
      allowed(document, changing(change('CREATE', 'a.example.com.'), change('CREATE', 'b.example.com.', 'A'))),
    ).toContain('not authorized')
  })

  test('names: without final dot, in lower case, escaped', () => {
    const document = when(
      'ForAllValues:StringEquals',
      'NormalizedRecordNames',
      '_acme-challenge.example.com',
      '\\052.example.com',
    )
    expect(allowed(document, changing(change('CREATE', '_acme-challenge.example.com.')))).toBe('allowed')
    expect(allowed(document, changing(change('CREATE', '\\052.example.com.')))).toBe('allowed')
    expect(allowed(document, changing(change('CREATE', 'www.example.com.')))).toContain('not authorized')
    const dotted = when('ForAllValues:StringEquals', 'NormalizedRecordNames', '_acme-challenge.example.com.')
    expect(allowed(dotted, changing(change('CREATE', '_acme-challenge.example.com.')))).toContain('not authorized')
  })

  test('names by a pattern', () => {
    const document = when('ForAllValues:StringLike', 'NormalizedRecordNames', '_acme-challenge.*')
    expect(allowed(document, changing(change('CREATE', '_acme-challenge.a.example.com.')))).toBe('allowed')
    expect(allowed(document, changing(change('CREATE', 'x_acme-challenge.example.com.')))).toContain('not authorized')
  })

  test('actions', () => {
    const document = when('ForAllValues:StringEquals', 'Actions', 'CREATE', 'DELETE')
    expect(allowed(document, changing(change('DELETE', 'a.example.com.'), change('CREATE', 'a.example.com.')))).toBe(
      'allowed',
    )
    expect(allowed(document, changing(change('UPSERT', 'a.example.com.')))).toContain('not authorized')
  })

  test('ForAnyValue is content with one, ForAllValues with none', () => {
    const mixed = changing(change('CREATE', 'a.example.com.'), change('CREATE', 'b.example.com.', 'A'))
    expect(allowed(when('ForAnyValue:StringEquals', 'RecordTypes', 'TXT'), mixed)).toBe('allowed')
    const list: AccessRequest = { operation: 'ListResourceRecordSets', id: 'Z1', changes: [] }
    const both = (operator: string): PolicyDocument =>
      policy(allow('route53:*', '*', { [operator]: { [key('RecordTypes')]: 'TXT' } }))
    expect(allowed(both('ForAllValues:StringEquals'), list)).toBe('allowed')
    expect(allowed(both('ForAnyValue:StringEquals'), list)).toContain('not authorized')
  })

  test.each<[string, PolicyDocument]>([
    ['an operator', when('DateLessThan', 'RecordTypes', '2026')],
    ['a key', policy(allow('route53:*', '*', { StringEquals: { 'aws:SourceIp': '127.0.0.1' } }))],
    ['an element', policy({ ...allow('route53:*', '*'), NotAction: 'x' } as never)],
    ['an effect', policy({ ...allow('route53:*', '*'), Effect: 'allow' })],
  ])('%s that is not understood is an error', (_, document) => {
    expect(() => checkPolicy(document)).toThrow(TypeError)
  })
})
