/**
 * Who we are towards Marathon.
 *
 * @module
 */
import { CertError } from '../../errors.js'
import { withDeadline } from '../../internal/deadline.js'
import { assertOneOf, assertOptions, assertText } from '../../internal/options.js'
import { isToken, tokenHeader, type Authentication, type LoginContext } from './authorization.js'
import { MarathonDeployError } from './marathon-error.js'
import { serviceAccount, type ServiceAccountCredential } from './service-account.js'

/**
 * How requests are authenticated.
 *
 * - `basic`: user and password, as Marathon's `--http_credentials` has them.
 * - `token`: a DC/OS token, or a function that provides one; it is asked again when Marathon refuses the last one.
 * - `service-account`: a DC/OS service account: the JSON of its secret (`DCOS_SERVICE_ACCOUNT_CREDENTIAL`), as text or parsed.
 *   Logs in by itself, again before the token ends, and once when Marathon refuses it.
 */
export type MarathonAuthentication =
  | { readonly type: 'basic'; readonly username: string; readonly password: string }
  | {
      readonly type: 'token'
      readonly token: string | ((context: { readonly signal: AbortSignal }) => string | Promise<string>)
    }
  | { readonly type: 'service-account'; readonly credential: string | ServiceAccountCredential }

/** Checks and copies the option. @throws `TypeError` that names the option, and quotes nothing */
export function authenticationOf(
  option: MarathonAuthentication | undefined,
  http: boolean | 'anywhere',
): Authentication {
  if (option === undefined) return { header: async () => undefined, forget: () => false, secrets: () => [] }
  if (typeof option !== 'object' || option === null) throw new TypeError('"authentication" option must be an object')
  assertOneOf(option.type, 'authentication.type', ['basic', 'token', 'service-account'])
  if (option.type === 'service-account') {
    assertOptions(option, ['type', 'credential'], '"authentication" option')
    return serviceAccount(option.credential, http)
  }
  return option.type === 'basic' ? basic(option) : dcosToken(option)
}

function basic(option: MarathonAuthentication & { readonly type: 'basic' }): Authentication {
  assertOptions(option, ['type', 'username', 'password'], '"authentication" option')
  const { username, password } = option
  assertText(username, 'authentication.username', 256)
  assertText(password, 'authentication.password', 1024)
  // RFC 7617 section 2.
  if (username.includes(':')) throw new TypeError('"authentication.username" option must be without a colon')
  const credentials = Buffer.from(`${username}:${password}`).toString('base64')
  return {
    header: async () => `Basic ${credentials}`,
    forget: () => false,
    secrets: () => [credentials, password],
  }
}

function dcosToken(option: MarathonAuthentication & { readonly type: 'token' }): Authentication {
  assertOptions(option, ['type', 'token'], '"authentication" option')
  const { token } = option
  if (typeof token !== 'function' && !isToken(token)) {
    throw new TypeError('"authentication.token" option must be a token, or a function that provides one')
  }
  let held = typeof token === 'function' ? undefined : token
  return {
    async header(context) {
      if (typeof token === 'function') held ??= await provided(token, context)
      return tokenHeader(held)
    },
    forget(refused) {
      if (typeof token !== 'function') return false
      if (tokenHeader(held) === refused) held = undefined
      return true
    },
    secrets: () => (held === undefined ? [] : [held]),
  }
}

/** A provider asks somebody, who may not answer. */
const providerTimeoutMs = 30_000

async function provided(
  token: (context: { readonly signal: AbortSignal }) => string | Promise<string>,
  { clock, signal, deployer }: LoginContext,
): Promise<string> {
  const failed = (why: string, retryAt?: Date): MarathonDeployError =>
    new MarathonDeployError({ deployer, reason: 'unreachable', message: `the token provider ${why}`, retryAt })
  const late = failed(`gave no token within ${String(providerTimeoutMs)} ms`)
  let value: unknown
  try {
    const deadline = { clock, signal, ms: providerTimeoutMs, onTimeout: () => late }
    value = await withDeadline(deadline, async (inner) => token({ signal: inner }))
  } catch (error) {
    signal.throwIfAborted()
    if (error === late) throw late
    // Not as a cause: an HTTP library hangs the request, credentials included, on what it throws.
    throw failed('failed', CertError.isInstance(error) ? error.retryAt : undefined)
  }
  if (!isToken(value)) throw failed('returned something that is no token')
  return value
}
