/**
 * `/acs/api/v1/auth/login` of DC/OS: a service account signs a short-lived token and gets a longer-lived one for it.
 * dcos/bouncer, bouncer/app/auth.py.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import type { Clock } from '../../../src/core/clock.js'
import { issuedClaims, issuedToken, verifiedClaims } from './json-web-token.js'
import { json, Refusal, type Reply } from './reply.js'

export interface ServiceAccount {
  readonly uid: string
  readonly publicKeyPem: string
}

export interface LoginOptions {
  readonly accounts: readonly ServiceAccount[]
  /** @defaultValue 2 days, as in the open DC/OS */
  readonly tokenLifetimeMs?: number | undefined
  readonly clock: Clock
}

export interface Login {
  readonly succeeded: number
  readonly refused: number
  /** Answers a POST to the login endpoint. */
  handle(body: string): Reply
  /** A token as a person would get it. */
  issueToken(uid: string): string
  /** Tokens issued so far are worth nothing any more. */
  revokeTokens(): void
  /** Whose token it is, `undefined` when it is not valid now. */
  owner(token: string): string | undefined
}

const twoDaysMs = 172_800_000

export function login({ accounts, tokenLifetimeMs = twoDaysMs, clock }: LoginOptions): Login {
  // Another secret, and what was signed with the old one is void.
  let secret = randomBytes(32)
  let succeeded = 0
  let refused = 0

  const issueToken = (uid: string): string => {
    const exp = Math.floor((clock.now() + tokenLifetimeMs) / 1000)
    // Two logins within a second get different tokens.
    return issuedToken({ uid, exp, jti: randomUUID() }, secret)
  }

  /** The account that the request proves to be. */
  const proven = (body: string): string => {
    const { uid, password, token } = requestOf(body)
    if ((password === undefined) === (token === undefined)) {
      throw badRequest('Exactly one of `token` and `password` must be provided in the request body')
    }
    const account = accounts.find((candidate) => candidate.uid === uid)
    if (account === undefined || typeof token !== 'string') throw invalidCredentials()
    const claims = verifiedClaims(token, account.publicKeyPem)
    if (claims?.uid !== uid || isPast(claims?.exp, clock)) throw invalidCredentials()
    return account.uid
  }

  return {
    get succeeded() {
      return succeeded
    },
    get refused() {
      return refused
    },
    handle(body) {
      try {
        const token = issueToken(proven(body))
        succeeded += 1
        const cookie = `dcos-acs-auth-cookie=${token}; HttpOnly; Max-Age=432000; Path=/`
        return json(200, { token }, { 'set-cookie': cookie })
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
        refused += 1
        return error.reply
      }
    },
    issueToken,
    revokeTokens: () => void (secret = randomBytes(32)),
    owner(token) {
      const claims = issuedClaims(token, secret)
      if (typeof claims?.uid !== 'string' || isPast(claims.exp, clock)) return undefined
      return claims.uid
    },
  }
}

/** A token without `exp` does not end. */
function isPast(exp: unknown, clock: Clock): boolean {
  return exp !== undefined && !(typeof exp === 'number' && exp * 1000 > clock.now())
}

function requestOf(body: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(body)
    if (typeof parsed === 'object' && parsed !== null) return parsed as Record<string, unknown>
  } catch {
    // Refused below.
  }
  throw badRequest('Request body is not valid JSON')
}

function badRequest(description: string): Refusal {
  return new Refusal(json(400, { title: 'Bad Request', description, code: 'ERR_INVALID_DATA' }))
}

function invalidCredentials(): Refusal {
  const problem = { title: 'Unauthorized', description: 'Invalid credentials.', code: 'ERR_INVALID_CREDENTIALS' }
  return new Refusal(json(401, problem, { 'www-authenticate': 'acsjwt' }))
}
