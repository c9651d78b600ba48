/**
 * One http-01 challenge, seen through one address.
 *
 * @module
 */
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { BlockList, isIP, isIPv6 } from 'node:net'
import { networkInterfaces } from 'node:os'
import { errorCode } from '../internal/atomic-file.js'
import type { Http01Challenge } from './challenge-solver.js'
import type { ResolveAddresses } from './preflight-resolve.js'

/** What was seen. */
export interface HttpSight {
  readonly outcome: 'ready' | 'failed' | 'unreachable'
  readonly detail: string
}

/** Parts of {@link lookAtHttpChallenge}. */
export interface HttpLook {
  readonly challenge: Http01Challenge
  readonly address: string
  readonly httpPort: number
  readonly httpsPort: number
  readonly resolve: ResolveAddresses
  readonly signal: AbortSignal
}

const mostRedirects = 10
const longestPath = 2000
const shownBytes = 64
/** Much more than a key authorization with white space after it. */
const longestBody = 2048

/** One request of the chain. */
interface Hop {
  readonly secure: boolean
  /** As in a URL: IPv6 addresses in brackets. */
  readonly hostname: string
  /** As written; `undefined` is the one that belongs to the scheme. */
  readonly port: number | undefined
  readonly path: string
  /** Where to connect. The second is for machines that have no route to the first. */
  readonly addresses: readonly [first: string, second?: string | undefined]
}

interface Page {
  readonly status: number
  readonly location: string | undefined
  readonly body: Buffer
}

/** Requests the challenge from one address and follows redirects. Rejects only when aborted. */
export async function lookAtHttpChallenge(look: HttpLook): Promise<HttpSight> {
  const { challenge, address, signal } = look
  const { type, value } = challenge.identifier
  const hostname = type === 'ip' && isIPv6(value) ? `[${value}]` : value
  if (linkLocal.check(address, family(address))) return failed('a link-local address, which no CA can reach')
  const start: Hop = { secure: false, hostname, port: undefined, path: challenge.path, addresses: [address] }
  let hop = start
  let via = ''
  for (let redirects = 0; ; redirects += 1) {
    let page: Page
    try {
      page = await fetchHop(hop, look)
    } catch (error) {
      signal.throwIfAborted()
      return connectionFailure(error, hop.addresses.at(-1) ?? address, via)
    }
    if (page.location === undefined || page.status < 300 || page.status > 399) return judge(page, challenge, via)
    if (![301, 302, 307, 308].includes(page.status))
      return failed(`status ${String(page.status)} is a redirect that CAs do not follow`, via)
    if (redirects === mostRedirects) return failed(`more than ${String(mostRedirects)} redirects`, via)
    const next = await follow(hop, page.location, start, look)
    signal.throwIfAborted()
    if ('outcome' in next) return next
    hop = next
    via = ` (redirected to ${hop.secure ? 'https' : 'http'}://${escaped(hop.hostname, 253)})`
  }
}

/** Where a redirect leads, by the rules of the CAs; or why it leads nowhere. */
async function follow(from: Hop, location: string, start: Hop, look: HttpLook): Promise<Hop | HttpSight> {
  const refused = (why: string): HttpSight => failed(`redirect to "${escaped(location, 100)}" is not followed: ${why}`)
  let url: URL
  try {
    const port = from.port === undefined ? '' : `:${String(from.port)}`
    url = new URL(location, `${from.secure ? 'https' : 'http'}://${from.hostname}${port}${from.path}`)
  } catch {
    return refused('it is not a URL')
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return refused('CAs follow http and https only')
  const port = url.port === '' ? undefined : Number(url.port)
  if (port !== undefined && ![80, 443, look.httpPort, look.httpsPort].includes(port)) {
    return refused('CAs follow to ports 80 and 443 only')
  }
  const path = url.pathname + url.search
  if (path.length > longestPath) return refused(`its path is longer than ${String(longestPath)} characters`)
  const hop = { secure: url.protocol === 'https:', hostname: url.hostname, port, path }
  // The same name: the same server is asked, since this is the look through its address.
  if (url.hostname === start.hostname) {
    const [address] = start.addresses
    // Whoever answers for the name has also chosen its addresses: a private one must not be asked for a path of their
    // choice. The usual step to https asks for nothing new.
    if (path !== start.path && notPublic.check(address, family(address))) {
      return refused('it leads to another path at an address that is not a public one')
    }
    return { ...hop, addresses: start.addresses }
  }
  const literal = url.hostname.replace(/^\[(.*)\]$/, '$1')
  let resolved: readonly string[]
  try {
    resolved = isIP(literal) === 0 ? await look.resolve(url.hostname, look.signal) : [literal]
  } catch (error) {
    return refused(`its name could not be looked up (${errorCode(error) ?? 'unknown error'})`)
  }
  if (resolved.some((candidate) => notPublic.check(candidate, family(candidate)))) {
    return refused('its address is not a public one')
  }
  // IPv6 first, as CAs do.
  const [first, second] = ['ipv6', 'ipv4'].flatMap((version) => resolved.find((one) => family(one) === version) ?? [])
  return first === undefined ? refused('its name has no address') : { ...hop, addresses: [first, second] }
}

async function fetchHop(hop: Hop, look: HttpLook): Promise<Page> {
  const [first, second] = hop.addresses
  try {
    return await fetchPage(hop, first, look)
  } catch (error) {
    if (second === undefined || !isOwnLack(error, first)) throw error
    return fetchPage(hop, second, look)
  }
}

/** One GET on a connection of its own to exactly this address. */
function fetchPage(hop: Hop, address: string, look: HttpLook): Promise<Page> {
  const port = hop.port ?? (hop.secure ? look.httpsPort : look.httpPort)
  const shownPort = hop.port === undefined ? '' : `:${String(hop.port)}`
  const common = {
    host: address,
    port,
    path: hop.path,
    method: 'GET',
    agent: false,
    signal: look.signal,
    headers: {
      host: `${hop.hostname}${shownPort}`,
      'user-agent': 'evercert pre-flight',
      accept: '*/*',
      'accept-encoding': 'identity',
      connection: 'close',
    },
  } as const
  return new Promise((resolve, reject) => {
    const onResponse = (response: IncomingMessage): void => {
      const chunks: Buffer[] = []
      let length = 0
      const finish = (): void => {
        resolve({ status: response.statusCode ?? 0, location: response.headers.location, body: Buffer.concat(chunks) })
      }
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk)
        length += chunk.length
        // Longer than any right answer: what is there already is enough to say so.
        if (length <= longestBody) return
        finish()
        request.destroy()
      })
      response.on('end', finish)
      response.on('error', reject)
    }
    const name = hop.hostname.startsWith('[') || isIP(hop.hostname) !== 0 ? undefined : hop.hostname.replace(/\.$/, '')
    const request = hop.secure
      ? // What is behind the redirect may not have its certificate yet: that is what the order is for. RFC 8555 section 8.3
        // allows it; nothing secret is sent, and what comes back is only compared.
        httpsRequest(
          { ...common, rejectUnauthorized: false, ...(name === undefined ? {} : { servername: name }) },
          onResponse,
        )
      : httpRequest(common, onResponse)
    request.on('error', reject)
    request.end()
  })
}

