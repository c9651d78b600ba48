/**
 * Which request of an ACME client goes wrong, and how.
 */
import { countedRules, type FaultRuleHandle } from './counted-rules.js'
import type { RequestKind } from './journal-proxy.js'

export type { FaultRuleHandle } from './counted-rules.js'

export interface FaultRule {
  readonly match: {
    readonly kind?: RequestKind | undefined
    readonly method?: string | undefined
    /** Only the nth such request since the rule was added, from 1. @defaultValue all of them */
    readonly nth?: number | undefined
  }
  readonly action: FaultAction
}

export type FaultAction =
  /** Answered by the proxy; the server never hears of it. */
  | {
      readonly status: number
      readonly headers?: Readonly<Record<string, string>> | undefined
      readonly body?: string | undefined
    }
  /** Forwarded that much later; `Infinity` is never. */
  | { readonly delayMs: number }
  /** Forwarded, with another body in the reply. */
  | { readonly replaceBody: (body: string) => string }
  /** The connection is cut before the request is forwarded. */
  | 'drop-before'
  /** Forwarded, but the connection is cut instead of the reply. */
  | 'drop-after'
  /** Forwarded, but the connection is cut in the middle of the reply's body. */
  | 'truncate'

/** An action with a name to record. */
export type NamedAction =
  | {
      readonly name: 'reply'
      readonly reply: {
        status: number
        headers?: Readonly<Record<string, string>> | undefined
        body?: string | undefined
      }
    }
  | { readonly name: 'delay'; readonly delayMs: number }
  | { readonly name: 'replace-body'; readonly replaceBody: (body: string) => string }
  | { readonly name: 'drop-before' | 'drop-after' | 'truncate' }

export interface FaultRules {
  add(rule: FaultRule): FaultRuleHandle
  /** Counts the request against every rule and returns the action of the first that applies. */
  actionFor(request: { readonly kind: RequestKind; readonly method: string }): NamedAction | undefined
}

export function faultRules(): FaultRules {
  const rules = countedRules<FaultRule, { readonly kind: RequestKind; readonly method: string }>(
    (match, { kind, method }) => (match.kind ?? kind) === kind && (match.method ?? method) === method,
  )
  return {
    add: rules.add,
    actionFor(request) {
      const rule = rules.ruleFor(request)
      return rule === undefined ? undefined : named(rule.action)
    },
  }
}

function named(action: FaultAction): NamedAction {
  if (typeof action === 'string') return { name: action }
  if ('delayMs' in action) return { name: 'delay', delayMs: action.delayMs }
  if ('replaceBody' in action) return { name: 'replace-body', replaceBody: action.replaceBody }
  return { name: 'reply', reply: action }
}
