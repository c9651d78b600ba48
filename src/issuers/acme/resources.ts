/**
 * The few members evercert reads of a CA's objects, each with its shape and alphabet. Members that are not read do not
 * matter. RFC 8555 section 7.1.
 *
 * @module
 */
import { parseIdentifier, type Identifier } from '../../core/identifier.js'
import { RecordFields } from '../../core/record.js'
import type { Problem } from '../../errors.js'
import { assertHttpsUrl } from '../../internal/options.js'
import { ownMember, protocolError, printable, readProblem } from './problem.js'

/** What the CA offers. RFC 8555 section 7.1.1, RFC 9773 section 3, draft-ietf-acme-profiles section 3. */
export interface AcmeDirectory {
  readonly newNonce: string
  readonly newAccount: string
  readonly newOrder: string
  readonly revokeCert: string | undefined
  readonly keyChange: string | undefined
  readonly renewalInfo: string | undefined
  /** Names of the profiles on offer. */
  readonly profiles: readonly string[]
}

/** RFC 8555 section 7.1.3. */
export interface AcmeOrder {
  readonly status: 'pending' | 'ready' | 'processing' | 'valid' | 'invalid'
  readonly authorizations: readonly string[]
  readonly finalize: string
  readonly certificate: string | undefined
  readonly profile: string | undefined
  readonly error: Problem | undefined
}

/** RFC 8555 section 7.1.4. */
export interface AcmeAuthorization {
  readonly identifier: Identifier
  readonly wildcard: boolean
  readonly status: 'pending' | 'valid' | 'invalid' | 'deactivated' | 'expired' | 'revoked'
  /** Those with a token; other types of challenge are passed over. */
  readonly challenges: readonly AcmeChallenge[]
}

/** RFC 8555 section 8. */
export interface AcmeChallenge {
  readonly type: string
  readonly url: string
  readonly status: string
  readonly token: string
  readonly error: Problem | undefined
}

/** Limits of what is accepted. */
const maxAuthorizations = 1000
const maxChallenges = 50
const maxProfiles = 100

/** Reads objects of one CA; `allowLoopbackHttp` is for tests. Every method throws `ERR_ACME_PROTOCOL`. */
export interface ResourceReader {
  /** An absolute https URL of printable ASCII, as it is: the signature covers it byte for byte. */
  url(value: unknown, what: string): string
  directory(data: unknown, what: string): AcmeDirectory
  order(data: unknown, what: string): AcmeOrder
  authorization(data: unknown, what: string): AcmeAuthorization
  /** `valid`, `deactivated` or `revoked`. RFC 8555 section 7.1.2. */
  accountStatus(data: unknown, what: string): string
}

/** Makes a {@link ResourceReader}. */
export function resourceReader(allowLoopbackHttp: boolean): ResourceReader {
  const url = (value: unknown, name: string): string => {
    if (typeof value !== 'string' || !/^[\x21-\x7e]{1,2048}$/.test(value)) throw new TypeError(`"${name}" is not a URL`)
    try {
      assertHttpsUrl(value, name, allowLoopbackHttp)
    } catch {
      throw new TypeError(`"${name}" is not an absolute https URL`)
    }
    return value
  }
  const fieldUrl = (fields: RecordFields, name: string): string => url(fields.text(name), name)
  const optionalUrl = (fields: RecordFields, name: string): string | undefined =>
    fields.optional(name, () => fieldUrl(fields, name))

  const challenge = (data: unknown): readonly AcmeChallenge[] => {
    const fields = RecordFields.of(data, 'challenges')
    // dns-persist-01 has no token, and tomorrow's types may have no URL: not ours, not an error.
    const token = fields.optional('token', (name) => fields.text(name))
    if (token === undefined) return []
    if (!/^[A-Za-z0-9_-]{1,512}$/.test(token)) {
      throw new TypeError('"token" has characters that no token may have')
    }
    const redact = (text: string): string => text.replaceAll(token, '[token]')
    return [
      {
        type: fields.text('type'),
        url: fieldUrl(fields, 'url'),
        status: fields.text('status'),
        token,
        error: readProblem(ownMember(data, 'error'), redact),
      },
    ]
  }

  const reading =
    <Value>(read: (fields: RecordFields, data: unknown) => Value) =>
    (data: unknown, what: string): Value => {
      try {
        return read(RecordFields.of(data, 'answer'), data)
      } catch (cause) {
        throw protocolError(what, cause instanceof TypeError ? cause.message : 'the answer is unreadable')
      }
    }

  return {
    url: (value, what) => {
      try {
        return url(value, 'URL')
      } catch {
        throw protocolError(what, 'the CA sent a URL that is not absolute https')
      }
    },
    directory: reading((fields, data) => ({
      newNonce: fieldUrl(fields, 'newNonce'),
      newAccount: fieldUrl(fields, 'newAccount'),
      newOrder: fieldUrl(fields, 'newOrder'),
      revokeCert: optionalUrl(fields, 'revokeCert'),
      keyChange: optionalUrl(fields, 'keyChange'),
      renewalInfo: optionalUrl(fields, 'renewalInfo'),
      profiles: profileNames(ownMember(data, 'meta')),
    })),
    order: reading((fields, data) => {
      const authorizations = fields.texts('authorizations')
      if (authorizations.length > maxAuthorizations) throw new TypeError('"authorizations" is too long')
      return {
        status: oneOf(fields, 'status', orderStatuses),
        authorizations: authorizations.map((item) => url(item, 'authorizations')),
        finalize: fieldUrl(fields, 'finalize'),
        certificate: optionalUrl(fields, 'certificate'),
        profile: fields.optional('profile', (name) => printable(fields.text(name), 200)),
        error: readProblem(ownMember(data, 'error')),
      }
    }),
    authorization: reading((fields) => {
      const challenges = fields.list('challenges', challenge)
      if (challenges.length > maxChallenges) throw new TypeError('"challenges" is too long')
      return {
        identifier: fields.object('identifier', readIdentifier),
        wildcard: fields.optional('wildcard', (name) => fields.boolean(name)) ?? false,
        status: oneOf(fields, 'status', authorizationStatuses),
        challenges: challenges.flat(),
      }
    }),
    accountStatus: reading((fields) => fields.text('status')),
  }
}

const orderStatuses = ['pending', 'ready', 'processing', 'valid', 'invalid'] as const
const authorizationStatuses = ['pending', 'valid', 'invalid', 'deactivated', 'expired', 'revoked'] as const

function oneOf<Value extends string>(fields: RecordFields, name: string, values: readonly Value[]): Value {
  const text = fields.text(name)
  const value = values.find((known) => known === text)
  if (value === undefined) throw new TypeError(`"${name}" is none of ${values.join(', ')}`)
  return value
}

function readIdentifier(fields: RecordFields): Identifier {
  const identifier = parseIdentifier(fields.text('value'))
  if (identifier.type !== fields.text('type')) throw new TypeError('"identifier" is not of the type it claims')
  return identifier
}

function profileNames(meta: unknown): readonly string[] {
  const profiles = ownMember(meta, 'profiles')
  return typeof profiles === 'object' && profiles !== null ? Object.keys(profiles).slice(0, maxProfiles) : []
}
