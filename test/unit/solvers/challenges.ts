import { parseIdentifier } from '../../../src/core/identifier.js'
import type { Dns01Challenge, Http01Challenge } from '../../../src/solvers/challenge-solver.js'

export const thumbprint = '9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI'

export function httpChallenge(
  name = 'www.example.com',
  token = 'LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0',
): Http01Challenge {
  return {
    type: 'http-01',
    identifier: parseIdentifier(name),
    wildcard: false,
    token,
    keyAuthorization: `${token}.${thumbprint}`,
    path: `/.well-known/acme-challenge/${token}`,
  }
}

export function dnsChallenge(
  name = 'www.example.com',
  recordValue = 'gfj9Xq-Rg85nM-NkT-3fR_bZWCfHXlQ9Tq1wYhRkrTs',
): Dns01Challenge {
  const token = `token-of-${recordValue.slice(0, 20)}`
  const identifier = parseIdentifier(name.replace(/^\*\./, ''))
  return {
    type: 'dns-01',
    identifier,
    wildcard: name.startsWith('*.'),
    token,
    keyAuthorization: `${token}.${thumbprint}`,
    recordName: `_acme-challenge.${identifier.value}`,
    recordValue,
  }
}
