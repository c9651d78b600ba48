/**
 * Remembers which name servers were silent, so that a hundred names do not each wait for the same one.
 *
 * @module
 */
import { DnsFailure } from '../internal/dns-client.js'
import type { AskServer } from './dns-delegation.js'

/** Silence that costs less is not worth remembering. */
const costlyMs = 1_000
/** Short: where nobody answers at all, that may be over at any moment. */
const lifetimeMs = 10_000
const mostServers = 1_000

/** Asks, unless the server was silent a moment ago: then it fails at once, as it did then. */
export function skipSilent(ask: AskServer): AskServer {
  const silent = new Map<string, { readonly failure: DnsFailure; readonly at: number }>()

  return async (server, question, context) => {
    const { clock } = context
    const start = clock.now()
    const before = silent.get(server.address)
    const age = start - (before?.at ?? 0)
    // A negative age: the clock was set back.
    if (before !== undefined && age >= 0 && age < lifetimeMs) throw before.failure
    silent.delete(server.address)
    try {
      return await ask(server, question, context)
    } catch (error) {
      const at = clock.now()
      if (error instanceof DnsFailure && error.reason === 'unreachable' && at - start >= costlyMs) {
        silent.set(server.address, { failure: error, at })
        const [oldest = server.address] = silent.keys()
        if (silent.size > mostServers) silent.delete(oldest)
      }
      throw error
    }
  }
}
