import { parseIdentifier } from '../../../src/core/identifier.js'
import type { Http01Challenge } from '../../../src/solvers/challenge-solver.js'

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
