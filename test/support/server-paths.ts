/**
 * Where the real servers are. `scripts/test.js` provides them and hands over their paths in EVERCERT_SERVERS.
 */

/** Servers that `scripts/servers.js` knows how to provide. */
export type ServerName =
  | 'pebble'
  | 'pebble-challtestsrv'
  | 'haproxy'
  | 'nginx'
  | 'openssl'
  | 'strace'
  | 'lego'
  | 'etcd'
  | 'kube-apiserver'
  | 'certbot'
  | 'nsd'
  | 'unbound'
  | 'moto_server'
  | 'keepalived'
  | 'testssl'
  | 'cfssl'
  | 'redis-server'
  | 'postgres'
  | 'pgbouncer'

/** What a person does about a missing server. */
export const howToGetServers = '"npm run test:integration" provides it or says how to get it'

/** Path of the executable, `undefined` when it is missing. */
export function serverPath(name: ServerName): string | undefined {
  const paths = JSON.parse(process.env['EVERCERT_SERVERS'] || '{}') as Partial<Record<ServerName, string>>
  return paths[name]
}

/** Path of the executable; throws when it is missing. */
export function requireServer(name: ServerName): string {
  const path = serverPath(name)
  if (path === undefined) throw new Error(`${name} is missing; ${howToGetServers}`)
  return path
}
