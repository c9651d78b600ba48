/**
 * Asks the CA when a certificate should be renewed. RFC 9773 section 4.
 *
 * @module
 */
import { readCertificates } from '../../core/certificate-bundle.js'
import { RecordFields } from '../../core/record.js'
import { certificateIdOf, clampRenewalInfoPoll, type RenewalInfo } from '../../core/renewal-info.js'
import { AcmeError, CertError } from '../../errors.js'
import type { AcmeReply, AcmeTransport, RequestContext } from './acme-transport.js'
import { protocolError } from './problem.js'

/** After an answer that is of no use, or that does not say when to ask again. RFC 9773 section 4.3.3. */
const longTermRetryMs = 6 * 3_600_000
/** Beyond what a date can hold, or what any certificate lives. */
const latestInstant = Date.UTC(9999, 0, 1)

/**
 * The CA's suggestion; `undefined` when it makes none for any certificate.
 *
 * @throws `AcmeError` or `HttpError`, retryable, with `retryAt` in six hours unless trying again soon may help
 */
export async function fetchRenewalInfo(
  certificatePem: string,
  transport: AcmeTransport,
  context: RequestContext,
): Promise<RenewalInfo | undefined> {
  const { renewalInfo } = await transport.directory(context)
  const [leaf] = readCertificates(certificatePem)
  const id = leaf === undefined ? undefined : certificateIdOf(leaf)
  if (renewalInfo === undefined || leaf === undefined || id === undefined) return undefined
  const what = `renewal information for ${leaf.subject}`
  const later = new Date(context.clock.now() + longTermRetryMs)
  const url = `${renewalInfo.replace(/\/$/, '')}/${id.value}`
  let reply: AcmeReply
  try {
    reply = await transport.get({ url, what }, context)
  } catch (error) {
    throw isLongTerm(error) ? postponed(error, later) : error
  }
  return readRenewalInfo(reply, what, later, context.clock.now())
}

function readRenewalInfo(reply: AcmeReply, what: string, later: Date, now: number): RenewalInfo {
  const { retryAt } = reply
  try {
    const fields = RecordFields.of(reply.data, 'answer')
    const { windowStart, windowEnd } = fields.object('suggestedWindow', (window) => ({
      windowStart: instant(window, 'start'),
      windowEnd: instant(window, 'end'),
    }))
    if (windowEnd <= windowStart) throw new TypeError('"suggestedWindow" ends before it starts')
    const pollMs = retryAt === undefined ? longTermRetryMs : clampRenewalInfoPoll(retryAt.getTime() - now)
    return {
      windowStart,
      windowEnd,
      retryAt: new Date(now + pollMs),
      explanationUrl: webUrl(reply.data),
    }
  } catch (cause) {
    throw protocolError(what, cause instanceof Error ? cause.message : 'unreadable', { retryAt: later })
  }
}

/** RFC 3339. */
function instant(window: RecordFields, name: string): Date {
  const text = window.text(name)
  const at = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/.test(text)
    ? Date.parse(text.toUpperCase())
    : Number.NaN
  if (!(at >= 0 && at < latestInstant)) throw new TypeError(`"${name}" is not a date`)
  return new Date(at)
}

function webUrl(data: unknown): URL | undefined {
  try {
    const text = RecordFields.of(data, 'answer').text('explanationURL')
    const url = new URL(text)
    return text.length <= 2048 && /^https?:$/.test(url.protocol) ? url : undefined
  } catch {
    return undefined
  }
}

/** What will not be better in a minute. */
function isLongTerm(error: unknown): boolean {
  if (!CertError.isInstance(error) || error.retryAt !== undefined) return false
  if (error.code === 'ERR_ACME_PROTOCOL') return true
  return error.code === 'ERR_ACME_PROBLEM' && (error.problem?.status ?? 0) < 500
}

function postponed(error: unknown, retryAt: Date): AcmeError {
  const { code, message, problem } = error as AcmeError
  return new AcmeError({ code, message, problem, retryable: true, retryAt, cause: error })
}
