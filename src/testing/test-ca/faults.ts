/**
 * Makes the CA, or the network before it, misbehave on chosen requests.
 *
 * @module
 */
import type { Random } from '../../core/random.js'
import { checkOptions, positive } from './check-options.js'
import type { RequestKind, RequestRecord } from './journal.js'
import type { Subproblem } from './problem.js'
import type { WrongCertificate } from './wrong-certificates.js'

/** Which requests a fault hits. What is left out matches everything. */
export interface FaultMatch {
  readonly kind?: RequestKind | undefined
  /** E.g. `HEAD`. */
  readonly method?: string | undefined
  /** From which matching request on, counted from 1 since the fault was added. @defaultValue 1 */
  readonly nth?: number | undefined
  /** How many requests it hits; `Infinity` for all that follow. @defaultValue 1 */
  readonly times?: number | undefined
}

/** What happens to a request that is hit. */
export type FaultAction =
  /** A problem document from the CA: the request is authenticated, so its nonce is spent, and then refused. */
  | {
      readonly type: 'problem'
      /** With or without `urn:ietf:params:acme:error:`. */
      readonly problemType: string
      readonly status: number
      readonly detail?: string | undefined
      /** `Retry-After`: seconds, or any text as it is. */
      readonly retryAfter?: string | number | undefined
      readonly subproblems?: readonly Subproblem[] | undefined
      readonly headers?: Readonly<Record<string, string>> | undefined
    }
  /** `badNonce` with a fresh one. */
  | { readonly type: 'bad-nonce' }
  /** An answer from something before the CA, a load balancer say: nothing is processed, there is no `Replay-Nonce`. */
  | {
      readonly type: 'status'
      readonly status: number
      readonly headers?: Readonly<Record<string, string>> | undefined
      /** @defaultValue a line of plain text */
      readonly body?: string | undefined
    }
  /** Milliseconds of real time before the request is looked at. Ends at `close()`. Combines with the other actions. */
  | { readonly type: 'delay'; readonly ms: number }
  /** The connection breaks, the request is not processed. */
  | { readonly type: 'drop-before' }
  /** The request is processed, the reply is lost. */
  | { readonly type: 'drop-after' }
  /** The connection breaks after so many octets of the body. */
  | { readonly type: 'truncate'; readonly bytes: number }
  /** The body trickles, in real time. Ends at `close()`. */
  | { readonly type: 'slow'; readonly bytesPerSecond: number }
  /** Processed, but the body is another; status and other headers stay. */
  | { readonly type: 'replace-body'; readonly body: string; readonly contentType?: string | undefined }
  /** A successful download of kind `certificate` (implied) carries this instead. */
  | { readonly type: 'wrong-certificate'; readonly variant: WrongCertificate }

/** Argument of {@link TestCaFaults.add}. */
export interface Fault {
  readonly match?: FaultMatch | undefined
  readonly action: FaultAction
}

/** A fault that has been added. */
export interface FaultHandle {
  /** How many requests it has hit. */
  readonly fired: number
  /** From now on it hits nothing. */
  remove(): void
}

/** `ca.faults`. */
export interface TestCaFaults {
  /**
   * Adds a fault. When several are due on one request, the earliest added acts and the others wait for the next one;
   * delays act in addition.
   *
   * @throws `TypeError` if the match is malformed.
   */
  add(fault: Fault): FaultHandle
  /** Rejects this percentage of POSTs with `badNonce`, on top of the faults, as Pebble does. 0 turns it off. */
  rejectNonces(percent: number): void
}

/** What the faults have in store for one request. */
export interface DueFaults {
  readonly delays: readonly number[]
  readonly action: Exclude<FaultAction, { readonly type: 'delay' }> | undefined
}

/** The server's side of the faults. */
export interface FaultInjector extends TestCaFaults {
  /** Counts the request and says what happens to it. */
  due(request: RequestRecord): DueFaults
}

/** No faults yet. */
export function createFaultInjector(random: Random): FaultInjector {
  interface Entry {
    readonly fault: Fault
    matched: number
    fired: number
  }
  const entries = new Set<Entry>()
  let rejectedPercent = 0

  const matches = ({ match = {}, action }: Fault, request: RequestRecord): boolean => {
    const kind = match.kind ?? (action.type === 'wrong-certificate' ? 'certificate' : request.kind)
    const method = match.method ?? (action.type === 'bad-nonce' ? 'POST' : request.method)
    return kind === request.kind && method === request.method
  }

  return {
    add(fault) {
      const { nth = 1, times = 1 } = fault.match ?? {}
      checkOptions('faults.add', fault, ['match', 'action'])
      checkOptions('faults.add', fault.match ?? {}, ['kind', 'method', 'nth', 'times'])
      if (!(nth >= 1)) throw new TypeError('"match.nth" option must be a number of at least 1')
      if (!(times >= 1)) throw new TypeError('"match.times" option must be a number of at least 1')
      if (fault.action.type === 'slow') positive('action.bytesPerSecond', fault.action.bytesPerSecond, 1)
      const entry: Entry = { fault, matched: 0, fired: 0 }
      entries.add(entry)
      return {
        get fired() {
          return entry.fired
        },
        remove() {
          entries.delete(entry)
        },
      }
    },
    rejectNonces(percent) {
      if (!(percent >= 0 && percent <= 100)) throw new TypeError('"percent" must be a number from 0 to 100')
      rejectedPercent = percent
    },
    due(request) {
      const delays: number[] = []
      let action: DueFaults['action']
      for (const entry of entries) {
        const { fault } = entry
        if (!matches(fault, request)) continue
        entry.matched += 1
        const { nth = 1, times = 1 } = fault.match ?? {}
        if (entry.matched < nth || entry.fired >= times) continue
        if (fault.action.type === 'delay') delays.push(fault.action.ms)
        else if (action === undefined) action = fault.action
        else continue
        entry.fired += 1
      }
      if (action === undefined && request.method === 'POST' && random() * 100 < rejectedPercent) {
        action = { type: 'bad-nonce' }
      }
      return { delays, action }
    },
  }
}
