/**
 * Log-in with a DC/OS service account.
 *
 * @module
 */
import { createPrivateKey, sign, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import { CertError } from '../../errors.js'
import { assertHttpsUrl } from '../../internal/options.js'
import { parseRetryAfter } from '../../internal/retry-after.js'
import { isToken, tokenHeader, type Authentication, type LoginContext } from './authorization.js'
import { isRecord } from './marathon-app.js'
import { MarathonDeployError } from './marathon-error.js'

/** The secret of a DC/OS service account, as `dcos security secrets create-sa-secret` makes it. */
export interface ServiceAccountCredential {
  readonly uid: string
  /** PEM, RSA. */
  readonly private_key: string
  /** E.g. `https://master.mesos/acs/api/v1/auth/login`. */
  readonly login_endpoint: string
  /** `RS256` if present. */
  readonly scheme?: string | undefined
}

const signAsync = promisify(sign)
/** Of the log-in token: long enough for a clock that is somewhat late, and short for one that is caught. */
const loginTokenSeconds = 60
/** A token is renewed that long before its end. */
const renewBeforeMs = 60_000
const maxAnswerBytes = 65_536

/**
 * Logs in when a token is needed, and keeps it until shortly before its end.
 *
 * @throws `TypeError` when the credential is none. It quotes nothing of it.
 */
export function serviceAccount(
  credential: string | ServiceAccountCredential,
  plainHttp: boolean | 'anywhere',
): Authentication {
  const { uid, key, keyPem, loginUrl } = checkCredential(credential, plainHttp)
  let held: { readonly token: string; readonly renewAt: number } | undefined

  async function logIn({ http, clock, signal, deployer, logger }: LoginContext): Promise<string> {
    const failed = (
      reason: 'unreachable' | 'unauthenticated',
      why: string,
      more: { retryAt?: Date; cause?: unknown },
    ) => new MarathonDeployError({ deployer, reason, message: `log-in of ${uid} at ${loginUrl.href} ${why}`, ...more })
    const assertion = await loginToken(uid, key, Math.floor(clock.now() / 1000) + loginTokenSeconds)
    const response = await http
      .request({
        url: loginUrl.href,
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json' },
        body: JSON.stringify({ uid, token: assertion }),
        signal,
        maxBodyBytes: maxAnswerBytes,
      })
      .catch((cause: unknown) => {
        signal.throwIfAborted()
        throw CertError.isInstance(cause) ? failed('unreachable', 'got no answer', { cause }) : cause
      })
    if (response.status === 401 || response.status === 403) {
      const remedy = 'is the account still there, does it have this key, and is the clock of this machine right?'
      throw failed('unauthenticated', `was refused (${String(response.status)}); ${remedy}`, {})
    }
    const token = response.status === 200 ? tokenOf(response.text()) : undefined
    if (token === undefined) {
      const retryAt = parseRetryAfter(response.headers['retry-after'], clock.now())
      const why = response.status === 200 ? 'was answered without a token' : `was answered ${String(response.status)}`
      throw failed('unreachable', why, retryAt === undefined ? {} : { retryAt })
    }
    held = { token, renewAt: renewalOf(token, clock.now()) }
    logger.debug('logged in to dc/os', { uid })
    return token
  }

  return {
    async header(context) {
      const usable = held !== undefined && context.clock.now() < held.renewAt ? held.token : undefined
      return tokenHeader(usable ?? (await logIn(context)))
    },
    forget(refused) {
      if (tokenHeader(held?.token) === refused) held = undefined
      return true
    },
    secrets: () => [keyPem, ...(held === undefined ? [] : [held.token])],
  }
}

function checkCredential(
  credential: string | ServiceAccountCredential,
  plainHttp: boolean | 'anywhere',
): { readonly uid: string; readonly key: KeyObject; readonly keyPem: string; readonly loginUrl: URL } {
  const option = 'authentication.credential'
  const wrong = (why: string): TypeError => new TypeError(`"${option}" option ${why}`)
  const read = typeof credential === 'string' ? parsed(credential) : credential
  if (!isRecord(read)) throw wrong('must be the JSON of a DC/OS service account secret')
  const { uid, private_key: keyPem, login_endpoint: loginEndpoint, scheme = 'RS256' } = read
  if (typeof uid !== 'string' || !/^[\x21-\x7e]{1,128}$/.test(uid)) throw wrong('must have a "uid"')
  if (scheme !== 'RS256') throw wrong('must have the "scheme" RS256, or none')
  if (typeof keyPem !== 'string') throw wrong('must have a "private_key"')
  let key: KeyObject | undefined
  try {
    key = createPrivateKey(keyPem)
  } catch {
    // told below: OpenSSL may quote what it was given
  }
  if (key?.asymmetricKeyType !== 'rsa') throw wrong('must have an RSA key in PEM as "private_key"')
  return { uid, key, keyPem, loginUrl: assertHttpsUrl(loginEndpoint, `${option}.login_endpoint`, plainHttp) }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

/** A JWT that only says who we are, for a minute. RFC 7519, RFC 7518 section 3.3. */
async function loginToken(uid: string, key: KeyObject, expires: number): Promise<string> {
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url')
  const content = `${encode({ alg: 'RS256', typ: 'JWT' })}.${encode({ uid, exp: expires })}`
  // With a callback the signature is made off the event loop.
  const signature = await signAsync('RSA-SHA256', Buffer.from(content), key)
  return `${content}.${signature.toString('base64url')}`
}

function tokenOf(body: string): string | undefined {
  const answer = parsed(body)
  const token = isRecord(answer) ? answer['token'] : undefined
  return isToken(token) ? token : undefined
}

/** Shortly before the `exp` of the token; without one it is used until it is refused. */
function renewalOf(token: string, now: number): number {
  let claims: unknown
  try {
    claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'))
  } catch {
    // An opaque token.
  }
  const expires = isRecord(claims) && typeof claims['exp'] === 'number' ? claims['exp'] * 1000 : Number.NaN
  if (!Number.isFinite(expires)) return Number.POSITIVE_INFINITY
  return expires - Math.min(renewBeforeMs, Math.max(0, expires - now) / 2)
}
