/**
 * pebble-challtestsrv: the DNS that Pebble asks, and a challenge responder that tests can fill.
 */
import { withFreePorts } from './ports.js'
import { spawnServer } from './processes.js'
import { requireServer } from './server-paths.js'

export interface ChallengeTestServerOptions {
  /** Where http-01 is answered. @defaultValue a free port */
  readonly httpPort?: number | undefined
  /** Where tls-alpn-01 is answered. @defaultValue a free port */
  readonly tlsPort?: number | undefined
  /** Where DNS questions are answered. @defaultValue '127.0.0.1' */
  readonly dnsAddress?: string | undefined
}

/** An entry of the request history, as challtestsrv reports it. */
export interface HttpRequestEvent {
  readonly URL: string
  readonly Host: string
  readonly HTTPS: boolean
  readonly ServerName: string
  readonly UserAgent: string
}

export interface DnsRequestEvent {
  readonly Question: { readonly Name: string; readonly Qtype: number; readonly Qclass: number }
  readonly UserAgent: string
}

/**
 * Records are added to those that are there; `clear...` removes all records of a host and type. Names may be given
 * with or without the final dot.
 */
export interface ChallengeTestServer {
  readonly dnsPort: number
  readonly httpPort: number
  /** Answers http-01 over https, for redirect tests. */
  readonly httpsPort: number
  readonly tlsPort: number
  /** The address of every name without an A record of its own; `''` for none. 127.0.0.1 at the start. */
  setDefaultIPv4(address: string): Promise<void>
  /** The address of every name without an AAAA record of its own; `''` for none, as at the start. */
  setDefaultIPv6(address: string): Promise<void>
  addA(host: string, addresses: readonly string[]): Promise<void>
  clearA(host: string): Promise<void>
  addAAAA(host: string, addresses: readonly string[]): Promise<void>
  clearAAAA(host: string): Promise<void>
  /** Adds a value to the TXT record set. */
  setTxt(host: string, value: string): Promise<void>
  clearTxt(host: string): Promise<void>
  addCaa(host: string, policies: readonly { readonly tag: string; readonly value: string }[]): Promise<void>
  clearCaa(host: string): Promise<void>
  setCname(host: string, target: string): Promise<void>
  clearCname(host: string): Promise<void>
  /** All queries for the host fail from now on. */
  setServfail(host: string): Promise<void>
  clearServfail(host: string): Promise<void>
  addHttp01(token: string, content: string): Promise<void>
  removeHttp01(token: string): Promise<void>
  addRedirect(path: string, targetUrl: string): Promise<void>
  removeRedirect(path: string): Promise<void>
  /** `host` without port for http, the name without final dot for dns. */
  requestHistory(type: 'http', host: string): Promise<HttpRequestEvent[]>
  requestHistory(type: 'dns', host: string): Promise<DnsRequestEvent[]>
  clearRequestHistory(type: 'http' | 'dns', host: string): Promise<void>
  output(): string
  stop(): Promise<void>
}

export function startChallengeTestServer(options: ChallengeTestServerOptions = {}): Promise<ChallengeTestServer> {
  return withFreePorts(5, (dnsPort, managementPort, httpsPort, freeHttpPort, freeTlsPort) => {
    const { httpPort = freeHttpPort, tlsPort = freeTlsPort, dnsAddress = '127.0.0.1' } = options
    return start({ dnsPort, managementPort, httpsPort, httpPort, tlsPort }, dnsAddress)
  })
}

interface Ports {
  readonly dnsPort: number
  readonly managementPort: number
  readonly httpsPort: number
  readonly httpPort: number
  readonly tlsPort: number
}

async function start({ managementPort, ...ports }: Ports, dnsAddress: string): Promise<ChallengeTestServer> {
  const { dnsPort, httpsPort, httpPort, tlsPort } = ports
  const on = (port: number): string => `127.0.0.1:${port}`
  const server = await spawnServer({
    command: requireServer('pebble-challtestsrv'),
    args: [
      ...[
        '-dnsserver',
        `${dnsAddress}:${dnsPort}`,
        '-http01',
        on(httpPort),
        '-https01',
        on(httpsPort),
        '-tlsalpn01',
        on(tlsPort),
      ],
      ...['-management', on(managementPort), '-doh', '', '-defaultIPv4', '127.0.0.1', '-defaultIPv6', ''],
    ],
    ready: [
      { port: dnsPort, host: dnsAddress },
      ...[httpPort, httpsPort, tlsPort, managementPort].map((port) => ({ port })),
    ],
  })
  // It goes on without a listener that it could not open.
  if (/address already in use/.test(server.output())) {
    await server.stop()
    throw new Error(server.output())
  }

  const post = async (path: string, body: object): Promise<string> => {
    const response = await fetch(`http://${on(managementPort)}/${path}`, {
      method: 'POST',
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(5_000),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`pebble-challtestsrv ${path}: ${response.status} ${text}`)
    return text
  }
  const command = async (path: string, body: object): Promise<void> => {
    await post(path, body)
  }

  return {
    ...ports,
    setDefaultIPv4: (ip) => command('set-default-ipv4', { ip }),
    setDefaultIPv6: (ip) => command('set-default-ipv6', { ip }),
    addA: (host, addresses) => command('add-a', { host, addresses }),
    clearA: (host) => command('clear-a', { host }),
    addAAAA: (host, addresses) => command('add-aaaa', { host, addresses }),
    clearAAAA: (host) => command('clear-aaaa', { host }),
    setTxt: (host, value) => command('set-txt', { host, value }),
    clearTxt: (host) => command('clear-txt', { host }),
    addCaa: (host, policies) => command('add-caa', { host, policies }),
    clearCaa: (host) => command('clear-caa', { host }),
    setCname: (host, target) => command('set-cname', { host, target }),
    clearCname: (host) => command('clear-cname', { host }),
    setServfail: (host) => command('set-servfail', { host }),
    clearServfail: (host) => command('clear-servfail', { host }),
    addHttp01: (token, content) => command('add-http01', { token, content }),
    removeHttp01: (token) => command('del-http01', { token }),
    addRedirect: (path, targetURL) => command('add-redirect', { path, targetURL }),
    removeRedirect: (path) => command('del-redirect', { path }),
    requestHistory: async (type: 'http' | 'dns', host: string) =>
      JSON.parse(await post(`${type}-request-history`, { host })) as never,
    clearRequestHistory: (type, host) => command('clear-request-history', { host, type }),
    output: server.output,
    stop: server.stop,
  }
}
