/**
 * Which request goes wrong, and how.
 */
import { countedRules, type FaultRuleHandle } from './counted-rules.js'

export type { FaultRuleHandle } from './counted-rules.js'

export interface FaultRule<Match extends object> {
  readonly match: Match & {
    /** Only the nth such request since the rule was added, from 1. @defaultValue all of them */
    readonly nth?: number | undefined
  }
  readonly action: FaultAction
}

export type FaultAction =
  /** Answered in the server's place; it never hears of the request. */
  | {
      readonly status: number
      readonly headers?: Readonly<Record<string, string>> | undefined
      readonly body?: string | undefined
    }
  /** Handled that much later; `Infinity` is never. */
  | { readonly delayMs: number }
  /** Handled, with another body in the reply. */
  | { readonly replaceBody: (body: string) => string }
  /** Handled as usual, after this: what somebody else does just before. */
  | { readonly first: () => void | Promise<void> }
  /** The connection is cut before the request is handled. */
  | 'drop-before'
  /** Handled, but the connection is cut instead of the reply. */
  | 'drop-after'
  /** Handled, but the connection is cut in the middle of the reply's body. */
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
  | { readonly name: 'first'; readonly first: () => void | Promise<void> }
  | { readonly name: 'drop-before' | 'drop-after' | 'truncate' }

export interface FaultRules<Match extends object, Request> {
  add(rule: FaultRule<Match>): FaultRuleHandle
  /** Counts the request against every rule and returns the action of the first that applies. */
  actionFor(request: Request): NamedAction | undefined
}

/** No rules yet. `matches` says whether a request is one of those that a rule names. */
export function faultRules<Match extends object, Request>(
  matches: (match: Match, request: Request) => boolean,
): FaultRules<Match, Request> {
  const rules = countedRules<FaultRule<Match>, Request>(matches)
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
  if ('first' in action) return { name: 'first', first: action.first }
  return { name: 'reply', reply: action }
}
