/**
 * Checks challenges for real: HTTP requests and DNS look-ups. RFC 8555 sections 8.3 and 8.4, RFC 8738.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { Resolver } from 'node:dns/promises'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP, isIPv6 } from 'node:net'
import type { Identifier } from '../../core/identifier.js'
import type { ResolvedOptions } from './options.js'
import { Problem, unauthorized, type ProblemDocument } from './problem.js'

/** One challenge to check. */
export interface ValidationRequest {
  readonly type: 'http-01' | 'dns-01'
  /** Without `*.`. */
  readonly identifier: Identifier
  readonly token: string
  readonly keyAuthorization: string
}

/** Checks challenges until it is closed. */
export interface Validator {
  /** @returns What is wrong, or `undefined` when control of the name has been shown. Never rejects. */
  validate(request: ValidationRequest): Promise<ProblemDocument | undefined>
}

/** Boulder reads no more of an answer either. */
const longestBody = 128
const mostRedirects = 10
const longestLocation = 2000
const redirectStatuses = [301, 302, 307, 308]
const userAgent = 'evercert-test-ca (validation)'

/** @param closing - ends every validation under way */
export function createValidator(options: ResolvedOptions, closing: AbortSignal): Validator {
  const resolveTxt = options.resolveTxt ?? ((name: string) => lookUpTxt(name, options.dnsServer, closing))

  const validateOnce = async (request: ValidationRequest, turn: number): Promise<void> => {
    // Real time: what hangs here is a real socket, whatever the clock of the certificates says.
    const deadline = new AbortController()
    const timer = setTimeout(() => {
      deadline.abort()
    }, options.validationTimeoutMs)
    const onClosing = (): void => {
      deadline.abort()
    }
    closing.addEventListener('abort', onClosing, { once: true })
    try {
      if (request.type === 'dns-01') await checkTxt(request, resolveTxt)
      else await checkHttp(request, turn, options, deadline.signal)
    } finally {
      clearTimeout(timer)
      closing.removeEventListener('abort', onClosing)
    }
  }

  return {
    async validate(request) {
      const turns = Array.from({ length: options.validations }, (_, turn) => validateOnce(request, turn))
      const results = await Promise.allSettled(turns)
      const failed = results.find((result) => result.status === 'rejected')
      if (failed === undefined) return undefined
      return failed.reason instanceof Problem
        ? failed.reason.document
        : new Problem('serverInternal', 500, String(failed.reason)).document
    },
  }
}

async function checkTxt(
  { identifier, keyAuthorization }: ValidationRequest,
  resolveTxt: (name: string) => Promise<readonly string[]>,
): Promise<void> {
  const name = `_acme-challenge.${identifier.value}`
  let values: readonly string[]
  try {
    values = await resolveTxt(name)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENODATA') {
      const reason = code === 'ENOTFOUND' ? 'NXDOMAIN' : (code ?? String(error))
      throw new Problem('dns', 400, `DNS problem: ${reason} looking up TXT for ${name}`)
    }
    values = []
  }
  const [first] = values
  if (first === undefined) throw unauthorized(`No TXT record found at ${name}`)
  if (values.includes(createHash('sha256').update(keyAuthorization).digest('base64url'))) return
  const more = values.length > 1 ? ` (and ${String(values.length - 1)} more)` : ''
  throw unauthorized(`Incorrect TXT record ${JSON.stringify(first.slice(0, 100))}${more} found at ${name}`)
}

async function lookUpTxt(name: string, server: string, closing: AbortSignal): Promise<string[]> {
  const resolver = new Resolver({ timeout: 2000, tries: 2 })
  resolver.setServers([server])
  const onClosing = (): void => {
    resolver.cancel()
  }
  closing.addEventListener('abort', onClosing, { once: true })
  try {
    return (await resolver.resolveTxt(name)).map((chunks) => chunks.join(''))
  } finally {
    closing.removeEventListener('abort', onClosing)
  }
}

async function checkHttp(
  { identifier, token, keyAuthorization }: ValidationRequest,
  turn: number,
  options: ResolvedOptions,
  signal: AbortSignal,
): Promise<void> {
  const port = options.httpPort === 80 ? '' : `:${String(options.httpPort)}`
  const host = isIPv6(identifier.value) ? `[${identifier.value}]` : identifier.value
  const first = new URL(`http://${host}${port}/.well-known/acme-challenge/${token}`)
  const visited: string[] = []
  for (let target = first; ;) {
    if (visited.length > mostRedirects) throw connection(first, 'Too many redirects')
    if (visited.includes(target.href)) throw connection(first, 'Redirect loop detected')
    visited.push(target.href)
    const answer = await fetchAnswer(target, turn, options, signal, target === first)
    if (redirectStatuses.includes(answer.status) && answer.location !== undefined) {
      target = redirectTarget(answer.location, target)
      continue
    }
    if (answer.status !== 200) {
      throw unauthorized(`${answer.address}: Invalid response from ${target.href}: ${String(answer.status)}`)
    }
    if (answer.body.length > longestBody) {
      const detail = `${answer.address}: Response from ${target.href} is too long for a key authorization`
      throw new Problem('incorrectResponse', 403, detail)
    }
    // RFC 8555 section 8.3: trailing white space is to be ignored.
    if (answer.body.trimEnd() === keyAuthorization) return
    throw unauthorized(
      `${answer.address}: The key authorization file from the server did not match this challenge. ` +
        `Expected ${JSON.stringify(keyAuthorization)} (got ${JSON.stringify(answer.body)})`,
    )
  }
}

