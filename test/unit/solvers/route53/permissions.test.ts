import { describe, expect, it } from 'vitest'
import { route53Solver } from '../../../../src/solvers/route53/index.js'

const names = (solver: ReturnType<typeof route53Solver>, ...options: Parameters<typeof solver.requiredPermissions>) =>
  solver.requiredPermissions(...options).Statement.find(({ Sid }) => Sid === 'ChangeChallenges')?.Condition?.[
    'ForAllValues:StringLike'
  ]

describe('requiredPermissions', () => {
  it('asks for these four calls, and changes of challenges only', () => {
    expect(route53Solver().requiredPermissions()).toEqual({
      Version: '2012-10-17',
      Statement: [
        { Sid: 'FindHostedZone', Effect: 'Allow', Action: ['route53:ListHostedZones'], Resource: ['*'] },
        {
          Sid: 'ReadRecordSets',
          Effect: 'Allow',
          Action: ['route53:ListResourceRecordSets'],
          Resource: ['arn:aws:route53:::hostedzone/*'],
        },
        {
          Sid: 'ChangeChallenges',
          Effect: 'Allow',
          Action: ['route53:ChangeResourceRecordSets'],
          Resource: ['arn:aws:route53:::hostedzone/*'],
          Condition: {
            'ForAllValues:StringEquals': {
              'route53:ChangeResourceRecordSetsRecordTypes': ['TXT'],
              'route53:ChangeResourceRecordSetsActions': ['CREATE', 'DELETE'],
            },
            'ForAllValues:StringLike': {
              'route53:ChangeResourceRecordSetsNormalizedRecordNames': ['_acme-challenge.*'],
            },
          },
        },
        {
          Sid: 'FollowChanges',
          Effect: 'Allow',
          Action: ['route53:GetChange'],
          Resource: ['arn:aws:route53:::change/*'],
        },
      ],
    })
  })

  it('of one zone needs no list of zones', () => {
    const { Statement } = route53Solver({ hostedZoneId: '/hostedzone/Z1' }).requiredPermissions({ partition: 'aws-cn' })
    expect(Statement.flatMap(({ Action }) => Action)).not.toContain('route53:ListHostedZones')
    expect(Statement[0]?.Resource).toEqual(['arn:aws-cn:route53:::hostedzone/Z1'])
  })

  it('is limited to the zones of the solver, or to given names', () => {
    const key = 'route53:ChangeResourceRecordSetsNormalizedRecordNames'
    const solver = route53Solver({ zones: ['example.com'] })
    expect(names(solver)).toEqual({ [key]: ['_acme-challenge.example.com', '_acme-challenge.*.example.com'] })
    expect(names(solver, { recordNames: ['Delegated.Example.NET.'] })).toEqual({ [key]: ['delegated.example.net'] })
  })

  it.each<[string, object]>([
    ['"recordNames"', { recordNames: ['a b'] }],
    ['"recordNames"', { recordNames: 'example.com' }],
    ['"recordNames"', { recordNames: [] }],
    ['"partition"', { partition: 'mars' }],
    ['unknown option "zone"', { zone: 'x' }],
  ])('refuses misuse of %s', (message, options) => {
    expect(() => route53Solver().requiredPermissions(options)).toThrow(TypeError)
    expect(() => route53Solver().requiredPermissions(options)).toThrow(message)
  })
})
