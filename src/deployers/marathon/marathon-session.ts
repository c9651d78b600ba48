/**
 * One conversation with Marathon, from the first request to the last.
 *
 * @module
 */
import type { OperationContext } from '../../core/context.js'
import { anySignal } from '../../internal/any-signal.js'
import type { LoginContext } from './authorization.js'
import type { MarathonSettings } from './marathon-options.js'
import { marathonTransport, type MarathonTransport, type Masters } from './marathon-transport.js'

/** What stays the same from one conversation to the next. */
export interface MarathonSession {
  readonly settings: Pick<MarathonSettings, 'authentication' | 'httpClient'>
  readonly masters: Masters
  /** Begins the messages of errors. */
  readonly deployer: string
}

/** What there is during a conversation; `login.signal` ends with it. */
export interface MarathonConversation {
  readonly transport: MarathonTransport
  readonly login: LoginContext
}

/** Runs with connections of its own, which are closed afterwards: the next conversation is weeks away. */
export async function withMarathon<Result>(
  { settings, masters, deployer }: MarathonSession,
  context: OperationContext,
  run: (conversation: MarathonConversation) => Promise<Result>,
): Promise<Result> {
  const { authentication, httpClient } = settings
  const http = httpClient(context.clock)
  const ended = new AbortController()
  const { signal } = anySignal(context.signal, ended.signal)
  const login: LoginContext = { ...context, signal, http, deployer }
  try {
    return await run({ transport: marathonTransport({ masters, authentication, context: login }), login })
  } catch (error) {
    context.signal.throwIfAborted()
    throw error
  } finally {
    ended.abort()
    // Waits for connections that may have been cut a moment ago; the caller need not.
    void http.close().catch(() => undefined)
  }
}