function redirectTarget(location: string, base: URL): URL {
  if (location.length > longestLocation) throw connection(base, 'Redirect target too long')
  if (!URL.canParse(location, base.href)) throw connection(base, 'Invalid redirect target')
  const target = new URL(location, base)
  if (target.protocol === 'http:' || target.protocol === 'https:') return target
  throw connection(base, `Invalid protocol scheme in redirect target: ${target.protocol.slice(0, -1)}`)
}

interface Answer {
  readonly address: string
  readonly status: number
  readonly location: string | undefined
  readonly body: string
}

async function fetchAnswer(
  target: URL,
  turn: number,
  options: ResolvedOptions,
  signal: AbortSignal,
  mayFallBack: boolean,
): Promise<Answer> {
  const hostname = target.hostname.replace(/^\[|\]$/g, '')
  const addresses = await resolveAddresses(hostname, target, options)
  const version6 = addresses.filter((address) => isIPv6(address))
  const version4 = addresses.filter((address) => !isIPv6(address))
  const preferred = pick(version6, turn) ?? pick(version4, turn)
  if (preferred === undefined) throw new Problem('dns', 400, `No valid IP addresses found for ${hostname}`)
  try {
    return await requestAnswer(target, preferred, options, signal)
  } catch (error) {
    // Boulder tries IPv4 when, and only when, the very first connection over IPv6 fails.
    const fallback = mayFallBack && isIPv6(preferred) ? pick(version4, turn) : undefined
    if (fallback === undefined || signal.aborted) throw networkProblem(error, target, preferred, signal)
    try {
      return await requestAnswer(target, fallback, options, signal)
    } catch (second) {
      throw networkProblem(second, target, fallback, signal)
    }
  }
}

async function resolveAddresses(hostname: string, target: URL, options: ResolvedOptions): Promise<readonly string[]> {
  try {
    const addresses = await options.resolve(hostname)
    return addresses.filter((address) => isIP(address) !== 0)
  } catch (error) {
    throw new Problem('dns', 400, `DNS problem: ${String(error)} looking up A and AAAA for ${target.hostname}`)
  }
}

function requestAnswer(target: URL, address: string, options: ResolvedOptions, signal: AbortSignal): Promise<Answer> {
  const secure = target.protocol === 'https:'
  const port = target.port !== '' ? Number(target.port) : secure ? options.httpsPort : options.httpPort
  const named = isIP(target.hostname.replace(/^\[|\]$/g, '')) === 0
  return new Promise((resolve, reject) => {
    const request = (secure ? httpsRequest : httpRequest)(
      {
        host: address,
        port,
        path: target.pathname + target.search,
        headers: { host: target.host, 'user-agent': userAgent, accept: '*/*', connection: 'close' },
        agent: false,
        signal,
        // Redirects often lead to a server whose certificate is the one being renewed; CAs do not check it.
        rejectUnauthorized: false,
        ...(named ? { servername: target.hostname } : {}),
      },
      (response) => {
        readStart(response).then((body) => {
          const { statusCode = 0, headers } = response
          request.destroy()
          resolve({ address, status: statusCode, location: headers.location, body })
        }, reject)
      },
    )
    request.on('error', reject)
    request.end()
  })
}

/** One octet more than a key authorization may have, so that what is too long shows. */
async function readStart(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    length += chunk.length
    if (length > longestBody) break
  }
  return Buffer.concat(chunks)
    .subarray(0, longestBody + 1)
    .toString('latin1')
}

function pick(addresses: readonly string[], turn: number): string | undefined {
  return addresses[turn % addresses.length]
}

function networkProblem(error: unknown, target: URL, address: string, signal: AbortSignal): Problem {
  const { code = '', message } = error as NodeJS.ErrnoException
  if (code.startsWith('HPE_')) {
    return new Problem('incorrectResponse', 403, `${address}: Fetching ${target.href}: not HTTP (${message})`)
  }
  if (signal.aborted) return connection(target, 'Timeout during connect (likely firewall problem)', address)
  const reason = { ECONNREFUSED: 'Connection refused', ECONNRESET: 'Connection reset by peer' }[code] ?? message
  return connection(target, reason, address)
}

function connection(target: URL, reason: string, address?: string): Problem {
  return new Problem(
    'connection',
    400,
    `${address === undefined ? '' : `${address}: `}Fetching ${target.href}: ${reason}`,
  )
}
