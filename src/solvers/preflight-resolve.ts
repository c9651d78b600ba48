/**
 * A and AAAA look-ups for the pre-flight.
 *
 * @module
 */
import { Resolver } from 'node:dns/promises'
import { errorCode } from '../internal/atomic-file.js'

/** Looks up the IP addresses of a name; none is an empty list. Rejects when that could not be found out. */
export type ResolveAddresses = (hostname: string, signal: AbortSignal) => Promise<readonly string[]>

/**
 * Looks names up in DNS. Like a CA it goes on with one family when the look-up of the other failed.
 *
 * @throws `TypeError` when a server is not an IP address with an optional port.
 */
export function dnsResolve(servers: readonly string[] | undefined): ResolveAddresses {
  // A resolver of its own for each look-up: `cancel` ends everything a resolver is doing.
  const open = (): Resolver => {
    const resolver = new Resolver({ timeout: 3_000, tries: 2 })
    if (servers !== undefined) resolver.setServers(servers)
    return resolver
  }
  if (servers !== undefined) {
    try {
      if (servers.length === 0) throw new TypeError('empty')
      open()
    } catch {
      throw new TypeError(
        '"preflight.servers" option must be a non-empty list of IP addresses, each with an optional port',
      )
    }
  }
  return async (hostname, signal) => {
    const resolver = open()
    const cancel = (): void => {
      resolver.cancel()
    }
    signal.addEventListener('abort', cancel, { once: true })
    try {
      const results = await Promise.allSettled([
        resolver.resolve6(hostname).catch(noRecords),
        resolver.resolve4(hostname).catch(noRecords),
      ])
      signal.throwIfAborted()
      const addresses = results.flatMap((result) => (result.status === 'fulfilled' ? result.value : []))
      const failed = results.find((result) => result.status === 'rejected')
      if (addresses.length === 0 && failed !== undefined) throw failed.reason
      return addresses
    } finally {
      signal.removeEventListener('abort', cancel)
    }
  }
}

/** The name, or its records of this type, do not exist: an answer, not a failure. */
function noRecords(error: unknown): string[] {
  if (errorCode(error) === 'ENODATA' || errorCode(error) === 'ENOTFOUND') return []
  throw error
}