/** The answer at the end of the chain. Pure. */
function judge(page: Page, challenge: Http01Challenge, via: string): HttpSight {
  const { token, keyAuthorization } = challenge
  const text = page.body.toString('latin1')
  if (page.status !== 200) return failed(`status ${String(page.status)}, ${shownBody(text, token)}`, via)
  // Only what comes after it may be white space. Not trimEnd(), which takes away more than CAs do.
  if (text.replace(/[\t\n\v\f\r ]+$/, '') === keyAuthorization) return { outcome: 'ready', detail: `ready${via}` }
  if (text.includes(keyAuthorization)) {
    return failed(
      `the key authorization with something before or after it (a byte order mark?), ${shownBody(text, token)}`,
      via,
    )
  }
  if (text.startsWith(`${token}.`)) {
    return failed(
      'the key authorization of another ACME account, or a part of ours; who else answers for this name?',
      via,
    )
  }
  return failed(`status 200, but ${shownBody(text, token)}`, via)
}

function shownBody(text: string, token: string): string {
  if (text === '') return 'an empty body'
  // The token has no character with a meaning in a pattern.
  const masked = text.replaceAll(new RegExp(`${token}\\.[A-Za-z0-9_-]*`, 'g'), '[key authorization]')
  return `a body that begins with "${escaped(masked, shownBytes)}"`
}

/** At most `length` characters, each of them printable ASCII. What is cut is marked. */
function escaped(text: string, length: number): string {
  const shown = text.slice(0, length).replaceAll(/[^ !#-[\]-~]/g, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
  })
  return text.length > length ? `${shown}...` : shown
}

function connectionFailure(error: unknown, address: string, via: string): HttpSight {
  const code = errorCode(error)
  if (isOwnLack(error, address))
    return { outcome: 'unreachable', detail: `this machine has no route to it${via} (${code ?? ''})` }
  if (code === 'ECONNREFUSED') return failed('the connection was refused (ECONNREFUSED)', via)
  if (code === 'ECONNRESET') return failed('the connection was closed without a complete answer (ECONNRESET)', via)
  if (code?.startsWith('HPE_') === true) return failed(`what came back is not HTTP (${code})`, via)
  return failed(`no answer (${code ?? 'unknown error'})`, via)
}

function failed(detail: string, via = ''): HttpSight {
  return { outcome: 'failed', detail: `${detail}${via}` }
}

/** Says something about this machine (no IPv6, most often), and nothing about the other. */
function isOwnLack(error: unknown, address: string): boolean {
  const code = errorCode(error) ?? ''
  if (code === 'EHOSTUNREACH') return isIPv6(address) && !hasGlobalIPv6()
  return ['ENETUNREACH', 'EADDRNOTAVAIL', 'EAFNOSUPPORT'].includes(code)
}

/** An address of 2000::/3: without one, nothing of the IPv6 Internet can be reached. */
function hasGlobalIPv6(): boolean {
  return Object.values(networkInterfaces()).some((interfaces) =>
    interfaces?.some(({ address }) => /^[23][0-9a-f]{3}:/.test(address)),
  )
}

function family(address: string): 'ipv4' | 'ipv6' {
  return isIPv6(address) ? 'ipv6' : 'ipv4'
}

/** RFC 6890, and what leads to such an address through a gateway (6to4). */
const notPublic = /* @__PURE__ */ blockList(
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16 198.18.0.0/15 224.0.0.0/3',
  '::/127 64:ff9b:1::/48 100::/64 2002::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8',
)

/** Where clouds keep the credentials of a machine. */
const linkLocal = /* @__PURE__ */ blockList('169.254.0.0/16', 'fe80::/10')

/** The IPv4 ranges also match in IPv4-mapped and in NAT64 addresses (RFC 6052). */
function blockList(v4: string, v6: string): BlockList {
  const list = new BlockList()
  for (const range of `${v4} ${v6}`.split(' ')) {
    const [network = '', prefix = ''] = range.split('/')
    list.addSubnet(network, Number(prefix), family(network))
    if (family(network) === 'ipv4') list.addSubnet(`64:ff9b::${network}`, 96 + Number(prefix), 'ipv6')
  }
  return list
}
