/**
 * The labels of apps as HAProxy configuration. marathon-lb's marathon_lb.py and the templates of config.py.
 *
 * Where ours differs: a port in the Host header is ignored, and a redirect names the port of https, because a test cannot
 * have 80 and 443; and HSTS is set as HAProxy 2.1 and later want it.
 */

export interface RoutedApp {
  /** `/group/app` */
  readonly id: string
  readonly labels: Readonly<Record<string, string>>
  /** The `host:port`s of its tasks, by index of the service port: the `n` of `HAPROXY_n_VHOST`. */
  readonly servers: readonly (readonly string[])[]
}

export interface RoutingOptions {
  readonly host: string
  readonly ports: { readonly http: number; readonly https: number; readonly admin: number }
  readonly certificatePaths: readonly string[]
  /** Only apps in one of these groups; `*` is all of them. */
  readonly groups: readonly string[]
  readonly apps: readonly RoutedApp[]
  /** Where the signals go that come in by HTTP. */
  readonly signalPort: number
}

/** Its old instance stops when a reload is over. */
export const httpsFrontend = 'marathon_https_in'

/** One service port of one app that has virtual hosts. */
interface Service {
  readonly backend: string
  readonly aclName: string
  readonly hosts: readonly string[]
  readonly path: string | undefined
  readonly weight: number
  readonly redirectToHttps: boolean
  readonly useHsts: boolean
  readonly servers: readonly string[]
}

export function haproxyConfig({ host, ports, certificatePaths, groups, apps, signalPort }: RoutingOptions): string {
  const services = [...apps]
    .sort((first, second) => (first.id < second.id ? -1 : 1))
    .flatMap((app) => app.servers.flatMap((servers, index) => serviceOf(app, index, servers, groups) ?? []))
  const byWeight = [...services].sort((first, second) => second.weight - first.weight)
  return `
global
  log stdout format raw local0 notice
  maxconn 1000

defaults
  log global
  mode http
  retries 3
  timeout connect 3s
  timeout client 30s
  timeout server 30s

listen stats
  bind ${host}:${String(ports.admin)}
  stats enable
  monitor-uri /_haproxy_health_check
  use_backend signals if { path_beg /_mlb_signal/ }

backend signals
  server marathon_lb 127.0.0.1:${String(signalPort)}

frontend marathon_http_in
  bind ${host}:${String(ports.http)}
${byWeight.map((service) => httpRules(service, ports.https)).join('')}
frontend ${httpsFrontend}
  bind ${host}:${String(ports.https)} ssl ${certificatePaths.map((path) => `crt ${path}`).join(' ')}
${byWeight.map(httpsRules).join('')}
${services.map(backendSection).join('\n')}`
}

function serviceOf(
  { id, labels }: RoutedApp,
  index: number,
  servers: readonly string[],
  groups: readonly string[],
): Service | undefined {
  const label = (name: string): string | undefined => labels[`HAPROXY_${String(index)}_${name}`]
  const vhost = label('VHOST')
  const ownGroups = (label('GROUP') ?? labels['HAPROXY_GROUP'] ?? '').split(',')
  const isOurs = groups.includes('*') || ownGroups.some((group) => groups.includes(group))
  if (vhost === undefined || !isOurs || servers.length === 0 || !isTrue(label('ENABLED') ?? 'true')) return undefined
  const hosts = vhost.toLowerCase().split(',')
  const name = id.slice(1).replaceAll('/', '_')
  const path = label('PATH')
  return {
    backend: `${name}_${String(index)}`,
    aclName: `${hosts[0]!.replace(/[^a-z0-9-]/g, '_')}_${name}`,
    hosts,
    path,
    weight: Number(label('BACKEND_WEIGHT') ?? (path === undefined ? 0 : 1)),
    redirectToHttps: isTrue(label('REDIRECT_TO_HTTPS') ?? ''),
    useHsts: isTrue(label('USE_HSTS') ?? ''),
    servers,
  }
}

function isTrue(text: string): boolean {
  return ['true', 't', 'yes', 'y'].includes(text.toLowerCase())
}

/** HAProxy looks at every redirect before any `use_backend`, wherever they stand. */
function httpRules({ backend, aclName, hosts, path, redirectToHttps }: Service, httpsPort: number): string {
  const condition = `host_${aclName}${path === undefined ? '' : ` path_${backend}`}`
  const target = `https://%[hdr(host),field(1,:)]${httpsPort === 443 ? '' : `:${String(httpsPort)}`}%[pathq]`
  return lines([
    ...pathRule(backend, path),
    ...hosts.map((host) => `acl host_${aclName} hdr(host),field(1,:) -i ${host}`),
    redirectToHttps
      ? `http-request redirect location ${target} code 301 if !{ ssl_fc } ${condition}`
      : `use_backend ${backend} if ${condition}`,
  ])
}

/** By server name, not by Host. */
function httpsRules({ backend, hosts, path }: Service): string {
  const condition = path === undefined ? '' : ` path_${backend}`
  return lines([
    ...pathRule(backend, path),
    ...hosts.map((host) => `use_backend ${backend} if { ssl_fc_sni ${host} }${condition}`),
  ])
}

function pathRule(backend: string, path: string | undefined): string[] {
  return path === undefined ? [] : [`acl path_${backend} path_beg ${path}`]
}

function backendSection({ backend, useHsts, servers }: Service): string {
  return `backend ${backend}\n${lines([
    'balance roundrobin',
    ...(useHsts ? ['http-response set-header Strict-Transport-Security max-age=15768000'] : []),
    'option forwardfor',
    'http-request set-header X-Forwarded-Port %[dst_port]',
    'http-request add-header X-Forwarded-Proto https if { ssl_fc }',
    ...servers.map((address) => `server ${address.replace(/[^a-z0-9-]/gi, '_')} ${address}`),
  ])}`
}

function lines(rules: readonly string[]): string {
  return rules.map((rule) => `  ${rule}\n`).join('')
}
